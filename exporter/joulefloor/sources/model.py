"""A power model for machines without any meter, above all virtual ones. method="modelled".

    joules(t) = idle watts x t + (max watts - idle watts) x busy CPU seconds(t)

per package, with watts per hardware thread from data/power_model.csv, and for memory a constant
power per GiB. Being linear in two clocks it needs no history. It is the published method of Cloud
Carbon Footprint (https://www.cloudcarbonfootprint.org/docs/methodology): the coefficients are whole
servers' wall power per thread, so the cpu series stands for the thread's share of the server, and
memory is added only beyond what those servers held.

Expect an error of 30 to 50 %, more for a single minute. SPECpower_ssj2008 itself, on servers that
differ only in make and configuration, spreads from 2.5 to 4.0 W per busy thread of a Xeon 8592+
(15 results, mean 3.2) and from 1.0 to 1.4 W of an EPYC 9845 or 9965 (24 results, mean 1.2); to
that come the neighbours on the host, clocks, vector units and memory traffic, of which a guest
sees nothing. A meter, whatever its kind, is always preferred: the ledger elects no model while a
meter of the same component answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from joulefloor import catalogue
from joulefloor.bounds import POSITIVE, Bounds, check_bounds
from joulefloor.errors import Reason, SourceError
from joulefloor.model import Batch, Channel, Measures, Reading
from joulefloor.processors import CpuClock, kind_of_cpus
from joulefloor.units import Seconds, Watts, seconds_from_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Iterator

    from joulefloor.clock import Clock
    from joulefloor.host import Host
    from joulefloor.processors import CpuKind, CpuTime
    from joulefloor.sources import Site, Source

TABLE = Path(__file__).parent.parent / "data" / "power_model.csv"
SOURCE = "model"
METHOD = "modelled"
KIBIBYTES_PER_GIBIBYTE = 1024**2
COLUMNS = 10
MARGIN = 1.5
"""Plausibility bound over the model's own maximum: ticks of the CPU clock come in lumps."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The model's coefficients where the operator knows better than the table."""

    #: Seconds between reads (> 0).
    period: Seconds = Seconds(1.0)
    #: Seconds after which a read counts as late (> 0).
    deadline: Seconds = Seconds(0.5)
    #: Watts of an idle hardware thread (>= 0); None takes the table's for this CPU.
    watts_per_cpu_idle: Watts | None = None
    #: Watts of a busy hardware thread (at least the idle watts); None takes the table's.
    watts_per_cpu_max: Watts | None = None
    #: Watts per GiB of memory (>= 0). 0.392 is Cloud Carbon Footprint's mean of Micron's and
    #: Crucial's figures for DDR4 modules.
    watts_per_gib: Watts = Watts(0.392)
    #: GiB per hardware thread that the CPU's watts already contain (>= 0): about 1 in the
    #: SPECpower_ssj2008 results behind the table (0.5 to 2). 0 with watts of bare CPUs.
    gib_per_cpu_included: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what no machine can draw."""
        check_bounds(
            self,
            period=POSITIVE,
            deadline=POSITIVE,
            gib_per_cpu_included=Bounds(0.0, unit=" GiB"),
        )
        idle, most = self.watts_per_cpu_idle, self.watts_per_cpu_max
        if idle is not None and most is not None and idle > most:
            raise ValueError(f"watts_per_cpu_idle: {idle:g}W is above watts_per_cpu_max: {most:g}W")


class Coefficients(NamedTuple):
    """Watts per hardware thread, and where they are from, for people."""

    name: str
    idle_watts: float
    max_watts: float
    source: str


def build(site: Site[Settings]) -> tuple[Source, ...]:
    """The source model."""
    return (ModelSource(site.host, site.clock, site.settings),)


class _Package(NamedTuple):
    """One package's channels; no dram channel where the CPU's watts contain all memory."""

    cpu: Channel
    dram: Channel | None
    dram_watts: float


