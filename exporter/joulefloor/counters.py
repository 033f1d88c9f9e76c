"""The counters of bills on the board: of workloads, and of what outlives them. Pure.

A workload's counters go when it has been gone for a while. Those of its namespace and of its owner
get the same joules and stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from joulefloor import catalogue
from joulefloor.owners import owner_of
from joulefloor.units import nanoseconds_from_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from joulefloor.board import Board, Cell
    from joulefloor.model import Workload

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


class Sum:
    """What many workloads were billed together."""

    __slots__ = ("joules",)

    def __init__(self) -> None:
        """Nothing billed."""
        self.joules = 0.0


class Bill:
    """The counter of one workload, component and share; its namespace and owner get the same."""

    __slots__ = ("cell", "joules", "namespace", "owner")

    def __init__(self, cell: Cell, namespace: Sum, owner: Sum) -> None:
        """Nothing billed."""
        self.cell = cell
        self.namespace = namespace
        self.owner = owner
        self.joules = 0.0


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
        self._bills: dict[tuple[str, str], dict[Workload, Bill]] = {}
        self._namespaces: dict[tuple[str, ...], Sum] = {}
        self._owners: dict[tuple[str, ...], Sum] = {}
        self._named = Names(MOST_NAMESPACES)
        self._owned = Names(MOST_OWNERS)
        self._cells: list[Cell] = []
        self._sums: list[Sum] = []
        self._nobody = Sum()

    def open(self, component: str, share: str, workload: Workload) -> Bill:
        """The bill of a workload, on the board with 0 when new."""
        known = self._bills.setdefault((component, share), {})
        bill = known.get(workload)
        if bill is None:
            cell = self._board.cell(catalogue.WORKLOAD_ENERGY, (component, *workload, share), OWNER)
            cell.lasting = False
            namespace = self._namespace(component, share, workload)
            bill = known[workload] = Bill(cell, namespace, self._owner(share, workload))
            self._board.put(cell, 0.0)
        return bill

    def charge(self, component: str, shares: tuple[Mapping[Workload, float], ...]) -> None:
        """Bill joules (>= 0) by workload, dynamic and static."""
        for share, parts in zip((DYNAMIC, STATIC), shares, strict=True):
            for workload, joules in parts.items():
                if joules > 0:
                    bill = self.open(component, share, workload)
                    bill.joules += joules
                    bill.namespace.joules += joules
                    bill.owner.joules += joules
                    self._board.put(bill.cell, bill.joules)

    def charge_use(self, bills: Iterable[Bill], amounts: Iterable[float], price: float) -> None:
        """Bill amounts of use (>= 0) at joules per unit (>= 0): each tick does it for each pod."""
        cells: list[Cell] = []
        values: list[float] = []
        for bill, amount in zip(bills, amounts, strict=True):
            if amount:
                joules = amount * price
                bill.namespace.joules += joules
                bill.owner.joules += joules
                bill.joules = value = bill.joules + joules
                cells.append(bill.cell)
                values.append(value)
        self._board.put_counts(cells, values)

    def close(self) -> dict[str, float]:
        """Write the sums of namespaces and owners; gives the joules on all bills by component."""
        self._board.put_counts(self._cells, [one.joules for one in self._sums])
        billed: dict[str, float] = {}
        for labels, one in self._namespaces.items():
            billed[labels[0]] = billed.get(labels[0], 0.0) + one.joules
        return billed

    def forget(self, workload: Workload) -> None:
        """Take the workload's bills off the board."""
        for known in self._bills.values():
            bill = known.pop(workload, None)
            if bill is not None:
                self._board.clear(bill.cell)

    def _namespace(self, component: str, share: str, workload: Workload) -> Sum:
        kind, namespace = workload.kind, workload.namespace
        if namespace and not self._named.admit((kind, namespace)):
            namespace = ""
        labels = (component, kind, namespace, share)
        return self._sum(catalogue.NAMESPACE_ENERGY, self._namespaces, labels)

    def _owner(self, share: str, workload: Workload) -> Sum:
        if workload.kind != "pod":
            return self._nobody
        owner = workload.namespace, owner_of(workload.name, self._node)
        if not workload.namespace or not self._owned.admit(owner):
            owner = "", ""
        return self._sum(catalogue.OWNER_ENERGY, self._owners, (*owner, share))

    def _sum(
        self, metric: catalogue.Metric, sums: dict[tuple[str, ...], Sum], labels: tuple[str, ...]
    ) -> Sum:
        known = sums.get(labels)
        if known is None:
            known = sums[labels] = Sum()
            self._cells.append(self._board.cell(metric, labels, OWNER))
            self._sums.append(known)
        return known
