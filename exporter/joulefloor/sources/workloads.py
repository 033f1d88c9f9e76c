"""What pods, containers, jobs, guests and services use of CPU and memory, from control groups.

Nothing is published from here: the ledger divides the energy of the components by it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import islice, repeat
from typing import TYPE_CHECKING, NamedTuple, Protocol

from joulefloor import catalogue
from joulefloor.bounds import POSITIVE, Bounds, check_bounds
from joulefloor.census import Census
from joulefloor.cgroups import Hierarchy, hierarchy
from joulefloor.errors import Reason, SourceError
from joulefloor.host import KeptFiles, parse_integer
from joulefloor.limits import LimitSource
from joulefloor.model import IDLE, SYSTEM, Batch, Channel, Measures, Reading, Workload
from joulefloor.podresources import DeviceSource
from joulefloor.processors import CLOSE_NS, STAT, CpuClock
from joulefloor.sources import Taking
from joulefloor.units import (
    Seconds,
    bytes_from_kibibytes,
    seconds_from_microseconds,
    seconds_from_nanoseconds,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from joulefloor.clock import Clock
    from joulefloor.host import Host, KeptFile
    from joulefloor.sources import Site, Source

MEMINFO = "proc/meminfo"
MEMINFO_BYTES = 512
"""MemTotal and MemFree are in the first two lines."""
GROUP_BYTES = 128
"""The one number that is wanted of a group is in the first line of its file."""
USAGE = re.compile(rb"\0usage_usec (\d{1,20})\s")
AMOUNT = re.compile(rb"\0(\d{1,20})\s*(?![^\0])")
"""The number of each text, of 20 digits at most as 2**64 has, where texts begin with NUL."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Which workloads are told apart, and how often they are looked at."""

    #: Seconds between reads of CPU time (> 0).
    period: Seconds = Seconds(1.0)
    #: Seconds between reads of memory (> 0).
    memory_period: Seconds = Seconds(5.0)
    #: Seconds between reads of CPU and memory limits (> 0); only for `workloads.static:
    #: allocation`.
    limit_period: Seconds = Seconds(30.0)
    #: Seconds after which a read counts as late (> 0).
    deadline: Seconds = Seconds(3.0)
    #: Workloads told apart at one time (1 or more); others are billed to system.
    limit: int = 500
    #: Patterns of systemd services that are workloads, such as [vllm*.service]; others are system.
    services: tuple[str, ...] = ()
    #: Whether the kubelet is asked which pod holds which GPU; needs joulefloor[kubernetes].
    devices: bool = True
    #: Seconds between questions to the kubelet (> 0).
    device_period: Seconds = Seconds(10.0)

    def __post_init__(self) -> None:
        """Refuse times that cannot work and a limit that cannot be one."""
        check_bounds(
            self,
            period=POSITIVE,
            memory_period=POSITIVE,
            limit_period=POSITIVE,
            deadline=POSITIVE,
            limit=Bounds(1, unit=""),
            device_period=POSITIVE,
        )


def build(site: Site[Settings]) -> tuple[Source, ...]:
    """The sources workloads, -memory, -limits and, unless switched off, -devices."""
    host, clock, settings = site
    sources: tuple[Source, ...] = (
        GroupSource(CPU, host, clock, settings, settings.period),
        GroupSource(MEMORY, host, clock, settings, settings.memory_period),
        LimitSource(host, clock, settings.limit_period, settings.services, settings.limit),
    )
    if settings.devices:
        sources += (DeviceSource(host, clock, settings.device_period),)
    return sources


class Whole(Protocol):
    """Reads what all used together, and what was left."""

    def read(self, now_ns: int) -> tuple[float, float]:
        """Both as of `now_ns`; raises SourceError."""

    def close(self) -> None:
        """Let go of the file."""


class Subject(NamedTuple):
    """What a source reads of control groups, for which component.

    `controllers`: trees of version 1 that have it, best first. `whole`: use by the machine.
    `files`: in version 2 and in version 1, with what makes numbers of their texts and raises
    ValueError when one of them holds none.
    """

    name: str
    component: str
    measures: Measures
    controllers: tuple[str, ...]
    whole: Callable[[Host], Whole]
    files: tuple[tuple[str, Callable[[Sequence[bytes]], list[float]]], ...]


