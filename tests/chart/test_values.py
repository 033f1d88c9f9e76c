"""The values: their schema, their table, and what the notes say about them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.chart.helm import CHART
from tests.chart.values_table import README, document

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.helm import Helm

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())

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
