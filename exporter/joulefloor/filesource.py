"""A source whose meters are files of the kernel: what rapl, hwmon and thermal have in common.

It knows when to look again (a meter moved, or a minute passed), gives a meter that is found again
the Channel it had before, and reports a meter that went away as LOST. What the files mean is up
to the `discover` function of the source.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from joulefloor.errors import Reason, SourceError
from joulefloor.sources import RESCAN_SECONDS, Taking
from joulefloor.units import nanoseconds_from_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from joulefloor.clock import Clock
    from joulefloor.host import KeptFile
    from joulefloor.model import Batch, Channel

FAULT_RESCAN_SECONDS = 10.0
"""How soon a source looks again after a fault that suggests that meters have moved."""


class FileMeter(NamedTuple):
    """A channel, the files it is read from, and how."""

    channel: Channel
    files: tuple[KeptFile, ...]
    read: Callable[[], float]


class Discover(Protocol):
    """Looks at the machine for meters."""

    def __call__(self, note: Callable[[SourceError], None]) -> Iterable[FileMeter]:
        """Give the meters; `note` what is there but cannot be one.

        Raises:
            SourceError: ABSENT with the likeliest reason when there is none, or DENIED.
        """


def scaled(file: KeptFile, convert: Callable[[int], float]) -> Callable[[], float]:
    """Reading of one integer file in base units."""
    return lambda: convert(file.integer())


class FileSource:
    """A Source over kept files; one read costs one pread per file."""

    def __init__(
        self, name: str, period_s: float, deadline_s: float, clock: Clock, discover: Discover
    ) -> None:
        """Nothing is opened or looked at before the first call."""
        self.name = name
        self.period_s = period_s
        self.deadline_s = deadline_s
        self._clock = clock
        self._discover = discover
        self._known: dict[tuple[str, tuple[str, ...]], Channel] = {}
        self._meters: tuple[FileMeter, ...] = ()
        self._lost: tuple[Channel, ...] = ()
        self._notes: tuple[SourceError, ...] = ()
        self._scanned_ns = 0
        self._moved = False

    def channels(self) -> tuple[Channel, ...]:
        """What was found.

        Raises:
            SourceError: as the source's `discover`; LOST when all it ever had is gone.
        """
        self._find()
        return tuple(meter.channel for meter in self._meters)

    def read(self) -> Batch:
        """One reading or fault per meter; DENIED as a whole when no file may be read."""
        self._find()
        taking = Taking(self._clock)
        for meter in self._meters:
            taking.take(meter.channel, meter.read)
        if not taking.readings and all(fault.reason is Reason.DENIED for fault in taking.faults):
            raise SourceError(Reason.DENIED, taking.faults[0].detail)
        for channel in self._lost:
            labels = " ".join(channel.labels)
            taking.fault(channel, SourceError(Reason.LOST, f"{labels}: the meter is gone"))
        self._moved = taking.rescan
        for note in self._notes:
            taking.fault(None, note)
        return taking.batch()

    def close(self) -> None:
        """Let go of the files; what was found stays known."""
        for meter in self._meters:
            for file in meter.files:
                file.close()
        self._meters = ()
        self._lost = ()

    def _find(self) -> None:
        """Discover when nothing is known, soon after something moved, and once in a while."""
        now_ns = self._clock.monotonic_ns()
        patience_s = FAULT_RESCAN_SECONDS if self._moved else RESCAN_SECONDS
        if self._meters and now_ns - self._scanned_ns < nanoseconds_from_seconds(patience_s):
            return
        gone = {channel.key: channel for channel in self._lost}
        gone |= {meter.channel.key: meter.channel for meter in self._meters}
        self.close()
        self._scanned_ns = now_ns
        meters = self._scan()
        self._meters = tuple(meters.values())
        self._lost = tuple(channel for key, channel in gone.items() if key not in meters)

    def _scan(self) -> dict[tuple[str, tuple[str, ...]], FileMeter]:
        notes: list[SourceError] = []
        meters: dict[tuple[str, tuple[str, ...]], FileMeter] = {}
        try:
            for meter in self._discover(notes.append):
                first = meters.setdefault(meter.channel.key, meter)
                if first is not meter:
                    notes.append(_second(meter, first))
        except SourceError as error:
            if error.reason is Reason.ABSENT and self._known:
                raise SourceError(Reason.LOST, error.detail) from None
            raise
        self._notes = tuple(notes)
        return {
            key: meter._replace(channel=self._same(key, meter)) for key, meter in meters.items()
        }

    def _same(self, key: tuple[str, tuple[str, ...]], meter: FileMeter) -> Channel:
        """The channel this meter had before, unless its counter now has another range."""
        old = self._known.get(key)
        if old is not None and old.wraps_at_joules == meter.channel.wraps_at_joules:
            return old
        self._known[key] = meter.channel
        return meter.channel


def _second(meter: FileMeter, first: FileMeter) -> SourceError:
    """Two meters of one name cannot both be counted, and nothing tells which is right."""
    path, other = meter.files[0].path, first.files[0].path
    return SourceError(Reason.UNSUPPORTED, f"{path}: the same meter as {other}; left out")
