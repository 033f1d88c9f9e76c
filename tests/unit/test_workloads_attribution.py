"""Dividing energy: shares add up to what was divided, whatever is known and whatever the policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulefloor.attribution import (
    Bills,
    Energy,
    Holding,
    Policy,
    Totals,
    bill_device,
    bill_nobody,
    price_use,
)
from joulefloor.model import IDLE, SYSTEM, UNATTRIBUTED, Workload

if TYPE_CHECKING:
    from collections.abc import Mapping


class Usage(NamedTuple):
    """Who used a component, and what those with a limit may use at most."""

    used: Mapping[Workload, float]
    busy: float
    capacity: float
    allocated: Mapping[Workload, float] = {}


def bill_use(energy: Energy, usage: Usage, policy: Policy) -> Bills:
    """Apply the prices to what each one used."""
    allocated = {**usage.used, **usage.allocated}
    sums = sum(usage.used.values()), sum(allocated.values())
    totals = Totals(sums[0], usage.busy, usage.capacity, sums[1])
    prices = price_use(energy, totals, policy)
    dynamic = {who: amount * prices.dynamic for who, amount in usage.used.items()}
    by = allocated if policy is Policy.ALLOCATION else usage.used
    static = {who: amount * prices.static for who, amount in by.items()}
    return Bills(
        prices.rest.dynamic | (dynamic if prices.dynamic else {}),
        prices.rest.static | (static if prices.static else {}),
    )


A, B, C = (Workload("pod", "web", name) for name in "abc")
AMOUNT = st.floats(min_value=0.0, max_value=1e9)
JOULES = st.floats(min_value=0.0, max_value=1e7)
USERS = st.dictionaries(st.sampled_from((A, B, C)), AMOUNT)
ENERGY = st.builds(Energy, JOULES, JOULES, JOULES)
USAGE = st.builds(Usage, USERS, AMOUNT, AMOUNT, USERS)
POLICY = st.sampled_from(Policy)


def total(bills: Bills) -> float:
    return sum(bills.dynamic.values()) + sum(bills.static.values())


@given(energy=ENERGY, usage=USAGE, policy=POLICY)
def test_bills_of_a_component_add_up_to_it(energy: Energy, usage: Usage, policy: Policy) -> None:
    bills = bill_use(energy, usage, policy)
    assert total(bills) == pytest.approx(sum(energy), rel=1e-9, abs=1e-12)
    assert all(joules >= 0 for part in bills for joules in part.values())


@given(
    energy=ENERGY,
    claims=st.dictionaries(st.sampled_from((A, B, C)), st.floats(min_value=1, max_value=100)),
    activity=USERS,
    busy=st.none() | st.floats(min_value=0, max_value=1),
    policy=POLICY,
)
def test_bills_of_a_device_add_up_to_it(
    energy: Energy,
    claims: dict[Workload, float],
    activity: dict[Workload, float],
    busy: float | None,
    policy: Policy,
) -> None:
    bills = bill_device(energy, Holding(claims, activity, busy), policy)
    assert total(bills) == pytest.approx(sum(energy), rel=1e-9, abs=1e-12)
    assert all(joules >= 0 for part in bills for joules in part.values())


@given(energy=ENERGY)
def test_bills_of_nobody_add_up(energy: Energy) -> None:
    assert total(bill_nobody(energy)) == pytest.approx(sum(energy), rel=1e-9, abs=1e-12)


def test_dynamic_energy_goes_by_use_and_the_rest_of_use_is_system() -> None:
    bills = bill_use(Energy(100.0, 50.0), Usage({A: 6.0, B: 2.0}, 10.0, 40.0), Policy.UNATTRIBUTED)
    assert bills.dynamic == pytest.approx({A: 60.0, B: 20.0, SYSTEM: 20.0})
    assert bills.static == {UNATTRIBUTED: 50.0}


def test_users_who_seem_to_use_more_than_all_together_shrink_alike() -> None:
    bills = bill_use(Energy(100.0), Usage({A: 6.0, B: 6.0}, 10.0, 40.0), Policy.UNATTRIBUTED)
    assert bills.dynamic == pytest.approx({A: 50.0, B: 50.0, SYSTEM: 0.0})


def test_dynamic_energy_that_nobody_used_is_idle() -> None:
    bills = bill_use(Energy(3.0, 50.0), Usage({A: 0.0}, 0.0, 40.0), Policy.USE)
    assert bills.dynamic == {IDLE: 3.0}
    assert bills.static == {IDLE: 50.0}


def test_static_energy_by_use_follows_dynamic_energy() -> None:
    bills = bill_use(Energy(100.0, 50.0), Usage({A: 6.0, B: 2.0}, 10.0, 40.0), Policy.USE)
    assert bills.static == pytest.approx({A: 30.0, B: 10.0, SYSTEM: 10.0})


def test_static_energy_by_allocation_goes_by_limit_else_by_use_and_the_rest_is_idle() -> None:
    usage = Usage({A: 1.0, B: 2.0}, 4.0, 40.0, {A: 10.0})
    bills = bill_use(Energy(0.0, 80.0), usage, Policy.ALLOCATION)
    assert bills.static == pytest.approx({A: 20.0, B: 4.0, SYSTEM: 2.0, IDLE: 54.0})


def test_limits_that_exceed_the_machine_shrink_alike() -> None:
    usage = Usage({}, 0.0, 10.0, {A: 15.0, B: 5.0})
    bills = bill_use(Energy(0.0, 80.0), usage, Policy.ALLOCATION)
    assert bills.static == pytest.approx({A: 60.0, B: 20.0, SYSTEM: 0.0, IDLE: 0.0})


@pytest.mark.parametrize("policy", Policy)
def test_while_static_power_is_unknown_use_of_the_capacity_is_billed_and_no_more(
    policy: Policy,
) -> None:
    bills = bill_use(Energy(unsplit=100.0), Usage({A: 1.0}, 2.0, 10.0), policy)
    assert bills.dynamic[A] == pytest.approx(10.0)
    assert bills.dynamic[SYSTEM] == pytest.approx(10.0)
    assert bills.static[UNATTRIBUTED] == pytest.approx(80.0)


def test_a_whole_device_goes_to_the_pod_that_holds_it() -> None:
    holding = Holding({A: 1.0}, busy=0.0)
    nobody, held, used = (bill_device(Energy(90.0, 60.0), holding, policy) for policy in Policy)
    assert nobody == Bills({A: 90.0}, {UNATTRIBUTED: 60.0})
    assert held == used == Bills({A: 90.0}, {A: 60.0})


def test_a_shared_device_is_divided_by_activity_and_equally_while_that_is_unknown() -> None:
    energy = Energy(90.0, 60.0)
    known = bill_device(energy, Holding({A: 1.0, B: 1.0}, {A: 2.0, B: 1.0}), Policy.ALLOCATION)
    assert known.dynamic == pytest.approx({A: 60.0, B: 30.0})
    assert known.static == pytest.approx({A: 30.0, B: 30.0})
    unknown = bill_device(energy, Holding({A: 1.0, B: 2.0}), Policy.USE)
    assert unknown.dynamic == pytest.approx({A: 30.0, B: 60.0})
    assert unknown.static == pytest.approx({A: 20.0, B: 40.0})


def test_a_free_device_is_idle_and_what_it_does_is_system() -> None:
    bills = bill_device(Energy(5.0, 60.0), Holding({}), Policy.USE)
    assert bills == Bills({SYSTEM: 5.0}, {IDLE: 60.0})


def test_a_device_of_unknown_static_power_counts_by_how_busy_it_is() -> None:
    energy = Energy(unsplit=100.0)
    assert bill_device(energy, Holding({A: 1.0}, busy=0.7), Policy.UNATTRIBUTED) == Bills(
        {A: 70.0}, {UNATTRIBUTED: 100.0 * (1.0 - 0.7)}
    )
    assert bill_device(energy, Holding({}), Policy.USE) == Bills(
        {SYSTEM: 0.0}, {UNATTRIBUTED: 100.0}
    )
