"""The CPUs of a machine: which package each belongs to, how busy they were, what they are.

Shared by the sources that need CPU time, because sources do not import each other.
"""

from __future__ import annotations

import os
from itertools import compress
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from joulefloor.errors import Reason, SourceError
from joulefloor.units import NANOSECONDS_PER_SECOND, Seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from joulefloor.host import Host, KeptFile

CPUS = "sys/devices/system/cpu"
STAT = "proc/stat"
STAT_BYTES = 65_536
"""Lines of some 600 CPUs; what follows them is not needed, and a larger buffer costs time."""
STAT_BYTES_AT_MOST = 1_048_576
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
"""USER_HZ, 100 on every architecture in use, whatever the kernel's own tick is."""
LARGEST_TICKS = 2**64
"""The kernel counts in 64 bits; a larger sum is no reading."""
ALL = b"cpu"
"""The line that adds up all CPUs, those that are offline included."""
BUSY_COLUMNS = (1, 2, 3, 6, 7)
"""User, nice, system, irq and softirq behind the name of a CPU."""
REST_COLUMNS = (4, 5, 8)
"""Idle, iowait and steal."""
SHARED_NS = NANOSECONDS_PER_SECOND // 10
"""What was read for another source of the same tick need not be read again."""
CLOSE_NS = NANOSECONDS_PER_SECOND // 100
"""The same for a source that compares it with what it reads itself."""


class PackageTime(NamedTuple):
    """CPU time of one package: `busy_s` seconds (>= 0), summed over its `cpus` online CPUs."""

    package: int
    cpus: int
    busy_s: Seconds


class WholeTime(NamedTuple):
    """CPU seconds of all CPUs since boot, those that are offline now included: busy, and the rest.

    Time stolen by other guests is not ours; guest time is part of user time.
    """

    busy_s: Seconds
    rest_s: Seconds


class CpuTime(NamedTuple):
    """CPU time of the machine by package, in package order; `epoch` grows when CPUs come or go.

    Sums of different epochs are sums over different CPUs and must not be compared. `whole` is None
    where the kernel does not tell of all CPUs together.
    """

    packages: tuple[PackageTime, ...]
    epoch: int
    at_ns: int
    whole: WholeTime | None = None


class _Table(NamedTuple):
    """What stays in proc/stat while no CPU comes or goes.

    `names` is the first of the `width` words of each line, `packages` tells of each package which
    of these lines are its CPUs (0 or 1), with their number.
    """

    names: list[bytes]
    width: int
    packages: tuple[tuple[int, int, bytes], ...]


class CpuClock:
    """Reads CPU time again and again; looks at the topology only when the set of CPUs changes.

    One serves all sources of a machine: what was just read for one of them serves the others too.

    Reads: proc/stat (`cpu` lines: user, nice, system, idle, iowait, irq, softirq, steal, in
    ticks; see `man 5 proc`), sys/devices/system/cpu/cpu*/topology/physical_package_id.
    """

    def __init__(self, host: Host) -> None:
        """Nothing is opened before the first read."""
        self._host = host
        self._stat: KeptFile = host.keep(STAT, STAT_BYTES)
        self._table = _Table([b""], 1, ())
        self._time = CpuTime((), 0, 0)
        self._served: set[object] = set()
        self._in_use = Lock()

    def read(self, source: object, now_ns: int, within_ns: int = SHARED_NS) -> CpuTime:
        """CPU time since boot, as of `now_ns` or `within_ns` before, but none that `source` had.

        Busy is user, nice, system, irq and softirq. Guest time is inside user already; steal is
        the time of somebody else's work.

        Raises:
            SourceError: no such file, or GARBLED when a line is not as documented.
        """
        with self._in_use:
            if source in self._served or not 0 <= now_ns - self._time.at_ns < within_ns:
                self._served.clear()
                self._time = self._read(now_ns)
            self._served.add(source)
            return self._time

    def close(self) -> None:
        """Let go of the descriptor."""
        with self._in_use:
            self._stat.close()

    def _read(self, now_ns: int) -> CpuTime:
        lines, epoch = self._lines(), self._time.epoch
        words = lines.split()
        if words[:: self._table.width] != self._table.names:
            self._table = self._look(lines)
            epoch += 1
        names, width, packages = self._table
        try:
            columns = [list(map(int, words[column::width])) for column in BUSY_COLUMNS]
            rest = sum(int(words[column]) for column in REST_COLUMNS)
        except ValueError:
            columns, rest = [], 0
        busy = list(map(sum, zip(*columns, strict=True)))
        ticks = (rest, *busy)
        if len(busy) != len(names) or not 0 <= min(ticks) <= max(ticks) < LARGEST_TICKS:
            raise _not_times(lines)
        of_all = names[0] == ALL
        whole = WholeTime(_seconds(busy[0]), _seconds(rest)) if of_all else None
        times = [
            PackageTime(package, cpus, _seconds(sum(compress(busy, chosen))))
            for package, cpus, chosen in packages
        ]
        return CpuTime(tuple(times), epoch, now_ns, whole)

    def _look(self, lines: bytes) -> _Table:
        """Check every line, and find the package of each CPU."""
        rows = list(_rows(lines))
        names, widths = [row[0] for row in rows], {len(row) for row in rows}
        if names in ([], [ALL]) or len(widths) > 1:
            raise _not_times(lines)
        known = packages_of_cpus(self._host)
        seats = [None if name == ALL else known.get(name, 0) for name in names]
        return _Table(names, widths.pop(), tuple(_packages(seats)))

    def _lines(self) -> bytes:
        """The lines of the CPUs, which come first; all of them, however many."""
        lines, rest, _ = (text := self._stat.read()).partition(b"\nintr ")
        if not rest and len(text) == STAT_BYTES:
            self._stat.close()
            self._stat = self._host.keep(STAT, STAT_BYTES_AT_MOST)
            lines = self._stat.read().partition(b"\nintr ")[0]
        end = lines.find(b"\n", lines.rfind(b"\ncpu") + 1)
        return lines if end < 0 else lines[:end]


