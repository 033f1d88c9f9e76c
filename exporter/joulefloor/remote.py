"""A device that a worker process reads, as the daemon knows it: its channels and its last round."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any, NamedTuple

from joulefloor import catalogue
from joulefloor.errors import Reason
from joulefloor.model import Batch, Channel, Fault, Measures, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

METRICS = {metric.name: metric for metric in catalogue.METRICS}
MOST_KNOWN = 1_000
"""Channels remembered per unit; instances and processes may come and go without end."""


class Divided(NamedTuple):
    """The reading of a device's own counter up to which its joules are divided among its parts."""

    joules: float
    at_ns: int

    @classmethod
    def of(cls, text: str) -> Divided:
        """From what `str` gives, `J@NS`.

        Raises:
            ValueError: it is not.
        """
        joules, _, at_ns = text.partition("@")
        return cls(float(joules), int(at_ns))

    def __str__(self) -> str:
        """As a word of a command line, exact."""
        return f"{self.joules!r}@{self.at_ns}"


class Lives:
    """A counter that a worker adds up itself, and begins at 0 again in each life of what it counts.

    A life ends with the worker, or with a GPU that falls off the bus. No meter is at fault then, so
    that the ledger shall see one counter that goes on.
    """

    __slots__ = ("_ended_joules", "_joules")

    def __init__(self) -> None:
        """No life yet."""
        self._ended_joules = 0.0
        self._joules = 0.0

    def end(self) -> None:
        """What comes next is another life."""
        self._ended_joules += self._joules
        self._joules = 0.0

    def count(self, joules: float) -> float:
        """All lives together, when the present one has spent so much."""
        if joules < self._joules:
            self.end()
        self._joules = joules
        return self._ended_joules + joules


class Unit:
    """One device of a worker: says what its values mean, and gives each round's once."""

    def __init__(self, name: str) -> None:
        """Nothing is known of it yet; `name` is for people, until it tells its own."""
        self.name = name
        self.channels: tuple[Channel, ...] = ()
        self.stuck = ""
        self.divided: Divided | None = None
        self.holds = False
        self._generation: int | None = None
        self._lives: dict[tuple[str, tuple[str, ...]], Lives] = {}
        self._parts: tuple[tuple[int, Lives], ...] = ()
        self._divides: int | None = None
        self._known: dict[tuple[str, tuple[str, ...]], Channel] = {}
        self._round: Batch | None = None
        self._gone: Fault | None = None

    @property
    def fresh(self) -> bool:
        """Whether it has answered since `batch` was called last."""
        return self._round is not None or self._gone is not None

    @property
    def gone(self) -> bool:
        """Whether its last answer was that the whole device is not there."""
        return self._gone is not None

    def renew(self) -> None:
        """Another worker will describe it anew."""
        self._generation = None
        for lives in self._lives.values():
            lives.end()
        self.forget()

    def forget(self) -> None:
        """Drop what it has answered and nobody took."""
        self._round = self._gone = None
        self.stuck = ""

    def describe(self, generation: int, name: str, rows: Sequence[Sequence[Any]]) -> None:
        """Take over what the values will mean; a known series keeps its channel.

        Raises:
            ValueError, KeyError, TypeError: there is no such metric, or not with these labels.
        """
        self.channels = tuple(self._channel(*row) for row in rows)
        self._generation, self.name = generation, name
        current = {channel.key: channel for channel in self.channels}
        self._known = current if len(self._known) > MOST_KNOWN else self._known | current
        self.holds = any(channel.measures is Measures.HOLD for channel in self.channels)
        self._follow_parts()

    def take(
        self,
        generation: int,
        at_ns: int,
        values: Sequence[float],
        faults: Sequence[tuple[int, str, str]],
        gone: tuple[str, str] | None,
    ) -> None:
        """Take in an answer: values of the first rows, faults (row, reason, detail) of the others.

        Raises:
            ValueError, IndexError: the answer does not fit the rows.
        """
        if gone is not None:
            detail = f"{self.name}: {gone[1]}"
            self._round, self._gone = None, Fault(None, Reason(gone[0]), detail, int(at_ns))
            return
        if generation != self._generation or len(values) + len(faults) != len(self.channels):
            raise ValueError(f"{self.name}: values that nobody described")
        counts: Sequence[float] = tuple(map(float, values))
        if self._parts:
            counts = self._join_lives(counts, int(at_ns))
        readings = tuple(map(Reading, self.channels, counts, repeat(int(at_ns))))
        failed = tuple(
            Fault(self.channels[row], Reason(reason), f"{self.name}: {detail}", int(at_ns))
            for row, reason, detail in faults
        )
        self._round, self._gone = Batch(readings, failed), None

    def _follow_parts(self) -> None:
        """Find the parts among the channels, and how far the device's joules are divided."""
        channels = self.channels
        places = [n for n, channel in enumerate(channels) if _is_share(channel)]
        self._lives = {key: one for key, one in self._lives.items() if key in self._known}
        self._parts = tuple((n, self._lives.setdefault(channels[n].key, Lives())) for n in places)
        sources = {channels[n].label("source") for n in places}
        own = (n for n, channel in enumerate(channels) if _is_counter(channel, sources))
        self._divides = next(own, None)

    def _join_lives(self, values: Sequence[float], at_ns: int) -> Sequence[float]:
        """The values with those of parts going on from earlier lives."""
        joined = list(values)
        for place, lives in self._parts:
            if place < len(joined):
                joined[place] = lives.count(joined[place])
        if self._divides is not None and self._divides < len(joined) > self._parts[-1][0]:
            self.divided = Divided(joined[self._divides], at_ns)
        return joined

    def batch(self, now_ns: int) -> Batch:
        """What it answered since the last call; faults when it did not, or is not there."""
        answer, gone = self._round, self._gone
        self._round = self._gone = None
        if answer is not None:
            return answer
        if gone is None:
            call = f"; it is in {self.stuck}" if self.stuck else ""
            detail = f"{self.name}: no answer{call}: the driver or the device hangs"
            gone = Fault(None, Reason.LATE, detail, now_ns)
        return Batch((), tuple(self._whole(gone)))

    def _whole(self, fault: Fault) -> Iterator[Fault]:
        """The fault of each channel; of the source when its channels are not known yet."""
        if not self.channels:
            yield fault
        for channel in self.channels:
            yield fault._replace(channel=channel)

    def _channel(
        self, name: str, labels: tuple[str, ...], measures: str, max_watts: float
    ) -> Channel:
        metric = METRICS[name]
        known = self._known.get((name, labels))
        if known is not None and known.max_watts == max_watts:
            return known
        if len(labels) != len(metric.labels) or not all(isinstance(text, str) for text in labels):
            raise ValueError(f"{name} has other labels than {labels}")
        return Channel(metric, labels, Measures[measures], max_watts=float(max_watts))


def _is_share(channel: Channel) -> bool:
    """Whether a worker adds it up from what it divides."""
    return channel.metric is catalogue.PART_ENERGY and channel.label("method") == "modelled"


def _is_counter(channel: Channel, sources: set[str]) -> bool:
    """Whether it is the device's own counter, of one of these sources."""
    counts = channel.metric is catalogue.COMPONENT_ENERGY and channel.measures is Measures.ENERGY
    return counts and channel.label("source") in sources
