"""Accelerators of any vendor: what they draw, whether work is done for it, and which is sick."""

from __future__ import annotations

from dashboards.device_tables import DEVICES, SHARING, TRUST
from dashboards.devices import (
    ACCELERATORS,
    BUSY,
    CELSIUS,
    ERRORS,
    FAN_MEANS,
    FANS,
    FULL,
    FULLNESS,
    HELD,
    HELD_BACK,
    HELD_STEPS,
    HIDDEN,
    HOT,
    INFO,
    KEYS,
    LABELS,
    LIMIT,
    LOST,
    MARGIN,
    NEAR,
    NEAR_CELSIUS,
    OF_LIMIT,
    OPERATIONS,
    PER_OPERATION,
    PICO,
    POWER,
    SHOWN,
    TELLING,
    TOTAL,
    USED,
    brief,
    gap,
    leading,
)
from dashboards.fields import BAD, GOOD, WARN, cell, named
from dashboards.panels import bars, graph, number
from dashboards.promql import WHOLE, Query, leaders, level, rate, recorded
from dashboards.screen import Row, Screen
from dashboards.tables import rows
from joulefloor import catalogue

TOTAL_WATTS = recorded("node:joulefloor_component_power_watts:sum", ACCELERATORS)
IDLE = recorded("node:joulefloor_idle_accelerator_power_watts:sum")
# Idle power is absent, not 0, where no device tells how busy it is.
AT_WORK = f"sum({TOTAL_WATTS.expr}) - (sum({IDLE.expr}) or sum({TOTAL_WATTS.expr}) * 0)"
THROTTLED = recorded("node:joulefloor_accelerator_throttle:ratio5m")
RECORDED_OPERATIONS = recorded("node:joulefloor_operations:rate5m", ACCELERATORS)
NODES_PER_OPERATION = recorded("node:joulefloor_joules_per_operation:ratio5m", ACCELERATORS).expr
TENSOR = level(catalogue.UTILIZATION, f'engine="tensor",{ACCELERATORS}')
ENGINES = level(catalogue.UTILIZATION, ACCELERATORS)
CLOCKS = level(catalogue.CLOCK, ACCELERATORS)
PER_OPERATION_UNIT = "suffix: pJ/op"
MULTIPLES = "sci"
NONE_IS_GOOD = ((None, GOOD), (1, BAD))

NOW = (
    number(
        Query(f"count({INFO.expr})"),
        title="Accelerators",
        unit="short",
        size=(3, 4),
        description="Devices that answer now, of all chosen nodes.",
    ),
    number(
        TOTAL_WATTS.total(),
        title="Power now",
        size=(3, 4),
        description="Power of all accelerators of the chosen nodes, a mean over five minutes.",
    ),
    number(
        IDLE.total(),
        title="Idle, but drawing",
        size=(3, 4),
        description="Power of the devices that were busy for less than 5 % of the last five "
        "minutes. It does no work.",
    ),
    number(
        BUSY.total("avg"),
        title="Busy",
        unit="percentunit",
        size=(3, 4),
        decimals=0,
        description="Mean share of the time in which the devices had anything to do. Something to "
        "do is not the same as work: see the tensor cores below.",
    ),
    number(
        THROTTLED.total("avg"),
        title="Held back",
        unit="percentunit",
        size=(3, 4),
        decimals=1,
        steps=((None, GOOD), (HELD_BACK, WARN), (0.2, BAD)),
        description="Share of the time in which devices were held back by heat or power, over five "
        "minutes: the mean of the nodes, however many devices each has, and in each the mean of "
        "the devices that tell.",
    ),
    number(
        CELSIUS.total("max"),
        title="Hottest",
        size=(3, 4),
        decimals=0,
        steps=HOT,
        description="The highest of all temperatures of the devices, memory included.",
    ),
    number(
        Query(f"sum({ERRORS.expr}) or count({INFO.expr}) * 0"),
        title="Grave errors",
        unit="short",
        size=(3, 4),
        decimals=0,
        steps=NONE_IS_GOOD,
        description="Errors of the driver (XID), uncorrected memory errors and rows that could not "
        "be replaced, within the chosen time or since the daemon met the device.",
    ),
    number(
        Query(f"count({LOST}) or count({INFO.expr}) * 0"),
        title="Lost",
        unit="short",
        size=(3, 4),
        steps=NONE_IS_GOOD,
        description="Devices that gave energy since their daemon started, or were there an hour "
        "ago beside others that still are, and give nothing now: lost, hung, taken out, released.",
    ),
)

