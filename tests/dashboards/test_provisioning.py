"""Provisioning and compose.yaml: they fit each other, `make run`, and the files they mount."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.dashboards.board import FOLDER
from tests.prom.required import require
from tests.rulefiles import RULE_FILES

if TYPE_CHECKING:
    from pathlib import Path

ROOT = FOLDER.parent
PROVISIONING = sorted((FOLDER / "provisioning").rglob("*.yaml"))
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
PROMETHEUS_YML: str = COMPOSE["configs"]["prometheus"]["content"]
each_service = pytest.mark.parametrize("service", SERVICES.values(), ids=list(SERVICES))


def provisioned(kind: str) -> dict[str, Any]:
    """The only entry of a provisioning file."""
    path = FOLDER / "provisioning" / kind / "joulefloor.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    (entry,) = content["datasources" if kind == "datasources" else "providers"]
    assert content["apiVersion"] == 1
    assert isinstance(entry, dict)
    return entry


def test_compose_and_make_run_set_every_name_that_provisioning_refers_to() -> None:
    texts = [path.read_text(encoding="utf-8") for path in PROVISIONING]
    names = {name for text in texts for name in re.findall(r": \$(\w+)", text)}
    assert names == {"PROMETHEUS_URL", "DASHBOARDS_PATH"}

    assert names <= SERVICES["grafana"]["environment"].keys()
    make_run = (ROOT / "stack" / "grafana.py").read_text(encoding="utf-8")
    assert all(f'"{name}"' in make_run for name in names)
    shared = {name for name in SERVICES["grafana"]["environment"] if name.startswith("GF_A")}
    assert all(f'"{name}"' in make_run for name in shared), "both Grafanas are set up alike"


def test_the_data_source_knows_the_interval_at_which_compose_scrapes() -> None:
    jsons = provisioned("datasources")["jsonData"]

    assert jsons["timeInterval"] == yaml.safe_load(PROMETHEUS_YML)["global"]["scrape_interval"]
    assert jsons["prometheusType"] == "Prometheus"


def test_the_dashboards_are_read_only_and_where_compose_mounts_them() -> None:
    provider = provisioned("dashboards")
    environment = SERVICES["grafana"]["environment"]

    assert not provider["allowUiUpdates"]
    assert f"./dashboards:{environment['DASHBOARDS_PATH']}:ro" in SERVICES["grafana"]["volumes"]
    home = environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (FOLDER / home.removeprefix("/dashboards/")).is_file()


@each_service
def test_containers_are_pinned_read_only_without_capabilities_and_on_loopback(
    service: dict[str, Any],
) -> None:
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])


@each_service
def test_what_is_mounted_exists_and_is_read_only(service: dict[str, Any]) -> None:
    mounts = [mount.split(":") for mount in service["volumes"]]
    for place, *_, mode in (mount for mount in mounts if mount[0].startswith((".", "/"))):
        assert (ROOT / place).exists()
        assert mode == "ro"
    named = [mount[0] for mount in mounts if not mount[0].startswith((".", "/"))]
    assert set(named) <= COMPOSE["volumes"].keys()


@pytest.mark.parametrize("major", [2, 3])
def test_the_prometheus_configuration_of_compose_loads_with_its_rules(
    tmp_path: Path, major: int
) -> None:
    file = tmp_path / "prometheus.yml"
    file.write_text(PROMETHEUS_YML.replace("/etc/prometheus/rules", str(ROOT / "alerts")))
    promtool = require("promtool", major=major).path

    done = subprocess.run(
        [promtool, "check", "config", file], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert f"{len(RULE_FILES)} rule files found" in done.stdout
