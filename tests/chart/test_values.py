"""The values: their schema, their table, and what the notes say about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart.helm import CHART
from tests.chart.values_table import README, document

if TYPE_CHECKING:
    from tests.chart.helm import Helm

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())

PROXY = Path(__file__).parent / "values" / "proxy.yaml"
WRONG = {
    "unknown": {"rapll": {"mode": "root"}},
    "mistyped": {"rapl": {"modus": "root"}},
    "no-mode": {"rapl": {"mode": "privileged"}},
    "no-port": {"web": {"port": 70000}},
    "digest": {"image": {"digest": "latest"}},
    "kind": {"monitor": {"kind": "Probe"}},
    "job": {"monitor": {"job": "energy"}},
    "label": {"podLabels": {"racks": 4}},
    "timing": {"livenessProbe": {"period": 3}},
    "probe": {"readinessProbe": {"grpc": {"port": 13806}}},
    "nested": {"facility": {"replicas": 2}},
}


def test_lint_is_silent_but_for_the_icon(helm: Helm, chart: Path) -> None:
    lines = helm.done("lint", "--strict", chart).splitlines()
    remarks = [line for line in lines if line.startswith("[")]
    assert remarks == ["[INFO] Chart.yaml: icon is recommended"]


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_wrong_values_are_refused_by_name(wrong: dict[str, Any], helm: Helm, chart: Path) -> None:
    key = next(iter(wrong))
    inner = wrong[key]
    said = helm.refusal(chart, wrong)
    assert key in said or any(name in said for name in inner)


def test_global_values_of_a_parent_chart_are_allowed(helm: Helm, chart: Path) -> None:
    assert helm.render(chart, {"global": {"storageClass": "fast"}})


def known(schema: dict[str, Any], values: dict[str, Any], path: str = "") -> list[str]:
    """Keys that only one of the schema and the values has."""
    if "properties" not in schema:
        return []
    odd = [f"{path}{key}" for key in schema["properties"].keys() ^ values.keys()]
    for key in schema["properties"].keys() & values.keys():
        part = schema["properties"][key]
        if isinstance(values[key], dict):
            odd += known(part, values[key], f"{path}{key}.")
    return odd


def test_schema_and_values_name_the_same_keys() -> None:
    assert known(SCHEMA, VALUES) == []


def test_facility_takes_what_the_nodes_take() -> None:
    shared = set(VALUES["facility"]) - {"enabled"}
    assert shared <= set(VALUES)
    properties = SCHEMA["properties"]
    assert all(properties["facility"]["properties"][key] == properties[key] for key in shared)


def test_the_readme_has_the_values_of_today() -> None:
    text = README.read_text()
    assert text == document(text), "run: python -m tests.chart.values_table"


def test_a_service_monitor_without_a_service_is_refused(helm: Helm) -> None:
    values = {
        "monitor": {"enabled": True, "kind": "ServiceMonitor"},
        "service": {"enabled": False},
    }
    assert "service.enabled" in helm.refusal(CHART, values)


IGNORED_ELSEWHERE = {
    "alert": (
        {"prometheusRule": {"enabled": True, "disabledAlerts": ["JoulefloorTargetDwn"]}},
        "prometheusRule.disabledAlerts: there is no alert JoulefloorTargetDwn in the chart",
    ),
    "probe": (
        {"webConfig": {"probe": "https"}},
        "name its secret in webConfig.secretName",
    ),
    "headers": (
        {"webConfig": {"probeHeaders": [{"name": "Authorization", "value": "Basic x"}]}},
        "name its secret in webConfig.secretName",
    ),
    "headers-of-tcp": (
        {"webConfig": {"secretName": "web", "probeHeaders": [{"name": "A", "value": "b"}]}},
        "webConfig.probeHeaders are sent only with webConfig.probe: https or http",
    ),
    "two-probes": (
        {"livenessProbe": {"exec": {"command": ["true"]}, "httpGet": {"port": 13806}}},
        "livenessProbe: exec or httpGet, not both",
    ),
}


@pytest.mark.parametrize(("values", "sentence"), IGNORED_ELSEWHERE.values(), ids=IGNORED_ELSEWHERE)
def test_what_would_have_no_effect_is_refused_in_one_sentence(
    values: dict[str, Any], sentence: str, helm: Helm
) -> None:
    (line,) = [line for line in helm.refusal(CHART, values).splitlines() if "Error:" in line]
    assert line.endswith(sentence)


def test_an_alert_left_out_may_be_named_where_alerts_are_off(helm4: Helm) -> None:
    rule = {"enabled": True, "alerts": False, "disabledAlerts": ["JoulefloorTargetDown"]}
    assert helm4.render(CHART, {"prometheusRule": rule})


def test_the_readme_shows_a_proxy_that_is_tested() -> None:
    values = yaml.safe_load(PROXY.read_text())
    shown = next(one for one in README.read_text().split("```") if "listenHost: 127.0.0.1" in one)
    values["monitor"].pop("enabled")
    assert yaml.safe_load(shown) == values


def test_notes_say_what_is_missing_and_how_to_get_it(helm4: Helm) -> None:
    notes = helm4.notes(CHART)
    assert "rapl.mode=root" in notes
    assert "pod-security.kubernetes.io/enforce=privileged" in notes
    assert "monitor.labels.release=STACK" in notes


def test_notes_are_quiet_about_what_is_done(helm4: Helm) -> None:
    stack = {"enabled": True, "labels": {"release": "stack"}}
    values = {
        "rapl": {"mode": "root"},
        "monitor": stack,
        "prometheusRule": stack,
        "dashboards": {"enabled": True},
    }
    notes = helm4.notes(CHART, values)
    assert "STACK" not in notes
    assert "--set" not in notes


def test_notes_warn_of_a_network_policy_that_reaches_nobody(helm4: Helm) -> None:
    values = {"hostNetwork": True, "networkPolicy": {"enabled": True}}
    assert "WARNING" in helm4.notes(CHART, values)


def test_notes_say_that_a_facility_has_no_sources_yet(helm4: Helm) -> None:
    notes = helm4.notes(CHART, {"facility": {"enabled": True}, "node": {"enabled": False}})
    assert "no\nfacility sources" in notes
    assert "RAPL" not in notes
