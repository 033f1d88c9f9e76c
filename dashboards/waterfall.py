"""A row of the dashboard *Landauer*: the factors between the floor and a measured inference."""

from __future__ import annotations

from dashboards.fields import GOOD, WARN
from dashboards.models import KEY, MODEL, PER_INFERENCE, per_model, widest
from dashboards.panels import bars, number
from dashboards.promql import Query, recorded
from dashboards.tables import rows
from dashboards.words import DECADES, ZEPTO, ZEPTOJOULES_PER_BIT

FACTORS = {
    "2-operations": "operations (algorithm)",
    "3-bits": "bits (quantisation)",
    "4-hardware": "hardware (new chips)",
    "5-utilization": "utilisation (batching)",
    "6-host": "host (leaner nodes)",
    "7-idle": "idle (consolidation)",
    "8-facility": "facility (cooling)",
}
"""Factor of the waterfall: its name here, with what would change it."""
WATERFALL = "model:joulefloor_waterfall:ratio5m"


def factor(name: str) -> str:
    """One factor of the waterfall, by cluster and model."""
    return per_model(WATERFALL, f'factor="{name}"')


WHOLE = f"({factor('2-operations')} and {factor('5-utilization')})"
"""Models whose waterfall goes down to the floor. A boundary that is not known adds nothing."""
PRODUCT = f"exp(sum by ({KEY}) (ln({recorded(WATERFALL).expr}))) and {WHOLE}"
MEASURED = f"({widest(PER_INFERENCE)}) and {WHOLE}"

WATERFALLS = (
    bars(
        *(
            Query(f"avg(log10({factor(key)} and {WHOLE} or {WHOLE} ^ 0))", name)
            for key, name in FACTORS.items()
        ),
        title="From the floor to an inference",
        unit=DECADES,
        size=(12, 9),
        decimals=2,
        description="Floor times all of these is what an inference takes. Each bar is the power of "
        "ten that its factor adds, with what would change it in brackets. Of several models the "
        "geometric mean: choose one to see its own.",
    ),
    number(
        Query(f"exp(avg(ln({PRODUCT})))"),
        title="Floor times all factors",
        unit="joule",
        size=(4, 9),
        description="The floor of a bit times every factor beside it: what an inference takes if "
        "the factors are right.",
    ),
    number(
        Query(f"exp(avg(ln({MEASURED})))"),
        title="Measured inference",
        unit="joule",
        size=(4, 9),
        description="Energy over inferences at the widest boundary that is known of each model.",
    ),
    number(
        Query(f"exp(avg(ln(({PRODUCT}) / ({MEASURED}))))"),
        title="Product over measured",
        unit="percentunit",
        size=(4, 9),
        decimals=2,
        steps=((None, WARN), (0.99, GOOD), (1.01, WARN)),
        description="100 % where the factors explain the whole of what was measured. Off by more "
        "than 1 % for long, something is counted twice or not at all; right after a change the "
        "factors only follow one another.",
    ),
    rows(
        {
            "Floor": Query(f"{factor('1-floor')} * {ZEPTO}", unit=ZEPTOJOULES_PER_BIT),
            "Operations": Query(factor("2-operations"), unit="si:op"),
            "Bits": Query(factor("3-bits")),
            "Hardware": Query(factor("4-hardware"), unit="sishort"),
            "Utilisation": Query(factor("5-utilization")),
            "Host": Query(factor("6-host")),
            "Idle pool": Query(factor("7-idle")),
            "Facility": Query(factor("8-facility")),
            "Product": Query(PRODUCT, unit="joule"),
            "Measured": Query(MEASURED, unit="joule"),
        },
        MODEL,
        title="The factors of each model",
        first=("Model", "Product", "Measured"),
        size=(24, 8),
        sort="Measured",
        cells={
            "Model": {"custom.width": 230},
            "Floor": {"decimals": 2},
            **{name: {"decimals": 2} for name in ("Utilisation", "Host", "Idle pool", "Facility")},
        },
        description="Joules per inference are the product: floor, operations of an inference, bits "
        "of an operation, how far the hardware at its best is above the floor, and how many times "
        "more is taken because it is not at its best, has a host, idle neighbours and a building.",
    ),
)
