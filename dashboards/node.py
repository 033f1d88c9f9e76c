"""One node: where its watts go, up to the wall meter, and how far that is above the floor."""

from __future__ import annotations

from dashboards.fields import BAD, GOOD, PLAIN, WARN, cell
from dashboards.panels import bars, graph, number
from dashboards.promql import NODE, Query, gain, level, rate, recorded
from dashboards.screen import Row, Screen
from dashboards.tables import rows
from dashboards.words import ZEPTO, ZEPTOJOULES_PER_BIT
from joulefloor import catalogue

PARTS = level(catalogue.COMPONENT_POWER)
WALL = level(catalogue.NODE_POWER)
STATIC = level(catalogue.COMPONENT_STATIC_POWER)
PER_DEVICE = f"sum without (source, method) ({PARTS.expr})"
DYNAMIC = f"{PER_DEVICE} - {STATIC.expr}"
PARTS_OF_NODE = f"sum by ({NODE}) ({PARTS.expr})"
WALL_OF_NODE = f"sum by ({NODE}) ({WALL.expr})"
REST = f"sum({WALL_OF_NODE} - {PARTS_OF_NODE})"
ENFORCED = level(catalogue.COMPONENT_POWER_LIMIT, 'limit="enforced"')
OF_LIMIT = f"{PER_DEVICE} / ignoring (limit) ({ENFORCED.expr} > 0)"
CELSIUS = level(catalogue.TEMPERATURE)
MEMORY_USED = level(catalogue.MEMORY, 'state="used"').by(NODE, "component")
MEMORY_TOTAL = level(catalogue.MEMORY, 'state="total"').by(NODE, "component")
DEVICE = {"instance": "Node", "component": "Component", "device": "Device"}
KEYS = ("component", "device", *NODE.split(", "))
HOT = ((None, PLAIN), (80, WARN), (90, BAD))
FULL = ((None, PLAIN), (0.95, WARN), (1.05, BAD))

NOW = (
    number(
        Query(f"sum({WALL_OF_NODE} or {PARTS_OF_NODE})"),
        title="Power now",
        unit="watt",
        description="Power of the chosen node as its wall meter shows it, else the sum of its "
        "components, over the last tick of the daemon.",
    ),
    number(
        Query(REST),
        title="Not metered",
        unit="watt",
        steps=((None, BAD), (0, PLAIN)),
        description="Wall meter minus the sum of the component meters: power supplies, boards and "
        "devices without a meter. Below 0 the meters contradict each other.",
    ),
    number(
        gain(catalogue.NODE_COMPONENT_ENERGY).total().times("(1 / 3600)"),
        title="Component energy",
        unit="watth",
        description="Energy of all components within the chosen time, from their joules counters.",
    ),
    number(
        CELSIUS.total("max"),
        title="Hottest sensor",
        steps=HOT,
        decimals=0,
        description="The highest of all temperatures of the node.",
    ),
    number(
        Query(f"max({OF_LIMIT})"),
        title="Nearest to its limit",
        unit="percentunit",
        steps=FULL,
        decimals=0,
        description="Power of the device that is nearest to its enforced power limit, as a share "
        "of that limit.",
    ),
    number(
        rate(catalogue.THROTTLE).total("max"),
        title="Held back",
        unit="percentunit",
        steps=((None, GOOD), (0.01, WARN), (0.2, BAD)),
        decimals=0,
        description="Share of the time in which the most throttled device was held back by heat "
        "or a power cap.",
    ),
)

POWER = (
    graph(
        PARTS.by("component"),
        Query(f"{REST} > 0", "not metered"),
        WALL.total().named("wall meter"),
        title="Power by component, up to the wall meter",
        size=(16, 10),
        stacked=True,
        lines={"wall meter": "red"},
        description="Components stacked, the unmetered rest on top, and the wall meter as a dashed "
        "line. A gap is time in which nothing could be read; it is not zero.",
    ),
    graph(
        STATIC.total().named("static"),
        Query(f"sum({DYNAMIC})", "dynamic"),
        Query(f"sum({PER_DEVICE} unless {STATIC.expr})", "baseline not learned"),
        title="Static and dynamic power",
        unit="watt",
        size=(8, 10),
        stacked=True,
        description="Static: what the components draw when idle, learned in quiet minutes. "
        "Dynamic: what the work adds. Devices that were never quiet have no baseline yet.",
    ),
)

