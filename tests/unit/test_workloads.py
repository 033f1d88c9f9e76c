"""What workloads use, read from the control groups of composed machines."""

from __future__ import annotations

import math
import os
import shutil
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulefloor import catalogue
from joulefloor.config import load
from joulefloor.errors import ConfigError, Reason, SourceError
from joulefloor.model import IDLE, SYSTEM, Measures, Workload
from joulefloor.plugins import installed
from joulefloor.sources import Site, workloads
from joulefloor.sources.workloads import Settings
from tests.machine import Machine
from tests.player import Player

if TYPE_CHECKING:
    from joulefloor.model import Batch
    from joulefloor.sources import Source

ROOT = "sys/fs/cgroup"
V2, V1 = "k8s-v2-systemd", "k8s-v1-cgroupfs"
BURSTABLE = f"{ROOT}/kubepods.slice/kubepods-burstable.slice"
RESNET = f"{ROOT}/kubepods.slice/kubepods-pod5f1c7c0e_2b1a_4c55_9d3e_0a4b5c6d7e8f.slice"
FRONTEND = f"{BURSTABLE}/kubepods-burstable-pod0d9a3b1c_7e54_4f6a_8c2d_1b3e5f7a9c0d.slice"
RAPL = "sys/devices/virtual/powercap/intel-rapl/intel-rapl:0"
TRAIN = Workload("pod", "train", "resnet-0")
WEB = Workload("pod", "web", "frontend-6d4cf56db6-x2x7k")


def build(machine: Machine, **more: object) -> dict[str, Source]:
    choices = Settings(**more)  # type: ignore[arg-type]
    sources = workloads.build(Site(machine.host, machine.clock, choices))
    return {source.name: source for source in sources}


def values(batch: Batch) -> dict[tuple[str, str], float]:
    return {(r.channel.labels[1], r.channel.labels[3]): r.value for r in batch.readings}


def stat(seconds: float) -> str:
    return f"usage_usec {round(seconds * 1e6)}\nuser_usec 0\nsystem_usec 0"


def remove(machine: Machine, group: str) -> None:
    """A control group ends: its files stop answering, then its folder goes."""
    for file in (machine.root / group).rglob("*"):
        if file.is_file():
            machine.remove(str(file.relative_to(machine.root)))
    shutil.rmtree(machine.root / group)


def test_cpu_seconds_of_every_pod_by_name_version_2(tmp_path: Path) -> None:
    batch = build(Machine(tmp_path, host_file=V2))["workloads"].read()
    assert not batch.faults
    assert values(batch) == {
        ("system", ""): 240.0,
        ("idle", ""): 8000.0,
        ("pod", "resnet-0"): 900.0,
        ("pod", "frontend-6d4cf56db6-x2x7k"): 45.0,
        ("pod", "batch-28937160-9ssjm"): 1.0,
        ("pod", "kube-apiserver-node1"): 30.0,
    }
    assert {r.channel.measures for r in batch.readings} == {Measures.USE}


def test_cpu_seconds_of_every_pod_by_name_version_1(tmp_path: Path) -> None:
    """The container that runs inside a pod is the pod's; the host's own Docker stands apart."""
    batch = build(Machine(tmp_path, host_file=V1))["workloads"].read()
    assert values(batch) == {
        ("system", ""): 240.0,
        ("idle", ""): 8000.0,
        ("pod", "serve-0"): 500.0,
        ("pod", "runner-x"): 90.0,
        ("pod", "sleeper"): 0.001,
        ("container", "dddddddddddd"): 7.0,
    }


def test_memory_counts_caches_as_control_groups_do(tmp_path: Path) -> None:
    batch = build(Machine(tmp_path, host_file=V2))["workloads-memory"].read()
    seen = values(batch)
    assert seen["system", ""] == (16777216 - 4194304) * 1024
    assert seen["idle", ""] == 4194304 * 1024
    assert seen["pod", "resnet-0"] == 4294967296
    assert {r.channel.measures for r in batch.readings} == {Measures.HOLD}


@pytest.mark.parametrize(
    ("host", "name", "cpus", "size"),
    [(V2, "resnet-0", 1.0, 8589934592), (V1, "serve-0", 1.5, 4294967296)],
)
def test_limits_are_those_that_are_set(
    tmp_path: Path, host: str, name: str, cpus: float, size: int
) -> None:
    batch = build(Machine(tmp_path, host_file=host))["workloads-limits"].read()
    seen = {(r.channel.labels[0], r.channel.labels[3]): r.value for r in batch.readings}
    assert seen == {("cpu", name): cpus, ("dram", name): size}


