"""Power and energy from hwmon chips whose place in the machine is known.

A watt is only worth adding up when it is known what draws it, so a table says which driver measures
what; everything else with a power sensor (shunt monitors such as ina2xx, PMBus rails, batteries,
the AMD APU's socket power that RAPL already shows, SSD and network card sensors) is left out:
such rails overlap each other and the components in ways that only the board's designer knows.

- ACPI power meter: the whole machine, unless firmware names a rail. NVIDIA Grace names its rails by
  `power1_oem_info`; they nest: Module (with the GPU) > Grace (with LPDDR5X) > CPU, SysIO. A Grace
  socket is a CPU package; its CPU and SysIO rails are parts of it; Module rails, if every socket
  has one, add up to a node meter. A failing meter repeats its last value: channels are `witnessed`.
- amd_hsmp_hwmon, amd_energy: CPU packages. amdgpu, i915, xe: discrete GPUs, by PCI address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from joulefloor.bounds import POSITIVE, Bounds, check_bounds
from joulefloor.catalogue import COMPONENT_ENERGY, COMPONENT_POWER_LIMIT, NODE_ENERGY, PART_ENERGY
from joulefloor.chips import HWMON, find_chips, package_of_node, seats
from joulefloor.errors import Reason, SourceError
from joulefloor.filesource import FileMeter, FileSource, scaled
from joulefloor.host import parse_integer
from joulefloor.model import Channel, Measures
from joulefloor.units import Seconds, joules_from_microjoules, watts_from_microwatts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from joulefloor.catalogue import Metric
    from joulefloor.chips import Chip
    from joulefloor.host import Host, KeptFile
    from joulefloor.sources import Site, Source

    Note = Callable[[SourceError], None]

NODE_MAX_WATTS = 40_000.0
MODULE_MAX_WATTS = 6_000.0
PACKAGE_MAX_WATTS = 2_000.0
GPU_MAX_WATTS = 3_000.0
UNKNOWN = 0xFFFFFFFF
"""What ACPI and HSMP answer, in mW, when they do not know."""

_RAIL = re.compile(r"(\w+) Power Socket ([0-9]{1,2})")
_RAIL_PARTS = {"CPU": "core", "SysIO": "sysio"}
_SOCKET_LABEL = re.compile(r"Esocket([0-9]{1,3})")
_PCI = re.compile(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_NO_METER = f"{HWMON}: no chip that measures the power of the machine, its CPUs or its GPUs"
_NO_LIMIT = f"{HWMON}: no chip that states a power limit"

_LIMITS = {
    "amd_hsmp_hwmon": {"enforced": "power1_cap", "max": "power1_cap_max"},
    "amdgpu": {
        "enforced": "power1_cap",
        "default": "power1_cap_default",
        "min": "power1_cap_min",
        "max": "power1_cap_max",
    },
    "i915": {"enforced": "power1_max", "default": "power1_rated_max"},
    "xe": {"enforced": "power1_max", "default": "power1_rated_max"},
}


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may change about power meters behind hwmon."""

    #: Time between two reads of the meters (0.1 s to 30 s).
    period: Seconds = Seconds(1.0)
    #: Time after which a read of the meters is reported LATE
    #: (> 0; at most the period, or 800ms where that is longer).
    deadline: Seconds = Seconds(0.8)
    #: Time between two reads of the power limits (1 s and more).
    limits_period: Seconds = Seconds(15.0)
    #: Time after which a read of the power limits is reported LATE (> 0).
    limits_deadline: Seconds = Seconds(2.0)
    #: ACPI power meters, by device, that together carry the whole machine (several PSUs).
    node_meters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse times that cannot work."""
        check_bounds(
            self,
            period=Bounds(0.1, 30.0),
            deadline=Bounds(0.0, max(self.period, 0.8), above=True),
            limits_period=Bounds(1.0),
            limits_deadline=POSITIVE,
        )


def build(site: Site[Settings]) -> tuple[Source, ...]:
    """Meters at the fast period and limits at the slow one.

    Reads: /sys/class/hwmon/hwmon*/ and hwmon*/device/: name, power*_average, power*_input,
        energy*_input, power1_oem_info, power1_is_battery, power1_cap* (Documentation/hwmon).
    Raises: SourceError ABSENT without any meter of known meaning.
    """
    settings, host = site.settings, site.host

    def meters(note: Note) -> list[FileMeter]:
        return _all(_meters(host, find_chips(host, note), settings.node_meters, note), _NO_METER)

    def limits(note: Note) -> list[FileMeter]:
        return _all(_limits(host, find_chips(host, note), note), _NO_LIMIT)

    return (
        FileSource("hwmon", settings.period, settings.deadline, site.clock, meters),
        FileSource(
            "hwmon-limits", settings.limits_period, settings.limits_deadline, site.clock, limits
        ),
    )


def _all(meters: Iterator[FileMeter], why_not: str) -> list[FileMeter]:
    found = list(meters)
    if not found:
        raise SourceError(Reason.ABSENT, why_not)
    return found


def _meters(
    host: Host, chips: list[Chip], node_meters: tuple[str, ...], note: Note
) -> Iterator[FileMeter]:
    acpi = [chip for chip in chips if chip.name == "power_meter" or _is_acpi(chip)]
    yield from _acpi(host, acpi, node_meters, note)
    hsmp = [chip for chip in chips if chip.name == "amd_hsmp_hwmon"]
    for seat in seats(host, hsmp, note):
        labels = ("cpu", seat.package, "hsmp")
        yield _power(host, seat.chip, COMPONENT_ENERGY, labels, PACKAGE_MAX_WATTS)
    for chip in chips:
        if chip.name == "amd_energy":
            yield from _amd_energy(host, chip)
        elif chip.name in {"i915", "xe"}:
            yield from _intel_gpu(host, chip, note)
        elif chip.name == "amdgpu" and _is_discrete(chip, note):
            labels = ("gpu", chip.device, "amdgpu")
            yield _power(host, chip, COMPONENT_ENERGY, labels, GPU_MAX_WATTS, least=0)


def _is_acpi(chip: Chip) -> bool:
    return not chip.name and chip.device.startswith("ACPI000D")


def _is_discrete(chip: Chip, note: Note) -> bool:
    """Discrete GPUs have one cap; an APU has none, or two, and its power includes the CPU."""
    if "power1_cap" in chip.attributes and "power2_cap" not in chip.attributes:
        return _has_address(chip, note)
    return False


def _has_address(chip: Chip, note: Note) -> bool:
    if _PCI.fullmatch(chip.device):
        return True
    note(SourceError(Reason.UNSUPPORTED, f"{chip.link}: a GPU without PCI address; left out"))
    return False


def _acpi(
    host: Host, chips: list[Chip], node_meters: tuple[str, ...], note: Note
) -> Iterator[FileMeter]:
    """Rails that firmware names, else the machine's power meter."""
    rails: dict[tuple[str, int], Chip] = {}
    meters: list[Chip] = []
    for chip in chips:
        if (
            1 not in chip.numbers("power")
            or host.text_or(chip.path("power1_is_battery"), "") == "1"
        ):
            continue
        try:
            match = _RAIL.fullmatch(_oem_info(host, chip))
        except SourceError as error:
            note(error)
            continue
        if match:
            rails.setdefault((match[1], int(match[2])), chip)
        elif not node_meters or chip.device in node_meters:
            meters.append(chip)
    yield from _grace(host, rails, note)
    if not meters:
        return
    if rails or (len(meters) > 1 and not node_meters):
        names = ", ".join(chip.device for chip in meters)
        detail = f"{HWMON}: nothing says what {names} measure; name those of the whole machine"
        note(SourceError(Reason.UNSUPPORTED, f"{detail} in hwmon.node_meters"))
        return
    yield _sum(host, meters, "acpi", NODE_MAX_WATTS)


