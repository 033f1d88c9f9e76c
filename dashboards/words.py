"""Titles, units and descriptions that follow from a metric's row or from a recorded name."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from joulefloor.catalogue import Metric

UNITS: Final = {
    "joules": "joule",
    "watts": "watt",
    "celsius": "celsius",
    "kelvin": "kelvin",
    "ratio": "percentunit",
    "hertz": "hertz",
    "rpm": "rotrpm",
    "seconds": "s",
    "bytes": "bytes",
    "watts_per_kelvin": "suffix: W/K",
    "": "short",
}
PER_SECOND: Final = {
    "joules": "watt",
    # Seconds in a second: the share of time.
    "seconds": "percentunit",
    "bytes": "Bps",
    "": "suffix:/s",
}
ZEPTO: Final = "1e21"
DECADES: Final = "suffix: decades"
ZEPTOJOULES_PER_BIT: Final = "suffix: zJ/bit"
"""Grafana's joule stops at femto, and 2.9e-21 J would read 0.0000029 fJ: scale by ZEPTO."""
_SUFFIX: Final = re.compile(
    r"_(joules_total|seconds_total|bytes_total|total|joules|watts_per_kelvin|watts|celsius|kelvin"
    r"|ratio|hertz|rpm|seconds|bytes|joules_per_bit)$"
)


def title_of(metric: Metric) -> str:
    """The metric's name in words, without product and unit."""
    return _SUFFIX.sub("", metric.name.removeprefix("joulefloor_")).replace("_", " ").capitalize()


def unit_of(metric: Metric, *, per_second: bool = False) -> str:
    """Grafana's id of the metric's unit, or empty where a panel has to say it."""
    return (PER_SECOND if per_second else UNITS).get(metric.unit, "")


def unit_of_recorded(name: str) -> str:
    """Grafana's id of the unit that a recorded name ends in: level:metric_unit:operation."""
    _, metric, operation = name.split(":")
    if operation.startswith("ratio"):
        return "percentunit"
    longest_first = sorted(filter(None, UNITS), key=len, reverse=True)
    return next((UNITS[unit] for unit in longest_first if metric.endswith("_" + unit)), "")
