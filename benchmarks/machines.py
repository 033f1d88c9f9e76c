"""Machines to measure on, laid out on tmpfs: CPU packages with RAPL, sensors, and pods."""

from __future__ import annotations

import os
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from joulefloor.hostfile import Entry, EntryKind, expand

if TYPE_CHECKING:
    from collections.abc import Iterator

TMPFS = Path("/dev/shm")  # noqa: S108  # a folder of our own is made in it
CPUS = 96
PACKAGES = 2
TEMPERATURES_PER_CHIP = 10
FANS_PER_CHIP = 3
SENSORS_PER_CHIP = TEMPERATURES_PER_CHIP + FANS_PER_CHIP
RANGE_MICROJOULES = 262_143_328_850
START_MICROJOULES = 100_000_000_000
STEP_MICROJOULES = 180_000_000
"""180 W per counter."""
RAPL = "sys/devices/virtual/powercap/intel-rapl"
BUSY_TICKS = 100_000_000
STEP_TICKS = 400
TIMES = f"{BUSY_TICKS} 1234 345678 98765432 12345 2345 34567 123 0 0"
PODS = "sys/fs/cgroup/kubepods.slice"
USED_MICROSECONDS = 100_000_000_000
STEP_MICROSECONDS = 10_000


@dataclass(frozen=True, slots=True)
class Size:
    """Sensor chips (ten temperatures and three fans each), pods, and signs of an NVIDIA driver.

    Each pod has two containers; `processes` are those of all pods, most in the second container.
    """

    chips: int
    pods: int = 0
    gpus: bool = False
    processes: int = 0

    @property
    def sensor_files(self) -> int:
        """Files under hwmon that are read: the sensors and the wall meter."""
        return self.chips * SENSORS_PER_CHIP + 1


SMALL = Size(chips=3)
"""40 sensor files."""
BUSY_NODE = Size(chips=3, pods=200, gpus=True)
FULL_NODE = Size(chips=3, pods=250, gpus=True, processes=3_000)


@contextmanager
def composed(size: Size) -> Iterator[Path]:
    """Root of a machine of that size whose energy counters move once a second."""
    stop = threading.Event()
    with laid_out(size) as root:
        mover = threading.Thread(target=_move, args=(root, stop), daemon=True)
        mover.start()
        try:
            yield root
        finally:
            stop.set()
            mover.join()


@contextmanager
def laid_out(size: Size) -> Iterator[Path]:
    """Root of the same machine, on which nothing moves by itself."""
    parent = TMPFS if TMPFS.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="joulefloor-bench-", dir=parent) as name:
        root = Path(name)
        expand(_entries(size), root)
        yield root


def _move(root: Path, stop: threading.Event) -> None:
    """Overwrite counters in place, with as many digits as before: never a half-written file."""
    joules = [os.open(path, os.O_WRONLY) for path in (root / RAPL).rglob("energy_uj")]
    usages = [os.open(path, os.O_WRONLY) for path in (root / PODS).glob("*/cpu.stat")]
    stat = os.open(root / "proc/stat", os.O_WRONLY)
    seconds = 0
    while not stop.wait(1.0):
        seconds += 1
        for file in joules:
            os.pwrite(file, f"{START_MICROJOULES + seconds * STEP_MICROJOULES}".encode(), 0)
        for file in usages:
            used = USED_MICROSECONDS + seconds * STEP_MICROSECONDS
            os.pwrite(file, f"usage_usec {used}".encode(), 0)
        os.pwrite(stat, f"cpu  {BUSY_TICKS + seconds * STEP_TICKS}".encode(), 0)
    for file in (*joules, *usages, stat):
        os.close(file)


