"""The contract of a source: read hardware, say what failed, keep no history.

A source is one file here (or in another package) with a `Settings` dataclass and a function
`build(site) -> tuple[Source, ...]`, named by an entry point of the group `joulefloor.sources`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from joulefloor.errors import Reason, SourceError
from joulefloor.model import Batch, Fault, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from joulefloor.clock import Clock
    from joulefloor.host import Host
    from joulefloor.model import Channel

S = TypeVar("S")

RESCAN_SECONDS = 60.0
"""How often a source looks for meters that came or went without an error telling."""


class Source(Protocol):
    """What the sampler drives, in threads of their own, so that every call may block."""

    @property
    def name(self) -> str:
        """Label value `source` of its health series; lower case, words joined by a dash."""

    @property
    def period_s(self) -> float:
        """Seconds between reads (> 0)."""

    @property
    def deadline_s(self) -> float:
        """Seconds after which an unanswered read is reported LATE."""

    def channels(self) -> Sequence[Channel]:
        """What it can read now, found by looking at the machine.

        Raises:
            SourceError: ABSENT when the machine does not have it, DENIED when it may not look.
        """

    def read(self) -> Batch:
        """One reading or fault per channel.

        Raises:
            SourceError: only when the whole source is gone.
        """

    def close(self) -> None:
        """Let go of descriptors and devices; may be called twice, and before `read` again."""


class Site(NamedTuple, Generic[S]):
    """What a source is built from: the machine's files, the clock and its own settings."""

    host: Host
    clock: Clock
    settings: S


class Taking:
    """Collects one read: a channel gives a Reading or a Fault, and none stops another."""

    __slots__ = ("_clock", "faults", "readings")

    def __init__(self, clock: Clock) -> None:
        """Start with nothing taken."""
        self._clock = clock
        self.readings: list[Reading] = []
        self.faults: list[Fault] = []

    def take(self, channel: Channel, read: Callable[[], float]) -> None:
        """Read one channel; a SourceError becomes its Fault."""
        try:
            value = read()
        except SourceError as error:
            self.fault(channel, error)
        else:
            self.readings.append(Reading(channel, value, self._clock.monotonic_ns()))

    def fault(self, channel: Channel | None, error: SourceError) -> None:
        """Note why a channel, or something that belongs to none (None), gave nothing."""
        self.faults.append(Fault(channel, error.reason, error.detail, self._clock.monotonic_ns()))

    @property
    def rescan(self) -> bool:
        """Whether a fault suggests that meters have moved: something is gone or unreadable."""
        moved = (Reason.ABSENT, Reason.LOST, Reason.GARBLED)
        return any(fault.reason in moved for fault in self.faults)

    def batch(self) -> Batch:
        """Everything taken, frozen."""
        return Batch(tuple(self.readings), tuple(self.faults))
