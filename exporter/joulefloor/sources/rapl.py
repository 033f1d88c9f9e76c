"""RAPL energy counters and power limits of CPU packages, for every machine with powercap.

The kernel driver intel_rapl serves Intel (MSR and TPMI) and AMD alike. `package` contains `core`
and `uncore`; on servers `dram` is beside it; `psys` is meant to be the whole platform. Names repeat
on every socket, so a zone is known by its own name and that of the package above it, never by its
number: numbers change when zones come and go. The MMIO control type shows the same silicon again:
its channels carry the same component and device with source "rapl-mmio"; the ledger elects one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from joulefloor.bounds import POSITIVE, Bounds, check_bounds
from joulefloor.catalogue import COMPONENT_ENERGY, COMPONENT_POWER_LIMIT, NODE_ENERGY, PART_ENERGY
from joulefloor.errors import Reason, SourceError
from joulefloor.filesource import FileMeter, FileSource
from joulefloor.model import Channel, Measures
from joulefloor.units import Seconds, Watts, joules_from_microjoules, watts_from_microwatts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from joulefloor.catalogue import Metric
    from joulefloor.host import Host, KeptFile
    from joulefloor.sources import Site, Source

ROOT = "sys/class/powercap"
DEVICES = "sys/devices/virtual/powercap"
LIMIT_FACTOR = 3.0
"""Power peaks above the stated limits; this much above them is no longer believed."""

_ZONE = re.compile(r"(intel-rapl|intel-rapl-mmio):([0-9]+)(?::([0-9]+))?")
_TOP = re.compile(r"(package-[0-9]{1,4})(-die-[0-9]{1,4})?|psys")
_CHILDREN = frozenset({"core", "uncore", "dram"})
_LABELS = {"intel-rapl": "rapl", "intel-rapl-mmio": "rapl-mmio"}
_COMPONENTS = {"package": "cpu", "dram": "dram"}
_LIMITS = {"long_term": "enforced", "short_term": "short_term"}
_CONSTRAINTS = range(3)

_PACKAGE_WATTS = (100.0, 2_000.0)
_WATTS = {"dram": (50.0, 500.0), "psys": (500.0, 10_000.0)}
"""Least and greatest bound on the power of a zone, W."""

_NO_ZONE = (
    f"{ROOT}: no RAPL zone: a virtual machine, a CPU without energy counters, or a kernel module "
    "that is not loaded (modprobe intel_rapl_msr)"
)
_NO_LIMIT = f"{ROOT}: no zone states a power limit, as usual on AMD"
_MASKED = (
    "is there but empty, as container runtimes mask it: mount the host's / or its /sys and /proc "
    "under one folder, read-only, and pass that folder as --path.rootfs"
)
_DENIED = (
    "only root may read energy counters: run as uid 0 (no capability needed, all may be dropped), "
    "or let a group read them: chgrp GROUP, chmod g+r on every energy_uj after each boot"
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may change about RAPL."""

    #: Time between two reads of the counters (0.1 s to 30 s: the fastest ones wrap after minutes).
    period: Seconds = Seconds(1.0)
    #: Time after which a read of the counters is reported LATE
    #: (> 0; at most the period, or 500ms where that is longer).
    deadline: Seconds = Seconds(0.5)
    #: Time between two reads of the power limits (1 s and more).
    limits_period: Seconds = Seconds(15.0)
    #: Time after which a read of the power limits is reported LATE (> 0).
    limits_deadline: Seconds = Seconds(2.0)

    def __post_init__(self) -> None:
        """Refuse times that cannot work."""
        check_bounds(
            self,
            period=Bounds(0.1, 30.0),
            deadline=Bounds(0.0, max(self.period, 0.5), above=True),
            limits_period=Bounds(1.0),
            limits_deadline=POSITIVE,
        )


def build(site: Site[Settings]) -> tuple[Source, ...]:
    """Counters at the fast period and limits at the slow one.

    Reads: /sys/class/powercap/intel-rapl*:* (Linux 3.13): name, energy_uj, max_energy_range_uj,
        constraint_*_name, constraint_*_power_limit_uw, constraint_*_max_power_uw.
    Raises: SourceError ABSENT without any zone, DENIED when no counter may be read.
    """
    settings, host = site.settings, site.host

    def counters(note: Callable[[SourceError], None]) -> list[FileMeter]:
        meters = [meter for zone in find_zones(host, note) for meter in _counter(host, zone)]
        if not meters:
            raise SourceError(Reason.ABSENT, _why_nothing(host))
        return meters

    def limits(note: Callable[[SourceError], None]) -> list[FileMeter]:
        zones = find_zones(host, note)
        meters = list(_limits(host, zones))
        if not meters:
            raise SourceError(Reason.ABSENT, _NO_LIMIT if zones else _why_nothing(host))
        return meters

    return (
        FileSource("rapl", settings.period, settings.deadline, site.clock, counters),
        FileSource(
            "rapl-limits", settings.limits_period, settings.limits_deadline, site.clock, limits
        ),
    )


class Zone(NamedTuple):
    """One powercap zone: where it is, who shows it, and the names of itself and its package."""

    path: str
    label: str
    name: str
    package: str

    @property
    def kind(self) -> str:
        """One of package, psys, core, uncore, dram."""
        return "package" if self.name.startswith("package") else self.name

    def positive(self, host: Host, what: str) -> int | None:
        """A number above 0 that merely describes the zone; None when it states none."""
        try:
            value = host.integer(f"{self.path}/{what}")
        except SourceError:
            return None
        return value if value > 0 else None