def test_services_are_workloads_only_when_asked_for(tmp_path: Path) -> None:
    machine = Machine(tmp_path, host_file=V2)
    sources = build(machine, services=("ssh*",))
    assert ("service", "ssh.service") in values(sources["workloads"].read())


def test_a_new_pod_is_seen_at_the_next_read_and_an_ended_one_is_no_fault(tmp_path: Path) -> None:
    machine = Machine(tmp_path, host_file=V2)
    source = build(machine)["workloads"]
    before = {r.channel.labels: r.channel for r in source.read().readings}
    remove(machine, FRONTEND)
    new = f"{BURSTABLE}/kubepods-burstable-pod12345678_0000_4000_8000_000000000000.slice"
    machine.write(f"{new}/cpu.stat", stat(1))
    machine.write("var/log/pods/web_new_12345678-0000-4000-8000-000000000000/x/0.log", "")
    # As many folders as before; file systems note the time to a few milliseconds only.
    os.utime(machine.root / BURSTABLE, (1.0, 1.0))
    machine.clock.advance(1)
    batch = source.read()
    assert not batch.faults
    assert ("pod", "new") in values(batch)
    assert ("pod", WEB.name) not in values(batch)
    same = [r.channel for r in batch.readings if r.channel.labels in before]
    assert all(before[channel.labels] is channel for channel in same)


def test_short_lived_children_stay_with_the_pod(tmp_path: Path) -> None:
    """A container's group comes and goes within a second; the pod's own counter has kept it."""
    machine = Machine(tmp_path, host_file=V2)
    source = build(machine)["workloads"]
    first = values(source.read())["pod", "resnet-0"]
    machine.write(f"{RESNET}/cri-containerd-{'9' * 64}.scope/cpu.stat", stat(5))
    remove(machine, f"{RESNET}/cri-containerd-{'9' * 64}.scope")
    machine.write(f"{RESNET}/cpu.stat", stat(first + 5))
    machine.clock.advance(1)
    assert values(source.read())["pod", "resnet-0"] == first + 5


def test_reuse_of_a_process_id_moves_no_joule(tmp_path: Path) -> None:
    """A process id that is used again cannot move a joule: none is read."""
    machine = Machine(tmp_path, host_file=V2)
    source = build(machine)["workloads"]
    before = values(source.read())
    machine.write("proc/4242/stat", "4242 (stress) R 1 1 1 0 -1 0 0 0 0 0 900000 900000 0 0 20")
    machine.write(f"{RESNET}/cgroup.procs", "4242")
    machine.clock.advance(1)
    assert values(source.read()) == before


def test_a_hybrid_machine_is_read_by_its_version_1_trees(tmp_path: Path) -> None:
    machine = Machine(tmp_path, host_file=V1)
    machine.write(f"{ROOT}/unified/cgroup.controllers", "")
    sources = build(machine)
    assert values(sources["workloads"].read())["pod", "serve-0"] == 500.0
    assert ("pod", "serve-0") in values(sources["workloads-memory"].read())


def held_below(root: Path) -> list[str]:
    """Files below a folder that this process has open; other threads have others."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            found.append(str(entry.readlink()))
    return [name for name in found if name.startswith(f"{root.resolve()}/")]


def test_closing_lets_go_of_every_descriptor_and_the_next_read_opens_its_own(
    tmp_path: Path,
) -> None:
    machine = Machine(tmp_path, host_file=V2)
    source = build(machine)["workloads"]
    assert not held_below(tmp_path)
    first = values(source.read())
    assert held_below(tmp_path)
    source.close()
    assert not held_below(tmp_path)
    with ExitStack() as strangers:
        for _ in range(10):
            strangers.enter_context((tmp_path / "proc/meminfo").open())
        assert values(source.read()) == first
        source.close()


def test_a_descriptor_that_now_stands_for_another_file_is_not_read(tmp_path: Path) -> None:
    """One group turns to garbage while another ends: its number is given to a stranger's file."""
    machine = Machine(tmp_path, host_file=V2)
    source = build(machine)["workloads"]
    first = values(source.read())
    machine.write(f"{FRONTEND}/cpu.stat", "garbage")
    kept = next(line for who, line in source._lines.items() if who == TRAIN)  # type: ignore[attr-defined]
    closed = kept.files[0].descriptor()
    kept.files[0].close()
    stranger = os.open(tmp_path / RESNET / "cgroup.procs", os.O_CREAT | os.O_RDWR)
    os.write(stranger, stat(12345).encode())
    if stranger != closed:
        os.dup2(stranger, closed)
        os.close(stranger)
    for _ in range(2):
        machine.clock.advance(1)
        batch = source.read()
        assert [fault.reason for fault in batch.faults] == [Reason.GARBLED]
    machine.write(f"{FRONTEND}/cpu.stat", stat(first["pod", WEB.name]))
    machine.clock.advance(1)
    assert values(source.read()) == first
    os.close(closed)