def _oem_info(host: Host, chip: Chip) -> str:
    """What firmware calls the meter; a rail whose name cannot be read is not the machine."""
    if "power1_oem_info" not in chip.attributes:
        return ""
    return host.text(chip.path("power1_oem_info"))


def _grace(host: Host, rails: dict[tuple[str, int], Chip], note: Note) -> Iterator[FileMeter]:
    sockets = {socket for _, socket in rails}
    for (rail, socket), chip in sorted(rails.items()):
        cpu = ("cpu", f"package-{socket}")
        if rail == "Grace":
            labels = (*cpu, "grace")
            yield _power(host, chip, COMPONENT_ENERGY, labels, PACKAGE_MAX_WATTS, witnessed=True)
        elif rail in _RAIL_PARTS:
            part = (*cpu, _RAIL_PARTS[rail], "grace")
            yield _power(host, chip, PART_ENERGY, part, PACKAGE_MAX_WATTS, witnessed=True)
        elif rail != "Module":
            note(SourceError(Reason.UNSUPPORTED, f"{chip.link}: a rail of unknown place: {rail}"))
    modules = [chip for (rail, _), chip in sorted(rails.items()) if rail == "Module"]
    if modules and len(modules) == len(sockets):
        yield _sum(host, modules, "grace-module", MODULE_MAX_WATTS * len(modules))
    elif modules:
        detail = f"{HWMON}: {len(modules)} module rails for {len(sockets)} sockets: no sum of them"
        note(SourceError(Reason.UNSUPPORTED, detail))


