"""Grafana's classic dashboard model, imported in one place.

The SDK warns at import that a newer model exists. Classic is meant: it is what Grafana 10.4 to 13
load from files. Nothing else is to be silenced, so the import happens here and nowhere else.
"""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "Prefer using dashboardv2", DeprecationWarning)
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models import (
        bargauge,
        common,
        dashboard,
        prometheus,
        stat,
        table,
        text,
        timeseries,
    )

__all__ = [
    "JSONEncoder",
    "bargauge",
    "common",
    "dashboard",
    "prometheus",
    "stat",
    "table",
    "text",
    "timeseries",
]
