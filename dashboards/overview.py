"""The fleet: what it draws, how much of that is measured, and which node needs somebody."""

from __future__ import annotations

from dashboards.fields import BAD, GOOD, PLAIN, WARN, cell, named
from dashboards.panels import bars, graph, number
from dashboards.promql import NODE, Query, level, own, recorded
from dashboards.screen import Row, Screen
from dashboards.tables import rows
from joulefloor import catalogue

POWER = recorded("node:joulefloor_it_power_watts:sum")
PARTS = recorded("node:joulefloor_component_power_watts:sum")
MEASURED = recorded("node:joulefloor_measured_power:ratio")
KNOWN = level(catalogue.BUILD_INFO)
UNMETERED = f"{KNOWN.expr} unless on ({NODE}) ({MEASURED.expr} > 0)"
UNPROVEN = recorded("node:joulefloor_component_power_watts:sum", 'method!="measured"')
DENIED = level(catalogue.SOURCE_FAULTS, 'reason="DENIED"')
JOULEFLOOR_ALERTS = 'alertname=~"Joulefloor.*"'
FIRING = own("ALERTS", f'{JOULEFLOOR_ALERTS},alertstate="firing"').expr
URGENT = own("ALERTS", f'{JOULEFLOOR_ALERTS},alertstate="firing",severity!="info"').expr
SINCE = own("ALERTS_FOR_STATE", JOULEFLOOR_ALERTS).expr
OLDEST = Query(f"{SINCE} and ignoring (alertstate) {FIRING}").by(
    "alertname", "severity", "instance", "source", "model", "cluster", "job", operation="min"
)
NONE_IS_GOOD = ((None, GOOD), (1, WARN))
# An absent value takes the first colour, so red begins at a number no node can reach.
BELOW_ZERO = ((None, PLAIN), (-1e9, BAD), (0, PLAIN))
HOURS = "(1 / 3600)"
"""Joules to watt-hours."""
LAST_HOUR = recorded("node:joulefloor_it_energy_joules:increase1h")
BEFORE = "[23h:1m] offset 57m30s"
"""The 23 hours before the last: a mean over five minutes stands for the middle of them."""
NODE_LABELS = {"instance": "Node", "cluster": "Cluster"}

NOW = (
    number(
        POWER.total(),
        title="IT power now",
        description="Power of all chosen nodes: the wall meter where there is one, else the sum "
        "of the components. A mean over five minutes, so a new node takes that long to show.",
    ),
    number(
        Query(f"count({URGENT}) or count({own('up').expr}) * 0"),
        title="Firing alerts",
        unit="short",
        steps=((None, GOOD), (1, BAD)),
        description="Alerts of joulefloor that fire now for the chosen nodes, critical and warning."
        " The table below has those of severity info too.",
    ),
    number(
        Query(
            f"sum({LAST_HOUR.expr} or sum_over_time({POWER.total().expr}{BEFORE}) * 60) * {HOURS}"
        ),
        title="Energy, last 24 h",
        unit="watth",
        description="Energy of all chosen nodes in the last 24 hours, or since they are watched: "
        "that of the last hour, as in the table of nodes, and what they took before it. Both come "
        "from their joules counters.",
    ),
    number(
        Query(f"sum({MEASURED.expr} * {POWER.expr}) / sum({POWER.expr})"),
        title="Measured share",
        unit="percentunit",
        decimals=0,
        steps=((None, WARN), (0.9, GOOD)),
        description="Share of the power that a meter vouches for. The rest is a model's estimate "
        "or a simulation. Below 90 % the totals are estimates.",
    ),
    number(
        Query(f"count({POWER.expr}) / count({own('up').expr})"),
        title="Nodes with power",
        unit="percentunit",
        decimals=0,
        steps=((None, BAD), (0.95, WARN), (1, GOOD)),
        description="Nodes that report any power, as a share of all nodes that Prometheus is told "
        "to scrape.",
    ),
    number(
        Query(f"count({UNMETERED}) or count({KNOWN.expr}) * 0"),
        title="Without a meter",
        unit="short",
        steps=NONE_IS_GOOD,
        description="Nodes on which no meter can be read: their power is modelled, simulated or "
        "unknown. The table below names them.",
    ),
)

SPLIT = (
    graph(
        PARTS.by("component"),
        Query(f"sum({POWER.expr}) - sum({PARTS.expr}) > 0", "not metered"),
        title="Power by component",
        size=(16, 9),
        stacked=True,
        description="Power of the components of all chosen nodes, stacked up to the IT power. "
        '"not metered" is what wall meters see and no component meter does.',
    ),
    bars(
        Query(f"topk(10, {POWER.expr})", "{{instance}}"),
        title="Top nodes by power",
        unit="watt",
        size=(8, 9),
        to_node=True,
        description="The ten nodes that draw most. A click opens the node.",
    ),
)

