"""Bytes moved by network interfaces and whole disks.

Physical ones only, so that a byte is counted once: bridges, bonds, tunnels and containers' ends
carry what a physical interface carries too, and partitions, device mapper, RAID and loop devices
what a disk does.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from joulefloor import catalogue
from joulefloor.bounds import POSITIVE, check_bounds
from joulefloor.errors import Reason, SourceError
from joulefloor.host import KeptFile, parse_integer
from joulefloor.model import Batch, Channel, Measures
from joulefloor.sources import RESCAN_SECONDS, Taking
from joulefloor.units import Seconds, bytes_from_sectors, nanoseconds_from_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from joulefloor.clock import Clock
    from joulefloor.host import Host
    from joulefloor.sources import Site, Source

INTERFACES = "sys/class/net"
DISKS = "sys/block"
MOST_DEVICES = 64
"""A machine with more interfaces or disks needs a choice; each one costs two series."""
READ_SECTORS = 2
WRITTEN_SECTORS = 6


@dataclass(frozen=True, slots=True)
class Settings:
    """Which devices are read, by name with the wildcards of a shell, and how often."""

    #: Seconds between reads (> 0).
    period: Seconds = Seconds(5.0)
    #: Seconds after which a read counts as late (> 0).
    deadline: Seconds = Seconds(1.0)
    #: Interfaces read although they are not physical, for example "bond*".
    include_interfaces: tuple[str, ...] = ()
    #: Interfaces never read, for example "usb*".
    exclude_interfaces: tuple[str, ...] = ()
    #: Disks read although they are not physical, for example "dm-*".
    include_disks: tuple[str, ...] = ()
    #: Disks never read, for example "sr*".
    exclude_disks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse times that cannot work."""
        check_bounds(self, period=POSITIVE, deadline=POSITIVE)


def build(site: Site[Settings]) -> tuple[Source, ...]:
    """The source links."""
    return (LinksSource(site.host, site.clock, site.settings),)


class _Interface(NamedTuple):
    """A network interface: its two counters."""

    receive: Channel
    transmit: Channel
    receive_file: KeptFile
    transmit_file: KeptFile

    def take(self, taking: Taking) -> None:
        """Each direction on its own."""
        taking.take(self.receive, lambda: _counter(self.receive_file))
        taking.take(self.transmit, lambda: _counter(self.transmit_file))

    def close(self) -> None:
        self.receive_file.close()
        self.transmit_file.close()


class _Disk(NamedTuple):
    """A whole disk: both counters stand in one file."""

    reads: Channel
    writes: Channel
    file: KeptFile

    def take(self, taking: Taking) -> None:
        """Both directions or neither."""
        try:
            fields = self.file.read().split()
            if len(fields) <= WRITTEN_SECTORS:
                raise SourceError(Reason.GARBLED, f"{self.file.path}: too few fields")  # noqa: TRY301
            read = _sectors(fields[READ_SECTORS], self.file.path)
            written = _sectors(fields[WRITTEN_SECTORS], self.file.path)
        except SourceError as error:
            self.file.close()
            taking.fault(self.reads, error)
            taking.fault(self.writes, error)
        else:
            taking.take(self.reads, lambda: read)
            taking.take(self.writes, lambda: written)

    def close(self) -> None:
        self.file.close()


