"""What is wrong with a dashboard's text: one line for each fault, naming panel and expression."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from joulefloor import catalogue
from joulefloor.catalogue import Kind
from tests.dashboards.promql import COUNTED, labels_of, rankings, uses

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.dashboards.board import Ask, Board
    from tests.dashboards.promql import Known, Use

SCOPE: Final = {"cluster", "job", "instance"}
COUNTERS: Final = {row.name for row in catalogue.METRICS if row.kind is Kind.COUNTER}
DRAWABLE: Final = {"timeseries", "stat", "bargauge", "table", "text"}
"""Kinds that Grafana's published libraries can draw; the others are inside the server only."""
STATED: Final = {
    catalogue.MODEL_PARAMETERS.name: SCOPE,
    catalogue.MODEL_OPERAND_BITS.name: SCOPE,
    catalogue.MODEL_BUDGET.name: SCOPE,
    catalogue.MODEL_TRAINING_ENERGY.name: SCOPE,
    catalogue.CONFIGURED_PUE.name: SCOPE - {"cluster"},
    catalogue.CARBON_INTENSITY.name: SCOPE - {"cluster"},
}
"""What people record in rules of their own, and the labels of targets that it never has there."""
SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
NEWEST_SCHEMA: Final = 39
COLUMNS: Final = 24


def faults(board: Board, known: Known) -> list[str]:
    """All faults of one dashboard."""
    found = [f"{board.title}: {fault}" for fault in (*_whole(board), *_choices(board))]
    found += _grid(board)
    for panel in board.panels:
        where = f"{board.title} / {panel['title']}"
        found += [f"{where}: {fault}" for fault in (*_panel(panel), *_columns(panel, known))]
    for ask in board.asks():
        found += [f"{ask.where}: {fault}: {ask.expr}" for fault in expression_faults(ask, known)]
    return found


def _whole(board: Board) -> Iterator[str]:
    content = board.content
    if content["uid"] != board.path.stem or len(content["uid"]) > 40:
        yield "the uid is the name of the file, 40 characters at most"
    if content["editable"]:
        yield "it is editable, and edits would be lost"
    if content["schemaVersion"] > NEWEST_SCHEMA:
        yield f"schema {content['schemaVersion']} is too new for Grafana 10.4"
    if churn := {"id", "version", "__inputs", "__requires", "iteration"} & content.keys():
        yield f"{', '.join(sorted(churn))} would change with every save"
    if not content["description"].endswith("?"):
        yield "the description asks what the first screen answers"
    if not any(link["keepTime"] and link["includeVars"] for link in content["links"]):
        yield "no link to the other dashboards that keeps time and variables"
    for kind, values in (
        ("titles", [panel["title"] for panel in board.panels]),
        ("ids", [panel["id"] for panel in content["panels"]]),
    ):
        if twice := sorted({str(value) for value in values if values.count(value) > 1}):
            yield f"{kind} used twice: {', '.join(twice)}"


def _choices(board: Board) -> Iterator[str]:
    names = list(board.variables)
    if names[:4] != ["datasource", "cluster", "job", "instance"]:
        yield f"variables begin with datasource, cluster, job, instance, not {names[:4]}"
    source = board.variables.get("datasource", {})
    if source.get("label") != "Data source" or source.get("query") != "prometheus":
        yield "variable datasource: labelled Data source, of type prometheus"
    for name in SCOPE & set(names):
        one = board.variables[name]
        if not (one["multi"] and one["includeAll"] and one["allValue"] == ".*"):
            yield f"variable {name}: several values, all of them as .*"
        if one["refresh"] != 2 or one["datasource"] != SOURCE:
            yield f"variable {name}: refreshed with the time range, from $datasource"


