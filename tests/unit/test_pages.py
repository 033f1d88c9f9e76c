"""The routes: negotiation, health, the live page as text."""

from __future__ import annotations

import gzip
import html.parser
import json
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulefloor import catalogue
from joulefloor.errors import Reason, StartError
from joulefloor.exposition import OPENMETRICS_TYPE, TEXT_TYPE, Renderer
from joulefloor.http1 import Request, Response
from joulefloor.livepage import draw, duration, energy, watts
from joulefloor.model import EMPTY, Health, Snapshot
from joulefloor.pages import Machine, Pages, accepts_gzip, prefers_openmetrics
from joulefloor.status import read_status
from tests.unit.snapshots import component, snapshot_of

if TYPE_CHECKING:
    from collections.abc import Iterable

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;"
    "escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
SMALL = snapshot_of(component("cpu", "package-0", 100.0))


class StillClock:
    """A minute after start, for ever."""

    def monotonic_ns(self) -> int:
        return 60_000_000_000

    def boottime_ns(self) -> int:
        return 60_000_000_000

    def unix_s(self) -> float:
        return 1e9

    def process_cpu_s(self) -> float:
        return 0.0


def pages(snapshot: Snapshot = SMALL, *, alive: bool = True, path: str = "/metrics") -> Pages:
    return Pages(
        Renderer(lambda: snapshot),
        lambda: snapshot,
        lambda: alive,
        machine=Machine("node-1", "1.2.3", 0),
        clock=StillClock(),
        telemetry_path=path,
    )


def ask(site: Pages, path: str, query: str = "", **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return site.routes()[path](Request("GET", path, query, named))


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (PROMETHEUS_2, True),
        (PROMETHEUS_3, True),
        ("application/openmetrics-text", True),
        ('application/openmetrics-text; version="0.0.1"; charset=utf-8', True),
        ("APPLICATION/OpenMetrics-Text;version=1.0.0", True),
        ("", False),
        ("*/*", False),
        ("text/plain", False),
        (BROWSER, False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;version=2.0.0", False),
        ("application/openmetrics-text;q=0.3,text/plain;version=0.0.4;q=0.9", False),
        ("application/openmetrics-text;q=nonsense", False),
        ("application/openmetrics-text;q=nan", False),
        (";;;,,,=", False),
    ],
)
def test_openmetrics_is_served_to_who_prefers_it(accept: str, expected: bool) -> None:
    assert prefers_openmetrics(accept) is expected
    answer = ask(pages(), "/metrics", accept=accept)
    assert answer.content_type == (OPENMETRICS_TYPE if expected else TEXT_TYPE)
    assert answer.body.endswith(b"# EOF\n") is expected


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *;q=1", False),
    ],
)
def test_gzip_is_served_to_who_accepts_it(accepted: str, expected: bool) -> None:
    assert accepts_gzip(accepted) is expected
    for path in ("/metrics", "/", "/status"):
        plain = ask(pages(), path)
        answer = ask(pages(), path, accept_encoding=accepted)
        assert (("Content-Encoding", "gzip") in answer.headers) is expected
        body = gzip.decompress(answer.body) if expected else answer.body
        assert len(body) == len(plain.body)
        assert "Accept-Encoding" in dict(answer.headers)["Vary"]


@given(st.text(max_size=80))
def test_any_accept_header_is_survived(header: str) -> None:
    assert prefers_openmetrics(header) in {True, False}
    assert accepts_gzip(header) in {True, False}


def test_health_follows_the_ledger_and_readiness_the_first_snapshot() -> None:
    assert ask(pages(), "/healthz").status == 200
    assert ask(pages(alive=False), "/healthz").status == 503
    assert ask(pages(), "/readyz").status == 200
    assert ask(pages(EMPTY), "/readyz").status == 503
    assert ask(pages(EMPTY), "/").status == 200
    assert ask(pages(EMPTY), "/status").status == 200


def test_status_is_json() -> None:
    answer = ask(pages(), "/status")
    assert answer.content_type == "application/json"
    known = json.loads(answer.body)
    assert known["power"]["watts"] == 100.0
    assert known["uptime_seconds"] == 60.0


def test_the_telemetry_path_moves_metrics_and_its_links() -> None:
    site = pages(path="/energy/metrics")
    assert ask(site, "/energy/metrics").content_type == TEXT_TYPE
    assert "/metrics" not in site.routes()
    assert b'href="energy/metrics"' in ask(site, "/").body


