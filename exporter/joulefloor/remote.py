"""A device that a worker process reads, as the daemon knows it: its channels and its last round."""

from __future__ import annotations

from itertools import repeat
from typing import TYPE_CHECKING, Any

from joulefloor import catalogue
from joulefloor.errors import Reason
from joulefloor.model import Batch, Channel, Fault, Measures, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

METRICS = {metric.name: metric for metric in catalogue.METRICS}
MOST_KNOWN = 1_000
"""Channels remembered per unit; instances and processes may come and go without end."""


class Unit:
    """One device of a worker: says what its values mean, and gives each round's once."""

    def __init__(self, name: str) -> None:
        """Nothing is known of it yet; `name` is for people, until it tells its own."""
        self.name = name
        self.channels: tuple[Channel, ...] = ()
        self.stuck = ""
        self._generation: int | None = None
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
        readings = tuple(map(Reading, self.channels, map(float, values), repeat(int(at_ns))))
        failed = tuple(
            Fault(self.channels[row], Reason(reason), f"{self.name}: {detail}", int(at_ns))
            for row, reason, detail in faults
        )
        self._round, self._gone = Batch(readings, failed), None

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
