"""The dashboards as a person sees them: drawn whole, wide and on a phone, without a flaw."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from stack.query import instant
from tests.browser.reports import complaints
from tests.dashboards.board import FOLDER, SCRAPE_S
from tests.dashboards.fleet import DEAD
from tests.dashboards.test_queries import settled
from tests.patience import patiently

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.browser.reports import Report
    from tests.dashboards.conftest import Server

    Draw = Callable[..., list[Report]]

FILES = sorted(FOLDER.glob("*.json"))
PHONE = 420
WIDE = 1600
SHOWN_S = 120
TRIES = 3
"""A flaw is there each time."""


@pytest.fixture(scope="module")
def draw(drawing: Draw, servers: dict[str, Server]) -> Callable[..., list[Report]]:
    """Draws files against a Prometheus in which every expression has an answer."""
    server = servers["prometheus3"]
    settled(server)

    def unbroken() -> bool:
        alive = f'up{{instance!="{DEAD}"}}'
        return not instant(server.url, f"min_over_time({alive}[{SHOWN_S}s]) == 0")

    def drawn(files: list[Path], out: Path, tries: int = TRIES, **how: object) -> list[Report]:
        how |= {"from_": f"now-{SHOWN_S}s", "scrape_interval": f"{SCRAPE_S}s"}
        reports: dict[Path, Report] = {}
        flawed = files
        for _ in range(tries):
            # On a loaded machine scrapes may be late: then there are holes, and others on top.
            patiently(unbroken)
            again = drawing(flawed, server.url, out, **how)
            reports |= {report.source: report for report in again}
            flawed = [report.source for report in again if complaints(report)]
            if not flawed:
                break
        return list(reports.values())

    return drawn


@pytest.fixture(scope="module")
def wide(draw: Draw, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """All dashboards on a wide dark screen, by file name."""
    reports = draw(FILES, tmp_path_factory.mktemp("wide"), width=WIDE)
    return {report.source.stem: report for report in reports}


def test_every_panel_and_variable_is_drawn_without_a_flaw(wide: dict[str, Report]) -> None:
    found = [line for report in wide.values() for line in complaints(report)]

    assert not found, "\n".join(found)
    assert len(wide) == len(FILES)
    assert all(report.png.stat().st_size > 10_000 for report in wide.values())


def test_so_it_is_on_a_phone_in_daylight(draw: Draw, tmp_path: Path) -> None:
    reports = draw(FILES, tmp_path, width=PHONE, theme="light")

    found = [line for report in reports for line in complaints(report)]
    assert not found, "\n".join(found)


def test_no_table_hides_a_column_on_a_wide_screen(wide: dict[str, Report]) -> None:
    hidden = [panel.title for report in wide.values() for panel in report.panels if panel.wide]
    assert hidden == []


def test_the_floor_is_readable(wide: dict[str, Report]) -> None:
    for board, panel in (("node", "Landauer floor, k T ln 2"), ("landauer", "The floor")):
        values = wide[f"joulefloor-{board}"].panel(panel).values

        assert values
        for value in values:
            number, unit = value.split()
            assert unit == "zJ/bit"
            assert 2.5 < float(number) < 4


def test_a_renamed_metric_leaves_a_panel_that_is_named_with_its_query(
    draw: Draw, tmp_path: Path
) -> None:
    text = (FOLDER / "joulefloor-node.json").read_text(encoding="utf-8")
    broken = tmp_path / "joulefloor-node.json"
    broken.write_text(text.replace("joulefloor_temperature_celsius", "joulefloor_warmth_celsius"))

    (report,) = draw([broken], tmp_path / "out", tries=1, width=WIDE)

    found = complaints(report)
    assert any(
        line.startswith("Joulefloor / Node / Temperature: no data from max by")
        and "joulefloor_warmth_celsius" in line
        for line in found
    ), found
