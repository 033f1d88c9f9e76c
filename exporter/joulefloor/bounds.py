"""Ranges of settings, checked when they are decoded: what `check-config` accepts must also run."""

from __future__ import annotations

import sys
from typing import NamedTuple


class Bounds(NamedTuple):
    """What a setting may be, in its base unit; `above`: it must be more than `least`."""

    least: float
    most: float = sys.float_info.max
    unit: str = "s"
    above: bool = False

    def hold(self, value: float) -> bool:
        """Whether a setting may be `value`."""
        return self.least <= value <= self.most and not (self.above and value == self.least)

    def __str__(self) -> str:
        """What comes after "must be"."""
        least = f"{self.least:g}{self.unit}"
        if self.most == sys.float_info.max:
            return f"more than {least}" if self.above else f"{least} or more"
        most = f"{self.most:g}{self.unit}"
        return f"more than {least}, at most {most}" if self.above else f"{least} to {most}"


POSITIVE = Bounds(0.0, above=True)


def check_bounds(settings: object, **bounds: Bounds) -> None:
    """Refuse settings of which any that is given (not None) is out of its bounds.

    Raises:
        ValueError: names all of these, with what they must be.
    """
    wrong = [
        f"{name}: must be {bound}, not {value:g}{bound.unit}"
        for name, bound in bounds.items()
        if (value := getattr(settings, name)) is not None and not bound.hold(value)
    ]
    if wrong:
        raise ValueError("; ".join(wrong))
