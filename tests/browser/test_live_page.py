"""The live page in a real browser, served by the real server."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING

import pytest

from joulefloor import catalogue
from joulefloor.clock import SystemClock
from joulefloor.errors import Reason
from joulefloor.exposition import Renderer
from joulefloor.log import Log
from joulefloor.model import Health
from joulefloor.pages import Machine, Pages
from joulefloor.server import Server
from tests.browser.chromium import Chromium, find_chromium
from tests.patience import PATIENCE_S
from tests.unit.snapshots import component, snapshot_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from joulefloor.model import Snapshot

LONG = "GPU-8f3c2d1a-77b2-4e1c-9a00-0c2f6a1be0"
DENIED = Health(
    "rapl",
    False,
    Reason.DENIED,
    "/sys/class/powercap/intel-rapl:0/energy_uj: only root may read energy counters: run as uid 0",
)


def machine(cpu_watts: float, gpus: int = 4) -> Snapshot:
    """A machine with long names, idle power, temperatures and every state of a source."""
    series = component("cpu", "package-0", cpu_watts)
    for number in range(gpus):
        series += component("gpu", f"{LONG}{number:02d}", 300.0 + number)
    series += [
        (catalogue.COMPONENT_STATIC_POWER, ("cpu", "package-0"), 30.0),
        (catalogue.COMPONENT_POWER_LIMIT, ("cpu", "package-0", "enforced"), 270.0),
        (catalogue.TEMPERATURE, ("cpu", "package-0", "die"), 61.0),
        (catalogue.TEMPERATURE, ("board", "nct6775-isa-0290", "a" * 60), 40.0),
    ]
    health = [
        DENIED,
        Health("nvml", True, channels=9, read_seconds=0.01, last_success_unix_s=1e9),
        Health("bmc", None, Reason.ABSENT, "x" * 150),
        Health("late", None),
    ]
    return snapshot_of(series, health)


class Site:
    """A daemon's web side with a snapshot that tests replace."""

    def __init__(self) -> None:
        clock = SystemClock()
        self.snapshot = machine(100.0)
        pages = Pages(
            Renderer(lambda: self.snapshot),
            lambda: self.snapshot,
            lambda: True,
            machine=Machine("gpu-node-17.rack4.example", "1.2.3", clock.monotonic_ns()),
            clock=clock,
        )
        self.server = Server(
            ["127.0.0.1:0"],
            pages.routes(),
            clock=clock,
            log=Log(clock, stream=io.StringIO()),
            missing=pages.missing,
        )
        self.url = self.server.urls[0]
        self._thread = threading.Thread(target=self.server.run)
        self._thread.start()

    def stop(self) -> None:
        self.server.stop()
        self._thread.join(PATIENCE_S)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.stop()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    if find_chromium() is None:
        reason = "chromium is not installed: apt-get install chromium"
        if os.environ.get("JOULEFLOOR_REQUIRE_PEERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with Chromium(tmp_path_factory.mktemp("chromium")) as browser:
        yield browser


def test_it_loads_without_errors_and_asks_nobody_else(browser: Chromium, site: Site) -> None:
    browser.resize(1280)
    browser.open(f"{site.url}/")
    browser.wait_for("document.querySelector('.pulse').textContent === 'live'")
    assert browser.evaluate("document.title") == "gpu-node-17.rack4.example · joulefloor"
    assert browser.evaluate("document.querySelector('#watts').textContent") == "1\u202f306"
    assert "run as uid 0" in browser.evaluate("document.querySelector('.notices').innerText")
    browser.wait_for("performance.getEntriesByType('resource').length > 0")
    assert browser.errors() == []
    asked = [url for url in browser.requested() if not url.startswith("data:")]
    assert len(asked) >= 2
    assert all(url.startswith(f"{site.url}/") for url in asked)


@pytest.mark.parametrize("width", [360, 390])
@pytest.mark.parametrize("path", ["/", "/nope"])
def test_a_phone_never_scrolls_sideways(
    browser: Chromium, site: Site, width: int, path: str
) -> None:
    browser.resize(width, 800, phone=True)
    browser.open(f"{site.url}{path}")
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate("window.innerWidth") == width
    clipped = (
        "[...document.querySelectorAll('main *')].filter((element) => {"
        " const box = element.getBoundingClientRect(), style = getComputedStyle(element);"
        " return box.width > 1 && box.right > innerWidth + 1 && !element.closest('thead'); })"
        ".map((element) => element.outerHTML.slice(0, 80))"
    )
    assert browser.evaluate(clipped) == []


def test_values_change_in_place(browser: Chromium, site: Site) -> None:
    browser.resize(1280)
    browser.open(f"{site.url}/")
    browser.evaluate("document.querySelector('#watts').marked = true")
    browser.evaluate("document.querySelector('.components tbody tr').marked = true")
    site.snapshot = machine(180.0, gpus=5)
    browser.wait_for("document.querySelector('#watts').textContent === '1\\u202f690'")
    assert browser.evaluate("document.querySelector('#watts').marked")
    assert browser.evaluate("document.querySelector('.components tbody tr').marked")
    assert browser.evaluate("document.querySelectorAll('.components tbody tr').length") == 6
    site.snapshot = machine(180.0, gpus=0)
    browser.wait_for("document.querySelectorAll('.components tbody tr').length === 1")
    browser.wait_for("!document.querySelector('.trend').hidden")
    assert browser.errors() == []


def test_a_daemon_that_stops_answering_is_said_and_seen(browser: Chromium, site: Site) -> None:
    browser.open(f"{site.url}/")
    site.stop()
    browser.wait_for("document.querySelector('.pulse').textContent.startsWith('not answering')")
    assert browser.evaluate("document.body.classList.contains('stale')")
    assert browser.evaluate("document.querySelector('#watts').textContent") == "1\u202f306"


def test_names_from_hardware_are_text_and_nothing_else(browser: Chromium, site: Site) -> None:
    evil = "<img src=x onerror='document.title=1'>"
    site.snapshot = snapshot_of(
        component(evil, evil, 10.0, evil), [Health(evil, False, Reason.LOST, evil)]
    )
    browser.open(f"{site.url}/")
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert evil in browser.evaluate("document.body.innerText")
    assert browser.errors() == []


def test_it_follows_the_colour_scheme(browser: Chromium, site: Site) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        browser.prefer(scheme)
        browser.open(f"{site.url}/")
        grounds.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(245, 246, 244)", "rgb(16, 21, 19)"]


def contrast(browser: Chromium, selector: str) -> float:
    """Contrast ratio (1 to 21) of an element's text against the ground it stands on."""
    found = browser.evaluate(
        "(() => { const light = (colour) => { const parts = colour.match(/[0-9.]+/g).map(Number)"
        ".slice(0, 3).map((v) => v / 255).map((v) => v <= 0.03928 ? v / 12.92 :"
        " ((v + 0.055) / 1.055) ** 2.4);"
        " return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]; };"
        f" const element = document.querySelector({selector!r}); let ground = element;"
        " while (getComputedStyle(ground).backgroundColor === 'rgba(0, 0, 0, 0)')"
        " ground = ground.parentElement;"
        " const pair = [light(getComputedStyle(element).color),"
        " light(getComputedStyle(ground).backgroundColor)].sort((a, b) => b - a);"
        " return (pair[0] + 0.05) / (pair[1] + 0.05); })()"
    )
    return float(found)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_enough_to_be_read(browser: Chromium, site: Site, scheme: str) -> None:
    browser.prefer(scheme)
    browser.open(f"{site.url}/")
    for selector in (
        *("#watts", ".basis .quiet", ".badge", "footer a", "header .quiet", "thead th"),
        *(".notices li b", ".notices li span", ".sources .absent th", ".tiles small"),
    ):
        assert contrast(browser, selector) >= 4.5, selector


def test_it_is_readable_where_scripts_are_off(browser: Chromium, site: Site) -> None:
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.events.clear()
        browser.send("Page.navigate", url=f"{site.url}/")
        browser.wait_for("document.readyState === 'complete' && document.querySelector('#watts')")
        assert "1\u202f306" in browser.evaluate("document.body.innerText")
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
