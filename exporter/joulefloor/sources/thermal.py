"""Thermal zones, fan levels of cooling devices, and the time in which CPUs were too hot.

Zone and cooling device numbers change from boot to boot; the `type` stays, so that is the name.
Several zones of one type are numbered in their order. Package zones go to component `cpu` only on
machines with one package; the die temperature of a package is read by the source `sensors`.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from joulefloor.bounds import Bounds, check_bounds
from joulefloor.catalogue import FAN_SPEED_RATIO, TEMPERATURE, THROTTLE
from joulefloor.chips import packages, plain
from joulefloor.errors import Reason, SourceError
from joulefloor.filesource import FileMeter, FileSource, scaled
from joulefloor.model import Channel, Measures
from joulefloor.processors import CPUS
from joulefloor.units import Seconds, celsius_from_millidegrees, seconds_from_milliseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from joulefloor.host import Host, KeptFile
    from joulefloor.sources import Site, Source

    Note = Callable[[SourceError], None]

ROOT = "sys/class/thermal"
LEAST_CELSIUS, GREATEST_CELSIUS = -100.0, 250.0
"""Outside of this a zone says that it has no reading."""
PACKAGE_ZONE = "x86_pkg_temp"

_ZONE = re.compile(r"thermal_zone[0-9]+")
_COOLING = re.compile(r"cooling_device[0-9]+")
_FAN = re.compile(r"fan", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may change about thermal zones."""

    #: Time between two reads (0.1 s and more; ACPI zones take milliseconds each).
    period: Seconds = Seconds(5.0)
    #: Time after which a read is reported LATE
    #: (> 0; at most the period, or 3s where that is longer).
    deadline: Seconds = Seconds(3.0)

    def __post_init__(self) -> None:
        """Refuse times that cannot work."""
        most = max(self.period, 3.0)
        check_bounds(self, period=Bounds(0.1), deadline=Bounds(0.0, most, above=True))


def build(site: Site[Settings]) -> tuple[Source, ...]:
    """One source for all zones, fans and packages.

    Reads: /sys/class/thermal/thermal_zone*/{type,temp}, cooling_device*/{type,cur_state,max_state}
        (Documentation/driver-api/thermal), cpu*/thermal_throttle/package_throttle_total_time_ms
        (Intel, Linux 5.7).
    Raises: SourceError ABSENT with none of them, as in most virtual machines.
    """
    settings, host = site.settings, site.host

    def discover(note: Note) -> list[FileMeter]:
        first_cpus = packages(host)
        meters = [
            *_zones(host, note, only_package=_only(first_cpus)),
            *_fans(host, note),
            *_throttles(host, first_cpus),
        ]
        if not meters:
            detail = f"{ROOT}: no thermal zone, no fan, no throttle time"
            raise SourceError(Reason.ABSENT, detail)
        return meters

    return (FileSource("thermal", settings.period, settings.deadline, site.clock, discover),)


def _only(first_cpus: dict[int, int]) -> str | None:
    return f"package-{next(iter(first_cpus))}" if len(first_cpus) == 1 else None


def _kinds(host: Host, pattern: re.Pattern[str], note: Note) -> Iterator[tuple[str, str, str]]:
    """Folder, type, and type made unique, of everything that matches."""
    seen: Counter[str] = Counter()
    for name in host.names(ROOT) if host.has(ROOT) else ():
        if not pattern.fullmatch(name):
            continue
        try:
            kind = plain(host.text(f"{ROOT}/{name}/type"), "unnamed")
        except SourceError as error:
            note(error)
            continue
        seen[kind] += 1
        yield f"{ROOT}/{name}", kind, kind if seen[kind] == 1 else f"{kind}-{seen[kind]}"


def _zones(host: Host, note: Note, *, only_package: str | None) -> Iterator[FileMeter]:
    for folder, kind, name in _kinds(host, _ZONE, note):
        labels = ("board", "thermal", name)
        if kind == name == PACKAGE_ZONE and only_package is not None:
            labels = ("cpu", only_package, "zone")
        file = host.keep(f"{folder}/temp")
        channel = Channel(TEMPERATURE, labels, Measures.LEVEL)
        yield FileMeter(channel, (file,), _celsius_reader(file))


def _celsius_reader(file: KeptFile) -> Callable[[], float]:
    def celsius() -> float:
        value = celsius_from_millidegrees(file.integer())
        if not LEAST_CELSIUS <= value <= GREATEST_CELSIUS:
            detail = f"{file.path}: {value:.0f} degrees Celsius: the zone has no reading"
            raise SourceError(Reason.UNSUPPORTED, detail)
        return value

    return celsius


def _fans(host: Host, note: Note) -> Iterator[FileMeter]:
    """Cooling devices that are fans, 0 (off) to 1 (the highest level there is)."""
    for folder, kind, name in _kinds(host, _COOLING, note):
        if _FAN.search(kind):
            level, top = host.keep(f"{folder}/cur_state"), host.keep(f"{folder}/max_state")
            channel = Channel(FAN_SPEED_RATIO, ("cooling", name), Measures.LEVEL)
            yield FileMeter(channel, (level, top), _share_reader(level, top))


def _share_reader(level: KeptFile, top: KeptFile) -> Callable[[], float]:
    def share() -> float:
        now, most = level.integer(), top.integer()
        if not 0 <= now <= most or most == 0:
            detail = f"{level.path}: level {now} of {most} is no share"
            raise SourceError(Reason.UNSUPPORTED, detail)
        return now / most

    return share


def _throttles(host: Host, first_cpus: dict[int, int]) -> Iterator[FileMeter]:
    """Every CPU of a package shows the same time: its first CPU stands for it."""
    for package, cpu in first_cpus.items():
        path = f"{CPUS}/cpu{cpu}/thermal_throttle/package_throttle_total_time_ms"
        if host.has(path):
            file = host.keep(path)
            labels = ("cpu", f"package-{package}", "thermal")
            channel = Channel(THROTTLE, labels, Measures.LEVEL)
            yield FileMeter(channel, (file,), scaled(file, seconds_from_milliseconds))
