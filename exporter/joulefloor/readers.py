"""Threads that read sources: one after the other, as few threads as it takes.

Any hardware call may block, and Python cannot interrupt it. So a source that lets others wait keeps
the thread that it has, and another thread goes on with those that nobody has begun to read. Where
nothing blocks all sources of a tick are read by one thread, which wakes its asker once.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from threading import Lock, Thread
from traceback import format_exc
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from joulefloor.errors import Reason, SourceError
from joulefloor.model import Batch, Fault, Health
from joulefloor.units import nanoseconds_from_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from joulefloor.clock import Clock
    from joulefloor.sources import Source

T = TypeVar("T")

MOST_IDLE = 2
"""Threads that are kept while there is nothing to read."""


class Result(NamedTuple):
    """What one read brought; `failure` is that of the whole source."""

    runner: Runner
    batch: Batch
    failure: Fault | None
    trace: str
    started_ns: int
    finished_ns: int


class Runner:
    """One source, when it is due and how it fares; asked by one thread, read by another."""

    def __init__(self, source: Source, clock: Clock) -> None:
        """It is due at once."""
        self.source = source
        self.name = source.name
        self.asked_ns = 0
        self.due_ns = 0
        self.busy = False
        self.answered = False
        self.late = False
        self.failures = 0
        self.health = Health(source.name, None, detail="not read yet")
        self.written: Health | None = None
        self.errors: dict[Reason, int] = {}
        self._clock = clock
        self._closed = False
        self._in_use = Lock()

    def ask(self, now_ns: int) -> None:
        """Note that a read was asked for; the caller has checked that none is under way."""
        self.busy = True
        self.asked_ns = now_ns
        period_ns = nanoseconds_from_seconds(self.source.period_s)
        self.due_ns = max(self.due_ns + period_ns, now_ns + period_ns // 2)

    def read(self) -> Result | None:
        """Read the source now, however long it takes; None once it is closed."""
        with self._in_use:
            return None if self._closed else self._read()

    def close(self) -> None:
        """Close the source for good, after the read that is under way."""
        self._closed = True
        with self._in_use:
            self.source.close()

    def _read(self) -> Result:
        started_ns = self._clock.monotonic_ns()
        batch, failure, trace = Batch(()), None, ""
        try:
            batch = self.source.read()
        except SourceError as error:
            failure = Fault(None, error.reason, error.detail, self._clock.monotonic_ns())
        except Exception as error:  # noqa: BLE001  # the one place where a source's bug ends
            detail = f"{type(error).__name__}: {error}"
            failure = Fault(None, Reason.BUG, detail, self._clock.monotonic_ns())
            trace = format_exc()
        if failure is not None:
            self.source.close()
        return Result(self, batch, failure, trace, started_ns, self._clock.monotonic_ns())


class Readers:
    """The threads and what waits for them. All but `_run` belongs to the thread that asks."""

    def __init__(self) -> None:
        """No thread starts before there is something to read."""
        self._requests: SimpleQueue[Runner] = SimpleQueue()
        self._results: SimpleQueue[Result] = SimpleQueue()
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._idle: list[Lock] = []
        self._ended = False

    @property
    def behind(self) -> bool:
        """Whether somebody was asked for whom no thread has had time yet."""
        return not self._requests.empty()

    def ask(self, runners: Iterable[Runner]) -> None:
        """Have them read in this order; who rang before this rang for something else."""
        for _ in _taken(self._bell):
            pass
        for runner in runners:
            self._requests.put(runner)
        self.relieve()

    def relieve(self) -> None:
        """Let one more thread take what nobody has begun to read."""
        if self.behind:
            try:
                self._idle.pop().release()
            except IndexError:
                Thread(target=self._run, name="reader", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Until a thread has nothing left to read; False if none came to that in time."""
        try:
            self._bell.get(timeout=seconds)
        except Empty:
            return False
        return True

    def results(self) -> Iterator[Result]:
        """What came since this was last called."""
        yield from _taken(self._results)

    def stop(self) -> None:
        """End every thread that is not reading, and the others when they are done."""
        self._ended = True
        while self._idle:
            self._idle.pop().release()

    def _run(self) -> None:
        wake = Lock()
        wake.acquire()
        while not self._ended:
            for runner in _taken(self._requests):
                result = runner.read()
                if result is not None:
                    self._results.put(result)
            self._bell.put(None)
            if len(self._idle) >= MOST_IDLE:
                return
            self._idle.append(wake)
            if not self._ended:
                wake.acquire()


def _taken(queue: SimpleQueue[T]) -> Iterator[T]:
    """What stands in a queue, and what comes while it is taken."""
    while True:
        try:
            yield queue.get_nowait()
        except Empty:
            return
