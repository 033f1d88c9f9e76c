"""One bad source stays one bad source: ticks go on, its gauges vanish, its health says why."""

from __future__ import annotations

import io
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from joulefloor import catalogue
from joulefloor.board import Board
from joulefloor.clock import SystemClock
from joulefloor.errors import Reason, SourceError
from joulefloor.ledger import Ledger, Rules
from joulefloor.log import Log, Severity
from joulefloor.model import Batch, Channel, Fault, Measures, Reading
from joulefloor.sampler import Sampler
from stack.query import eventually
from tests.machine import ManualClock
from tests.patience import PATIENCE_S, whole_ticks

if TYPE_CHECKING:
    from collections.abc import Iterator
    from collections.abc import Set as AbstractSet

    from joulefloor.clock import Clock
    from joulefloor.sources import Source

TEMPERATURE = Channel(catalogue.TEMPERATURE, ("board", "one", "temp1"), Measures.LEVEL)
ENERGY = Channel(
    catalogue.COMPONENT_ENERGY,
    ("cpu", "package-0", "rapl", "measured"),
    Measures.ENERGY,
    wraps_at_joules=65_532.0,
    max_watts=1_000.0,
)


class Fake:
    """A source whose next answer the test decides."""

    def __init__(self, clock: Clock, name: str = "fake", period_s: float = 1.0) -> None:
        self.name = name
        self.period_s = period_s
        self.deadline_s = 2.0
        self.clock = clock
        self.answer: object = 20.0
        self.channel = TEMPERATURE
        self.closed = 0
        self.reads = 0
        self.takes_s = 0.0
        self.hang = threading.Event()
        self.hang.set()

    def channels(self) -> tuple[Channel, ...]:
        return (self.channel,)

    def read(self) -> Batch:
        self.reads += 1
        self.hang.wait()
        if isinstance(self.clock, ManualClock):
            self.clock.advance(self.takes_s)
        if isinstance(self.answer, Exception):
            raise self.answer
        if isinstance(self.answer, Fault):
            return Batch((), (self.answer,))
        assert isinstance(self.answer, float)
        return Batch((Reading(self.channel, self.answer, self.clock.monotonic_ns()),))

    def close(self) -> None:
        self.closed += 1


class Rig:
    """A sampler driven tick by tick on a clock that stands still between ticks."""

    def __init__(self, *names: str) -> None:
        self.clock = ManualClock()
        self.log = io.StringIO()
        self.sources = [Fake(self.clock, name) for name in names or ("fake",)]
        board = Board()
        ledger = Ledger(board, Rules())
        log = Log(self.clock, Severity.INFO, stream=self.log)
        sources: list[Source] = list(self.sources)
        self.sampler = Sampler(sources, ledger, board, self.clock, log)

    def tick(self, seconds: float = 1.0) -> None:
        """Let time pass, then tick; all sources answer in it but those that hang."""
        self.clock.advance(seconds)
        runners = self.sampler.runners
        free = {runner.name for runner in runners if not runner.busy}
        hanging = {source.name for source in self.sources if not source.hang.is_set()}
        with nullcontext() if free & hanging else whole_ticks():
            self.sampler.tick(self.clock.now_ns)
        self.until_answered(hanging)

    def value(self, metric: catalogue.Metric, *labels: str) -> float | None:
        for sample in self.sampler.snapshot.samples():
            if sample.metric is metric and sample.labels == labels:
                return sample.value
        return None

    def temperature(self) -> float | None:
        return self.value(catalogue.TEMPERATURE, *TEMPERATURE.labels)

    def until_answered(self, hanging: AbstractSet[str] = frozenset()) -> None:
        """Let reads come in, by ticking on a still clock as long as any is under way."""

        def answered() -> bool:
            busy = {runner.name for runner in self.sampler.runners if runner.busy}
            if busy - hanging:
                self.sampler.tick(self.clock.now_ns)
            return not busy - hanging

        assert eventually(answered, within_s=PATIENCE_S), "the source never answered"


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    for source in rig.sources:
        source.hang.set()
    rig.sampler.stop()


