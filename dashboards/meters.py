"""Meters and exporter: can the numbers be trusted, and what does measuring cost?"""

from __future__ import annotations

from dashboards.fields import BAD, GOOD, PLAIN, WARN, named
from dashboards.panels import bars, graph, number
from dashboards.promql import NODE, Query, births, level, own, rate, recorded
from dashboards.screen import Row, Screen
from dashboards.tables import rows
from joulefloor import catalogue

UP = own("up")
KNOWN = level(catalogue.BUILD_INFO)
SOURCE_UP = level(catalogue.SOURCE_UP)
BROKEN = level(catalogue.SOURCE_FAULTS, 'reason!~"ABSENT|UNSUPPORTED"')
EVENTS = births(catalogue.METER_EVENTS, 'event!="wrap"')
GAPS = births(catalogue.METER_GAP)
RESIDUAL = recorded("node:joulefloor_unmetered_power_watts:diff")
WALL = recorded("node:joulefloor_node_power_watts:rate5m")
SHARE = f"{RESIDUAL.expr} / ({WALL.expr} > 0)"
OWN_WATTS = rate(catalogue.SELF_ENERGY)
SELF = OWN_WATTS._replace(expr=f"sum without (method) ({OWN_WATTS.expr})")
POWER = recorded("node:joulefloor_it_power_watts:sum")
CPU = rate(catalogue.PROCESS_CPU)
MEMORY = level(catalogue.PROCESS_RSS)
LATE = level(catalogue.TICK_LATENESS)
SERIES = level(catalogue.SERIES)
METER = f"{NODE}, component, device"
ELECTED = f"sum by ({METER}) ({rate(catalogue.COMPONENT_ENERGY).expr})"
ALTERNATE = rate(catalogue.ALTERNATE_ENERGY, 'level="component"')
OTHER = f"sum by ({METER}, source) ({ALTERNATE.expr})"
SAME = f"({OTHER} * 0 + on ({METER}) group_left () {ELECTED})"
"""The elected meter's watts, once for each other meter of the same device."""
NONE_IS_GOOD = ((None, GOOD), (1, WARN))


def zero(query: str) -> Query:
    """A count that is 0, not absent, while there are daemons to count on."""
    return Query(f"{query} or count({KNOWN.expr}) * 0")


def spread(query: Query, *, lowest: bool = False) -> tuple[Query, ...]:
    """A fleet in three lines (two without the lowest), however many nodes it has."""
    shown = (
        query.total("max").named("highest node"),
        query._replace(expr=f"quantile(0.5, {query.expr})", legend="median node"),
        query.total("min").named("lowest node"),
    )
    return shown if lowest else shown[:2]


NOW = (
    number(
        zero(f"count({UP.expr} == 0)"),
        title="Nodes not answering",
        unit="short",
        steps=((None, GOOD), (1, BAD)),
        description="Targets that Prometheus cannot scrape. Their energy is not counted.",
    ),
    number(
        zero(f"count({SOURCE_UP.expr} == 0)"),
        title="Sources down",
        unit="short",
        steps=((None, GOOD), (1, BAD)),
        description="Sources that exist on their node and give no reading at all.",
    ),
    number(
        zero(f"sum({BROKEN.expr})"),
        title="Broken channels",
        unit="short",
        steps=NONE_IS_GOOD,
        description="Channels that exist and give nothing: denied, late, garbled, lost or a bug. "
        "What a machine does not offer (ABSENT, UNSUPPORTED) is not counted.",
    ),
    number(
        zero(f"sum({EVENTS.expr})"),
        title="Meter events",
        unit="short",
        decimals=0,
        steps=NONE_IS_GOOD,
        description="Resets, gaps, rejected, frozen, mirrored and disagreeing meters within the "
        "chosen time. None of them became energy. Wraps are harmless and not counted.",
    ),
    number(
        Query(f"min({SHARE})"),
        title="Worst residual",
        unit="percentunit",
        decimals=1,
        steps=((None, BAD), (-0.05, WARN), (0, PLAIN)),
        description="First law: wall meter minus components, as a share of the wall meter, on the "
        "node where it is lowest. Below 0 the parts exceed the whole.",
    ),
    number(
        Query(f"sum({SELF.expr}) / sum({POWER.expr})"),
        title="Cost of measuring",
        unit="percentunit",
        decimals=3,
        steps=((None, GOOD), (0.005, WARN)),
        description="Power that the daemons use themselves, as a share of the power that they "
        "measure.",
    ),
)

