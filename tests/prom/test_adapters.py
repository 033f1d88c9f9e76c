"""The optional rules over other exporters: from their own text to watts, and who wins over whom.

Each sample exposition is served over HTTP and scraped by a real Prometheus, so that the rules meet
the labels that Prometheus makes of it (`exported_*` where a target label has the name already).
Those series then run for minutes in the rule testers, which need no time for it.
"""

from __future__ import annotations

import re
import subprocess
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from joulefloor import catalogue
from stack.peers import rule_files, start_prometheus
from stack.query import eventually, instant
from tests.patience import PATIENCE_S
from tests.prom.adapted import (
    REAL,
    SAMPLES,
    TARGETS,
    Target,
    real_node_exporter,
    scrape_config,
    series_of,
    serving_samples,
)
from tests.prom.adapted_devices import COUNTED, DEVICES, DRIVERS, JOB
from tests.prom.required import require
from tests.rulefiles import ALERTS, RULE_FILES, recorded_names, seconds

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stack.programs import Program

ADAPTERS: Final = ALERTS / "adapters"
FILES: Final = tuple(sorted(ADAPTERS.glob("*.yaml")))
TESTS: Final = tuple(sorted((ADAPTERS / "tests").glob("*.yaml")))
README: Final = (ADAPTERS / "README.md").read_text(encoding="utf-8")
RECORDING: Final = ALERTS / "recording.yaml"
ELECT: Final = ADAPTERS / "elect.yaml"
COUNTER: Final = re.compile(
    r"\w+_joules_total|DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION|gpu_energy_consumed|scaph_\w+_microjoules"
)
"""What counts joules, whatever type its exporter declares."""
STEP_S: Final = 30
STEPS: Final = 40
CHECKED_AT: Final = 20
"""The step at which values are looked at: ten minutes."""
GAIN: Final = 1 / 1000
"""By how much of its first value a counter grows in a step."""


# -- what Prometheus makes of their text ----------------------------------------------------------


@pytest.fixture(scope="module")
def stored(
    prometheus2: Program, prometheus3: Program, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, list[dict[str, str]]]:
    """Every series as each line of Prometheus stored it, in one order, by major version."""
    folder = tmp_path_factory.mktemp("scraped")
    with ExitStack() as running:
        samples = running.enter_context(serving_samples())
        real = running.enter_context(real_node_exporter(folder))
        config = scrape_config(dict.fromkeys(TARGETS, samples) | {REAL: real})
        peers = {
            major: running.enter_context(start_prometheus(program, folder / str(major), config))
            for major, program in ((2, prometheus2), (3, prometheus3))
        }
        complete = f"count(up == 1) == {len(TARGETS)}"
        found = {}
        for major, peer in peers.items():
            seen = eventually(partial(instant, peer.url, complete), within_s=PATIENCE_S)
            assert seen, instant(peer.url, "up")
            # Of the moment at which all were there: a later scrape may be late.
            found[major] = series_of(peer.url, seen[0]["value"][0])
        return found


def as_input(series: Mapping[str, str]) -> dict[str, object]:
    """Let the sample go on for twenty minutes: counters run, gauges stay."""
    name, value = series["__name__"], float(series["value"])
    step = value * GAIN if COUNTER.fullmatch(name) else 0
    keys = sorted(series.keys() - {"__name__", "value"})
    labels = ",".join(f'{key}="{series[key]}"' for key in keys)
    return {"series": f"{name}{{{labels}}}", "values": f"{value:.6f}+{step:.9f}x{STEPS}"}


# -- what the rules must make of it ---------------------------------------------------------------


def labels_of(target: Target, **more: str) -> str:
    """Labels of a recorded series of that target's machine, in PromQL."""
    of_target = {key: target.labels[key] for key in ("cluster", "rack") if key in target.labels}
    return selector(of_target | {"instance": target.watts.machine, "job": JOB} | more)


def check(name: str, samples: Mapping[str, float]) -> dict[str, object]:
    """Every series of that name, no more and no fewer, to a thousandth of its unit."""
    return {
        "expr": f"round({name}, 0.001)",
        "eval_time": f"{CHECKED_AT * STEP_S}s",
        "exp_samples": [
            {"labels": labels, "value": round(value, 3)} for labels, value in samples.items()
        ],
    }


