"""The board: one slot per series, written each tick, frozen into a snapshot.

Slots exist so that a tick writes numbers and makes no objects; which series stand where changes
rarely and is shared between snapshots as a Layout. None in a slot is an absent series.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from joulefloor.catalogue import METRICS, Kind
from joulefloor.model import Family, Layout

if TYPE_CHECKING:
    from collections.abc import Iterable

    from joulefloor.catalogue import Metric

_ORDER = {metric.name: index for index, metric in enumerate(METRICS)}


class Cell:
    """Where one series stands on the board."""

    __slots__ = ("labels", "lasting", "metric", "owner", "slot", "unused")

    def __init__(self, metric: Metric, labels: tuple[str, ...], owner: str, slot: int) -> None:
        """`owner` is who alone may write it; a cell that is not `lasting` may be swept away."""
        self.metric = metric
        self.labels = labels
        self.owner = owner
        self.slot = slot
        self.lasting = True
        self.unused = False


class Column:
    """Cells that are written together, and where they stood when they were written last."""

    __slots__ = ("cells", "layout", "slots")

    def __init__(self, cells: Iterable[Cell]) -> None:
        """They must outlive it."""
        self.cells = tuple(cells)
        self.layout: Layout | None = None
        self.slots: list[int] = []


class Board:
    """All series of the daemon and their current values."""

    def __init__(self) -> None:
        """Start empty."""
        self._cells: dict[tuple[str, tuple[str, ...]], Cell] = {}
        self._values: list[float | None] = []
        self._layout: Layout | None = Layout()

    def cell(self, metric: Metric, labels: tuple[str, ...], owner: str) -> Cell:
        """The cell of a series, made when new.

        Raises:
            ValueError: wrong number of labels, a metric outside the catalogue, or a series that
                belongs to somebody else (it would be exposed twice).
        """
        key = (metric.name, labels)
        cell = self._cells.get(key)
        if cell is None:
            if len(labels) != len(metric.labels):
                raise ValueError(f"{metric.name} has labels {metric.labels}, not {labels}")
            if metric.name not in _ORDER:
                raise ValueError(f"{metric.name} is not in the catalogue")
            cell = self._cells[key] = Cell(metric, labels, owner, len(self._values))
            self._values.append(None)
            self._layout = None
        elif cell.owner != owner:
            raise ValueError(f"{metric.name}{labels} belongs to {cell.owner}, not to {owner}")
        return cell

    def put(self, cell: Cell, value: float) -> bool:
        """Write a value; False (and an absent series) if it is not finite or a negative counter."""
        good = value - value == 0 and (value >= 0 or cell.metric.kind is not Kind.COUNTER)
        self._values[cell.slot] = float(value) if good else None
        return good

    def put_counts(self, column: Column, values: Iterable[float]) -> None:
        """Write many counters that can only be good: finite sums of what is not negative."""
        if column.layout is None or column.layout is not self._layout:
            column.slots = [cell.slot for cell in column.cells]
            column.layout = self._layout
        slots = self._values
        for slot, value in zip(column.slots, values, strict=True):
            slots[slot] = value

    def clear(self, cell: Cell) -> None:
        """Make the series absent."""
        self._values[cell.slot] = None

    def remove(self, *cells: Cell) -> None:
        """Forget cells of series that will not come back; they must not be used again."""
        for cell in cells:
            self.clear(cell)
            del self._cells[cell.metric.name, cell.labels]
            cell.slot = -1
            self._layout = None

    def value(self, cell: Cell) -> float | None:
        """What stands in the cell."""
        return self._values[cell.slot]

    def count(self) -> int:
        """Number of series that are not absent."""
        return len(self._values) - self._values.count(None)

    def sweep(self) -> None:
        """Forget cells, if not lasting, that were absent at the last sweep and still are."""
        gone = []
        for key, cell in self._cells.items():
            if cell.lasting:
                continue
            absent = self._values[cell.slot] is None
            if absent and cell.unused:
                gone.append(key)
            cell.unused = absent
        for key in gone:
            self._cells.pop(key).slot = -1
        if gone:
            self._layout = None

    def freeze(self) -> tuple[Layout, tuple[float | None, ...]]:
        """Layout and values as they stand; the layout object is the same while series stay."""
        if self._layout is None:
            self._layout = self._arrange()
        return self._layout, tuple(self._values)

    def _arrange(self) -> Layout:
        """Put cells in exposition order: catalogue order, then labels."""
        cells = sorted(
            self._cells.values(), key=lambda cell: (_ORDER[cell.metric.name], cell.labels)
        )
        self._values = [self._values[cell.slot] for cell in cells]
        for slot, cell in enumerate(cells):
            cell.slot = slot
        families = (list(group) for _, group in groupby(cells, key=lambda cell: cell.metric.name))
        return Layout(
            tuple(
                Family(group[0].metric, tuple(cell.labels for cell in group), group[0].slot)
                for group in families
            )
        )
