"""Snapshots for tests of what people see: a small machine, described series by series."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joulefloor import catalogue
from joulefloor.board import Board
from joulefloor.model import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from joulefloor.catalogue import Metric
    from joulefloor.model import Health

    Series = tuple[Metric, tuple[str, ...], float]


def snapshot_of(
    series: Iterable[Series], health: Iterable[Health] = (), *, seq: int = 7, unix_s: float = 1e9
) -> Snapshot:
    """Publish the series as the ledger would."""
    board = Board()
    for metric, labels, value in series:
        board.put(board.cell(metric, labels, "test"), value)
    layout, values = board.freeze()
    return Snapshot(seq, seq * 1_000_000_000, unix_s, layout, values, tuple(health))


def component(name: str, device: str, watts: float, method: str = "measured") -> list[Series]:
    """Power and energy of one component, from a meter called rapl."""
    labels = (name, device, "rapl", method)
    return [
        (catalogue.COMPONENT_POWER, labels, watts),
        (catalogue.COMPONENT_ENERGY, labels, 1_000 * watts),
    ]
