"""What is asked of single accelerators: expressions by device, for any vendor.

Nothing is recorded per device, so these are computed when a panel is drawn: panels over time show
aggregates or a few devices, never one line for each of thousands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards.fields import BAD, PLAIN, WARN
from dashboards.promql import NODE, WHOLE, Query, births, level, rate
from joulefloor import catalogue

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCELERATORS: Final = 'component=~"gpu|tpu"'
DEVICE: Final = f"{NODE}, component, device"
"""Labels that name a device."""
SHOWN: Final = "{{instance}} {{short}}"
LEADING: Final = 8
"""Devices that a ranking shows."""
LISTED: Final = 100
"""Devices that the table of all lists: those that draw most."""
SICK: Final = 'error=~"xid|ecc_uncorrected|row_remap_failure"'
"""Errors that somebody has to look into, though an XID may be the fault of an application."""
NEAR_CELSIUS: Final = 5
HELD_BACK: Final = 0.01
PICO: Final = "1e12"
KEYS: Final = DEVICE.split(", ")
LABELS: Final = {"instance": "Node", "short": "Device", "device": "Whole name"}
HIDDEN: Final = ("Whole name",)
"""It keeps devices apart whose short names are the same."""
HOT: Final = ((None, PLAIN), (80, WARN), (90, BAD))
FULL: Final = ((None, PLAIN), (0.95, WARN), (1.05, BAD))
HELD_STEPS: Final = ((None, PLAIN), (HELD_BACK, WARN), (0.2, BAD))
# An absent value has the first colour, so red begins below any margin.
NEAR: Final = ((None, PLAIN), (-1e9, BAD), (NEAR_CELSIUS, WARN), (2 * NEAR_CELSIUS, PLAIN))


def _on_devices(fans: str, devices: str) -> str:
    """Fans carry no component: the device that they sit on does."""
    return f"{fans} * on ({NODE}, device) group_left (component) max by ({DEVICE}) ({devices})"


INFO: Final = level(catalogue.DEVICE_INFO, ACCELERATORS)
PARTS: Final = level(catalogue.COMPONENT_POWER, ACCELERATORS)
POWER: Final = f"sum without (source, method) ({PARTS.expr})"
LIMIT: Final = level(catalogue.COMPONENT_POWER_LIMIT, f'limit="enforced",{ACCELERATORS}')
OF_LIMIT: Final = f"{POWER} / ignoring (limit) ({LIMIT.expr} > 0)"
CELSIUS: Final = level(catalogue.TEMPERATURE, ACCELERATORS)
MARGIN: Final = level(catalogue.TEMPERATURE_MARGIN, ACCELERATORS)
HELD: Final = rate(catalogue.THROTTLE, f'reason=~".*(thermal|power).*",{ACCELERATORS}')
TELLING: Final = f"count(group by ({DEVICE}) ({rate(catalogue.THROTTLE, ACCELERATORS).expr}))"
"""How many devices say for how long they are held back: by power from the start, if at all."""
BUSY: Final = level(catalogue.UTILIZATION, f'engine="busy",{ACCELERATORS}')
USED: Final = level(catalogue.MEMORY, f'state="used",{ACCELERATORS}')
TOTAL: Final = level(catalogue.MEMORY, f'state="total",{ACCELERATORS}')
FULLNESS: Final = f"{USED.expr} / ignoring (state) ({TOTAL.expr} > 0)"
ERRORS: Final = births(catalogue.DEVICE_ERRORS, f"{SICK},{ACCELERATORS}")
JOULES: Final = rate(catalogue.COMPONENT_ENERGY, ACCELERATORS).by(*KEYS).expr
OPERATIONS: Final = rate(catalogue.OPERATIONS, ACCELERATORS)
PER_OPERATION: Final = f"{JOULES} / ({OPERATIONS.by(*KEYS).expr} > 0)"
FAN: Final = level(catalogue.FAN_SPEED_RATIO).expr
FANS: Final = _on_devices(FAN, INFO.expr)
FAN_MEANS: Final = _on_devices(f"avg_over_time({FAN}{WHOLE})", f"max_over_time({INFO.expr}{WHOLE})")
LOST: Final = (
    f"({JOULES} or group by ({DEVICE}) ({INFO.expr} offset 1h) "
    f"and on ({NODE}, component) {PARTS.expr}) "
    f"unless on ({DEVICE}) {INFO.expr} unless on ({DEVICE}) {PARTS.expr}"
)
"""The counter of a device that is gone holds; its gauges and its name are absent.

Of other exporters' devices the counter goes too: there, as for the alert, the hour's memory tells.
"""
ALTERNATE: Final = rate(
    catalogue.ALTERNATE_ENERGY, f'level="component",method!="modelled",{ACCELERATORS}'
)
DISAGREEMENT: Final = (
    f"abs(sum without (level, method) ({ALTERNATE.expr} > 0) "
    f"/ on ({DEVICE}) group_left () ({JOULES} > 0) - 1)"
)
"""By how much a meter that is not counted differs from the one that is, as a share."""


def gap(reference: str) -> str:
    """Energy per operation in units of k T ln 2 at the temperature of the reference."""
    floor = level(catalogue.LANDAUER, f'reference="{reference}",{ACCELERATORS}')
    return f"({PER_OPERATION}) / on ({DEVICE}) max by ({DEVICE}) ({floor.expr})"


def short(expr: str) -> str:
    """Add the label `short`: the first twelve characters of the device, which fit beside a bar.

    The first group of a UUID tells the devices of a machine apart.
    """
    return f'label_replace({expr}, "short", "$1", "device", "(.{{1,12}}).*")'


def leading(expr: str) -> str:
    """The largest few."""
    return short(f"topk({LEADING}, {expr})")


def brief(columns: Mapping[str, Query]) -> Mapping[str, Query]:
    """Columns of a table in which devices have short names."""
    return {name: query._replace(expr=short(query.expr)) for name, query in columns.items()}


def listed(expr: str) -> Query:
    """Of the devices in the table of all only: those that draw most."""
    return Query(f"({expr}) and on ({DEVICE}) topk({LISTED}, {POWER})")
