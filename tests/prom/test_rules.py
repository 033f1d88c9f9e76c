"""The shipped rules: on both Prometheus lines, on VictoriaMetrics, and against the house rules."""

from __future__ import annotations

import re
import subprocess
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from joulefloor import catalogue
from joulefloor.account import Event
from joulefloor.catalogue import Kind
from joulefloor.errors import Reason
from stack.peers import start_alertmanager
from stack.programs import default_places
from stack.query import fetch_json
from tests.patience import PATIENCE_S
from tests.prom.required import NEWEST_FIRST, require
from tests.rulefiles import (
    ALERTING,
    ALERTS,
    RECORDING,
    RULE_FILES,
    RULE_TESTS,
    Rule,
    expectations,
    foreign_metrics,
    groups,
    rule_tests,
    rules,
    seconds,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stack.processes import Peer
    from stack.programs import Program

ALERTMANAGER: Final = ALERTS / "alertmanager.example.yml"
RUNBOOK: Final = (ALERTS / "RUNBOOK.md").read_text(encoding="utf-8")
RUNBOOK_URL: Final = "https://github.com/joulefloor/joulefloor/blob/main/alerts/RUNBOOK.md#"
ALL_ALERTS: Final = tuple(rule for rule in rules() if rule.alert)
SCRAPE_S: Final = 30.0
LONGEST_S: Final = 600.0
"""For a checker, which takes seconds where nobody else needs the machine."""
NAMES: Final = r"[a-z0-9_:]+"
RANGED: Final = re.compile(rf"(\w+)\(\s*({NAMES})\s*(?:{{[^}}]*}})?\[(\w+)\]")
ON_COUNTERS: Final = frozenset({"rate", "irate", "increase", "resets"})
OF_PRESENCE: Final = "present_over_time"
"""Reads no value, so it is the same of counters and gauges."""
COMPARISON: Final = re.compile(r"(==|!=|>=?|<=?)\s*[-\d.]+\s*(?=$|\)|and|or|unless)", re.MULTILINE)
AGGREGATION: Final = re.compile(r"(?<![:\w])(sum|max|min|count|avg)\b(?:\s+(by|without)\b)?")
LEVELS: Final = frozenset(
    "node rack cluster site namespace workload model precision link".split()  # noqa: SIM905
)
"""Levels of recorded names."""
FEW: Final = {"joulefloor_facility_energy_joules_total"}
"""Series of which a site has a few, so that a subquery over them is cheap."""
WITHOUT_SKEW: Final = tuple(file for file in RULE_TESTS if file.stem != "inference-skew")
"""vmalert shows what a group recorded only after the group: a rule lags behind its peers."""


def variant(rule: Rule) -> str:
    return "-".join((rule.alert, *rule.labels.values()))


each_alert = pytest.mark.parametrize("rule", ALL_ALERTS, ids=variant)
each_recorded = pytest.mark.parametrize(
    "rule", [rule for rule in rules() if rule.record], ids=lambda rule: rule.record
)


def completed(*command: str | Path) -> str:
    """Run a checker and return what it printed; its complaint is the failure."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST_S)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


# -- the real checkers ----------------------------------------------------------------------------


def test_promtool_finds_no_fault_in_the_rules(promtool: Program) -> None:
    completed(promtool.path, "check", "rules", "--lint=all", "--lint-fatal", *RULE_FILES)


@pytest.mark.parametrize("file", RULE_TESTS, ids=lambda path: path.stem)
def test_rules_give_the_same_on_both_lines_of_prometheus(promtool: Program, file: Path) -> None:
    completed(promtool.path, "test", "rules", file)


@pytest.mark.parametrize("file", WITHOUT_SKEW, ids=lambda path: path.stem)
def test_rules_give_the_same_on_victoriametrics(
    vmalert: Program, tmp_path: Path, file: Path
) -> None:
    tester = vmalert.path.with_name("vmalert-tool")
    if not tester.exists():
        pytest.skip(f"{vmalert.path} comes without vmalert-tool")
    converted = tmp_path / file.name
    converted.write_text(yaml.safe_dump(for_victoriametrics(file), sort_keys=False))
    said = completed(tester, "unittest", f"--files={converted}", "--disableAlertgroupLabel")
    assert "SUCCESS" in said


def for_victoriametrics(file: Path) -> dict[str, Any]:
    """Turn a promtool test into one of vmalert-tool, which only calls the expressions otherwise.

    `+ 0` drops the metric name, which VictoriaMetrics keeps through round().
    """
    test: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))
    test["rule_files"] = [str((file.parent / path).resolve()) for path in test["rule_files"]]
    for case in test["tests"]:
        case["metricsql_expr_test"] = [
            check | {"expr": f"({check['expr']}) + 0"} for check in case.pop("promql_expr_test", ())
        ]
    return test


def test_vmalert_loads_all_rules(vmalert: Program) -> None:
    completed(vmalert.path, "-dryRun", *(f"-rule={path}" for path in RULE_FILES))


def test_an_old_vmalert_loads_recording_rules_and_refuses_only_keep_firing_for() -> None:
    old = require("vmalert")
    completed(old.path, "-dryRun", *(f"-rule={path}" for path in RECORDING))
    command = [str(old.path), "-dryRun", *(f"-rule={path}" for path in ALERTING)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LONGEST_S)
    if done.returncode:
        assert set(re.findall(r"unknown fields in rule: (.+)", done.stderr)) == {"keep_firing_for"}


@pytest.mark.parametrize("places", [default_places(), NEWEST_FIRST], ids=["first", "newest"])
def test_amtool_accepts_and_routes_the_example(places: tuple[Path, ...]) -> None:
    amtool = require("amtool", places=places)
    completed(amtool.path, "check-config", ALERTMANAGER)
    routes = {"critical": "pager", "warning": "team", "info": "digest"}
    for severity, receiver in routes.items():
        option = f"--config.file={ALERTMANAGER}"
        said = completed(amtool.path, "config", "routes", "test", option, f"severity={severity}")
        assert said.split()[0] == receiver
    option = f"--config.file={ALERTMANAGER}"
    said = completed(
        amtool.path, "config", "routes", "test", option, "severity=warning", "model=llama"
    )
    assert said.split()[0] == "models"


def test_alertmanager_mutes_what_follows_from_a_worse_alert(
    alertmanager: Program, amtool: Program, tmp_path: Path
) -> None:
    config = yaml.safe_load(ALERTMANAGER.read_text(encoding="utf-8"))
    muted = (
        "JoulefloorSourceDown severity=warning instance=a source=rapl",
        "JoulefloorPowerAboveLimit severity=warning instance=b device=GPU-0",
        "JoulefloorMeterRejected severity=warning instance=c device=package-0",
        "JoulefloorEnergyBudgetBurn severity=warning model=m window=6h",
        "JoulefloorJoulesPerTokenRegressed severity=warning model=n",
        "JoulefloorLandauerGapJumped severity=warning model=p",
        "JoulefloorInferenceNotMeasurable severity=warning cluster=gone model=q",
        "JoulefloorAcceleratorIdle severity=info instance=e component=gpu",
        "JoulefloorMeterRejected severity=warning instance=e device=GPU-0 event=disagreement",
        "JoulefloorSourcePartial severity=warning instance=e source=nvml reason=LOST",
        "JoulefloorAcceleratorsGone severity=warning instance=f component=gpu",
    )
    heard = (
        "JoulefloorTargetDown severity=warning instance=a",
        "JoulefloorPowerAboveLimit severity=critical instance=b device=GPU-0",
        "JoulefloorPowerAboveLimit severity=warning instance=b device=GPU-1",
        "JoulefloorLedgerStalled severity=critical instance=c",
        "JoulefloorSourceDown severity=warning instance=d source=rapl",
        "JoulefloorEnergyBudgetBurn severity=critical model=m window=1h",
        "JoulefloorEnergyBudgetBurn severity=warning model=other window=6h",
        "JoulefloorInferenceNotMeasurable severity=warning model=n",
        "JoulefloorJoulesPerTokenRegressed severity=warning model=p",
        "JoulefloorTargetsGone severity=critical cluster=gone",
        "JoulefloorAcceleratorIdle severity=warning instance=e component=gpu device=GPU-0",
        "JoulefloorAcceleratorIdle severity=info instance=e component=tpu",
        "JoulefloorEnergyCountersDisagree severity=warning instance=e device=GPU-0",
        "JoulefloorMeterRejected severity=warning instance=e device=GPU-0 event=reset",
        "JoulefloorAcceleratorLost severity=warning instance=e device=GPU-2",
        "JoulefloorSourcePartial severity=warning instance=e source=rapl reason=LOST",
        "JoulefloorSourceDown severity=warning instance=f source=nvml",
        "JoulefloorAcceleratorsGone severity=warning instance=g component=gpu",
    )
    with start_alertmanager(alertmanager, tmp_path, config) as peer:
        for alert in (*heard, *muted):
            url = f"--alertmanager.url={peer.url}"
            completed(amtool.path, "alert", "add", url, *f"{alert} job=joulefloor".split())
        assert await_muted(peer, len(muted)) == {key(alert) for alert in muted}


def key(alert: str) -> tuple[str, ...]:
    name, *labels = alert.split()
    return (name, *sorted(labels))


def await_muted(peer: Peer, count: int) -> set[tuple[str, ...]]:
    """Ask until `count` alerts are inhibited; returns those that are in the end."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        alerts: list[dict[str, Any]] = fetch_json(f"{peer.url}/api/v2/alerts")
        found = {
            (labels["alertname"], *sorted(f"{name}={labels[name]}" for name in shown(labels)))
            for alert in alerts
            if alert["status"]["inhibitedBy"]
            for labels in (alert["labels"],)
        }
        if len(found) >= count or time.monotonic() > deadline:
            return found


def shown(labels: Mapping[str, str]) -> set[str]:
    return set(labels) - {"alertname", "job"}


# -- groups and recorded series -------------------------------------------------------------------


def test_groups_are_small_bounded_and_regular() -> None:
    names = [group["name"] for group in groups()]
    assert len(names) == len(set(names))
    for group in groups():
        assert len(group["rules"]) <= 20, group["name"]
        assert group["limit"] > 0, group["name"]
        # Longer than the look-back of five minutes, and the series has holes.
        assert SCRAPE_S <= seconds(group["interval"]) < 300, group["name"]


def test_no_series_is_recorded_twice() -> None:
    recorded = [(rule.record, *sorted(rule.labels.items())) for rule in rules() if rule.record]
    assert len(recorded) == len(set(recorded))


@each_recorded
def test_recorded_names_say_level_metric_and_operations(rule: Rule) -> None:
    level, metric, operations = rule.record.split(":")
    assert level in LEVELS
    assert re.fullmatch(r"joulefloor_[a-z_]+[a-z]", metric)
    assert not metric.endswith("_total")
    assert re.fullmatch(r"(sum|diff|ratio|max|quantile|rate|increase)(\d+[mhd])?", operations)


@each_recorded
def test_recorded_series_have_an_exact_test_and_no_device(rule: Rule) -> None:
    samples = [
        sample["labels"]
        for content in rule_tests().values()
        for case in content["tests"]
        for check in case.get("promql_expr_test", ())
        if rule.record in check["expr"]
        for sample in check["exp_samples"]
    ]
    assert samples, f"no test expects a value of {rule.record}"
    found = [labels for labels in samples if re.search(r"\b(device|part|\w*pod)=", labels)]
    assert not found


# -- expressions ----------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.record or variant(rule))
def test_rates_are_of_counters_and_span_four_scrapes(rule: Rule) -> None:
    counters = {row.name for row in catalogue.METRICS if row.kind is Kind.COUNTER}
    counters |= {name for name, (kind, _) in foreign_metrics().items() if kind == "counter"}
    for function, name, window in RANGED.findall(rule.expr):
        assert seconds(window) >= 4 * SCRAPE_S, f"{function}({name}[{window}])"
        if function == OF_PRESENCE:
            continue
        if function in ON_COUNTERS:
            assert name in counters, f"{function}() of {name}, which is no counter"
        else:
            assert name not in counters, f"{function}() of the counter {name}"


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.record or variant(rule))
def test_expressions_stay_cheap_and_portable(rule: Rule) -> None:
    assert "__name__" not in rule.expr, "names are never matched by a pattern"
    subqueries = re.findall(r"(\w+)[^\[\]()]*\)\[\w*:\w*\]", rule.expr)
    assert len(subqueries) == len(re.findall(r"\[\w*:\w*\]", rule.expr)), "no subqueries"
    assert set(subqueries) <= FEW, "no subqueries over what each node has"
    assert not re.search(r"\babsent(_over_time)?\(", rule.expr), "absent() mixes clusters"
    aggregations = AGGREGATION.findall(rule.expr)
    assert all(grouping for _, grouping in aggregations), "by or without is always explicit"


