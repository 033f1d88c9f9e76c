"""Rules and dashboards in the chart are those of the repository, and what it runs is ours."""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from joulefloor import __version__, catalogue
from joulefloor.config import load
from joulefloor.plugins import installed
from stack.peers import rule_files
from stack.programs import ROOT
from tests.chart.helm import CHART, container_of, only, pod_of
from tests.prom.required import require

if TYPE_CHECKING:
    from pathlib import Path

    from tests.chart.helm import Helm, Manifest

RULES = rule_files(ROOT / "alerts")
ADAPTERS = rule_files(ROOT / "alerts" / "adapters")
BOARDS = sorted((ROOT / "dashboards").glob("*.json"))
WITH_RULES = {"prometheusRule": {"enabled": True}}


def groups_of(manifests: list[Manifest]) -> list[Any]:
    found = [one for one in manifests if one["kind"] == "PrometheusRule"]
    return [group for one in found for group in one["spec"]["groups"]]


def in_order(groups: list[Any]) -> list[Any]:
    return sorted(groups, key=lambda group: str(group["name"]))


def written(files: list[Path]) -> list[Any]:
    return in_order(
        [group for path in files for group in yaml.safe_load(path.read_text())["groups"]]
    )


def test_rules_are_those_of_the_repository(helm: Helm, chart: Path) -> None:
    assert in_order(groups_of(helm.render(chart, WITH_RULES))) == written(RULES)


def test_adapters_come_with_their_election_and_only_when_named(helm: Helm, chart: Path) -> None:
    names = [path.stem for path in ADAPTERS if path.stem != "elect"]
    values = {"prometheusRule": {"enabled": True, "adapters": names}}
    assert in_order(groups_of(helm.render(chart, values))) == written([*RULES, *ADAPTERS])


def test_an_adapter_that_does_not_exist_is_refused(helm4: Helm) -> None:
    said = helm4.refusal(CHART, {"prometheusRule": {"enabled": True, "adapters": ["nobody"]}})
    assert "alerts/adapters/nobody.yaml" in said


def test_rules_pass_promtool(helm4: Helm, tmp_path: Path) -> None:
    promtool = require("promtool")
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": groups_of(helm4.render(CHART, WITH_RULES))}))
    answer = subprocess.run(
        [promtool.path, "check", "rules", file], capture_output=True, check=False, text=True
    )
    assert answer.returncode == 0, answer.stderr


def test_each_alert_can_be_left_out_and_labelled(helm4: Helm) -> None:
    values = {
        "prometheusRule": {
            "enabled": True,
            "disabledAlerts": ["JoulefloorTargetDown"],
            "alertLabels": {"team": "energy"},
        }
    }
    rules = [rule for group in groups_of(helm4.render(CHART, values)) for rule in group["rules"]]
    alerts = [rule for rule in rules if "alert" in rule]
    assert "JoulefloorTargetDown" not in {rule["alert"] for rule in alerts}
    assert all(rule["labels"]["team"] == "energy" for rule in alerts)
    assert all(rule["labels"]["severity"] for rule in alerts)
    assert not any("team" in rule.get("labels", {}) for rule in rules if "record" in rule)


def test_without_alerts_the_recording_rules_stay(helm4: Helm) -> None:
    values = {"prometheusRule": {"enabled": True, "alerts": False}}
    rules = [rule for group in groups_of(helm4.render(CHART, values)) for rule in group["rules"]]
    assert rules
    assert all("record" in rule for rule in rules)


def test_dashboards_are_those_of_the_repository(helm: Helm, chart: Path) -> None:
    manifests = helm.render(chart, {"dashboards": {"enabled": True}})
    maps = [one for one in manifests if "grafana_dashboard" in one["metadata"]["labels"]]
    seen = {name: json.loads(text) for one in maps for name, text in one["data"].items()}
    assert seen == {path.name: json.loads(path.read_text()) for path in BOARDS}
    assert all(len(one["data"]) == 1 for one in maps), "one ConfigMap each, for its limit of 1 MiB"
    assert all(len(json.dumps(one)) < 2**20 for one in maps)


def test_the_package_holds_rules_and_dashboards_and_no_code(package: Path) -> None:
    with tarfile.open(package) as archive:
        members = archive.getmembers()
    assert not [one.name for one in members if not one.isfile()], "links would dangle elsewhere"
    names = {one.name.removeprefix("joulefloor/") for one in members}
    linked = {name for name in names if name.startswith(("alerts/", "dashboards/"))}
    assert linked == {str(path.relative_to(ROOT)) for path in [*RULES, *ADAPTERS, *BOARDS]}
    assert not [name for name in names if name.endswith((".py", ".pyc"))]
    # Helm keeps it in a secret, base64 and all, which may hold 1 MiB.
    assert package.stat().st_size < 700_000


def test_the_chart_runs_this_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == __version__
    assert chart["version"] == __version__


@pytest.mark.parametrize(
    "config",
    [
        {"sampling": {"tick": "2s"}, "sources": {"simulated": {"enabled": True, "gpus": 4}}},
        "# as text\nsources:\n  rapl: {required: true}   # must be there\n",
    ],
    ids=["map", "text"],
)
def test_configuration_arrives_as_the_daemon_reads_it(
    config: object, helm4: Helm, tmp_path: Path
) -> None:
    written = tmp_path / "written.yaml"
    written.write_text(config if isinstance(config, str) else yaml.safe_dump(config))
    manifests = helm4.render(CHART, {"config": config})
    arrived = tmp_path / "arrived.yaml"
    arrived.write_text(only(manifests, "ConfigMap")["data"]["joulefloor.yaml"])
    assert load(arrived, installed()) == load(written, installed())
    if isinstance(config, str):
        assert arrived.read_text().strip() == config.strip(), "comments stay"


def test_a_changed_configuration_replaces_the_pods(helm4: Helm) -> None:
    def annotations(tick: str) -> Any:  # noqa: ANN401  # YAML
        made = only(helm4.render(CHART, {"config": {"sampling": {"tick": tick}}}), "DaemonSet")
        return made["spec"]["template"]["metadata"]["annotations"]["checksum/config"]

    assert annotations("1s") != annotations("2s")


def test_without_configuration_the_daemon_reads_no_file(helm4: Helm) -> None:
    manifests = helm4.render(CHART)
    assert not [one for one in manifests if one["kind"] == "ConfigMap"]
    arguments = container_of(only(manifests, "DaemonSet"))["args"]
    assert not [one for one in arguments if one.startswith("--config.file")]


def test_big_numbers_stay_whole(helm4: Helm) -> None:
    values = {
        "config": {"sampling": {"tick": 10_000_000}},
        "rapl": {"mode": "group", "group": 2_000_000},
        "monitor": {"enabled": True, "sampleLimit": 3_000_000},
    }
    manifests = helm4.render(CHART, values)
    assert "tick: 10000000" in only(manifests, "ConfigMap")["data"]["joulefloor.yaml"]
    pod = pod_of(only(manifests, "DaemonSet"))
    assert pod["securityContext"]["supplementalGroups"] == [2_000_000]
    assert pod["initContainers"][0]["command"][-1] == "2000000"
    assert only(manifests, "PodMonitor")["spec"]["sampleLimit"] == 3_000_000


def test_metric_names_in_the_chart_are_ours() -> None:
    known = {metric.name for metric in catalogue.METRICS}
    text = "".join(
        path.read_text()
        for path in [*CHART.glob("templates/**/*.*"), CHART / "README.md", CHART / "values.yaml"]
    )
    named = set(re.findall(r"\bjoulefloor_[a-z_]+", text))
    assert named
    assert named <= known
