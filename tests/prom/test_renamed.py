"""A server whose counter has another name than ours: an alert, and no number.

Every server of `servers.yaml`, every counter that makes inferences, generated tokens or shares of
energy: each is renamed alone, in the server's own sample, in a pod that holds a GPU. From the
beginning and in all there is, or by a new release in the second of two pods.
"""

from __future__ import annotations

import re
import subprocess
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
import yaml

from tests.rulefiles import ALERTS, EXPOSITIONS, RECORDING, foreign_metrics, rules

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from stack.programs import Program

AGE_S: Final = 1000
"""How old the counters of a sample are."""
STEP_S: Final = 60
STEPS: Final = 32
EVALUATE: Final = "2m"
AT: Final = "30m"
WATTS: Final = 400
TOGETHER: Final = ("dynamo-frontend", "dynamo-worker")
"""Of Dynamo one pod counts and another holds the GPU."""
SERVERS: Final = tuple(
    path.stem for path in sorted(EXPOSITIONS.glob("*.txt")) if path.stem not in TOGETHER
)
SCENES: Final = {**{server: (server,) for server in SERVERS}, "dynamo": TOGETHER}
RATIOS: Final = {
    "tokens": "model:joulefloor_joules_per_token:ratio5m",
    "inferences": "model:joulefloor_joules_per_inference:ratio5m",
}
WITHOUT_TOKENS: Final = {"triton", "torchserve", "kserve", "ray-serve", "ray-serve-old"}
WITHOUT_INFERENCES: Final = {"llamacpp"}
OURS: Final = "joulefloor_inference_tokens_total"
"""Our own name, which only we can change, and a process may serve without tokens."""
PODS: Final = ("5d4f9c8b7-xk2lp", "7c9f8d6b54-2x4zq")
"""Of one Deployment, by two of its ReplicaSets."""
COUNT_FROM_THE_START: Final = {"vllm", "triton", "llamacpp"}
"""The others show a counter from the first answer on."""
SILENT: Final = "workload:joulefloor_silent_engines:sum"
ALERT: Final = "JoulefloorInferenceNotMeasurable"
SAMPLE: Final = re.compile(r"(?m)^(?P<name>[\w:]+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")


class Scene(NamedTuple):
    """A server, the counter that is renamed, and what it is read for: tokens, inferences, work."""

    server: str
    renamed: str
    makes: str


# -- what matters ---------------------------------------------------------------------------------


@cache
def present(server: str) -> frozenset[str]:
    """Names in the samples of a server."""
    text = "".join((EXPOSITIONS / f"{name}.txt").read_text("utf-8") for name in SCENES[server])
    return frozenset(found["name"] for found in SAMPLE.finditer(text))


def scenes() -> Iterator[Scene]:
    """Every counter of every sample that a rule makes inferences, answers or work of."""
    makes: dict[str, str] = {}
    for rule in rules():
        level, _, kind = rule.record.partition(":joulefloor_")
        if level == "workload" and rule.labels.get("direction", "output") == "output":
            kind = kind.partition(":")[0]
            if kind in {"tokens", "inferences", "server_work"}:
                makes |= dict.fromkeys(re.findall(r"rate\(([\w:]+)", rule.expr), kind)
    for server in SCENES:
        for name in sorted((present(server) & makes.keys()) - {OURS}):
            yield Scene(server, name, makes[name])


# -- its series -----------------------------------------------------------------------------------


def served(sample: str, pod: str, renamed: str = "", *, load: int = 1) -> Iterator[dict[str, str]]:
    """The sample of one pod as Prometheus stores it, for as long as the test lasts."""
    whose = f'cluster="c1",job="{sample}",instance="{pod}:8000"'
    target = f'{whose},namespace="prod",pod="{sample}-{pod}"'
    for found in SAMPLE.finditer((EXPOSITIONS / f"{sample}.txt").read_text("utf-8")):
        name, value = found["name"], float(found["value"]) * load
        if name not in foreign_metrics():
            continue
        labels = ",".join(filter(None, (target, (found["labels"] or "").rstrip(","))))
        is_gauge = foreign_metrics()[name][0] == "gauge"
        if not (is_gauge or load or sample in COUNT_FROM_THE_START):
            continue
        values = f"{value}x{STEPS}" if is_gauge else f"0+{value * STEP_S / AGE_S:.12g}x{STEPS}"
        name += "_v2" * (name == renamed)
        yield {"series": f"{name}{{{labels}}}", "values": values}


