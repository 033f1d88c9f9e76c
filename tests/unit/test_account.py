"""Joules never go down, never jump, and never come from a wrap, a reset, a gap or a dead meter."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from joulefloor.account import (
    COUNTER_SLACK_S,
    Account,
    Event,
    Settled,
    rebase,
    settle,
)
from joulefloor.catalogue import COMPONENT_ENERGY
from joulefloor.model import Channel, Measures, Reading
from joulefloor.units import NANOSECONDS_PER_SECOND

RANGE_JOULES = 65_532.610987
"""Of an AMD package with the 15.3 uJ unit."""


def counter(max_watts: float = 1_200.0, wraps_at: float | None = RANGE_JOULES) -> Channel:
    labels = ("cpu", "package-0", "rapl", "measured")
    return Channel(COMPONENT_ENERGY, labels, Measures.ENERGY, wraps_at, max_watts)


def power(*, witnessed: bool = False, max_watts: float = 5_000.0) -> Channel:
    labels = ("cpu", "package-0", "acpi", "measured")
    return Channel(COMPONENT_ENERGY, labels, Measures.POWER, None, max_watts, "", witnessed)


class Meter:
    """Settles one reading after another and keeps what happened."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.account = Account()
        self.events: list[Event] = []
        self.now_s = 0.0

    def read(self, value: float, after_s: float = 1.0, witness: float | None = None) -> Settled:
        self.now_s += after_s
        at_ns = round(self.now_s * NANOSECONDS_PER_SECOND)
        reading = Reading(self.channel, value, at_ns)
        settled = settle(self.account, reading, gap_limit_s=15.0, witness=witness)
        self.account = settled.account
        if settled.event is not None:
            self.events.append(settled.event)
        return settled


def test_the_first_reading_is_a_base_and_credits_nothing() -> None:
    meter = Meter(counter())
    assert meter.read(40_000.0).credit_joules == 0
    assert meter.account.watts is None


def test_a_wrap_is_exact() -> None:
    meter = Meter(counter())
    meter.read(RANGE_JOULES - 100)
    meter.read(300.0)
    assert meter.account.joules == pytest.approx(400)
    assert meter.events == [Event.WRAP]


def test_a_reset_from_5000_to_10_joules_credits_only_what_follows_it() -> None:
    meter = Meter(counter(wraps_at=262_143.32885))
    meter.read(5_000.0, 5)
    meter.read(10.0, 5)
    meter.read(35.0, 5)
    meter.read(60.0, 5)
    assert meter.account.joules == pytest.approx(50)
    assert meter.events == [Event.RESET]


def test_a_single_absurd_reading_costs_nothing_and_adds_nothing() -> None:
    for absurd in (0.0, 1e15, 64_000.0):
        meter = Meter(counter())
        meter.read(5_000.0)
        meter.read(absurd)
        meter.read(5_200.0)
        assert meter.account.joules == pytest.approx(200)
        assert meter.events == [Event.REJECTED]


def test_readings_that_agree_with_nothing_are_all_rejected() -> None:
    meter = Meter(counter())
    for value in (5_000.0, 60_000.0, 20_000.0, 40_000.0):
        meter.read(value)
    assert meter.account.joules == 0
    assert meter.events == [Event.REJECTED, Event.REJECTED]


def test_a_silence_longer_than_a_wrap_credits_the_lower_bound_and_counts_a_gap() -> None:
    meter = Meter(counter())
    meter.read(1_000.0)
    settled = meter.read(2_000.0, 300)
    assert settled.credit_joules == pytest.approx(1_000)
    assert settled.gap_s == pytest.approx(300)
    assert meter.events == [Event.GAP]


def test_a_missed_read_loses_no_joule() -> None:
    meter = Meter(counter())
    meter.read(1_000.0)
    meter.read(1_400.0, 4)
    assert meter.account.joules == pytest.approx(400)
    assert meter.account.watts == pytest.approx(100)
    assert meter.events == []


def test_a_counter_that_stands_still_has_no_power_and_is_called_frozen_once() -> None:
    meter = Meter(counter())
    meter.read(1_000.0)
    meter.read(1_100.0)
    assert meter.account.watts == pytest.approx(100)
    for _ in range(200):
        meter.read(1_100.0)
    assert meter.account.joules == pytest.approx(100)
    assert meter.account.watts is None
    assert meter.events == [Event.FROZEN]
    meter.read(1_200.0)
    assert meter.account.joules == pytest.approx(200)
    assert not meter.account.frozen