SOURCES = (
    rows(
        {
            "Up": SOURCE_UP,
            "Read takes": level(catalogue.SOURCE_READ),
            "Last success": level(catalogue.SOURCE_LAST_SUCCESS).times("1000"),
            "Errors": rate(catalogue.SOURCE_ERRORS),
        },
        {"instance": "Node", "source": "Source"},
        title="Sources",
        size=(14, 10),
        first=("Source", "Up", "Node"),
        sort="Up",
        ascending=True,
        cells={
            "Source": {"custom.width": 150},
            "Up": named({"0": ("down", BAD), "1": ("up", GOOD)}),
            "Last success": {"unit": "dateTimeFromNow"},
            "Errors": {"unit": "suffix:/s"},
        },
        description="Every source of every chosen node: whether it gives readings, how long a "
        "read takes, and, of one that gives none now, when it last did.",
    ),
    rows(
        {"Channels": level(catalogue.SOURCE_FAULTS)},
        {"instance": "Node", "source": "Source", "reason": "Reason"},
        title="What is not measured, and why",
        first=("Source", "Reason", "Node"),
        size=(10, 10),
        sort="Channels",
        empty="Every channel gives readings.",
        cells={
            "Source": {"custom.width": 150},
            "Reason": {"custom.width": 130}
            | named(
                {
                    "ABSENT": ("ABSENT", PLAIN),
                    "UNSUPPORTED": ("UNSUPPORTED", PLAIN),
                    "DENIED": ("DENIED", WARN),
                    "LATE": ("LATE", BAD),
                    "GARBLED": ("GARBLED", BAD),
                    "LOST": ("LOST", BAD),
                    "BUG": ("BUG", BAD),
                }
            ),
        },
        description="Channels without a reading now. ABSENT and UNSUPPORTED: the machine does not "
        "offer it. DENIED: the daemon may not read it. The others are faults.",
    ),
)

METERS = (
    rows(
        {"Events": births(catalogue.METER_EVENTS)},
        {
            "instance": "Node",
            "source": "Meter",
            "component": "Component",
            "device": "Device",
            "event": "Event",
        },
        title="Events by meter",
        size=(12, 8),
        first=("Event", "Events", "Node"),
        sort="Events",
        empty="No meter did anything unusual.",
        cells={"Events": {"decimals": 0}},
        description="What went wrong with a meter within the chosen time and was not turned into "
        "energy. A wrap is normal.",
    ),
    rows(
        {"Missing": GAPS},
        {
            "instance": "Node",
            "source": "Meter",
            "component": "Component",
            "device": "Device",
        },
        title="Gaps",
        first=("Node", "Missing"),
        size=(12, 8),
        sort="Missing",
        empty="No gap.",
        description="Time within the chosen time for which a meter gave no energy or only a lower "
        "bound. Energy of that time is missing in every sum.",
    ),
    graph(
        Query(
            f"sum by (component, source) ({OTHER}) / sum by (component, source) ({SAME} > 0)",
            "{{component}} {{source}}",
        ),
        title="Other meters against the elected one",
        unit="percentunit",
        size=(12, 9),
        description="Power by a meter that was not elected, over that of the elected meter of the "
        "same devices. 100 % agrees. A model beside a meter shows the error of the model.",
    ),
    graph(
        *spread(Query(SHARE), lowest=True),
        title="Wall meter minus components",
        unit="percentunit",
        size=(12, 9),
        minimum=None,
        description="The residual as a share of the wall meter: highest, median and lowest node. "
        "Power supplies and boards keep it above 0; below 0 a meter is wrong.",
    ),
)

COST = (
    graph(
        *spread(SELF),
        title="Power of the daemon",
        size=(8, 7),
        description="What the monitoring draws itself: its share of CPU time times the power of "
        "the CPUs.",
    ),
    graph(
        *spread(CPU),
        title="CPU time of the daemon",
        size=(8, 7),
        description="Share of one core that the daemon uses.",
    ),
    graph(
        *spread(MEMORY),
        title="Memory of the daemon",
        size=(8, 7),
        description="Resident memory of the daemon.",
    ),
    graph(
        *spread(LATE),
        title="Tick lateness",
        size=(8, 7),
        description="How late the last tick of the ledger began. Above 1 s it measures too seldom.",
    ),
    graph(
        *spread(rate(catalogue.TICKS), lowest=True),
        title="Ticks",
        size=(8, 7),
        description="Ticks of the ledger per second; 1 unless configured otherwise. 0 is a daemon "
        "that answers but no longer measures.",
    ),
    graph(
        SERIES.total().named("all nodes"),
        *spread(SERIES),
        title="Series",
        size=(8, 7),
        logarithmic=True,
        description="Series that the daemons export: what they cost Prometheus.",
    ),
    bars(
        KNOWN.by("version", "python", operation="count"),
        title="Versions",
        unit="short",
        size=(8, 5),
        description="Nodes by version of the daemon and of Python.",
    ),
    bars(
        Query(f"topk(5, time() - {level(catalogue.PROCESS_START).expr})", "{{instance}}"),
        title="Longest running",
        unit="s",
        size=(8, 5),
        to_node=True,
        description="Daemons that run longest. All short at once: something restarts them.",
    ),
    bars(
        Query(f"topk(5, max by (source) ({level(catalogue.SOURCE_READ).expr}))", "{{source}}"),
        title="Slowest sources",
        unit="s",
        size=(8, 5),
        description="Duration of the last read of the slowest sources, on the node where it took "
        "longest.",
    ),
)

SCREEN = Screen(
    "Meters and exporter",
    "Can the numbers be trusted, and what does measuring cost?",
    (
        Row("", NOW),
        Row("", SOURCES),
        Row("Meters", METERS),
        Row("What measuring costs", COST),
    ),
)
