"""Rows of the dashboard *Inference*: carbon, money, budgets and training, and peaks of power."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dashboards.fields import BAD, GOOD, PLAIN, WARN
from dashboards.models import (
    INFERENCES,
    MODEL,
    PER_INFERENCE,
    PER_TOKEN,
    at,
    in_words,
    one_basis,
    per_million_tokens,
    widest,
)
from dashboards.panels import bars, graph
from dashboards.promql import Query, recorded
from dashboards.tables import rows
from dashboards.words import unit_of
from joulefloor import catalogue

if TYPE_CHECKING:
    from joulefloor.catalogue import Metric


def stated(metric: Metric, matcher: str) -> Query:
    """The series of a gauge that people record in rules of their own.

    Those have neither job nor instance, and of models no cluster: what is chosen of these must not
    hide them.
    """
    return Query(f"{metric.name}{{{matcher}}}", unit=unit_of(metric), metric=metric)


CARBON = one_basis("model:joulefloor_carbon_grams_per_inference:ratio5m")
CARBON_OF_TOKENS = one_basis("model:joulefloor_carbon_grams_per_token:ratio5m")
OF_MODEL = 'model=~"$model"'
BUDGET = stated(catalogue.MODEL_BUDGET, OF_MODEL).by("model", operation="max")
OF_BUDGET = f"{at(PER_TOKEN, 'node')} / on (model) group_left () ({BUDGET.expr} > 0)"
TRAINING = stated(catalogue.MODEL_TRAINING_ENERGY, OF_MODEL).by("model", operation="max")
# An intensity without a cluster counts for all of them.
INTENSITY = stated(catalogue.CARBON_INTENSITY, 'cluster=~"$cluster|"')
BREAKEVEN = recorded("model:joulefloor_breakeven_inferences:ratio5m")
# An absent value takes the first colour.
SPENT = ((None, PLAIN), (0, GOOD), (1, WARN), (2, BAD))

COST = (
    rows(
        {
            "Inferences": Query(INFERENCES, unit="suffix:/s"),
            "J at device": Query(at(PER_INFERENCE, "device"), unit="joule"),
            "J at node": Query(at(PER_INFERENCE, "node"), unit="joule"),
            "J at pool": Query(at(PER_INFERENCE, "pool"), unit="joule"),
            "J at facility": Query(at(PER_INFERENCE, "facility"), unit="joule"),
            "CO2": Query(CARBON),
            "Per Mtoken": Query(per_million_tokens(f"({widest(PER_TOKEN)})")),
        },
        MODEL,
        title="An inference in joules, carbon, money",
        first=("Model", "J at device", "J at node", "J at pool", "J at facility", "CO2"),
        size=(24, 8),
        sort="J at node",
        cells={
            "Model": {"custom.width": 260},
            "Inferences": {"decimals": 2},
            "CO2": {"unit": "massg"},
            "Per Mtoken": {"decimals": 3},
        },
        description="Joules of an inference at each boundary, its grams of CO2 equivalent by the "
        "grid's intensity (average where that is known, else market, else marginal), and the "
        "electricity of a million output tokens at the price above.",
    ),
    graph(
        INTENSITY.by("zone", "basis", operation="avg"),
        title="Carbon intensity of the grid",
        unit="suffix: g/kWh",
        size=(8, 8),
        description="CO2 equivalent of a kilowatt hour, by zone and by what it says: average, "
        "market or marginal. Of the chosen clusters, and where none is named.",
    ),
    graph(
        Query(CARBON_OF_TOKENS).by("model").times("1e6"),
        title="Carbon of a million tokens",
        unit="massg",
        size=(8, 8),
        logarithmic=True,
        description="CO2 equivalent of a million output tokens at the facility. It moves with the "
        "grid as well as with the model. The scale is logarithmic.",
    ),
    bars(
        Query(OF_BUDGET).by("model"),
        title="Energy budget used",
        unit="percentunit",
        steps=SPENT,
        size=(8, 8),
        description="Joules per output token at the node as a share of what the owner of the model "
        "allows. Twice the budget for an hour pages somebody.",
    ),
    rows(
        {
            "Training": TRAINING,
            "Break-even": BREAKEVEN,
            "Reached in": Query(f"{BREAKEVEN.expr} / ({INFERENCES} > 0)", unit="s"),
            "Per inference": recorded("model:joulefloor_training_joules_per_inference:ratio30d"),
        },
        {"model": "Model"},
        title="Training and break-even",
        first=("Model", "Break-even"),
        size=(24, 6),
        cells={
            "Model": {"custom.width": 230},
            "Break-even": {"unit": "short"},
            "Per inference": {"unit": "joule"},
        },
        description="Training energy as its owner states it; inferences after which serving has "
        "taken as much at the node, and how long that takes at the present rate; training energy "
        "on each inference if it were spread over those of the last 30 days.",
    ),
)

PEAKS = (
    graph(
        in_words(recorded("cluster:joulefloor_power_coincidence:ratio1h").by("cluster")),
        recorded("rack:joulefloor_power_coincidence:ratio1h").by("cluster", "rack"),
        title="Coincidence of peaks",
        unit="percentunit",
        maximum=1,
        description="Highest power of all machines together within the last hour, over the sum of "
        "the highest of each. At 100 % all peak at once; below, a shared supply can be smaller.",
    ),
    graph(
        in_words(recorded("cluster:joulefloor_power_swing_watts:diff10m").by("cluster")),
        recorded("rack:joulefloor_power_swing_watts:diff10m").by("cluster", "rack"),
        title="Power swing within ten minutes",
        description="Highest minus lowest power of ten minutes, of clusters and of racks.",
    ),
)