def test_one_unreadable_group_is_one_fault(tmp_path: Path) -> None:
    machine = Machine(tmp_path, host_file=V2)
    (tmp_path / FRONTEND / "cpu.stat").chmod(0o400)
    source = build(machine)["workloads"]
    with machine.as_nobody():
        batch = source.read()
    (fault,) = batch.faults
    assert fault.reason is Reason.DENIED
    assert fault.channel is not None
    assert fault.channel.labels[1:4] == WEB[:3]
    assert len(batch.readings) == 5


def test_a_group_without_its_file_is_a_fault_and_is_not_searched_for_each_second(
    tmp_path: Path,
) -> None:
    machine = Machine(tmp_path, host_file=V2)
    source = build(machine)["workloads"]
    source.read()
    machine.remove(f"{FRONTEND}/cpu.stat")
    reasons = []
    for _ in range(3):
        machine.clock.advance(1)
        reasons += [fault.reason for fault in source.read().faults]
    assert reasons == [Reason.GARBLED, Reason.GARBLED, Reason.GARBLED]
    source.close()
    assert [fault.reason for fault in source.read().faults] == [Reason.ABSENT]


def test_a_pod_moved_between_drivers_is_not_compared_across_the_move(tmp_path: Path) -> None:
    machine = Machine(tmp_path, host_file=V2)
    source = build(machine)["workloads"]
    old = next(r.channel for r in source.read().readings if r.channel.labels[3] == "resnet-0")
    moved = f"{ROOT}/kubepods/pod5f1c7c0e-2b1a-4c55-9d3e-0a4b5c6d7e8f"
    machine.write(f"{moved}/cpu.stat", stat(2))
    machine.clock.advance(1)
    both = next(r for r in source.read().readings if r.channel.labels[3] == "resnet-0")
    assert both.value == 902.0
    assert both.channel is not old
    remove(machine, RESNET)
    machine.clock.advance(1)
    alone = next(r for r in source.read().readings if r.channel.labels[3] == "resnet-0")
    assert alone.value == 2.0
    assert alone.channel is not both.channel


def test_the_surplus_goes_to_system_and_a_fault_says_so(tmp_path: Path) -> None:
    batch = build(Machine(tmp_path, host_file=V2), limit=2)["workloads"].read()
    assert len(batch.readings) == 4
    (fault,) = batch.faults
    assert fault.reason is Reason.UNSUPPORTED
    assert "sources.workloads.limit" in fault.detail


@pytest.mark.parametrize("name", ["workloads", "workloads-memory", "workloads-limits"])
def test_a_machine_without_control_groups_has_no_workloads(machine: Machine, name: str) -> None:
    source = build(machine)[name]
    for call in (source.channels, source.read):
        with pytest.raises(SourceError) as error:
            call()
        assert error.value.reason is Reason.ABSENT


def test_a_machine_without_pods_says_what_the_whole_machine_used(tmp_path: Path) -> None:
    machine = Machine(tmp_path, host_file="intel-2s")
    machine.write(f"{ROOT}/cgroup.controllers", "cpu memory")
    batch = build(machine)["workloads"].read()
    assert [Workload(*r.channel.labels[1:4]) for r in batch.readings] == [SYSTEM, IDLE]


def test_an_unknown_policy_is_refused_with_those_there_are(tmp_path: Path) -> None:
    file = tmp_path / "joulefloor.yaml"
    file.write_text("workloads: {static: fairly}\n")
    with pytest.raises(ConfigError, match="unattributed, allocation, use, not 'fairly'"):
        load(file, installed())
    file.write_text("workloads: {static: use, keep: 10m}\n")
    assert load(file, installed()).workloads.keep == 600.0


