"""A Kubernetes node for tests: control groups, counters and a kubelet that live.

Its files are those of tests/hosts/k8s-v2-systemd.host and of pods that come and go as the kubelet
and the kernel make them; a thread moves CPU time and energy. The kubelet is a real gRPC server.
"""

from __future__ import annotations

import shutil
import threading
import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from joulefloor.podresources import SOCKET
from tests.kubelet import Kubelet, Pod
from tests.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HOST_FILE: Final = "k8s-v2-systemd"
CPUS: Final = 2.0
IDLE_WATTS: Final = 20.0
BUSY_WATTS: Final = 60.0
"""What busy CPUs add to the package."""
DRAM_WATTS: Final = 4.0
SYSTEM_CPUS: Final = 0.01
STEP_S: Final = 0.05
GIBIBYTE: Final = 1 << 30
ZONE: Final = "sys/devices/virtual/powercap/intel-rapl/intel-rapl:0"
SLICE: Final = "sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice"
CARD: Final = "0000:c1:00.0"
CARD_PATH: Final = "sys/devices/pci0000:c0/0000:c0:01.1/0000:c1:00.0"
GPU_WATTS: Final = 250


class Load(NamedTuple):
    """A pod that runs: what the kubelet says of it, its UID, and the CPUs that it keeps busy."""

    pod: Pod
    uid: str
    cpus: float

    @property
    def group(self) -> str:
        """Its control group."""
        return f"{SLICE}/kubepods-burstable-pod{self.uid.replace('-', '_')}.slice"

    @property
    def logs(self) -> str:
        """The folder that says its name."""
        return f"var/log/pods/{self.pod.namespace}_{self.pod.name}_{self.uid}"


class ClusterNode:
    """The node; pods are started and ended by the test, and time passes while it is `alive`."""

    def __init__(self, root: Path) -> None:
        """Four idle pods run from the start; the kubelet serves nothing before it is started."""
        self.machine = Machine(root, host_file=HOST_FILE)
        self.kubelet = Kubelet(root / SOCKET)
        self._loads: dict[tuple[str, str], Load] = {}
        self._used_s: dict[str, float] = {}
        self._busy_s = self._elapsed_s = 0.0
        self._times = [
            (words[0], [int(word) for word in words[1:]])
            for words in map(str.split, self.machine.host.text("proc/stat").splitlines())
            if words[0].startswith("cpu")
        ]
        self._energy = {
            path: int(self.machine.host.text(path))
            for path in (f"{ZONE}/energy_uj", f"{ZONE}/intel-rapl:0:0/energy_uj")
        }
        self._lock = threading.Lock()

    def add_gpu(self) -> None:
        """Put an AMD accelerator in, whose driver says its power."""
        machine, card = self.machine, self.machine.root / CARD_PATH
        machine.write("sys/class/kfd/kfd/topology/generation_id", "2")
        machine.write(f"{CARD_PATH}/hwmon/hwmon3/name", "amdgpu")
        machine.write(f"{CARD_PATH}/hwmon/hwmon3/power1_average", GPU_WATTS * 1_000_000)
        machine.write(f"{CARD_PATH}/hwmon/hwmon3/power1_cap", 2 * GPU_WATTS * 1_000_000)
        (card / "hwmon/hwmon3/device").symlink_to(card)
        for folder in ("sys/bus/pci", "sys/class/hwmon"):
            (machine.root / folder).mkdir(parents=True, exist_ok=True)
        (card / "subsystem").symlink_to(machine.root / "sys/bus/pci")
        (machine.root / "sys/class/hwmon/hwmon3").symlink_to(card / "hwmon/hwmon3")

    def start(self, pod: Pod, *, cpus: float = 0.0, gib: float = 0.25) -> None:
        """Start a pod: its group first, then its folder of logs, then the kubelet knows it."""
        load = Load(pod, str(uuid.uuid4()), cpus)
        made = self.machine.root / "made" / load.uid
        made.mkdir(parents=True)
        (made / "cpu.stat").write_text(_cpu_stat(0.0))
        (made / "memory.current").write_text(f"{round(gib * GIBIBYTE)}\n")
        with self._lock:
            # The kernel makes a group with all of its files at once.
            made.rename(self.machine.root / load.group)
            self._loads[pod.namespace, pod.name] = load
        (self.machine.root / load.logs).mkdir(parents=True)
        self.kubelet.pods = (*self.kubelet.pods, pod)

    def end(self, namespace: str, name: str) -> None:
        """End a pod, in the order in which the kubelet does."""
        with self._lock:
            load = self._loads.pop((namespace, name))
            gone = self.machine.root / "made" / f"{load.uid}-gone"
            (self.machine.root / load.group).rename(gone)
        shutil.rmtree(gone)
        (self.machine.root / load.logs).rmdir()
        self.kubelet.pods = tuple(pod for pod in self.kubelet.pods if pod != load.pod)

    def pass_time(self, seconds: float) -> None:
        """Let every pod work for so long, and the machine draw power."""
        with self._lock:
            wanted = sum(load.cpus for load in self._loads.values()) + SYSTEM_CPUS
            # Who wants more than there is gets less, all alike.
            granted = min(1.0, CPUS / wanted)
            busy_s = wanted * granted * seconds
            self._busy_s += busy_s
            self._elapsed_s += seconds
            self._write_times()
            for load in self._loads.values():
                if load.cpus:
                    used_s = self._used_s.get(load.uid, 0.0) + load.cpus * granted * seconds
                    self._used_s[load.uid] = used_s
                    self._put(f"{load.group}/cpu.stat", _cpu_stat(used_s))
            package, dram = self._energy
            joules = IDLE_WATTS * seconds + BUSY_WATTS * busy_s / CPUS
            self._energy[package] += round(joules * 1e6)
            self._energy[dram] += round(DRAM_WATTS * seconds * 1e6)
            for path, microjoules in self._energy.items():
                self._put(path, f"{microjoules}\n")

    @contextmanager
    def alive(self) -> Iterator[None]:
        """Let time pass as on the wall until the block ends."""
        stop = threading.Event()
        thread = threading.Thread(target=self._live, args=(stop,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def _live(self, stop: threading.Event) -> None:
        last = time.monotonic()
        while not stop.wait(STEP_S):
            now = time.monotonic()
            self.pass_time(now - last)
            last = now

    def _write_times(self) -> None:
        """proc/stat, in ticks of a hundredth of a second: user time and idle time."""
        lines = []
        for name, times in self._times:
            share = 1.0 if name == "cpu" else 1.0 / CPUS
            busy = round(self._busy_s * share * 100)
            rest = round((self._elapsed_s * CPUS - self._busy_s) * share * 100)
            user, nice, system, idle, *others = times
            lines.append(
                " ".join(map(str, (name, user + busy, nice, system, idle + rest, *others)))
            )
        self._put("proc/stat", "\n".join(lines) + "\n")

    def _put(self, path: str, text: str) -> None:
        """Replace a file's content in one write, so that no reader meets it half done."""
        file = self.machine.root / path
        with file.open("r+b", buffering=0) as raw:
            raw.write(text.encode().ljust(file.stat().st_size, b"\n"))


def _cpu_stat(used_s: float) -> str:
    """What a group says of its CPU time, all of it spent in programs."""
    used_us = round(used_s * 1e6)
    return f"usage_usec {used_us}\nuser_usec {used_us}\nsystem_usec 0\n"