class _Line(NamedTuple):
    """A workload with the files that are read for it, one per control group it has."""

    channel: Channel
    files: tuple[KeptFile, ...]
    paths: tuple[str, ...]


class GroupSource:
    """Use of one component by every workload: one pread per control group.

    A workload whose control groups changed gets a new channel, which tells the ledger not to
    compare counters.

    Reads: cpu.stat (v2) or cpuacct.usage (v1), memory.current or memory.usage_in_bytes below
    sys/fs/cgroup; proc/stat or proc/meminfo for the whole machine.
    Raises: ABSENT without control groups or without the file of the whole machine.
    """

    def __init__(
        self, subject: Subject, host: Host, clock: Clock, settings: Settings, period_s: float
    ) -> None:
        """Nothing is opened before the first read."""
        self.name = subject.name
        self.period_s = period_s
        self.deadline_s: float = settings.deadline
        self._subject = subject
        self._host = host
        self._clock = clock
        self._census = Census(host, clock, settings.services, settings.limit)
        self._whole = subject.whole(host)
        self._busy = self._channel(SYSTEM)
        self._rest = self._channel(IDLE)
        self._tree = Hierarchy("", unified=True)
        self._lines: dict[Workload, _Line] = {}
        self._channels: tuple[Channel, ...] = ()
        self._together = KeptFiles((), GROUP_BYTES)

    def channels(self) -> tuple[Channel, ...]:
        """The whole machine and every workload."""
        self._look()
        self._whole.read(self._clock.monotonic_ns())
        return (self._busy, self._rest, *(line.channel for line in self._lines.values()))

    def read(self) -> Batch:
        """Use by all and by every workload, as of one instant."""
        self._look()
        taking = Taking(self._clock)
        at_ns = self._clock.monotonic_ns()
        busy, rest = self._whole.read(at_ns)
        readings = [Reading(self._busy, busy, at_ns), Reading(self._rest, rest, at_ns)]
        try:
            uses = self._subject.files[not self._tree.unified][1](self._together.read())
        except (SourceError, ValueError):
            self._together.forget()
            readings += self._read_each(taking, at_ns)
        else:
            if len(uses) > len(self._lines):
                rest_of = iter(uses)
                uses = [sum(islice(rest_of, len(line.files))) for line in self._lines.values()]
            readings += map(Reading, self._channels, uses, repeat(at_ns))
        for note in self._census.notes:
            taking.fault(None, note)
        return Batch(tuple(readings), tuple(taking.faults))

    def _read_each(self, taking: Taking, at_ns: int) -> Iterator[Reading]:
        """Readings of the groups that can be read; the others are faults, or have just ended."""
        failures: list[tuple[Workload, _Line, SourceError]] = []
        for workload, line in self._lines.items():
            try:
                value = sum(map(self._number, line.files))
            except SourceError as error:
                failures.append((workload, line, error))
            else:
                yield Reading(line.channel, value, at_ns)
        self._look(again=any(error.reason is Reason.LOST for _, _, error in failures))
        for workload, line, failure in failures:
            if self._lines.get(workload) is line:
                taking.fault(line.channel, failure)

    def _number(self, file: KeptFile) -> float:
        text = file.read()
        try:
            return self._subject.files[not self._tree.unified][1]([text])[0]
        except ValueError as error:
            raise SourceError(Reason.GARBLED, f"{file.path}: {error}: {text[:40]!r}") from None

    def close(self) -> None:
        """Let go of every group; the next read looks for them again."""
        self._whole.close()
        self._together.forget()
        self._release(self._lines.values())
        self._census.forget()

    def _release(self, lines: Iterable[_Line]) -> None:
        for line in lines:
            for file in line.files:
                file.close()

    def _look(self, *, again: bool = False) -> None:
        """Find the workloads if they may have changed; who stays keeps line and channel."""
        if not self._tree.mount:
            self._tree = hierarchy(self._host, *self._subject.controllers)
        try:
            walked = self._census.look(self._tree.mount, again=again)
        except SourceError:
            self._tree = self._tree._replace(mount="")
            raise
        if not walked:
            return
        before, self._lines = self._lines, {}
        for workload, paths in self._census.groups.items():
            line = before.get(workload)
            if line is None or line.paths != paths:
                self._lines[workload] = self._line(workload, paths)
            else:
                self._lines[workload] = before.pop(workload)
        self._release(before.values())
        lines = self._lines.values()
        self._channels = tuple(line.channel for line in lines)
        self._together = KeptFiles([file for line in lines for file in line.files], GROUP_BYTES)

    def _line(self, workload: Workload, paths: tuple[str, ...]) -> _Line:
        name = self._subject.files[not self._tree.unified][0]
        files = tuple(
            self._host.keep(f"{self._tree.mount}/{path}/{name}", GROUP_BYTES) for path in paths
        )
        return _Line(self._channel(workload), files, paths)

    def _channel(self, workload: Workload) -> Channel:
        labels = (self._subject.component, *workload, "dynamic")
        return Channel(catalogue.WORKLOAD_ENERGY, labels, self._subject.measures)