def test_a_counter_slower_than_its_reader_keeps_its_mean_between_updates() -> None:
    meter = Meter(counter())
    meter.read(0.0)
    shown = []
    for second in range(1, 21):
        meter.read(100.0 * (second // 5) * 5)
        shown.append(meter.account.watts)
    assert shown[5:] == pytest.approx([100.0] * 15)
    assert meter.account.joules == pytest.approx(2_000)


def test_nothing_is_credited_across_a_suspend() -> None:
    meter = Meter(counter())
    meter.read(RANGE_JOULES - 50)
    meter.read(RANGE_JOULES - 40)
    meter.account = rebase(meter.account)
    meter.read(30.0)
    meter.read(50.0)
    assert meter.account.joules == pytest.approx(30)
    assert meter.events == []


def test_power_is_integrated_by_trapezoid_but_not_over_a_gap() -> None:
    meter = Meter(power())
    meter.read(100.0)
    meter.read(200.0, 2)
    assert meter.account.joules == pytest.approx(300)
    meter.read(200.0, 100)
    assert meter.account.joules == pytest.approx(300)
    assert meter.events == [Event.GAP]


@pytest.mark.parametrize("watts", [-1.0, 4_294.967295e6])
def test_impossible_power_is_rejected(watts: float) -> None:
    meter = Meter(power())
    meter.read(100.0)
    meter.read(watts)
    meter.read(100.0)
    assert meter.account.joules == pytest.approx(200)
    assert meter.events == [Event.REJECTED]


def test_a_power_meter_that_repeats_itself_while_the_machine_works_is_never_believed() -> None:
    meter = Meter(power(witnessed=True))
    for watts in (200.0, 202.0, 201.0):
        meter.read(watts, witness=0.1)
    before = meter.account.joules
    for second in range(300):
        meter.read(201.0, witness=0.1 if second % 10 else 0.9)
    assert meter.account.joules == before == pytest.approx(402.5)
    assert meter.account.watts is None
    assert meter.events == [Event.FROZEN]
    meter.read(230.0, witness=0.1)
    meter.read(231.0, witness=0.1)
    assert meter.account.joules == pytest.approx(402.5 + 230.5)
    assert meter.events == [Event.FROZEN, Event.GAP]


def test_a_constant_power_reading_of_a_machine_at_rest_is_believed() -> None:
    meter = Meter(power(witnessed=True))
    for _ in range(301):
        meter.read(50.0, witness=0.01)
    meter.read(51.0, witness=0.01)
    assert meter.account.joules == pytest.approx(300 * 50 + 50.5)
    assert meter.events == []


@given(
    st.lists(st.tuples(st.floats(0, 1_000), st.floats(0.3, 30)), min_size=1, max_size=60),
    st.floats(0, RANGE_JOULES),
)
def test_energy_is_conserved_across_wraps(steps: list[tuple[float, float]], start: float) -> None:
    """Any load below the bound, any start value: the account holds the truth."""
    meter = Meter(counter())
    truth = 0.0
    meter.read(start)
    for watts, seconds in steps:
        truth += watts * seconds
        meter.read((start + truth) % RANGE_JOULES, seconds)
    assert meter.account.joules == pytest.approx(truth, rel=1e-9, abs=1e-6)
    assert set(meter.events) <= {Event.WRAP, Event.FROZEN}


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e18, allow_nan=False), st.floats(0.001, 400)), max_size=60),
    st.booleans(),
)
@example([(1.0, 1.0), (0.0, 55.0), (4.292856788773079e-12, 1.0)], True)  # as hypothesis found it
def test_garbage_never_lowers_joules_nor_credits_more_than_physics_allows(
    readings: list[tuple[float, float]], wraps: bool
) -> None:
    meter = Meter(counter(wraps_at=RANGE_JOULES if wraps else None))
    elapsed_s = 0.0
    for index, (value, seconds) in enumerate(readings):
        before = meter.account.joules
        settled = meter.read(value, seconds)
        elapsed_s += seconds if index else 0
        assert meter.account.joules >= before
        assert meter.account.joules == before + settled.credit_joules
        ceiling = 1_200.0 * (elapsed_s + COUNTER_SLACK_S * len(readings))
        assert meter.account.joules <= ceiling + 1e-6


@given(st.lists(st.tuples(st.floats(-10, 6_000), st.floats(0.1, 40)), max_size=80), st.booleans())
@example([(-1.0, 1.0), (0.0, 1.0)], False)  # as hypothesis found it
def test_integrated_power_never_lowers_joules(
    readings: list[tuple[float, float]], witnessed: bool
) -> None:
    meter = Meter(power(witnessed=witnessed))
    for index, (watts, seconds) in enumerate(readings):
        before = meter.account.joules
        meter.read(watts, seconds, witness=(index % 7) / 7)
        assert meter.account.joules >= before
    assert meter.account.joules <= 5_000 * meter.now_s


def test_time_that_stands_still_or_runs_back_changes_nothing() -> None:
    meter = Meter(counter())
    meter.read(100.0)
    meter.read(200.0)
    before = meter.account
    assert meter.read(300.0, 0).account == before
    assert meter.read(300.0, -1).account == before
