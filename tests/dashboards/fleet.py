"""A small fleet of real daemons for the dashboards: invented, recorded, virtual, and a dead one.

The recorded machine lives: a thread moves its counters as its kernel would. It also has what an
operator must see: a counter that wraps, one that starts anew, and a sensor that answers nonsense.
On the virtual one a whole source stops after a while.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from stack.peers import rule_files, write_config
from stack.processes import LOOPBACK, Peer, free_port, launch
from tests.cluster import HOST_FILE as PODS_HOST
from tests.cluster import ClusterNode
from tests.dashboards.board import SCRAPE_S
from tests.dashboards.gpus import failing, fake_gpus, settings
from tests.dashboards.pods import PODS, running
from tests.dashboards.promql import RULES
from tests.machine import Machine
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

JOB: Final = "joulefloor"
DEAD: Final = "node-4"
STEP_S: Final = 0.25
SIMULATED: Final = {
    "static_power": {"start": {"cpu": "88W", "dram": "22W", "gpu": "74W"}},
    "sources": {
        "simulated": {
            "enabled": True,
            "models": [
                *("llama-3.1-8b",) * 2,
                *("llama-3.1-70b",) * 2,
                *("gpt-oss-20b", "qwen3-14b", "qwen3-32b", ""),
            ],
        },
        **{
            name: {"enabled": False}
            for name in ("cpu", "hwmon", "links", "model", "rapl", "thermal")
        },
    },
}
RECORDED: Final = {
    "static_power": {"start": {"cpu": "38W", "dram": "6W"}},
    "sources": {"simulated": {"enabled": False}},
}
POWERCAP: Final = "sys/devices/virtual/powercap"
INTEL_WATTS: Final = {
    f"{POWERCAP}/intel-rapl/intel-rapl:0/energy_uj": 96.0,
    f"{POWERCAP}/intel-rapl-mmio/intel-rapl-mmio:0/energy_uj": 96.0,
    f"{POWERCAP}/intel-rapl/intel-rapl:0/intel-rapl:0:0/energy_uj": 71.0,
    f"{POWERCAP}/intel-rapl/intel-rapl:0/intel-rapl:0:1/energy_uj": 17.0,
    f"{POWERCAP}/intel-rapl-mmio/intel-rapl-mmio:0/intel-rapl-mmio:0:0/energy_uj": 17.0,
    # Its recorded value lies 0.3 J below the end of its range: it wraps within seconds.
    f"{POWERCAP}/intel-rapl/intel-rapl:1/energy_uj": 88.0,
    f"{POWERCAP}/intel-rapl/intel-rapl:1/intel-rapl:1:0/energy_uj": 64.0,
    f"{POWERCAP}/intel-rapl/intel-rapl:1/intel-rapl:1:1/energy_uj": 15.0,
}
RESET: Final = f"{POWERCAP}/intel-rapl/intel-rapl:1/intel-rapl:1:1/energy_uj"
RESET_AFTER_S: Final = 4.0
RESET_EVERY_S: Final = 20.0
"""Again and again, so that the panels of events have some whenever they are drawn."""
WALL: Final = "sys/devices/LNXSYSTM:00/ACPI000D:00/power1_average"
WALL_WATTS: Final = 412.0
MEMINFO: Final = "proc/meminfo"
HURRY_S: Final = 2
PACES_S: Final = {"recording.yaml": SCRAPE_S, "alerting.yaml": SCRAPE_S}
"""How often rules are evaluated, by file: many build on one another, and they have two cores."""
SWING: Final = 0.12
SWING_S: Final = 240.0


class Node(NamedTuple):
    """One target: its name, the labels of its place, its machine and its configuration.

    `gpus`: whether the machine has those of the fake driver.
    """

    name: str
    place: Mapping[str, str]
    host_file: str | None
    config: Mapping[str, Any]
    gpus: bool = False


NODES: Final = (
    Node("node-1", {"cluster": "berlin", "rack": "a1"}, None, SIMULATED),
    Node("node-2", {"cluster": "berlin", "rack": "a2"}, "intel-2s", RECORDED),
    # As most people begin: no cluster label anywhere.
    Node("node-3", {}, "vm-cloud-xeon", RECORDED),
    Node("node-5", {"cluster": "berlin", "rack": "a1"}, "bare-vm", RECORDED, gpus=True),
    Node("node-6", {"cluster": "berlin", "rack": "a2"}, PODS_HOST, PODS),
)


class Target(NamedTuple):
    """What Prometheus scrapes: an address and the labels it attaches."""

    address: str
    labels: Mapping[str, str]


@contextmanager
def fleet(directory: Path) -> Iterator[list[Target]]:
    """Start a daemon per node, move the recorded ones, and list all targets."""
    with ExitStack() as started:
        targets = []
        for node in NODES:
            peer = started.enter_context(_daemon(node, directory / node.name))
            targets.append(Target(peer.address, {"instance": node.name, **node.place}))
        dead = {"instance": DEAD, "cluster": "berlin", "rack": "a2"}
        yield [*targets, Target(f"{LOOPBACK}:{free_port()}", dead)]


def hurried_rules(folder: Path, *, waiting: bool = False) -> list[Path]:
    """All our rules, evaluated in seconds; alerts do not wait unless `waiting` is set."""
    written = []
    for path in rule_files(RULES):
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        for group in content["groups"]:
            group["interval"] = f"{PACES_S.get(path.name, HURRY_S)}s"
            for rule in group["rules"]:
                if not waiting:
                    rule.pop("for", None)
        written.append(write_config(folder / path.name, content))
    return written


def scraping(targets: Sequence[Target], rules: Sequence[Path]) -> Mapping[str, Any]:
    """The prometheus.yml over the fleet, whose targets have labels of their place."""
    pace = f"{SCRAPE_S}s"
    static = [{"targets": [one.address], "labels": dict(one.labels)} for one in targets]
    return {
        "global": {"scrape_interval": pace, "evaluation_interval": pace},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [{"job_name": JOB, "static_configs": static}],
    }


@contextmanager
def _daemon(node: Node, directory: Path) -> Iterator[Peer]:
    directory.mkdir(parents=True)
    driver = fake_gpus(directory / "driver") if node.gpus else None
    sources = {"nvml": dict(settings(driver))} if driver else {}
    content = {**node.config, "sources": {**node.config["sources"], **sources}}
    config = directory / "joulefloor.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    port = free_port()
    command: list[str | Path] = [
        Path(sys.executable).parent / "joulefloor",
        "run",
        f"--web.listen-address={LOOPBACK}:{port}",
        f"--config.file={config}",
    ]
    with ExitStack() as started:
        if node.host_file:
            machine = started.enter_context(_living(node, directory / "root"))
            command.append(f"--path.rootfs={machine.root}")
            if driver:
                machine.write("dev/nvidiactl", "")
        peer = started.enter_context(launch(JOB, command, port=port, directory=directory))
        peer.await_ready("/readyz", within_s=PATIENCE_S)
        if driver:
            started.enter_context(failing(driver))
        yield peer


@contextmanager
def _living(node: Node, root: Path) -> Iterator[Machine]:
    """The machine of a node, whose counters run until the block ends."""
    if node.host_file == PODS_HOST:
        cluster = ClusterNode(root)
        with running(cluster):
            yield cluster.machine
    else:
        machine = Machine(root, host_file=node.host_file)
        with _moving(machine):
            yield machine


@contextmanager
def _moving(machine: Machine) -> Iterator[None]:
    """Let the machine's counters run until the block ends."""
    stop = threading.Event()
    thread = threading.Thread(target=_move, args=(machine, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _move(machine: Machine, stop: threading.Event) -> None:
    last = time.monotonic()
    reset_s = last + RESET_AFTER_S
    while not stop.wait(STEP_S):
        now = time.monotonic()
        swing = 1 + SWING * math.sin(2 * math.pi * now / SWING_S)
        _use_cpus(machine, now - last, 0.3 * swing)
        for path, watts in INTEL_WATTS.items():
            _add_energy(machine, path, watts * swing * (now - last))
        if (machine.root / WALL).exists():
            machine.write(WALL, str(round(WALL_WATTS * swing * 1e6)))
            if now > reset_s:
                reset_s = now + RESET_EVERY_S
                machine.write(RESET, "1000000")
        elif now > reset_s:
            machine.write(MEMINFO, "")
        last = now


def _add_energy(machine: Machine, path: str, joules: float) -> None:
    raw = machine.host.text_or(path, "")
    if raw:
        span = int(machine.host.text_or(path.replace("energy_uj", "max_energy_range_uj"), "0"))
        machine.write(path, str((int(raw) + round(joules * 1e6)) % (span + 1)))


def _use_cpus(machine: Machine, seconds: float, busy: float) -> None:
    lines = [line.split() for line in machine.host.text_or("proc/stat", "").splitlines()]
    cpus = sum(words[0].startswith("cpu") and words[0] != "cpu" for words in lines)
    for words in lines:
        if words[0].startswith("cpu"):
            ticks = seconds * 100 * (cpus if words[0] == "cpu" else 1)
            words[1] = str(int(words[1]) + round(ticks * busy))
            words[4] = str(int(words[4]) + round(ticks * (1 - busy)))
    machine.write("proc/stat", "\n".join(" ".join(words) for words in lines))
