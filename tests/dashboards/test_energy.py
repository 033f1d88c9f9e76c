"""Energies that panels add up from recorded watts: of young and of old data, by promtool."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.dashboards.board import boards
from tests.prom.required import require
from tests.rulefiles import ALERTS

if TYPE_CHECKING:
    from pathlib import Path

WATTS: Final = 1000
MINUTES: Final = 25 * 60
LABELS: Final = 'instance="n",job="joulefloor",component="cpu"'
BILL: Final = 'workload_kind="pod",workload_namespace="x"'
SERIES: Final = (
    f'joulefloor_node_component_energy_joules_total{{{LABELS},method="measured"}}',
    f'joulefloor_namespace_energy_joules_total{{{LABELS},{BILL},share="dynamic"}}',
)
RANGE: Final = {"__range": "6h", "__range_s": "21600"}
ASKS: Final = {ask.where: ask for board in boards() for ask in board.asks()}
DAY: Final = ASKS["Joulefloor / Overview / Energy, last 24 h [A]"]
CHOSEN: Final = ASKS["Joulefloor / Workloads / Namespaces [G]"]
HOUR: Final = "sum(node:joulefloor_it_energy_joules:increase1h) / 3600"


def expected(minutes: int) -> list[dict[str, Any]]:
    """What the panels must show when the machine has drawn its watts for so long."""
    hours = minutes / 60
    shown = {
        DAY.filled(): ("{}", WATTS * min(hours, 24)),
        HOUR: ("{}", WATTS * min(hours, 1)),
        CHOSEN.filled(**RANGE): (f"{{{BILL}}}", WATTS * min(hours, 6) * 3600),
    }
    return [
        {
            "expr": f"round({expr}, 10)",
            "eval_time": f"{minutes}m",
            "exp_samples": [{"labels": labels, "value": round(value, -1)}],
        }
        for expr, (labels, value) in shown.items()
    ]


@pytest.mark.parametrize("major", [2, 3])
def test_a_longer_time_never_shows_less_energy_than_a_shorter_one(
    major: int, tmp_path: Path
) -> None:
    promtool = require("promtool", major=major)
    case = {
        "interval": "1m",
        "input_series": [
            {"series": series, "values": f"0+{WATTS * 60}x{MINUTES}"} for series in SERIES
        ],
        "promql_expr_test": [
            check for minutes in (3, 6, 17, 48, 90, MINUTES) for check in expected(minutes)
        ],
    }
    file = tmp_path / "energy.yaml"
    rules = [str(ALERTS / f"{name}.yaml") for name in ("recording", "workloads")]
    content = {"rule_files": rules, "evaluation_interval": "1m", "tests": [case]}
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    command: list[str | Path] = [promtool.path, "test", "rules", file]
    done = subprocess.run(command, capture_output=True, check=False, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
