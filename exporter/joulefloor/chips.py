"""Hwmon chips and CPU packages of a machine, by names that stay when numbers change.

`hwmonN` numbers depend on the order in which drivers load; the `device` link says what the chip
is part of: a PCI address, a platform device, an ACPI object, an NVMe controller.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from joulefloor.errors import Reason, SourceError
from joulefloor.processors import package_of_cpu, packages_of_cpus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from joulefloor.host import Host

HWMON = "sys/class/hwmon"
NODES = "sys/devices/system/node"
LABEL_CHARACTERS = 64

_CLASS = re.compile(r"hwmon[0-9]+")
_SENSOR = re.compile(r"(power|energy|temp|fan)([0-9]{1,4})_(input|average)")
_NUMBER = re.compile(r"[0-9]{1,5}")


class Chip(NamedTuple):
    """One hwmon chip.

    `folder` holds its attributes, `link` is its hwmonN; `name` is what its driver calls it and
    `device` what it is part of, both possibly empty; `identity` is unique here and stable.
    """

    folder: str
    link: str
    name: str
    device: str
    identity: str
    attributes: frozenset[str]

    def numbers(self, kind: str) -> list[int]:
        """Sensors of a kind (power, energy, temp, fan), in numeric order."""
        found = (_SENSOR.fullmatch(attribute) for attribute in self.attributes)
        return sorted({int(match[2]) for match in found if match and match[1] == kind})

    def path(self, attribute: str) -> str:
        """Path of an attribute."""
        return f"{self.folder}/{attribute}"


def find_chips(host: Host, note: Callable[[SourceError], None]) -> list[Chip]:
    """Every hwmon chip, ordered by identity; a folder that cannot be listed is noted.

    Raises:
        SourceError: DENIED when the class of chips may not be listed.
    """
    chips: list[Chip] = []
    taken: set[str] = set()
    for link in host.names(HWMON) if host.has(HWMON) else ():
        if not _CLASS.fullmatch(link):
            continue
        try:
            chip = _chip(host, f"{HWMON}/{link}")
        except SourceError as error:
            note(error)
            continue
        identity, again = chip.identity, 1
        while identity in taken:
            again += 1
            identity = f"{chip.identity}-{again}"
        taken.add(identity)
        chips.append(chip._replace(identity=identity))
    return sorted(chips, key=lambda chip: chip.identity)


def _chip(host: Host, link: str) -> Chip:
    """Attributes are beside `device`, or inside it for drivers of the old registration."""
    try:
        device = host.resolve(f"{link}/device").rpartition("/")[2]
    except SourceError:
        device = ""
    folder, names = link, host.names(link)
    if device and not any(map(_SENSOR.fullmatch, names)):
        folder = f"{link}/device"
        names = host.names(folder)
    name = plain(host.text_or(f"{link}/name", "") or host.text_or(f"{folder}/name", ""))
    identity = (
        device if name and device.startswith(name) else "-".join(filter(None, (name, device)))
    )
    return Chip(folder, link, name, device, identity or "unnamed", frozenset(names))


def plain(text: str, default: str = "") -> str:
    """A name from hardware as a label value: one printable line of bounded length."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return words[:LABEL_CHARACTERS] or default


def packages(host: Host) -> dict[int, int]:
    """First CPU of every CPU package: {package id: CPU number}, ordered; empty when unknown."""
    first: dict[int, int] = {}
    for name, package in packages_of_cpus(host).items():
        first.setdefault(package, int(name[3:]))
    return dict(sorted(first.items()))


def package_of_node(host: Host, node: int) -> int | None:
    """Package id of a NUMA node's CPUs, None when the kernel does not say."""
    match = _NUMBER.match(host.text_or(f"{NODES}/node{node}/cpulist", ""))
    return None if match is None else package_of_cpu(host, f"cpu{int(match[0])}")


class Seat(NamedTuple):
    """A chip that sits in a CPU package: `nth` counts the chips of that package from 0."""

    chip: Chip
    package: str
    nth: int


def seats(host: Host, chips: Sequence[Chip], note: Callable[[SourceError], None]) -> Iterator[Seat]:
    """Spread the chips of one driver over the packages, in order of their devices.

    Chips name neither socket nor package, but are numbered in its order; where they cannot be
    spread evenly, nothing is claimed.
    """
    if not chips:
        return
    ids = list(packages(host))
    each, rest = divmod(len(chips), len(ids)) if ids else (0, 1)
    if rest or not each:
        what = f"{len(chips)} chips {chips[0].name} on {len(ids)} CPU packages"
        note(SourceError(Reason.UNSUPPORTED, f"{HWMON}: {what}: which is whose is not known"))
        return
    for place, chip in enumerate(sorted(chips, key=lambda chip: chip.device)):
        yield Seat(chip, f"package-{ids[place // each]}", place % each)
