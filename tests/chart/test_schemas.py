"""Rendered objects against the schemas of Kubernetes and of Prometheus Operator, strictly."""

from __future__ import annotations

import json
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from tests.chart.helm import CHART, only
from tests.chart.test_snapshots import SETS, values_of

if TYPE_CHECKING:
    from tests.chart.helm import Helm, Manifest

OPERATOR = "monitoring.coreos.com/v1"
VERSIONS = [f"1.{minor}" for minor in range(28, 38)]
# Its schema is in no package; the snapshot is what a person reviews.
UNCHECKED = {"VerticalPodAutoscaler"}


@pytest.fixture(scope="module")
def rendered(helm4: Helm) -> dict[str, list[Manifest]]:
    """Every set of values, rendered once."""
    return {name: helm4.render(CHART, values_of(name)) for name in SETS}


def operator_problems(manifests: list[Manifest], models: Path) -> list[str]:
    """Ask the models of Prometheus Operator's types."""
    answer = subprocess.run(
        [sys.executable, Path(__file__).with_name("operator_check.py")],
        capture_output=True,
        check=True,
        env={"PYTHONPATH": str(models)},
        input=json.dumps(manifests),
        text=True,
    )
    return answer.stdout.splitlines()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_what_kubernetes_knows(
    version: str, rendered: dict[str, list[Manifest]]
) -> None:
    checked = set()
    for manifests in rendered.values():
        for manifest in manifests:
            if manifest["apiVersion"] != OPERATOR and manifest["kind"] not in UNCHECKED:
                used = kubernetes_validate.validate(manifest, version, strict=True)
                assert used == version
                checked.add(manifest["kind"])
    assert {"DaemonSet", "Deployment", "NetworkPolicy", "Pod", "Service"} <= checked


def test_an_unknown_key_would_be_seen(rendered: dict[str, list[Manifest]]) -> None:
    account = only(rendered["default"], "ServiceAccount")
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(account | {"automount": True}, VERSIONS[-1], strict=True)


def test_every_object_is_what_prometheus_operator_knows(
    rendered: dict[str, list[Manifest]], operator_models: Path
) -> None:
    manifests = [one for some in rendered.values() for one in some if one["apiVersion"] == OPERATOR]
    assert {one["kind"] for one in manifests} == {"PodMonitor", "ServiceMonitor", "PrometheusRule"}
    assert operator_problems(manifests, operator_models) == []


def test_an_unknown_key_of_a_monitor_would_be_seen(
    rendered: dict[str, list[Manifest]], operator_models: Path
) -> None:
    monitor = deepcopy(only(rendered["gpu-cluster"], "PodMonitor"))
    monitor["spec"]["podMetricsEndpoints"][0]["intervall"] = "5s"
    monitor["spec"]["sampleLimit"] = "many"
    bad_type = operator_problems([monitor], operator_models)
    assert any("sampleLimit" in line for line in bad_type)
    monitor["spec"]["sampleLimit"] = 1
    (problem,) = operator_problems([monitor], operator_models)
    assert problem.endswith(".spec.podMetricsEndpoints[0].intervall is not known")