def checks() -> list[dict[str, object]]:
    """Components, walls, IT power and energy of every machine."""
    parts: dict[str, float] = {}
    walls: dict[str, float] = {}
    totals: dict[str, float] = {}
    measured: dict[str, float] = {}
    for target in TARGETS.values():
        watts = target.watts
        of_machine = {"cpu": watts.cpu, "dram": watts.dram, "gpu": watts.gpu}
        for component, value in of_machine.items():
            if value:
                parts[labels_of(target, component=component, method=watts.method)] = value
        if watts.wall:
            walls[labels_of(target)] = watts.wall
        measured[labels_of(target)] = watts.method == "measured"
        totals[labels_of(target)] = watts.wall or sum(of_machine.values())
    return [
        check("node:joulefloor_component_power_watts:sum", parts),
        check("node:joulefloor_node_power_watts:rate5m", walls),
        check("node:joulefloor_it_power_watts:sum", totals),
        check("node:joulefloor_measured_power:ratio", measured),
    ]


def device_checks() -> list[dict[str, object]]:
    """Every series of every GPU and every driver; each metric of the rules at least once."""
    wanted: dict[str, dict[str, float]] = {name: {} for name in DEVICE_METRICS}
    for device in DEVICES:
        for metric, labels, value in device.series():
            ran = 1 + CHECKED_AT * GAIN if metric == COUNTED else 1
            wanted[metric][selector(labels)] = value * ran
    for machine, (vendor, version) in DRIVERS.items():
        labels = {"instance": machine, "job": JOB, "vendor": vendor, "version": version}
        wanted[catalogue.DRIVER_INFO.name][selector(labels)] = 1
    return [check(metric, samples) for metric, samples in wanted.items()]


def selector(labels: Mapping[str, str]) -> str:
    return "{" + ",".join(f'{key}="{value}"' for key, value in labels.items()) + "}"


def rule_test(stored: list[dict[str, str]], expected: list[dict[str, object]]) -> dict[str, Any]:
    """Compose the promtool test of all samples at once."""
    series = [as_input(labels) for labels in stored]
    interval = f"{STEP_S}s"
    return {
        "rule_files": [str(path) for path in (RECORDING, *FILES)],
        "evaluation_interval": interval,
        "tests": [{"interval": interval, "input_series": series, "promql_expr_test": expected}],
    }


def for_victoriametrics(document: dict[str, Any]) -> dict[str, Any]:
    """The same test for vmalert-tool; `+ 0` drops the name that round() keeps there."""
    cases = [
        {key: value for key, value in case.items() if key not in {"name", "promql_expr_test"}}
        | {
            "metricsql_expr_test": [
                expected | {"expr": f"({expected['expr']}) + 0"}
                for expected in case["promql_expr_test"]
            ]
        }
        for case in document["tests"]
    ]
    return document | {"tests": cases}


