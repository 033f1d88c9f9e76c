"""Inference servers: from their own text to requests and tokens per workload and model.

Each sample exposition is served over HTTP and scraped by both lines of Prometheus, so that the
rules meet the labels that Prometheus makes of it. The series it stored then run for minutes in the
rule testers, which need no time for it: counters as if the sample were a thousand seconds old.
"""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from joulefloor.owners import OWNER, owner_of
from stack.peers import start_prometheus
from stack.query import eventually, instant
from tests.patience import PATIENCE_S
from tests.rulefiles import ALERTS, EXPOSITIONS, foreign_metrics
from tests.served import served
from tests.unit.test_owners import MADE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from stack.programs import Program

RULES: Final = ALERTS / "servers.yaml"
SERVERS_MD: Final = (ALERTS / "SERVERS.md").read_text(encoding="utf-8")
SAMPLES: Final = tuple(sorted(path.stem for path in EXPOSITIONS.glob("*.txt")))
AGE_S: Final = 1000
STEP_S: Final = 30
AT: Final = "12m"
Key = tuple[str, str, str]
"""A recorded name without its level and window, a model, and what else tells two series apart."""

LLAMA: Final = "meta-llama/Llama-3.1-8B-Instruct"
EXPECTED: Final[Mapping[str, Mapping[Key, float]]] = {
    server: {
        ("inferences", LLAMA, "request"): 1,
        ("tokens", LLAMA, "output"): 220,
        ("tokens", LLAMA, "input"): 240,
        ("requests", LLAMA, "running"): 24,
        ("requests", LLAMA, "waiting"): 3,
        ("engines", LLAMA, ""): 1,
        ("operations_per_accelerator", LLAMA, ""): 7.36e12,
        ("written_bytes_per_accelerator", LLAMA, ""): 2e10,
    }
    for server in ("vllm", "ray-vllm")
} | {
    "ray-serve": {
        ("inferences", "Classifier", "request"): 5,
        ("requests", "Classifier", "running"): 2,
    },
    "ray-serve-old": {
        ("inferences", "Classifier", "request"): 5,
        ("requests", "Classifier", "running"): 2,
    },
    "sglang": {
        ("inferences", "Qwen/Qwen3-32B", "request"): 1,
        ("tokens", "Qwen/Qwen3-32B", "output"): 220,
        ("tokens", "Qwen/Qwen3-32B", "input"): 240,
        ("requests", "Qwen/Qwen3-32B", "running"): 12,
        ("requests", "Qwen/Qwen3-32B", "waiting"): 0,
        ("engines", "Qwen/Qwen3-32B", ""): 1,
        ("operations_per_accelerator", "Qwen/Qwen3-32B", ""): 1.472e13,
        ("written_bytes_per_accelerator", "Qwen/Qwen3-32B", ""): 4e10,
    },
    "trtllm": {
        ("inferences", "nemotron-nano-3", "request"): 1,
        ("tokens", "nemotron-nano-3", "output"): 220,
        ("tokens", "nemotron-nano-3", "input"): 240,
        ("requests", "nemotron-nano-3", "running"): 30,
        ("requests", "nemotron-nano-3", "waiting"): 1,
        ("engines", "nemotron-nano-3", ""): 1,
        ("entropy_bits", "nemotron-nano-3", "input"): 1920,
        ("entropy_bits", "nemotron-nano-3", "output"): 220,
    },
    "dynamo-frontend": {
        ("inferences", "qwen/qwen3-0.6b", "request"): 1,
        ("tokens", "qwen/qwen3-0.6b", "output"): 220,
        ("tokens", "qwen/qwen3-0.6b", "input"): 240,
    },
    "dynamo-worker": {("server_work", "qwen/qwen3-0.6b", ""): 1},
    "triton": {
        ("inferences", "densenet_onnx", "element"): 8,
        ("inferences", "bert", "element"): 0.5,
        ("server_work", "densenet_onnx", ""): 0.6,
        ("server_work", "bert", ""): 0.2,
    },
    "tgi": {
        ("inferences", "tgi", "request"): 1,
        ("tokens", "tgi", "output"): 220,
        ("requests", "tgi", "running"): 18,
        ("requests", "tgi", "waiting"): 2,
        ("engines", "tgi", ""): 1,
    },
    "torchserve": {
        ("inferences", "resnet-18", "request"): 3,
        ("server_activity", "resnet-18", ""): 0.3649,
    },
    "kserve": {
        ("inferences", "sklearn-iris", "request"): 2,
        ("server_activity", "sklearn-iris", ""): 2,
    },
    "llamacpp": {
        ("tokens", "llamacpp", "output"): 22,
        ("tokens", "llamacpp", "input"): 24,
        ("requests", "llamacpp", "running"): 2,
        ("requests", "llamacpp", "waiting"): 1,
        ("engines", "llamacpp", ""): 1,
    },
    "jetstream": {
        ("inferences", "llama_2_7b", "request"): 1,
        ("tokens", "llama_2_7b", "output"): 220,
        ("tokens", "llama_2_7b", "input"): 640,
    },
    "joulefloor": {
        ("inferences", "ours/encoder", "inference"): 4,
        ("tokens", "ours/encoder", "output"): 22,
        ("tokens", "ours/encoder", "input"): 64,
        ("requests", "ours/encoder", "running"): 6,
        ("requests", "ours/encoder", "waiting"): 2,
        ("engines", "ours/encoder", ""): 1,
    },
}
OPERATIONS: Final = {
    "inferences": "rate5m",
    "tokens": "rate5m",
    "server_work": "rate5m",
    "server_activity": "rate5m",
    "entropy_bits": "rate5m",
    "requests": "sum",
    "engines": "sum",
    "operations_per_accelerator": "ratio5m",
    "written_bytes_per_accelerator": "ratio5m",
}
TELLS_APART: Final = ("unit", "direction", "state")