class LinksSource:
    """Bytes received, transmitted, read and written since the device came up.

    Reads: sys/class/net/*/statistics/{rx,tx}_bytes of interfaces with a `device` link (all but lo
    if none has one); sys/block/*/stat of disks with a `device` link (Linux
    Documentation/block/stat.rst: fields 3 and 7 are sectors of 512 bytes). proc/diskstats is not
    used: one read of it returns at most one page, about 40 disks.
    Raises: ABSENT when the machine has neither.
    """

    name = "links"

    def __init__(self, host: Host, clock: Clock, settings: Settings) -> None:
        """Nothing is opened before the first read."""
        self.period_s: float = settings.period
        self.deadline_s: float = settings.deadline
        self._host = host
        self._clock = clock
        self._settings = settings
        self._scan_due_ns = 0
        self._devices: tuple[_Interface | _Disk, ...] = ()
        self._known: dict[tuple[str, ...], Channel] = {}
        self._surplus: tuple[SourceError, ...] = ()

    def channels(self) -> tuple[Channel, ...]:
        """Two for each device."""
        self._scan()
        return tuple(self._known.values())

    def read(self) -> Batch:
        """Cumulative bytes; a device that is gone is a fault of its own."""
        if self._clock.monotonic_ns() >= self._scan_due_ns:
            self._scan()
        taking = Taking(self._clock)
        for device in self._devices:
            device.take(taking)
        if taking.rescan:
            self._scan_due_ns = 0
        for error in self._surplus:
            taking.fault(None, error)
        return taking.batch()

    def close(self) -> None:
        """Let go of every device; the next read looks for them again."""
        for device in self._devices:
            device.close()
        self._scan_due_ns = 0

    def _scan(self) -> None:
        self.close()
        before, self._known = self._known, {}
        surplus: list[SourceError] = []
        settings = self._settings
        interfaces = _chosen(
            _interfaces(self._host, settings.include_interfaces),
            settings.exclude_interfaces,
            "interfaces",
            surplus,
        )
        disks = _chosen(
            _disks(self._host, settings.include_disks), settings.exclude_disks, "disks", surplus
        )
        self._surplus = tuple(surplus)
        self._devices = (
            *(self._interface(name, before) for name in interfaces),
            *(self._disk(name, before) for name in disks),
        )
        if not self._devices:
            raise SourceError(Reason.ABSENT, f"{INTERFACES}, {DISKS}: no interface and no disk")
        due_ns = nanoseconds_from_seconds(RESCAN_SECONDS)
        self._scan_due_ns = self._clock.monotonic_ns() + due_ns

    def _interface(self, name: str, before: dict[tuple[str, ...], Channel]) -> _Interface:
        folder = f"{INTERFACES}/{name}/statistics"
        return _Interface(
            self._channel(("nic", name, "network", "receive"), before),
            self._channel(("nic", name, "network", "transmit"), before),
            self._host.keep(f"{folder}/rx_bytes"),
            self._host.keep(f"{folder}/tx_bytes"),
        )

    def _disk(self, name: str, before: dict[tuple[str, ...], Channel]) -> _Disk:
        return _Disk(
            self._channel(("disk", name, "disk", "read"), before),
            self._channel(("disk", name, "disk", "write"), before),
            self._host.keep(f"{DISKS}/{name}/stat"),
        )

    def _channel(self, labels: tuple[str, ...], before: dict[tuple[str, ...], Channel]) -> Channel:
        channel = before.get(labels) or Channel(catalogue.LINK, labels, Measures.LEVEL)
        self._known[labels] = channel
        return channel


def _counter(file: KeptFile) -> float:
    """A cumulative count (>= 0)."""
    value = file.integer()
    if value < 0:
        raise SourceError(Reason.GARBLED, f"{file.path}: {value} is no count of bytes")
    return value


def _sectors(text: bytes, path: str) -> float:
    """Bytes of a count of sectors (>= 0)."""
    sectors = parse_integer(text, path)
    if sectors < 0:
        raise SourceError(Reason.GARBLED, f"{path}: {sectors} is no count of sectors")
    return bytes_from_sectors(sectors)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _names(host: Host, folder: str) -> list[str]:
    try:
        return host.names(folder)
    except SourceError:
        return []


def _interfaces(host: Host, include: tuple[str, ...]) -> list[str]:
    """Physical interfaces and those asked for; in a container, where none is physical, all."""
    names = [name for name in _names(host, INTERFACES) if host.has(f"{INTERFACES}/{name}/ifindex")]
    physical = {name for name in names if host.has(f"{INTERFACES}/{name}/device")}
    if not physical:
        physical = set(names) - {"lo"}
    return [name for name in names if name in physical or _matches(name, include)]


def _disks(host: Host, include: tuple[str, ...]) -> list[str]:
    """Physical whole disks and those asked for; hidden ones are paths of another one (NVMe)."""
    return [
        name
        for name in _names(host, DISKS)
        if _matches(name, include)
        or (
            host.has(f"{DISKS}/{name}/device")
            and host.text_or(f"{DISKS}/{name}/hidden", "0") != "1"
        )
    ]


def _chosen(
    names: list[str], exclude: tuple[str, ...], what: str, surplus: list[SourceError]
) -> list[str]:
    """Those that are not excluded, as many as are allowed; the rest is noted as a fault."""
    names = [name for name in names if not _matches(name, exclude)]
    if len(names) > MOST_DEVICES:
        detail = (
            f"{len(names)} {what}, the first {MOST_DEVICES} are read; choose with "
            f"sources.links.exclude_{what}"
        )
        surplus.append(SourceError(Reason.UNSUPPORTED, detail))
    return names[:MOST_DEVICES]