def test_metrics_may_take_the_place_of_the_live_page() -> None:
    assert ask(pages(path="/"), "/").content_type == TEXT_TYPE


@pytest.mark.parametrize("path", ["metrics", "", "/status", "/a?b", "/a b", "/m\u00e9"])
def test_a_telemetry_path_that_cannot_be_is_refused_with_the_fix(path: str) -> None:
    with pytest.raises(StartError, match=r"such as /metrics|for example /metrics") as error:
        pages(path=path)
    assert f"--web.telemetry-path={path}" in str(error.value)


def test_a_missing_page_names_those_that_exist() -> None:
    request = Request("GET", "/<script>", "", {})
    answer = pages().missing(request)
    assert answer.status == 404
    assert b'href="/metrics"' in answer.body
    assert b"<script>alert" not in answer.body
    assert b"&lt;script&gt;" in answer.body


class Reader(html.parser.HTMLParser):
    """Collects tags, and checks that they close in order."""

    VOID = ("meta", "link", "br")

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(page.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def test_the_live_page_is_readable_without_its_script() -> None:
    health = [Health("rapl", False, Reason.DENIED, "energy_uj: run as uid 0")]
    answer = ask(pages(snapshot_of(component("cpu", "package-0", 104.2), health)), "/")
    page = Reader(answer.body)
    for words in ("node-1", "104 W", "measured", "package-0", "energy_uj: run as uid 0", "1 min"):
        assert words in page.text
    links = {attrs.get("href") for tag, attrs in page.tags if tag == "a"}
    assert links == {"metrics", "status", "healthz", "readyz"}


def test_the_live_page_loads_nothing_from_anywhere_and_allows_only_its_own_script() -> None:
    answer = ask(pages(), "/")
    policy = dict(answer.headers)["Content-Security-Policy"]
    nonce = re.search(r"script-src 'nonce-([0-9a-f]{32})'", policy)
    assert nonce is not None
    page = Reader(answer.body)
    assert [attrs for tag, attrs in page.tags if tag == "script"] == [{"nonce": nonce[1]}]
    assert [attrs for tag, attrs in page.tags if tag == "style"] == [{"nonce": nonce[1]}]
    for _, attrs in page.tags:
        assert "style" not in attrs
        assert not any(name.startswith("on") for name in attrs)
        assert str(attrs.get("src", "data:")).startswith("data:")
    assert "unsafe" not in policy
    assert ask(pages(), "/").headers != answer.headers


def test_the_part_that_changes_is_served_alone() -> None:
    part = ask(pages(), "/", "live").body
    assert part.startswith(b"<header>")
    assert part in ask(pages(), "/").body


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=6))
def test_whatever_devices_are_called_the_page_stays_well_formed(names: Iterable[str]) -> None:
    evil = ["<b>\"'&", *names]
    series = [
        *component(evil[0], evil[1], 10.0, evil[2]),
        (catalogue.TEMPERATURE, (evil[3], evil[4], evil[5]), 20.0),
    ]
    health = [Health(evil[0], False, Reason.LOST, evil[6]), Health(evil[1], True, channels=1)]
    status = read_status(snapshot_of(series, health), host=evil[2], version=evil[3], uptime_s=1.0)
    drawn = Reader(draw(status, "/metrics").encode())
    known = {tag for tag, _ in Reader(ask(pages(), "/").body).tags}
    assert {tag for tag, _ in drawn.tags} <= known | {"ul", "li", "b", "small", "code", "i"}
    assert evil[0] in "".join(drawn.words)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "\N{EN DASH}"),
        (0.0, "0.00 W"),
        (3.456, "3.46 W"),
        (45.67, "45.7 W"),
        (412.3, "412 W"),
        (9999.0, "9\N{NARROW NO-BREAK SPACE}999 W"),
        (12345.0, "12.3 kW"),
        (-3.0, "\N{MINUS SIGN}3.00 W"),
    ],
)
def test_watts_are_written_to_be_read(value: float | None, written: str) -> None:
    assert watts(value) == written


@pytest.mark.parametrize(
    ("joules", "written"),
    [(None, "\N{EN DASH}"), (12.0, "12 J"), (4_200.0, "4.2 kJ"), (3.6e6, "1.00 kWh")],
)
def test_energy_is_written_to_be_read(joules: float | None, written: str) -> None:
    assert energy(joules) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.4, "0 s"), (75, "1 min 15 s"), (3_700, "1 h 1 min"), (93_784, "1 d 2 h")],
)
def test_durations_are_written_to_be_read(seconds: float, written: str) -> None:
    assert duration(seconds) == written