def _grid(board: Board) -> list[str]:
    taken: dict[tuple[int, int], str] = {}
    found = []
    for panel in board.content["panels"]:
        box, title = panel["gridPos"], panel["title"]
        if box["x"] + box["w"] > COLUMNS:
            found.append(f"{board.title} / {title}: wider than the grid")
        cells = [
            (x, y)
            for x in range(box["x"], box["x"] + box["w"])
            for y in range(box["y"], box["y"] + box["h"])
        ]
        under = {taken[cell] for cell in cells if cell in taken}
        found += [f"{board.title} / {title}: lies on {other}" for other in sorted(under)]
        taken |= dict.fromkeys(cells, title)
    return found


def _panel(panel: dict[str, Any]) -> Iterator[str]:
    if panel["type"] not in DRAWABLE:
        yield f"a {panel['type']} cannot be drawn in the tests"
    if not panel["title"] or not panel.get("description", "").endswith("."):
        yield "a title and a description in sentences"
    if panel["type"] == "text":
        return
    if not panel["fieldConfig"]["defaults"].get("unit"):
        yield "no unit"
    if not panel["targets"]:
        yield "no query"
    sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
    if any(source != SOURCE for source in sources):
        yield "the data source is not $datasource"
    references = [target["refId"] for target in panel["targets"]]
    if len(set(references)) != len(references):
        yield f"refIds used twice: {references}"


def _columns(panel: dict[str, Any], known: Known) -> Iterator[str]:
    """A table's columns are labels that its queries have."""
    if panel["type"] != "table":
        return
    labels = frozenset[str]().union(
        *(_labels(target["expr"], known) for target in panel["targets"])
    )
    for step in panel["transformations"]:
        for name in step["options"].get("renameByName", {}):
            if not name.startswith("Value") and name not in labels:
                yield f"column {name} is a label that no query of it has"


def _labels(expr: str, known: Known) -> frozenset[str]:
    try:
        return labels_of(_plain(expr), known)
    except KeyError:
        # Told with the expression itself.
        return frozenset()


def _plain(expr: str) -> str:
    numbers = {"$__rate_interval": "1m", "$__interval": "1m", "$__range_s": "3600"}
    numbers |= {"$__range": "1h", "$price": "1"}
    for name, number in numbers.items():
        expr = expr.replace(name, number)
    return expr


def expression_faults(ask: Ask, known: Known) -> Iterator[str]:
    """What is wrong with one expression; PromQL's own errors are raised."""
    for use in uses(_plain(ask.expr)):
        yield from _use_faults(use, known)
    for window in re.findall(r"(?:rate|increase)\([^\[]+\[([^\]]+)\]", ask.expr):
        if window not in {"$__rate_interval", "$__range"}:
            yield f"a fixed window [{window}] instead of $__rate_interval"
    if not ask.instant and not all(rankings(_plain(ask.expr))):
        yield "it ranks anew at every instant, and the legend has no end"
    try:
        labels = labels_of(_plain(ask.expr), known)
    except KeyError as error:
        yield f"unknown {error.args[0]}"
        return
    if odd := set(re.findall(r"\{\{(\w+)\}\}", ask.legend)) - labels:
        yield f"the legend shows {', '.join(sorted(odd))}, which the answer does not have"


def _use_faults(use: Use, known: Known) -> Iterator[str]:
    if use.name not in known:
        yield f"{use.name} is neither exported nor recorded"
        return
    if odd := set(use.matchers) - known[use.name]:
        yield f"{use.name} has no label {', '.join(sorted(odd))}"
    wanted = SCOPE if "instance" in known[use.name] else {"cluster"}
    strange = STATED.get(use.name, set())
    if hiding := strange & set(use.matchers):
        yield f"{use.name} need not have {', '.join(sorted(hiding))}, and would be hidden"
    # What is the same everywhere has no cluster.
    if missing := (wanted - strange) & known[use.name] - set(use.matchers):
        yield f"{use.name} is not narrowed by {', '.join(sorted(missing))}"
    if use.name in COUNTERS and use.function not in COUNTED and not use.birth:
        yield f"the counter {use.name} outside rate, irate and increase"
    if use.function in COUNTED and use.name not in COUNTERS:
        yield f"{use.function} of {use.name}, which is no counter"
