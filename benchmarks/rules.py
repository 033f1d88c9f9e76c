"""What the shipped rules cost over a fleet: `python -m benchmarks.rules [--nodes 1000]`.

One server stands for all machines: each target shows what a real daemon shows of a simulated
machine with eight GPUs, one in each of eight pods, and what eight vLLM servers show; `--servers 0`
leaves those out, for what joulefloor itself adds to a Prometheus that scrapes them anyway. A real
Prometheus scrapes them every 15 s and evaluates the shipped rules, all of them every 30 s so that
there are enough rounds; a group's share is then scaled to the interval it is shipped with. Ranges
longer than the run (an hour, a week) hold only what the run has seen, so their rules cost more in
the long run.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from benchmarks.programs import Load, exposition, rss_mib, start_daemon
from stack.peers import rule_files, start_prometheus, write_config
from stack.processes import LOOPBACK, PeerError
from stack.programs import ROOT, locate
from stack.query import fetch, fetch_json, instant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stack.processes import Peer

PODS: Final = 8
SCRAPE_S: Final = 15
EVALUATE_S: Final = 30
WARM_S: Final = 330
"""Until the ranges of five minutes are full."""
LEARN_S: Final = 6.0
RACK: Final = 20
DAEMON: Final = Load(
    "rules",
    {
        "static_power": {"start": {"gpu": "100W", "cpu": "20W", "dram": "3W"}},
        "sources": {
            "simulated": {"enabled": True, "models": ["llama-3.1-8b"]},
            **{
                name: {"enabled": False}
                for name in ("cpu", "hwmon", "links", "model", "rapl", "thermal", "workloads")
            },
        },
    },
    None,
)
VLLM: Final = ROOT / "tests" / "prom" / "expositions" / "vllm.txt"
VLLM_AGE_S: Final = 1000.0
"""How old the counters of the sample are."""
NAMESPACE: Final = "simulated"
"""Where the simulated machine has its pods; another one would join no energy with work."""
NODE: Final = "@node@"
_DURATION: Final = re.compile(r"(\d+)([smh])")
_UNIT_S: Final = {"s": 1, "m": 60, "h": 3_600}


class Line(NamedTuple):
    """One series of a page: its name with labels, its value at the start, and its gain per s."""

    series: str
    value: float
    per_s: float


# -- the fleet ------------------------------------------------------------------------------------


def daemon_lines() -> list[Line]:
    """The series of a real daemon over a simulated machine, with a pod for each GPU."""
    with tempfile.TemporaryDirectory() as folder, start_daemon(DAEMON, Path(folder)) as daemon:
        time.sleep(LEARN_S)
        first, first_s = samples(exposition(daemon)), time.monotonic()
        time.sleep(LEARN_S)
        second, seconds = samples(exposition(daemon)), time.monotonic() - first_s
    lines = []
    for series, value in second.items():
        counts = series.partition("{")[0].endswith("_total")
        per_s = max(0.0, value - first.get(series, value)) / seconds if counts else 0.0
        lines += [Line(one, value, per_s) for one in spread(series)]
    return lines


def spread(series: str) -> list[str]:
    """The series of the machine's one pod, for each of eight; other series as they are.

    The pod holds all GPUs: of those each pod gets one.
    """
    if series.startswith("joulefloor_model_") or "inference" in series.partition("{")[0]:
        return []
    if owner := re.search(r'workload_owner="([^"]+)"', series):
        return [series.replace(owner[1], f"llm-{number}") for number in range(PODS)]
    if not (pod := re.search(r'workload_pod="([^"]+)"', series)):
        return [series]
    held = re.search(r'device="GPU-sim-(\d)"', series)
    numbers = [int(held[1])] if held else range(PODS)
    return [series.replace(pod[1], pod_name(number)) for number in numbers]


def vllm_lines(servers: int = PODS) -> list[Line]:
    """The series of as many vLLM servers, with the labels of their pods."""
    return [
        Line(
            series.replace("{", f'{{namespace="{NAMESPACE}",pod="{pod_name(number)}",', 1),
            value,
            value / VLLM_AGE_S if series.partition("{")[0].endswith("_total") else 0.0,
        )
        for number in range(servers)
        for series, value in samples(VLLM.read_text(encoding="utf-8")).items()
    ]


def pod_name(number: int) -> str:
    """A pod of a ReplicaSet; a workload has one pod on each of twenty machines."""
    return f"llm-{number}-{NODE}"


def samples(text: str) -> dict[str, float]:
    """The value of every series of an exposition."""
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {series: float(value) for series, value in pairs}


class Fleet(ThreadingHTTPServer):
    """Serves /NUMBER for every machine; counters run on the clock."""

    daemon_threads = True
    request_queue_size = 512

    def __init__(self, lines: Sequence[Line]) -> None:
        """Bind a free port; `lines` are the same for all machines but for their pods' names."""
        super().__init__((LOOPBACK, 0), _Page)
        self._lines = lines
        self._start_s = time.monotonic()
        self._page = (-1, "")

    def page(self, number: int) -> bytes:
        """What the machine of that number shows now."""
        age_s = int(time.monotonic() - self._start_s)
        if self._page[0] != age_s:
            values = ((one.series, one.value + one.per_s * age_s) for one in self._lines)
            text = "\n".join(f"{series} {value!r}" for series, value in values)
            self._page = (age_s, text + "\n")
        # Suffixes of a ReplicaSet: they have no vowels and not every digit.
        letters = "bcdfghjklmnpqrstvwxz"
        suffix = "".join(letters[number // 20**place % 20] for place in range(5))
        return self._page[1].replace(NODE, f"{number // RACK}-5d4f9c8b7-{suffix}").encode()


class _Page(BaseHTTPRequestHandler):
    """Answers a scrape."""

    server: Fleet

    def do_GET(self) -> None:
        """Send the page of the machine in the path."""
        body = self.server.page(int(self.path.strip("/")))
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


# -- the rules ------------------------------------------------------------------------------------


def config(address: str, nodes: int, rules: Sequence[Path]) -> dict[str, object]:
    """The prometheus.yml over that many machines."""
    static = [
        {
            "targets": [address],
            "labels": {
                "__metrics_path__": f"/{number}",
                "instance": f"node-{number}",
                "cluster": "c1",
                "rack": f"rack-{number // RACK}",
            },
        }
        for number in range(nodes)
    ]
    return {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{EVALUATE_S}s"},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {"job_name": "joulefloor", "honor_labels": True, "static_configs": static}
        ],
    }


def hastened(folder: Path) -> tuple[list[Path], dict[str, int]]:
    """Copies of the shipped rules at one interval, and the intervals as shipped, in s."""
    written, intervals = [], {}
    for path in rule_files(ROOT / "alerts"):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for group in content["groups"]:
            parts = _DURATION.findall(group["interval"])
            intervals[group["name"]] = sum(int(n) * _UNIT_S[unit] for n, unit in parts)
            group["interval"] = f"{EVALUATE_S}s"
        written.append(write_config(folder / path.name, content))
    return written, intervals


class Round(NamedTuple):
    """One evaluation: seconds by group, and by group, name and labels of a rule; memory then."""

    groups: Mapping[str, float]
    rules: Mapping[tuple[str, str], float]
    rss_mib: float


def evaluation(peer: Peer) -> Round:
    """How long each group and each rule took the last time.

    Raises:
        PeerError: a rule failed; names it.
    """
    gauge = "prometheus_rule_group_last_duration_seconds"
    groups = {
        series.partition(";")[2].removesuffix('"}'): value
        for series, value in samples(fetch(f"{peer.url}/metrics").decode()).items()
        if series.startswith(gauge)
    }
    rules: dict[tuple[str, str], float] = {}
    for group in fetch_json(f"{peer.url}/api/v1/rules")["data"]["groups"]:
        for rule in group["rules"]:
            if rule.get("lastError"):
                raise PeerError(f"{rule['name']}: {rule['lastError']}")
            said = ",".join(f"{k}={v}" for k, v in sorted(rule.get("labels", {}).items()))
            rules[group["name"], f"{rule['name']}{{{said}}}"] = float(rule["evaluationTime"])
    return Round(groups, rules, rss_mib(peer))


def measure(peer: Peer, rounds: int) -> list[Round]:
    """Wait until ranges are full, then take as many evaluations."""
    time.sleep(WARM_S)
    found = []
    for _ in range(rounds):
        time.sleep(EVALUATE_S)
        last = evaluation(peer)
        found.append(last)
        seconds = sum(last.groups.values())
        print(f"round {len(found)}: {seconds:.2f} s, {last.rss_mib:.0f} MiB", file=sys.stderr)
    return found


# -- the table ------------------------------------------------------------------------------------


def report(peer: Peer, found: Sequence[Round], intervals: Mapping[str, int], nodes: int) -> str:
    """The table: per group, and the dearest rules."""
    groups = {name: median(one.groups.get(name, 0.0) for one in found) for name in found[0].groups}
    shares = {name: value * EVALUATE_S / intervals[name] for name, value in groups.items()}
    rules = {name: median(one.rules[name] for one in found) for name in found[0].rules}
    series = value_of(peer, "prometheus_tsdb_head_series")
    memory = median(one.rss_mib for one in found) / nodes
    lines = [
        f"{nodes} nodes, {nodes * PODS} GPUs, {series:.0f} series in Prometheus.",
        f"{memory:.2f} MiB of RSS per node. Medians of {len(found)} evaluations.",
        "",
        "| group | interval, s | evaluation, ms | per 30 s, ms |",
        "|---|---|---|---|",
    ]
    for name in sorted(groups, key=lambda name: -shares[name]):
        row = (name, intervals[name], groups[name] * 1e3, shares[name] * 1e3)
        lines.append("| {} | {} | {:.0f} | {:.0f} |".format(*row))
    whole, share = sum(groups.values()) * 1e3, sum(shares.values()) * 1e3
    lines += [f"| all | | {whole:.0f} | {share:.0f} |", ""]
    lines += ["| rule | evaluation, ms |", "|---|---|"]
    dearest = sorted(rules, key=lambda name: -rules[name])[:15]
    lines += [f"| {group}: {rule} | {rules[group, rule] * 1e3:.0f} |" for group, rule in dearest]
    recorded = 'count({__name__=~"[a-z]+:joulefloor_.+",instance="node-0"})'
    lines += ["", f"Recorded series of a node: {first(peer, recorded):.0f}."]
    return "\n".join(lines)


def value_of(peer: Peer, name: str) -> float:
    """A gauge of Prometheus itself, from its own metrics."""
    text = fetch(f"{peer.url}/metrics").decode()
    return samples(text)[name]


def first(peer: Peer, expression: str) -> float:
    """The value of an expression with one series."""
    answer: list[dict[str, Any]] = instant(peer.url, expression)
    return float(answer[0]["value"][1]) if answer else 0.0


def main() -> int:
    """Run and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rules", description=__doc__)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--servers", type=int, default=PODS, choices=range(PODS + 1), metavar="N")
    parser.add_argument("--major", type=int, help="line of Prometheus, 2 or 3; the first in PATH")
    options = parser.parse_args()
    program = locate("prometheus", major=options.major)
    if program is None:
        print("prometheus is missing: tests/install.sh brings it", file=sys.stderr)
        return 1
    with ExitStack() as started:
        folder = Path(started.enter_context(tempfile.TemporaryDirectory(prefix="joulefloor-")))
        ours, theirs = daemon_lines(), vllm_lines(options.servers)
        fleet = started.enter_context(Fleet([*ours, *theirs]))
        threading.Thread(target=fleet.serve_forever, daemon=True).start()
        rules, intervals = hastened(folder / "rules")
        address = f"{LOOPBACK}:{fleet.server_port}"
        content = config(address, options.nodes, rules)
        peer = started.enter_context(start_prometheus(program, folder, content))
        found = measure(peer, options.rounds)
        print(f"Prometheus {program.version}, {options.servers} vLLM servers on each node.")
        print(f"Scraped series of a node: {len(ours)} ours, {len(theirs)} the servers'.")
        print(report(peer, found, intervals, options.nodes))
        if options.servers and not first(peer, "count(model:joulefloor_joules_per_token:ratio5m)"):
            raise PeerError("no energy met any work, so the rules on both had nothing to do")
        fleet.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
