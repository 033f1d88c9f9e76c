"""The rules for servers over a real server, hurried: what Prometheus is told and records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import yaml

from stack.peers import write_config
from stack.query import instant
from tests.rulefiles import ALERTS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PATIENCE_S: Final = 60.0


def scraping(address: str, labels: Mapping[str, str], folder: Path) -> dict[str, Any]:
    """Prometheus over one server, with the labels that alerts/SERVERS.md asks for."""
    content = yaml.safe_load((ALERTS / "servers.yaml").read_text(encoding="utf-8"))
    for group in content["groups"]:
        group["interval"] = "1s"
    rules = write_config(folder / "servers.yaml", content)
    target = {"targets": [address], "labels": dict(labels)}
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(rules)],
        "scrape_configs": [{"job_name": "server", "static_configs": [target]}],
    }


def recorded(url: str, name: str, model: str, label: str) -> dict[str, float]:
    """A recorded series of the model, by the values of one label."""
    found = instant(url, f'workload:joulefloor_{name}{{model="{model}"}}')
    return {one["metric"].get(label, ""): float(one["value"][1]) for one in found}