class _AllCpus:
    """Busy and other CPU seconds of all CPUs."""

    def __init__(self, host: Host) -> None:
        self._times = host.shared(CpuClock)

    def read(self, now_ns: int) -> tuple[float, float]:
        whole = self._times.read(self, now_ns, CLOSE_NS).whole
        if whole is None:
            raise SourceError(Reason.GARBLED, f"{STAT}: no line of all CPUs")
        return whole

    def close(self) -> None:
        self._times.close()


class _AllMemory:
    """Bytes in use, caches included as in control groups, and bytes free."""

    def __init__(self, host: Host) -> None:
        self._file = host.keep(MEMINFO, MEMINFO_BYTES)

    def read(self, _: int) -> tuple[float, float]:
        sizes: list[int] = []
        lines = self._file.read().split(b"\n")[:2]
        for key, line in zip((b"MemTotal:", b"MemFree:"), lines, strict=False):
            words = line.split()
            if len(words) == 3 and words[0] == key and words[2] == b"kB":  # noqa: PLR2004  # key, number, unit
                sizes.append(bytes_from_kibibytes(parse_integer(words[1], MEMINFO)))
        if len(sizes) != 2 or not 0 <= sizes[1] <= sizes[0]:  # noqa: PLR2004  # total and free
            raise SourceError(Reason.GARBLED, f"{MEMINFO}: no MemTotal and MemFree in kB")
        return float(sizes[0] - sizes[1]), float(sizes[1])

    def close(self) -> None:
        self._file.close()


def _numbers(texts: Sequence[bytes], pattern: re.Pattern[bytes]) -> list[int]:
    """The number in each text: all are searched at once, since there are hundreds."""
    together = b"\0".join((b"", *texts))
    found = pattern.findall(together)
    if not len(found) == len(texts) == together.count(b"\0"):
        raise ValueError("not the number that should be there")
    return list(map(int, found))


def _usages(texts: Sequence[bytes]) -> list[float]:
    """CPU seconds from cpu.stat, whose first line is usage_usec since Linux 4.15."""
    return list(map(seconds_from_microseconds, _numbers(texts, USAGE)))


def _old_usages(texts: Sequence[bytes]) -> list[float]:
    return list(map(seconds_from_nanoseconds, _numbers(texts, AMOUNT)))


def _amounts(texts: Sequence[bytes]) -> list[float]:
    return list(map(float, _numbers(texts, AMOUNT)))


CPU = Subject(
    "workloads",
    "cpu",
    Measures.USE,
    ("cpu,cpuacct", "cpuacct,cpu", "cpuacct"),
    _AllCpus,
    (
        ("cpu.stat", _usages),
        ("cpuacct.usage", _old_usages),
    ),
)
MEMORY = Subject(
    "workloads-memory",
    "dram",
    Measures.HOLD,
    ("memory",),
    _AllMemory,
    (("memory.current", _amounts), ("memory.usage_in_bytes", _amounts)),
)
