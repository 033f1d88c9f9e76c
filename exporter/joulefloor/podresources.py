"""Which pod holds which GPU or TPU, as the kubelet of this node says.

The question is asked by a worker process (`joulefloor.kubelet`), which is started only where there
is a kubelet and a device that a pod could hold.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from joulefloor import catalogue
from joulefloor.census import Census, processes
from joulefloor.cgroups import hierarchy
from joulefloor.deviceids import DRA_AMD, PCI, Held, UnknownDeviceError, held
from joulefloor.errors import Reason, SourceError
from joulefloor.frames import Kind
from joulefloor.model import (
    EVERY_DEVICE,
    IDLE,
    PROCESS,
    UNKNOWN_DEVICE,
    Batch,
    Channel,
    Fault,
    Measures,
    Reading,
    Workload,
)
from joulefloor.units import nanoseconds_from_seconds
from joulefloor.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from joulefloor.clock import Clock
    from joulefloor.host import Host

FOLDER = "var/lib/kubelet/pod-resources"
SOCKET = f"{FOLDER}/kubelet.sock"
NVIDIA = "proc/driver/nvidia/gpus"
DRM = "sys/class/drm"
DEADLINE_SECONDS = 4.0
"""The worker waits 2 s for the kubelet, and needs some time to start."""
SIGNS = {
    "gpu": (NVIDIA, "dev/nvidiactl", "dev/kfd", "sys/class/kfd"),
    "tpu": ("dev/accel0", "dev/vfio/0", "sys/class/vfio/0"),
}
"""What a machine with devices of a component has; a daemon in a pod sees no /dev of the host."""
ACCELERATOR = "sys/class/accel/accel0/device/vendor"
GOOGLE = "0x1ae0"
"""Other vendors' accelerators are of the same class and no TPUs."""
ROOT_ONLY = "the kubelet answers root only: run as uid 0, in the chart rapl.mode: root"
MOST_FAULTS = 20
MOST_PODS = 1000

_NODE = re.compile(r"card\d+|renderD\d+")