DRAW = (
    graph(
        Query(AT_WORK, "at work"),
        IDLE.total().named("idle"),
        title="Power, at work and idle",
        unit="watt",
        size=(8, 9),
        stacked=True,
        description="Power of devices that work, and of those that were busy for less than 5 % of "
        "five minutes. Devices of which nobody knows how busy they are count as at work.",
    ),
    graph(
        Query(f"sum({POWER} and ignoring (limit) {LIMIT.expr}) / sum({LIMIT.expr})", "power"),
        BUSY.total("avg").named("busy"),
        TENSOR.total("avg").named("tensor cores"),
        title="Power against utilisation",
        unit="percentunit",
        size=(6, 9),
        maximum=1,
        description="Power as a share of the power limits, beside the share of the time in which "
        "devices, and their tensor cores, were in use. Power without work is the gap between them.",
    ),
    rows(
        brief(
            {
                "Lost": Query(f"({LOST}) * 0 + 1"),
                "Errors": Query(f"{ERRORS.by(*KEYS).expr} > 0"),
                "Held back": Query(f"{HELD.by(*KEYS, operation='max').expr} > {HELD_BACK}"),
                "Margin": Query(f"{MARGIN.by(*KEYS, operation='min').expr} < {NEAR_CELSIUS}"),
            }
        ),
        LABELS,
        title="Devices that need somebody",
        hidden=HIDDEN,
        size=(10, 9),
        first=("Node", "Device"),
        empty="No device is known to need anybody.",
        cells={
            "Lost": named({"1": ("lost", BAD)}),
            "Errors": {"unit": "short", "decimals": 0, **cell(NONE_IS_GOOD)},
            "Held back": {"unit": "percentunit", "decimals": 1, **cell(HELD_STEPS)},
            "Device": {"custom.width": 120},
            "Margin": {"unit": "celsius", **cell(NEAR)},
        },
        description="Devices that are lost, had grave errors within the chosen time, are held back "
        "by heat or power for over 1 % of the time, or have less than 5 degrees left.",
    ),
)

WORK = (
    graph(
        ENGINES.by("engine", operation="avg"),
        title="Utilisation by engine",
        size=(8, 8),
        maximum=1,
        description="Mean share of the time in which an engine was in use. busy: "
        "anything ran; tensor, dram and others: that part did something, where the device tells.",
    ),
    graph(
        RECORDED_OPERATIONS.by("precision"),
        title="Operations",
        unit="si:op/s",
        size=(8, 8),
        logarithmic=True,
        description="Arithmetic operations per second by precision, from hardware activity times "
        "the documented rate of the pipe. Devices without a known peak have none, nor have those "
        "that another exporter shows.",
    ),
    bars(
        Query(leading(POWER), SHOWN),
        title="Top devices by power",
        unit="watt",
        size=(8, 8),
        to_node=True,
        description="The eight devices that draw most. A click opens the node.",
    ),
    graph(
        Query(f"min({NODES_PER_OPERATION}) * {PICO}", "best node"),
        Query(
            f"sum({NODES_PER_OPERATION} * sum without (precision) ({RECORDED_OPERATIONS.expr})) "
            f"/ sum({RECORDED_OPERATIONS.expr}) * {PICO}",
            "all",
        ),
        Query(f"max({NODES_PER_OPERATION}) * {PICO}", "worst node"),
        title="Energy per operation",
        unit=PER_OPERATION_UNIT,
        size=(8, 9),
        logarithmic=True,
        description="Energy of the accelerators of a node per operation, in picojoules (1e-12 J), "
        "over five minutes. A device that waits still draws power: its operations become dear.",
    ),
    rows(
        brief(
            {
                "Operations": OPERATIONS.by(*KEYS),
                "Energy": Query(f"({PER_OPERATION}) * {PICO}"),
                "k T ln 2, sink": Query(gap("sink")),
                "k T ln 2, die": Query(gap("die")),
            }
        ),
        LABELS,
        title="Energy per operation, by device",
        hidden=HIDDEN,
        size=(16, 9),
        sort="Energy",
        first=("Node", "Device", "Energy"),
        cells={
            "Operations": {"unit": "si:op/s", "decimals": 1},
            "Energy": {"unit": PER_OPERATION_UNIT, "decimals": 2},
            "k T ln 2, sink": {"unit": MULTIPLES, "decimals": 2},
            "k T ln 2, die": {"unit": MULTIPLES, "decimals": 2},
        },
        description="Energy per operation, and how many times k T ln 2 that is at the temperature "
        "of the heat sink and of the die. k T ln 2 is a bound of physics, not a target.",
    ),
)

