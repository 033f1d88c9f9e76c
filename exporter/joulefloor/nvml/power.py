"""The mean of sampled power between two rounds, and how often a sensor is worth asking."""

from __future__ import annotations

from joulefloor.units import NANOSECONDS_PER_SECOND

LONGEST_S = 2.0
"""Samples further apart than this are not joined: nobody knows what happened between them."""
SHORTEST_S = 0.01
"""Power is not sampled faster than this, whatever is configured."""
QUICKEST_S = 0.02
"""A sensor that changes faster is not followed further: a call costs tens of microseconds."""
MEAN_S = 0.5
"""A sensor that gives the mean of a second is asked this often: it sees each instant twice."""
PATIENT_S = 1.0
"""Who samples more rarely than this does not care how often a sensor changes."""
TRIAL_NS = 2 * NANOSECONDS_PER_SECOND
"""How long a sensor is asked as fast as may be, to see how often it changes."""
REST_NS = 60 * NANOSECONDS_PER_SECOND
"""From one trial to the next, while the sensor shows the same value all the time."""
CHANGES, FEWEST = 12, 4
"""Changes after which the period is known: within a trial, and at its end."""


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


class Pace:
    """How often to ask a sensor: twice in the time in which it takes a new value.

    Boards read their sensors of power anew each 20 ms to 100 ms, by model. The time between two
    changes is measured by asking quickly for a while; the least quarter of these times counts,
    since an unchanged load makes others longer. The mean of a second is asked for twice in it.
    """

    def __init__(self, configured_s: float, *, curious: bool) -> None:
        """`configured_s`: time between two samples while nothing is known.

        `curious`: measure how often the mean of a second changes too, which no sampling needs.
        """
        self.update_s: float | None = None
        self._configured_s = max(SHORTEST_S, configured_s)
        self._curious = curious
        self._times: list[float] = []
        self._last: tuple[float, int] | None = None
        self._began_ns: int | None = None
        self._follows = True

    def note(self, watts: float, at_ns: int, *, mean: bool) -> None:
        """A sample; `mean`: of a second or so, which loses nothing between two samples."""
        self._follows = not mean
        if self.update_s is not None or self._configured_s > PATIENT_S:
            return
        if mean and not self._curious:
            return
        if self._began_ns is None or at_ns - self._began_ns >= REST_NS:
            self._began_ns = at_ns
            self._last, self._times = (watts, 0), []
        elif at_ns - self._began_ns >= TRIAL_NS:
            self._conclude(FEWEST)
        elif self._last is not None and watts != self._last[0]:
            if self._last[1]:
                self._times.append((at_ns - self._last[1]) / NANOSECONDS_PER_SECOND)
            self._last = watts, at_ns
            self._conclude(CHANGES)

    def next_s(self, now_ns: int) -> float:
        """Time until the next sample, s."""
        if self.update_s is not None and self._follows:
            return min(self._configured_s, max(QUICKEST_S, self.update_s / 2))
        began_ns = self._began_ns
        trying = self.update_s is None and began_ns is not None and now_ns - began_ns < TRIAL_NS
        if trying:
            return SHORTEST_S
        return self._configured_s if self._follows else max(MEAN_S, self._configured_s)

    def _conclude(self, needed: int) -> None:
        if len(self._times) >= needed:
            self.update_s = sorted(self._times)[len(self._times) // 4]