def _entries(size: Size) -> Iterator[Entry]:
    yield from _cpus()
    for number in range(PACKAGES):
        yield from _zone(f"intel-rapl:{number}", f"{RAPL}/intel-rapl:{number}", f"package-{number}")
        child = f"intel-rapl:{number}:0"
        yield from _zone(child, f"{RAPL}/intel-rapl:{number}/{child}", "dram")
    yield from _wall_meter()
    for number in range(1, size.chips + 1):
        yield from _chip(number)
    for number in range(2):
        yield from _links(number)
    for number in range(size.pods):
        yield from _pod(number)
        if size.processes:
            yield from _containers(number, size.processes // size.pods)
    if size.gpus:
        yield _file("dev/nvidiactl", "")


def _file(path: str, content: object) -> Entry:
    return Entry(EntryKind.FILE, path, f"{content}\n".encode(), 0o644)


def _link(path: str, target: str) -> Entry:
    up = "../" * path.count("/")
    return Entry(EntryKind.LINK, path, f"{up}{target}".encode())


def _cpus() -> Iterator[Entry]:
    rows = [f"cpu  {TIMES}", *(f"cpu{number} {TIMES}" for number in range(CPUS))]
    rows += ["intr " + "0 " * 2000, "ctxt 1", "btime 1790000000", "processes 1"]
    yield _file("proc/stat", "\n".join(rows))
    yield _file(
        "proc/meminfo", "MemTotal: 196608000 kB\nMemFree: 75000000 kB\nMemAvailable: 150000000 kB"
    )
    yield _file("proc/cpuinfo", "vendor_id\t: GenuineIntel\nmodel name\t: Composed CPU")
    yield _file("proc/sys/kernel/hostname", "composed")
    for number in range(CPUS):
        folder = f"sys/devices/system/cpu/cpu{number}/topology"
        yield _file(f"{folder}/physical_package_id", number * PACKAGES // CPUS)


def _zone(link: str, folder: str, name: str) -> Iterator[Entry]:
    yield _file(f"{folder}/name", name)
    yield _file(f"{folder}/energy_uj", START_MICROJOULES)
    yield _file(f"{folder}/max_energy_range_uj", RANGE_MICROJOULES)
    yield _file(f"{folder}/constraint_0_name", "long_term")
    yield _file(f"{folder}/constraint_0_power_limit_uw", 205_000_000)
    yield _link(f"sys/class/powercap/{link}", folder)


def _wall_meter() -> Iterator[Entry]:
    device = "sys/devices/LNXSYSTM:00/ACPI000D:00"
    yield _file(f"{device}/hwmon/hwmon0/name", "power_meter")
    yield _file(f"{device}/hwmon/hwmon0/power1_average", 640_000_000)
    yield _link(f"{device}/hwmon/hwmon0/device", device)
    yield _link("sys/class/hwmon/hwmon0", f"{device}/hwmon/hwmon0")


def _chip(number: int) -> Iterator[Entry]:
    device = f"sys/devices/platform/board.{number}"
    folder = f"{device}/hwmon/hwmon{number}"
    yield _file(f"{folder}/name", "board")
    for sensor in range(1, TEMPERATURES_PER_CHIP + 1):
        yield _file(f"{folder}/temp{sensor}_input", 30_000 + 500 * sensor)
        yield _file(f"{folder}/temp{sensor}_label", f"Spot {number}-{sensor}")
    for fan in range(1, FANS_PER_CHIP + 1):
        yield _file(f"{folder}/fan{fan}_input", 7_000 + 10 * fan)
    yield _link(f"{folder}/device", device)
    yield _link(f"sys/class/hwmon/hwmon{number}", folder)


def _links(number: int) -> Iterator[Entry]:
    interface = f"sys/class/net/eth{number}"
    yield _file(f"{interface}/ifindex", number + 2)
    yield _file(f"{interface}/device/vendor", "0x15b3")
    yield _file(f"{interface}/statistics/rx_bytes", 123_456_789)
    yield _file(f"{interface}/statistics/tx_bytes", 987_654_321)
    yield _file(f"sys/block/nvme{number}n1/device/model", "composed")
    yield _file(f"sys/block/nvme{number}n1/stat", "1 0 2048 0 1 0 4096 0 0 0 0")


def _uid(number: int) -> str:
    return f"{number:08x}-1111-2222-3333-444455556666"


def _group(number: int) -> str:
    return f"{PODS}/kubepods-pod{_uid(number).replace('-', '_')}.slice"


def _containers(number: int, processes: int) -> Iterator[Entry]:
    """The sandbox of a pod, with one process, and the container that holds all others."""
    first = 1_000 + number * processes
    ids = [str(process) for process in range(first, first + processes)]
    for container, inside in enumerate((ids[:1], ids[1:])):
        folder = f"{_group(number)}/cri-containerd-{number:032x}{container:032x}.scope"
        yield _file(f"{folder}/cgroup.procs", "\n".join(inside))
        yield _file(f"{folder}/cpu.stat", f"usage_usec {USED_MICROSECONDS // 2}")


def _pod(number: int) -> Iterator[Entry]:
    """A pod as systemd and the kubelet lay it out in control groups of version 2."""
    uid, group = _uid(number), _group(number)
    if not number:
        yield _file("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids")
    usage = f"usage_usec {USED_MICROSECONDS}\nuser_usec 0\nsystem_usec 0"
    yield _file(f"{group}/cpu.stat", usage)
    yield _file(f"{group}/memory.current", 150 * 2**20)
    yield _file(f"{group}/cpu.max", "max 100000")
    yield _file(f"{group}/memory.max", "max")
    yield Entry(EntryKind.DIR, f"var/log/pods/team-{number % 8}_worker-{number:03d}_{uid}")
