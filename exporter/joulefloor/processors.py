"""The CPUs of a machine: which package each belongs to, how busy they were, what they are.

Shared by the sources that need CPU time, because sources do not import each other.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from joulefloor.errors import Reason, SourceError
from joulefloor.units import Seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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


class PackageTime(NamedTuple):
    """CPU time of one package: `busy_s` seconds (>= 0), summed over its `cpus` online CPUs."""

    package: int
    cpus: int
    busy_s: Seconds


class CpuTime(NamedTuple):
    """CPU time of the machine by package, in package order; `epoch` grows when CPUs come or go.

    Sums of different epochs are sums over different CPUs and must not be compared.
    """

    packages: tuple[PackageTime, ...]
    epoch: int


class CpuClock:
    """Reads CPU time again and again; looks at the topology only when the set of CPUs changes.

    Reads: proc/stat (`cpu` lines: user, nice, system, idle, iowait, irq, softirq, steal, in
    ticks; see `man 5 proc`), sys/devices/system/cpu/cpu*/topology/physical_package_id.
    """

    __slots__ = ("_epoch", "_host", "_packages", "_stat")

    def __init__(self, host: Host) -> None:
        """Nothing is opened before the first read."""
        self._host = host
        self._stat: KeptFile = host.keep(STAT, STAT_BYTES)
        self._packages: Mapping[bytes, int] = {}
        self._epoch = 0

    def read(self) -> CpuTime:
        """CPU time since boot.

        Busy is user, nice, system, irq and softirq. Guest time is inside user already; steal is
        the time of somebody else's work.

        Raises:
            SourceError: no such file, or GARBLED when a line is not as documented.
        """
        ticks = dict(_busy_ticks(self._lines()))
        if not ticks:
            raise SourceError(Reason.GARBLED, f"{STAT}: no line of a CPU")
        if ticks.keys() != self._packages.keys():
            known = packages_of_cpus(self._host)
            self._packages = {cpu: known.get(cpu, 0) for cpu in ticks}
            self._epoch += 1
        sums: dict[int, tuple[int, int]] = {}
        for cpu, busy in ticks.items():
            package = self._packages[cpu]
            cpus, total = sums.get(package, (0, 0))
            sums[package] = (cpus + 1, total + busy)
        return CpuTime(
            tuple(
                PackageTime(package, cpus, Seconds(total / TICKS_PER_SECOND))
                for package, (cpus, total) in sorted(sums.items())
            ),
            self._epoch,
        )

    def close(self) -> None:
        """Let go of the descriptor."""
        self._stat.close()

    def _lines(self) -> bytes:
        """The lines of the CPUs, which come first; all of them, however many."""
        lines, rest, _ = (text := self._stat.read()).partition(b"\nintr ")
        if not rest and len(text) == STAT_BYTES:
            self._stat.close()
            self._stat = self._host.keep(STAT, STAT_BYTES_AT_MOST)
            lines = self._stat.read().partition(b"\nintr ")[0]
        return lines


def _busy_ticks(lines: bytes) -> Iterator[tuple[bytes, int]]:
    """Name and busy ticks of each CPU; stops at the first line that is not about one."""
    for line in lines.split(b"\n"):
        if not line.startswith(b"cpu"):
            return
        if line.startswith(b"cpu "):
            continue
        try:
            name, user, nice, system, _, _, irq, softirq, _ = line.split(None, 8)
            busy = int(user) + int(nice) + int(system) + int(irq) + int(softirq)
        except ValueError:
            name, busy = line, -1
        if not 0 <= busy < LARGEST_TICKS:
            raise SourceError(Reason.GARBLED, f"{STAT}: not the times of a CPU: {line[:60]!r}")
        yield name, busy


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
