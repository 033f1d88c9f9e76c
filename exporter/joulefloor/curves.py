"""Curves whose integral is exact: a constant plus sines plus square pulses.

The demo machine is made of them, so that its counters need neither history nor rounding.
"""

from __future__ import annotations

from math import cos, pi, sin
from typing import NamedTuple


class Wave(NamedTuple):
    """A sine: amplitude, period in s (> 0), phase in radians."""

    swing: float
    period_s: float
    phase: float

    def at(self, t: float) -> float:
        """Value at `t` s."""
        return self.swing * sin(2 * pi * t / self.period_s + self.phase)

    def integral(self, t: float) -> float:
        """Integral from 0 to `t` s."""
        scale = self.swing * self.period_s / (2 * pi)
        return scale * (cos(self.phase) - cos(2 * pi * t / self.period_s + self.phase))


class Pulse(NamedTuple):
    """A square pulse that comes back: height, period and width in s, and how far ahead it is."""

    height: float
    period_s: float
    width_s: float
    ahead_s: float

    def at(self, t: float) -> float:
        """Value at `t` s."""
        return self.height if (t + self.ahead_s) % self.period_s < self.width_s else 0.0

    def integral(self, t: float) -> float:
        """Integral from 0 to `t` s."""
        return self.height * (self._time_on(t + self.ahead_s) - self._time_on(self.ahead_s))

    def _time_on(self, t: float) -> float:
        turns, rest = divmod(t, self.period_s)
        return turns * self.width_s + min(rest, self.width_s)


class Curve(NamedTuple):
    """A constant plus waves and pulses: anything of the demo machine that changes with time."""

    mean: float
    parts: tuple[Wave | Pulse, ...] = ()

    def at(self, t: float) -> float:
        """Value at `t` s."""
        return self.mean + sum(part.at(t) for part in self.parts)

    def integral(self, t: float) -> float:
        """Integral from 0 to `t` s."""
        return self.mean * t + sum(part.integral(t) for part in self.parts)

    def scaled(self, factor: float, offset: float = 0.0) -> Curve:
        """`offset` plus `factor` times this."""
        parts = tuple(part._replace(**_first(part, factor)) for part in self.parts)
        return Curve(offset + factor * self.mean, parts)

    def plus(self, *others: Curve) -> Curve:
        """Sum of this and the others."""
        curves = (self, *others)
        parts = tuple(part for curve in curves for part in curve.parts)
        return Curve(sum(curve.mean for curve in curves), parts)


def _first(part: Wave | Pulse, factor: float) -> dict[str, float]:
    """The amplitude of a part, scaled."""
    return {part._fields[0]: part[0] * factor}
