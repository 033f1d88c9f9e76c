"""A pod that works and shows nothing known, beside one that counts: an alert, and no number.

Two pods of one workload hold a GPU each. One serves, with the server's own sample; the other has a
release that renamed everything, or a target that is down, or none. Who has a reason to be silent
takes no number away.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.prom.test_renamed import (
    ALERT,
    AT,
    PODS,
    RATIOS,
    SCENES,
    SERVERS,
    STEP_S,
    STEPS,
    powered,
    present,
    run,
    series,
    served,
    untouched,
)
from tests.rulefiles import rules

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stack.programs import Program

    Rows = list[dict[str, str]]

MUTE: Final = "workload:joulefloor_mute_pods:sum"
OLD, NEW = PODS
KNOWN: Final = frozenset(
    name
    for rule in rules()
    if rule.record == MUTE
    for name in re.findall(r"present_over_time\(([\w:]+)\[", rule.expr)
)
"""Names of which one is enough."""


def rows(server: str, pod: str = OLD) -> Rows:
    """A pod that serves and counts."""
    return series(server, pod)


def unknown(server: str, pod: str = NEW) -> Rows:
    """What a release shows that renamed everything."""
    return [
        row | {"series": row["series"].replace("{", "_v2{", 1)}
        for row in served(SCENES[server][-1], pod)
    ]


def only(name: str, server: str, pod: str = NEW) -> Rows:
    """What a pod shows of which one name is left."""
    found = [row for sample in SCENES[server] for row in served(sample, pod)]
    return [row for row in found if row["series"].startswith(name + "{")]


def holding(server: str, pod: str = NEW, *, busy: float = 0.9) -> Rows:
    return powered(SCENES[server][-1], pod, busy=busy)


def up(server: str, value: int, pod: str = NEW) -> Rows:
    labels = f'cluster="c1",job="{server}",instance="{pod}:8000",namespace="prod"'
    name = f'up{{{labels},pod="{SCENES[server][-1]}-{pod}"}}'
    return [{"series": name, "values": f"{value}x{STEPS}"}]


def at(rows: Rows, name: str, values: str) -> Rows:
    """The rows, with other values in those of one name and pod."""
    found = [row for row in rows if row["series"].startswith(name + "{")]
    assert found
    return [row | {"values": values} if row in found else row for row in rows]


def workers(server: str) -> Rows:
    """What the owner says of a workload."""
    labels = f'cluster="c1",workload_namespace="prod",workload="{SCENES[server][-1]}"'
    name = f"joulefloor_workload_workers_info{{{labels}}}"
    return [{"series": name, "values": f"1x{STEPS}"}]


def number(of: str, pods: int) -> dict[str, Any]:
    """How many pods are mute now: of no workload, or so many."""
    labels = f'{{cluster="c1",workload_namespace="prod",workload="{of}"}}'
    samples = [{"labels": labels, "value": pods}] if pods else []
    return {"expr": f"{MUTE} + 0", "eval_time": AT, "exp_samples": samples}


def hidden(name: str, server: str, rows: Rows, *, fires: bool = True) -> dict[str, Any]:
    """No ratio, one mute pod, and an alert that says so."""
    checks: list[dict[str, Any]] = [
        {"expr": ratio, "eval_time": AT, "exp_samples": []} for ratio in RATIOS.values()
    ]
    checks.append(number(SCENES[server][-1], 1))
    labels = f'alertname="{ALERT}",missing="pods",alertstate="firing"'
    samples = [{"labels": '{alertstate="firing"}', "value": 1}] if fires else []
    expr = f"count by (alertstate) (ALERTS{{{labels}}}) ^ 0"
    checks.append({"expr": expr, "eval_time": AT, "exp_samples": samples})
    return {
        "name": f"{server}, {name}",
        "interval": f"{STEP_S}s",
        "input_series": rows,
        "promql_expr_test": checks,
    }


def shown(name: str, server: str, rows: Rows) -> dict[str, Any]:
    """Every ratio that the server can have, no mute pod, and no alert."""
    case = untouched(server, rows)
    case["promql_expr_test"].append(number("", 0))
    return case | {"name": f"{server}, {name}"}


def every(
    case: Callable[[str, str, Rows], dict[str, Any]], name: str, add: Callable[[str], Rows]
) -> list[dict[str, Any]]:
    """The case of each server, whose second pod is added."""
    return [case(name, one, rows(one) + add(one)) for one in SERVERS]


# -- mute -----------------------------------------------------------------------------------------


def test_a_release_that_renames_everything_is_seen(promtool: Program, tmp_path: Path) -> None:
    cases = every(hidden, "renamed", lambda one: holding(one) + unknown(one) + up(one, 1))
    run(promtool, tmp_path, cases)


def test_a_target_that_is_down_is_seen(promtool: Program, tmp_path: Path) -> None:
    run(promtool, tmp_path, every(hidden, "down", lambda one: holding(one) + up(one, 0)))


def test_a_pod_without_a_target_is_seen(promtool: Program, tmp_path: Path) -> None:
    run(promtool, tmp_path, every(hidden, "no target", holding))


def test_a_target_that_goes_is_seen(promtool: Program, tmp_path: Path) -> None:
    def going(one: str) -> Rows:
        left = [row | {"values": f"1x{10} stale"} for row in served(one, NEW)]
        return holding(one) + left

    run(promtool, tmp_path, every(hidden, "gone after ten minutes", going))


def test_a_pod_of_unknown_utilization_is_not_known_to_be_idle(
    promtool: Program, tmp_path: Path
) -> None:
    def dark(one: str) -> Rows:
        return [row for row in holding(one) if "utilization" not in row["series"]]

    run(promtool, tmp_path, every(hidden, "no utilization", dark))


def test_a_pod_is_judged_by_five_minutes_of_its_own(promtool: Program, tmp_path: Path) -> None:
    def since(minute: int, one: str) -> Rows:
        held = f"_x{minute} 1x{STEPS - minute}"
        return at(holding(one), "joulefloor_workload_device_share_ratio", held)

    cases = [
        hidden("ten minutes old", one, rows(one) + since(20, one), fires=False) for one in SERVERS
    ]
    cases += [shown("three minutes old", one, rows(one) + since(26, one)) for one in SERVERS]
    run(promtool, tmp_path, cases)


def shared(server: str, share: float) -> Rows:
    """Both pods on one GPU, divided by what they do."""
    mine = rows(server)
    (half,) = (row for row in mine if "device_share" in row["series"])
    half["series"] = half["series"].replace('"whole"', '"activity"')
    other = half["series"].replace(f"{server}-{OLD}", f"{server}-{NEW}")
    half["values"] = f"{1 - share}x{STEPS}"
    return [*mine, {"series": other, "values": f"{share}x{STEPS}"}]


def test_a_shared_device_is_busy_for_those_who_use_it(promtool: Program, tmp_path: Path) -> None:
    cases = [hidden("uses half", one, shared(one, 0.5)) for one in SERVERS]
    cases += [shown("uses none", one, shared(one, 0.001)) for one in SERVERS]
    run(promtool, tmp_path, cases)


def test_wrappers_of_a_server_do_not_speak_for_it(promtool: Program, tmp_path: Path) -> None:
    def wrapped(server: str, wrapper: str) -> Rows:
        """The calls that a wrapper counts in the pod of another server."""
        found = [row for name in KNOWN & present(wrapper) for row in only(name, wrapper)]
        assert found
        labels = f'pod="{server}-{NEW}"'
        return [
            row | {"series": row["series"].replace(f'pod="{wrapper}-{NEW}"', labels)}
            for row in found
        ]

    pairs = (("ray-vllm", "ray-serve"), ("ray-vllm", "ray-serve-old"), ("vllm", "kserve"))
    cases = [
        hidden(f"in {wrapper}", server, rows(server) + holding(server) + wrapped(server, wrapper))
        for server, wrapper in pairs
    ]
    run(promtool, tmp_path, cases)


def test_running_calls_of_ray_serve_count_none(promtool: Program, tmp_path: Path) -> None:
    name = "ray_serve_replica_processing_queries"
    alone = [row | {"values": f"0x{STEPS}"} for row in only(name, "ray-serve")]
    case = hidden("gauge alone", "ray-serve", rows("ray-serve") + holding("ray-serve") + alone)
    run(promtool, tmp_path, [case])


def on_cpus(server: str, pod: str, watts: float) -> Rows:
    """A machine without accelerators on which the pod draws so much beyond what it draws anyway."""
    sample = SCENES[server][-1]
    node = f'cluster="c1",job="joulefloor",instance="node-of-{pod}"'
    whose = f'workload_kind="pod",workload_namespace="prod",workload_pod="{sample}-{pod}"'
    name = "joulefloor_workload_energy_joules_total"
    bills = {"cpu": watts * STEP_S, "dram": 3 * STEP_S}
    return [
        {
            "series": f'{name}{{{node},component="{component}",{whose},share="dynamic"}}',
            "values": f"0+{joules}x{STEPS}",
        }
        for component, joules in bills.items()
    ]


def both_on_cpus(server: str, watts: float) -> Rows:
    """One pod serves on CPUs; the other shows nothing."""
    served_by = [row for sample in SCENES[server] for row in served(sample, OLD)]
    return served_by + on_cpus(server, OLD, 40) + on_cpus(server, NEW, watts)


def test_a_pod_on_cpus_is_seen_while_it_works(promtool: Program, tmp_path: Path) -> None:
    cases = [hidden("on CPUs", one, both_on_cpus(one, 40)) for one in SERVERS]
    cases += [shown("stands by on CPUs", one, both_on_cpus(one, 0.5)) for one in SERVERS]
    run(promtool, tmp_path, cases)


def test_a_pod_on_cpus_for_less_than_five_minutes_is_not_judged(
    promtool: Program, tmp_path: Path
) -> None:
    def young(server: str) -> Rows:
        rows = both_on_cpus(server, 40)
        of = f"{SCENES[server][-1]}-{NEW}"
        values = f"_x{STEPS - 6} 0+2400x4"
        return [row | {"values": values} if of in row["series"] else row for row in rows]

    run(promtool, tmp_path, [shown("young on CPUs", one, young(one)) for one in SERVERS])


def test_of_a_workload_with_accelerators_only_their_holders_are_judged(
    promtool: Program, tmp_path: Path
) -> None:
    cases = [
        shown("host work", one, rows(one) + holding(one, busy=0.001) + on_cpus(one, NEW, 40))
        for one in SERVERS
    ]
    run(promtool, tmp_path, cases)


# -- silent for a reason --------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
def test_one_known_series_is_enough(server: str, promtool: Program, tmp_path: Path) -> None:
    known = sorted(KNOWN & present(server))
    cases = [
        {
            "name": f"{server}, only {name}",
            "interval": f"{STEP_S}s",
            "input_series": rows(server) + holding(server) + only(name, server),
            "promql_expr_test": [number("", 0)],
        }
        for name in known
    ]
    assert cases
    run(promtool, tmp_path, cases)


def test_every_known_series_is_in_a_sample() -> None:
    assert KNOWN
    assert frozenset().union(*(present(one) for one in SCENES)) >= KNOWN


def test_a_pod_that_stands_by_takes_no_number_away(promtool: Program, tmp_path: Path) -> None:
    run(promtool, tmp_path, every(shown, "idle", lambda one: holding(one, busy=0.005)))


def test_workers_of_a_group_take_no_number_away(promtool: Program, tmp_path: Path) -> None:
    cases = [shown("LeaderWorkerSet", one, rows(one, "0") + holding(one, "0-1")) for one in SERVERS]
    run(promtool, tmp_path, cases)


def test_a_group_whose_leader_is_mute_is_seen(promtool: Program, tmp_path: Path) -> None:
    cases = [
        hidden("group", one, rows(one, "0") + holding(one, "1") + holding(one, "1-1"))
        for one in SERVERS
    ]
    run(promtool, tmp_path, cases)


def test_workers_that_somebody_vouches_for_take_no_number_away(
    promtool: Program, tmp_path: Path
) -> None:
    # As the nodes of an engine under Ray that show nothing of it.
    cases = [
        shown("StatefulSet", one, rows(one, "0") + holding(one, "1") + workers(one))
        for one in SERVERS
    ]
    run(promtool, tmp_path, cases)


def test_workers_whose_gateway_counts_take_no_number_away(
    promtool: Program, tmp_path: Path
) -> None:
    case = untouched("dynamo", rows("dynamo") + holding("dynamo"))
    case["promql_expr_test"].append(number("dynamo-worker", 1))
    run(promtool, tmp_path, [case])


def test_a_missed_scrape_makes_nobody_mute(promtool: Program, tmp_path: Path) -> None:
    def missed(one: str) -> Rows:
        found = series(one, NEW)
        names = KNOWN & present(one)
        return [
            row | {"values": f"{STEPS}x29 stale {STEPS}x1"}
            if row["series"].partition("{")[0] in names
            else row
            for row in found
        ]

    run(promtool, tmp_path, [number_only(one, rows(one) + missed(one)) for one in SERVERS])


def number_only(server: str, rows: Rows) -> dict[str, Any]:
    return {
        "name": f"{server}, a missed scrape",
        "interval": f"{STEP_S}s",
        "input_series": rows,
        "promql_expr_test": [number("", 0)],
    }


def test_a_workload_of_which_nobody_serves_is_not_meant(promtool: Program, tmp_path: Path) -> None:
    case = shown("beside training", "vllm", rows("vllm") + powered("train", NEW))
    run(promtool, tmp_path, [case])


def test_a_process_that_says_which_pod_it_is_shows_itself(
    promtool: Program, tmp_path: Path
) -> None:
    own = 'cluster="c1",job="joulefloor",instance="10.0.0.9:9000",model="ours/encoder"'
    whose = f'workload_namespace="prod",workload_pod="joulefloor-{NEW}"'
    said = [
        {"series": f"joulefloor_inferences_total{{{own}}}", "values": f"0+240x{STEPS}"},
        {
            "series": f'joulefloor_inference_tokens_total{{{own},direction="output"}}',
            "values": f"0+1320x{STEPS}",
        },
        {"series": f"joulefloor_model_workload_info{{{own},{whose}}}", "values": f"1x{STEPS}"},
    ]
    base = rows("joulefloor") + holding("joulefloor")
    silent = [row for row in said if "info" in row["series"]]
    cases = [shown("info", "joulefloor", base + said), hidden("info", "joulefloor", base + silent)]
    run(promtool, tmp_path, cases)
