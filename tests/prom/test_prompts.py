"""A release that renames the counter of prompt tokens pod by pod: no operations by parameters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.prom.test_renamed import ALERT, AT, PODS, SCENES, STEP_S, STEPS, present, run, series
from tests.rulefiles import rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from stack.programs import Program

    Rows = list[dict[str, str]]

OLD, NEW = PODS
OPERATIONS: Final = 'model:joulefloor_candidate_operations:rate5m{source="parameters"}'
SOURCE: Final = "prompt_tokens_by_source_total"
"""The better counter, which older versions of vLLM do not have."""


def prompts() -> Iterator[tuple[str, str]]:
    """Servers, with their counters of prompt tokens; ours is not renamed by others."""
    names: set[str] = set()
    for rule in rules():
        if (
            rule.record.endswith("joulefloor_tokens:rate5m")
            and rule.labels.get("direction") == "input"
        ):
            names.update(re.findall(r"rate\(([\w:]+)", rule.expr))
    for server in SCENES:
        for name in sorted(names & present(server)):
            if "cached" not in name and server != "joulefloor":
                yield server, name


SERVERS: Final = sorted({server for server, _ in prompts()})


def parameters(server: str, rows: Rows) -> Rows:
    """What somebody says of every model in the rows; without a name the workload is the model."""
    found = {
        name for row in rows for name in re.findall(r'model(?:_name)?="([^"]+)"', row["series"])
    }
    return [
        {"series": f'joulefloor_model_parameters{{model="{name}"}}', "values": f"8e9x{STEPS}"}
        for name in sorted(found | {SCENES[server][0], SCENES[server][-1]})
    ]


def case(name: str, server: str, rows: Rows, *, there: bool) -> dict[str, Any]:
    """Operations by parameters, or none and an alert."""
    operations = [{"labels": "{}", "value": 1}] if there else []
    fires = f'count(ALERTS{{alertname="{ALERT}",missing="prompts",alertstate="firing"}}) ^ 0'
    return {
        "name": f"{server}, {name}",
        "interval": f"{STEP_S}s",
        "input_series": rows + parameters(server, rows),
        "promql_expr_test": [
            {"expr": f"count({OPERATIONS}) ^ 0", "eval_time": AT, "exp_samples": operations},
            {
                "expr": fires,
                "eval_time": AT,
                "exp_samples": [] if there else [{"labels": "{}", "value": 1}],
            },
        ],
    }


def without(name: str, rows: Rows) -> Rows:
    return [row for row in rows if f"{name}{{" not in row["series"]]


@pytest.mark.parametrize("load", [0, 1])
def test_a_second_pod_that_serves_or_never_did_takes_nothing_away(
    load: int, promtool: Program, tmp_path: Path
) -> None:
    run(
        promtool,
        tmp_path,
        [
            case("as it is", one, series(one, OLD) + series(one, NEW, load=load), there=True)
            for one in SERVERS
        ],
    )


def test_a_renamed_counter_is_seen(promtool: Program, tmp_path: Path) -> None:
    cases = [
        case(
            f"without {name}", server, series(server, OLD) + series(server, NEW, name), there=False
        )
        for server, name in prompts()
        if name.endswith(SOURCE) or not any(SOURCE in other for other in present(server))
    ]
    assert cases
    run(promtool, tmp_path, cases)


def test_versions_without_sources_are_judged_by_the_counter_they_have(
    promtool: Program, tmp_path: Path
) -> None:
    cases = []
    for server, name in prompts():
        if not name.endswith(SOURCE) and any(SOURCE in other for other in present(server)):
            old, new = (without(SOURCE, series(server, pod)) for pod in PODS)
            renamed = without(SOURCE, series(server, NEW, name))
            cases.append(case("old versions", server, old + new, there=True))
            cases.append(case(f"without {name}", server, old + renamed, there=False))
    assert cases
    run(promtool, tmp_path, cases)


def test_an_upgrade_that_brings_sources_is_seen(promtool: Program, tmp_path: Path) -> None:
    cases = [
        case(
            "upgrade",
            server,
            without(SOURCE, series(server, OLD)) + series(server, NEW),
            there=False,
        )
        for server, name in prompts()
        if name.endswith(SOURCE)
    ]
    assert cases
    run(promtool, tmp_path, cases)


def test_every_server_with_prompt_tokens_is_judged() -> None:
    (rule,) = (one for one in rules() if one.labels.get("missing") == "prompts" and one.record)
    for _, name in prompts():
        assert f"{name}" in rule.expr
