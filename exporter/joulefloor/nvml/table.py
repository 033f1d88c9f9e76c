"""What is read of one GPU, as rows: which call or field gives which series, in which unit.

Field ids are NVIDIA's numbers (nvml.h, 13.5); they are written as numbers because the driver, not
the binding, decides which it knows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from joulefloor import catalogue
from joulefloor.model import DEFAULT_MAX_WATTS, Measures

if TYPE_CHECKING:
    from joulefloor.catalogue import Metric

COMPONENT = "gpu"
COUNTER, INTEGRAL = "nvml", "nvml-power"
"""Label `source` of the driver's energy counter and of integrated power."""
MODULE = "module"
"""Component of a board on which CPU and GPUs share one meter; only ever read as a part."""
ALL_LINKS = 0xFFFF_FFFF
BYTES_PER_KIB = 1024.0
PER_NANO = 1e-9
PER_MILLI = 1e-3
MODULE_SCOPE, MEMORY_SCOPE = 1, 2
POWER_AVERAGE, POWER_INSTANT = 185, 186


class Row(NamedTuple):
    """One series: metric name, label values, `Measures` by name, bound on power in W."""

    metric: str
    labels: tuple[str, ...]
    measures: str = Measures.LEVEL.name
    max_watts: float = DEFAULT_MAX_WATTS


class Field(NamedTuple):
    """A field of nvmlDeviceGetFieldValues: its capability, series and factor to base units.

    `detail`: whether it is read only where full detail is asked for. `instead_of`: keys of the
    fields in whose place it is read, only while the driver gives none of them.
    """

    capability: str
    number: int
    scope: int
    metric: Metric
    labels: tuple[str, ...]
    factor: float = 1.0
    detail: bool = False
    instead_of: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Name of the capability of this one field."""
        return f"{self.capability}/{self.labels[-1]}"


QUIET = frozenset(
    metric.name
    for metric in (
        catalogue.THROTTLE,
        catalogue.DEVICE_ERRORS,
        catalogue.OPERATIONS,
        catalogue.LINK,
    )
)
"""Counters of which most never move: without full detail a series begins with its first count."""
ALWAYS = frozenset({"sw_power_cap", "xid", "fp16"})
"""The reason, error and precision that are there from the start.

Each says that its kind is read, and the first XID must be seen as an increase.
"""
ENGINES_SHOWN = frozenset({"tensor", "dram"})
"""Engines whose use is told without full detail, beside `busy`, and `memory` without `dram`."""


def level(metric: Metric, device: str, *rest: str) -> Row:
    """A gauge, or a counter that is not energy, of the GPU."""
    return Row(metric.name, (COMPONENT, device, *rest))


FIELDS = (
    Field("temperature_memory", 82, 0, catalogue.TEMPERATURE, ("memory",)),
    Field("throttle_sw_power_cap", 74, 0, catalogue.THROTTLE, ("sw_power_cap",), PER_NANO),
    Field("throttle_sync_boost", 76, 0, catalogue.THROTTLE, ("sync_boost",), PER_NANO),
    Field("throttle_board_limit", 77, 0, catalogue.THROTTLE, ("board_limit",), PER_NANO),
    Field("throttle_reliability", 79, 0, catalogue.THROTTLE, ("reliability",), PER_NANO),
    Field("throttle_sw_thermal", 269, 0, catalogue.THROTTLE, ("sw_thermal_slowdown",), PER_NANO),
    Field("throttle_hw_thermal", 270, 0, catalogue.THROTTLE, ("hw_thermal_slowdown",), PER_NANO),
    Field("throttle_brake", 271, 0, catalogue.THROTTLE, ("hw_power_brake_slowdown",), PER_NANO),
    Field(
        "throttle_thermal",
        75,
        0,
        catalogue.THROTTLE,
        ("thermal",),
        PER_NANO,
        instead_of=(
            "throttle_sw_thermal/sw_thermal_slowdown",
            "throttle_hw_thermal/hw_thermal_slowdown",
        ),
    ),
    Field("nvlink", 138, ALL_LINKS, catalogue.LINK, ("nvlink", "transmit"), BYTES_PER_KIB),
    Field("nvlink", 139, ALL_LINKS, catalogue.LINK, ("nvlink", "receive"), BYTES_PER_KIB),
    Field("ecc", 3, 0, catalogue.DEVICE_ERRORS, ("ecc_corrected",)),
    Field("ecc", 4, 0, catalogue.DEVICE_ERRORS, ("ecc_uncorrected",)),
    Field("pcie_replay", 94, 0, catalogue.DEVICE_ERRORS, ("pcie_replay",), detail=True),
    Field("row_remap", 143, 0, catalogue.DEVICE_ERRORS, ("row_remap",)),
    Field("row_remap", 145, 0, catalogue.DEVICE_ERRORS, ("row_remap_failure",)),
)
"""Fields that are counters or gauges of the GPU as they are.

75 (thermal) repeats 269 and 270, which drivers up to 570 do not have. Left out: 78 (low
utilisation) is idleness and holds nothing back; 197 and 198 (PCIe bytes) have 32 bits, which a
fast link fills many times between two reads.
"""


class Gauge(NamedTuple):
    """A call that returns one number: capability, series, name, factor to base units, argument.

    `detail`: whether it is called only where full detail is asked for.
    """

    key: str
    metric: Metric
    labels: tuple[str, ...]
    call: str
    factor: float = 1.0
    argument: int | None = None
    detail: bool = False


HERTZ_PER_MEGAHERTZ = 1e6
PER_CENT = 0.01
FREE_POWER_FACTOR = 1.5
"""A GPU may pass its highest limit for milliseconds, not by half of it for a second."""
_LIMIT, _CLOCK, _GET_CLOCK = (
    catalogue.COMPONENT_POWER_LIMIT,
    catalogue.CLOCK,
    "nvmlDeviceGetClockInfo",
)
GAUGES = (
    Gauge("power_limit", _LIMIT, ("enforced",), "nvmlDeviceGetEnforcedPowerLimit", PER_MILLI),
    Gauge(
        "power_limit_default",
        _LIMIT,
        ("default",),
        "nvmlDeviceGetPowerManagementDefaultLimit",
        PER_MILLI,
        detail=True,
    ),
    Gauge("temperature_die", catalogue.TEMPERATURE, ("die",), "nvmlDeviceGetTemperature", 1.0, 0),
    Gauge(
        "temperature_margin",
        catalogue.TEMPERATURE_MARGIN,
        ("die",),
        "nvmlDeviceGetMarginTemperature",
    ),
    Gauge(
        "performance_state",
        catalogue.PERFORMANCE_STATE,
        (),
        "nvmlDeviceGetPerformanceState",
        detail=True,
    ),
    Gauge("clock_sm", _CLOCK, ("sm",), _GET_CLOCK, HERTZ_PER_MEGAHERTZ, 1),
    Gauge("clock_memory", _CLOCK, ("memory",), _GET_CLOCK, HERTZ_PER_MEGAHERTZ, 2, detail=True),
    Gauge("clock_graphics", _CLOCK, ("graphics",), _GET_CLOCK, HERTZ_PER_MEGAHERTZ, 0, detail=True),
)
