"""Temperatures and fans of hwmon chips, under the component that they belong to.

The sensor called `die` is the one that stands for the silicon of a CPU package or GPU; `inlet` on
the chassis is the air that comes in, the heat sink that every floor refers to. What is on the board
and has no known place goes to component `board` under the chip's identity.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from joulefloor.bounds import Bounds, check_bounds
from joulefloor.catalogue import FAN_SPEED, TEMPERATURE
from joulefloor.chips import HWMON, find_chips, plain, seats
from joulefloor.errors import Reason, SourceError
from joulefloor.filesource import FileMeter, FileSource
from joulefloor.model import Channel, Measures
from joulefloor.units import Seconds, celsius_from_millidegrees

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from joulefloor.chips import Chip
    from joulefloor.host import Host, KeptFile
    from joulefloor.sources import Site, Source

    Note = Callable[[SourceError], None]

LEAST_CELSIUS, GREATEST_CELSIUS = -100.0, 250.0
"""Outside of this no sensor on a computer works: a chip's word for a missing probe."""
GREATEST_RPM = 60_000
"""Fans turn at up to 40,000 rpm; 65,535 is a chip's word for none."""

_PACKAGE = re.compile(r"Package id ([0-9]{1,4})")
_CORE = re.compile(r"(?:Core |Tccd)([0-9]{1,4})")
_INLET = re.compile(r"inlet|ambient|intake", re.IGNORECASE)
_AMD = frozenset({"k10temp", "zenpower"})
_GPUS = frozenset({"amdgpu", "i915", "xe"})
_GPU_SENSORS = {
    "": "die",
    "edge": "die",
    "pkg": "die",
    "junction": "hotspot",
    "mem": "memory",
    "vram": "memory",
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may change about temperatures and fans."""

    #: Time between two reads (0.1 s and more; some chips take milliseconds each).
    period: Seconds = Seconds(5.0)
    #: Time after which a read is reported LATE
    #: (> 0; at most the period, or 3s where that is longer).
    deadline: Seconds = Seconds(3.0)
    #: Whether cores and chiplets are exported beside their package.
    cores: bool = False
    #: Chips to leave alone, as patterns of their identity ("nct6775.*", "drivetemp-*").
    ignore: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse times that cannot work."""
        most = max(self.period, 3.0)
        check_bounds(self, period=Bounds(0.1), deadline=Bounds(0.0, most, above=True))


def build(site: Site[Settings]) -> tuple[Source, ...]:
    """One source for all chips.

    Reads: /sys/class/hwmon/hwmon*/: name, temp*_input, temp*_label, temp*_fault, fan*_input,
        fan*_label, fan*_fault (Documentation/hwmon/sysfs-interface).
    Raises: SourceError ABSENT without any sensor, as in most virtual machines.
    """
    settings, host = site.settings, site.host

    def discover(note: Note) -> list[FileMeter]:
        chips = [chip for chip in find_chips(host, note) if not _is_left_out(chip, settings)]
        meters = list(_meters(host, chips, note, cores=settings.cores))
        if not meters:
            raise SourceError(Reason.ABSENT, f"{HWMON}: no chip has a temperature or a fan")
        return meters

    return (FileSource("sensors", settings.period, settings.deadline, site.clock, discover),)


def _is_left_out(chip: Chip, settings: Settings) -> bool:
    """Chips that mirror a thermal zone are read by the source `thermal`."""
    ignored = any(fnmatchcase(chip.identity, pattern) for pattern in settings.ignore)
    return ignored or chip.device.startswith("thermal_zone")


class Place(NamedTuple):
    """What a chip belongs to; `nth` tells several chips of one package apart."""

    component: str
    device: str
    nth: int = 0


def _meters(host: Host, chips: list[Chip], note: Note, *, cores: bool) -> Iterator[FileMeter]:
    """Every temperature and fan with its labels; names that chips use twice get their number."""
    amd = seats(host, [chip for chip in chips if chip.name in _AMD], note)
    places = {seat.chip.identity: Place("cpu", seat.package, seat.nth) for seat in amd}
    taken: set[tuple[str, ...]] = set()
    unique: tuple[str, ...]
    for chip in chips:
        place = places.get(chip.identity) or _place(host, chip)
        names = _names(host, chip, "temp")
        for number, labels in _temperatures(chip, place, names, cores=cores).items():
            unique = labels if labels not in taken else (*labels[:2], f"{labels[2]}-{number}")
            taken.add(unique)
            yield _meter(host, chip, f"temp{number}", Channel(TEMPERATURE, unique, Measures.LEVEL))
        for number, name in _names(host, chip, "fan").items():
            fan = (place.device, name or f"fan{number}")
            unique = fan if fan not in taken else (fan[0], f"{fan[1]}-{number}")
            taken.add(unique)
            yield _meter(host, chip, f"fan{number}", Channel(FAN_SPEED, unique, Measures.LEVEL))


def _names(host: Host, chip: Chip, kind: str) -> dict[int, str]:
    """What the chip calls its sensors of a kind; empty where it has no name for one."""
    return {
        number: plain(host.text_or(chip.path(f"{kind}{number}_label"), ""))
        for number in chip.numbers(kind)
        if f"{kind}{number}_input" in chip.attributes
    }


def _place(host: Host, chip: Chip) -> Place:
    if chip.name in _GPUS and chip.device:
        return Place("gpu", chip.device)
    for component, folder in (("disk", "nvme"), ("disk", "block"), ("nic", "net")):
        path = f"{chip.link}/device/{folder}"
        if chip.device and host.has(path):
            names = host.names(path)
            if names:
                return Place(component, names[0])
    if chip.name == "nvme" and chip.device:
        return Place("disk", chip.device)
    return Place("board", chip.identity)


def _temperatures(
    chip: Chip, place: Place, names: dict[int, str], *, cores: bool
) -> dict[int, tuple[str, str, str]]:
    """Labels component, device, sensor of every temperature of the chip that is wanted."""
    if chip.name == "coretemp":
        return _intel(names, cores=cores)
    if place.component == "cpu":
        return _amd(place, names, cores=cores)
    found: dict[int, tuple[str, str, str]] = {}
    for number, name in names.items():
        if place.component == "board" and _INLET.search(name):
            found[number] = ("node", "chassis", "inlet")
        elif place.component == "gpu":
            sensor = _GPU_SENSORS.get(name, name) if name or number == 1 else f"temp{number}"
            found[number] = ("gpu", place.device, sensor)
        else:
            sensor = name if place.component == "board" else name.lower().replace(" ", "-")
            found[number] = (place.component, place.device, sensor or f"temp{number}")
    return found


def _intel(names: dict[int, str], *, cores: bool) -> dict[int, tuple[str, str, str]]:
    """The sensor of the package names the package; without it the cores' place is not known."""
    found: dict[int, tuple[str, str, str]] = {}
    ids = [match[1] for name in names.values() if (match := _PACKAGE.fullmatch(name))]
    for number, name in names.items() if ids else ():
        core = _CORE.fullmatch(name)
        if _PACKAGE.fullmatch(name):
            found[number] = ("cpu", f"package-{ids[0]}", "die")
        elif core and cores:
            found[number] = ("cpu", f"package-{ids[0]}", f"core-{core[1]}")
    return found


def _amd(place: Place, names: dict[int, str], *, cores: bool) -> dict[int, tuple[str, str, str]]:
    """Tdie where there is one: Tctl may be raised by an offset to steer fans."""
    dies = [
        number for wanted in ("Tdie", "Tctl", "") for number in names if names[number] == wanted
    ]
    suffix = f"-{place.nth}" if place.nth else ""
    found = dict.fromkeys(dies[:1], ("cpu", place.device, f"die{suffix}"))
    for number, name in names.items() if cores else ():
        core = _CORE.fullmatch(name)
        if core:
            found[number] = ("cpu", place.device, f"ccd-{core[1]}{suffix}")
    return found


def _meter(host: Host, chip: Chip, stem: str, channel: Channel) -> FileMeter:
    file = host.keep(chip.path(f"{stem}_input"))
    fault = host.keep(chip.path(f"{stem}_fault")) if f"{stem}_fault" in chip.attributes else None
    convert = _celsius if channel.metric is TEMPERATURE else _rpm
    files = (file,) if fault is None else (file, fault)
    return FileMeter(channel, files, lambda: convert(file, fault))


def _celsius(file: KeptFile, fault: KeptFile | None) -> float:
    _refuse_broken(fault)
    celsius = celsius_from_millidegrees(file.integer())
    if not LEAST_CELSIUS <= celsius <= GREATEST_CELSIUS:
        detail = f"{file.path}: {celsius:.0f} degrees Celsius: no probe is connected"
        raise SourceError(Reason.UNSUPPORTED, detail)
    return celsius


def _rpm(file: KeptFile, fault: KeptFile | None) -> float:
    _refuse_broken(fault)
    rpm = file.integer()
    if not 0 <= rpm <= GREATEST_RPM:
        raise SourceError(Reason.UNSUPPORTED, f"{file.path}: {rpm} rpm: no fan is connected")
    return float(rpm)


def _refuse_broken(fault: KeptFile | None) -> None:
    if fault is not None and fault.integer() != 0:
        detail = f"{fault.path}: the chip says that this sensor is broken or not connected"
        raise SourceError(Reason.UNSUPPORTED, detail)