def test_a_reading_is_in_the_snapshot_of_its_tick(rig: Rig) -> None:
    rig.tick()
    assert rig.temperature() == 20.0
    assert rig.value(catalogue.SOURCE_UP, "fake") == 1
    assert rig.sampler.snapshot.seq == 1


def test_a_tick_is_late_by_when_it_began_not_by_what_its_sources_took(rig: Rig) -> None:
    rig.sources[0].takes_s = 0.04
    due_ns = rig.clock.now_ns
    rig.clock.advance(0.25)
    rig.sampler.tick(due_ns)
    assert rig.value(catalogue.TICK_LATENESS) == 0.25


@pytest.mark.parametrize("seconds", [-3_600.0, 3_600.0])
def test_a_step_of_the_wall_clock_moves_no_joule(rig: Rig, seconds: float) -> None:
    rig.sources[0].channel = ENERGY
    for joules in (100.0, 150.0, 200.0):
        rig.sources[0].answer = joules
        rig.tick()
        rig.clock.wall_s += seconds
    assert rig.value(catalogue.COMPONENT_ENERGY, *ENERGY.labels) == pytest.approx(100)
    assert rig.value(catalogue.COMPONENT_POWER, *ENERGY.labels) == pytest.approx(50)


def test_a_source_that_raises_what_nobody_foresaw_is_a_bug_with_a_traceback(rig: Rig) -> None:
    rig.sources[0].answer = ZeroDivisionError("in a driver")
    rig.tick()
    assert rig.value(catalogue.SOURCE_UP, "fake") == 0
    assert rig.value(catalogue.SOURCE_ERRORS, "fake", "BUG") == 1
    assert "ZeroDivisionError" in rig.log.getvalue()
    assert rig.sources[0].closed == 1


def test_a_failed_source_is_asked_again_with_growing_pauses_and_comes_back(rig: Rig) -> None:
    rig.tick()
    rig.sources[0].answer = SourceError(Reason.LOST, "gone")
    rig.tick()
    assert rig.temperature() is None
    before = rig.sources[0].reads
    for _ in range(10):
        rig.tick()
    assert rig.sources[0].reads - before == 3
    rig.sources[0].answer = 21.0
    for _ in range(10):
        rig.tick()
    assert rig.temperature() == 21.0
    assert rig.value(catalogue.SOURCE_FAULTS, "fake", "LOST") == 0
    assert rig.log.getvalue().count("source_down") == 1
    assert rig.log.getvalue().count("source_up") == 2


def test_the_time_of_the_last_success_is_told_while_there_is_none_now(rig: Rig) -> None:
    rig.tick()
    assert rig.value(catalogue.SOURCE_LAST_SUCCESS, "fake") is None
    seen_s = rig.clock.unix_s()
    rig.sources[0].answer = SourceError(Reason.LOST, "gone")
    for _ in range(3):
        rig.tick()
        assert rig.value(catalogue.SOURCE_LAST_SUCCESS, "fake") == seen_s
    rig.sources[0].answer = 21.0
    for _ in range(5):
        rig.tick()
    assert rig.value(catalogue.SOURCE_UP, "fake") == 1
    assert rig.value(catalogue.SOURCE_LAST_SUCCESS, "fake") is None


def test_a_reason_that_never_occurred_is_no_series(rig: Rig) -> None:
    rig.tick()
    told = [s for s in rig.sampler.snapshot.samples() if s.metric is catalogue.SOURCE_FAULTS]
    assert not told


def test_absent_hardware_is_silence_not_a_failure(rig: Rig) -> None:
    rig.sources[0].answer = SourceError(Reason.ABSENT, "no such thing here")
    rig.tick()
    assert rig.value(catalogue.SOURCE_UP, "fake") is None
    assert rig.value(catalogue.SOURCE_ERRORS, "fake", "ABSENT") in {None, 0}
    assert rig.value(catalogue.SOURCE_FAULTS, "fake", "ABSENT") == 1
    assert rig.sampler.snapshot.health[0].up is None


