"""`make run` as a person meets it: real daemon, real Prometheus, real Alertmanager."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import uuid
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import psutil
import pytest

from stack.programs import ROOT
from stack.query import eventually, fetch, fetch_json, instant
from tests.patience import PATIENCE_S, patiently

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MARK = "JOULEFLOOR_TEST_RUN"
UNTIL_READY_S = 300
UNTIL_ALERTS_S = 480.0
READY_LINE = "Ctrl-C stops everything"
ALONE = ("--programs", "", "--no-install")


class Started(NamedTuple):
    """A running `python -m stack.run`, and what it printed until it was ready."""

    process: subprocess.Popen[str]
    mark: str
    printed: str

    def url(self, name: str) -> str:
        """The address printed for a server, without its path."""
        found = re.search(rf"^ +{name} +(http://[^/\s]+)", self.printed, re.MULTILINE)
        assert found, self.printed
        return found.group(1)

    def finish(self, number: signal.Signals) -> str:
        """Send a signal to the runner alone and return what it prints until its end."""
        self.process.send_signal(number)
        rest, _ = self.process.communicate(timeout=PATIENCE_S)
        return rest


def marked(mark: str) -> list[psutil.Process]:
    """All processes that descend from one run, whoever their parent is by now."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def nothing_left(mark: str) -> bool:
    """Wait until no process of a run is there any more: one that is killed takes a moment."""
    return eventually(lambda: not marked(mark), within_s=PATIENCE_S)


def names(processes: list[psutil.Process]) -> str:
    """Their command lines, one a line; those that ended meanwhile have none."""
    lines = []
    for process in processes:
        with suppress(psutil.Error):
            lines.append(" ".join(process.cmdline()))
    return "\n".join(lines)


