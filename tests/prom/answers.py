"""What expressions answer over series that stand still, by Prometheus' own tester."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import yaml

from tests.patience import PATIENCE_S
from tests.prom.required import require

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def expect(
    folder: Path,
    major: int,
    series: Mapping[str, float],
    answers: Mapping[str, Mapping[str, float]],
) -> None:
    """Let promtool compare: for each expression what it answers, by labels, to a thousandth."""
    tests = {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": f"{value}x5"} for name, value in series.items()
        ],
        "promql_expr_test": [
            {
                "expr": f"round({expr}, 0.001)",
                "eval_time": "2m",
                "exp_samples": [
                    {"labels": labels, "value": value} for labels, value in samples.items()
                ],
            }
            for expr, samples in answers.items()
        ],
    }
    file = folder / "tests.yaml"
    file.write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [tests]}))
    command = (require("promtool", major=major).path, "test", "rules", file)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr
