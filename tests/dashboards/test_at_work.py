"""Power at work is all power less that of idle accelerators, also where nobody tells which are."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.dashboards.board import Ask, boards
from tests.patience import PATIENCE_S
from tests.prom.required import require

if TYPE_CHECKING:
    from pathlib import Path

POWER = 'node:joulefloor_component_power_watts:sum{instance="a",component="gpu",method="measured"}'
IDLE = 'node:joulefloor_idle_accelerator_power_watts:sum{instance="a",component="gpu"}'


def at_work() -> Ask:
    (ask,) = (
        ask for board in boards() for ask in board.asks() if "at work and idle [A]" in ask.where
    )
    return ask


@pytest.mark.parametrize(("idle_watts", "watts"), [(None, 300.0), (100.0, 200.0), (300.0, 0.0)])
def test_power_at_work_is_drawn_where_idle_power_is_known_and_where_it_is_not(
    tmp_path: Path, idle_watts: float | None, watts: float
) -> None:
    series = [{"series": POWER, "values": "300x10"}]
    if idle_watts is not None:
        series.append({"series": IDLE, "values": f"{idle_watts}x10"})
    expected = {"labels": "{}", "value": watts}
    check = {"expr": at_work().filled(), "eval_time": "2m", "exp_samples": [expected]}
    test = {"interval": "30s", "input_series": series, "promql_expr_test": [check]}
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"tests": [test]}), encoding="utf-8")
    command: list[str | Path] = [require("promtool", major=2).path, "test", "rules", file]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
