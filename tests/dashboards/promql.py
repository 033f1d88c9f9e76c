"""Reads PromQL: which series an expression asks for, and which labels its answer can have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import promql_parser as promql
import yaml

from stack.peers import rule_files
from tests.dashboards.board import FOLDER
from tests.rulefiles import foreign_metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from joulefloor.catalogue import Metric

RULES: Final = FOLDER.parent / "alerts"
TARGET: Final = frozenset({"cluster", "job", "instance", "rack"})
"""Labels that a scrape configuration attaches; rack and cluster are optional."""
POD: Final = TARGET | {"namespace", "pod"}
SERVED: Final = POD | {"model_name"}
"""Labels that it attaches to inference servers, which need not say their model themselves."""
ALERT: Final = frozenset(
    {"alertname", "severity", "source", "component", "device", "reason", "model"}
)
OWN: Final = {
    "up": frozenset[str](),
    "ALERTS": ALERT | {"alertstate"},
    "ALERTS_FOR_STATE": ALERT,
}
"""What Prometheus makes itself."""
COUNTED: Final = {"rate", "irate", "increase"}
RANKING: Final = {"topk", "bottomk"}
MADE: Final = {"label_replace", "label_join"}
Known = dict[str, frozenset[str]]


class Use(NamedTuple):
    """A selector inside an expression."""

    name: str
    matchers: tuple[str, ...]
    function: str
    window: str
    birth: bool
    """It stands in `x unless x offset ...`, which finds counters that were born in between."""


class Record(NamedTuple):
    """A recording rule: the name and labels that it gives to what its expression finds."""

    name: str
    expr: str
    labels: frozenset[str]


def uses(expr: str) -> list[Use]:
    """Every selector of an expression."""
    return list(_uses(promql.parse(expr), "", birth=False))


def _uses(node: promql.Expr, function: str, *, birth: bool) -> Iterator[Use]:
    if isinstance(node, promql.MatrixSelector):
        window = promql.display_duration(node.range)
        yield _use(node.vector_selector, function, window, birth=birth)
    elif isinstance(node, promql.VectorSelector):
        yield _use(node, function, "", birth=birth)
    elif isinstance(node, promql.Call):
        for argument in node.args:
            yield from _uses(argument, node.func.name, birth=birth)
    elif isinstance(node, promql.BinaryExpr):
        born = str(node.op) == "unless" and _same(node)
        yield from _uses(node.lhs, "", birth=born)
        yield from _uses(node.rhs, "", birth=born)
    elif isinstance(node, promql.AggregateExpr | promql.ParenExpr | promql.SubqueryExpr):
        yield from _uses(node.expr, function, birth=birth)


def _same(node: promql.BinaryExpr) -> bool:
    sides = (node.lhs, node.rhs)
    selectors = [one for one in sides if isinstance(one, promql.VectorSelector)]
    return len(selectors) == 2 and selectors[0].name == selectors[1].name


def _use(selector: promql.VectorSelector, function: str, window: str, *, birth: bool) -> Use:
    matchers = tuple(matcher.name for matcher in selector.matchers.matchers)
    return Use(selector.name or "", matchers, function, window, birth)


def rankings(expr: str) -> list[bool]:
    """Of every ranking (topk, bottomk) of an expression, whether it is the same at all instants."""
    found: list[bool] = []
    _rankings(promql.parse(expr), found)
    return found


def _rankings(node: promql.Expr, found: list[bool]) -> bool:
    """Add those inside; return whether an `@` fixes all that is asked for."""
    if isinstance(node, promql.MatrixSelector):
        node = node.vector_selector
    inside = [_rankings(child, found) for child in _children(node)]
    if isinstance(node, promql.AggregateExpr) and str(node.op) in RANKING:
        found.append(all(inside))
    if isinstance(node, promql.VectorSelector):
        return node.at is not None
    fixed = isinstance(node, promql.SubqueryExpr) and node.at is not None
    return fixed or all(inside)


def _children(node: promql.Expr) -> list[promql.Expr]:
    if isinstance(node, promql.Call):
        return list(node.args)
    if isinstance(node, promql.BinaryExpr):
        return [node.lhs, node.rhs]
    inner = promql.AggregateExpr | promql.ParenExpr | promql.SubqueryExpr | promql.UnaryExpr
    return [node.expr] if isinstance(node, inner) else []


def known_series(metrics: Sequence[Metric], records: Sequence[Record]) -> Known:
    """Labels of everything that can be asked for; KeyError names what a rule reads in vain."""
    known: Known = {name: labels | SERVED for name, (_, labels) in foreign_metrics().items()}
    # What processes with models show comes from pods of theirs, the rest from the daemon.
    known |= {
        row.name: frozenset(row.labels)
        | (POD if row.name.startswith("joulefloor_inference") else TARGET)
        for row in metrics
    }
    known |= {name: labels | TARGET for name, labels in OWN.items()}
    # Rules of one file build on those of another, and several record one name.
    waiting, before = list(records), -1
    while waiting and len(waiting) != before:
        before = len(waiting)
        waiting = [rule for rule in waiting if not _learned(rule, known)]
    for rule in waiting:
        labels_of(rule.expr, known)
    return known


def _learned(rule: Record, known: Known) -> bool:
    """Add the labels of what a rule records, if what it reads is known."""
    try:
        found = labels_of(rule.expr, known)
    except KeyError:
        return False
    known[rule.name] = known.get(rule.name, frozenset()) | found | rule.labels
    return True


def recorded() -> list[Record]:
    """Our recording rules, of all files."""
    return [
        Record(rule["record"], rule["expr"], frozenset(rule.get("labels", ())))
        for rule in _rules()
        if "record" in rule
    ]


def alert_expressions() -> list[str]:
    """The expressions of our alerts."""
    return [rule["expr"] for rule in _rules() if "alert" in rule]


def _rules() -> Iterator[dict[str, Any]]:
    for path in rule_files(RULES):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


def labels_of(expr: str, known: Known) -> frozenset[str]:
    """The labels that series of the answer can have; KeyError names a series that is unknown."""
    return _labels(promql.parse(expr), known)


def _labels(node: promql.Expr, known: Known) -> frozenset[str]:
    if isinstance(node, promql.MatrixSelector):
        node = node.vector_selector
    if isinstance(node, promql.VectorSelector):
        return known[node.name or ""]
    if isinstance(node, promql.Call):
        return _called(node, known)
    if isinstance(node, promql.AggregateExpr):
        return _aggregated(node, known)
    if isinstance(node, promql.BinaryExpr):
        return _combined(node, known)
    if isinstance(node, promql.ParenExpr | promql.SubqueryExpr | promql.UnaryExpr):
        return _labels(node.expr, known)
    return frozenset()


def _called(node: promql.Call, known: Known) -> frozenset[str]:
    labels = frozenset[str]().union(*(_labels(argument, known) for argument in node.args))
    texts = [one.val for one in node.args if isinstance(one, promql.StringLiteral)]
    return labels | {texts[0]} if node.func.name in MADE else labels


def _aggregated(node: promql.AggregateExpr, known: Known) -> frozenset[str]:
    inner = _labels(node.expr, known)
    if str(node.op) in RANKING:
        return inner
    if node.modifier is None:
        return frozenset()
    named = frozenset(node.modifier.labels)
    if node.modifier.type == promql.AggModifierType.By:
        # cluster and rack may be asked for where nobody set them.
        if missing := named - inner - TARGET:
            raise KeyError(f"label {', '.join(sorted(missing))} in by ({', '.join(named)})")
        return named
    return inner - named


def _combined(node: promql.BinaryExpr, known: Known) -> frozenset[str]:
    left, right = _labels(node.lhs, known), _labels(node.rhs, known)
    if not left or not right:
        return left | right
    operation = str(node.op)
    if operation == "or":
        return left | right
    if operation in {"and", "unless"} or node.modifier is None or node.modifier.matching is None:
        return left
    matching = node.modifier.matching
    if node.modifier.card != promql.VectorMatchCardinality.OneToOne:
        many = left if node.modifier.card == promql.VectorMatchCardinality.ManyToOne else right
        return many | frozenset(node.modifier.group_labels or ())
    named = frozenset(matching.labels)
    return named if matching.type == promql.LabelModifierType.Include else left - named