# -- alerts ---------------------------------------------------------------------------------------


@each_alert
def test_alerts_are_complete(rule: Rule) -> None:
    assert rule.alert.startswith("Joulefloor")
    assert rule.labels["severity"] in {"critical", "warning", "info"}
    assert set(rule.annotations) == {"summary", "description", "runbook_url"}
    assert rule.for_s >= 2 * SCRAPE_S
    assert COMPARISON.search(rule.expr), "an alert compares something"


@each_alert
def test_alerts_lead_to_their_section_of_the_runbook(rule: Rule) -> None:
    assert rule.annotations["runbook_url"] == RUNBOOK_URL + rule.alert.lower()
    assert f"\n## {rule.alert}\n" in RUNBOOK


@each_alert
def test_alerts_never_show_a_raw_value(rule: Rule) -> None:
    for text in rule.annotations.values():
        uses = re.findall(r"\$value\b(\s*\|\s*(?:printf \"%\.\df\"|humanize\w*))?", text)
        assert all(uses), text


@each_alert
def test_alerts_fire_in_a_test_that_has_every_label_their_text_uses(rule: Rule) -> None:
    used = set(re.findall(r"\$labels\.(\w+)", " ".join(rule.annotations.values())))
    firing = [
        labels
        for expected in expectations()
        if expected.alert == rule.alert
        for labels in expected.alerts
        if rule.labels.items() <= labels.items()
    ]
    assert firing, "no test in which it fires"
    assert all(used <= labels.keys() for labels in firing)


