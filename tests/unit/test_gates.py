"""What the daemon may cost, as far as it can be counted and not timed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest

from benchmarks.machines import SMALL, Size, composed, laid_out
from benchmarks.programs import exposition
from joulefloor import catalogue
from joulefloor.board import Board
from joulefloor.host import Host
from joulefloor.ledger import Ledger, Rules
from joulefloor.model import Batch, Channel, Measures, Reading
from joulefloor.plugins import installed
from joulefloor.podresources import SOCKET
from joulefloor.sources import Site, workloads
from stack.peers import write_config
from stack.processes import free_port, launch
from stack.query import answers, eventually
from tests.kubelet import Kubelet, Pod
from tests.machine import Machine, ManualClock
from tests.nvml.build import compiler
from tests.nvml.scenario import FakeDriver
from tests.patience import PATIENCE_S
from tests.player import Player

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack.processes import Peer

FEWER_INSTRUCTIONS = 18
"""Rendering costs at most one part in so many of what prometheus-client's encoder does.

Of joules and watts in thousandths; numbers from a million on, which get an exponent, cost more.
"""
SYSTEM_CALLS_PER_TICK = 80
MEAN_SYSTEM_CALLS = 20
"""Both without futexes: how often threads wait for each other is the scheduler's choice."""
SERIES_OF_SIMULATED_NODE = 400
SERIES_OF_GPU_NODE = 300
SERIES_OF_POD = 5
"""Of a further pod that shares a GPU, in a namespace that has others."""
SERIES_OF_TWO_PACKAGES = 150
CALLS_PER_POD = 3
"""A reading is made, a number converted; all else is done with all pods at once."""
TICKS_WATCHED = 20
TICK_S = 0.1
TICK_MARK = "CLOCK_PROCESS_CPUTIME_ID"
"""The clock that the ledger reads once at the end of each tick."""

RENDER = """
import sys
from joulefloor import catalogue
from joulefloor.exposition import Collector, Renderer
from joulefloor.model import Family, Layout, Snapshot

who, renders = sys.argv[1], int(sys.argv[2])
labels = [
    ("gpu", f"GPU-{n:08x}-3f1c-9b7e-d2a4-{n:012x}", "measured", "nvml", "text") for n in range(200)
]
metrics = [metric for metric in catalogue.METRICS if 3 <= len(metric.labels) <= 5][:10]
families = [
    Family(metric, tuple(row[: len(metric.labels)] for row in labels), 200 * number)
    for number, metric in enumerate(metrics)
]
layout = Layout(tuple(families))
values = [tuple((1_234_567 + 37 * (n + seq)) / 1000 for n in range(2000)) for seq in range(2)]
snapshots = [Snapshot(seq, 0, 0.0, layout, values[seq % 2]) for seq in range(renders)]
current = snapshots[0]
assert len(families) == 10
if who == "theirs":
    from prometheus_client import CollectorRegistry, generate_latest
    registry = CollectorRegistry()
    registry.register(Collector(lambda: current))
    render = lambda: generate_latest(registry)
else:
    renderer = Renderer(lambda: current)
    render = lambda: renderer.body(openmetrics=False, compressed=False)
assert render().count(b"GPU-") == 2000
for current in snapshots:
    render()
"""
WATCHED = """
import atexit, sys
atexit.register(lambda: print("modules:", *sorted(sys.modules), flush=True))
from joulefloor.__main__ import main
main()
"""


def tool(name: str) -> str:
    """Find a program that tests/install.sh brings, or skip (fail where nothing may be missing)."""
    path = shutil.which(name)
    if path is None:
        reason = f"{name} is not on this machine: tests/install.sh brings it"
        if os.environ.get("JOULEFLOOR_REQUIRE_PEERS") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


def compiled(tmp_path: Path) -> dict[str, str]:
    """Keep bytecode, as an installed package does, so that runs do not differ by compiling."""
    return {
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode"),
        "PYTHONHASHSEED": "0",
    }


@pytest.fixture(scope="module")
def root() -> Iterator[Path]:
    """Root of a machine with two CPU packages and 40 sensor files."""
    with composed(SMALL) as path:
        yield path


def instructions(who: str, renders: int, environment: dict[str, str]) -> int:
    """Instructions of a whole process that renders so often."""
    command = [sys.executable, "-c", RENDER, who, str(renders)]
    valgrind = [tool("valgrind"), "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    answer = subprocess.run(
        [*valgrind, *command], env=environment, capture_output=True, text=True, check=True
    )
    found = re.search(r"Collected : (\d+)", answer.stderr)
    assert found, answer.stderr
    return int(found[1])