each_sample = pytest.mark.parametrize("sample", SAMPLES)
Series = dict[str, list[dict[str, Any]]]


def serving(folder: Path) -> AbstractContextManager[str]:
    """Serve a folder on loopback; yields host:port."""
    return served(lambda name: (folder / name).read_bytes())


def scrape_config(address: str) -> dict[str, object]:
    """One job per sample, with the labels that Kubernetes service discovery gives a pod."""
    return {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [
            {
                "job_name": sample,
                "metrics_path": f"/{sample}.txt",
                "static_configs": [
                    {
                        "targets": [address],
                        "labels": {
                            "cluster": "c1",
                            "namespace": "prod",
                            "pod": f"{sample}-5d4f9c8b7-xk2lp",
                        },
                    }
                ],
            }
            for sample in SAMPLES
        ],
    }


@pytest.fixture(scope="module")
def stored(
    prometheus2: Program, prometheus3: Program, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Series]:
    """What each line of Prometheus stored of each sample."""
    found = {}
    with serving(EXPOSITIONS) as address:
        for major, program in ((2, prometheus2), (3, prometheus3)):
            folder = tmp_path_factory.mktemp(f"prometheus{major}")
            with start_prometheus(program, folder, scrape_config(address)) as peer:
                every = "count(up == 1) == " + str(len(SAMPLES))
                seen = eventually(partial(instant, peer.url, every), within_s=PATIENCE_S)
                assert seen, "a sample fails"
                # Of the moment at which all were there: a later scrape may be late.
                at_s = seen[0]["value"][0]
                selector = '{{job="{}",__name__!~"up|scrape_.+"}}'
                found[major] = {
                    sample: instant(peer.url, selector.format(sample), at_unix_s=at_s)
                    for sample in SAMPLES
                }
    return found


def selector(labels: Mapping[str, str]) -> str:
    pairs = ((name, value) for name, value in sorted(labels.items()) if name != "__name__")
    return labels["__name__"] + "{" + ",".join(f'{name}="{value}"' for name, value in pairs) + "}"


def inputs(series: list[dict[str, Any]], renamed: str = "") -> list[dict[str, str]]:
    """The stored series for a rule tester, those of one name under another."""
    kinds = foreign_metrics()
    rows = []
    for one in series:
        labels, value = dict(one["metric"]), float(one["value"][1])
        kind, _ = kinds[labels["__name__"]]
        values = f"{value}x30" if kind == "gauge" else f"0+{value * STEP_S / AGE_S:.12g}x30"
        if labels["__name__"] == renamed:
            labels["__name__"] = renamed + "_new"
        rows.append({"series": selector(labels), "values": values})
    return rows


