"""`python -m benchmarks.cpu_read`: one read of CPU times, ours against psutil's, interleaved."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import psutil

from benchmarks.machines import CPUS, SMALL, composed
from joulefloor.host import Host
from joulefloor.processors import CpuClock

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 7
READS = 300
IMPORTED = """
from pathlib import Path
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1])
import joulefloor.processors
before = resident()
import psutil
print(resident() - before)
"""


def cpu_us(read: Callable[[], object]) -> float:
    """CPU time of one read, over READS of them."""
    started = time.process_time()
    for _ in range(READS):
        read()
    return (time.process_time() - started) / READS * 1e6


def compare(root: Path) -> tuple[float, float]:
    """Medians for us and for psutil, in microseconds, with the same /proc."""
    clock = CpuClock(Host(root))

    def read() -> object:
        return clock.read(None, time.monotonic_ns())

    read()
    # psutil takes one root for the whole process.
    psutil.PROCFS_PATH = str(root / "proc")
    ours, theirs = [], []
    for _ in range(ROUNDS):
        ours.append(cpu_us(read))
        theirs.append(cpu_us(lambda: psutil.cpu_times(percpu=True)))
    clock.close()
    return median(ours), median(theirs)


def imported_mib() -> float:
    """Resident memory that importing psutil adds, beside what our reader has imported anyway."""
    pages = []
    for _ in range(ROUNDS):
        answer = subprocess.run(
            [sys.executable, "-c", IMPORTED], capture_output=True, text=True, check=True
        )
        pages.append(int(answer.stdout))
    return median(pages) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Print the comparison."""
    with composed(SMALL) as root:
        for what, place in ((f"{CPUS} CPUs, composed", root), ("this machine", Path("/"))):
            ours, theirs = compare(place)
            print(f"{what}: ours {ours:.0f} us, psutil {theirs:.0f} us, ratio {theirs / ours:.2f}")
    print(f"importing psutil {psutil.__version__}: {imported_mib():.1f} MiB")


if __name__ == "__main__":
    main()
