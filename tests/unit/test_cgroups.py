"""Which control group is whose: layouts of every driver, engine and manager."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from joulefloor.census import Census
from joulefloor.cgroups import Branch, hierarchy, step
from joulefloor.errors import Reason, SourceError
from joulefloor.model import Workload

if TYPE_CHECKING:
    from tests.machine import Machine

UID = "5f1c7c0e-2b1a-4c55-9d3e-0a4b5c6d7e8f"
UID_ = UID.replace("-", "_")
HASH = "8c1d9f0b7a6e5d4c3b2a190817263544"
ID = "a1b2c3d4e5f6" + "0" * 52
POD = Workload("pod", "", UID)
CONTAINER = Workload("container", "", "a1b2c3d4e5f6")
ROOT = "sys/fs/cgroup"

LAYOUTS: dict[str, tuple[str, Workload]] = {
    "cgroupfs guaranteed": (f"kubepods/pod{UID}/{ID}", POD),
    "cgroupfs burstable": (f"kubepods/burstable/pod{UID}/{ID}", POD),
    "cgroupfs crio": (f"kubepods/besteffort/pod{UID}/crio-{ID}/container", POD),
    "systemd guaranteed": (
        f"kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-{ID}.scope",
        POD,
    ),
    "systemd burstable": (
        (
            f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice/"
            f"crio-{ID}.scope/container"
        ),
        POD,
    ),
    "systemd docker": (
        (
            f"kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{UID_}.slice/"
            f"docker-{ID}.scope"
        ),
        POD,
    ),
    "static pod, systemd": (
        f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{HASH}.slice/{ID}",
        Workload("pod", "", HASH),
    ),
    "static pod, cgroupfs": (f"kubepods/burstable/pod{HASH}/{ID}", Workload("pod", "", HASH)),
    "prefix of the operator's choice": (
        f"cluster.slice/cluster-kubepods.slice/cluster-kubepods-pod{UID_}.slice",
        POD,
    ),
    "kind, systemd": (
        (
            f"system.slice/docker-{'9' * 64}.scope/kubelet.slice/kubelet-kubepods.slice/"
            f"kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{UID_}.slice/"
            f"cri-containerd-{ID}.scope"
        ),
        POD,
    ),
    "kind, cgroupfs": (f"docker/{'9' * 64}/kubelet/kubepods/burstable/pod{UID}/{ID}", POD),
    "k3d": (f"docker/{'9' * 64}/kubepods/besteffort/pod{UID}/{ID}", POD),
    "drivers that disagree": (
        f"system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice:cri-containerd:{ID}",
        POD,
    ),
    "docker in a pod": (f"kubepods/burstable/pod{UID}/{'3' * 64}/docker/{ID}", POD),
    "kind in a pod": (
        f"kubepods/pod{UID}/{'3' * 64}/docker/{'4' * 64}/kubelet/kubepods/pod{HASH}",
        POD,
    ),
    "docker, cgroupfs": (f"docker/{ID}", CONTAINER),
    "docker, systemd": (f"system.slice/docker-{ID}.scope", CONTAINER),
    "podman": (f"machine.slice/libpod-{ID}.scope/container", CONTAINER),
    "lxc": ("lxc.payload.web", Workload("container", "", "web")),
    "slurm v2": (
        "system.slice/slurmstepd.scope/job_4242/step_0/user/task_0",
        Workload("job", "slurm", "4242"),
    ),
    "slurm v2, several daemons": (
        "system.slice/node7_slurmstepd.scope/job_7",
        Workload("job", "slurm", "7"),
    ),
    "slurm v1": ("slurm/uid_1000/job_17/step_batch", Workload("job", "slurm", "17")),
    "slurm v1, several daemons": (
        "slurm_node-1/uid_0/job_18",
        Workload("job", "slurm", "18"),
    ),
    "libvirt, systemd": (
        r"machine.slice/machine-qemu\x2d12\x2ddb\x2dprimary.scope/libvirt/emulator",
        Workload("guest", "", "db-primary"),
    ),
    "libvirt v1": ("machine/ubuntu.libvirt-qemu/vcpu0", Workload("guest", "", "ubuntu")),
    "proxmox": ("qemu.slice/105.scope", Workload("guest", "", "105")),
    "service": ("system.slice/vllm.service", Workload("service", "", "vllm.service")),
}


def census(machine: Machine, limit: int = 100) -> Census:
    return Census(machine.host, machine.clock, ("vllm*",), limit)


def plant(machine: Machine, *paths: str) -> None:
    for path in paths:
        (machine.root / ROOT / path).mkdir(parents=True, exist_ok=True)


@pytest.mark.parametrize(("path", "owner"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_path_belongs_to_its_outermost_workload(
    machine: Machine, path: str, owner: Workload
) -> None:
    plant(machine, path, "system.slice/ssh.service", "user.slice/user-0.slice", "init.scope")
    found = census(machine)
    assert found.look(ROOT)
    assert list(found.groups) == [owner]


@pytest.mark.parametrize(
    "path",
    [
        "init.scope",
        "system.slice/ssh.service",
        "system.slice/dev-hugepages.mount",
        "user.slice/user-1000.slice/session-1.scope",
        f"system.slice/pod{UID}",
        f"machine.slice/libpod-conmon-{ID}.scope",
        f"crio-conmon-{ID}.scope",
        "kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podnonsense.slice",
        "system.slice/slurmstepd.scope/system",
        "system.slice/containerd.service/tasks",
    ],
)
def test_what_is_no_workload_is_left_to_system(machine: Machine, path: str) -> None:
    plant(machine, path)
    found = census(machine)
    found.look(ROOT)
    assert not found.groups


@given(
    branch=st.sampled_from(Branch), name=st.text(st.characters(codec="utf-8"), min_size=1), at=...
)
def test_any_name_is_a_printable_workload_or_none(branch: Branch, name: str, at: bool) -> None:
    what = step(branch, f"machine-qemu\\x2d1\\x2d{name}.scope" if at else name, ("*",))
    if isinstance(what, Workload):
        assert all(label.isprintable() for label in what)
        assert what.name


def test_a_pod_moved_between_drivers_is_one_workload(machine: Machine) -> None:
    """After a change of driver the old, empty tree and the new one stand side by side."""
    old = f"kubepods/burstable/pod{UID}"
    new = f"kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice"
    plant(machine, old, new)
    found = census(machine)
    found.look(ROOT)
    assert found.groups == {POD: (new, old)}


def test_names_come_from_the_log_folders_and_the_uid_stands_in(machine: Machine) -> None:
    plant(machine, f"kubepods/pod{UID}", f"kubepods/burstable/pod{HASH}")
    (machine.root / f"var/log/pods/kube-system_etcd-node1_{HASH}").mkdir(parents=True)
    (machine.root / "var/log/pods/odd").mkdir()
    found = census(machine)
    found.look(ROOT)
    assert set(found.groups) == {Workload("pod", "kube-system", "etcd-node1"), POD}


def test_a_young_pod_waits_for_its_name_and_not_for_ever(machine: Machine) -> None:
    plant(machine, "kubepods")
    (machine.root / "var/log/pods").mkdir(parents=True)
    found = census(machine)
    found.look(ROOT)
    plant(machine, f"kubepods/pod{UID}", f"kubepods/pod{HASH}")
    machine.clock.advance(1)
    assert found.look(ROOT)
    assert not found.groups
    (machine.root / f"var/log/pods/web_a_{UID}").mkdir()
    machine.clock.advance(1)
    assert found.look(ROOT)
    assert list(found.groups) == [Workload("pod", "web", "a")]
    machine.clock.advance(30)
    found.look(ROOT)
    assert set(found.groups) == {Workload("pod", "web", "a"), Workload("pod", "", HASH)}


def test_nothing_is_walked_while_no_folder_changed(machine: Machine) -> None:
    plant(machine, f"kubepods/burstable/pod{UID}")
    found = census(machine)
    assert found.look(ROOT)
    machine.clock.advance(1)
    assert not found.look(ROOT)
    plant(machine, f"kubepods/burstable/pod{HASH}")
    machine.clock.advance(1)
    assert found.look(ROOT)
    assert len(found.groups) == 2
    machine.clock.advance(61)
    assert found.look(ROOT)


def test_beyond_the_limit_those_who_were_there_stay_and_a_fault_says_so(machine: Machine) -> None:
    plant(machine, f"docker/{'f' * 64}")
    found = census(machine, limit=2)
    found.look(ROOT)
    plant(machine, *(f"docker/{letter * 64}" for letter in "abc"))
    found.look(ROOT, again=True)
    assert [workload.name for workload in found.groups] == ["f" * 12, "a" * 12]
    (note,) = found.notes
    assert note.reason is Reason.UNSUPPORTED
    assert "4 workloads; 2 beyond the limit are billed to system" in note.detail


def test_a_folder_that_may_not_be_listed_costs_only_what_is_in_it(machine: Machine) -> None:
    plant(machine, f"kubepods/burstable/pod{UID}", f"kubepods/besteffort/pod{HASH}")
    folder = machine.root / ROOT / "kubepods/burstable"
    folder.chmod(0)
    found = census(machine)
    with machine.as_nobody():
        found.look(ROOT)
    folder.chmod(0o755)
    assert list(found.groups) == [Workload("pod", "", HASH)]
    assert [note.reason for note in found.notes] == [Reason.DENIED]


@pytest.mark.parametrize(
    ("files", "mount", "unified"),
    [
        (("cgroup.controllers",), ROOT, True),
        (("cpu,cpuacct/cpuacct.usage",), f"{ROOT}/cpu,cpuacct", False),
        (("cpuacct/cpuacct.usage", "cpu/cpu.shares"), f"{ROOT}/cpuacct", False),
        (
            ("unified/cgroup.controllers", "cpu,cpuacct/cpuacct.usage"),
            f"{ROOT}/cpu,cpuacct",
            False,
        ),
        (("unified/cgroup.controllers", "pids/tasks"), f"{ROOT}/unified", True),
    ],
    ids=["v2", "v1", "v1 apart", "hybrid", "hybrid without cpuacct"],
)
def test_the_tree_that_accounts_for_cpu_time(
    machine: Machine, files: tuple[str, ...], mount: str, unified: bool
) -> None:
    for file in files:
        machine.write(f"{ROOT}/{file}", "")
    assert hierarchy(machine.host, "cpu,cpuacct", "cpuacct") == (mount, unified)


def test_a_machine_without_control_groups_has_none(machine: Machine) -> None:
    with pytest.raises(SourceError) as error:
        hierarchy(machine.host, "cpuacct")
    assert error.value.reason is Reason.ABSENT
