"""Dividing the joules of a component among those who used it, with the remainder explicit.

Pure. Shares always add up to what was divided: that is the property everything above relies on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping


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
    if joules < 0 or capacity < 0 or any(amount < 0 for amount in use.values()):
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
