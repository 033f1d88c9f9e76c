"""Tables: one call joins several queries into the rows and columns that a person reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dashboards.classic import common, dashboard, prometheus, table
from dashboards.fields import fields, node_link, override
from dashboards.panels import blank

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dashboards.promql import Query

NOTHING: Final = "\N{EN DASH}"
"""What a cell without a value shows."""
NARROWEST: Final = 100
"""Pixels of a column. Grafana's own 150 would push columns out of sight."""


def rows(
    queries: Mapping[str, Query],
    labels: Mapping[str, str],
    *,
    size: tuple[int, int] = (12, 8),
    cells: Mapping[str, Mapping[str, object]] | None = None,
    sort: str = "",
    ascending: bool = False,
    first: Sequence[str] = (),
    hidden: Sequence[str] = (),
    empty: str | None = None,
    **words: str,
) -> dashboard.Panel:
    """A table: queries by column title, summed over all but `labels` (label to column title).

    `cells` holds field properties of a column. `first` are the columns that a phone shows without
    scrolling sideways; `hidden` columns only decide which rows there are.
    """
    # Two clusters may call their nodes alike: those stay rows of their own.
    apart = [key for key in ("cluster", "job") if "instance" in labels and key not in labels]
    names = dict(labels) | {key: key for key in apart}
    asked = [query.by(*names) for query in queries.values()]
    panel = blank("table", asked, size, {"unit": "short"} | words, instant=True)
    panel.options = table.Options(
        cell_height=common.TableCellHeight.SM,
        sort_by=[common.TableSortByFieldState(display_name=sort, desc=not ascending)]
        if sort
        else [],
    )
    for target in panel.targets or []:
        if isinstance(target, prometheus.Dataquery):
            target.format_val = prometheus.PromQueryFormat.TABLE
            target.legend_format = None
    panel.transformations = _joined(list(queries), names, first, [*hidden, *apart])
    fields(panel).no_value = empty
    shown = {column: query for column, query in queries.items() if column not in hidden}
    _columns(panel, shown, cells or {}, has_nodes="Node" in labels.values())
    return panel


def _columns(
    panel: dashboard.Panel,
    queries: Mapping[str, Query],
    cells: Mapping[str, Mapping[str, object]],
    *,
    has_nodes: bool,
) -> None:
    """Give the columns of a table their units, links and whatever `cells` says of them."""
    fields(panel).custom = common.TableFieldOptions(min_width=NARROWEST)
    for kind in ("string", "number"):
        # Else a cell without a value would show the sentence for the empty table.
        override(panel, kind, {"noValue": NOTHING}, matcher="byType")
    columns: dict[str, dict[str, object]] = {
        column: {"unit": query.unit or "short"} for column, query in queries.items()
    }
    if has_nodes:
        columns["Node"] = node_link("${__value.text}")
    for column, properties in cells.items():
        columns[column] = {**columns.get(column, {}), **properties}
    for column, properties in columns.items():
        override(panel, column, properties)


def _joined(
    columns: Sequence[str], labels: Mapping[str, str], first: Sequence[str], hidden: Sequence[str]
) -> list[dashboard.DataTransformerConfig]:
    """One row for each combination of labels, one column for each query, in the given order."""
    several = len(columns) > 1
    values = {
        f"Value #{chr(ord('A') + place)}" if several else "Value": column
        for place, column in enumerate(columns)
    }
    names = dict(labels) | values
    excluded = ["Time", *(field for field, column in names.items() if column in hidden)]
    ranks = {column: place for place, column in enumerate(first, start=-len(first))}
    shown = sorted(names, key=lambda field: ranks.get(names[field], 0))
    options: dict[str, Any] = {
        "excludeByName": dict.fromkeys(excluded, True),
        "indexByName": {field: place for place, field in enumerate(shown)},
        "renameByName": names,
    }
    organize = dashboard.DataTransformerConfig(id_val="organize", options=options)
    merge = dashboard.DataTransformerConfig(id_val="merge", options={})
    return [merge, organize] if several else [organize]