def _seconds(ticks: int) -> Seconds:
    return Seconds(ticks / TICKS_PER_SECOND)


def _rows(lines: bytes) -> Iterator[list[bytes]]:
    """Words of the lines about CPUs; the first one is about all of them."""
    for line in lines.split(b"\n"):
        row = line.split()
        if not line.startswith(b"cpu") or len(row) <= max(BUSY_COLUMNS) + 1:
            raise _not_times(line)
        yield row


def _packages(seats: Sequence[int | None]) -> Iterator[tuple[int, int, bytes]]:
    """Packages in order, with how many lines are theirs and which."""
    for package in sorted({seat for seat in seats if seat is not None}):
        chosen = bytes(seat == package for seat in seats)
        yield package, sum(chosen), chosen


def _not_times(text: bytes) -> SourceError:
    return SourceError(Reason.GARBLED, f"{STAT}: not the times of CPUs: {text[:60]!r}")


def packages_of_cpus(host: Host) -> dict[bytes, int]:
    """Package number of each CPU, by its name ("cpu12").

    Without topology (a file that is missing, unreadable or says -1) a CPU is in package 0.
    """
    try:
        names = host.names(CPUS)
    except SourceError:
        return {}
    return {
        name.encode(): package_of_cpu(host, name)
        for name in names
        if name.startswith("cpu") and name[3:].isdigit()
    }


def package_of_cpu(host: Host, name: str) -> int:
    """Package number of a CPU ("cpu12"), 0 if the machine does not say."""
    try:
        return max(0, host.integer(f"{CPUS}/{name}/topology/physical_package_id"))
    except SourceError:
        return 0


class CpuKind(NamedTuple):
    """What the CPUs are; empty texts and -1 where the kernel does not say.

    `vendor` is the x86 vendor_id or the name of the Arm implementer; `family`, `model` and
    `stepping` are those of x86, and for Arm 0, the part number and 0.
    """

    vendor: str
    name: str
    family: int = -1
    model: int = -1
    stepping: int = -1


_IMPLEMENTERS = {
    0x41: "ARM",
    0x42: "Broadcom",
    0x43: "Cavium",
    0x46: "Fujitsu",
    0x48: "HiSilicon",
    0x4E: "NVIDIA",
    0x51: "Qualcomm",
    0x61: "Apple",
    0x6D: "Microsoft",
    0xC0: "Ampere",
}
_ARM_PARTS = {
    0xD0C: "Neoverse-N1",
    0xD40: "Neoverse-V1",
    0xD49: "Neoverse-N2",
    0xD4F: "Neoverse-V2",
    0xD84: "Neoverse-V3",
    0xD8E: "Neoverse-N3",
}


def kind_of_cpus(host: Host) -> CpuKind:
    """What the first CPU is; the packages of one machine hold the same model.

    Reads: proc/cpuinfo, the first block (later blocks would need several reads).
    """
    text = host.text_or("proc/cpuinfo", "")
    fields: dict[str, str] = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    implementer = _number(fields.get("CPU implementer", ""))
    if implementer >= 0:
        part = _number(fields.get("CPU part", ""))
        vendor = _IMPLEMENTERS.get(implementer, f"0x{implementer:02x}")
        name = _ARM_PARTS.get(part, f"part 0x{part:03x}" if part >= 0 else "")
        return CpuKind(vendor, fields.get("model name", name), 0, part, 0)
    return CpuKind(
        fields.get("vendor_id", ""),
        fields.get("model name", ""),
        _number(fields.get("cpu family", "")),
        _number(fields.get("model", "")),
        _number(fields.get("stepping", "")),
    )


def _number(text: str) -> int:
    """A short decimal or 0x number of cpuinfo, -1 if it is none."""
    try:
        return int(text[:12], 0)
    except ValueError:
        return -1
