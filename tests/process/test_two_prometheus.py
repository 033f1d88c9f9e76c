"""Two Prometheus on one daemon: both see the same joules at the same tick, neither costs one."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from joulefloor.catalogue import COMPONENT_ENERGY, TICKS
from stack.peers import prometheus_config, start_prometheus
from stack.query import eventually, instant
from tests.patience import PATIENCE_S
from tests.process.conftest import QUICK
from tests.prom.required import require

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.process.conftest import Daemon

ZONE = "sys/devices/virtual/powercap/intel-rapl/intel-rapl:0/energy_uj"
SELECTOR = f'{COMPONENT_ENERGY.name}{{component="cpu",device="package-0"}}'
ENOUGH = 5


def joules_by_tick(url: str) -> dict[float, float]:
    """What one Prometheus stored: tick to joules."""
    ticks, joules = (
        dict(result[0]["values"]) if result else {}
        for result in (instant(url, f"{TICKS.name}[10m]"), instant(url, f"{SELECTOR}[10m]"))
    )
    return {float(ticks[at]): float(value) for at, value in joules.items() if at in ticks}


def test_both_store_the_same_joules_for_the_same_tick(
    start: Callable[..., Daemon], tmp_path: Path
) -> None:
    daemon = start(config=QUICK.replace("tick: 100ms", "tick: 1s"))
    host = daemon.machine.host
    config = prometheus_config({"joulefloor": [daemon.peer.address]}, interval_s=1)
    with ExitStack() as stack:
        urls = [
            stack.enter_context(
                start_prometheus(require("prometheus", major=major), tmp_path / str(major), config)
            ).url
            for major in (2, 3)
        ]

        def seen() -> set[float]:
            daemon.machine.write(ZONE, int(host.text(ZONE)) + 1_000_000)
            first, second = (set(joules_by_tick(url)) for url in urls)
            common = first & second
            return common if len(common) >= ENOUGH else set()

        common = eventually(seen, within_s=PATIENCE_S)
        stored = [joules_by_tick(url) for url in urls]
    assert len(common) >= ENOUGH
    assert {tick: stored[0][tick] for tick in common} == {tick: stored[1][tick] for tick in common}
    burnt = int(host.text(ZONE)) / 1e6
    assert max(stored[0].values()) <= burnt
    assert max(stored[0].values()) > 0
