"""A GPU that pods share, end to end: driver, kubelet, control groups, daemon, bills."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from joulefloor.podresources import SOCKET
from tests.kubelet import Kubelet, Pod
from tests.machine import Machine
from tests.nvml.scenario import FakeDriver, Instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.nvml.scenario import Section
    from tests.process.conftest import Daemon

WATTS = 400.0
GIB = 1 << 30
SMALL = Instance(7, "1g.10gb", 1, 16, 10 * GIB, "MIG-00000000-0000-4000-8000-000000000007", 100.0)
LARGE = Instance(1, "3g.40gb", 3, 60, 40 * GIB, "MIG-00000000-0000-4000-8000-000000000001", 100.0)
CONFIG = (
    "sampling: {{tick: 100ms}}\n"
    "static_power: {{start: {{gpu: 0W}}}}\n"
    "sources:\n"
    "  nvml: {{period: 200ms, process_parts: true, library_folder: {folder}}}\n"
    "  model: {{enabled: false}}\n"
    "  workloads: {{period: 100ms, device_period: 200ms}}\n"
)
SERIES = re.compile(
    r'joulefloor_workload_energy_joules_total\{component="gpu",share="dynamic",'
    r'workload_kind="(\w+)",workload_namespace="(\w*)",'
    r'workload_pod="([\w-]*)"\} (\S+)'
)


class Rack:
    """A node with one GPU on the fake driver, two pods and their kubelet."""

    def __init__(self, root: Path) -> None:
        self.machine = Machine(root / "h", host_file="k8s-v2-systemd")
        self.driver = FakeDriver(root / "driver")
        self.gpu: Section = self.driver.gpu(0, "h100-sxm5")
        self.gpu.put("load", WATTS * 1000)
        self.machine.write("dev/nvidiactl", "")
        self.kubelet = Kubelet(root / "h" / SOCKET)
        for name in "12":
            uid = f"5f1c7c0e-2b1a-4c55-9d3e-00000000000{name}"
            pod = f"sys/fs/cgroup/kubepods.slice/kubepods-pod{uid.replace('-', '_')}.slice"
            self.machine.write(f"{pod}/cpu.stat", "usage_usec 1\nuser_usec 1\nsystem_usec 0")
            self.machine.write(f"{pod}/memory.current", 1)
            self.machine.write(f"{pod}/cri-containerd-{name * 64}.scope/cgroup.procs", f"{name}00")
            (self.machine.root / f"var/log/pods/share_p{name}_{uid}").mkdir()


@pytest.fixture
def rack() -> Iterator[Rack]:
    """Its folder has few letters: a socket's path may have 107."""
    folder = Path(tempfile.mkdtemp(prefix="jf-", dir="/tmp"))
    (folder / "h").mkdir()
    rack = Rack(folder)
    yield rack
    rack.kubelet.stop()
    shutil.rmtree(folder)


def joules(daemon: Daemon) -> dict[str, float]:
    """GPU joules by pod, or by reserved kind."""
    found = SERIES.findall(daemon.metrics())
    return {pod or kind: float(value) for kind, _, pod, value in found}


def ratio(daemon: Daemon) -> float:
    """What the second pod gets for each joule of the first, from now on."""
    before = joules(daemon)
    assert daemon.until(lambda: joules(daemon)["p1"] > before["p1"] + WATTS / 4)
    now = joules(daemon)
    return (now["p2"] - before["p2"]) / (now["p1"] - before["p1"])


def test_time_sliced_pods_are_billed_by_what_their_processes_do(
    start: Callable[..., Daemon], rack: Rack
) -> None:
    rack.gpu.process(100, GIB, 20, 5)
    rack.gpu.process(200, GIB, 60, 5)
    rack.driver.write()
    held = tuple((("nvidia.com/gpu", (f"{rack.gpu.keys['uuid']}::{n}",)),) for n in (0, 1))
    rack.kubelet.pods = tuple(Pod("share", f"p{n + 1}", devices) for n, devices in enumerate(held))
    rack.kubelet.start()
    daemon = start(machine=rack.machine, config=CONFIG.format(folder=rack.driver.folder))
    assert daemon.until(lambda: 'division="activity"' in daemon.metrics())
    assert daemon.until(lambda: joules(daemon).get("p1", 0.0) > 0)
    assert ratio(daemon) == pytest.approx(3.0, rel=0.1)
    residual = daemon.value("joulefloor_workload_residual_ratio", component="gpu")
    assert residual is not None
    assert residual < 1e-6


def test_mig_instances_are_billed_to_the_pods_that_hold_them(
    start: Callable[..., Daemon], rack: Rack
) -> None:
    rack.driver.carve(0, SMALL, LARGE)
    rack.driver.write()
    rack.kubelet.pods = (
        Pod("share", "p1", (("nvidia.com/mig-1g.10gb", (SMALL.uuid,)),)),
        Pod("share", "p2", (("nvidia.com/mig-3g.40gb", (LARGE.uuid,)),)),
    )
    rack.kubelet.start()
    daemon = start(machine=rack.machine, config=CONFIG.format(folder=rack.driver.folder))
    assert daemon.until(lambda: 'division="activity"' in daemon.metrics())
    assert daemon.until(lambda: joules(daemon).get("p1", 0.0) > 0)
    assert ratio(daemon) == pytest.approx(3.0, rel=0.1)
    assert "unattributed" not in joules(daemon) or joules(daemon)["unattributed"] < 2 * WATTS


def test_what_an_instance_does_that_no_pod_holds_is_not_billed_to_the_only_holder(
    start: Callable[..., Daemon], rack: Rack
) -> None:
    rack.driver.carve(0, SMALL, LARGE)
    rack.driver.write()
    rack.kubelet.pods = (Pod("share", "p1", (("nvidia.com/mig-1g.10gb", (SMALL.uuid,)),)),)
    rack.kubelet.start()
    daemon = start(machine=rack.machine, config=CONFIG.format(folder=rack.driver.folder))
    assert daemon.until(lambda: joules(daemon).get("p1", 0.0) > 0)
    before = joules(daemon)
    assert daemon.until(lambda: joules(daemon)["p1"] > before["p1"] + WATTS / 4)
    spent = {who: total - before.get(who, 0.0) for who, total in joules(daemon).items()}
    assert spent["system"] / spent["p1"] == pytest.approx(3.0, rel=0.1)
    share = daemon.value("joulefloor_workload_device_share_ratio", division="activity")
    assert share == pytest.approx(0.25, rel=0.1)
    assert 'division="size"' not in daemon.metrics()