HEAT = (
    graph(
        Query(
            f"{rate(catalogue.THROTTLE, ACCELERATORS).by('reason').expr} / scalar({TELLING})",
            "{{reason}}",
        ),
        title="Held back, by reason",
        unit="percentunit",
        size=(8, 9),
        description="Share of the time in which the devices were held back, by reason, as a mean "
        "of all devices that tell. Reasons overlap: do not add them.",
    ),
    graph(
        CELSIUS.by("sensor", operation="max").named("{{sensor}}, hottest"),
        CELSIUS.by("sensor", operation="avg").named("{{sensor}}, mean"),
        title="Temperature",
        size=(8, 9),
        minimum=None,
        description="The hottest device and the mean of all, by sensor.",
    ),
    bars(
        Query(leading(f"{HELD.by(*KEYS, operation='max').expr} > 0"), SHOWN),
        title="Most held back",
        unit="percentunit",
        size=(8, 9),
        maximum=1,
        steps=HELD_STEPS,
        to_node=True,
        description="The eight devices that are held back for the largest share of the time, by "
        "heat or power.",
    ),
    graph(
        Query(
            leaders(
                10,
                MARGIN.by("instance", operation="min").expr,
                f"min by (instance) (min_over_time({MARGIN.expr}{WHOLE}))",
                order="bottomk",
            ),
            "{{instance}}",
        ),
        title="Margin to slow-down",
        unit="celsius",
        size=(8, 8),
        minimum=None,
        description="Degrees that the hottest device of a node has left until it slows down, for "
        "the ten nodes that had least in the chosen time. 0 or less means that it does.",
    ),
    graph(
        Query(
            leaders(10, f"max by (instance) ({FANS})", f"max by (instance) ({FAN_MEANS})"),
            "{{instance}}",
        ),
        title="Fans of accelerators",
        unit="percentunit",
        size=(8, 8),
        maximum=1,
        description="Level of the fans that sit on the devices themselves, the highest of a node, "
        "for the ten nodes with the highest mean in the chosen time. Boards that the chassis cools "
        "have none.",
    ),
    bars(
        Query(leading(OF_LIMIT), SHOWN),
        title="Nearest to the power limit",
        unit="percentunit",
        size=(8, 8),
        steps=FULL,
        to_node=True,
        description="Power as a share of the limit in force, for the eight devices nearest to it.",
    ),
)

INSIDE = (
    graph(
        CLOCKS.by("clock", operation="avg"),
        CLOCKS.by("clock", operation="min").named("{{clock}}, slowest"),
        title="Clocks",
        size=(8, 8),
        description="Mean clock of the devices, and that of the slowest.",
    ),
    graph(
        Query(f"sum({USED.expr}) / sum({TOTAL.expr})", "all"),
        Query(f"max({FULLNESS})", "fullest device"),
        title="Memory in use",
        unit="percentunit",
        size=(8, 8),
        maximum=1,
        description="Used memory as a share of all memory, of all devices and of the fullest.",
    ),
    graph(
        rate(catalogue.LINK, ACCELERATORS).by("link", "direction"),
        title="Links",
        size=(8, 8),
        logarithmic=True,
        description="Bytes per second over all links of a kind; the scale is logarithmic. A link "
        "that moves nothing is not drawn.",
    ),
)

SCREEN = Screen(
    "Accelerators",
    "What do the accelerators draw, are they doing useful work for it, and is one of them sick?",
    (
        Row("", NOW),
        Row("", DRAW),
        Row("Work", WORK),
        Row("Heat and power", HEAT),
        Row("Inside", INSIDE),
        Row("Trust", TRUST),
        Row("Sharing", SHARING),
        Row("Devices", DEVICES),
    ),
)