class DeviceSource:
    """Devices and their holders. A device that is not on the kubelet's list is free.

    Reads: var/lib/kubelet/pod-resources/kubelet.sock (the folder must be mounted, since the kubelet
    makes the socket anew when it starts), proc/driver/nvidia/gpus/*/information, the links
    sys/class/drm/*/device, cgroup.procs of pods that share a GPU, and the signs of a device that a
    pod could hold: dev/nvidiactl, dev/kfd, dev/accel0, dev/vfio/0, sys/class/kfd, sys/class/vfio/0,
    sys/class/accel/accel0/device/vendor.
    Raises: ABSENT without the folder or without devices, DENIED where the folder or the socket is
    root's alone, LOST while the kubelet does not answer, UNSUPPORTED when grpcio is not installed.
    """

    name = "workloads-devices"
    deadline_s = DEADLINE_SECONDS + 1.0

    def __init__(self, host: Host, clock: Clock, period_s: float) -> None:
        """Nothing is started before the first read."""
        self.period_s = period_s
        self._host = host
        self._clock = clock
        self._known: dict[tuple[str, ...], Channel] = {}
        self._census = Census(host, clock, (), MOST_PODS)
        command = (sys.executable, "-m", "joulefloor.kubelet", f"{host.root}/{SOCKET}")
        self._worker = Worker(command, clock, {"GRPC_VERBOSITY": "NONE"})

    def channels(self) -> tuple[Channel, ...]:
        """Every holder of every device, and the completeness of the list."""
        return tuple(reading.channel for reading in self.read().readings)

    def read(self) -> Batch:
        """What each pod holds: 1 for a device, or the number of its replicas."""
        try:
            components, rows = self._components(), self._ask()
        except SourceError as error:
            if error.reason is Reason.DENIED:
                raise SourceError(Reason.DENIED, f"{error.detail}; {ROOT_ONLY}") from None
            raise
        by_minor = self._by_minor()
        by_card = self._by_card() if any(row[2] == DRA_AMD for row in rows) else {}
        claims: dict[tuple[str, ...], float] = {}
        lost: dict[str, None] = {}
        for namespace, pod, resource, device in rows:
            try:
                found = held(resource, device, by_minor, by_card)
            except UnknownDeviceError as error:
                lost[f"{namespace}/{pod} holds {error}"] = None
                found = Held(error.component, f"{UNKNOWN_DEVICE}{resource} {device}")
            if found is not None:
                who = Workload("pod", namespace, pod)
                labels = (found.component, found.device, *who, "claim")
                claims[labels] = claims.get(labels, 0.0) + found.amount
        for component in components:
            claims[component, EVERY_DEVICE, *IDLE, "claim"] = 1.0
        for process, owner in self._processes(claims):
            claims["gpu", f"{PROCESS}:{process}", *owner, "activity"] = 1.0
        at_ns = self._clock.monotonic_ns()
        faults = [Fault(None, Reason.UNSUPPORTED, text, at_ns) for text in lost]
        self._known = {labels: self._known.get(labels) or _claim(labels) for labels in claims}
        readings = [Reading(self._known[labels], claims[labels], at_ns) for labels in claims]
        return Batch(tuple(readings), tuple(faults[:MOST_FAULTS]))

    def close(self) -> None:
        """End the worker."""
        self._worker.stop()
        self._census.forget()

    def _processes(self, claims: Iterable[tuple[str, ...]]) -> Iterator[tuple[int, Workload]]:
        """Processes of pods that share a GPU, which are told apart by what each does there.

        Process ids are those of the machine only if the daemon sees them (hostPID); 0 if not.
        """
        holders: dict[str, set[Workload]] = {}
        for component, device, *owner, _ in claims:
            if component == "gpu":
                holders.setdefault(device, set()).add(Workload(*owner))
        sharing = set().union(*(pods for pods in holders.values() if len(pods) > 1))
        if not sharing:
            return
        try:
            tree = hierarchy(self._host, "cpu,cpuacct", "cpuacct,cpu", "cpuacct")
            self._census.look(tree.mount)
        except SourceError:
            return
        for pod in sorted(sharing & self._census.groups.keys()):
            for path in self._census.groups[pod]:
                for process in processes(self._host, f"{tree.mount}/{path}"):
                    yield process, pod

    def _components(self) -> Sequence[str]:
        found = [name for name, signs in SIGNS.items() if any(map(self._host.has, signs))]
        if "tpu" not in found and self._host.text_or(ACCELERATOR, "").strip() == GOOGLE:
            found.append("tpu")
        there = self._host.exists(FOLDER) if found else self._host.has(FOLDER)
        if not there:
            raise SourceError(Reason.ABSENT, f"{FOLDER}: no kubelet here, or it is not mounted")
        if not found:
            raise SourceError(Reason.ABSENT, "no GPU or TPU that a pod could hold")
        return found

    def _by_minor(self) -> dict[str, str]:
        """UUIDs of NVIDIA GPUs by device minor, from the driver's own list."""
        try:
            folders = self._host.folders(NVIDIA)
        except SourceError:
            return {}
        by_minor: dict[str, str] = {}
        for folder in folders:
            text = self._host.text_or(f"{NVIDIA}/{folder}/information", "")
            lines = (line.partition(":") for line in text.splitlines())
            facts = {key.strip(): value.strip() for key, _, value in lines}
            if "Device Minor" in facts and "GPU UUID" in facts:
                by_minor[facts["Device Minor"]] = facts["GPU UUID"]
        return by_minor

    def _by_card(self) -> dict[str, str]:
        """PCI addresses of GPUs by the names of their nodes under /dev/dri."""
        try:
            names = self._host.names(DRM)
        except SourceError:
            return {}
        by_card: dict[str, str] = {}
        for name in filter(_NODE.fullmatch, names):
            try:
                address = self._host.resolve(f"{DRM}/{name}/device").rpartition("/")[2]
            except SourceError:
                continue
            if PCI.fullmatch(address):
                by_card[name] = address
        return by_card

    def _ask(self) -> Iterable[tuple[str, str, str, str]]:
        """Rows of the kubelet's list."""
        if not self._host.exists(SOCKET):
            self._worker.stop()
            raise SourceError(Reason.LOST, f"{SOCKET}: the kubelet is not running")
        until_ns = self._clock.monotonic_ns() + nanoseconds_from_seconds(DEADLINE_SECONDS)
        if not self._worker.running:
            self._worker.start()
        number = self._worker.ask()
        rows: list[tuple[str, str, str, str]] = []
        while True:
            frames = self._worker.receive(until_ns)
            if not frames:
                self._worker.stop()
                self._worker.lived(well=False)
                raise SourceError(Reason.LATE, "the worker that asks the kubelet does not answer")
            for frame in frames:
                if frame.body[0] != number:
                    continue
                if frame.kind is Kind.VALUES:
                    rows += frame.body[1]
                elif frame.kind is Kind.BEAT:
                    _, _, reason, detail = frame.body
                    if reason:
                        raise SourceError(Reason(reason), detail)
                    self._worker.answered()
                    return rows


def _claim(labels: tuple[str, ...]) -> Channel:
    return Channel(catalogue.WORKLOAD_DEVICE_SHARE, labels, Measures.HOLD)
