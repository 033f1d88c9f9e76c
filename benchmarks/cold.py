"""What of a tick is cold caches: `python -m benchmarks.cold [TICKS]`.

Ticks of the AI node of the other benchmarks in this very process, in pairs: one a quarter of a
second after the last, which is as cold as a whole one, and one at once after it, without GPUs,
whose activity takes 0.1 s. Lists medians of the CPU time of the parts that are read each second, as
`python -m benchmarks.tick` names them. Noise touches it less than what a daemon took in a second.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.__main__ import node
from benchmarks.machines import BUSY_NODE
from benchmarks.tick import SPENT, probe_parts
from joulefloor.assembly import build_sampler, build_sources
from joulefloor.clock import SystemClock
from joulefloor.config import load
from joulefloor.host import Host
from joulefloor.log import Log, Severity
from joulefloor.plugins import installed
from stack.peers import write_config

if TYPE_CHECKING:
    from joulefloor.sampler import Sampler

TICKS: Final = 60
WARM_UP: Final = 6
APART_S: Final = 0.25
NEVER_NS: Final = 1 << 62


def sampler_of(folder: Path, running: ExitStack) -> Sampler:
    """What the daemon would tick on that machine."""
    machine = node("AI node", BUSY_NODE, running, folder)
    clock, plugins = SystemClock(), installed()
    log = Log(clock, Severity.ERROR)
    config = load(write_config(folder / "cold.yaml", dict(machine.config)), plugins)
    host = Host(machine.rootfs or Path("/"))
    sources = tuple(source for _, source, _ in build_sources(config, plugins, host, clock))
    return build_sampler(config, sources, clock, log, node="cold")


def tick(sampler: Sampler, *, gpus: bool) -> dict[str, int]:
    """CPU time in ns of one tick in which all is due that is read each second, by part."""
    for runner in sampler.runners:
        is_due = runner.source.period_s <= 1.0 and (gpus or runner.name != "nvml")
        runner.due_ns = 0 if is_due else NEVER_NS
    SPENT.clear()
    before_ns = time.process_time_ns()
    sampler.tick(time.monotonic_ns())
    return {**SPENT, "all of the tick": time.process_time_ns() - before_ns}


def main() -> int:
    """Measure and print."""
    ticks = int(sys.argv[1]) if len(sys.argv) > 1 else TICKS
    cold: defaultdict[str, list[int]] = defaultdict(list)
    warm: defaultdict[str, list[int]] = defaultdict(list)
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        sampler = sampler_of(folder, running)
        running.callback(sampler.stop)
        for _ in range(WARM_UP):
            sampler.tick(time.monotonic_ns())
            time.sleep(APART_S)
        probe_parts()
        for _ in range(ticks):
            time.sleep(APART_S)
            for kind in (cold, warm):
                for part, spent_ns in tick(sampler, gpus=kind is cold).items():
                    kind[part].append(spent_ns)
    print("| part | after 0.25 s, us | at once, us |\n|---|---|---|")
    for part in sorted(cold):
        at_once = f"{median(warm[part]) / 1e3:.0f}" if part in warm else ""
        print(f"| {part} | {median(cold[part]) / 1e3:.0f} | {at_once} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
