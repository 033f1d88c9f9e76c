"""The dashboards' text: generated, complete, and about series that exist."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dashboards.__main__ import main, texts
from joulefloor import catalogue
from tests.dashboards.board import FOLDER, Ask, boards
from tests.dashboards.lint import expression_faults, faults
from tests.dashboards.promql import (
    alert_expressions,
    known_series,
    labels_of,
    rankings,
    recorded,
    uses,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.dashboards.board import Board

KNOWN = known_series(catalogue.METRICS, recorded())
BOARDS = boards()
each_board = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.path.stem)
POWER = "node:joulefloor_it_power_watts:sum"


def board_with(expr: str) -> list[str]:
    """The faults of one expression."""
    return list(expression_faults(Ask("here", expr, "{{device}}"), KNOWN))


def test_the_committed_files_are_what_the_generator_writes(tmp_path: Path) -> None:
    assert main([str(tmp_path)]) == 0

    written = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert written == committed, "run `make generate`"
    assert texts() == written


@each_board
def test_a_dashboard_has_no_fault(board: Board) -> None:
    found = faults(board, KNOWN)

    assert not found, "\n".join(found)


def test_titles_and_uids_are_unique() -> None:
    for key in ("title", "uid"):
        values = [board.content[key] for board in BOARDS]
        assert len(values) == len(set(values))


def test_every_dashboard_shows_our_firing_alerts() -> None:
    for board in BOARDS:
        (annotation,) = board.content["annotations"]["list"]
        assert 'alertname=~"Joulefloor.*",alertstate="firing"' in annotation["expr"]


def test_the_floor_is_nowhere_promised() -> None:
    (landauer,) = (board for board in BOARDS if board.path.stem == "joulefloor-landauer")
    words = [landauer.content["description"]]
    for panel in landauer.panels:
        words += [panel["title"], panel["description"], panel.get("options", {}).get("content", "")]
    said = " ".join(words).lower()
    for promise in ("achiev", "attain", "target", "goal", "potential", "headroom"):
        assert promise not in said


def test_every_recorded_series_is_in_a_dashboard_an_alert_or_another_rule() -> None:
    asked = [ask.filled() for board in BOARDS for ask in board.asks()]
    used = {use.name for expr in [*asked, *alert_expressions()] for use in uses(expr)}
    for rule in recorded():
        used |= {use.name for use in uses(rule.expr) if use.name != rule.name}
    assert {rule.name for rule in recorded()} - used == set()


# -- mutations: what breaks outside must turn the tests red and say where -----------------------


def all_faults(*, without: str = "", label: str = "") -> list[str]:
    """The faults of all dashboards when a metric or one of its labels goes away."""
    metrics = [
        row._replace(
            name=row.name + "_renamed" if row.name == without and not label else row.name,
            labels=tuple(one for one in row.labels if row.name != without or one != label),
        )
        for row in catalogue.METRICS
    ]
    if not without.startswith("node:"):
        # The rules that read it are another test's business.
        known = known_series(metrics, ()) | {rule.name: KNOWN[rule.name] for rule in recorded()}
    else:
        known = {name: labels for name, labels in KNOWN.items() if name != without}
    return [fault for board in BOARDS for fault in faults(board, known)]


def test_a_renamed_metric_is_named_with_panel_and_expression() -> None:
    name = catalogue.TEMPERATURE.name
    found = all_faults(without=name)

    assert any(
        fault.startswith("Joulefloor / Node / Temperature [A]: ")
        and f"{name} is neither exported nor recorded" in fault
        and f"max by (component, sensor) ({name}" in fault
        for fault in found
    )


def test_a_dropped_label_is_named_with_panel_and_expression() -> None:
    found = all_faults(without=catalogue.TEMPERATURE.name, label="sensor")

    assert any(
        fault.startswith("Joulefloor / Node / Temperature [A]: ") and "sensor" in fault
        for fault in found
    )


def test_a_label_that_a_table_shows_is_missed_there() -> None:
    found = all_faults(without=catalogue.DEVICE_INFO.name, label="model")

    assert any(fault.startswith("Joulefloor / Node / Inventory") for fault in found)


def test_a_rule_that_is_gone_is_named_with_panel_and_expression() -> None:
    found = all_faults(without=POWER)

    assert any(
        fault.startswith("Joulefloor / Overview / IT power now [A]: ")
        and f"{POWER} is neither exported nor recorded" in fault
        for fault in found
    )


@pytest.mark.parametrize(
    ("expr", "fault"),
    [
        ("joulefloor_ticks_total{SCOPE}", "outside rate"),
        ("rate(joulefloor_ticks_total{SCOPE}[5m])", "fixed window"),
        ("rate(joulefloor_exported_series{SCOPE}[$__rate_interval])", "no counter"),
        ("joulefloor_source_up", "not narrowed by cluster, instance, job"),
        ("joulefloor_model_training_energy_joules{SCOPE}", "need not have cluster, instance, job"),
        ('joulefloor_source_up{device="x",SCOPE}', "has no label device"),
        ("sum by (device) (joulefloor_source_up{SCOPE})", "unknown label device"),
        ("joulefloor_source_up{SCOPE}", "the legend shows device"),
    ],
)
def test_each_rule_of_the_lint_finds_its_fault(expr: str, fault: str) -> None:
    scope = 'cluster=~"$cluster",job=~"$job",instance=~"$instance"'

    found = board_with(expr.replace("{SCOPE}", f"{{{scope}}}").replace("SCOPE", scope))

    assert any(fault in one for one in found), found


@pytest.mark.parametrize(
    ("expr", "ends"),
    [
        ("topk(3, a)", False),
        ("topk(3, avg_over_time(a[1h]))", False),
        ("a and bottomk(3, b / min_over_time(a[1h] @ end()))", False),
        ("a and topk(3, sum_over_time(a[1h] @ end()))", True),
        ("a unless bottomk(3, max(a @ end()) / min_over_time((a + a)[1h:1m] @ end()))", True),
    ],
)
def test_a_graph_whose_legend_would_not_end_is_found(expr: str, *, ends: bool) -> None:
    assert all(rankings(expr)) is ends

    found = [*expression_faults(Ask("here", expr, instant=False), KNOWN)]
    assert any("the legend has no end" in fault for fault in found) is not ends
    assert not any("legend" in fault for fault in expression_faults(Ask("here", expr), KNOWN))


@pytest.mark.parametrize(
    ("expr", "labels"),
    [
        ("sum without (source) (joulefloor_source_faults)", "cluster instance job rack reason"),
        ("joulefloor_source_up * on (instance) up", "instance"),
        (
            "joulefloor_source_up * ignoring (source) group_left up",
            "cluster instance job rack source",
        ),
        ("count(up) or joulefloor_source_up", "cluster instance job rack source"),
        ('label_replace(up, "zone", "a", "", "")', "cluster instance job rack zone"),
        ('label_join(up, "zone", "", "rack")', "cluster instance job rack zone"),
    ],
)
def test_labels_of_an_answer_follow_from_the_expression(expr: str, labels: str) -> None:
    assert sorted(labels_of(expr, KNOWN)) == labels.split()