HEAT = (
    graph(
        CELSIUS.by("component", "sensor", operation="max"),
        title="Temperature",
        size=(12, 11),
        minimum=None,
        description="The hottest device of each component, by sensor.",
    ),
    graph(
        rate(catalogue.THROTTLE).by("component", "reason", operation="max"),
        title="Throttling",
        size=(12, 11),
        maximum=1,
        description="Share of the time in which the most throttled device of the component was "
        "held back, by reason.",
    ),
    graph(
        level(catalogue.FAN_SPEED).by("device", "fan", operation="max"),
        title="Fan speed",
        size=(12, 10),
        description="Speed of each fan. 0 is a fan that stands or a header without a fan.",
    ),
    graph(
        level(catalogue.FAN_SPEED_RATIO).by("device", "fan", operation="max"),
        title="Fan level",
        size=(12, 10),
        maximum=1,
        description="Fan or cooling device level as a share of its maximum.",
    ),
)

WORK = (
    graph(
        level(catalogue.UTILIZATION).by("component", "engine", operation="avg"),
        title="Utilisation",
        maximum=1,
        description="Mean share of the time in which the engines of the component were in use.",
    ),
    graph(
        level(catalogue.CLOCK).by("component", "clock", operation="avg"),
        title="Clocks",
        description="Mean clock of the devices of the component.",
    ),
    graph(
        rate(catalogue.LINK).by("component", "link", "direction"),
        title="Links",
        size=(12, 11),
        logarithmic=True,
        description="Bytes per second over all links of a kind; the scale is logarithmic. A link "
        "that moves nothing is not drawn.",
    ),
    graph(
        Query(
            f"sum by (component) ({MEMORY_USED.expr}) / sum by (component) ({MEMORY_TOTAL.expr})",
            "{{component}}",
        ),
        title="Memory in use",
        size=(12, 11),
        unit="percentunit",
        maximum=1,
        description="Used memory as a share of all memory of the component.",
    ),
)

DEVICES = (
    rows(
        {
            "Power": PARTS,
            "Static": STATIC,
            "Of its limit": Query(OF_LIMIT),
            "Hottest": CELSIUS.by(*KEYS, operation="max"),
            "Held back": rate(catalogue.THROTTLE).by(*KEYS, operation="max"),
        },
        DEVICE,
        title="Devices now",
        first=("Device", "Power", "Hottest", "Component"),
        size=(24, 10),
        sort="Power",
        cells={
            "Of its limit": {"unit": "percentunit", **cell(FULL)},
            "Hottest": cell(HOT),
            "Held back": cell(((None, PLAIN), (0.01, WARN), (0.2, BAD))),
        },
        description="Every device of the node: what it draws, how near it is to its power limit, "
        "how hot it is, and the share of the time in which it is held back.",
    ),
    bars(
        level(catalogue.PART_POWER, 'part!~"(mig|process):.*|idle"').by("component", "part"),
        title="Parts inside components",
        size=(8, 7),
        description="Power of parts (core, uncore, memory) that is already contained in their "
        "component. Never add it to anything. Shares of accelerators are on their own dashboard.",
    ),
    rows(
        {"Devices": level(catalogue.DEVICE_INFO)},
        {"component": "Component", "vendor": "Vendor", "model": "Model"},
        title="Inventory",
        size=(16, 7),
        first=("Devices", "Model"),
        cells={"Model": {"custom.width": 420}},
        description="Devices by the name that their vendor or driver gives them.",
    ),
)

FLOOR = (
    graph(
        recorded("node:joulefloor_entropy_production_watts_per_kelvin:sum").total().named("node"),
        title="Entropy production",
        size=(8, 8),
        description="IT power over the temperature of the heat sink: all of it ends there as heat.",
    ),
    graph(
        level(catalogue.REFERENCE_TEMPERATURE).by("reference", operation="max"),
        title="Heat sink temperature",
        size=(8, 8),
        minimum=273,
    ),
    graph(
        level(catalogue.LANDAUER).by("component", "reference", operation="max").times(ZEPTO),
        title="Landauer floor, k T ln 2",
        size=(8, 8),
        unit=ZEPTOJOULES_PER_BIT,
        minimum=None,
        description="The least heat for erasing one bit, in zeptojoules (1e-21 J), at the "
        "temperature of the heat sink and of the die. A bound of physics, not a target.",
    ),
)

SCREEN = Screen(
    "Node",
    "Where do the watts of this node go, and is anything hot, held back or at its limit?",
    (
        Row("", NOW),
        Row("", POWER),
        Row("Heat", HEAT),
        Row("Work", WORK),
        Row("Devices", DEVICES),
        Row("The floor", FLOOR),
    ),
    since="now-1h",
)