def test_a_hung_source_is_late_while_others_go_on_every_tick() -> None:
    rig = Rig("slow", "quick")
    slow, quick = rig.sources
    quick.channel = Channel(catalogue.TEMPERATURE, ("board", "two", "temp1"), Measures.LEVEL)
    rig.tick()
    slow.hang.clear()
    for _ in range(4):
        rig.tick()
    assert rig.value(catalogue.SOURCE_UP, "slow") == 0
    assert rig.value(catalogue.SOURCE_ERRORS, "slow", "LATE") == 1
    assert rig.temperature() is None
    assert quick.reads == 5
    assert rig.value(catalogue.SOURCE_UP, "quick") == 1
    slow.hang.set()
    rig.until_answered()
    rig.tick()
    assert rig.value(catalogue.SOURCE_UP, "slow") == 1
    assert rig.temperature() == 20.0
    rig.sampler.stop()


def test_a_fault_of_one_channel_counts_by_reason(rig: Rig) -> None:
    rig.sources[0].answer = Fault(TEMPERATURE, Reason.GARBLED, "not a number", 1)
    rig.tick()
    assert rig.value(catalogue.SOURCE_UP, "fake") == 0
    assert rig.value(catalogue.SOURCE_FAULTS, "fake", "GARBLED") == 1
    rig.sources[0].answer = 20.0
    rig.tick()
    assert rig.value(catalogue.SOURCE_FAULTS, "fake", "GARBLED") == 0


def test_an_energy_meter_counts_from_its_first_reading(rig: Rig) -> None:
    source = rig.sources[0]
    source.channel = ENERGY
    for second in range(4):
        source.answer = 65_500.0 + 100.0 * second if second == 0 else 100.0 * second - 32.0
        rig.tick()
    assert rig.value(catalogue.COMPONENT_ENERGY, *ENERGY.labels) == pytest.approx(300.0)


def test_a_suspend_is_noticed_and_credits_nothing(rig: Rig) -> None:
    source = rig.sources[0]
    source.channel = ENERGY
    for raw in (65_400.0, 65_450.0):
        source.answer = raw
        rig.tick()
    rig.clock.suspended_ns += 3_600 * 10**9
    for raw in (10.0, 60.0):
        source.answer = raw
        rig.tick()
    assert rig.value(catalogue.COMPONENT_ENERGY, *ENERGY.labels) == pytest.approx(100.0)
    assert "machine_suspended" in rig.log.getvalue()


def test_a_step_of_the_wall_clock_changes_no_joule(rig: Rig) -> None:
    source = rig.sources[0]
    source.channel = ENERGY
    for second in range(6):
        source.answer = 100.0 * second
        rig.clock.wall_s += (-1) ** second * 86_400
        rig.tick()
    assert rig.value(catalogue.COMPONENT_ENERGY, *ENERGY.labels) == pytest.approx(500.0)
    assert rig.value(catalogue.COMPONENT_POWER, *ENERGY.labels) == pytest.approx(100.0)


def test_a_tick_waits_only_for_the_grace_and_the_daemon_thread_stops_quickly() -> None:
    clock = SystemClock()
    hung = Fake(clock)
    hung.hang.clear()
    board = Board()
    log = Log(clock, Severity.ERROR, stream=io.StringIO())
    sampler = Sampler([hung], Ledger(board, Rules()), board, clock, log, tick_s=0.1)
    sampler.start()
    assert eventually(
        lambda: sampler.snapshot.seq >= 3 and sampler.alive(clock.monotonic_ns()),
        within_s=PATIENCE_S,
    )
    before_ns = clock.monotonic_ns()
    sampler.stop(0.5)
    # The read hangs for ever, so that whoever waits for it does as well.
    assert clock.monotonic_ns() - before_ns < PATIENCE_S * 1e9
    hung.hang.set()


def test_alive_turns_false_when_ticks_stop(rig: Rig) -> None:
    assert not rig.sampler.alive(rig.clock.monotonic_ns())
    rig.tick()
    assert rig.sampler.alive(rig.clock.monotonic_ns())
    rig.clock.advance(10)
    assert not rig.sampler.alive(rig.clock.monotonic_ns())
