"""Dividing the joules of a component among those who used it, with the remainder explicit.

Pure. Shares always add up to what was divided: that is the property everything above relies on.
"""

from __future__ import annotations

from enum import StrEnum
from math import inf
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


class Totals(NamedTuple):
    """What was used of a component, all in one unit (CPU seconds, bytes) and over one interval.

    `named`: by workloads, `busy`: by all, `capacity`: what there is. `allocated`: what workloads
    may use at most, or what those without a limit used.
    """

    named: float
    busy: float
    capacity: float
    allocated: float


class Holding(NamedTuple):
    """Who holds a device: `claims` by what each holds of it, `activity` by what each does there.

    `activity` is empty while unknown; `busy` is the activity of the device, 0..1, None if unknown.
    `unknown` says that pods hold it of which nothing was ever seen: without claims it is not free.
    Where the sizes of its parts are known, claims are shares of the device, `free` is the share
    that nobody holds, and `others` the activity of parts that nobody holds.
    """

    claims: Mapping[Workload, float]
    activity: Mapping[Workload, float] = {}
    busy: float | None = None
    unknown: bool = False
    free: float = 0.0
    others: float = 0.0


class Bills(NamedTuple):
    """Joules per workload, reserved ones included; together exactly what was divided."""

    dynamic: dict[Workload, float]
    static: dict[Workload, float]


def bill_nobody(energy: Energy) -> Bills:
    """Nobody knows who used it."""
    static = energy.static + energy.unsplit
    return Bills({UNATTRIBUTED: energy.dynamic}, {UNATTRIBUTED: static})


class Prices(NamedTuple):
    """Joules per unit of use (CPU second, byte), which make the share of each workload.

    `dynamic` is for what was used, `static` for what was allocated if the policy says so, else for
    what was used. `rest` is for nobody's workload: `system`, `idle` and `unattributed`.
    """

    dynamic: float
    static: float
    rest: Bills


def price_use(energy: Energy, totals: Totals, policy: Policy) -> Prices:
    """Divide a component by use; what was used by no workload is `system`.

    Shares of workloads and the rest add up to the energy. Energy whose static part is unknown is
    divided by capacity: that is the least that use can have caused. The rest of it stays
    unattributed and counts as static. Use beyond what all used together (they are read at different
    instants) shrinks all shares alike.
    """
    system = max(0.0, totals.busy - totals.named)
    used = totals.named + system
    price = _price(energy.dynamic, used)
    dynamic = {SYSTEM: system * price} if price else {IDLE: energy.dynamic}
    price_static, static = _price_static(energy.static, totals, system, policy)
    if energy.unsplit:
        least = _price(energy.unsplit, max(totals.capacity, used))
        dynamic[SYSTEM] = dynamic.get(SYSTEM, 0.0) + system * least
        left = max(0.0, energy.unsplit - used * least)
        static[UNATTRIBUTED] = static.get(UNATTRIBUTED, 0.0) + left
        price += least
    return Prices(price, price_static, Bills(dynamic, static))


def _price_static(
    joules: float, totals: Totals, system: float, policy: Policy
) -> tuple[float, dict[Workload, float]]:
    """Joules per unit, and what is left for the reserved kinds."""
    if policy is Policy.USE:
        price = _price(joules, totals.named + system)
        return price, {SYSTEM: system * price} if price else {IDLE: joules}
    if policy is Policy.ALLOCATION:
        allocated = totals.allocated + system
        price = _price(joules, max(totals.capacity, allocated))
        return price, {SYSTEM: system * price, IDLE: max(0.0, joules - allocated * price)}
    return 0.0, {UNATTRIBUTED: joules}


def _price(joules: float, amount: float) -> float:
    """Joules per unit; 0 when there is no amount, or too little to tell, to divide them by."""
    price = joules / amount if amount else 0.0
    return price if price < inf else 0.0


def bill_device(energy: Energy, holding: Holding, policy: Policy) -> Bills:
    """Divide a device among those who hold it: all to one holder, else by activity or equally.

    What a device or a part that nobody holds does is `system`, and its rest is `idle`. Energy whose
    static part is unknown counts as dynamic by the activity of the device.
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
    by = weights if policy is Policy.USE else _allotted(holding)
    return Bills(_all(dynamic, weights), _all(static, by))


def weights_of(holding: Holding) -> dict[Workload, float]:
    """By what a device is divided: activity of its holders if any is known, else their claims."""
    known = {user: holding.activity.get(user, 0.0) for user in holding.claims}
    if holding.others:
        known[SYSTEM] = holding.others
    return known if sum(known.values()) > 0 else _allotted(holding)


def _allotted(holding: Holding) -> dict[Workload, float]:
    """What each holds, and what is left where that is known."""
    return {**holding.claims, **({IDLE: holding.free} if holding.free else {})}


def _all(joules: float, uses: Mapping[Workload, float]) -> dict[Workload, float]:
    """Divide among users alone; without any use it is idle."""
    if not any(uses.values()):
        return {IDLE: joules}
    return divide(joules, uses, 0.0).shares