class ModelSource:
    """Modelled energy of CPU packages and of their memory.

    joulefloor_device_info with component "model" says which row of the table is in use.

    Reads: proc/stat, proc/cpuinfo, proc/meminfo (MemTotal), the package of each CPU.
    Raises: ABSENT without proc/stat, GARBLED when it is not as documented.
    """

    name = SOURCE

    def __init__(self, host: Host, clock: Clock, settings: Settings) -> None:
        """Nothing is opened before the first read."""
        self.period_s: float = settings.period
        self.deadline_s: float = settings.deadline
        self._host = host
        self._clock = clock
        self._settings = settings
        self._times = host.shared(CpuClock)
        self._epoch = 0
        self._coefficients = Coefficients("", 0.0, 0.0, "")
        self._packages: dict[int, _Package] = {}
        self._info: Channel | None = None

    def channels(self) -> tuple[Channel, ...]:
        """CPU and memory of each package, and the name of the model."""
        self._time()
        energies = [channel for package in self._packages.values() for channel in package[:2]]
        return tuple(channel for channel in (*energies, self._info) if channel is not None)

    def read(self) -> Batch:
        """Joules since the clock's zero, as far as the model knows."""
        time = self._time()
        at_ns = time.at_ns
        seconds = seconds_from_nanoseconds(at_ns)
        _, idle, most, _ = self._coefficients
        readings: list[Reading] = []
        for number, cpus, busy_s in time.packages:
            package = self._packages[number]
            joules = idle * cpus * seconds + (most - idle) * busy_s
            readings.append(Reading(package.cpu, joules, at_ns))
            if package.dram is not None:
                readings.append(Reading(package.dram, package.dram_watts * seconds, at_ns))
        if self._info is not None:
            readings.append(Reading(self._info, 1.0, at_ns))
        return Batch(tuple(readings))

    def close(self) -> None:
        """Let go of proc/stat."""
        self._times.close()

    def _time(self) -> CpuTime:
        """CPU time; CPUs that came or went change the model's numbers."""
        time = self._times.read(self, self._clock.monotonic_ns())
        if time.epoch != self._epoch:
            self._discover(time)
            self._epoch = time.epoch
        return time

    def _discover(self, time: CpuTime) -> None:
        settings = self._settings
        row = coefficients_of(kind_of_cpus(self._host), TABLE.read_text("utf-8"))
        idle = (
            row.idle_watts if settings.watts_per_cpu_idle is None else settings.watts_per_cpu_idle
        )
        most = row.max_watts if settings.watts_per_cpu_max is None else settings.watts_per_cpu_max
        if most < idle:
            detail = f"watts_per_cpu_max ({most:g} W) is below watts_per_cpu_idle ({idle:g} W)"
            raise SourceError(Reason.UNSUPPORTED, f"sources.model: {detail}")
        if (idle, most) != (row.idle_watts, row.max_watts):
            row = Coefficients("configured", idle, most, "configuration")
        self._coefficients = row
        cpus = sum(package.cpus for package in time.packages)
        extra_gib = max(0.0, self._memory_gib() - settings.gib_per_cpu_included * cpus)
        watts = settings.watts_per_gib * extra_gib
        self._packages = {
            package.package: _package(
                package.package, package.cpus, row, watts * package.cpus / cpus
            )
            for package in time.packages
        }
        text = f"{idle:g} to {most:g} W per CPU ({row.source}), {watts:.1f} W memory"
        labels = ("model", "power", row.name, text)
        if self._info is None or self._info.labels != labels:
            self._info = Channel(catalogue.DEVICE_INFO, labels, Measures.LEVEL)

    def _memory_gib(self) -> float:
        """Memory of the machine, 0 if it does not say: then no memory power is modelled."""
        words = self._host.text_or("proc/meminfo", "").split(None, 2)[:2]
        if len(words) < 2 or words[0] != "MemTotal:" or not words[1].isdecimal():  # noqa: PLR2004
            return 0.0
        return min(int(words[1][:20]), 2**63) / KIBIBYTES_PER_GIBIBYTE


def _package(number: int, cpus: int, row: Coefficients, dram_watts: float) -> _Package:
    device = f"package-{number}"
    cpu = _energy("cpu", device, row.max_watts * cpus)
    dram = _energy("dram", device, dram_watts) if dram_watts > 0 else None
    return _Package(cpu, dram, dram_watts)


def _energy(component: str, device: str, max_watts: float) -> Channel:
    labels = (component, device, SOURCE, METHOD)
    bound = max(1.0, MARGIN * max_watts)
    return Channel(catalogue.COMPONENT_ENERGY, labels, Measures.ENERGY, max_watts=bound)


def coefficients_of(kind: CpuKind, table: str) -> Coefficients:
    """The first row of the table that fits; its last row fits every CPU."""
    for row in _rows(table):
        vendor, family, models, steppings, name, idle, most, source, year, _ = row
        if (
            vendor in {"*", kind.vendor}
            and _holds(family, kind.family)
            and _holds(models, kind.model)
            and _holds(steppings, kind.stepping)
        ):
            return Coefficients(name, float(idle), float(most), f"{source}, {year}")
    raise SourceError(Reason.UNSUPPORTED, f"{TABLE.name}: no row for {kind.name}")


def _rows(table: str) -> Iterator[list[str]]:
    for line in table.splitlines():
        if line and not line.startswith("#"):
            row = line.split(",")
            if len(row) == COLUMNS:
                yield row


def _holds(ranges: str, number: int) -> bool:
    """Whether "16-31+160" holds the number; "*" holds any."""
    if ranges == "*":
        return True
    for part in ranges.split("+"):
        low, _, high = part.partition("-")
        if int(low) <= number <= int(high or low):
            return True
    return False
