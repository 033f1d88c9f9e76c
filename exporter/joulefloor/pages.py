"""The daemon's routes: /metrics, /healthz, /readyz, /status and the live page.

None of them does I/O or waits: each reads the newest snapshot.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple, Protocol

from joulefloor.errors import StartError
from joulefloor.exposition import OPENMETRICS_TYPE, TEXT_TYPE, gzipped
from joulefloor.http1 import Response, text
from joulefloor.status import read_status, status
from joulefloor.units import seconds_from_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from joulefloor.clock import Clock
    from joulefloor.http1 import Request, Route
    from joulefloor.model import Snapshot

HTML_TYPE = "text/html; charset=utf-8"
_FRESH = ("Cache-Control", "no-store")
_VARY_METRICS = ("Vary", "Accept, Accept-Encoding")
_VARY = ("Vary", "Accept-Encoding")
_GZIP = ("Content-Encoding", "gzip")
_OWN_PATHS = ("/healthz", "/readyz", "/status")


class Exposition(Protocol):
    """Renders the newest snapshot, once per tick for everybody."""

    def body(self, *, openmetrics: bool, compressed: bool) -> bytes:
        """Bytes of the asked format and encoding."""


class Machine(NamedTuple):
    """What the pages say about where the daemon runs; `started_ns` is monotonic."""

    host: str
    version: str
    started_ns: int


class Pages:
    """Answers every path of the daemon."""

    def __init__(
        self,
        exposition: Exposition,
        snapshot: Callable[[], Snapshot],
        alive: Callable[[], bool],
        *,
        machine: Machine,
        clock: Clock,
        telemetry_path: str = "/metrics",
    ) -> None:
        """`alive`: whether the ledger ticked lately.

        Raises:
            StartError: the telemetry path cannot be used.
        """
        flag = f"--web.telemetry-path={telemetry_path}"
        if not telemetry_path.startswith("/") or not telemetry_path.isascii():
            raise StartError(f"{flag}: write a path that begins with /, such as /metrics")
        if telemetry_path in _OWN_PATHS or any(sign in telemetry_path for sign in "?# %"):
            raise StartError(f"{flag}: this path cannot be had; write for example /metrics")
        self.telemetry_path = telemetry_path
        self._exposition = exposition
        self._snapshot = snapshot
        self._alive = alive
        self._machine = machine
        self._clock = clock

    def routes(self) -> dict[str, Route]:
        """Path to what answers it."""
        return {
            "/": self.live,
            "/healthz": self.health,
            "/readyz": self.ready,
            "/status": self.status,
            self.telemetry_path: self.metrics,
        }

    def metrics(self, request: Request) -> Response:
        """Answer a scrape in the format and encoding it prefers."""
        headers = request.headers
        openmetrics = prefers_openmetrics(headers.get("accept", ""))
        compressed = accepts_gzip(headers.get("accept-encoding", ""))
        body = self._exposition.body(openmetrics=openmetrics, compressed=compressed)
        kind = OPENMETRICS_TYPE if openmetrics else TEXT_TYPE
        return Response(200, kind, body, (_GZIP, _VARY_METRICS) if compressed else (_VARY_METRICS,))

    def health(self, _request: Request) -> Response:
        """Answer whether the ledger ticks; a restart may help if it does not."""
        if self._alive():
            return text(200, "ok", (_FRESH,))
        return text(503, "the ledger has stopped ticking", (_FRESH,))

    def ready(self, _request: Request) -> Response:
        """Answer whether there is anything to scrape."""
        if self._snapshot().seq > 0:
            return text(200, "ok", (_FRESH,))
        return text(503, "no snapshot yet", (_FRESH,))

    def status(self, request: Request) -> Response:
        """Answer what the live page shows, as JSON."""
        from json import dumps  # noqa: PLC0415  # only when asked for: 1.4 MiB

        known = status(
            self._snapshot(),
            host=self._machine.host,
            version=self._machine.version,
            uptime_s=self._uptime_s(),
        )
        body = dumps(known, indent=1, ensure_ascii=False, allow_nan=False)
        return _packed(request, "application/json", body, (_FRESH,))

    def live(self, request: Request) -> Response:
        """Answer the live page, or with ?live only what changes on it."""
        from joulefloor.livepage import draw, whole_page  # noqa: PLC0415  # only when looked at

        known = read_status(
            self._snapshot(),
            host=self._machine.host,
            version=self._machine.version,
            uptime_s=self._uptime_s(),
        )
        drawn = draw(known, self.telemetry_path)
        if request.query == "live":
            return _packed(request, HTML_TYPE, drawn, (_FRESH,))
        page, policy = whole_page(f"{known.host} · joulefloor", drawn)
        headers = (_FRESH, ("Content-Security-Policy", policy), ("Referrer-Policy", "no-referrer"))
        return _packed(request, HTML_TYPE, page, headers)

    def missing(self, request: Request) -> Response:
        """Answer a path that does not exist with the paths that do."""
        from joulefloor.livepage import draw_missing, whole_page  # noqa: PLC0415  # rare

        page, policy = whole_page("404 · joulefloor", draw_missing(request.path, self.routes()))
        return Response(404, HTML_TYPE, page.encode(), (("Content-Security-Policy", policy),))

    def _uptime_s(self) -> float:
        return seconds_from_nanoseconds(self._clock.monotonic_ns() - self._machine.started_ns)


def _packed(
    request: Request, kind: str, body: str, headers: tuple[tuple[str, str], ...]
) -> Response:
    """Compress for who accepts it: these pages travel over phones and port-forwards."""
    if not accepts_gzip(request.headers.get("accept-encoding", "")):
        return Response(200, kind, body.encode(), (*headers, _VARY))
    return Response(200, kind, gzipped((body,)), (*headers, _VARY, _GZIP))


class _Range(NamedTuple):
    """One entry of an Accept header: what, its parameters, and how much it is wanted (0 to 1)."""

    name: str
    parameters: dict[str, str]
    weight: float


@lru_cache(maxsize=64)
def prefers_openmetrics(accept: str) -> bool:
    """Whether an Accept header wants OpenMetrics at least as much as the text format.

    Only an explicit wish counts: `*/*` gets the text format, which every scraper reads.
    """
    openmetrics = plain = 0.0
    for wish in _ranges(accept):
        version = wish.parameters.get("version", "").strip('"')
        if wish.name == "application/openmetrics-text" and version in {"", "1.0.0", "0.0.1"}:
            openmetrics = max(openmetrics, wish.weight)
        elif wish.name == "text/plain" and version in {"", "0.0.4"}:
            plain = max(plain, wish.weight)
    return openmetrics > 0 and openmetrics >= plain


@lru_cache(maxsize=64)
def accepts_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows gzip."""
    weights = {wish.name: wish.weight for wish in _ranges(accept_encoding)}
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _ranges(header: str) -> list[_Range]:
    found = []
    for entry in header.split(","):
        name, *rest = (part.strip() for part in entry.split(";"))
        pairs = (part.partition("=") for part in rest)
        parameters = {key.strip().lower(): value.strip() for key, _, value in pairs}
        try:
            weight = min(1.0, max(0.0, float(parameters.pop("q", "1"))))
        except ValueError:
            weight = 0.0
        if name:
            found.append(_Range(name.lower(), parameters, weight if weight == weight else 0.0))  # noqa: PLR0124  # not for NaN
    return found
