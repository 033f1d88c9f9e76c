"""How far the energy of each meter is counted at an instant, for `joulefloor measure`.

Joules of a counter grow when its meter updates, which may be rarely, so that joules between two
instants are those between two updates. A mark says which.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from joulefloor import catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence

    from joulefloor.clock import Clock
    from joulefloor.model import Batch, Channel
    from joulefloor.sampler import Sampler
    from joulefloor.sources import Source

PAUSE_S = 0.05
"""Between looks at sources that have not answered yet."""
ENERGIES = frozenset({catalogue.NODE_ENERGY, catalogue.COMPONENT_ENERGY})

Key = tuple[str, tuple[str, ...]]


class _Watched:
    """A source of which is noted when each energy was first and last read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.name = source.name
        self.period_s = source.period_s
        self.deadline_s = source.deadline_s
        self.times: dict[Key, tuple[int, int]] = {}

    def channels(self) -> Sequence[Channel]:
        return self._source.channels()

    def read(self) -> Batch:
        batch = self._source.read()
        for channel, _, at_ns in batch.readings:
            if channel.metric in ENERGIES:
                first_ns, _ = self.times.get(channel.key, (at_ns, at_ns))
                self.times[channel.key] = (first_ns, at_ns)
        return batch

    def close(self) -> None:
        self._source.close()


class Mark(NamedTuple):
    """Joules of a series, and the reading up to which they are counted."""

    joules: float
    at_ns: int


class Meters:
    """Ticks the sampler; `marks` says how far the energy of each series is counted.

    `first_ns` of a series is its first reading, from which its joules count.
    """

    def __init__(self, sampler: Sampler, clock: Clock) -> None:
        """Nothing is read yet; nobody else may tick this sampler."""
        self._sampler = sampler
        self._clock = clock
        self._watched = [_Watched(runner.source) for runner in sampler.runners]
        for runner, watched in zip(sampler.runners, self._watched, strict=True):
            runner.source = watched
        self.marks: dict[Key, Mark] = {}
        self.first_ns: dict[Key, int] = {}

    def tick(self) -> None:
        """Read what is due and move the marks on: joules that grew count up to the last reading."""
        self._sampler.tick(self._clock.monotonic_ns())
        times = {key: pair for watched in self._watched for key, pair in watched.times.items()}
        for sample in self._sampler.snapshot.samples():
            key = (sample.metric.name, sample.labels)
            if sample.metric not in ENERGIES or key not in times:
                continue
            first_ns, last_ns = times[key]
            mark = self.marks.get(key) or Mark(0.0, self.first_ns.setdefault(key, first_ns))
            grew = sample.value > mark.joules
            self.marks[key] = Mark(sample.value, last_ns) if grew else mark

    def read_all(self) -> None:
        """Tick until every source has answered a read that began after this did, or is late."""
        pause = threading.Event()
        runners = self._sampler.runners
        begun_ns = self._clock.monotonic_ns()
        while True:
            for runner in runners:
                if runner.asked_ns < begun_ns:
                    runner.due_ns = begun_ns
            self.tick()
            if all(one.late or (one.asked_ns >= begun_ns and not one.busy) for one in runners):
                return
            pause.wait(PAUSE_S)