@each_alert
def test_alerts_are_silent_in_a_test(rule: Rule) -> None:
    assert any(not expected.alerts for expected in expectations() if expected.alert == rule.alert)


# -- runbook --------------------------------------------------------------------------------------


def test_the_runbook_has_no_section_without_alert() -> None:
    sections = set(re.findall(r"^## (Joulefloor\w+)$", RUNBOOK, re.MULTILINE))
    assert sections == {rule.alert for rule in ALL_ALERTS}


@each_alert
def test_the_runbook_says_meaning_steps_proof_and_causes(rule: Rule) -> None:
    section = RUNBOOK.split(f"\n## {rule.alert}\n")[1].split("\n## ")[0]
    for part in ("**Means.**", "**Do.**", "**Verify.**", "**Usually.**"):
        assert part in section, part


@pytest.mark.parametrize("word", [*Reason, *Event, "disagreement"], ids=str)
def test_the_runbook_explains_every_reason_and_meter_event(word: str) -> None:
    assert f"\n### {word}\n" in RUNBOOK


def test_links_inside_the_runbook_exist() -> None:
    anchors = {title.lower().replace(" ", "-") for title in re.findall(r"(?m)^#+ (.+)$", RUNBOOK)}
    assert set(re.findall(r"\]\(#([^)]+)\)", RUNBOOK)) <= anchors
