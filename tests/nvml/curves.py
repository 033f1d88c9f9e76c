"""The shapes of a load over time: as the driver's scenario says them, and their truth for tests."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol


class Curve(Protocol):
    """A value over time; `str()` is what a scenario says."""

    def integral(self, seconds: float) -> float:
        """The integral from the start of the curve, in the unit of the value times seconds."""


@dataclass(frozen=True, slots=True)
class Constant:
    """Always the same."""

    value: float

    def __str__(self) -> str:
        """As a scenario says it."""
        return f"{self.value}"

    def integral(self, seconds: float) -> float:
        return self.value * seconds


@dataclass(frozen=True, slots=True)
class Square:
    """High for the first part of each period, low for the rest."""

    low: float
    high: float
    period_ms: float
    duty_percent: float = 50.0

    def __str__(self) -> str:
        """As a scenario says it."""
        return f"square {self.low} {self.high} {self.period_ms} {self.duty_percent}"

    def integral(self, seconds: float) -> float:
        whole, rest_ms = divmod(seconds * 1000.0, self.period_ms)
        high_ms = self.period_ms * self.duty_percent / 100.0
        at_high_ms = whole * high_ms + min(rest_ms, high_ms)
        at_low_ms = whole * (self.period_ms - high_ms) + max(rest_ms - high_ms, 0.0)
        return (at_high_ms * self.high + at_low_ms * self.low) / 1000.0


@dataclass(frozen=True, slots=True)
class Sine:
    """Around a mean."""

    mean: float
    amplitude: float
    period_ms: float

    def __str__(self) -> str:
        """As a scenario says it."""
        return f"sine {self.mean} {self.amplitude} {self.period_ms}"

    def integral(self, seconds: float) -> float:
        turns = 2.0 * math.pi * 1000.0 / self.period_ms
        return self.mean * seconds + self.amplitude / turns * (1.0 - math.cos(turns * seconds))


@dataclass(frozen=True, slots=True)
class Ramp:
    """From one value to another, and there it stays."""

    start: float
    end: float
    duration_ms: float

    def __str__(self) -> str:
        """As a scenario says it."""
        return f"ramp {self.start} {self.end} {self.duration_ms}"

    def integral(self, seconds: float) -> float:
        rising_s = min(seconds, self.duration_ms / 1000.0)
        reached = self.start + (self.end - self.start) * rising_s * 1000.0 / self.duration_ms
        return (self.start + reached) / 2.0 * rising_s + self.end * (seconds - rising_s)


@dataclass(frozen=True, slots=True)
class Steps:
    """Values for milliseconds each, over and over."""

    steps: tuple[tuple[float, float], ...]

    def __str__(self) -> str:
        """As a scenario says it."""
        return "steps " + ",".join(f"{ms}:{value}" for ms, value in self.steps)

    def integral(self, seconds: float) -> float:
        whole, rest_ms = divmod(seconds * 1000.0, sum(ms for ms, _ in self.steps))
        total = whole * sum(ms * value for ms, value in self.steps)
        for ms, value in self.steps:
            part_ms = min(max(rest_ms, 0.0), ms)
            total += part_ms * value
            rest_ms -= part_ms
        return total / 1000.0
