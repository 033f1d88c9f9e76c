"""One call per panel: what it asks, and only what does not follow from that.

Only kinds that Grafana's published libraries can draw are here, because the tests draw them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards.classic import (
    bargauge,
    common,
    dashboard,
    prometheus,
    stat,
    text,
    timeseries,
)
from dashboards.fields import (
    COLORS,
    PLAIN,
    color_by,
    fields,
    fixed,
    last,
    line,
    node_link,
    override,
)
from dashboards.words import title_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dashboards.fields import Steps
    from dashboards.promql import Query

DATASOURCE: Final = common.DataSourceRef(type_val="prometheus", uid="${datasource}")


def graph(
    *queries: Query,
    size: tuple[int, int] = (12, 8),
    stacked: bool = False,
    logarithmic: bool = False,
    lines: Mapping[str, str] | None = None,
    minimum: float | None = 0,
    maximum: float | None = None,
    **words: str,
) -> dashboard.Panel:
    """Series over time; `lines` are series that stay out of the stack, with their colours."""
    panel = blank("timeseries", queries, size, words)
    panel.options = timeseries.Options(
        legend=common.VizLegendOptions(
            display_mode=common.LegendDisplayMode.LIST,
            placement=common.LegendPlacement.BOTTOM,
            show_legend=True,
            calcs=[],
        ),
        tooltip=common.VizTooltipOptions(
            mode=common.TooltipDisplayMode.MULTI, sort=common.SortOrder.DESCENDING
        ),
    )
    fields(panel).custom = _lines_config(stacked=stacked, logarithmic=logarithmic)
    fields(panel).min_val = None if logarithmic else minimum
    fields(panel).max_val = maximum
    legends = {query.legend for query in queries}
    for name, color in COLORS.items():
        if legends & {name, "{{component}}"}:
            override(panel, name, fixed(color))
    for name, color in (lines or {}).items():
        override(panel, name, line(color))
    return panel


def number(
    query: Query,
    *,
    size: tuple[int, int] = (4, 4),
    decimals: int | None = None,
    steps: Steps = ((None, PLAIN),),
    **words: str,
) -> dashboard.Panel:
    """One number now, large enough for a wall screen, coloured by `steps`."""
    panel = blank("stat", (query,), size, words, instant=True)
    panel.options = stat.Options(
        # A trend would lie across the number on a panel of this size.
        graph_mode=common.BigValueGraphMode.NONE,
        color_mode=common.BigValueColorMode.VALUE,
        justify_mode=common.BigValueJustifyMode.AUTO,
        text_mode=common.BigValueTextMode.VALUE,
        orientation=common.VizOrientation.AUTO,
        reduce_options=last(),
    )
    fields(panel).decimals = decimals
    color_by(panel, steps)
    return panel


def bars(
    *queries: Query,
    size: tuple[int, int] = (8, 8),
    maximum: float | None = None,
    decimals: int | None = None,
    steps: Steps = ((None, "blue"),),
    to_node: bool = False,
    **words: str,
) -> dashboard.Panel:
    """A ranking now, one bar for each series."""
    panel = blank("bargauge", queries, size, words, instant=True)
    panel.options = bargauge.Options(
        display_mode=common.BarGaugeDisplayMode.BASIC,
        value_mode=common.BarGaugeValueMode.TEXT,
        name_placement=common.BarGaugeNamePlacement.LEFT,
        orientation=common.VizOrientation.HORIZONTAL,
        sizing=common.BarGaugeSizing.MANUAL,
        max_viz_height=24,
        reduce_options=last(),
    )
    fields(panel).min_val = 0
    fields(panel).max_val = maximum
    fields(panel).decimals = decimals
    color_by(panel, steps)
    if to_node:
        override(panel, "number", node_link("${__field.labels.instance}"), matcher="byType")
    return panel


def note(markdown: str, *, size: tuple[int, int] = (8, 8), **words: str) -> dashboard.Panel:
    """Words beside the panels that they explain; `description` says what they are about."""
    panel = blank("text", (), size, words)
    panel.options = text.Options(mode=text.TextMode.MARKDOWN, content=markdown)
    return panel


def blank(
    kind: str,
    queries: Sequence[Query],
    size: tuple[int, int],
    words: Mapping[str, str],
    *,
    instant: bool = False,
) -> dashboard.Panel:
    """What all kinds share. `words`: title, unit and description where the metric's do not fit."""
    if unknown := words.keys() - {"title", "unit", "description"}:
        raise TypeError(f"a panel has no {', '.join(unknown)}")
    metric = queries[0].metric if queries else None
    width, height = size
    panel = dashboard.Panel(
        type_val=kind,
        title=words.get("title") or (title_of(metric) if metric else ""),
        description=words.get("description") or (metric.help if metric else ""),
        datasource=DATASOURCE if queries else None,
        grid_pos=dashboard.GridPos(w=width, h=height),
        targets=[_target(query, place, instant) for place, query in enumerate(queries)],
    )
    fields(panel).unit = words.get("unit") or (queries[0].unit if queries else None)
    return panel


def _target(query: Query, place: int, instant: bool) -> prometheus.Dataquery:  # noqa: FBT001  positional by nature
    return prometheus.Dataquery(
        datasource=DATASOURCE,
        editor_mode=prometheus.QueryEditorMode.CODE,
        expr=query.expr,
        # Without a legend Grafana would show the whole expression.
        legend_format=query.legend or "value",
        instant=instant,
        range_val=not instant,
        ref_id=chr(ord("A") + place),
    )


def _lines_config(*, stacked: bool, logarithmic: bool) -> common.GraphFieldConfig:
    scale = common.ScaleDistribution.LOG if logarithmic else common.ScaleDistribution.LINEAR
    mode = common.StackingMode.NORMAL if stacked else common.StackingMode.NONE
    return common.GraphFieldConfig(
        line_width=1,
        fill_opacity=45 if stacked else 0,
        show_points=common.VisibilityMode.NEVER,
        stacking=common.StackingConfig(mode=mode, group="A"),
        scale_distribution=common.ScaleDistributionConfig(
            type_val=scale, log=10 if logarithmic else None
        ),
    )
