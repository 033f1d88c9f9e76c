"""A dashboard as rows of panels: places them, and adds what every dashboard has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dashboards.classic import JSONEncoder, dashboard, prometheus
from dashboards.panels import DATASOURCE
from dashboards.promql import CLUSTER, SCOPE
from joulefloor import catalogue

if TYPE_CHECKING:
    from collections.abc import Sequence

GRID_COLUMNS: Final = 24
SCHEMA_VERSION: Final = 39
"""What Grafana 10.4 writes; later ones read it and migrate in memory."""
TAG: Final = "joulefloor"
FIRING: Final = f'ALERTS{{alertname=~"Joulefloor.*",alertstate="firing",severity!="info",{SCOPE}}}'
"""Alerts of severity info explain numbers, often for days."""
KNOWN: Final = f'__name__=~"{catalogue.BUILD_INFO.name}|node:joulefloor_it_power_watts:sum"'
"""Series that tell which machines there are; of another exporter's, rules record the second."""
ALERTS: Final = f"{FIRING} unless {FIRING} offset 2m"
"""Where alerts begin. Marked as long as they fire, a dozen of them would cover every graph."""


class Row(NamedTuple):
    """Panels under one heading; an empty title continues without a heading."""

    title: str
    panels: Sequence[dashboard.Panel]


class Screen(NamedTuple):
    """One dashboard: its title, the question that its first screen answers, and its rows."""

    title: str
    question: str
    rows: Sequence[Row]
    since: str = "now-3h"
    variables: Sequence[dashboard.VariableModel] = ()
    """What a person chooses here beside data source, cluster, job and node."""


def model(screen: Screen, uid: str) -> dict[str, Any]:
    """The dashboard as Grafana's classic JSON."""
    made = dashboard.Dashboard(
        uid=uid,
        title=f"Joulefloor / {screen.title}",
        description=screen.question,
        tags=[TAG],
        timezone="browser",
        editable=False,
        graph_tooltip=dashboard.DashboardCursorSync.CROSSHAIR,
        time=dashboard.DashboardDashboardTime(from_val=screen.since, to="now"),
        refresh="30s",
        schema_version=SCHEMA_VERSION,
        panels=_placed(screen.rows),
        templating=dashboard.DashboardDashboardTemplating(
            list_val=[*_variables(), *screen.variables]
        ),
        annotations=dashboard.AnnotationContainer(list_val=[_firing()]),
        links=[_links()],
    )
    plain: dict[str, Any] = json.loads(json.dumps(made, cls=JSONEncoder))
    # The SDK would hide both in a menu, where nobody looks for them at night.
    for one in (*plain["links"], *plain["annotations"]["list"]):
        del one["placement"]
    return plain


def _placed(rows: Sequence[Row]) -> list[dashboard.Panel | dashboard.RowPanel]:
    """Fill the grid from left to right; a panel that does not fit begins a new line."""
    placed: list[dashboard.Panel | dashboard.RowPanel] = []
    x = top = bottom = 0
    for row in rows:
        if row.title:
            grid = dashboard.GridPos(h=1, w=GRID_COLUMNS, x=0, y=bottom)
            heading = dashboard.RowPanel(title=row.title, id_val=len(placed) + 1, grid_pos=grid)
            placed.append(heading)
            bottom += 1
        x, top = 0, bottom
        for panel in row.panels:
            grid = panel.grid_pos or dashboard.GridPos()
            if x + grid.w > GRID_COLUMNS:
                x, top = 0, bottom
            grid.x, grid.y = x, top
            x, bottom = x + grid.w, max(bottom, top + grid.h)
            panel.id_val = len(placed) + 1
            placed.append(panel)
    return placed


def _variables() -> list[dashboard.VariableModel]:
    return [
        dashboard.VariableModel(
            type_val=dashboard.VariableType.DATASOURCE,
            name="datasource",
            label="Data source",
            query="prometheus",
            refresh=dashboard.VariableRefresh.ON_DASHBOARD_LOAD,
        ),
        choice("cluster", "Cluster", f"label_values({{{KNOWN}}}, cluster)"),
        choice("job", "Job", f"label_values({{{KNOWN},{CLUSTER}}}, job)"),
        choice("instance", "Node", f'label_values({{{KNOWN},{CLUSTER},job=~"$job"}}, instance)'),
    ]


def choice(name: str, label: str, query: str) -> dashboard.VariableModel:
    """Several values, all of them at first; `.*` lets series without that label through."""
    return dashboard.VariableModel(
        type_val=dashboard.VariableType.QUERY,
        name=name,
        label=label,
        query={"query": query, "refId": name},
        definition=query,
        datasource=DATASOURCE,
        multi=True,
        include_all=True,
        all_value=".*",
        current=dashboard.VariableOption(selected=True, text=["All"], value=["$__all"]),
        refresh=dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED,
        sort=dashboard.VariableSort.NATURAL_ASC,
    )


def entry(name: str, label: str, value: str) -> dashboard.VariableModel:
    """A number that a person types, with the one that stands there at first."""
    return dashboard.VariableModel(
        type_val=dashboard.VariableType.TEXTBOX,
        name=name,
        label=label,
        query=value,
        current=dashboard.VariableOption(selected=True, text=value, value=value),
    )


def _firing() -> dashboard.AnnotationQuery:
    # Grafana 10 and later read the target; tools of older ones read the fields beside it.
    target = prometheus.Dataquery(expr=ALERTS, interval="60s", ref_id="Anno")
    return dashboard.AnnotationQuery(
        name="Alerts that begin",
        datasource=DATASOURCE,
        enable=True,
        icon_color="orange",
        target=target,
        expr=ALERTS,
        step="60s",
        title_format="{{alertname}}",
        text_format="{{severity}} {{instance}} {{source}} {{component}} {{device}} {{model}}",
        tag_keys="alertname,severity,instance",
    )


def _links() -> dashboard.DashboardLink:
    return dashboard.DashboardLink(
        title="Joulefloor",
        type_val=dashboard.DashboardLinkType.DASHBOARDS,
        icon="external link",
        tags=[TAG],
        as_dropdown=False,
        include_vars=True,
        keep_time=True,
    )
