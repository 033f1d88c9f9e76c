"""Sources are read by one thread as long as none of them lets the others wait."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from joulefloor.clock import SystemClock
from joulefloor.model import Batch
from joulefloor.readers import MOST_IDLE, Readers, Runner
from stack.query import eventually
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

    from joulefloor.model import Channel


class Quick:
    """A source that notes who reads it, and waits where a test says so."""

    period_s = 1.0
    deadline_s = 1.0

    def __init__(self, name: str = "quick") -> None:
        self.name = name
        self.readers: list[int] = []
        self.closed = 0
        self.begun = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def channels(self) -> tuple[Channel, ...]:
        return ()

    def read(self) -> Batch:
        self.readers.append(threading.get_ident())
        self.begun.set()
        self.go_on.wait()
        return Batch(())

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def readers() -> Iterator[Readers]:
    readers = Readers()
    yield readers
    readers.stop()


def runners_of(*sources: Quick) -> list[Runner]:
    return [Runner(source, SystemClock()) for source in sources]


def answered(readers: Readers, count: int) -> list[str]:
    """Names of those who answered, once so many did, in order."""
    names: list[str] = []

    def enough() -> bool:
        names.extend(result.runner.name for result in readers.results())
        return len(names) >= count

    assert eventually(enough, within_s=PATIENCE_S), names
    return names


def test_one_thread_reads_all_in_the_order_asked_for_and_rings_once(readers: Readers) -> None:
    sources = [Quick(name) for name in "abc"]
    for _ in range(3):
        readers.ask(runners_of(*sources))
        assert readers.wait(PATIENCE_S)
        assert answered(readers, 3) == ["a", "b", "c"]
        assert not readers.behind
    threads = [source.readers for source in sources]
    assert threads[0] == threads[1] == threads[2]
    assert not readers.wait(0)


def test_who_waits_behind_a_hung_source_is_read_by_another_thread(readers: Readers) -> None:
    hung, other = Quick("hung"), Quick("other")
    hung.go_on.clear()
    readers.ask(runners_of(hung, other))
    assert hung.begun.wait(PATIENCE_S)
    assert readers.behind
    assert not other.readers
    readers.relieve()
    assert answered(readers, 1) == ["other"]
    assert other.readers != hung.readers
    hung.go_on.set()
    assert answered(readers, 1) == ["hung"]


def test_a_late_ring_is_not_taken_for_one_of_the_next_round(readers: Readers) -> None:
    """Else a thread would be woken in each round to help one that needs no help."""
    first, second = Quick("first"), Quick("second")
    readers.ask(runners_of(first))
    answered(readers, 1)
    second.go_on.clear()
    assert eventually(lambda: len(readers._idle) == 1, within_s=PATIENCE_S)
    readers.ask(runners_of(second))
    assert not readers.wait(0)
    second.go_on.set()
    assert readers.wait(PATIENCE_S)


def test_threads_that_were_needed_once_do_not_stay(readers: Readers) -> None:
    hung = [Quick(str(number)) for number in range(8)]
    for source in hung:
        source.go_on.clear()
    readers.ask(runners_of(*hung))
    for source in hung:
        assert source.begun.wait(PATIENCE_S)
        readers.relieve()
    threads = {thread.ident: thread for thread in threading.enumerate()}
    mine = [threads[source.readers[0]] for source in hung]
    assert len(set(mine)) == 8
    for source in hung:
        source.go_on.set()
    answered(readers, 8)
    assert eventually(
        lambda: sum(thread.is_alive() for thread in mine) <= MOST_IDLE + 2, within_s=PATIENCE_S
    )
    readers.stop()
    assert eventually(lambda: not any(thread.is_alive() for thread in mine), within_s=PATIENCE_S)


def test_a_source_is_closed_after_its_read_and_not_read_again() -> None:
    source = Quick()
    source.go_on.clear()
    (runner,) = runners_of(source)
    results: list[object] = []
    reading = threading.Thread(target=lambda: results.append(runner.read()))
    closing = threading.Thread(target=runner.close)
    reading.start()
    assert source.begun.wait(PATIENCE_S)
    closing.start()
    assert source.closed == 0
    source.go_on.set()
    reading.join(PATIENCE_S)
    closing.join(PATIENCE_S)
    assert source.closed == 1
    assert results[0] is not None
    assert runner.read() is None
    assert len(source.readers) == 1
