"""Static power: what a component draws while it does nothing, learned from quiet minutes.

Algorithm, per (component, device), pure:

1. Power and activity (utilisation, 0..1) are averaged over windows of one minute.
2. A window whose mean activity is at most QUIET is quiet; its mean power is an observation of the
   static power. The estimate moves towards it by WEIGHT, so that it follows leakage as the machine
   warms and cools; the first quiet window sets it, unless a start value is configured.
3. In any window, quiet or not, static power cannot exceed the mean power of that window: the
   estimate is capped by it.

A machine that is never quiet and has no configured start value has no static power: the series is
absent, not guessed. The residual activity of a quiet window (at most QUIET of the dynamic range)
is in the estimate; that is its stated bias.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW_S = 60.0
QUIET = 0.05
WEIGHT = 0.2


@dataclass(slots=True)
class Baseline:
    """Learns the static power of one device. `static_watts` is None until something is known."""

    static_watts: float | None = None
    _joules: float = 0.0
    _seconds: float = 0.0
    _activity_seconds: float = 0.0

    def observe(self, watts: float, activity: float, seconds: float) -> bool:
        """Take in mean power (W) and activity (0..1) over the last `seconds`; True ends a window.

        Only then does the static power change.
        """
        self._joules += watts * seconds
        self._activity_seconds += activity * seconds
        self._seconds += seconds
        ended = self._seconds >= WINDOW_S
        if ended:
            self._close_window()
        return ended

    def _close_window(self) -> None:
        mean_watts = self._joules / self._seconds
        quiet = self._activity_seconds / self._seconds <= QUIET
        if quiet and self.static_watts is None:
            self.static_watts = mean_watts
        elif quiet and self.static_watts is not None:
            self.static_watts += WEIGHT * (mean_watts - self.static_watts)
        if self.static_watts is not None:
            self.static_watts = min(self.static_watts, mean_watts)
        self._joules = self._seconds = self._activity_seconds = 0.0