def kill(processes: list[psutil.Process]) -> None:
    """Kill them; some may have ended with another."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


@contextmanager
def started(temporary: Path, *options: str) -> Iterator[Started]:
    """Start a run that keeps its data under `temporary`, and wait until it says it is ready."""
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "stack.run", *options],
        cwd=ROOT,
        env=os.environ | {MARK: mark, "TMPDIR": str(temporary)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        printed = ""
        for line in process.stdout:
            printed += line
            if READY_LINE in line:
                break
        else:
            pytest.fail(f"the run ended before it was ready:\n{printed}")
        yield Started(process, mark, printed)
    finally:
        kill(marked(mark))
        process.wait()
        process.stdout.close()


def test_once_reports_what_is_measured_and_leaves_nothing_behind() -> None:
    mark = uuid.uuid4().hex

    run = subprocess.run(
        [sys.executable, "-m", "stack.run", "--once"],
        cwd=ROOT,
        env=os.environ | {MARK: mark},
        capture_output=True,
        text=True,
        timeout=UNTIL_READY_S,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert "What this machine draws now" in run.stdout
    assert re.search(r"^  \S.* \d+\.\d\d +(measured|modelled) ", run.stdout, re.MULTILINE)
    assert "simulated" not in run.stdout
    assert "scrapes the daemon" in run.stdout
    assert nothing_left(mark), names(marked(mark))


def test_ctrl_c_stops_everything_that_the_run_started(tmp_path: Path) -> None:
    with started(tmp_path) as run:
        commands = names(marked(run.mark))
        assert all(name in commands for name in ("joulefloor", "prometheus", "alertmanager"))
        prometheus = run.url("Prometheus")
        watts = partial(instant, prometheus, 'count({__name__="joulefloor_component_power_watts"})')
        assert patiently(watts)
        rules = fetch_json(f"{prometheus}/api/v1/rules")["data"]["groups"]
        assert {group["file"] for group in rules} == {
            str(path) for path in (ROOT / "alerts").glob("*.y*ml") if "groups:" in path.read_text()
        }
        rejected = [
            rule["lastError"] for group in rules for rule in group["rules"] if rule.get("lastError")
        ]
        assert rejected == []

        rest = run.finish(signal.SIGINT)

        assert run.process.returncode == 0, rest
        assert "Everything is stopped" in rest
        assert nothing_left(run.mark), names(marked(run.mark))
        assert list(tmp_path.iterdir()) == []


def test_without_prometheus_one_line_says_what_to_install_and_the_daemon_runs(
    tmp_path: Path,
) -> None:
    with started(tmp_path, *ALONE) as run:
        hints = [line for line in run.printed.splitlines() if "apt-get install" in line]
        assert len(hints) == 1
        assert "prometheus-alertmanager" in hints[0]
        assert b"<html" in fetch(run.url("live page") + "/").lower()
        assert b"joulefloor_build_info" in fetch(run.url("metrics") + "/metrics")

        rest = run.finish(signal.SIGTERM)

        assert run.process.returncode == 0, rest
        assert nothing_left(run.mark), names(marked(run.mark))


def test_a_server_that_dies_is_named_and_the_rest_is_stopped(tmp_path: Path) -> None:
    with started(tmp_path, "--demo", *ALONE) as run:
        daemon = [process for process in marked(run.mark) if process.pid != run.process.pid]
        kill(daemon)

        rest, _ = run.process.communicate(timeout=PATIENCE_S)

        assert run.process.returncode == 1
        assert re.search(r"joulefloor-node-\d ended, so everything stops", rest)
        assert nothing_left(run.mark), names(marked(run.mark))


def test_a_runner_that_is_killed_outright_leaves_no_server_behind(tmp_path: Path) -> None:
    with started(tmp_path, "--demo", *ALONE) as run:
        run.process.kill()
        run.process.wait()

        assert nothing_left(run.mark), names(marked(run.mark))


def test_the_demo_reports_simulated_watts_only(tmp_path: Path) -> None:
    with started(tmp_path, "--demo", *ALONE) as run:
        assert "What the first of the simulated machines draws now" in run.printed
        methods = set(re.findall(r"\b(measured|modelled|simulated)  ", run.printed))
        assert methods == {"simulated"}


def test_the_demo_delivers_that_a_model_regressed_against_last_week(tmp_path: Path) -> None:
    """Each of these takes its own way: an hour's budget, a queue, an idle model, a week's past."""
    awaited = {
        ("JoulefloorJoulesPerTokenRegressed", "gpt-oss-20b"),
        ("JoulefloorEnergyBudgetBurn", "llama-3.1-70b"),
        ("JoulefloorBatchSmall", "qwen3-14b"),
        ("JoulefloorModelLoadedIdle", "qwen3-32b"),
    }
    with started(tmp_path, "--demo") as run:
        assert "scrapes 3 daemons" in run.printed
        assert run.process.stdout is not None
        ending = threading.Timer(UNTIL_ALERTS_S, run.process.terminate)
        ending.start()
        said = ""
        for line in run.process.stdout:
            said += line
            awaited -= {(name, model) for name, model in awaited if name in line and model in line}
            if not awaited:
                break
        ending.cancel()
        assert not awaited, f"not delivered: {awaited}\n{said}"
        assert "NotMeasurable" not in said
        prometheus = run.url("Prometheus")

        def labels(name: str, *wanted: str) -> set[tuple[str, ...]]:
            found = instant(prometheus, f"{name} > 0")
            return {tuple(series["metric"][label] for label in wanted) for series in found}

        def boundaries() -> bool:
            found = labels("model:joulefloor_joules_per_token:ratio5m", "boundary")
            return found == {("device",), ("node",), ("pool",), ("facility",)}

        def carbon() -> bool:
            name = "model:joulefloor_carbon_grams_per_inference:ratio5m"
            return labels(name, "pue_source", "basis") == {("measured", "average")}

        assert patiently(boundaries)
        assert patiently(carbon)
        broken = [
            rule["lastError"]
            for group in fetch_json(f"{prometheus}/api/v1/rules")["data"]["groups"]
            for rule in group["rules"]
            if rule.get("lastError")
        ]
        assert broken == []


def test_a_daemon_that_cannot_start_is_named_with_its_own_words(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("sauces: {}\n")

    run = subprocess.run(
        [sys.executable, "-m", "stack.run", "--once", "--config", bad, *ALONE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=UNTIL_READY_S,
        check=False,
    )

    assert run.returncode == 1
    assert "joulefloor ended while starting" in run.stderr
    assert "sauces" in run.stderr
