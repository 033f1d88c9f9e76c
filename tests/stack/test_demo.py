"""The demo's past and its hurried rules: invented, but consistent with what the daemons show."""

from __future__ import annotations

import itertools
import re
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from joulefloor.demo import MODELS, PLACES, machine
from stack.demo import CONFIG, FLEET, WAIT_S, WEEK_S, WINDOW_S, past, write_node, write_past
from stack.demo import write_rules as write_hurried
from stack.peers import rule_files
from stack.programs import Program
from stack.receiver import Alert, changes
from tests.prom.required import require
from tests.rulefiles import ALERTS

if TYPE_CHECKING:
    from pathlib import Path

NOW_S = 1_790_000_000.0
UP_S = 5_000.0
SAMPLE = re.compile(r'model:joulefloor_(\w+):\w+{.*model="simulated/([^"]+)".*} (\S+) (\d+)')


def samples() -> dict[tuple[str, str], dict[int, float]]:
    """The values of the past by quantity and model, then by time."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for line in past(FLEET, NOW_S, UP_S):
        if read := SAMPLE.fullmatch(line):
            quantity, model, value, at = read.groups()
            found.setdefault((quantity, model), {})[int(at)] = float(value)
    return found


@pytest.mark.parametrize("model", ["llama-3.1-8b", "llama-3.1-70b", "qwen3-14b", "gpt-oss-20b"])
def test_a_week_ago_the_load_was_the_same_and_one_model_took_less_energy(model: str) -> None:
    found = samples()
    at = int(NOW_S) - WEEK_S
    cards = [
        (node.epoch_s, card)
        for node in FLEET
        for card in machine(node.gpus, node.models).gpus
        if card.served is MODELS[model]
    ]
    joules = tokens = 0.0
    for epoch_s, card in cards:
        end = UP_S + epoch_s
        joules += card.watts.integral(end) - card.watts.integral(end - WINDOW_S)
        load = card.load.integral(end) - card.load.integral(end - WINDOW_S)
        tokens += load * card.served.tokens_per_s
    assert found["tokens", model][at] == pytest.approx(tokens / WINDOW_S, rel=0.05)
    ratio = joules / tokens / found["joules_per_token", model][at]
    assert ratio > 1.35 if model == "gpt-oss-20b" else ratio == pytest.approx(1, rel=0.03)


def test_the_past_has_no_hole_and_ends_before_what_alerts_average() -> None:
    for values in samples().values():
        times = sorted(values)
        assert times[0] < NOW_S - WEEK_S
        assert NOW_S - times[-1] > 6 * 3600
        assert max(b - a for a, b in itertools.pairwise(times)) < 300


def test_a_promtool_that_fails_leaves_the_demo_without_a_past(tmp_path: Path) -> None:
    assert not write_past(Program("promtool", tmp_path / "none", ""), tmp_path)
    assert not write_past(Program("promtool", require("amtool").path, ""), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["prometheus"]


def test_promtool_makes_blocks_of_the_past(tmp_path: Path) -> None:
    assert write_past(require("promtool"), tmp_path, FLEET[1:2])
    assert any((tmp_path / "prometheus").glob("*/chunks"))


def test_hurried_rules_differ_in_time_only(tmp_path: Path) -> None:
    written = write_hurried(ALERTS, tmp_path)
    assert [path.name for path in written] == [path.name for path in rule_files(ALERTS)]
    for path in written:
        shipped = yaml.safe_load((ALERTS / path.name).read_text(encoding="utf-8"))
        hurried = yaml.safe_load(path.read_text(encoding="utf-8"))
        for ours, theirs in zip(hurried["groups"], shipped["groups"], strict=True):
            for rule, whole in zip(ours["rules"], theirs["rules"], strict=True):
                for wait in ("for", "keep_firing_for"):
                    assert (wait in rule) == (wait in whole)
                    assert int(rule.pop(wait, "0s")[:-1]) <= WAIT_S
                    whole.pop(wait, None)
                assert rule.pop("expr") == whole.pop("expr").replace("[5m]", "[60s]")
                assert rule == whole
    done = subprocess.run(
        [require("promtool").path, "check", "rules", *written], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_first_machine_is_what_the_file_says() -> None:
    settings = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["sources"]["simulated"]
    assert settings["enabled"]
    assert FLEET[0].models == PLACES


def test_machines_have_their_own_settings_and_one_site(tmp_path: Path) -> None:
    written = [
        yaml.safe_load(write_node(node, tmp_path).read_text(encoding="utf-8")) for node in FLEET
    ]
    settings = [content["sources"]["simulated"] for content in written]
    assert {one["site"] for one in settings} == {"demo"}
    assert [one["gpus"] for one in settings] == [8, 8, 4]
    assert len({one["epoch"] for one in settings}) == len(FLEET)


def test_an_alert_is_shown_once_until_it_changes() -> None:
    seen: list[Alert] = []
    deliver = changes(seen.append)
    one, other = ({"alertname": "A", "model": model} for model in "xy")
    for status, labels in [
        ("firing", one),
        ("firing", one),
        ("firing", other),
        ("resolved", one),
        ("resolved", one),
        ("firing", one),
    ]:
        deliver(Alert(status, labels, {}))
    assert [(alert.status, alert.labels["model"]) for alert in seen] == [
        ("firing", "x"),
        ("firing", "y"),
        ("resolved", "x"),
        ("firing", "x"),
    ]
