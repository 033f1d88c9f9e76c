"""Case 6 of the failures of this field: four pods and an MPS server on one GPU, end to end.

Driver, kubelet, control groups and daemon are real programs or files; bills add up to the GPU.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from joulefloor.podresources import SOCKET
from tests.kubelet import Kubelet, Pod
from tests.machine import Machine
from tests.nvml.build import compiler
from tests.nvml.scenario import FakeDriver
from tests.process.test_shared_gpus import CONFIG, joules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.process.conftest import Daemon

pytestmark = pytest.mark.skipif(compiler() is None, reason="gcc compiles the fake driver")

GIB = 1 << 30
NAMES = ("p1", "p2", "p3", "p4")
PERCENT = {"p1": 10, "p2": 20, "p3": 30, "p4": 0}
PART = 'joulefloor_part_energy_joules_total{component="gpu"'


class Layout(NamedTuple):
    """How a node names the control groups of a pod, its memory and its containers."""

    host_file: str
    pod: str
    usage: str
    memory: str
    container: str


V2, V1 = "sys/fs/cgroup", "sys/fs/cgroup/cpu,cpuacct"
LAYOUTS = {
    "v2-systemd": Layout(
        "k8s-v2-systemd",
        f"{V2}/kubepods.slice/kubepods-pod{{under}}.slice",
        "cpu.stat",
        f"{V2}/kubepods.slice/kubepods-pod{{under}}.slice/memory.current",
        "cri-containerd-{container}.scope",
    ),
    "v1-cgroupfs": Layout(
        "k8s-v1-cgroupfs",
        f"{V1}/kubepods/pod{{uid}}",
        "cpuacct.usage",
        "sys/fs/cgroup/memory/kubepods/pod{uid}/memory.usage_in_bytes",
        "{container}",
    ),
}


class Rack:
    """A node with one GPU on the fake driver, four pods that share it and their kubelet."""

    def __init__(self, root: Path, layout: Layout) -> None:
        """Process 101 is the first pod's, 102 the second's, and so on."""
        self.layout = layout
        self.machine = Machine(root / "h", host_file=layout.host_file)
        self.driver = FakeDriver(root / "driver")
        self.gpu = self.driver.gpu(0, "h100-sxm5").put("load", 400_000)
        self.machine.write("dev/nvidiactl", "")
        self.kubelet = Kubelet(root / "h" / SOCKET)
        usage = "1000" if layout.usage == "cpuacct.usage" else "usage_usec 1"
        pods = []
        for number, name in enumerate(NAMES, 1):
            self.machine.write(f"{self.path(number)}/{layout.usage}", usage)
            self.machine.write(self.layout.memory.format(**self.ids(number)), 1)
            self.owns(number, 100 + number)
            logs = f"var/log/pods/share_{name}_{self.ids(number)['uid']}"
            (self.machine.root / logs).mkdir(parents=True)
            held = (("nvidia.com/gpu", (f"{self.gpu.keys['uuid']}::{number}",)),)
            pods.append(Pod("share", name, held))
        self.kubelet.pods = tuple(pods)

    def ids(self, number: int) -> dict[str, str]:
        uid = f"5f1c7c0e-2b1a-4c55-9d3e-00000000000{number}"
        return {"uid": uid, "under": uid.replace("-", "_"), "container": str(number) * 64}

    def path(self, number: int) -> str:
        return self.layout.pod.format(**self.ids(number))

    def owns(self, number: int, *processes: int) -> None:
        """These are the processes of a pod now."""
        container = self.layout.container.format(**self.ids(number))
        lines = "\n".join(map(str, processes))
        self.machine.write(f"{self.path(number)}/{container}/cgroup.procs", lines)


@pytest.fixture(params=sorted(LAYOUTS))
def rack(request: pytest.FixtureRequest) -> Iterator[Rack]:
    """Its folder has few letters: a socket's path may have 107."""
    folder = Path(tempfile.mkdtemp(prefix="jf-", dir="/tmp"))
    (folder / "h").mkdir()
    rack = Rack(folder, LAYOUTS[request.param])
    yield rack
    rack.kubelet.stop()
    shutil.rmtree(folder)


def shares(daemon: Daemon) -> dict[str, float]:
    """What each pod is billed of the joules of the next second or so."""
    before = joules(daemon)
    assert daemon.until(lambda: joules(daemon).get("p2", 0.0) > before.get("p2", 0.0) + 100)
    now = joules(daemon)
    spent = {who: now.get(who, 0.0) - before.get(who, 0.0) for who in NAMES}
    return {who: amount / sum(spent.values()) for who, amount in spent.items()}


def parts(daemon: Daemon) -> dict[str, float]:
    """Joules of the parts of the GPU."""
    lines = [line for line in daemon.metrics().splitlines() if line.startswith(PART)]
    names = [line.partition('part="')[2].partition('"')[0] for line in lines]
    return {name: float(line.split()[-1]) for name, line in zip(names, lines, strict=True)}


def test_case_6_four_pods_one_of_them_by_mps_share_a_gpu_whose_process_ids_are_used_again(
    start: Callable[..., Daemon], rack: Rack
) -> None:
    for number, name in enumerate(NAMES, 1):
        kind = ("mps",) if name == "p3" else ()
        rack.gpu.process(100 + number, GIB, PERCENT[name], 5, *kind)
    rack.driver.write()
    rack.kubelet.start()
    daemon = start(machine=rack.machine, config=CONFIG.format(folder=rack.driver.folder))
    expected = {who: percent / 60 for who, percent in PERCENT.items()}
    assert daemon.until(lambda: shares(daemon) == pytest.approx(expected, abs=0.03))
    before = parts(daemon)
    assert set(before) == {*(f"process:{100 + n}" for n in range(1, 5)), "idle"}
    assert daemon.until(lambda: parts(daemon)["idle"] > before["idle"] + 100)
    spent = {part: total - before[part] for part, total in parts(daemon).items()}
    assert spent["idle"] / sum(spent.values()) == pytest.approx(0.4, abs=0.05)
    # The third pod's process ends, and the fourth pod starts one that gets its number.
    rack.owns(3)
    rack.owns(4, 104, 103)
    later = expected | {"p3": 0.0, "p4": 0.5}
    assert daemon.until(lambda: shares(daemon) == pytest.approx(later, abs=0.03))
    residual = daemon.value("joulefloor_workload_residual_ratio", component="gpu")
    assert residual is not None
    assert residual < 1e-6
    assert 'event="reset"' not in daemon.metrics()