def expectations(sample: str, without: frozenset[Key] = frozenset()) -> list[dict[str, Any]]:
    """One check for each recorded name: these series with these values, and no other."""
    expected = {key: value for key, value in EXPECTED[sample].items() if key not in without}
    checks = []
    for name, operations in OPERATIONS.items():
        samples = []
        for (found, model, apart), value in expected.items():
            if found == name:
                labels = {"cluster": "c1", "workload_namespace": "prod", "workload": sample}
                labels |= {"model": model, **({"kind": apart} if apart else {})}
                samples.append({"labels": selector({"__name__": "", **labels}), "value": value})
        by = "cluster, workload_namespace, workload, model, kind"
        joined = ", ".join(f'"{label}"' for label in TELLS_APART)
        recorded = f"workload:joulefloor_{name}:{operations}"
        expr = f'round(sum by ({by}) (label_join({recorded}, "kind", "", {joined})), 0.0001)'
        checks.append({"expr": expr, "eval_time": AT, "exp_samples": samples})
    return checks


def rule_test(rows: list[dict[str, str]], checks: list[dict[str, Any]]) -> dict[str, Any]:
    case = {"interval": f"{STEP_S}s", "input_series": rows, "promql_expr_test": checks}
    return {"rule_files": [str(RULES)], "evaluation_interval": "30s", "tests": [case]}


