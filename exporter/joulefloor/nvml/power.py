"""The mean of sampled power between two rounds."""

from __future__ import annotations

from joulefloor.units import NANOSECONDS_PER_SECOND

LONGEST_S = 2.0
"""Samples further apart than this are not joined: nobody knows what happened between them."""


class PowerMean:
    """Integrates samples by the trapezoid rule, one round at a time."""

    def __init__(self) -> None:
        """No sample yet."""
        self._last: tuple[float, int] | None = None
        self._joules = 0.0
        self._seconds = 0.0

    def add(self, watts: float, at_ns: int) -> None:
        """A sample; after a long pause the round starts anew with it."""
        last, self._last = self._last, (watts, at_ns)
        if last is None or at_ns <= last[1]:
            return
        seconds = (at_ns - last[1]) / NANOSECONDS_PER_SECOND
        if seconds > LONGEST_S:
            self._joules = self._seconds = 0.0
            return
        self._joules += (last[0] + watts) / 2 * seconds
        self._seconds += seconds

    def take(self) -> float | None:
        """Mean power in W since the last call; the newest sample if it is the only one."""
        if self._last is None:
            return None
        mean = self._joules / self._seconds if self._seconds else self._last[0]
        self._joules = self._seconds = 0.0
        return mean