def powered(sample: str, pod: str, *, busy: float = 0.9) -> list[dict[str, str]]:
    """A machine whose only GPU the pod holds, in use for that share of the time."""
    node = f'cluster="c1",job="joulefloor",instance="node-of-{pod}",component="gpu"'
    device = f'{node},device="GPU-0"'
    pod = f'workload_kind="pod",workload_namespace="prod",workload_pod="{sample}-{pod}"'
    joules = f"0+{WATTS * STEP_S}x{STEPS}"
    return [
        {
            "series": f'joulefloor_workload_device_share_ratio{{{device},{pod},division="whole"}}',
            "values": f"1x{STEPS}",
        },
        {
            "series": f'joulefloor_component_power_watts{{{device},source="nvml"}}',
            "values": f"{WATTS}x{STEPS}",
        },
        {
            "series": f'joulefloor_utilization_ratio{{{device},engine="busy"}}',
            "values": f"{busy}x{STEPS}",
        },
        {
            "series": f'joulefloor_workload_energy_joules_total{{{node},{pod},share="dynamic"}}',
            "values": joules,
        },
    ]


def series(
    server: str, pod: str = PODS[0], renamed: str = "", *, load: int = 1
) -> list[dict[str, str]]:
    samples = SCENES[server]
    rows = [row for sample in samples for row in served(sample, pod, renamed, load=load)]
    return rows + powered(samples[-1], pod, busy=0.9 * load)


# -- what the rules make of it --------------------------------------------------------------------


def case(scene: Scene, rows: list[dict[str, str]]) -> dict[str, Any]:
    """Each ratio that the counter is needed for is absent, and an alert fires."""
    gone = [RATIOS[scene.makes]] if scene.makes in RATIOS else list(RATIOS.values())
    checks: list[dict[str, Any]] = [
        {"expr": name, "eval_time": AT, "exp_samples": []} for name in gone
    ]
    fires = f'count by (alertstate) (ALERTS{{alertname="{ALERT}",alertstate="firing"}}) ^ 0'
    sample = {"labels": '{alertstate="firing"}', "value": 1}
    checks.append({"expr": fires, "eval_time": AT, "exp_samples": [sample]})
    return {
        "name": f"{scene.server} without {scene.renamed}",
        "interval": f"{STEP_S}s",
        "input_series": rows,
        "promql_expr_test": checks,
    }


def untouched(server: str, rows: list[dict[str, str]]) -> dict[str, Any]:
    """Every ratio that the server can have is there, and nothing fires."""
    known = {
        RATIOS["tokens"]: server not in WITHOUT_TOKENS,
        RATIOS["inferences"]: server not in WITHOUT_INFERENCES,
    }
    checks: list[dict[str, Any]] = []
    for name, there in known.items():
        samples = [{"labels": '{boundary="device"}', "value": 1}] if there else []
        expr = f"max by (boundary) ({name} > bool 0)"
        checks.append({"expr": expr, "eval_time": AT, "exp_samples": samples})
    checks.append({"expr": SILENT, "eval_time": AT, "exp_samples": []})
    return {
        "name": f"{server} as it is",
        "interval": f"{STEP_S}s",
        "input_series": rows,
        "promql_expr_test": checks,
        "alert_rule_test": [{"eval_time": AT, "alertname": ALERT, "exp_alerts": []}],
    }


def run(promtool: Program, folder: Path, cases: Sequence[dict[str, Any]]) -> None:
    files = [*RECORDING, ALERTS / "inference-alerts.yaml"]
    order = [
        group["name"]
        for path in files
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    ]
    document = {
        "rule_files": [str(path) for path in files],
        "evaluation_interval": EVALUATE,
        "group_eval_order": order,
        "tests": list(cases),
    }
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    command = (promtool.path, "test", "rules", file)
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_server_has_its_ratios_and_nothing_fires(promtool: Program, tmp_path: Path) -> None:
    run(promtool, tmp_path, [untouched(server, series(server)) for server in SCENES])


@pytest.mark.parametrize("load", [0, 1])
def test_a_second_pod_that_serves_or_never_did_takes_no_ratio_away(
    load: int, promtool: Program, tmp_path: Path
) -> None:
    old, new = PODS
    run(
        promtool,
        tmp_path,
        [untouched(one, series(one, old) + series(one, new, load=load)) for one in SCENES],
    )


@pytest.mark.parametrize("server", SCENES)
def test_a_counter_that_never_had_our_name_fires_and_gives_no_number(
    server: str, promtool: Program, tmp_path: Path
) -> None:
    cases = [
        case(scene, series(server, renamed=scene.renamed))
        for scene in scenes()
        if scene.server == server
    ]
    run(promtool, tmp_path, cases)


@pytest.mark.parametrize("server", SCENES)
def test_a_release_that_renames_a_counter_pod_by_pod_fires_and_gives_no_number(
    server: str, promtool: Program, tmp_path: Path
) -> None:
    old, new = PODS
    cases = [
        case(scene, series(server, old) + series(server, new, scene.renamed))
        for scene in scenes()
        if scene.server == server
    ]
    run(promtool, tmp_path, cases)


def test_every_server_has_a_counter_that_matters() -> None:
    assert {scene.server for scene in scenes()} == SCENES.keys()
