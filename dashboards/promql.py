"""PromQL from the metric catalogue: what a panel asks, with the scope of the dashboard's variables.

A query carries its metric along, so that title, unit, description and legend follow from it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Self

from dashboards.words import unit_of, unit_of_recorded

if TYPE_CHECKING:
    from joulefloor.catalogue import Metric

CLUSTER = 'cluster=~"$cluster"'
SCOPE = f'{CLUSTER},job=~"$job",instance=~"$instance"'
"""The chosen nodes. A series without a label `cluster` matches too: its pattern for all is `.*`."""
MODELS = f'{CLUSTER},model=~"$model"'
"""The chosen models, on dashboards that have the variable."""
NODE = "cluster, job, instance"
"""Labels that name a node."""
LEVELS = {"node": (SCOPE, "instance"), "model": (MODELS, "model")}
"""By the level of a recorded name: what narrows its series, and the label that names them."""
WINDOW = "[$__rate_interval]"
RANGE = "[$__range]"
WHOLE = f"{RANGE} @ end()"
"""The chosen time, whatever instant of it a graph draws."""
TILES = "[$__range:$__rate_interval] @ end()"
"""The same in steps: what is made of rates then looks at every sample once."""


class Query(NamedTuple):
    """An expression, how its series are called, their unit, and the metric if it is of one."""

    expr: str
    legend: str = ""
    unit: str = ""
    metric: Metric | None = None

    def by(self, *labels: str, operation: str = "sum") -> Self:
        """Aggregate, and name the series by the labels that stay."""
        expr = f"{operation} by ({', '.join(labels)}) ({self.expr})"
        return self._replace(expr=expr, legend=_legend(labels))

    def total(self, operation: str = "sum") -> Self:
        """Aggregate into one series."""
        return self._replace(expr=f"{operation}({self.expr})", legend="")

    def named(self, legend: str) -> Self:
        """Call the series so."""
        return self._replace(legend=legend)

    def times(self, factor: str) -> Self:
        """Scale into what a person reads."""
        return self._replace(expr=f"({self.expr}) * {factor}")


def level(metric: Metric, matchers: str = "") -> Query:
    """The series of a gauge."""
    return Query(
        _select(metric.name, matchers, SCOPE), _legend(metric.labels), unit_of(metric), metric
    )


def rate(metric: Metric, matchers: str = "") -> Query:
    """Change per second of a counter."""
    expr = f"rate({_select(metric.name, matchers, SCOPE)}{WINDOW})"
    return Query(expr, _legend(metric.labels), unit_of(metric, per_second=True), metric)


def gain(metric: Metric, matchers: str = "") -> Query:
    """Change of a counter in the time that the dashboard shows."""
    expr = f"increase({_select(metric.name, matchers, SCOPE)}{RANGE})"
    return Query(expr, _legend(metric.labels), unit_of(metric), metric)


def births(metric: Metric, matchers: str = "") -> Query:
    """As `gain`, also for counters whose series begin at their first event.

    increase() cannot see the first event of such a series, and often there is only one.
    """
    selected = _select(metric.name, matchers, SCOPE)
    expr = f"increase({selected}{RANGE}) > 0 or ({selected} unless {selected} offset $__range)"
    return Query(f"({expr})", _legend(metric.labels), unit_of(metric), metric)


def recorded(name: str, matchers: str = "") -> Query:
    """A series that our rules record; those above the node know only their cluster."""
    scope, shown = LEVELS.get(name.partition(":")[0], (CLUSTER, "cluster"))
    return Query(_select(name, matchers, scope), _legend((shown,)), unit_of_recorded(name))


def leaders(count: int, drawn: str, rank: str, *, order: str = "topk") -> str:
    """Of the series of a graph those with the highest ranks, the same ones at every instant.

    Who leads at an instant may be anybody at another, and the legend would name all that ever did.
    So the rank looks at WHOLE; it has the labels of what is drawn.
    """
    return f"{drawn} and {order}({count}, {rank})"


def others(count: int, drawn: str, rank: str) -> str:
    """What `leaders` leaves out."""
    return f"{drawn} unless topk({count}, {rank})"


def own(name: str, matchers: str = "") -> Query:
    """A series that Prometheus makes itself: up, ALERTS, ALERTS_FOR_STATE."""
    return Query(_select(name, matchers, SCOPE))


def _select(name: str, matchers: str, scope: str) -> str:
    return f"{name}{{{','.join(filter(None, (matchers, scope)))}}}"


def _legend(labels: tuple[str, ...]) -> str:
    # How and by whom it was measured is for tables; in a legend it is noise.
    shown = [label for label in labels if label not in {"source", "method"}] or labels
    return " ".join(f"{{{{{label}}}}}" for label in shown)
