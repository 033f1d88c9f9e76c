"""Field configuration: thresholds, colours, links and per-name exceptions of a panel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from dashboards.classic import common, dashboard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Steps = Sequence[tuple[float | None, str]]

GOOD: Final = "green"
WARN: Final = "orange"
BAD: Final = "red"
PLAIN: Final = "text"
"""The colour of text: a number that is neither good nor bad."""
COLORS: Final = {
    "cpu": "blue",
    "dram": "purple",
    "gpu": "green",
    "tpu": "dark-green",
    "fan": "yellow",
    "nic": "#ff9830",
    "disk": "#ffa6b0",
    "board": "dark-purple",
    "not metered": "#8e8e8e",
    "static": "#8e8e8e",
    "dynamic": "green",
    "baseline not learned": "light-blue",
}
"""The same thing has the same colour on every screen."""
TO_NODE: Final = (
    "/d/joulefloor-node?${datasource:queryparam}&${cluster:queryparam}&${job:queryparam}"
    "&${__url_time_range}&var-instance="
)


def fields(panel: dashboard.Panel) -> dashboard.FieldConfig:
    """The defaults of all fields of a panel."""
    panel.field_config = panel.field_config or dashboard.FieldConfigSource()
    panel.field_config.defaults = panel.field_config.defaults or dashboard.FieldConfig()
    return panel.field_config.defaults


def override(
    panel: dashboard.Panel,
    name: str,
    properties: Mapping[str, object],
    *,
    matcher: Literal["byName", "byType"] = "byName",
) -> None:
    """Make an exception for the field of that name, or for the fields of that type."""
    config = dashboard.MatcherConfig(id_val=matcher, options=name)
    values = [dashboard.DynamicConfigValue(key, value) for key, value in properties.items()]
    rule = dashboard.DashboardFieldConfigSourceOverrides(matcher=config, properties=values)
    fields(panel)
    if panel.field_config is not None:
        panel.field_config.overrides.append(rule)


def color_by(panel: dashboard.Panel, steps: Steps) -> None:
    """Colour values: from each step's value on, its colour."""
    fields(panel).thresholds = dashboard.ThresholdsConfig(
        mode=dashboard.ThresholdsMode.ABSOLUTE,
        steps=[dashboard.Threshold(value=value, color=color) for value, color in steps],
    )
    fields(panel).color = dashboard.FieldColor(mode=dashboard.FieldColorModeId.THRESHOLDS)


def cell(steps: Steps) -> dict[str, object]:
    """Properties of a table column whose cells are coloured by value."""
    return {
        "custom.cellOptions": {"type": "color-text"},
        "thresholds": {
            "mode": "absolute",
            "steps": [{"value": value, "color": color} for value, color in steps],
        },
    }


def named(values: Mapping[str, tuple[str, str]]) -> dict[str, object]:
    """Properties of a table column that shows words for values: value to (word, colour)."""
    options = {
        value: {"text": word, "color": color, "index": place}
        for place, (value, (word, color)) in enumerate(values.items())
    }
    return {
        "custom.cellOptions": {"type": "color-text"},
        "mappings": [{"type": "value", "options": options}],
    }


def fixed(color: str) -> dict[str, object]:
    """Properties of a series of one colour."""
    return {"color": {"mode": "fixed", "fixedColor": color}}


def line(color: str) -> dict[str, object]:
    """Properties of a series that is a bare line in front of a stack."""
    return {
        "custom.stacking": {"mode": "none", "group": "A"},
        "custom.fillOpacity": 0,
        "custom.lineWidth": 2,
        "custom.lineStyle": {"fill": "dash", "dash": [8, 6]},
        **fixed(color),
    }


def node_link(name: str) -> dict[str, object]:
    """Properties of a field that leads to the node dashboard; `name` is Grafana's expression."""
    return {"links": [{"title": "Open this node", "url": TO_NODE + name}]}


def last() -> common.ReduceDataOptions:
    """The newest value of every series."""
    return common.ReduceDataOptions(calcs=["lastNotNull"], fields="", values=False)
