"""`measure`: joules and the seconds that they cover, whenever meters answer and update."""

from __future__ import annotations

import io
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from joulefloor import catalogue
from joulefloor.assembly import build_sampler
from joulefloor.clock import SystemClock
from joulefloor.config import Config
from joulefloor.errors import Reason, SourceError
from joulefloor.log import Log, Severity
from joulefloor.measure import Measured, measure, report
from joulefloor.model import Batch, Channel, Measures, Reading
from stack.query import eventually
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

UUID = "GPU-00000000-0000-4000-8000-000000000000"
TICK_S = 0.02
WATTS = 400.0
NOTHING = (sys.executable, "-c", "pass")
NAP = (sys.executable, "-c", "import select; select.select([], [], [], 0.3)")


def gpu(measures: Measures = Measures.ENERGY, device: str = UUID, **more: object) -> Channel:
    labels = ("gpu", device, "nvml", "measured")
    return Channel(catalogue.COMPONENT_ENERGY, labels, measures, **more)  # type: ignore[arg-type]


class Fake:
    """A GPU at constant power whose counter is true whenever it is read."""

    name = "nvml"
    period_s = 0.01

    def __init__(self, channel: Channel | None = None) -> None:
        self.channel = channel or gpu()
        self.deadline_s = PATIENCE_S
        self.clock = SystemClock()
        self.started_ns = self.clock.monotonic_ns()
        self.steps_s = 0.0
        self.opens = threading.Event()
        self.opens.set()
        self.reads = 0

    def channels(self) -> Sequence[Channel]:
        return (self.channel,)

    def read(self) -> Batch:
        self.reads += 1
        self.opens.wait(PATIENCE_S)
        now_ns = self.clock.monotonic_ns()
        return Batch((Reading(self.channel, self.value((now_ns - self.started_ns) / 1e9), now_ns),))

    def value(self, seconds: float) -> float:
        if self.channel.measures is Measures.POWER:
            return WATTS
        if self.steps_s:
            seconds -= seconds % self.steps_s
        return WATTS * seconds

    def close(self) -> None:
        self.opens.set()


class Still(Fake):
    """A counter that does not move."""

    name = "rapl"

    def value(self, seconds: float) -> float:
        return 81_000.0 + 0.0 * seconds


class Gone(Fake):
    """A source that fails as a whole."""

    def __init__(self, reason: Reason) -> None:
        super().__init__()
        self.reason = reason

    def read(self) -> Batch:
        raise SourceError(self.reason, "told so")


def run(*sources: Fake, command: Sequence[str] = NAP) -> Measured:
    clock = SystemClock()
    log = Log(clock, Severity.ERROR, stream=io.StringIO())
    sampler = build_sampler(Config(), tuple(sources), clock, log)
    try:
        return measure(command, sampler, clock, TICK_S)
    finally:
        sampler.stop()


@pytest.mark.parametrize("command", [NOTHING, NAP])
def test_a_constant_power_is_shown_as_that_power_however_short_the_run(
    command: Sequence[str],
) -> None:
    measured = run(Fake(), command=command)
    (row,) = measured.spent
    assert row.mean_watts == pytest.approx(WATTS, rel=1e-6)
    assert row.joules == pytest.approx(WATTS * row.metered_seconds, rel=1e-6)
    assert row.metered_seconds >= measured.seconds
    assert not measured.missing


def test_a_counter_that_moves_in_steps_is_counted_from_step_to_step() -> None:
    fake = Fake()
    fake.steps_s = 0.1
    (row,) = run(fake).spent
    steps = row.joules / (WATTS * fake.steps_s)
    assert steps == pytest.approx(round(steps))
    assert steps >= 2


@pytest.mark.parametrize("witnessed", [False, True])
def test_a_power_meter_counts_what_it_has_vouched_for(witnessed: bool) -> None:
    measured = run(Fake(gpu(Measures.POWER, witnessed=witnessed)))
    if witnessed:
        assert measured.missing == (f"gpu {UUID} (nvml): did not update during the run",)
        assert not measured.spent
    else:
        (row,) = measured.spent
        assert row.mean_watts == pytest.approx(WATTS)


def test_the_command_starts_when_every_source_has_answered() -> None:
    fake = Fake()
    fake.opens.clear()
    threading.Timer(0.5, fake.opens.set).start()
    measured = run(fake)
    (row,) = measured.spent
    assert row.mean_watts == pytest.approx(WATTS, rel=1e-6)
    assert row.metered_seconds >= measured.seconds
    assert not measured.missing


def test_a_source_that_answers_after_its_deadline_is_said_to_have_missed_the_start(
    tmp_path: Path,
) -> None:
    begun, seen = tmp_path / "begun", tmp_path / "seen"

    class Late(Fake):
        """Opens after the command has begun, which ends after some reads."""

        def read(self) -> Batch:
            assert eventually(begun.exists, within_s=PATIENCE_S)
            if self.reads > 3:
                seen.touch()
            return super().read()

    fake = Late()
    fake.deadline_s = 0.05
    wait = "import pathlib, sys, time\npathlib.Path(sys.argv[1]).touch()\n"
    wait += "while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)"
    measured = run(fake, command=(sys.executable, "-c", wait, str(begun), str(seen)))
    (row,) = measured.spent
    assert row.mean_watts == pytest.approx(WATTS, rel=1e-6)
    assert measured.missing == (
        f"gpu {UUID} (nvml): first read after the command had begun; its joules are too few",
    )


def test_a_meter_that_did_not_move_has_no_row_of_0_joules() -> None:
    measured = run(Fake(), Still(gpu(device="still")))
    (row,) = measured.spent
    assert row.device == UUID
    assert measured.missing == ("gpu still (nvml): did not update during the run",)


@pytest.mark.parametrize("reason", [Reason.ABSENT, Reason.DENIED])
def test_when_nothing_was_measured_it_says_why(reason: Reason) -> None:
    measured = run(Gone(reason))
    assert not measured.spent
    assert measured.missing == (f"nvml: {reason}: told so",)
    assert "nothing was measured:\n  nvml" in report(measured)


def test_the_columns_of_the_report_hold_a_uuid() -> None:
    head, row, *_ = report(run(Fake(), command=NOTHING)).splitlines()
    assert row.split()[:2] == ["gpu", UUID]
    assert head.index("method") == row.index("measured")
