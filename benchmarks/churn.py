"""`python -m benchmarks.churn`: what the daemon's memory gains over many ticks while pods churn.

Sources, sampler, ledger and renderer are the real ones; only the clock is turned by hand, so that
a day passes in some minutes. Every tenth tick a pod ends and another takes its place, of one of
twenty Deployments; with `--alone` one in twenty is a pod that nobody owns, which fills the list of
owners. Every fifteenth tick is scraped.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.machines import (
    BUSY_TICKS,
    PODS,
    RAPL,
    START_MICROJOULES,
    Size,
    laid_out,
)
from benchmarks.programs import BYTES_PER_MIB, PAGE_BYTES
from joulefloor.assembly import build_sampler, build_sources
from joulefloor.config import Config, load
from joulefloor.exposition import Renderer
from joulefloor.host import Host
from joulefloor.log import Log, Severity
from joulefloor.plugins import installed
from joulefloor.units import NANOSECONDS_PER_SECOND

if TYPE_CHECKING:
    from pathlib import Path

WARM_UP = 10_000
"""Ticks before the first look: finished pods, owners and freed memory have their usual numbers."""
LIVE = 20
LETTERS = "bcdfghjklmnpqrstvwxz2456789"


class TurnedClock:
    """A clock that moves a second per tick."""

    def __init__(self) -> None:
        """Start now."""
        self.now_ns = time.monotonic_ns()

    def monotonic_ns(self) -> int:
        """Time by hand."""
        return self.now_ns

    def boottime_ns(self) -> int:
        """It never sleeps."""
        return self.now_ns

    def unix_s(self) -> float:
        """Some time of day."""
        return 1_790_000_000 + self.now_ns / NANOSECONDS_PER_SECOND

    def process_cpu_s(self) -> float:
        """What this process used."""
        return time.process_time()


class Cluster:
    """Pods that come and go in the control groups of a composed machine."""

    def __init__(self, root: Path, *, alone: bool) -> None:
        """Twenty pods; `alone`: one in twenty has no owner."""
        self._root = root
        self._alone = alone
        self._random = random.Random(0)  # noqa: S311  # names, not secrets
        self._made = 1_000
        self._live: list[tuple[Path, Path]] = []
        self._energies = sorted((root / RAPL).rglob("energy_uj"))
        for _ in range(LIVE):
            self._start()

    def turn(self, tick: int) -> None:
        """A second of work, and now and then another pod."""
        if tick % 10 == 0:
            for folder in self._live.pop(0):
                shutil.rmtree(folder)
            self._start()
        for file in self._energies:
            _overwrite(file, f"{START_MICROJOULES + tick * 1_000_000}")
        _overwrite(self._root / "proc/stat", f"cpu  {BUSY_TICKS + tick * 10}")
        for number, (group, _) in enumerate(self._live):
            _overwrite(group / "cpu.stat", f"usage_usec {10**11 + tick * (1_000 + number)}")

    def _start(self) -> None:
        number, self._made = self._made, self._made + 1
        uid = f"{number:08x}-1111-2222-3333-444455556666"
        owned = f"app-{number % LIVE}-6d4cf56db6-{self._word()}"
        name = f"by-hand-{number:06d}a" if self._alone and number % LIVE == 0 else owned
        group = self._root / PODS / f"kubepods-pod{uid.replace('-', '_')}.slice"
        log = self._root / "var/log/pods" / f"team-{number % 4}_{name}_{uid}"
        log.mkdir(parents=True)
        group.mkdir()
        usage = "usage_usec 100000000000\nuser_usec 0\nsystem_usec 0\n"
        (group / "cpu.stat").write_text(usage, encoding="ascii")
        (group / "memory.current").write_text(f"{2**28}\n", encoding="ascii")
        self._live.append((group, log))

    def _word(self) -> str:
        return "".join(self._random.choices(LETTERS, k=5))


def _overwrite(file: Path, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY)
    os.write(descriptor, text.encode())
    os.close(descriptor)


def resident_mib() -> float:
    """Resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123  # leaves nothing behind
        return int(file.read().split()[1]) * PAGE_BYTES / BYTES_PER_MIB


def grown(root: Path, ticks: int, *, alone: bool) -> tuple[float, float, int]:
    """Resident memory after the warm-up and after that many more ticks, MiB, and series then."""
    clock, plugins = TurnedClock(), installed()
    config: Config = load(None, plugins)
    host = Host(root)
    cluster = Cluster(root, alone=alone)
    sources = tuple(built.source for built in build_sources(config, plugins, host, clock))
    log = Log(clock, Severity.ERROR)
    sampler = build_sampler(config, sources, clock, log)
    renderer = Renderer(lambda: sampler.snapshot)
    before = 0.0
    for tick in range(1, WARM_UP + ticks + 1):
        cluster.turn(tick)
        clock.now_ns += NANOSECONDS_PER_SECOND
        sampler.tick(clock.now_ns)
        if tick % 15 == 0:
            renderer.body(openmetrics=False, compressed=True)
        if tick == WARM_UP:
            before = resident_mib()
    series = sum(1 for _ in sampler.snapshot.samples())
    after = resident_mib()
    sampler.stop()
    return before, after, series


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ticks", type=int, default=100_000)
    parser.add_argument("--alone", action="store_true")
    choices = parser.parse_args()
    with laid_out(Size(chips=1, pods=1)) as root:
        started_s = time.process_time()
        before, after, series = grown(root, choices.ticks, alone=choices.alone)
        used_s = time.process_time() - started_s
    version = ".".join(map(str, sys.version_info[:3]))
    print(
        f"{choices.ticks} ticks, a pod replaced each tenth: {after - before:+.2f} MiB "
        f"({before:.2f} to {after:.2f} MiB resident), {series} series, "
        f"{used_s:.0f} s of CPU, Python {version}"
    )


if __name__ == "__main__":
    main()
