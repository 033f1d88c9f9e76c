"""CPU utilisation, memory in use, CPU clocks and CPU names, on every Linux machine.

Files are read through Host rather than with psutil: psutil cannot take another root for /sys, its
root for /proc is one global of the process, and it weighs more than the whole reading. The tests
hold these numbers against psutil's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from joulefloor import catalogue
from joulefloor.bounds import POSITIVE, check_bounds
from joulefloor.errors import Reason, SourceError
from joulefloor.host import parse_integer
from joulefloor.model import Batch, Channel, Measures, Reading
from joulefloor.processors import CPUS, CpuClock, kind_of_cpus, packages_of_cpus
from joulefloor.sources import RESCAN_SECONDS, Taking
from joulefloor.units import (
    Seconds,
    bytes_from_kibibytes,
    hertz_from_kilohertz,
    nanoseconds_from_seconds,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from joulefloor.clock import Clock
    from joulefloor.host import Host, KeptFile
    from joulefloor.processors import CpuTime
    from joulefloor.sources import Site, Source

FREQUENCIES = f"{CPUS}/cpufreq"
MEMINFO = "proc/meminfo"
MEMINFO_BYTES = 16_384


@dataclass(frozen=True, slots=True)
class Settings:
    """How often the CPUs are looked at."""

    #: Seconds between reads of CPU time (> 0).
    period: Seconds = Seconds(1.0)
    #: Seconds between reads of memory in use and of CPU clocks (> 0).
    slow_period: Seconds = Seconds(5.0)
    #: Seconds after which a read counts as late (> 0).
    deadline: Seconds = Seconds(0.5)
    #: Whether CPU clocks are read: one small file per CPU.
    clocks: bool = True

    def __post_init__(self) -> None:
        """Refuse times that cannot work."""
        check_bounds(self, period=POSITIVE, slow_period=POSITIVE, deadline=POSITIVE)


def build(site: Site[Settings]) -> tuple[Source, ...]:
    """The sources cpu, memory and, unless switched off, cpu-frequency."""
    settings = site.settings
    sources: tuple[Source, ...] = (
        CpuSource(site.host, site.clock, settings),
        MemorySource(site.host, site.clock, settings),
    )
    if settings.clocks:
        sources += (FrequencySource(site.host, site.clock, settings),)
    return sources


def _level(metric: catalogue.Metric, *labels: str) -> Channel:
    return Channel(metric, labels, Measures.LEVEL)


class CpuSource:
    """Busy share of each package and of the machine, and what the CPUs are.

    A package's busy time is the mean over its online CPUs, so its rate is 0 to 1. When CPUs come
    or go the sums are over other CPUs than before: then the channels are made anew, which tells
    the ledger not to compare.

    Reads: proc/stat, sys/devices/system/cpu, proc/cpuinfo.
    Raises: ABSENT without proc/stat, GARBLED when it is not as documented.
    """

    name = "cpu"

    def __init__(self, host: Host, clock: Clock, settings: Settings) -> None:
        """Nothing is opened before the first read."""
        self.period_s: float = settings.period
        self.deadline_s: float = settings.deadline
        self._host = host
        self._clock = clock
        self._times = host.shared(CpuClock)
        self._epoch = 0
        self._busy: dict[int, Channel] = {}
        self._node = _busy("node", "node")
        self._names: tuple[Channel, ...] = ()

    def channels(self) -> tuple[Channel, ...]:
        """Busy shares and names."""
        self._time()
        return (*self._busy.values(), self._node, *self._names)

    def read(self) -> Batch:
        """Busy seconds of every package and of the machine."""
        time = self._time()
        at_ns = time.at_ns
        readings = [
            Reading(self._busy[package], busy_s / cpus, at_ns)
            for package, cpus, busy_s in time.packages
        ]
        cpus = sum(package.cpus for package in time.packages)
        busy_s = sum(package.busy_s for package in time.packages)
        readings.append(Reading(self._node, busy_s / cpus, at_ns))
        readings.extend(Reading(channel, 1.0, at_ns) for channel in self._names)
        return Batch(tuple(readings))

    def close(self) -> None:
        """Let go of proc/stat."""
        self._times.close()

    def _time(self) -> CpuTime:
        time = self._times.read(self, self._clock.monotonic_ns())
        if time.epoch != self._epoch:
            self._epoch = time.epoch
            self._discover(time)
        return time

    def _discover(self, time: CpuTime) -> None:
        kind = kind_of_cpus(self._host)
        devices = {package.package: f"package-{package.package}" for package in time.packages}
        self._busy = {number: _busy("cpu", device) for number, device in devices.items()}
        self._node = _busy("node", "node")
        known = {channel.labels: channel for channel in self._names}
        labels = [("cpu", device, kind.vendor, kind.name) for device in devices.values()]
        self._names = tuple(
            known.get(values) or _level(catalogue.DEVICE_INFO, *values)
            for values in labels
            if kind.vendor or kind.name
        )


def _busy(component: str, device: str) -> Channel:
    return Channel(catalogue.UTILIZATION, (component, device, "busy"), Measures.BUSY)


class MemorySource:
    """Memory of the machine: used is total minus what the kernel calls available.

    Reads: proc/meminfo (MemAvailable since Linux 3.14).
    Raises: ABSENT without it, GARBLED when a value is missing or no number.
    """

    name = "memory"

    def __init__(self, host: Host, clock: Clock, settings: Settings) -> None:
        """Nothing is opened before the first read."""
        self.period_s: float = settings.slow_period
        self.deadline_s: float = settings.deadline
        self._clock = clock
        self._file = host.keep(MEMINFO, MEMINFO_BYTES)
        self._used = _level(catalogue.MEMORY, "dram", "node", "used")
        self._total = _level(catalogue.MEMORY, "dram", "node", "total")

    def channels(self) -> tuple[Channel, ...]:
        """Used and total."""
        self._file.read()
        return (self._used, self._total)

    def read(self) -> Batch:
        """Bytes used and bytes in all."""
        text = self._file.read()
        total = _meminfo_bytes(text, b"MemTotal:")
        available = _meminfo_bytes(text, b"MemAvailable:")
        if available > total:
            raise SourceError(Reason.GARBLED, f"{MEMINFO}: more available than there is")
        at_ns = self._clock.monotonic_ns()
        return Batch(
            (Reading(self._used, total - available, at_ns), Reading(self._total, total, at_ns))
        )

    def close(self) -> None:
        """Let go of proc/meminfo."""
        self._file.close()


def _meminfo_bytes(text: bytes, key: bytes) -> int:
    """Value of one line of meminfo ("MemTotal:  24684092 kB")."""
    for line in text.split(b"\n"):
        if line.startswith(key):
            words = line.split()
            if len(words) == 3 and words[2] == b"kB":  # noqa: PLR2004  # key, number, unit
                kibibytes = parse_integer(words[1], MEMINFO)
                if kibibytes >= 0:
                    return bytes_from_kibibytes(kibibytes)
            break
    raise SourceError(Reason.GARBLED, f"{MEMINFO}: no {key.decode()} in kB")


class FrequencySource:
    """Mean and greatest clock over the CPUs of each package.

    Reads: sys/devices/system/cpu/cpufreq/policy*/{affected_cpus,scaling_cur_freq} (kHz).
    Raises: ABSENT when the machine has no cpufreq, as most virtual ones.
    """

    name = "cpu-frequency"

    def __init__(self, host: Host, clock: Clock, settings: Settings) -> None:
        """Nothing is opened before the first read."""
        self.period_s: float = settings.slow_period
        self.deadline_s: float = max(settings.deadline, 1.0)
        self._host = host
        self._clock = clock
        self._scan_due_ns = 0
        self._policies: tuple[_Policy, ...] = ()
        self._pairs: dict[int, tuple[Channel, Channel]] = {}

    def channels(self) -> tuple[Channel, ...]:
        """Mean and max of each package."""
        self._scan()
        return tuple(channel for pair in self._pairs.values() for channel in pair)

    def read(self) -> Batch:
        """Hertz; a policy that cannot be read is a fault and is left out of the mean."""
        if self._clock.monotonic_ns() >= self._scan_due_ns:
            self._scan()
        taking = Taking(self._clock)
        clocks: dict[int, list[tuple[float, int]]] = {}
        for policy in self._policies:
            try:
                hertz = policy.hertz()
            except SourceError as error:
                taking.fault(None, error)
            else:
                clocks.setdefault(policy.package, []).append((hertz, policy.cpus))
        at_ns = self._clock.monotonic_ns()
        for package, pairs in clocks.items():
            mean, greatest = self._pairs[package]
            cpus = sum(count for _, count in pairs)
            value = sum(hertz * count for hertz, count in pairs) / cpus
            taking.readings.append(Reading(mean, value, at_ns))
            taking.readings.append(Reading(greatest, max(pairs)[0], at_ns))
        if taking.rescan:
            self._scan_due_ns = 0
        return taking.batch()

    def close(self) -> None:
        """Let go of every policy; the next read looks for them again."""
        for policy in self._policies:
            policy.file.close()
        self._scan_due_ns = 0

    def _scan(self) -> None:
        self.close()
        packages = packages_of_cpus(self._host)
        names = self._host.names(FREQUENCIES)
        folders = [f"{FREQUENCIES}/{name}" for name in names if name.startswith("policy")]
        self._policies = tuple(_policies(self._host, folders, packages))
        if not self._policies:
            raise SourceError(Reason.ABSENT, f"{FREQUENCIES}: no clock of a CPU is offered")
        for package in {policy.package for policy in self._policies} - self._pairs.keys():
            device = f"package-{package}"
            mean = _level(catalogue.CLOCK, "cpu", device, "mean")
            self._pairs[package] = (mean, _level(catalogue.CLOCK, "cpu", device, "max"))
        found = {policy.package for policy in self._policies}
        self._pairs = {number: self._pairs[number] for number in sorted(found)}
        due_ns = nanoseconds_from_seconds(RESCAN_SECONDS)
        self._scan_due_ns = self._clock.monotonic_ns() + due_ns


@dataclass(frozen=True, slots=True)
class _Policy:
    """CPUs that share one clock: how many are online, in which package, and where it is read."""

    package: int
    cpus: int
    file: KeptFile

    def hertz(self) -> float:
        """The clock now, Hz (> 0)."""
        text = self.file.read()
        if text.startswith(b"<unknown>"):
            raise SourceError(Reason.UNSUPPORTED, f"{self.file.path}: the driver does not know")
        kilohertz = parse_integer(text, self.file.path)
        if kilohertz <= 0:
            raise SourceError(Reason.GARBLED, f"{self.file.path}: {kilohertz} kHz is no clock")
        return hertz_from_kilohertz(kilohertz)


def _policies(host: Host, folders: Iterable[str], packages: dict[bytes, int]) -> Iterable[_Policy]:
    """Policies with at least one CPU online."""
    for folder in folders:
        cpus = host.text_or(f"{folder}/affected_cpus", "").split()
        if cpus and all(cpu.isdigit() for cpu in cpus):
            package = packages.get(b"cpu" + cpus[0].encode(), 0)
            yield _Policy(package, len(cpus), host.keep(f"{folder}/scaling_cur_freq"))
