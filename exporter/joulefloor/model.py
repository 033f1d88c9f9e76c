"""The values that flow through joulefloor: channel, reading, fault, batch, health, snapshot.

All are immutable. The ones made anew for every reading are NamedTuples, which cost a third of a
frozen dataclass to make; a Channel is made once and compared by identity.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from joulefloor.catalogue import Metric
    from joulefloor.errors import Reason

DEFAULT_MAX_WATTS = 5_000.0
"""Plausibility bound of a meter whose limit nobody states; it catches absurdity, not noise."""


class Measures(Enum):
    """What a channel's number is; stated by its source, never guessed from values."""

    ENERGY = "cumulative joules, any base, may wrap"
    POWER = "watts now, to be integrated"
    BUSY = "cumulative seconds of use; published as seconds per second, 0 to 1"
    LEVEL = "published as read: a gauge, or a counter that is not energy"
    USE = "cumulative use of a component by a workload; divides its energy, not published"
    HOLD = "what a workload holds of a component or device now; divides its energy as well"


@dataclass(frozen=True, slots=True, eq=False)
class Channel:
    """One thing a source can read, stated at discovery.

    `metric` is the energy counter for ENERGY and POWER, the gauge for BUSY, the series itself for
    LEVEL, what it divides for USE and HOLD; `labels` are values in the metric's label order.
    `wraps_at_joules` is the range of an ENERGY counter, None if it cannot wrap. `max_watts` is a
    generous bound on real power (> 0).
    `twins` names a group of ENERGY channels of which several may mirror one physical counter.
    `witnessed` says that the meter is known to repeat its last value when it fails, so that a
    value which never changes is not to be believed.
    """

    metric: Metric
    labels: tuple[str, ...]
    measures: Measures
    wraps_at_joules: float | None = None
    max_watts: float = DEFAULT_MAX_WATTS
    twins: str = ""
    witnessed: bool = False

    @property
    def key(self) -> tuple[str, tuple[str, ...]]:
        """Name and labels: what stays the same when a source discovers the meter again."""
        return (self.metric.name, self.labels)

    def label(self, name: str) -> str:
        """Value of one label, empty if the metric has no such label."""
        names = self.metric.labels
        return self.labels[names.index(name)] if name in names else ""


class Workload(NamedTuple):
    """Who energy is billed to; label values.

    `kind`: pod, container, job, guest or service, or one of the reserved kinds below. `name` is
    that of the pod or of what stands in its place.
    """

    kind: str
    namespace: str = ""
    name: str = ""


SYSTEM = Workload("system")
"""Used by what is no workload: the kernel, the services of the machine."""
IDLE = Workload("idle")
"""Nobody used it and nobody held it."""
UNATTRIBUTED = Workload("unattributed")
"""Nobody can say, or the policy bills nobody."""
PROCESS = "process"
"""Parts of a device that are processes on it are named `process:PID`."""
EVERY_DEVICE = "*"
"""Device of the HOLD reading that says: the list is complete, what is not on it is free."""
UNKNOWN_DEVICE = "?"
"""Before the name of a device that is held while nobody can tell which one it is."""


class Reading(NamedTuple):
    """A successful read: the value in base units at an instant of the monotonic clock."""

    channel: Channel
    value: float
    at_ns: int


class Fault(NamedTuple):
    """A channel, or the whole source (channel None), gave nothing; `detail` is for people."""

    channel: Channel | None
    reason: Reason
    detail: str
    at_ns: int


class Batch(NamedTuple):
    """Everything one read of a source brought."""

    readings: tuple[Reading, ...]
    faults: tuple[Fault, ...] = ()


class Health(NamedTuple):
    """State of a source, beside its data. `up` is None when the machine does not have it."""

    name: str
    up: bool | None
    reason: Reason | None = None
    detail: str = ""
    errors: tuple[tuple[Reason, int], ...] = ()
    faults: tuple[Fault, ...] = ()
    channels: int = 0
    read_seconds: float = 0.0
    last_success_unix_s: float = 0.0


class Sample(NamedTuple):
    """One exposed number; counters and gauges alike."""

    metric: Metric
    labels: tuple[str, ...]
    value: float


class Family(NamedTuple):
    """All series of one metric, in slots `start` to `start + len(series)` of the values."""

    metric: Metric
    series: tuple[tuple[str, ...], ...]
    start: int


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Which series there are and in which slot each value stands; shared while nothing changes."""

    families: tuple[Family, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What one tick knew: the only thing exposition sees. A value of None is an absent series."""

    seq: int
    at_ns: int
    unix_s: float
    layout: Layout
    values: tuple[float | None, ...]
    health: tuple[Health, ...] = field(default=())

    def samples(self) -> Iterator[Sample]:
        """Every present series, in exposition order."""
        for family in self.layout.families:
            for offset, labels in enumerate(family.series):
                value = self.values[family.start + offset]
                if value is not None:
                    yield Sample(family.metric, labels, value)


EMPTY = Snapshot(0, 0, 0.0, Layout(), ())
"""What is published before the first tick."""
