"""The alerts on inference on their way: Prometheus, Alertmanager with its example, a receiver.

The recorded series are served as text and scraped, and the rules wait seconds instead of minutes;
that they wait as long as they should is for the rule tests.
"""

from __future__ import annotations

import re
from queue import Empty, Queue
from typing import TYPE_CHECKING, Final

import pytest
import yaml

from stack.peers import prometheus_config, start_alertmanager, start_prometheus
from stack.receiver import Alert, AlertReceiver
from tests.patience import PATIENCE_S
from tests.prom.test_servers import serving
from tests.rulefiles import ALERTS

if TYPE_CHECKING:
    from pathlib import Path

    from stack.programs import Program

SERIES: Final = """\
model:joulefloor_batch_size:ratio{model="small"} 1.5
model:joulefloor_requests:sum{model="small",state="waiting"} 4
model:joulefloor_tokens:rate5m{model="unknown",direction="output"} 80
model:joulefloor_joules_per_token:ratio5m{model="unknown",boundary="node"} 9
model:joulefloor_power_watts:sum{model="unknown",boundary="node"} 720
joulefloor_model_energy_budget_joules_per_token{model="unknown"} 4
model:joulefloor_loaded_idle_power_watts:sum{model="parked"} 230
"""
EXPECTED: Final = {
    ("JoulefloorBatchSmall", "small"),
    ("JoulefloorInferenceNotMeasurable", "unknown"),
    ("JoulefloorModelLoadedIdle", "parked"),
}
MUTED: Final = ("JoulefloorEnergyBudgetBurn", "unknown")
"""It fires as well, but the energy of its model is not known."""


def impatient_rules(folder: Path) -> Path:
    """The shipped alerts, evaluated and raised within seconds."""
    text = (ALERTS / "inference-alerts.yaml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^( +for:) \w+$", r"\1 3s", text)
    text = re.sub(r"(?m)^( +interval:) \w+$", r"\1 1s", text)
    file = folder / "rules.yaml"
    file.write_text(text)
    return file


def test_waste_reaches_the_receiver_and_what_follows_from_something_worse_does_not(
    prometheus: Program, alertmanager: Program, tmp_path: Path
) -> None:
    (tmp_path / "metrics").write_text(SERIES)
    example = yaml.safe_load((ALERTS / "alertmanager.example.yml").read_text(encoding="utf-8"))
    delivered: Queue[Alert] = Queue()
    with (
        AlertReceiver(delivered.put) as receiver,
        serving(tmp_path) as address,
        start_alertmanager(
            alertmanager,
            tmp_path,
            receiver.config() | {"inhibit_rules": example["inhibit_rules"]},
        ) as alerts,
        start_prometheus(
            prometheus,
            tmp_path,
            prometheus_config(
                {"recorded": [address]},
                interval_s=1,
                rules=[impatient_rules(tmp_path)],
                alertmanagers=[alerts.address],
            ),
            resend_s=1,
        ),
    ):
        found: set[tuple[str, str]] = set()
        while not found >= EXPECTED:
            try:
                alert = delivered.get(timeout=PATIENCE_S)
            except Empty:
                pytest.fail(f"only {sorted(found)} arrived")
            found.add((alert.name, alert.labels.get("model", "")))
            assert alert.annotations["runbook_url"].endswith(alert.name.lower())
    assert MUTED not in found
    assert found == EXPECTED
