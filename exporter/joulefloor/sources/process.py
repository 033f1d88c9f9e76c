"""What the daemon itself uses, under the names that every Prometheus client uses.

Read from the daemon's own /proc, not from the root of the machine that it watches.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from joulefloor import catalogue
from joulefloor.bounds import POSITIVE, check_bounds
from joulefloor.errors import Reason, SourceError
from joulefloor.host import Host, parse_integer
from joulefloor.model import Batch, Channel, Measures
from joulefloor.processors import TICKS_PER_SECOND
from joulefloor.sources import Taking
from joulefloor.units import Seconds, seconds_from_nanoseconds

if TYPE_CHECKING:
    from joulefloor.clock import Clock
    from joulefloor.sources import Site, Source

STAT = "proc/self/stat"
DESCRIPTORS = "proc/self/fd"
# Positions after the command's name, which may hold spaces: field 3 of `man 5 proc` is number 0.
START_TICKS = 19
VIRTUAL_BYTES = 20
RESIDENT_PAGES = 21


@dataclass(frozen=True, slots=True)
class Settings:
    """How often the daemon looks at itself."""

    #: Seconds between reads (> 0).
    period: Seconds = Seconds(5.0)
    #: Seconds after which a read counts as late (> 0).
    deadline: Seconds = Seconds(0.5)

    def __post_init__(self) -> None:
        """Refuse times that cannot work."""
        check_bounds(self, period=POSITIVE, deadline=POSITIVE)


def build(site: Site[Settings]) -> tuple[Source, ...]:
    """The source process, on this process's own /proc."""
    return (ProcessSource(Host(Path("/")), site.clock, site.settings),)


class ProcessSource:
    """CPU time, memory, descriptors and start of this process.

    Reads: proc/self/stat, proc/self/fd, the resource limit of open files.
    Raises: ABSENT or GARBLED when there is no usable proc/self/stat.
    """

    name = "process"

    def __init__(self, host: Host, clock: Clock, settings: Settings) -> None:
        """Nothing is opened before the first read."""
        self.period_s: float = settings.period
        self.deadline_s: float = settings.deadline
        self._host = host
        self._clock = clock
        self._stat = host.keep(STAT)
        self._page_bytes = os.sysconf("SC_PAGE_SIZE")
        self._started_unix_s: float | None = None
        self._sized = False
        self._cpu = _level(catalogue.PROCESS_CPU)
        self._resident = _level(catalogue.PROCESS_RSS)
        self._virtual = _level(catalogue.PROCESS_VSZ)
        self._start = _level(catalogue.PROCESS_START)
        self._open = _level(catalogue.PROCESS_FDS)
        self._most_open = _level(catalogue.PROCESS_MAX_FDS)

    def channels(self) -> tuple[Channel, ...]:
        """One for each number."""
        self._stat.read()
        return (
            self._cpu,
            self._resident,
            self._virtual,
            self._start,
            self._open,
            self._most_open,
        )

    def read(self) -> Batch:
        """Everything now; the start is found once, since the wall clock may step later."""
        fields = self._stat.read().rpartition(b")")[2].split()
        if len(fields) <= RESIDENT_PAGES:
            raise SourceError(Reason.GARBLED, f"{STAT}: too few fields")
        taking = Taking(self._clock)
        taking.take(self._cpu, self._clock.process_cpu_s)
        taking.take(self._resident, lambda: _count(fields[RESIDENT_PAGES]) * self._page_bytes)
        taking.take(self._virtual, lambda: _count(fields[VIRTUAL_BYTES]))
        taking.take(self._start, lambda: self._started(fields[START_TICKS]))
        taking.take(self._open, self._count_open)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if most != resource.RLIM_INFINITY:
            taking.take(self._most_open, lambda: most)
        return taking.batch()

    def close(self) -> None:
        """Let go of proc/self/stat."""
        self._stat.close()

    def _started(self, ticks: bytes) -> float:
        """Unix time of the start: now minus the age by the clock that counts from boot."""
        if self._started_unix_s is None:
            since_boot_s = seconds_from_nanoseconds(self._clock.boottime_ns())
            age_s = since_boot_s - _count(ticks) / TICKS_PER_SECOND
            self._started_unix_s = self._clock.unix_s() - age_s
        return self._started_unix_s

    def _count_open(self) -> int:
        """Open descriptors, without the one that lists them.

        Since Linux 6.2 the size of the folder is their number, which is trusted once it was right:
        listing them costs more than anything else here when there are two for each pod.
        """
        size = self._host.size(DESCRIPTORS)
        if self._sized:
            return size
        listed = self._host.count(DESCRIPTORS) - 1
        self._sized = size == listed
        return listed


def _level(metric: catalogue.Metric) -> Channel:
    return Channel(metric, (), Measures.LEVEL)


def _count(text: bytes) -> int:
    """A number (>= 0) of proc/self/stat."""
    value = parse_integer(text, STAT)
    if value < 0:
        raise SourceError(Reason.GARBLED, f"{STAT}: {value} is no count")
    return value