def run_tester(command: Sequence[str | Path], folder: Path, test: Mapping[str, Any]) -> None:
    file = folder / "test.yaml"
    file.write_text(yaml.safe_dump(test, sort_keys=False))
    whole = [str(part).format(file=file) for part in command]
    done = subprocess.run(whole, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stdout + done.stderr


# -- what a server counts -------------------------------------------------------------------------


@each_sample
def test_a_server_is_normalised_exactly(
    sample: str, stored: dict[int, Series], promtool: Program, tmp_path: Path
) -> None:
    test = rule_test(inputs(stored[2][sample]), expectations(sample))
    run_tester([promtool.path, "test", "rules", "{file}"], tmp_path, test)


@each_sample
def test_both_lines_of_prometheus_store_the_same_series(
    sample: str, stored: dict[int, Series]
) -> None:
    first, second = (
        {
            selector({k: v for k, v in one["metric"].items() if k != "le"})
            for one in stored[major][sample]
        }
        for major in (2, 3)
    )
    assert first == second


@each_sample
def test_a_server_is_normalised_the_same_by_victoriametrics(
    sample: str, stored: dict[int, Series], vmalert: Program, tmp_path: Path
) -> None:
    tester = vmalert.path.with_name("vmalert-tool")
    if not tester.exists():
        pytest.skip(f"{vmalert.path} comes without vmalert-tool")
    test = rule_test(inputs(stored[3][sample]), expectations(sample))
    (case,) = test["tests"]
    case["metricsql_expr_test"] = case.pop("promql_expr_test")
    command: list[str | Path] = [tester, "unittest", "--files={file}", "--disableAlertgroupLabel"]
    run_tester(command, tmp_path, test)


RENAMED: Final[Mapping[tuple[str, str], frozenset[Key]]] = {
    ("vllm", "vllm:generation_tokens_total"): frozenset({("tokens", LLAMA, "output")}),
    ("vllm", "vllm:request_success_total"): frozenset({("inferences", LLAMA, "request")}),
    ("vllm", "vllm:prompt_tokens_by_source_total"): frozenset(),
    ("sglang", "sglang:cached_tokens_total"): frozenset({("tokens", "Qwen/Qwen3-32B", "input")}),
    ("trtllm", "trtllm_prompt_cached_tokens_total"): frozenset(
        {("tokens", "nemotron-nano-3", "input")}
    ),
    ("dynamo-frontend", "dynamo_frontend_cached_tokens_sum"): frozenset(
        {("tokens", "qwen/qwen3-0.6b", "input")}
    ),
    ("tgi", "tgi_request_generated_tokens_sum"): frozenset({("tokens", "tgi", "output")}),
    ("triton", "nv_inference_count"): frozenset(
        {("inferences", "densenet_onnx", "element"), ("inferences", "bert", "element")}
    ),
}


@pytest.mark.parametrize(("sample", "metric"), list(RENAMED))
def test_a_renamed_metric_is_absent_and_never_a_wrong_number(
    sample: str, metric: str, stored: dict[int, Series], promtool: Program, tmp_path: Path
) -> None:
    """A new vLLM without sources falls back to the difference, which is the same number."""
    rows = inputs(stored[2][sample], renamed=metric)
    test = rule_test(rows, expectations(sample, RENAMED[sample, metric]))
    run_tester([promtool.path, "test", "rules", "{file}"], tmp_path, test)


# -- workloads ------------------------------------------------------------------------------------


PODS: Final = (
    *(pod for pod, _ in MADE.values()),
    "vllm-llama-5d4f9c8b7-xk2lp",
    "vllm-llama-7c9f8d6b54-2x4zq",
    "deepseek-0",
    "deepseek-0-15",
    "llama-8b",
    "machine-007",
    "batch-28937160-0-9ssjm",
    "qwen-large",
    "llama.service",
)


def test_rules_and_daemon_have_one_notion_of_a_workload(promtool: Program, tmp_path: Path) -> None:
    """Of servers and of holders of accelerators alike."""
    rows = [
        row
        for pod in PODS
        for row in (
            {"series": f'{REQUESTS}{{namespace="prod",pod="{pod}",model_name="m"}}'},
            {"series": f'{HELD},workload_namespace="prod",workload_pod="{pod}"}}'},
        )
    ]
    rows = [row | {"values": "0+30x30" if REQUESTS in row["series"] else "1x30"} for row in rows]
    owners = Counter(owner_of(pod) for pod in PODS)
    samples = [
        {"labels": f'{{workload_namespace="prod",workload="{owner}"}}', "value": count}
        for owner, count in owners.items()
    ]
    by = "sum by (workload_namespace, workload)"
    checks = [
        {"expr": f"round({by} ({name}), 0.001)", "eval_time": AT, "exp_samples": samples}
        for name in (RECORDED, "workload:joulefloor_accelerators:sum")
    ]
    test = rule_test(rows, checks)
    test["rule_files"].append(str(ALERTS / "inference.yaml"))
    run_tester([promtool.path, "test", "rules", "{file}"], tmp_path, test)


def test_every_pattern_of_a_pod_is_that_of_the_daemon() -> None:
    found = [
        pattern
        for path in (RULES, ALERTS / "inference.yaml")
        for pattern in re.findall(
            r'"workload", "\$1", "(?:workload_)?pod",\s+"([^"]+)"', path.read_text(encoding="utf-8")
        )
    ]
    assert len(found) > len(SAMPLES)
    assert set(found) == {OWNER}


REQUESTS: Final = "ts_inference_requests_total"
HELD: Final = 'joulefloor_workload_device_share_ratio{component="gpu"'
RECORDED: Final = "workload:joulefloor_inferences:rate5m"


# -- samples, rules and document agree ------------------------------------------------------------


def test_every_metric_that_a_rule_reads_is_in_a_sample() -> None:
    text = re.sub(r"(?m)^\s*#.*$", "", RULES.read_text(encoding="utf-8"))
    read = re.findall(r"(?:rate\(|^\s+)([a-z]\w*:?[a-z_]\w+)(?=\{|\[)", text, re.MULTILINE)
    assert len(read) > len(SAMPLES)
    assert {*read} <= foreign_metrics().keys()


@each_sample
def test_every_sample_has_its_row_in_the_document(sample: str) -> None:
    assert re.search(rf"(?m)^\|.*`{sample}`.*\|$", SERVERS_MD)


def test_every_server_of_the_rules_has_a_sample() -> None:
    rules = [
        rule
        for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    servers = {rule["labels"]["server"] for rule in rules if "server" in rule["labels"]}
    assert servers <= {sample.removesuffix("-frontend") for sample in SAMPLES}