def test_a_limit_of_none_is_refused() -> None:
    with pytest.raises(ValueError, match="limit: must be 1 or more"):
        Settings(limit=0)


@pytest.mark.parametrize("host", [V2, V1])
def test_any_bytes_in_any_file_give_readings_or_faults(host: str, tmp_path: Path) -> None:
    machine = Machine(tmp_path, host_file=host)
    sources = build(machine).values()
    files = [path for path in sorted((tmp_path / ROOT).rglob("*")) if path.is_file()]
    paths = [str(path.relative_to(tmp_path)) for path in files if path.stat().st_size]
    number = st.integers(-(10**22), 10**22).map(lambda value: f"{value}\n".encode())
    odd = st.sampled_from((b"", b"max 100000\n", b"usage_usec\n", b"usage_usec -1\n", b"5 0\n"))

    @settings(max_examples=100, deadline=None)
    @given(
        path=st.sampled_from([*paths, "proc/stat", "proc/meminfo"]),
        content=st.one_of(st.binary(max_size=60), number, odd),
    )
    def any_bytes(path: str, content: bytes) -> None:
        before = (tmp_path / path).read_bytes()
        machine.write(path, content)
        for source in sources:
            try:
                batch = source.read()
            except SourceError:
                continue
            assert all(math.isfinite(r.value) and r.value >= 0 for r in batch.readings)
            source.close()
        machine.write(path, before)

    any_bytes()


# -- end to end: meters and control groups together -------------------------------------------


class Cluster:
    """A node whose pods work while its meters count."""

    def __init__(self, root: Path) -> None:
        self.machine = Machine(root, host_file=V2)
        self.player = Player(self.machine, "rapl", "cpu", "workloads")
        self.used = {RESNET: 900.0, FRONTEND: 45.0}

    def second(self, joules: float, busy: float, **pods: float) -> None:
        """One second: RAPL moves by `joules`, CPUs are `busy`, pods use CPU seconds."""
        self.player.add_energy(f"{RAPL}/energy_uj", joules)
        self.player.use_cpus(busy, 1.0)
        for name, group in (("resnet", RESNET), ("frontend", FRONTEND)):
            self.used[group] += pods.get(name, 0.0)
            if (self.machine.root / group).exists():
                self.machine.write(f"{group}/cpu.stat", stat(self.used[group]))
        self.player.tick()

    def bill(self, workload: Workload, share: str = "dynamic") -> float:
        bills = self.player.series(catalogue.WORKLOAD_ENERGY)
        return bills.get(("cpu", *workload, share), 0.0)

    def sums(self) -> tuple[float, float]:
        """All bills of the CPU, and what its meter counted."""
        groups = self.player.series(catalogue.NAMESPACE_ENERGY)
        components = self.player.series(catalogue.NODE_COMPONENT_ENERGY)
        billed = sum(joules for labels, joules in groups.items() if labels[0] == "cpu")
        return billed, components["cpu", "measured"]


def test_a_node_learns_its_idle_power_then_bills_the_pod_that_works(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    for _ in range(62):
        cluster.second(40.0, 0.01, resnet=0.01, frontend=0.005)
    before, idle_before = cluster.bill(TRAIN), cluster.bill(WEB)
    for _ in range(30):
        cluster.second(140.0, 0.99, resnet=1.96, frontend=0.002)
    dynamic = 30 * (140.0 - 40.0)
    assert cluster.bill(TRAIN) - before >= 0.95 * dynamic
    assert cluster.bill(WEB) - idle_before <= 0.01 * dynamic
    billed, metered = cluster.sums()
    assert billed == pytest.approx(metered, rel=1e-6)
    cluster.player.sampler.stop()


def test_a_deleted_pod_keeps_its_counter_and_its_namespace_for_ever(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    for _ in range(3):
        cluster.second(100.0, 0.5, frontend=0.5)
    joules = cluster.bill(WEB)
    assert joules > 0
    remove(cluster.machine, FRONTEND)
    for _ in range(3):
        cluster.second(100.0, 0.5, resnet=0.5)
    assert cluster.bill(WEB) == joules
    billed, metered = cluster.sums()
    assert billed == pytest.approx(metered, rel=1e-9)
    cluster.player.sampler.stop()
