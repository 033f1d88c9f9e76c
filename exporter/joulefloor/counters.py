"""The counters of bills on the board: of workloads, and of what outlives them. Pure.

A workload's counters go when it has been gone for a while. Those of its namespace and of its owner
get the same joules and stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from joulefloor import catalogue
from joulefloor.owners import owner_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from joulefloor.board import Board, Cell
    from joulefloor.model import Workload

OWNER = "billing"
MOST_NAMESPACES = 1000
"""Namespaces that are told apart; later ones are billed together, with an empty name."""
MOST_OWNERS = 1000
"""Owners that are told apart; later ones, and pods without a name, are billed together."""
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


class Counters:
    """All bills by component and share, and the sums over them."""

    def __init__(self, board: Board, node: str) -> None:
        """Nothing is on a bill; `node` is the name of this machine in the cluster, if known."""
        self._board = board
        self._node = node
        self._bills: dict[tuple[str, str], dict[Workload, Bill]] = {}
        self._namespaces: dict[tuple[str, ...], Sum] = {}
        self._owners: dict[tuple[str, ...], Sum] = {}
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
        labels = (component, workload.kind, workload.namespace, share)
        if labels not in self._namespaces and len(self._namespaces) >= MOST_NAMESPACES:
            labels = (component, workload.kind, "", share)
        return self._sum(catalogue.NAMESPACE_ENERGY, self._namespaces, labels)

    def _owner(self, share: str, workload: Workload) -> Sum:
        if workload.kind != "pod":
            return self._nobody
        labels = (workload.namespace, owner_of(workload.name, self._node), share)
        surplus = labels not in self._owners and len(self._owners) >= MOST_OWNERS
        if surplus or not workload.namespace:
            labels = ("", "", share)
        return self._sum(catalogue.OWNER_ENERGY, self._owners, labels)

    def _sum(
        self, metric: catalogue.Metric, sums: dict[tuple[str, ...], Sum], labels: tuple[str, ...]
    ) -> Sum:
        known = sums.get(labels)
        if known is None:
            known = sums[labels] = Sum()
            self._cells.append(self._board.cell(metric, labels, OWNER))
            self._sums.append(known)
        return known