def test_rendering_2000_series_takes_an_eighteenth_of_the_reference(tmp_path: Path) -> None:
    tool("valgrind")
    environment = os.environ | compiled(tmp_path)
    for who in ("ours", "theirs"):
        subprocess.run([sys.executable, "-c", RENDER, who, "1"], env=environment, check=True)
    ours = (instructions("ours", 11, environment) - instructions("ours", 1, environment)) / 10
    theirs = (instructions("theirs", 3, environment) - instructions("theirs", 1, environment)) / 2
    assert theirs / ours >= FEWER_INSTRUCTIONS, f"{ours:,.0f} against {theirs:,.0f} instructions"


class Call(NamedTuple):
    """A line of a trace: which thread called what, and when."""

    thread: str
    at_s: float
    text: str


def calls_per_tick(trace: str) -> list[int]:
    """Calls of all threads but the server's from tick to tick, once the daemon has settled.

    Ticks that were late or hurried after late ones are left out: how many reads fall between them
    is the scheduler's choice.
    """
    whole = [line.split(maxsplit=2) for line in trace.splitlines() if "resumed>" not in line]
    calls = [
        Call(words[0], float(words[1]), words[2])
        for words in whole
        if len(words) == 3 and re.match(r"\w+\(", words[2])
    ]
    if not calls:
        return []
    server = calls[0].thread
    ticks = [number for number, call in enumerate(calls) if TICK_MARK in call.text]
    assert not any(calls[number].thread == server for number in ticks)
    return [
        sum(call.thread != server for call in calls[begin:end])
        for begin, end in pairwise(ticks[TICKS_WATCHED:])
        if abs(calls[end].at_s - calls[begin].at_s - TICK_S) < TICK_S / 4
    ]


def test_a_tick_takes_few_system_calls(root: Path, tmp_path: Path) -> None:
    """Ten times as fast as the defaults, so that ten ticks hold what ten seconds would."""
    fast, slow = {"period": "100ms"}, {"period": "500ms"}
    config = {
        "sampling": {"tick": "100ms"},
        "sources": {
            "cpu": fast | {"slow_period": "500ms"},
            **dict.fromkeys(("hwmon", "model", "rapl"), fast),
            **dict.fromkeys(("links", "process", "sensors"), slow),
        },
    }
    trace = tmp_path / "trace"
    strace = [tool("strace"), "-f", "-ttt", "--seccomp-bpf", "-e", "trace=!futex", "-o", str(trace)]
    port = free_port()
    daemon = [sys.executable, "-m", "joulefloor", "run", f"--path.rootfs={root}"]
    flags = [
        f"--config.file={write_config(tmp_path / 'fast.yaml', config)}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with launch(
        "joulefloor",
        [*strace, *daemon, *flags],
        port=port,
        directory=tmp_path,
        environment=compiled(tmp_path),
    ) as peer:
        peer.await_ready("/readyz", within_s=PATIENCE_S)

        per_tick: list[int] = []

        def few() -> bool:
            assert not peer.died(), peer.tail()
            answers(f"{peer.url}/readyz")
            per_tick[:] = calls_per_tick(trace.read_text())[-TICKS_WATCHED:]
            return (
                len(per_tick) == TICKS_WATCHED
                and max(per_tick) <= SYSTEM_CALLS_PER_TICK
                and 4 < sum(per_tick) / TICKS_WATCHED <= MEAN_SYSTEM_CALLS
            )

        # On a loaded machine reads of one tick may fall into another; more of them are always more.
        assert eventually(few, within_s=PATIENCE_S), per_tick


def test_the_running_daemon_has_not_imported_what_it_does_not_use(
    root: Path, tmp_path: Path
) -> None:
    port = free_port()
    config = write_config(tmp_path / "some.yaml", {"sampling": {"tick": "1s"}})
    words = ["run", f"--path.rootfs={root}", f"--web.listen-address=127.0.0.1:{port}"]
    words.append(f"--config.file={config}")
    command = [sys.executable, "-c", WATCHED, *words]
    with launch("joulefloor", command, port=port, directory=tmp_path) as peer:
        peer.await_ready("/readyz", within_s=PATIENCE_S)
        name = "joulefloor_component_energy_joules_total"
        assert eventually(lambda: name in exposition(peer), within_s=PATIENCE_S)
        peer.stop(within_s=PATIENCE_S)
    line = next(line for line in peer.tail(50).splitlines() if line.startswith("modules:"))
    unused = {
        "asyncio", "bcrypt", "click", "concurrent.futures", "decimal", "difflib", "email",
        "grpc", "http.client", "http.server", "importlib.metadata", "json", "logging",
        "multiprocessing", "numpy", "prometheus_client", "psutil", "pydantic", "pynvml",
        "requests", "ssl", "statistics", "torch", "yaml",
    }  # fmt: skip
    assert "joulefloor.sampler" in line.split()
    assert sorted(unused & set(line.split())) == []


