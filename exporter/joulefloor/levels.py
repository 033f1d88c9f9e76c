"""What is kept of a channel that is published as read, or as busy seconds per second. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joulefloor.units import NANOSECONDS_PER_SECOND

if TYPE_CHECKING:
    from joulefloor.board import Cell
    from joulefloor.model import Reading

BUSY_SLACK = 0.02
"""Ticks of the CPU clock may put utilisation this far above 1."""


class Level:
    """A channel that is published as read, or as busy seconds per second."""

    __slots__ = ("activity", "before", "cell", "plain")

    def __init__(
        self, cell: Cell, activity: tuple[str, str] | None = None, *, plain: bool = False
    ) -> None:
        """`activity` is (component, device) if the value says how busy a device is.

        `plain`: the value is put on the board, and that is all.
        """
        self.cell = cell
        self.activity = activity
        self.plain = plain
        self.before: Reading | None = None


def busy_ratio(before: Reading | None, now: Reading) -> float | None:
    """Busy seconds per second since the last reading; None if the counter went back."""
    if before is None or now.at_ns <= before.at_ns:
        return None
    seconds = (now.at_ns - before.at_ns) / NANOSECONDS_PER_SECOND
    ratio = (now.value - before.value) / seconds
    return min(1.0, ratio) if 0 <= ratio <= 1 + BUSY_SLACK + 0.02 / seconds else None
