"""What the dashboards about models have in common: their choice, and expressions per model."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from dashboards.promql import CLUSTER, Query, recorded
from dashboards.screen import choice

POWER: Final = "model:joulefloor_power_watts:sum"
PER_TOKEN: Final = "model:joulefloor_joules_per_token:ratio5m"  # noqa: S105  no password
PER_INFERENCE: Final = "model:joulefloor_joules_per_inference:ratio5m"
BOUNDARIES: Final = ("device", "node", "pool", "facility")
BASES: Final = ("average", "market", "marginal")
"""What an intensity of carbon may say: alternatives, the usual one first."""
KEY: Final = "cluster, model"
MODEL: Final = {"model": "Model", "cluster": "Cluster"}
MODEL_CHOICE: Final = choice("model", "Model", f"label_values({POWER}{{{CLUSTER}}}, model)")
BATCHES: Final = (4, 16, 64, 256)
"""Where one class of batch sizes ends and the next begins."""
OVER_TIME: Final = "[$__range:$__interval]"


def at(name: str, boundary: str) -> str:
    """A recorded series at one boundary, by cluster and model."""
    return per_model(name, f'boundary="{boundary}"')


def widest(name: str) -> str:
    """A recorded series at the widest boundary that is known of each model."""
    return " or ".join(at(name, boundary) for boundary in reversed(BOUNDARIES))


def per_model(name: str, matchers: str = "") -> str:
    """A recorded series by cluster and model."""
    return f"sum by ({KEY}) ({recorded(name, matchers).expr})"


TOKENS: Final = per_model("model:joulefloor_tokens:rate5m", 'direction="output"')
INFERENCES: Final = per_model("model:joulefloor_inferences:rate5m")
BATCH: Final = per_model("model:joulefloor_batch_size:ratio")


COMPARABLE: Final = " or ".join(
    at(PER_TOKEN, inner) + (f" unless on () {at(PER_TOKEN, outer)}" if outer else "")
    for inner, outer in zip(BOUNDARIES, (*BOUNDARIES[1:], ""), strict=True)
)
"""Models that serve and are known at the widest boundary at which any is.

Who is known at one boundary is known at all inside it, but not the other way round: a model on CPUs
has no node, a cluster without a PUE no facility. Sums over different models are no ratio.
"""


def one_basis(name: str) -> str:
    """A recorded series of carbon by the first of BASES that is known, as they are never added."""
    known = (per_model(name, f'basis="{basis}"') for basis in BASES)
    return " or ".join(known)


def in_words(query: Query) -> Query:
    """Give the series of targets without a cluster label a name for the legend."""
    words = f'label_replace({query.expr}, "cluster", "no cluster label", "cluster", "")'
    return query._replace(expr=words)


def token_cost(boundary: str) -> str:
    """Joules per output token at the boundary, of all chosen models that have them.

    A model that does not count all its tokens has power and tokens, but not of the same work.
    """
    known = at(PER_TOKEN, boundary)
    return f"sum({at(POWER, boundary)} and {known}) / sum({TOKENS} and {known})"


def comparable_cost(boundary: str) -> str:
    """As `token_cost`, at every boundary of the same models: those of COMPARABLE."""
    power = f"{at(POWER, boundary)} and ({COMPARABLE})"
    return f"sum({power} and {TOKENS} > 0) / sum({TOKENS} > 0 and {power})"


def over(outer: str, inner: str) -> str:
    """How many times the power at the inner boundary the outer one has, of models with both."""
    wide = at(POWER, outer)
    return f"sum({wide}) / sum({at(POWER, inner)} and on ({KEY}) {wide})"


def by_batch() -> str:
    """Joules per output token at the node, apart for the times at which a batch was that large.

    Joules and tokens are added up apart and divided at the end, so no ratio is averaged.
    """
    classes = {f"{low} to {high}": f">= {low} < {high}" for low, high in pairwise((0, *BATCHES))}
    classes[f"{BATCHES[-1]} and more"] = f">= {BATCHES[-1]}"
    return " or ".join(
        f'label_replace({_of_batch(bounds)}, "batch", "{name}", "", "")'
        for name, bounds in classes.items()
    )


def _of_batch(bounds: str) -> str:
    inside = f"{recorded('model:joulefloor_batch_size:ratio').expr} {bounds}"
    power = recorded(POWER, 'boundary="node"').expr
    tokens = recorded("model:joulefloor_tokens:rate5m", 'direction="output"').expr
    known = recorded(PER_TOKEN, 'boundary="node"').expr
    joules, made = (
        f"sum by (model) (sum_over_time(({one} and on ({KEY}) {known} and on ({KEY}) {inside})"
        f"{OVER_TIME}))"
        for one in (power, tokens)
    )
    return f"{joules} / {made}"


def per_million_tokens(joules_per_token: str) -> str:
    """Price of a million tokens: 1e6 of them, over the 3.6e6 joules of a kilowatt hour."""
    return f"{joules_per_token} / 3.6 * $price"
