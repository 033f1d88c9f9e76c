"""Which control groups are workloads, by their names alone.

Walking the mounted tree needs neither the host's process ids nor ptrace, and a group's counters
keep what its ended processes used. The outermost workload on a path owns what is below it, so that
containers inside a pod, or Docker inside one, belong to the pod.

`census` walks the tree with it.
"""

from __future__ import annotations

import re
from enum import Enum
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from joulefloor.errors import Reason, SourceError
from joulefloor.model import Workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from joulefloor.host import Host

CGROUPS = "sys/fs/cgroup"
ID_LETTERS = 12
"""A container is called by the first letters of its id, as the engines print it."""

_UID = r"(?P<uid>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})"
_POD = re.compile(rf"(?:.*-)?pod{_UID}(?:\.slice)?(?::.*)?")
_CONTAINER = re.compile(r"(?:(?P<engine>[a-z-]+)-)?(?P<id>[0-9a-f]{64})(?:\.scope)?")
_ENGINES = frozenset({None, "docker", "libpod", "nerdctl", "cri-containerd", "crio", "containerd"})
_LXC = re.compile(r"lxc\.payload\.(?P<name>.+)")
_GUEST = re.compile(r"machine-(?:qemu-\d+-|lxc-\d+-)?(?P<name>.+)\.scope")
_GUEST_V1 = re.compile(r"(?:machine-)?(?:qemu-\d+-)?(?P<name>.+)\.libvirt-(?:qemu|lxc)")
_JOB = re.compile(r"job_(?P<id>\w+)")
_SLURM = re.compile(r"(?:\w+_)?slurmstepd\.scope|slurm(?:_[\w.-]+)?")
_RUNTIME = re.compile(r".*(?:containerd|docker|cri-?o|kubelet|k3s|rke2|k0s|microk8s).*\.service")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
_CLOSED = (".mount", ".swap", ".socket", ".device", ".timer", ".path", ".scope")


class Branch(Enum):
    """What a folder that is no workload may hold."""

    OPEN = "anything"
    PODS = "pods and their classes of service"
    JOBS = "users and jobs of Slurm"
    GUESTS = "virtual machines by number"
    RUNTIME = "pods, of an engine that disagrees with the kubelet about the driver"


def step(branch: Branch, name: str, services: Sequence[str] = ()) -> Workload | Branch | None:
    """What a folder inside a branch is: a workload, another branch, or nothing of interest.

    `services`: patterns of systemd services that count as workloads.
    """
    if not name.isprintable():
        return None
    if branch is Branch.JOBS:
        return _job(name)
    if branch is Branch.GUESTS:
        number = name.removesuffix(".scope")
        return Workload("guest", "", number) if number.isdigit() else None
    within = _pod(branch, name)
    if within is not None or branch is not Branch.OPEN:
        return within
    return _machine(name) or _unit(name, services)


def _pod(branch: Branch, name: str) -> Workload | Branch | None:
    """A pod, or what holds pods."""
    pod = _POD.fullmatch(name)
    if pod is not None and (branch is Branch.PODS or "kubepods" in name):
        return Workload("pod", "", pod["uid"].replace("_", "-"))
    root = name == "kubepods" or name.endswith("kubepods.slice")
    if branch is Branch.PODS:
        root = name in {"burstable", "besteffort", "guaranteed"} or name.endswith(".slice")
    return Branch.PODS if root else None


def _job(name: str) -> Workload | Branch | None:
    job = _JOB.fullmatch(name)
    if job is not None:
        return Workload("job", "slurm", job["id"])
    return Branch.JOBS if name.startswith("uid_") else None


def _machine(name: str) -> Workload | None:
    """A container or a virtual machine."""
    container = _CONTAINER.fullmatch(name)
    if container is not None:
        known = container["engine"] in _ENGINES
        return Workload("container", "", container["id"][:ID_LETTERS]) if known else None
    plain = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), name)
    for pattern, kind in ((_LXC, "container"), (_GUEST, "guest"), (_GUEST_V1, "guest")):
        found = pattern.fullmatch(plain)
        if found is not None and plain.isprintable():
            return Workload(kind, "", found["name"])
    return None


def _unit(name: str, services: Sequence[str]) -> Workload | Branch | None:
    if _SLURM.fullmatch(name):
        return Branch.JOBS
    if name == "qemu.slice":
        return Branch.GUESTS
    if name.endswith(".service"):
        if _RUNTIME.fullmatch(name):
            return Branch.RUNTIME
        chosen = any(fnmatchcase(name, pattern) for pattern in services)
        return Workload("service", "", name) if chosen else None
    if name == "user.slice" or name.endswith(_CLOSED):
        return None
    return Branch.OPEN


class Hierarchy(NamedTuple):
    """A mounted tree of control groups: where it is and which version of files it has."""

    mount: str
    unified: bool


def hierarchy(host: Host, *controllers: str) -> Hierarchy:
    """The tree that accounts for one of the controllers, best first ("cpu,cpuacct", "memory").

    Version 2 has one tree; version 1, and the hybrid of both, has one per controller.

    Raises:
        SourceError: ABSENT when no tree is mounted.
    """
    if host.has(f"{CGROUPS}/cgroup.controllers"):
        return Hierarchy(CGROUPS, unified=True)
    for controller in controllers:
        if host.has(f"{CGROUPS}/{controller}"):
            return Hierarchy(f"{CGROUPS}/{controller}", unified=False)
    if host.has(f"{CGROUPS}/unified/cgroup.controllers"):
        return Hierarchy(f"{CGROUPS}/unified", unified=True)
    raise SourceError(Reason.ABSENT, f"{CGROUPS}: no control groups with {controllers[-1]} mounted")