ATTENTION = (
    rows(
        {"Since": OLDEST.times("1000")},
        {
            "alertname": "Alert",
            "severity": "Severity",
            "instance": "Node",
            "source": "Source",
            "model": "Model",
        },
        title="Alerts that fire",
        first=("Alert", "Node"),
        sort="Since",
        size=(15, 7),
        empty="No alert fires.",
        cells={
            "Alert": {"custom.width": 250},
            "Model": {"custom.width": 220},
            "Since": {"unit": "dateTimeFromNow", "custom.width": 140},
            "Severity": named(
                {
                    "critical": ("critical", BAD),
                    "warning": ("warning", WARN),
                    "info": ("info", "blue"),
                }
            ),
        },
        description="What fires now, and since when its oldest condition holds. Each alert has a "
        "section in the runbook.",
    ),
    rows(
        {
            "Power": Query(f"{UNPROVEN.expr} and on ({NODE}) ({UNMETERED})"),
            "Denied": Query(
                f"{DENIED.expr} and on ({NODE}) ({UNMETERED}) or on ({NODE}) ({UNMETERED}) * 0"
            ),
            "Known": Query(UNMETERED),
        },
        NODE_LABELS,
        title="Nodes without a meter",
        size=(9, 7),
        first=("Node", "Power"),
        hidden=("Known",),
        empty="Every node has a meter.",
        cells={
            "Power": {"unit": "watt"},
            "Denied": cell(NONE_IS_GOOD),
        },
        description="Nodes whose power no meter vouches for: what a model or the simulation says, "
        "and how many denied channels there are, which exist but may not be read.",
    ),
)

PLACES = (
    rows(
        {
            "IT power": recorded("cluster:joulefloor_it_power_watts:sum"),
            "Energy 1 h": recorded("cluster:joulefloor_it_energy_joules:increase1h").times(HOURS),
            "Measured": recorded("cluster:joulefloor_measured_power:ratio"),
        },
        {"cluster": "Cluster"},
        title="Clusters",
        size=(10, 7),
        sort="IT power",
        cells={
            "Energy 1 h": {"unit": "watth"},
            "Measured": cell(((None, WARN), (0.9, GOOD))),
        },
        description="Totals of whole clusters, whatever nodes are chosen. A row without a name "
        "holds the nodes whose targets carry no cluster label.",
    ),
    graph(
        recorded("cluster:joulefloor_component_power_watts:sum").by("method"),
        title="How the watts are known",
        size=(7, 7),
        stacked=True,
        description="Power of all components of the chosen clusters by method: measured by a "
        "meter, modelled by a documented model, or simulated.",
    ),
    bars(
        Query(
            f"topk(10, {recorded('rack:joulefloor_it_power_watts:sum').expr})",
            "{{cluster}} {{rack}}",
        ),
        title="Top racks by power",
        unit="watt",
        size=(7, 7),
        description="The ten racks that draw most. Only targets with a rack label are in a rack.",
    ),
)

NODES = (
    rows(
        {
            "IT power": Query(f"topk(50, {POWER.expr})"),
            "Energy 1 h": LAST_HOUR.times(HOURS),
            "Not metered": recorded("node:joulefloor_unmetered_power_watts:diff"),
            "Static": recorded("node:joulefloor_static_power_watts:sum"),
            "Measured": MEASURED,
            "Entropy production": recorded(
                "node:joulefloor_entropy_production_watts_per_kelvin:sum"
            ),
        },
        NODE_LABELS,
        title="Nodes",
        first=("Node", "IT power", "Measured"),
        size=(24, 9),
        sort="IT power",
        cells={
            "IT power": {"unit": "watt"},
            "Energy 1 h": {"unit": "watth"},
            "Not metered": cell(BELOW_ZERO),
            "Measured": cell(((None, WARN), (0.9, GOOD))),
        },
        description="The fifty nodes that draw most. Not metered: wall meter minus components, "
        "red where the parts exceed the whole. Static: learned idle power. A click on a name "
        "opens the node.",
    ),
)

SCREEN = Screen(
    "Overview",
    "What does the fleet draw, how much of that is measured, and which node needs somebody?",
    (
        Row("", NOW),
        Row("", SPLIT),
        Row("", ATTENTION),
        Row("Nodes", NODES),
        Row("Clusters and racks", PLACES),
    ),
)