def ticked(machine: Machine, *more: str) -> int:
    """Series of a machine after a minute of ticks, with optional sources."""
    standard = [name for name, plugin in installed().items() if plugin.on]
    player = Player(machine, *standard, *more)
    for _ in range(65):
        player.burn(100.0, 0.01, 1.0)
        player.tick()
    return sum(1 for line in player.metrics().splitlines() if not line.startswith("#"))


def test_a_machine_with_two_packages_has_few_series(tmp_path: Path) -> None:
    assert ticked(Machine(tmp_path, host_file="intel-2s")) <= SERIES_OF_TWO_PACKAGES


def test_the_simulated_node_with_eight_gpus_has_few_series(tmp_path: Path) -> None:
    """It has meters and sensors of everything that such a node has, and models that it serves."""
    assert ticked(Machine(tmp_path, host_file="bare-vm"), "simulated") <= SERIES_OF_SIMULATED_NODE


class GpuNode:
    """A virtual machine with eight H100 at work, each for a pod of its own; use as a context.

    Each multiplies matrices, adds up in 32 bits and talks to the others, as in training: all the
    series that a GPU in good health has without full detail.
    """

    def __init__(self) -> None:
        """Its folder has few letters: a socket's path may have 107."""
        self._folder = Path(tempfile.mkdtemp(prefix="jf-", dir="/tmp"))
        root = self._folder / "h"
        root.mkdir()
        self.machine = Machine(root, host_file="bare-vm")
        self.machine.write("dev/nvidiactl", "")
        self.machine.write("sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids")
        self.driver = FakeDriver(self._folder / "driver")
        for number in range(8):
            gpu = self.driver.gpu(number, "h100-sxm5").work(1500, {7: 40.0, 12: 10.0})
            gpu.put("load", 400_000).put("gpm.20", 900).put("gpm.21", 1200)
            for direction in ("tx", "rx"):
                gpu.put(f"nvlink.data_{direction}_kib", "rate 1000000")
        self.driver.write()
        self.kubelet = Kubelet(root / SOCKET)
        self._cpu = 24_000
        self.machine.write("proc/stat", self._times())

    def __enter__(self) -> Self:
        """Serve the list of pods."""
        self.kubelet.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left."""
        self.kubelet.stop()
        shutil.rmtree(self._folder)

    def add_pod(self, gpu: str) -> None:
        """A pod in one of two namespaces that holds a GPU, or a replica of one."""
        number = len(self.kubelet.pods)
        uid = f"{number:08x}-1111-2222-3333-444455556666"
        group = f"sys/fs/cgroup/kubepods.slice/kubepods-pod{uid.replace('-', '_')}.slice"
        name = f"worker-{number}"
        (self.machine.root / f"var/log/pods/team-{number % 2}_{name}_{uid}").mkdir(parents=True)
        self.machine.write(
            f"{group}/cpu.stat", f"usage_usec {self._cpu * 1000}\nuser_usec 0\nsystem_usec 0"
        )
        self.machine.write(f"{group}/memory.current", 2**30)
        held = (("nvidia.com/gpu", (gpu,)),)
        self.kubelet.pods = (*self.kubelet.pods, Pod(f"team-{number % 2}", name, held))

    def work(self) -> None:
        """Let everybody use a CPU: one write to a file, as long as what was there."""
        self._cpu += 10
        root = self.machine.root
        usage = f"usage_usec {self._cpu * 1000}".encode()
        for path, text in (
            (root / "proc/stat", self._times().encode()),
            *((path, usage) for path in root.glob("sys/fs/cgroup/kubepods.slice/*/cpu.stat")),
        ):
            with path.open("r+b", buffering=0) as file:
                file.write(text)

    def _times(self) -> str:
        whole = f"cpu  {self._cpu} 60 5000 800000 1800 0 220 0 0 0"
        cpus = (f"cpu{number} {self._cpu // 2} 30 2500 400000 900 0 110 0 0 0" for number in "01")
        return "\n".join([whole, *cpus, "btime 1790000000"])

    @property
    def config(self) -> dict[str, object]:
        """Everything soon, and what takes an idle minute to be learned from the start."""
        soon = {"period": "200ms"}
        return {
            "sampling": {"tick": "100ms"},
            "static_power": {"start": {"gpu": "60W", "cpu": "1W", "dram": "1W"}},
            "sources": {
                "cpu": soon,
                "model": soon,
                "nvml": soon | {"library_folder": str(self.driver.folder)},
                "workloads": soon | {"memory_period": "200ms", "device_period": "200ms"},
            },
        }


def settled(node: GpuNode, peer: Peer, pods: int) -> list[str]:
    """The series when every pod has its share, and no new ones came for a while."""
    seen: list[list[str]] = [[]]
    changed = 0.0

    def check() -> bool:
        nonlocal changed
        node.work()
        lines = exposition(peer).splitlines()
        seen.append([line for line in lines if not line.startswith("#")])
        shares = sum(line.startswith("joulefloor_workload_device_share") for line in seen[-1])
        ticks = next(
            float(line.split()[1]) for line in seen[-1] if line.startswith(catalogue.TICKS.name)
        )
        changed = changed if len(seen[-1]) == len(seen[-2]) else ticks
        same = ticks >= changed + TICKS_WATCHED
        begun = ('precision="fp16"', 'precision="fp32"', 'link="nvlink"')
        return shares == pods and same and all(word in "".join(lines) for word in begun)

    assert eventually(check, within_s=PATIENCE_S), [len(lines) for lines in seen]
    return seen[-1]


@pytest.mark.skipif(compiler() is None, reason="gcc compiles the fake driver")
def test_a_node_with_eight_gpus_and_eight_pods_has_at_most_300_series(tmp_path: Path) -> None:
    port = free_port()
    with GpuNode() as node:
        gpus = [node.driver.gpu(number).keys["uuid"] for number in range(8)]
        for gpu in gpus:
            node.add_pod(gpu)
        words = ["run", f"--path.rootfs={node.machine.root}"]
        words.append(f"--config.file={write_config(tmp_path / 'gpus.yaml', node.config)}")
        command = [sys.executable, "-m", "joulefloor", *words]
        command.append(f"--web.listen-address=127.0.0.1:{port}")
        with launch("joulefloor", command, port=port, directory=tmp_path) as peer:
            peer.await_ready("/readyz", within_s=PATIENCE_S)
            before = settled(node, peer, 8)
            node.add_pod(f"{gpus[0]}::1")
            after = settled(node, peer, 9)
    names = Counter(line.partition("{")[0] for line in before)
    assert len(before) <= SERIES_OF_GPU_NODE, names.most_common()
    # What is late on a loaded machine is counted by reason, and gauges of it come and go.
    known = {line.rpartition(" ")[0] for line in before}
    new = {line.rpartition(" ")[0] for line in after} - known
    assert len({name for name in new if "reason=" not in name}) <= SERIES_OF_POD, new


def calls_of_a_tick(pods: int) -> int:
    """Function calls, ours and built-in ones, to read and bill what so many pods used."""
    clock = ManualClock()
    with laid_out(Size(chips=1, pods=pods)) as root:
        (source, *_) = workloads.build(Site(Host(root), clock, workloads.Settings()))
        ledger = Ledger(Board(), Rules())
        meter = Channel(
            catalogue.COMPONENT_ENERGY, ("cpu", "package-0", "rapl", "measured"), Measures.ENERGY
        )
        calls = Counter[str]()

        def tick(second: int) -> None:
            clock.advance(1.0)
            for path in root.glob("sys/fs/cgroup/kubepods.slice/*/cpu.stat"):
                path.write_text(f"usage_usec {10**9 + second * 1000}\nuser_usec 0\n")
            sys.setprofile(lambda _frame, event, _argument: calls.update((event,)))
            ledger.fold("workloads", 1.0, source.read())
            ledger.fold("rapl", 1.0, Batch((Reading(meter, 50.0 * second, clock.now_ns),)))
            ledger.close(clock.now_ns, 0.0)
            sys.setprofile(None)

        for second in range(1, 6):
            calls.clear()
            tick(second)
        source.close()
    return calls["call"] + calls["c_call"]


def test_a_further_pod_costs_hardly_a_function_call_per_tick() -> None:
    assert calls_of_a_tick(60) - calls_of_a_tick(20) <= CALLS_PER_POD * 40
