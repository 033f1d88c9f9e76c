"""An hour of a 400 W AMD package, scraped each minute: ours is exact, a raw counter is not.

The hour is simulated: the machine's file moves second by second, the real sources and ledger read
it, and the real node_exporter is scraped on the same tree once a simulated minute. Both series go
into a real Prometheus as blocks, which then answers `increase(...[1h])`.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from joulefloor.catalogue import COMPONENT_ENERGY
from stack.peers import prometheus_config, start_prometheus
from stack.processes import LOOPBACK, free_port, launch
from stack.query import fetch, instant
from tests.machine import Machine
from tests.player import Player
from tests.prom.required import require

if TYPE_CHECKING:
    from pathlib import Path

    from stack.programs import Program

ZONE = "sys/devices/virtual/powercap/intel-rapl/intel-rapl:0/energy_uj"
WATTS = 400.0
START_S = 1_780_000_200
"""A whole number of minutes, far from the present."""
MINUTES = 61
"""One more than asked for, so that the window does not begin at a counter's zero."""
OURS = COMPONENT_ENERGY.name
RAW = "node_rapl_package_joules_total"


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[tuple[int, float]]]:
    """Both exporters' samples over a simulated hour: (unix s, joules)."""
    root = tmp_path_factory.mktemp("epyc")
    machine = Machine(root, host_file="amd-epyc")
    player = Player(machine, "rapl")
    program = require("node_exporter")
    port = free_port()
    command: list[str | Path] = [
        program.path,
        f"--web.listen-address={LOOPBACK}:{port}",
        f"--path.sysfs={root / 'sys'}",
        "--collector.disable-defaults",
        "--collector.rapl",
    ]
    samples: dict[str, list[tuple[int, float]]] = {OURS: [], RAW: []}
    logs = tmp_path_factory.mktemp("log")
    with launch("node_exporter", command, port=port, directory=logs) as peer:
        peer.await_ready("/")
        for second in range(MINUTES * 60 + 1):
            if second:
                player.add_energy(ZONE, WATTS)
            player.tick()
            if second % 60 == 0:
                at_s = START_S + second
                own = player.series(COMPONENT_ENERGY)
                samples[OURS].append((at_s, own[("cpu", "package-0", "rapl", "measured")]))
                text = fetch(f"http://{LOOPBACK}:{port}/metrics").decode()
                match = re.search(rf'^{RAW}{{index="0",[^}}]*}} (\S+)$', text, re.MULTILINE)
                assert match is not None, text[-2_000:]
                samples[RAW].append((at_s, float(match[1])))
    player.sampler.stop()
    return samples


def blocks(samples: dict[str, list[tuple[int, float]]], promtool: Path, folder: Path) -> None:
    """Write the samples as Prometheus blocks."""
    lines = []
    for name, points in samples.items():
        lines.append(f"# TYPE {name.removesuffix('_total')} counter")
        lines += [f'{name}{{instance="simulated"}} {value!r} {at_s}' for at_s, value in points]
    text = folder / "samples.txt"
    text.write_text("\n".join([*lines, "# EOF", ""]))
    target = folder / "prometheus"
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", text, target],
        check=True,
        capture_output=True,
    )


def test_an_hour_of_wraps_is_exact_and_node_exporter_loses_a_sixth(
    hour: dict[str, list[tuple[int, float]]], prometheus2: Program, tmp_path: Path
) -> None:
    blocks(hour, require("promtool", major=2).path, tmp_path)
    config = prometheus_config({}) | {"scrape_configs": []}
    end_s = START_S + MINUTES * 60 + 30
    with start_prometheus(prometheus2, tmp_path, config) as peer:
        seen = {
            name: float(instant(peer.url, f"increase({name}[1h])", at_unix_s=end_s)[0]["value"][1])
            for name in (OURS, RAW)
        }
    ours, raw = (seen[name] / (WATTS * 3_600) - 1 for name in (OURS, RAW))
    assert abs(ours) < 0.001, f"joulefloor is {ours:+.3%} off"
    assert -0.25 < raw < -0.12, f"node_exporter is {raw:+.1%} off: the README says about 18 %"
