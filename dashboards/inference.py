"""Inference: what a token costs in joules at each boundary, and which model wastes."""

from __future__ import annotations

from itertools import pairwise

from dashboards.costs import COST, OF_BUDGET, PEAKS, SPENT
from dashboards.fields import GOOD, PLAIN, WARN, cell
from dashboards.models import (
    BATCH,
    BOUNDARIES,
    INFERENCES,
    MODEL,
    MODEL_CHOICE,
    PER_INFERENCE,
    PER_TOKEN,
    POWER,
    TOKENS,
    at,
    by_batch,
    comparable_cost,
    over,
    per_million_tokens,
    token_cost,
    widest,
)
from dashboards.panels import bars, graph, number
from dashboards.promql import Query, recorded
from dashboards.screen import Row, Screen, entry
from dashboards.tables import rows

IDLE = recorded("model:joulefloor_loaded_idle_power_watts:sum")
STRAY = recorded("namespace:joulefloor_power_without_model_watts:sum")
HOLDERS = recorded("workload:joulefloor_boundary_power_watts:sum", 'boundary="device"')
HELD = f"sum by (cluster, workload_namespace) ({HOLDERS.expr})"
REQUESTS = recorded("model:joulefloor_requests:sum")
UNKNOWN = f"({TOKENS} > 0 or {INFERENCES} > 0) unless on (cluster, model) {at(POWER, 'device')} > 0"
BILLED = f"({widest(POWER)}) and ({widest(PER_TOKEN)})"
PUE = recorded("cluster:joulefloor_pue:ratio").by("cluster", "pue_source")
PUE_OF_MONTH = recorded("site:joulefloor_pue:ratio30d").by("cluster", "site")
FEW_IS_GOOD = ((None, GOOD), (1, WARN))
WATTS_IS_BAD = ((None, GOOD), (50, WARN))
PER_MILLION = "suffix: per Mtoken"

NOW = (
    number(
        Query(token_cost("node")),
        title="Joules per token",
        unit="joule",
        description="Energy of the machines that serve (boundary: node) over the output tokens of "
        "the chosen models that have this boundary. Prompt tokens are part of what an output token "
        "takes.",
    ),
    number(
        Query(f"sum({TOKENS})"),
        title="Output tokens",
        unit="suffix:/s",
        decimals=0,
        description="Output tokens per second of the chosen models, a mean over five minutes.",
    ),
    number(
        Query(f"sum({IDLE.expr}) or sum({at(POWER, 'device')}) * 0"),
        title="Loaded and idle",
        unit="watt",
        steps=WATTS_IS_BAD,
        description="Power of accelerators that hold a model and serve nobody. It counts in the "
        "power of their model as well.",
    ),
    number(
        Query(f"sum({STRAY.expr}) or sum({HELD}) * 0"),
        title="Without a model",
        unit="watt",
        steps=WATTS_IS_BAD,
        description="Power of accelerators whose holders are no known inference server: training, "
        "or a server whose metrics are switched off.",
    ),
    number(
        Query(f"count({UNKNOWN}) or count({TOKENS} or {INFERENCES}) * 0"),
        title="Models without energy",
        unit="short",
        steps=FEW_IS_GOOD,
        description="Models that serve, but whose energy cannot be joined with their work: they "
        "have no joules per token anywhere on this page.",
    ),
    number(
        Query(per_million_tokens(f"sum({BILLED}) / sum({TOKENS} > 0 and ({BILLED}))")),
        title="Cost of tokens",
        unit=PER_MILLION,
        decimals=3,
        description="Price of the electricity of a million output tokens, in the currency of the "
        "price above, which is an example until you put in yours. At the widest known boundary.",
    ),
)

TOKEN = (
    graph(
        Query(at(PER_TOKEN, "node")).by("model"),
        title="Joules per output token, by model",
        unit="joule",
        size=(16, 9),
        logarithmic=True,
        description="Energy of the machines that serve the model (boundary: node) over its output "
        "tokens. The scale is logarithmic. It falls as batches grow: a line that rises is waste.",
    ),
    bars(
        *(Query(comparable_cost(boundary), boundary) for boundary in BOUNDARIES),
        title="By boundary",
        unit="joule",
        size=(8, 9),
        description="Joules per output token; each bar contains the one before. device: the "
        "accelerators. node: and the host, its CPUs, memory and fans. pool: and machines that "
        "nobody uses. facility: and cooling and power supply, by the PUE. A boundary that no model "
        "has is missing; all bars are over the chosen models that have the widest one here.",
    ),
)

TABLE = (
    rows(
        {
            "Tokens": Query(TOKENS, unit="suffix:/s"),
            "J at device": Query(at(PER_TOKEN, "device"), unit="joule"),
            "J at node": Query(at(PER_TOKEN, "node"), unit="joule"),
            "J at pool": Query(at(PER_TOKEN, "pool"), unit="joule"),
            "J at facility": Query(at(PER_TOKEN, "facility"), unit="joule"),
            "Batch": Query(BATCH),
            "Of budget": Query(OF_BUDGET, unit="percentunit"),
            "Loaded idle": IDLE,
            "Power": Query(at(POWER, "node"), unit="watt"),
        },
        MODEL,
        title="Models: joules per output token",
        first=("Model", "J at device", "J at node", "J at pool", "J at facility", "Of budget"),
        size=(24, 8),
        sort="Power",
        cells={
            "Model": {"custom.width": 260},
            "Tokens": {"decimals": 0},
            "Batch": {"decimals": 1},
            "Of budget": cell(SPENT),
            "Loaded idle": cell(((None, PLAIN), (50, WARN))),
        },
        description="Every model with power: joules per output token at each boundary, requests "
        "in a batch, and node energy as a share of what the owner of the model allows. A model "
        "that serves nobody has no joules per token, only power.",
    ),
)

