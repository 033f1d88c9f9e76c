"""Graphs of the largest, where everybody leads once: few series, those of the whole time.

Twenty who take more one after the other, one that leaves early with the most and one that joins
late, written into the past of Prometheus 2, 3 and VictoriaMetrics.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from collections import defaultdict
from contextlib import ExitStack
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest

from joulefloor import catalogue
from stack.peers import start_prometheus, start_victoriametrics
from stack.query import fetch, over_range
from tests.dashboards.board import Ask, boards
from tests.patience import PATIENCE_S
from tests.prom.required import NEWEST_FIRST, require

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MANY: Final = 20
STEP_S: Final = 60
MINUTES: Final = 60
AGO_S: Final = 4 * 3600
"""What Prometheus keeps in its newest hours it has in memory; blocks are of the time before."""
LEFT, JOINED = 0, MANY - 1
SPIKE: Final = 1000.0
NODE: Final = 'cluster="c",job="joulefloor",instance="n{0:02}"'
GPU: Final = NODE + ',component="gpu",device="GPU-{0:02}"'
NAMESPACE: Final = 'cluster="c",workload_kind="pod",workload_namespace="n{0:02}",component="cpu"'
OWNER: Final = NODE + (
    ',component="cpu",share="dynamic",workload_namespace="n{0:02}",workload_owner="o"'
)
METER: Final = ',source="nvml",method="measured",level="component"'
WATTS: Final = 300.0
NAMESPACE_WATTS: Final = "namespace:joulefloor_power_watts:sum"


def present(who: int) -> range:
    """The minutes in which it is there."""
    if who == LEFT:
        return range(20)
    return range(40, MINUTES + 1) if who == JOINED else range(MINUTES + 1)


def height(who: int, minute: int) -> float:
    """What it takes: more the later it comes, and most of all once in the hour."""
    base = 2000.0 if who == LEFT else 10.0 * (who + 1)
    return base + SPIKE * (minute * MANY // (MINUTES + 1) == who)


def samples(who: int) -> Iterator[tuple[str, list[tuple[int, float]]]]:
    """Its series, and their values by the minute."""
    minutes = present(who)
    heights = [height(who, minute) for minute in minutes]
    gauges = {
        f"{NAMESPACE_WATTS}{{{NAMESPACE}}}": heights,
        f'{catalogue.FAN_SPEED_RATIO.name}{{{NODE},device="GPU-{{0:02}}",fan="fan1"}}': [
            one / 4000 for one in heights
        ],
        f"{catalogue.DEVICE_INFO.name}{{{GPU}}}": [1.0] * len(heights),
        f'{catalogue.TEMPERATURE_MARGIN.name}{{{GPU},sensor="core"}}': [
            100 - one / 30 for one in heights
        ],
    }
    rates = {
        f"{catalogue.OWNER_ENERGY.name}{{{OWNER}}}": heights,
        f'{catalogue.COMPONENT_ENERGY.name}{{{GPU},source="rsmi",method="measured"}}': [WATTS]
        * len(heights),
        f"{catalogue.ALTERNATE_ENERGY.name}{{{GPU}{METER}}}": [
            WATTS * (1 + one / 1000) for one in heights
        ],
    }
    joules = {name: [one * STEP_S for one in accumulate(watts)] for name, watts in rates.items()}
    for name, values in (gauges | joules).items():
        escaped = name.replace("{0:02}", f"{who:02}")
        yield escaped, list(zip(minutes, values, strict=True))


class Past(NamedTuple):
    """The servers by name, and the hour that they know."""

    urls: Mapping[str, str]
    start_s: int

    def drawn(self, name: str, expr: str) -> list[dict[str, Any]]:
        """The series of a graph of the hour."""
        return over_range(
            self.urls[name],
            expr,
            start_unix_s=self.start_s,
            end_unix_s=self.start_s + MINUTES * 60,
            step_s=STEP_S,
        )

    def stacked(self, name: str, *exprs: str) -> dict[int, float]:
        """The series of several expressions added up, by the time."""
        found = defaultdict[int, float](float)
        for one in (one for expr in exprs for one in self.drawn(name, expr)):
            for at, value in one["values"]:
                found[int(at)] += float(value)
        return found


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Past]:
    """The hour in all three servers."""
    folder = tmp_path_factory.mktemp("past")
    start_s = (int(time.time()) - AGO_S) // 3600 * 3600
    lines = [
        (series, value, start_s + minute * 60)
        for who in range(MANY)
        for series, values in samples(who)
        for minute, value in values
    ]
    text = folder / "past.openmetrics"
    text.write_text("".join(f"{s} {v!r} {at}\n" for s, v, at in lines) + "# EOF\n")
    blocks = folder / "blocks"
    blocks.mkdir()
    promtool = require("promtool", major=3).path
    command = (promtool, "tsdb", "create-blocks-from", "openmetrics", text, blocks)
    subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE_S)
    with ExitStack() as started:
        peers = {}
        for major in (2, 3):
            program = require("prometheus", major=major)
            place = folder / f"prometheus{major}"
            shutil.copytree(blocks, place / "prometheus")
            peers[place.name] = started.enter_context(start_prometheus(program, place, {}))
        metrics = require("victoriametrics", places=NEWEST_FIRST)
        vm = started.enter_context(start_victoriametrics(metrics, folder / "vm"))
        peers["victoriametrics"] = vm
        written = "".join(f"{s} {v!r} {at * 1000}\n" for s, v, at in lines)
        fetch(f"{vm.url}/api/v1/import/prometheus", data=written.encode())
        fetch(f"{vm.url}/internal/force_flush")
        yield Past({name: peer.url for name, peer in peers.items()}, start_s)


def filled(ask: Ask) -> str:
    """The expression for a graph of the hour."""
    return ask.filled(
        __range=f"{MINUTES * 60}s", __rate_interval=f"{4 * STEP_S}s", __interval=f"{STEP_S}s"
    )


def graph(title: str) -> Ask:
    """An expression of a dashboard."""
    (ask,) = (one for board in boards() for one in board.asks() if one.where.endswith(title))
    return ask


def largest(count: int, *, mean: bool) -> set[str]:
    """Who has most of the hour, added up or in the mean of the time that it was there."""
    totals = {
        who: sum(height(who, minute) for minute in present(who))
        / (len(present(who)) if mean else 1)
        for who in range(MANY)
    }
    ranked = sorted(totals, key=lambda who: -totals[who])[:count]
    return {f"n{who:02}" for who in ranked}


each_server = pytest.mark.parametrize("name", ["prometheus2", "prometheus3", "victoriametrics"])


@each_server
@pytest.mark.parametrize(
    ("title", "label", "count", "mean"),
    [
        ("Power by namespace [A]", "workload_namespace", 8, False),
        ("Top owners over time [A]", "workload_namespace", 5, False),
        ("Margin to slow-down [A]", "instance", 10, True),
        ("Fans of accelerators [A]", "instance", 10, True),
        ("Counter against integral [A]", "instance", 10, True),
    ],
)
def test_a_graph_has_the_largest_of_its_time_and_nobody_else(
    past: Past, name: str, title: str, label: str, count: int, *, mean: bool
) -> None:
    shown = {one["metric"][label] for one in past.drawn(name, filled(graph(title)))}

    assert shown == largest(count, mean=mean)
    assert f"n{LEFT:02}" in shown
    assert (f"n{JOINED:02}" in shown) is mean


@each_server
def test_the_largest_and_all_others_are_everybody(past: Past, name: str) -> None:
    largest_and_others = (filled(graph(f"Power by namespace [{one}]")) for one in "AB")

    shown = past.stacked(name, *largest_and_others)

    everybody = past.stacked(name, f"sum({NAMESPACE_WATTS})")
    assert len(everybody) == MINUTES + 1
    assert shown == pytest.approx(everybody)
