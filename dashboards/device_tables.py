"""Tables of accelerators: what of them can be trusted, who shares and holds them, all of them."""

from __future__ import annotations

from dashboards.devices import (
    ACCELERATORS,
    BUSY,
    CELSIUS,
    DEVICE,
    DISAGREEMENT,
    FULL,
    FULLNESS,
    HELD,
    HELD_STEPS,
    HIDDEN,
    HOT,
    INFO,
    KEYS,
    LABELS,
    LIMIT,
    MARGIN,
    NEAR,
    OF_LIMIT,
    POWER,
    brief,
    listed,
)
from dashboards.fields import cell
from dashboards.panels import graph
from dashboards.promql import TILES, Query, births, leaders, level
from dashboards.tables import rows
from joulefloor import catalogue

TENANTS = level(catalogue.PART_POWER, f'part=~"mig:.*|process:.*",{ACCELERATORS}')
PIECES = level(catalogue.PART_POWER, f'part=~"mig:.*|process:.*|idle",{ACCELERATORS}')
SHARES = (
    f"label_replace(sum without (source, method) ({PIECES.expr} and on ({DEVICE}) {TENANTS.expr}), "
    f'"part", "$1", "part", "(mig:[^:]+:.{{12}}).+")'
)
"""Also what is idle, of devices that somebody has a part of."""
APART = f"max by (instance, source) ({DISAGREEMENT})"
HOLDERS = level(
    catalogue.WORKLOAD_DEVICE_SHARE,
    f'workload_kind!~"system|idle|unattributed",{ACCELERATORS}',
)

TRUST = (
    graph(
        Query(
            leaders(10, APART, f"avg_over_time(({APART}){TILES})"),
            "{{instance}} {{source}}",
        ),
        title="Counter against integral",
        unit="percentunit",
        size=(8, 8),
        description="How far a second meter of a device (such as the integral of its power) is "
        "from the one that is counted: the worst device of a node, for the ten that were furthest "
        "off in the mean of the chosen time. Above 15 % it is an alert.",
    ),
    rows(
        brief({"Errors": Query(f"{births(catalogue.DEVICE_ERRORS, ACCELERATORS).expr} > 0")}),
        {**LABELS, "error": "Error"},
        title="Errors",
        hidden=HIDDEN,
        size=(9, 8),
        first=("Device", "Errors", "Error"),
        sort="Errors",
        empty="No errors in this time.",
        cells={"Errors": {"decimals": 0}},
        description="What the devices counted within the chosen time or since the daemon met them. "
        "xid: all of the driver's; xid_N: those with number N; corrected memory errors and replays "
        "cost time only.",
    ),
    rows(
        {"Devices": level(catalogue.DEVICE_CAPABILITY, ACCELERATORS)},
        {"capability": "Capability", "state": "State"},
        title="What devices do not tell",
        size=(7, 8),
        first=("Capability", "State", "Devices"),
        sort="Devices",
        empty="Nothing is known to be missing.",
        cells={"Capability": {"custom.width": 165}},
        description="Capabilities that the driver does not give, and for how many devices: "
        "unsupported, denied, or unknown_peak. Panels leave these devices out. Other exporters "
        "than joulefloor say nothing of this.",
    ),
)

SHARING = (
    rows(
        brief(
            {
                "Power": Query(SHARES),
                "Of the device": Query(f"{SHARES} / on ({DEVICE}) group_left () ({POWER} > 0)"),
            }
        ),
        {**LABELS, "part": "Instance or process"},
        title="Shares of a device",
        hidden=HIDDEN,
        size=(13, 9),
        first=("Device", "Instance or process", "Of the device"),
        sort="Device",
        ascending=True,
        empty="No device is known to be divided.",
        cells={
            "Power": {"unit": "watt"},
            "Of the device": {"unit": "percentunit", "decimals": 0},
            "Instance or process": {"custom.width": 200},
            "Device": {"custom.width": 120},
        },
        description="Devices that are divided into instances or shared by processes, and what is "
        "left over as idle: by use times size, modelled. The shares add up to the device.",
    ),
    rows(
        brief(
            {
                "Share": HOLDERS,
                "Busy": Query(
                    f"{HOLDERS.expr} * 0 + on ({DEVICE}) group_left () "
                    f"{BUSY.by(*KEYS, operation='max').expr}"
                ),
            }
        ),
        {**LABELS, "workload_namespace": "Namespace", "workload_pod": "Holder"},
        title="Who holds them",
        hidden=HIDDEN,
        size=(11, 9),
        first=("Device", "Holder", "Busy"),
        sort="Busy",
        ascending=True,
        empty="Nobody is known to hold a device.",
        cells={
            "Share": {"unit": "percentunit", "decimals": 0},
            "Busy": {"unit": "percentunit", "decimals": 0},
            "Holder": {"custom.width": 150},
        },
        description="Which workload holds which device, its share of the dynamic energy, and how "
        "busy the device is: the idlest first.",
    ),
)

DEVICES = (
    rows(
        {
            "Power": listed(POWER),
            "Limit": listed(LIMIT.expr),
            "Of its limit": listed(OF_LIMIT),
            "Busy": listed(BUSY.expr),
            "Memory": listed(FULLNESS),
            "Hottest": listed(CELSIUS.by(*KEYS, operation="max").expr),
            "Margin": listed(MARGIN.by(*KEYS, operation="min").expr),
            "Held back": listed(HELD.by(*KEYS, operation="max").expr),
        },
        {"instance": "Node", "device": "Device"},
        title="Devices now",
        size=(24, 11),
        first=("Node", "Power", "Busy", "Hottest"),
        sort="Power",
        cells={
            "Power": {"unit": "watt", "decimals": 0},
            "Limit": {"unit": "watt", "decimals": 0},
            "Of its limit": {"unit": "percentunit", "decimals": 0, **cell(FULL)},
            "Busy": {"unit": "percentunit", "decimals": 0},
            "Memory": {"unit": "percentunit", "decimals": 0},
            "Hottest": {"unit": "celsius", "decimals": 0, **cell(HOT)},
            "Margin": {"unit": "celsius", "decimals": 0, **cell(NEAR)},
            "Held back": {"unit": "percentunit", "decimals": 1, **cell(HELD_STEPS)},
            "Device": {"custom.width": 370},
        },
        description="The hundred devices that draw most. A dash is a value that the device does "
        "not give.",
    ),
    rows(
        {"Devices": INFO},
        {"component": "Component", "vendor": "Vendor", "model": "Model"},
        title="Inventory",
        size=(14, 7),
        first=("Devices", "Model"),
        sort="Devices",
        cells={"Model": {"custom.width": 420}},
        description="Devices by the name that their vendor or driver gives them.",
    ),
    rows(
        {"Nodes": level(catalogue.DRIVER_INFO)},
        {"vendor": "Vendor", "version": "Version"},
        title="Drivers",
        size=(10, 7),
        sort="Nodes",
        description="Versions of the loaded drivers, and on how many nodes.",
    ),
)