WHERE = (
    graph(
        Query(f"sum({at(POWER, 'device')})", "device"),
        Query(f"sum({at(POWER, 'node')} - {at(POWER, 'device')})", "host"),
        Query(f"sum({at(POWER, 'pool')} - {at(POWER, 'node')})", "idle machines"),
        Query(f"sum({at(POWER, 'facility')} - {at(POWER, 'pool')})", "facility"),
        title="Power of the models, by what takes it",
        unit="watt",
        size=(10, 9),
        stacked=True,
        description="Accelerators, then what the host adds to them, machines that nobody uses, and "
        "cooling and power supply of the building.",
    ),
    graph(
        *(
            Query(over(outer, inner), f"{outer} over {inner}")
            for inner, outer in pairwise(BOUNDARIES)
        ),
        title="Each boundary over the one inside",
        unit="suffix: times",
        size=(7, 9),
        minimum=1,
        description="What a boundary adds, as a factor. 1 means nothing. Each is over the models "
        "that have both boundaries. It is comparable between sites where joules are not.",
    ),
    graph(
        Query(
            f'{PUE.expr} or label_replace({PUE_OF_MONTH.expr}, "pue_source", "of 30 days", "", "")',
            "{{cluster}} {{pue_source}} {{site}}",
        ),
        title="PUE in use",
        unit="suffix: times",
        size=(7, 9),
        minimum=1,
        description="What joules at pool are multiplied with for the facility. It says whether it "
        "was measured (of the last hour) or configured. Of 30 days: what the site took over what "
        "its machines took, of the hours of the last 30 days in which both were metered.",
    ),
    graph(
        IDLE.by("model"),
        title="Loaded and idle, by model",
        size=(12, 8),
        stacked=True,
        description="Power of accelerators that hold a model while nobody asks it. Sleep, unload "
        "or share them.",
    ),
    rows(
        {
            "Accelerators": Query(HELD, unit="watt"),
            "Without a model": Query(f"{STRAY.expr} or {HELD} * 0", unit="watt"),
        },
        {"workload_namespace": "Namespace", "cluster": "Cluster"},
        title="Accelerators by namespace",
        size=(12, 8),
        first=("Namespace", "Accelerators"),
        sort="Without a model",
        cells={"Without a model": cell(WATTS_IS_BAD)},
        description="Power of all held accelerators of a namespace, and of those whose holders are "
        "no known inference server.",
    ),
)

BATCHES = (
    rows(
        {"Per token": Query(by_batch(), unit="joule")},
        {"model": "Model", "batch": "Batch"},
        title="Joules per token, by batch size",
        size=(8, 9),
        sort="Model",
        ascending=True,
        cells={"Model": {"custom.width": 230}},
        description="Node energy over output tokens of the chosen time, apart for the minutes in "
        "which the mean batch of the model was that large. The reward for larger batches.",
    ),
    graph(
        Query(BATCH).by("model"),
        title="Batch size",
        unit="short",
        size=(8, 9),
        description="Requests that an engine works on at a time, by model.",
    ),
    graph(
        REQUESTS.by("state"),
        title="Requests",
        unit="short",
        size=(8, 9),
        description="Requests of the chosen models that run and that wait. Small batches while "
        "requests wait are waste.",
    ),
)

WORK = (
    graph(
        recorded("model:joulefloor_tokens:rate5m").by("direction"),
        title="Tokens",
        unit="suffix:/s",
        size=(8, 8),
        description="Tokens per second of the chosen models: output, and input that was computed. "
        "Cached prompt tokens are not counted.",
    ),
    graph(
        Query(INFERENCES).by("model"),
        title="Inferences",
        unit="suffix:/s",
        size=(8, 8),
        description="What the server counts as an inference, mostly a request, per second.",
    ),
    graph(
        Query(at(PER_INFERENCE, "node")).by("model"),
        title="Joules per inference, by model",
        unit="joule",
        size=(8, 8),
        logarithmic=True,
        description="Energy of the machines that serve the model (boundary: node) over its "
        "inferences. The scale is logarithmic.",
    ),
)

SCREEN = Screen(
    "Inference",
    "What does a token cost in joules at each boundary, and which model wastes?",
    (
        Row("", NOW),
        Row("", TOKEN),
        Row("", TABLE),
        Row("Where the joules go", WHERE),
        Row("Batches", BATCHES),
        Row("Work", WORK),
        Row("Cost, carbon, budget and training", COST),
        Row("Peaks", PEAKS),
    ),
    variables=(MODEL_CHOICE, entry("price", "Price per kWh (example)", "0.20")),
)
