"""What the rules over single GPUs of another exporter cost: `python -m benchmarks.adapters dcgm`.

One server stands for all exporters: each target shows the first GPU of the exporter's sample in the
tests, eight times. A real Prometheus scrapes them every 15 s, once with the rules of the node level
and once with those of single GPUs beside them; the difference is what the latter cost.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final, NamedTuple

import yaml

from benchmarks.programs import rss_mib
from benchmarks.rules import (
    EVALUATE_S,
    NODE,
    Fleet,
    Line,
    config,
    evaluation,
    first,
    samples,
    value_of,
)
from stack.peers import start_prometheus
from stack.processes import LOOPBACK
from stack.programs import ROOT, locate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stack.processes import Peer
    from stack.programs import Program

ALERTS: Final = ROOT / "alerts"
ADAPTERS: Final = ALERTS / "adapters"
SAMPLES: Final = ROOT / "tests" / "prom" / "expositions" / "adapters"
GPUS: Final = 8
WARM_S: Final = 120
AGE_S: Final = 30_000.0
"""How long the counters of a sample have run."""
CPU: Final = "process_cpu_seconds_total"
COUNTERS: Final = re.compile(r"TOTAL_ENERGY_CONSUMPTION|energy_joules_total|energy_consumed|_NS\b")


class Kind(NamedTuple):
    """An exporter: its sample, the name of the sample's first GPU there, and the machine's."""

    sample: str
    gpu: str
    machine: str


KINDS: Final = {
    "dcgm": Kind("dcgm_46", "GPU-b0000000-0000-4000-8000-000000000000", "new-names"),
    "nvidia_gpu_exporter": Kind(
        "nvidia_gpu_exporter_nvml", "e0000000-0000-4000-8000-000000000000", "nvml"
    ),
    "amd": Kind("amd", "e1ff74a1-0000-1000-80a4-000000000000", "instinct"),
}


class Cost(NamedTuple):
    """Of one run: seconds of CPU and of the rules of single GPUs in 30 s, series, MiB.

    `recorded` are the series of single GPUs.
    """

    cpu_s: float
    devices_s: float
    series: float
    recorded: float
    mib: float


def lines_of(kind: Kind) -> list[Line]:
    """A machine with eight GPUs like the first of the sample."""
    text = (SAMPLES / f"{kind.sample}.txt").read_text(encoding="utf-8")
    found = [(series, value) for series, value in samples(text).items() if kind.gpu in series]
    return [
        Line(
            series.replace(kind.gpu, f"{kind.gpu}-{number}-{NODE}")
            .replace('gpu_id="0"', f'gpu_id="{number}"')
            .replace(f'"{kind.machine}"', f'"{NODE}"'),
            value,
            value / AGE_S if COUNTERS.search(series) else 0.0,
        )
        for number in range(GPUS)
        for series, value in found
    ]


def run(program: Program, fleet: Fleet, nodes: int, rules: Sequence[Path], rounds: int) -> Cost:
    """Let Prometheus evaluate these rules for a while."""
    content = config(f"{LOOPBACK}:{fleet.server_port}", nodes, rules)
    with (
        tempfile.TemporaryDirectory(prefix="joulefloor-") as folder,
        start_prometheus(program, Path(folder), content) as peer,
    ):
        time.sleep(WARM_S)
        before_s = value_of(peer, CPU)
        seconds = []
        for _ in range(rounds):
            time.sleep(EVALUATE_S)
            seconds.append(of_devices(peer))
            print(f"{len(rules)} files: {seconds[-1]:.3f} s", file=sys.stderr)
        cpu_s = (value_of(peer, CPU) - before_s) / rounds
        recorded = first(peer, 'count({job="joulefloor-adapters",__name__!~"node:.+"})')
        series = first(peer, 'count({__name__=~".+"})')
        return Cost(cpu_s, median(seconds), series, recorded, rss_mib(peer))


def of_devices(peer: Peer) -> float:
    """How long the groups of single GPUs take in 30 s, each by the clock."""
    groups = evaluation(peer).groups
    return sum(
        value * EVALUATE_S / INTERVALS_S[name]
        for name, value in groups.items()
        if name in INTERVALS_S
    )


def intervals_s() -> dict[str, int]:
    """The intervals of the groups of single GPUs, in s."""
    groups = [
        group
        for path in ADAPTERS.glob("*_devices.yaml")
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    ]
    return {group["name"]: {"30s": 30, "1m": 60}[group["interval"]] for group in groups}


INTERVALS_S: Final = intervals_s()


def report(name: str, nodes: int, without: Cost, full: Cost) -> str:
    """What each GPU costs more with the rules of single GPUs."""
    gpus = nodes * GPUS
    cpu_us = (full.cpu_s - without.cpu_s) / gpus * 1e6
    kib = (full.mib - without.mib) / gpus * 1024
    return "\n".join(
        (
            f"{name}: {gpus} GPUs on {nodes} nodes, {full.series:.0f} series in Prometheus.",
            f"In 30 s: CPU {without.cpu_s:.2f} and {full.cpu_s:.2f} s, per GPU {cpu_us:.0f} us;",
            f"the groups of single GPUs {full.devices_s:.2f} s by the clock.",
            f"Per GPU {full.recorded / gpus:.1f} recorded series and {kib:.0f} KiB of RSS",
            f"({without.mib:.0f} and {full.mib:.0f} MiB).",
        )
    )


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adapters", description=__doc__)
    parser.add_argument("exporter", choices=KINDS)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--major", type=int, help="line of Prometheus, 2 or 3; the first in PATH")
    options = parser.parse_args()
    program = locate("prometheus", major=options.major)
    if program is None:
        print("prometheus is missing: tests/install.sh brings it", file=sys.stderr)
        return 1
    name = options.exporter
    node = [ALERTS / "recording.yaml", ADAPTERS / "elect.yaml", ADAPTERS / f"{name}.yaml"]
    with ExitStack() as started:
        fleet = started.enter_context(Fleet(lines_of(KINDS[name])))
        threading.Thread(target=fleet.serve_forever, daemon=True).start()
        costs = [
            run(program, fleet, options.nodes, rules, options.rounds)
            for rules in (node, [*node, ADAPTERS / f"{name}_devices.yaml"])
        ]
        print(f"Prometheus {program.version}.")
        print(report(name, options.nodes, *costs))
        fleet.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
