"""The counters of bills on the board: of workloads, and of what outlives them. Pure.

A workload's counters go when it has been gone for a while. Those of its namespace and of its owner
get the same joules and stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from joulefloor import catalogue
from joulefloor.board import Column
from joulefloor.owners import owner_of
from joulefloor.units import nanoseconds_from_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from joulefloor.board import Board, Cell
    from joulefloor.model import Workload
    from joulefloor.tally import Line

OWNER = "billing"
MOST_NAMESPACES = 1000
"""Namespaces that are told apart; later ones are billed together, with an empty name."""
MOST_OWNERS = 1000
"""Owners that are told apart; later ones, and pods without a name, are billed together."""
WINDOW_S = 60.0
"""The residual is that of so many seconds at most, and of half as many at least."""
ROUNDING = 1e-12
"""Of all joules ever billed: what adding them up may lose."""
DYNAMIC, STATIC = "dynamic", "static"
NOBODY = 0
"""Place of the sum for workloads that nobody owns."""


class Page:
    """Bills of one component and share: a row for each workload.

    Every tick touches every row: numbers side by side take a fraction of what as many objects do.
    `namespaces` and `owners` are the places of the sums that get the same joules as a row.
    """

    __slots__ = ("_lines", "_order", "cells", "column", "joules", "namespaces", "owners", "rows")

    def __init__(self) -> None:
        """Nobody is billed."""
        self.rows: dict[Workload, int] = {}
        self.joules: list[float] = []
        self.cells: list[Cell] = []
        self.namespaces: list[int] = []
        self.owners: list[int] = []
        self.column: Column | None = None
        self._lines: tuple[Line, ...] = ()
        self._order: list[int] = []

    def add(self, workload: Workload, cell: Cell, namespace: int, owner: int) -> None:
        """A new row, with nothing on the bill."""
        self.rows[workload] = len(self.joules)
        self.joules.append(0.0)
        self.cells.append(cell)
        self.namespaces.append(namespace)
        self.owners.append(owner)
        self.column = None

    def knows(self, lines: tuple[Line, ...]) -> bool:
        """Whether these very lines were ordered last, and no row was removed since."""
        return lines is self._lines

    def order(self, lines: tuple[Line, ...]) -> list[int]:
        """Rows of the users in that order, all of which have one."""
        if lines is not self._lines:
            self._lines = lines
            self._order = [self.rows[line.workload] for line in lines]
        return self._order

    def remove(self, workload: Workload) -> Cell:
        """Forget the row, whose place the last one takes; gives its cell."""
        row, last = self.rows.pop(workload), len(self.joules) - 1
        cell = self.cells[row]
        for other, place in self.rows.items():
            if place == last:
                self.rows[other] = row
        self.joules[row] = self.joules[last]
        for places in (self.namespaces, self.owners):
            places[row] = places[last]
            del places[last]
        self.cells[row] = self.cells[last]
        del self.cells[last], self.joules[last]
        self.column, self._lines = None, ()
        return cell


class Names:
    """Pairs of names that are told apart: the first `most` that come."""

    __slots__ = ("_known", "_most")

    def __init__(self, most: int) -> None:
        """None told apart."""
        self._most = most
        self._known: set[tuple[str, str]] = set()

    def admit(self, name: tuple[str, str]) -> bool:
        """Whether it is told apart, now and from now on."""
        if name not in self._known and len(self._known) < self._most:
            self._known.add(name)
        return name in self._known


class Mark(NamedTuple):
    """Joules credited and billed by component, from the start until an instant."""

    at_ns: int
    credited: Mapping[str, float]
    billed: Mapping[str, float]


class Residuals:
    """How far the bills are from what was credited, over about the last minute."""

    def __init__(self) -> None:
        """From the start on."""
        self._since = self._next = Mark(0, {}, {})

    def close(
        self, now_ns: int, credited: Mapping[str, float], billed: Mapping[str, float]
    ) -> dict[str, float]:
        """Share (0 or more) of the energy of each component, 0 where none was credited lately."""
        since = self._since
        ratios: dict[str, float] = {}
        for component, joules in credited.items():
            spent = joules - since.credited.get(component, 0.0)
            bills = billed.get(component, 0.0) - since.billed.get(component, 0.0)
            off = abs(spent - bills)
            ratios[component] = off / spent if spent > 0 and off > ROUNDING * joules else 0.0
        if now_ns - self._next.at_ns >= nanoseconds_from_seconds(WINDOW_S / 2):
            self._since, self._next = self._next, Mark(now_ns, dict(credited), billed)
        return ratios


class Counters:
    """All bills by component and share, and the sums over them."""

    def __init__(self, board: Board, node: str) -> None:
        """Nothing is on a bill; `node` is the name of this machine in the cluster, if known."""
        self._board = board
        self._node = node
        self._pages: dict[tuple[str, str], Page] = {}
        self._namespaces: dict[tuple[str, ...], int] = {}
        self._owners: dict[tuple[str, ...], int] = {}
        self._named = Names(MOST_NAMESPACES)
        self._owned = Names(MOST_OWNERS)
        self._sums: list[float] = [0.0]
        self._cells: list[Cell] = []
        self._column = Column(())

    def open(self, component: str, share: str, workload: Workload) -> Page:
        """The page with the bill of a workload; a new one is on the board with 0."""
        page = self._pages.setdefault((component, share), Page())
        if workload not in page.rows:
            cell = self._board.cell(catalogue.WORKLOAD_ENERGY, (component, *workload, share), OWNER)
            cell.lasting = False
            namespace = self._namespace(component, share, workload)
            page.add(workload, cell, namespace, self._owner(share, workload))
        return page

    def charge(self, component: str, shares: tuple[Mapping[Workload, float], ...]) -> None:
        """Bill joules (>= 0) by workload, dynamic and static."""
        for share, parts in zip((DYNAMIC, STATIC), shares, strict=True):
            for workload, joules in parts.items():
                if joules > 0:
                    page = self.open(component, share, workload)
                    self._add(page, (page.rows[workload],), (joules,))

    def charge_use(
        self,
        component: str,
        share: str,
        lines: tuple[Line, ...],
        amounts: Iterable[float],
        price: float,
    ) -> None:
        """Bill users for amounts (>= 0) at joules per unit (>= 0); lines that stay are one tuple.

        Each tick does it for each pod.
        """
        page = self._pages.setdefault((component, share), Page())
        if not page.knows(lines):
            for line in lines:
                self.open(component, share, line.workload)
        self._add(page, page.order(lines), [amount * price for amount in amounts])

    def _add(self, page: Page, rows: Iterable[int], joules: Iterable[float]) -> None:
        bills, sums, namespaces, owners = page.joules, self._sums, page.namespaces, page.owners
        for row, more in zip(rows, joules, strict=True):
            bills[row] += more
            sums[namespaces[row]] += more
            sums[owners[row]] += more

    def close(self) -> dict[str, float]:
        """Write all bills and sums; gives the joules on all bills by component."""
        for page in self._pages.values():
            page.column = page.column or Column(page.cells)
            self._board.put_counts(page.column, page.joules)
        self._board.put_counts(self._column, self._sums[NOBODY + 1 :])
        billed: dict[str, float] = {}
        for labels, place in self._namespaces.items():
            billed[labels[0]] = billed.get(labels[0], 0.0) + self._sums[place]
        return billed

    def forget(self, workload: Workload) -> None:
        """Take the workload's bills off the board."""
        for page in self._pages.values():
            if workload in page.rows:
                self._board.clear(page.remove(workload))

    def _namespace(self, component: str, share: str, workload: Workload) -> int:
        kind, namespace = workload.kind, workload.namespace
        if namespace and not self._named.admit((kind, namespace)):
            namespace = ""
        labels = (component, kind, namespace, share)
        return self._sum(catalogue.NAMESPACE_ENERGY, self._namespaces, labels)

    def _owner(self, share: str, workload: Workload) -> int:
        if workload.kind != "pod":
            return NOBODY
        owner = workload.namespace, owner_of(workload.name, self._node)
        if not workload.namespace or not self._owned.admit(owner):
            owner = "", ""
        return self._sum(catalogue.OWNER_ENERGY, self._owners, (*owner, share))

    def _sum(
        self, metric: catalogue.Metric, places: dict[tuple[str, ...], int], labels: tuple[str, ...]
    ) -> int:
        place = places.get(labels)
        if place is None:
            place = places[labels] = len(self._sums)
            self._sums.append(0.0)
            self._cells.append(self._board.cell(metric, labels, OWNER))
            self._column = Column(self._cells)
        return place
