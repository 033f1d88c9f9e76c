"""What watching workloads costs, counted and not timed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.machine import Machine

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import os, sys
from pathlib import Path
from joulefloor.clock import SystemClock
from joulefloor.host import Host
from joulefloor.sources import Site, workloads
sources = workloads.build(Site(Host(Path(sys.argv[1])), SystemClock(), workloads.Settings()))
source = next(source for source in sources if source.name == sys.argv[2])
source.read()
os.write(2, b"begin")
for _ in range(10):
    assert len(source.read().readings) > 2
os.write(2, b"end")
"""
READS = 10


def pods(machine: Machine, count: int) -> None:
    burstable = "sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice"
    for number in range(count):
        uid = f"00000000-0000-4000-8000-{number:012d}"
        pod = f"{burstable}/kubepods-burstable-pod{uid.replace('-', '_')}.slice"
        machine.write(f"{pod}/cpu.stat", f"usage_usec {number}\nuser_usec 0\nsystem_usec 0")
        machine.write(f"{pod}/memory.current", number)
        (machine.root / f"var/log/pods/load_pod-{number}_{uid}").mkdir(parents=True)


def calls(root: Path, source: str, count: int) -> float:
    """System calls of one read with that many more pods."""
    root.mkdir()
    machine = Machine(root, host_file="k8s-v2-systemd")
    pods(machine, count)
    trace = root / "trace"
    subprocess.run(
        ["strace", "-o", trace, sys.executable, "-c", SCRIPT, root, source],
        check=True,
        capture_output=True,
    )
    lines = trace.read_text().splitlines()
    begin, end = (
        next(at for at, line in enumerate(lines) if line.startswith(f'write(2, "{word}"'))
        for word in ("begin", "end")
    )
    return (end - begin - 1) / READS


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
@pytest.mark.parametrize("source", ["workloads", "workloads-memory"])
def test_a_pod_costs_one_system_call_a_read(source: str, tmp_path: Path) -> None:
    few, many = (calls(tmp_path / f"{count}", source, count) for count in (10, 60))
    assert (many - few) / 50 == pytest.approx(1.0, abs=0.05)
    assert few <= 30
