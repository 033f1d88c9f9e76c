"""A small HTTP client for loopback servers, for the stack runner and the tests."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = TypeVar("Answer")

# A proxy of the environment must never see a request to 127.0.0.1.
_DIRECT: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
TIMEOUT_S: Final = 10.0


class QueryError(Exception):
    """A server that did not answer, or answered that it failed; the text names both."""


def fetch(url: str, *, data: bytes | None = None, timeout_s: float = TIMEOUT_S) -> bytes:
    """Return the body of a successful GET, or of a POST where there is `data`.

    Raises:
        QueryError: the server is not there, is too slow, or answers with an error status.
    """
    # Left alone, urllib calls every body a form, and VictoriaMetrics would read it as one.
    headers = {} if data is None else {"Content-Type": "text/plain"}
    try:
        request = urllib.request.Request(url, data=data, headers=headers)  # noqa: S310  loopback
        with _DIRECT.open(request, timeout=timeout_s) as answer:
            body: bytes = answer.read()
            return body
    except urllib.error.HTTPError as error:
        with error:
            detail = error.read(500).decode("utf-8", "replace").strip()
        raise QueryError(f"{url} answered {error.code}: {detail}") from error
    except (OSError, ValueError, HTTPException) as error:
        raise QueryError(f"{url} did not answer: {error}") from error


def fetch_json(url: str, *, timeout_s: float = TIMEOUT_S) -> Any:  # noqa: ANN401  JSON is untyped
    """Return the decoded JSON body of a successful GET.

    Raises:
        QueryError: as `fetch`, or the body is not JSON.
    """
    body = fetch(url, timeout_s=timeout_s)
    try:
        return json.loads(body)
    except ValueError as error:
        raise QueryError(f"{url} did not answer with JSON: {body[:200]!r}") from error


def answers(url: str, *, timeout_s: float = 2.0) -> bool:
    """Say whether a GET succeeds, for readiness polls."""
    try:
        fetch(url, timeout_s=timeout_s)
    except QueryError:
        return False
    return True


def eventually(read: Callable[[], Answer], *, within_s: float = TIMEOUT_S) -> Answer:
    """Read until the answer is not empty, and return it; the last empty one when time is up."""
    deadline = time.monotonic() + within_s
    while not (answer := read()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return answer


def instant(base: str, expression: str, *, at_unix_s: float | None = None) -> list[dict[str, Any]]:
    """Evaluate PromQL now or at a moment and return the `result` list of the answer.

    Raises:
        QueryError: the server is away or rejects the expression.
    """
    parameters = {"query": expression}
    if at_unix_s is not None:
        parameters["time"] = repr(at_unix_s)
    return _result(f"{base}/api/v1/query?{urllib.parse.urlencode(parameters)}")


def over_range(
    base: str, expression: str, *, start_unix_s: float, end_unix_s: float, step_s: float
) -> list[dict[str, Any]]:
    """Evaluate PromQL over a range and return the `result` list of the answer.

    Raises:
        QueryError: the server is away or rejects the expression.
    """
    parameters = urllib.parse.urlencode(
        {
            "query": expression,
            "start": repr(start_unix_s),
            "end": repr(end_unix_s),
            "step": repr(step_s),
        }
    )
    return _result(f"{base}/api/v1/query_range?{parameters}")


def _result(url: str) -> list[dict[str, Any]]:
    data = fetch_json(url)["data"]
    result = data["result"]
    # A scalar comes as a bare pair; callers want one shape.
    if data["resultType"] == "scalar":
        return [{"metric": {}, "value": result}]
    return list(result)
