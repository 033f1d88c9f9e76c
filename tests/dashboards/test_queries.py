"""Every expression of every dashboard, run on real servers that scraped real daemons."""

from __future__ import annotations

import math
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from joulefloor import catalogue
from stack.query import QueryError, fetch_json, instant, over_range
from tests.dashboards.board import SCRAPE_S, Ask, boards
from tests.dashboards.fleet import NODES
from tests.patience import patiently

if TYPE_CHECKING:
    from tests.dashboards.conftest import Server

ASKS = [ask for board in boards() for ask in board.asks()]
each_server = pytest.mark.parametrize("name", ["prometheus2", "prometheus3", "victoriametrics"])


def answer(url: str, ask: Ask, **values: str) -> list[dict[str, Any]]:
    """The series with at least one number, asked for as Grafana does."""
    expr = ask.filled(**values)
    now = time.time()
    if ask.instant:
        found = instant(url, expr)
    else:
        start = now - ask.since_s
        found = over_range(url, expr, start_unix_s=start, end_unix_s=now, step_s=SCRAPE_S)
    return [one for one in found if any(map(math.isfinite, numbers(one)))]


def numbers(series: dict[str, Any]) -> list[float]:
    """The values of a vector's or a matrix's element."""
    return [float(value) for _, value in series.get("values", [series.get("value")])]


def silent(server: Server, asks: list[Ask], **values: str) -> list[str]:
    """The expressions without an answer: panel, cause, expression."""
    found = []
    for ask in asks:
        try:
            if not answer(server.url, ask, **values):
                found.append(f"{ask.where}: no data on {server.name}: {ask.filled(**values)}")
        except QueryError as error:
            found.append(f"{ask.where}: rejected by {server.name}: {error}")
    return found


def settled(server: Server) -> list[str]:
    """What stays without an answer when the fleet has run for a while."""
    remaining = ASKS

    def answered() -> bool:
        nonlocal remaining
        server.flush()
        remaining = [ask for ask in remaining if silent(server, [ask])]
        return not remaining

    patiently(answered)
    return silent(server, remaining)


@each_server
def test_every_expression_returns_data(servers: dict[str, Server], name: str) -> None:
    found = settled(servers[name])

    assert not found, "\n".join(found)


@each_server
def test_every_variable_has_values(servers: dict[str, Server], name: str) -> None:
    for board in boards():
        for where, selector, label in board.choices():
            values = patiently(partial(choices, servers[name], selector, label))
            assert values, f"{where}: {selector} has no {label} on {name}"


def choices(server: Server, selector: str, label: str) -> set[str]:
    """Values that a variable of the label offers now."""
    server.flush()
    return {one["metric"].get(label, "") for one in instant(server.url, selector)} - {""}


@each_server
def test_nodes_without_a_cluster_label_are_part_of_all_clusters(
    servers: dict[str, Server], name: str
) -> None:
    power = next(ask for ask in ASKS if "Top nodes by power" in ask.where)
    server = servers[name]

    everywhere = {node.name for node in NODES}
    berlin = {node.name for node in NODES if node.place}
    assert berlin < everywhere

    def shown(**values: str) -> set[str]:
        return {one["metric"]["instance"] for one in answer(server.url, power, **values)}

    def complete() -> bool:
        server.flush()
        return shown() == everywhere and shown(cluster="berlin") == berlin

    assert patiently(complete), (shown(), shown(cluster="berlin"))


@each_server
def test_one_or_several_chosen_nodes_narrow_every_panel_without_an_error(
    servers: dict[str, Server], name: str
) -> None:
    for choice in ("node-2", "(node-1|node-3)"):
        asks = ASKS

        def accepted(choice: str = choice) -> bool:
            nonlocal asks
            asks = [ask for ask in asks if rejected(servers[name], ask, instance=choice)]
            return not asks

        assert patiently(accepted), [rejected(servers[name], ask, instance=choice) for ask in asks]


def rejected(server: Server, ask: Ask, **values: str) -> list[str]:
    """Why the server refused an expression; empty when it has an answer, or none."""
    return [line for line in silent(server, [ask], **values) if "rejected" in line]


@each_server
def test_what_people_state_is_shown_whatever_node_is_chosen(
    servers: dict[str, Server], name: str
) -> None:
    titles = ("Carbon intensity of the grid", "Energy budget used", "Training and break-even [A]")
    stated = [ask for ask in ASKS if any(title in ask.where for title in titles)]
    assert len(stated) == len(titles)

    server = servers[name]
    chosen = {"cluster": "berlin", "instance": "node-2"}

    def answered() -> bool:
        server.flush()
        return not silent(server, stated, **chosen)

    assert patiently(answered), silent(server, stated, **chosen)


# -- mutations ----------------------------------------------------------------------------------


def test_a_metric_that_the_daemon_no_longer_exports_is_named_with_panel_and_expression(
    servers: dict[str, Server],
) -> None:
    name = catalogue.TEMPERATURE.name
    ask = next(ask for ask in ASKS if "Node / Temperature" in ask.where)
    renamed = ask._replace(expr=ask.expr.replace(name, name + "_renamed"))

    (line,) = silent(servers["prometheus3"], [renamed])

    assert line.startswith("Joulefloor / Node / Temperature [A]: no data on prometheus3: max by")
    assert name + "_renamed" in line


def test_a_rule_that_no_longer_records_is_named_with_panel_and_expression(
    servers: dict[str, Server],
) -> None:
    rule = "node:joulefloor_it_power_watts:sum"
    ask = next(ask for ask in ASKS if "IT power now" in ask.where)
    gone = ask._replace(expr=ask.expr.replace(rule, "node:joulefloor_gone_watts:sum"))

    (line,) = silent(servers["prometheus3"], [gone])

    assert line.startswith("Joulefloor / Overview / IT power now [A]: no data on prometheus3: sum(")


def test_an_expression_that_is_no_promql_is_named_with_its_panel(
    servers: dict[str, Server],
) -> None:
    (line,) = silent(servers["prometheus3"], [Ask("Somewhere", "sum(up")])

    assert line.startswith("Somewhere: rejected by prometheus3: ")


def test_the_rules_are_evaluated_without_an_error(servers: dict[str, Server]) -> None:
    for name in ("prometheus2", "prometheus3"):
        groups = fetch_json(f"{servers[name].url}/api/v1/rules")["data"]["groups"]
        broken = [
            (rule["name"], rule["lastError"])
            for group in groups
            for rule in group["rules"]
            if rule.get("lastError")
        ]
        assert broken == []