def completed(*command: str | Path) -> str:
    """Run a checker and return what it printed; its complaint is the failure."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said


def written(document: Mapping[str, object], folder: Path) -> Path:
    path = folder / "test.yaml"
    path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return path


def run_vmalert_tool(vmalert: Program, document: dict[str, Any], folder: Path) -> None:
    tester = vmalert.path.with_name("vmalert-tool")
    if not tester.exists():
        pytest.skip(f"{vmalert.path} comes without vmalert-tool")
    file = written(for_victoriametrics(document), folder)
    said = completed(tester, "unittest", f"--files={file}", "--disableAlertgroupLabel")
    assert "SUCCESS" in said


def test_both_lines_of_prometheus_store_the_same_of_every_exporter(
    stored: dict[int, list[dict[str, str]]],
) -> None:
    assert {series["job"] for series in stored[2]} == TARGETS.keys()
    assert stored[2] == stored[3]


def test_each_exporter_gives_the_watts_of_its_machine(
    stored: dict[int, list[dict[str, str]]], promtool: Program, tmp_path: Path
) -> None:
    completed(promtool.path, "test", "rules", written(rule_test(stored[3], checks()), tmp_path))


def test_each_exporter_gives_the_series_of_its_gpus(
    stored: dict[int, list[dict[str, str]]], promtool: Program, tmp_path: Path
) -> None:
    document = rule_test(stored[3], device_checks())
    completed(promtool.path, "test", "rules", written(document, tmp_path))


def test_victoriametrics_finds_the_same_watts_and_the_same_gpus(
    stored: dict[int, list[dict[str, str]]], vmalert: Program, tmp_path: Path
) -> None:
    run_vmalert_tool(vmalert, rule_test(stored[3], [*checks(), *device_checks()]), tmp_path)


def test_series_of_gpus_have_the_labels_of_the_daemon() -> None:
    declared = {metric.name: {*metric.labels} for metric in catalogue.METRICS}
    for device in DEVICES:
        for metric, labels, _ in device.series():
            assert labels.keys() - {"job", "instance"} == declared[metric], metric


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.stem)
def test_election_is_the_same_on_both_lines_of_prometheus(promtool: Program, file: Path) -> None:
    completed(promtool.path, "test", "rules", file)


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.stem)
def test_election_is_the_same_on_victoriametrics(
    vmalert: Program, tmp_path: Path, file: Path
) -> None:
    document = yaml.safe_load(file.read_text(encoding="utf-8"))
    document["rule_files"] = [
        str((file.parent / name).resolve()) for name in document["rule_files"]
    ]
    run_vmalert_tool(vmalert, document, tmp_path)


def test_every_sample_is_scraped_and_is_text_that_promtool_reads(promtool: Program) -> None:
    samples = {path.stem: path for path in SAMPLES.glob("*.txt")}
    assert samples.keys() == TARGETS.keys() - {REAL}
    for path in samples.values():
        text = path.read_bytes()
        command = (promtool.path, "check", "metrics")
        done = subprocess.run(command, input=text, capture_output=True, check=False, timeout=60)
        # 3 is its opinion of other people's names; 1 is text that it cannot parse.
        assert done.returncode in {0, 3}, f"{path.name}: {done.stderr.decode()}"


# -- the house rules ------------------------------------------------------------------------------


def groups() -> list[dict[str, Any]]:
    return [
        group
        for path in FILES
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    ]


RULES: Final[list[dict[str, Any]]] = [rule for group in groups() for rule in group["rules"]]
DEVICE_METRICS: Final = sorted(
    {rule["record"] for rule in RULES} & {metric.name for metric in catalogue.METRICS}
)
"""What the daemon exports of each GPU, and these rules record."""
each_rule = pytest.mark.parametrize(
    "rule", RULES, ids=lambda rule: "-".join((rule["record"], *rule.get("labels", {}).values()))
)


def test_promtool_finds_no_fault_in_the_adapters(promtool: Program) -> None:
    completed(promtool.path, "check", "rules", "--lint=all", "--lint-fatal", *FILES)


@pytest.mark.parametrize("newest", [True, False], ids=["newest", "first"])
def test_vmalert_loads_the_adapters(vmalert: Program, *, newest: bool) -> None:
    program = vmalert if newest else require("vmalert")
    completed(program.path, "-dryRun", *(f"-rule={path}" for path in FILES))


def test_adapters_are_not_loaded_unless_asked_for() -> None:
    assert not {*rule_files(ALERTS), *RULE_FILES} & {*FILES}
    assert rule_files(ADAPTERS) == [*FILES], "the folder holds rule files and nothing else"


def test_groups_are_small_bounded_and_regular() -> None:
    names = [group["name"] for group in groups()]
    assert len(names) == len(set(names))
    for group in groups():
        assert len(group["rules"]) <= 20, group["name"]
        assert group["limit"] > 0, group["name"]
        assert seconds(group["interval"]) in {30, 60}, group["name"]


@each_rule
def test_recorded_names_say_level_metric_and_operations(rule: dict[str, Any]) -> None:
    if rule["record"] in DEVICE_METRICS:
        assert rule["labels"]["job"] == JOB, "or the daemon's own series would be overwritten"
        return
    level, metric, operations = rule["record"].split(":")
    assert level in {"node", "device"}
    assert re.fullmatch(r"joulefloor_[a-z_]+[a-z]", metric)
    assert re.fullmatch(r"(sum|max|group|rate|increase)(\d+[mh])?", operations)


@each_rule
def test_rates_are_of_joules_and_span_four_scrapes(rule: dict[str, Any]) -> None:
    ranged = re.findall(r"(\w+)\(\s*([\w:]+)\s*(?:{[^}]*})?\s*\[(\w+)\]", rule["expr"])
    windows = re.findall(r"\[\d+[smh]\]", rule["expr"])
    assert len(ranged) == len(windows), "every range is looked at"
    for function, name, window in ranged:
        assert seconds(window) >= 4 * STEP_S, f"{function}({name}[{window}])"
        assert (function == "rate") == bool(COUNTER.fullmatch(name)), f"{function}({name})"


@each_rule
def test_expressions_stay_cheap_and_portable(rule: dict[str, Any]) -> None:
    expr = rule["expr"]
    assert "__name__" not in expr, "names are never matched by a pattern"
    assert not re.search(r"\[\w*:\w*\]", expr), "no subqueries"
    grouped = re.findall(r"(?<![:\w])(?:sum|max|min|count|avg)\b(?:\s+(by|without)\b)?", expr)
    assert all(grouped), "by or without is always explicit"


FOREIGN: Final = re.compile(r"\b((?:DCGM_FI|nvidia_smi|gpu|kepler|scaph|ceems|node)_\w+)")
MADE: Final = frozenset(
    {"cluster", "rack", "job", "instance", "node", "machine", "component", "source", "method"}
    | {"exported_hostname", "exported_instance", "address", "model", "version", "error"}
)
"""Labels that targets, Prometheus or the adapters themselves set."""


@each_rule
def test_every_metric_and_label_of_an_exporter_stands_in_a_sample(rule: dict[str, Any]) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in SAMPLES.glob("*.txt"))
    labels = {*re.findall(r'(\w+)="', text)} | MADE
    expr = re.sub(r'"[^"]*"', '""', rule["expr"])
    for name in set(FOREIGN.findall(expr)) - labels:
        assert re.search(rf"^{name}{{", text, re.MULTILINE), name
    grouped = re.findall(r"\b(?:by|on) \(([\w,\s]*)\)", expr)
    matched = re.findall(r"(\w+)(?:!=|=~|!~|=)\"", expr)
    assert {*matched, *re.findall(r"\w+", " ".join(grouped))} <= labels


@each_rule
def test_our_own_names_in_expressions_exist(rule: dict[str, Any]) -> None:
    ours = {row.name for row in catalogue.METRICS} | recorded_names()
    ours |= {other["record"] for other in RULES}
    assert {*re.findall(r"(?:\w+:)?joulefloor_\w+(?::\w+)*", rule["expr"])} <= ours


def test_only_the_election_writes_what_the_default_rules_read() -> None:
    default = recorded_names()
    for path in FILES:
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                assert (rule["record"] in default) <= (path == ELECT), rule["record"]
                if rule["record"] in default and "labels" in rule:
                    assert rule["labels"] == {"job": "joulefloor-adapters"}


def test_every_source_states_its_method_and_stands_in_the_election() -> None:
    ranked = set(re.findall(r'source="(\w+)"', ELECT.read_text(encoding="utf-8")))
    adapted = [rule["labels"] for rule in RULES if "source" in rule.get("labels", {})]
    assert {labels["source"] for labels in adapted} == ranked
    assert {labels["method"] for labels in adapted} == {"measured", "modelled"}


def test_energy_knows_how_often_power_is_recorded() -> None:
    recording = yaml.safe_load(RECORDING.read_text(encoding="utf-8"))["groups"]
    (interval,) = {
        group["interval"]
        for group in recording
        for rule in group["rules"]
        if rule["record"] == "node:joulefloor_it_power_watts:sum"
    }
    (energy,) = (rule["expr"] for rule in RULES if "it_energy" in rule["record"])
    assert seconds(interval) == STEP_S
    assert f"* {STEP_S}" in energy
    assert str(3600 // STEP_S) in energy


def test_the_readme_lists_every_file_and_every_source() -> None:
    assert {path.name for path in FILES} <= {*re.findall(r"`([a-z_]+\.yaml)`", README)}
    for rule in RULES:
        source = rule.get("labels", {}).get("source")
        assert source is None or f"`{source}`" in README, source