def find_zones(host: Host, note: Callable[[SourceError], None]) -> list[Zone]:
    """All RAPL zones, packages first and MSR before MMIO, whatever order the folder has.

    Other control types (dtpm, scmi, idle-inject) measure nothing of ours and are passed over.

    Raises:
        SourceError: DENIED when the folder may not be listed.
    """
    found = [match for link in _links(host) if (match := _ZONE.fullmatch(link))]
    found.sort(key=lambda match: (match[3] is not None, match[1]))
    zones: dict[tuple[str, str], Zone] = {}
    children: list[Zone] = []
    for control, number, child in (match.groups() for match in found):
        path = f"{ROOT}/{control}:{number}" + (f":{child}" if child else "")
        try:
            name = host.text(f"{path}/name")
        except SourceError as error:
            if host.has(path):
                note(error)
            continue
        above = zones.get((control, number))
        if child and above and name in _CHILDREN:
            children.append(Zone(path, above.label, name, above.package))
        elif not child and _TOP.fullmatch(name):
            zones[control, number] = Zone(path, _LABELS[control], name, name)
        else:
            detail = f"{path}: no RAPL zone is known by the name {name[:40]!r} at this place"
            note(SourceError(Reason.UNSUPPORTED, detail))
    return [*zones.values(), *children]


def _links(host: Host) -> list[str]:
    try:
        return host.names(ROOT)
    except SourceError as error:
        if error.reason is Reason.DENIED:
            raise
        return []


def _why_nothing(host: Host) -> str:
    """The likeliest reason for finding no zone: masked by a container runtime, or not there."""
    for folder in (DEVICES, ROOT):
        if host.has(folder) and not host.names(folder):
            return f"{folder} {_MASKED}"
    if any(_ZONE.fullmatch(link) and not host.has(f"{ROOT}/{link}") for link in _links(host)):
        return f"{DEVICES} {_MASKED}"
    return _NO_ZONE


def _counter(host: Host, zone: Zone) -> Iterator[FileMeter]:
    """The energy counter of a zone, if it has one."""
    path = f"{zone.path}/energy_uj"
    if not host.has(path):
        return
    span = zone.positive(host, "max_energy_range_uj")
    metric, labels = _series(zone)
    package, die, _ = zone.package.partition("-die-")
    twins = f"{zone.label} {zone.kind} {package}" if die and metric is COMPONENT_ENERGY else ""
    channel = Channel(
        metric,
        (*labels, "measured"),
        Measures.ENERGY,
        wraps_at_joules=None if span is None else joules_from_microjoules(span),
        max_watts=_bound(host, zone),
        twins=twins,
    )
    file = host.keep(path)
    yield FileMeter(channel, (file,), lambda: _joules(file))


def _series(zone: Zone) -> tuple[Metric, tuple[str, ...]]:
    """What the zone's counter is called, up to the label `method`."""
    if zone.kind == "psys":
        return NODE_ENERGY, (f"{zone.label}-psys",)
    if zone.kind in _COMPONENTS:
        return COMPONENT_ENERGY, (_COMPONENTS[zone.kind], zone.package, zone.label)
    return PART_ENERGY, ("cpu", zone.package, zone.name, zone.label)


def _joules(file: KeptFile) -> float:
    try:
        return joules_from_microjoules(file.integer())
    except SourceError as error:
        if error.reason is Reason.DENIED:
            raise SourceError(Reason.DENIED, f"{file.path}: {_DENIED}") from None
        raise


def _bound(host: Host, zone: Zone) -> Watts:
    """Power above which a step of the counter is not believed.

    Limits may be raised while we run and firmware states nonsense, so what they suggest is held
    between a least bound and the one that serves where nothing is stated.
    """
    least, greatest = _WATTS.get(zone.kind, _PACKAGE_WATTS)
    stated = [
        watts_from_microwatts(microwatts)
        for number in _CONSTRAINTS
        for what in ("max_power_uw", "power_limit_uw")
        if (microwatts := zone.positive(host, f"constraint_{number}_{what}"))
    ]
    suggested = LIMIT_FACTOR * max(stated, default=greatest)
    return Watts(min(greatest, max(least, suggested)))


def _limits(host: Host, zones: list[Zone]) -> Iterator[FileMeter]:
    """Power limits of packages and their memory; from MMIO only where MSR states none."""
    seen: set[tuple[str, str]] = set()
    for zone in zones:
        component = _COMPONENTS.get(zone.kind)
        if component is None or (component, zone.package) in seen:
            continue
        for meter in _limits_of(host, zone, component):
            seen.add((component, zone.package))
            yield meter


def _limits_of(host: Host, zone: Zone, component: str) -> Iterator[FileMeter]:
    for number in _CONSTRAINTS:
        limit = _LIMITS.get(host.text_or(f"{zone.path}/constraint_{number}_name", ""))
        if limit is None:
            continue
        whats = {limit: "power_limit_uw"} | ({"max": "max_power_uw"} if limit == "enforced" else {})
        for label, what in whats.items():
            # 0 says that there is no limit, or that the CPU does not tell.
            if zone.positive(host, f"constraint_{number}_{what}"):
                file = host.keep(f"{zone.path}/constraint_{number}_{what}")
                labels = (component, zone.package, label)
                channel = Channel(COMPONENT_POWER_LIMIT, labels, Measures.LEVEL)
                yield FileMeter(channel, (file,), _limit_reader(file))


def _limit_reader(file: KeptFile) -> Callable[[], float]:
    def limit() -> float:
        watts = watts_from_microwatts(file.integer())
        if watts <= 0:
            raise SourceError(Reason.UNSUPPORTED, f"{file.path}: no limit is set")
        return watts

    return limit
