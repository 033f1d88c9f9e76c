"""Finds the workloads of a machine: a walk over the folders of a tree of control groups.

Shared by the sources that read control groups, because sources do not import each other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from joulefloor.cgroups import Branch, step
from joulefloor.errors import Reason, SourceError
from joulefloor.model import Workload
from joulefloor.units import nanoseconds_from_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from joulefloor.clock import Clock
    from joulefloor.host import Host

POD_LOGS = "var/log/pods"
"""One folder per pod, `namespace_name_uid`: the kubelet makes it before it starts containers."""
RESCAN_SECONDS = 60.0
NAME_PATIENCE_SECONDS = 30.0
"""A pod has a group before it has a log folder; so long it counts as system, not by its UID."""
DEEPEST = 8
"""Folders below the root beyond which nobody puts workloads."""
LONGEST_ID = 10
"""Digits of the largest process id, 2**22, and some more."""

_KUBELET = re.compile(r"kubelet(?:\.slice)?|(?:.*-)?kubepods(?:\.slice)?")


class Group(NamedTuple):
    """A control group of a workload; pods are named by their UID here."""

    path: str
    workload: Workload


def processes(host: Host, path: str, depth: int = 0) -> Iterator[int]:
    """Ids of the processes in a group and the groups below it, as far as this process sees them."""
    for word in host.text_or(f"{path}/cgroup.procs", "").split():
        if word.isascii() and word.isdigit() and word != "0":
            yield int(word[:LONGEST_ID])
    if depth < DEEPEST:
        try:
            names = host.folders(path)
        except SourceError:
            return
        for name in names:
            yield from processes(host, f"{path}/{name}", depth + 1)


class Census:
    """Counts the workloads of one tree, again whenever one may have come or gone.

    A folder that gains or loses a folder changes its stamp, so that looking costs one call per
    folder that holds workloads, and nothing per workload.

    Reads: names of folders under sys/fs/cgroup and var/log/pods.
    """

    def __init__(self, host: Host, clock: Clock, services: Sequence[str], limit: int) -> None:
        """At most `limit` workloads are told apart."""
        self.groups: dict[Workload, tuple[str, ...]] = {}
        self.notes: tuple[SourceError, ...] = ()
        self._host = host
        self._clock = clock
        self._services = services
        self._limit = limit
        self._stamps: dict[str, tuple[int, int]] = {}
        self._names: dict[str, Workload] = {}
        self._seen_ns: dict[str, int] = {}
        self._due_ns = 0
        self._begun = False

    def look(self, mount: str, *, again: bool = False) -> bool:
        """Walk the tree if anything may have changed; True if it was walked.

        Raises:
            SourceError: the root of the tree cannot be listed.
        """
        now_ns = self._clock.monotonic_ns()
        still = not again and now_ns < self._due_ns and bool(self._stamps)
        if still and all(self._host.stamp(path) == old for path, old in self._stamps.items()):
            return False
        first, self._begun = not self._begun, True
        self._stamps = {POD_LOGS: self._host.stamp(POD_LOGS)}
        notes: list[SourceError] = []
        found = sorted(self._walk(mount, "", Branch.OPEN, 0, notes))
        self._due_ns = now_ns + nanoseconds_from_seconds(RESCAN_SECONDS)
        self._name(found, notes)
        self._keep(self._by_workload(found, now_ns, patient=not first), notes)
        self.notes = tuple(notes)
        return True

    def forget(self) -> None:
        """Walk at the next look, whatever the stamps say."""
        self._stamps = {}

    def _walk(
        self, mount: str, folder: str, branch: Branch, depth: int, notes: list[SourceError]
    ) -> Iterator[Group]:
        path = f"{mount}/{folder}" if folder else mount
        self._stamps[path] = self._host.stamp(path)
        try:
            names = self._host.folders(path)
        except SourceError as error:
            if not folder:
                raise
            if error.reason is not Reason.ABSENT:
                notes.append(error)
            return
        for name in names:
            inner = f"{folder}/{name}" if folder else name
            what = step(branch, name, self._services)
            if isinstance(what, Branch):
                if depth < DEEPEST:
                    yield from self._walk(mount, inner, what, depth + 1, notes)
            elif what is not None and not self._holds_kubelet(what, f"{mount}/{inner}"):
                yield Group(inner, what)
            elif what is not None:
                yield from self._walk_node(mount, inner, depth + 1, notes)

    def _holds_kubelet(self, workload: Workload, path: str) -> bool:
        """Whether a container is a whole node of a cluster, as kind and k3d run them."""
        if workload.kind != "container":
            return False
        self._stamps[path] = self._host.stamp(path)
        try:
            return any(map(_KUBELET.fullmatch, self._host.folders(path)))
        except SourceError:
            return False

    def _walk_node(
        self, mount: str, folder: str, depth: int, notes: list[SourceError]
    ) -> Iterator[Group]:
        try:
            names = self._host.folders(f"{mount}/{folder}")
        except SourceError as error:
            notes.append(error)
            return
        for name in names:
            what = step(Branch.OPEN, name)
            if _KUBELET.fullmatch(name) and isinstance(what, Branch):
                yield from self._walk(mount, f"{folder}/{name}", what, depth, notes)

    def _name(self, found: Sequence[Group], notes: list[SourceError]) -> None:
        """Learn the names of pods that have none yet."""
        uids = {group.workload.name for group in found if group.workload.kind == "pod"}
        self._names = {uid: name for uid, name in self._names.items() if uid in uids}
        if uids <= self._names.keys():
            return
        try:
            folders = self._host.folders(POD_LOGS)
        except SourceError as error:
            if error.reason is not Reason.ABSENT:
                hint = "pods are named by their UID; mount it readable"
                notes.append(SourceError(error.reason, f"{error.detail}: {hint}"))
            return
        for folder in folders:
            words = folder.split("_")
            if len(words) == 3 and words[2] in uids and folder.isprintable():  # noqa: PLR2004  # namespace, name, uid
                self._names[words[2]] = Workload("pod", words[0], words[1])

    def _by_workload(
        self, found: Sequence[Group], now_ns: int, *, patient: bool
    ) -> dict[Workload, list[str]]:
        """Paths of each workload, pods by name; young pods without a name are left out."""
        patience_ns = nanoseconds_from_seconds(NAME_PATIENCE_SECONDS)
        named = self._stamps[POD_LOGS] != (0, 0)
        seen_ns, self._seen_ns = self._seen_ns, {}
        workloads: dict[Workload, list[str]] = {}
        for path, workload in found:
            who = workload
            if workload.kind == "pod":
                born_ns = seen_ns.get(workload.name, now_ns if patient else now_ns - patience_ns)
                self._seen_ns[workload.name] = born_ns
                who = self._names.get(workload.name, workload)
                if named and who is workload and now_ns - born_ns < patience_ns:
                    self._due_ns = min(self._due_ns, born_ns + patience_ns)
                    continue
            workloads.setdefault(who, []).append(path)
        return workloads

    def _keep(self, workloads: dict[Workload, list[str]], notes: list[SourceError]) -> None:
        """Keep as many as allowed, those that were there before first."""
        surplus = len(workloads) - self._limit
        ranked = sorted(workloads, key=lambda workload: workload not in self.groups)
        self.groups = {workload: tuple(workloads[workload]) for workload in ranked[: self._limit]}
        if surplus > 0:
            detail = f"{len(workloads)} workloads; {surplus} beyond the limit are billed to system"
            notes.append(
                SourceError(Reason.UNSUPPORTED, f"{detail}: raise sources.workloads.limit")
            )
