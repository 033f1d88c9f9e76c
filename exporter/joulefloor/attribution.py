"""Dividing the joules of a component among those who used it, with the remainder explicit.

Pure. Shares always add up to what was divided: that is the property everything above relies on.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from joulefloor.model import IDLE, SYSTEM, UNATTRIBUTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from joulefloor.model import Workload


K = TypeVar("K")


class Division(NamedTuple, Generic[K]):
    """Joules per user, and what nobody can be billed for; together exactly what was divided."""

    shares: dict[K, float]
    remainder: float


def divide(joules: float, use: Mapping[K, float], capacity: float) -> Division[K]:
    """Split `joules` (>= 0) in proportion to `use` (>= 0, any unit) of a `capacity` (same unit).

    Use beyond the capacity (clocks of users and of the whole are read at different instants)
    shrinks all shares alike; capacity that nobody used is the remainder.

    Raises:
        ValueError: a negative argument.
    """
    if joules < 0 or capacity < 0 or min(use.values(), default=0.0) < 0:
        raise ValueError("joules, use and capacity must not be negative")
    whole = max(capacity, sum(use.values()))
    if whole == 0:
        return Division(dict.fromkeys(use, 0.0), joules)
    shares = {user: joules * (amount / whole) for user, amount in use.items()}
    return Division(shares, max(0.0, joules - sum(shares.values())))


def own_joules(
    cpu_joules: float,
    static_joules: float | None,
    own_cpu_s: float,
    busy_cpu_s: float,
    cpu_s: float,
) -> float:
    """Energy this daemon caused: its share of what the CPUs spent while it ran.

    Dynamic energy is shared by busy CPU time, static energy by capacity (`cpu_s`: CPUs times
    seconds). While static energy is unknown, all of it is shared by capacity, which is the lower
    bound: on an idle machine a share of busy time would bill the whole idle power to one small
    program.
    """
    if cpu_s <= 0:
        return 0.0
    still = cpu_joules if static_joules is None else min(static_joules, cpu_joules)
    by_capacity = divide(still, {"own": own_cpu_s}, cpu_s).shares["own"]
    by_use = divide(cpu_joules - still, {"own": own_cpu_s}, busy_cpu_s).shares["own"]
    return by_capacity + by_use


class Policy(StrEnum):
    """Who is billed for static energy, which flows whether or not anybody works."""

    UNATTRIBUTED = "unattributed"
    ALLOCATION = "allocation"
    USE = "use"


class Energy(NamedTuple):
    """Joules (>= 0) of a component or device: `unsplit` while its static power is unknown."""

    dynamic: float = 0.0
    static: float = 0.0
    unsplit: float = 0.0


class Usage(NamedTuple):
    """Who used a component, all in one unit (CPU seconds, bytes) and over one interval.

    `busy`: used by all, `capacity`: what there is, `allocated`: what a workload may use at most,
    for those with a limit.
    """

    used: Mapping[Workload, float]
    busy: float
    capacity: float
    allocated: Mapping[Workload, float] = {}


class Holding(NamedTuple):
    """Who holds a device: `claims` by what each holds of it, `activity` by what each does there.

    `activity` is empty while unknown; `busy` is the activity of the device, 0..1, None if unknown.
    """

    claims: Mapping[Workload, float]
    activity: Mapping[Workload, float] = {}
    busy: float | None = None


class Bills(NamedTuple):
    """Joules per workload, reserved ones included; together exactly what was divided."""

    dynamic: dict[Workload, float]
    static: dict[Workload, float]


def bill_nobody(energy: Energy) -> Bills:
    """Nobody knows who used it."""
    static = energy.static + energy.unsplit
    return Bills({UNATTRIBUTED: energy.dynamic}, {UNATTRIBUTED: static})


def bill_use(energy: Energy, usage: Usage, policy: Policy) -> Bills:
    """Divide a component by use; what was used by no workload is `system`.

    Energy whose static part is unknown is divided by capacity: that is the least that use can
    have caused. The rest of it stays unattributed and counts as static.
    """
    named = sum(usage.used.values())
    uses = {**usage.used, SYSTEM: max(0.0, usage.busy - named)}
    dynamic = _all(energy.dynamic, uses)
    if energy.unsplit:
        least = divide(energy.unsplit, uses, usage.capacity)
        for user, joules in least.shares.items():
            dynamic[user] = dynamic.get(user, 0.0) + joules
        return Bills(dynamic, _join(_static(energy.static, uses, usage, policy), least.remainder))
    return Bills(dynamic, _static(energy.static, uses, usage, policy))


def _static(
    joules: float, uses: Mapping[Workload, float], usage: Usage, policy: Policy
) -> dict[Workload, float]:
    if policy is Policy.USE:
        return _all(joules, uses)
    if policy is Policy.ALLOCATION:
        division = divide(joules, {**uses, **usage.allocated}, usage.capacity)
        shares = division.shares
        shares[IDLE] = shares.get(IDLE, 0.0) + division.remainder
        return shares
    return {UNATTRIBUTED: joules}


def bill_device(energy: Energy, holding: Holding, policy: Policy) -> Bills:
    """Divide a device among those who hold it: all to one holder, else by activity or equally.

    What a device that nobody holds does is `system`, and its rest is `idle`. Energy whose static
    part is unknown counts as dynamic by the activity of the device.
    """
    claims = holding.claims
    busy = holding.busy or 0.0
    dynamic = energy.dynamic + energy.unsplit * busy
    static = energy.static + energy.unsplit * (1.0 - busy)
    if not claims:
        rest = UNATTRIBUTED if energy.unsplit and holding.busy is None else IDLE
        return Bills({SYSTEM: dynamic}, {rest: static})
    weights = weights_of(holding)
    if policy is Policy.UNATTRIBUTED:
        return Bills(_all(dynamic, weights), {UNATTRIBUTED: static})
    by = weights if policy is Policy.USE else claims
    return Bills(_all(dynamic, weights), _all(static, by))


def weights_of(holding: Holding) -> dict[Workload, float]:
    """By what a device is divided: activity of its holders if any is known, else their claims."""
    known = {user: holding.activity.get(user, 0.0) for user in holding.claims}
    return known if sum(known.values()) > 0 else dict(holding.claims)


def _all(joules: float, uses: Mapping[Workload, float]) -> dict[Workload, float]:
    """Divide among users alone; without any use it is idle."""
    if not any(uses.values()):
        return {IDLE: joules}
    return divide(joules, uses, 0.0).shares


def _join(shares: dict[Workload, float], joules: float) -> dict[Workload, float]:
    shares[UNATTRIBUTED] = shares.get(UNATTRIBUTED, 0.0) + joules
    return shares