def _sum(host: Host, chips: list[Chip], source: str, max_watts: float) -> FileMeter:
    """One node meter of several rails; with one of them missing there is no sum."""
    rails = [
        _power(host, chip, NODE_ENERGY, (source,), max_watts, witnessed=True) for chip in chips
    ]
    files = tuple(file for rail in rails for file in rail.files)
    return FileMeter(rails[0].channel, files, lambda: sum(rail.read() for rail in rails))


def _power(
    host: Host,
    chip: Chip,
    metric: Metric,
    labels: tuple[str, ...],
    max_watts: float,
    *,
    witnessed: bool = False,
    least: int = 1,
) -> FileMeter:
    """A power sensor, its average where it has one, since that misses nothing between two reads.

    `least` is the lowest believable microwatts: a machine that runs us cannot draw 0 W.
    """
    average = "power1_average" in chip.attributes
    if "power1_input" in chip.attributes and average:
        average = host.text_or(chip.path("power1_average_interval"), "") != "0"
    file = host.keep(chip.path("power1_average" if average else "power1_input"))
    channel = Channel(
        metric, (*labels, "measured"), Measures.POWER, max_watts=max_watts, witnessed=witnessed
    )
    return FileMeter(channel, (file,), lambda: _watts(file, least))


def _watts(file: KeptFile, least: int) -> float:
    text = file.read()
    if text.strip() != b"unknown":
        microwatts = parse_integer(text, file.path)
        if least <= microwatts < UNKNOWN * 1000 and microwatts != UNKNOWN:
            return watts_from_microwatts(microwatts)
    detail = f"{file.path}: the meter says {text[:20]!r}, which is no power: it does not know"
    raise SourceError(Reason.UNSUPPORTED, detail)


def _amd_energy(host: Host, chip: Chip) -> Iterator[FileMeter]:
    """Sockets of the amd_energy driver (Linux 5.8 to 5.12), which shows one per NUMA node.

    Several nodes of a package mirror its one counter: the first stands for it.
    """
    taken: set[int] = set()
    for number in chip.numbers("energy"):
        match = _SOCKET_LABEL.fullmatch(host.text_or(chip.path(f"energy{number}_label"), ""))
        if match is None:
            continue
        package = package_of_node(host, int(match[1]))
        package = int(match[1]) if package is None else package
        if package not in taken:
            taken.add(package)
            labels = ("cpu", f"package-{package}", "amd-energy")
            file = host.keep(chip.path(f"energy{number}_input"))
            yield _energy(file, COMPONENT_ENERGY, labels, PACKAGE_MAX_WATTS)


def _intel_gpu(host: Host, chip: Chip, note: Note) -> Iterator[FileMeter]:
    """energy1 is the card; energy2 the GPU package on it, and all there is on some."""
    names = [name for name in ("energy1_input", "energy2_input") if name in chip.attributes]
    if not names or not _has_address(chip, note):
        return
    card, *package = (host.keep(chip.path(name)) for name in names)
    yield _energy(card, COMPONENT_ENERGY, ("gpu", chip.device, chip.name), GPU_MAX_WATTS)
    for file in package:
        labels = ("gpu", chip.device, "package", chip.name)
        yield _energy(file, PART_ENERGY, labels, GPU_MAX_WATTS)


def _energy(file: KeptFile, metric: Metric, labels: tuple[str, ...], max_watts: float) -> FileMeter:
    """An energy counter that its driver keeps in 64 bits: it does not wrap."""
    channel = Channel(metric, (*labels, "measured"), Measures.ENERGY, max_watts=max_watts)
    return FileMeter(channel, (file,), scaled(file, joules_from_microjoules))


def _limits(host: Host, chips: list[Chip], note: Note) -> Iterator[FileMeter]:
    """Power limits of CPU packages and discrete GPUs; one of 0 W says that there is none."""
    hsmp = [chip for chip in chips if chip.name == "amd_hsmp_hwmon"]
    places = [(seat.chip, "cpu", seat.package) for seat in seats(host, hsmp, note)]
    places += [
        (chip, "gpu", chip.device)
        for chip in chips
        if chip.name in {"amdgpu", "i915", "xe"} and _PCI.fullmatch(chip.device)
    ]
    for chip, component, device in places:
        for limit, attribute in _LIMITS[chip.name].items():
            if attribute in chip.attributes and host.text_or(chip.path(attribute), "") != "0":
                file = host.keep(chip.path(attribute))
                labels = (component, device, limit)
                channel = Channel(COMPONENT_POWER_LIMIT, labels, Measures.LEVEL)
                yield FileMeter(channel, (file,), _reader(file))


def _reader(file: KeptFile) -> Callable[[], float]:
    return lambda: _watts(file, 1)
