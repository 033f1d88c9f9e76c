"""GPUs and their pods, asked of a real gRPC kubelet by the real worker process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from joulefloor import kubelet, podresources
from joulefloor.clock import SystemClock
from joulefloor.errors import Reason, SourceError
from joulefloor.model import EVERY_DEVICE
from joulefloor.podresources import SOCKET, DeviceSource
from stack.query import eventually
from tests.kubelet import Kubelet, Pod, response
from tests.machine import Machine
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from joulefloor.model import Batch
    from tests.process.conftest import Daemon

GPU = "GPU-8f6a1c2e-1111-2222-3333-444455556666"
OTHER = "GPU-00000000-1111-2222-3333-444455556666"
CARD = "0000:c1:00.0"
CARD_PATH = "sys/devices/pci0000:c0/0000:c0:01.1/0000:c1:00.0"
TRAIN = Pod("train", "resnet-0", (("nvidia.com/gpu", (GPU,)),))
EMPTY = Pod("web", "frontend-6d4cf56db6-x2x7k")


@pytest.fixture
def root() -> Iterator[Path]:
    """A machine's root of few letters: a socket's path may have 107."""
    folder = Path(tempfile.mkdtemp(prefix="jf-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def node(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Machine, Kubelet, DeviceSource]]:
    """A machine with a GPU, its kubelet, and the source that asks it."""
    machine = Machine(root)
    machine.write(
        "proc/driver/nvidia/gpus/0000:01:00.0/information",
        f"Model: \t\t NVIDIA H100\nGPU UUID: \t {GPU}\nDevice Minor: \t 0",
    )
    served = Kubelet(root / SOCKET, (TRAIN, EMPTY))
    # On a loaded machine a worker may need long to load gRPC.
    monkeypatch.setattr(podresources, "DEADLINE_SECONDS", PATIENCE_S)
    source = DeviceSource(machine.host, SystemClock(), 10.0)
    yield machine, served, source
    source.close()
    served.stop()


def claims(batch: Batch) -> dict[tuple[str, ...], float]:
    """What is held: (device, namespace, pod)."""
    labels = ((reading.channel.labels, reading.value) for reading in batch.readings)
    return {(label[1], label[3], label[4]): value for label, value in labels}


def test_the_pod_that_holds_a_gpu_is_found(
    node: tuple[Machine, Kubelet, DeviceSource],
) -> None:
    _, served, source = node
    served.pods = (
        TRAIN,
        EMPTY,
        Pod("a", "sliced", (("nvidia.com/gpu.shared", (f"{OTHER}::0", f"{OTHER}::1")),)),
        Pod("b", "gke", (("nvidia.com/gpu", ("nvidia0",)),)),
        Pod("c", "dra", claims=(("gpu.nvidia.com", "gpu-0"),)),
    )
    served.start()
    batch = source.read()
    assert not batch.faults
    assert claims(batch) == {
        (EVERY_DEVICE, "", ""): 1.0,
        (GPU, "train", "resnet-0"): 1.0,
        (OTHER, "a", "sliced"): 2.0,
        (GPU, "b", "gke"): 1.0,
        (GPU, "c", "dra"): 1.0,
    }
    again = source.read()
    assert [r.channel for r in batch.readings] == [r.channel for r in again.readings]


def test_processes_of_pods_that_share_a_gpu_are_known_by_their_groups(
    node: tuple[Machine, Kubelet, DeviceSource],
) -> None:
    """A pod alone on its GPU needs no process; process ids of other name spaces read as 0."""
    machine, served, source = node
    uids = {name: f"5f1c7c0e-2b1a-4c55-9d3e-00000000000{name}" for name in "123"}
    for name, uid in uids.items():
        (machine.root / f"var/log/pods/train_p{name}_{uid}").mkdir(parents=True)
        group = f"sys/fs/cgroup/kubepods/pod{uid}/{name * 64}"
        machine.write(f"{group}/cgroup.procs", f"{name}00\n{name}01\n0")
    machine.write("sys/fs/cgroup/cgroup.controllers", "cpu")
    shared = (("nvidia.com/gpu.shared", (f"{GPU}::0",)),)
    served.pods = (
        Pod("train", "p1", shared),
        Pod("train", "p2", shared),
        Pod("train", "p3", (("nvidia.com/gpu", (OTHER,)),)),
    )
    served.start()
    held = claims(source.read())
    assert {key: held[key] for key in held if key[0].startswith("process")} == {
        ("process:100", "train", "p1"): 1.0,
        ("process:101", "train", "p1"): 1.0,
        ("process:200", "train", "p2"): 1.0,
        ("process:201", "train", "p2"): 1.0,
    }


def test_a_gpu_that_nobody_can_find_is_one_fault(
    node: tuple[Machine, Kubelet, DeviceSource],
) -> None:
    _, served, source = node
    served.pods = (TRAIN, Pod("b", "gke", (("nvidia.com/gpu", ("nvidia5",)),)))
    served.start()
    batch = source.read()
    (fault,) = batch.faults
    assert fault.reason is Reason.UNSUPPORTED
    assert "b/gke holds nvidia.com/gpu nvidia5" in fault.detail
    assert claims(batch) == {
        (EVERY_DEVICE, "", ""): 1.0,
        (GPU, "train", "resnet-0"): 1.0,
        ("?nvidia.com/gpu nvidia5", "b", "gke"): 1.0,
    }


def test_dra_claims_name_boards_cards_and_what_only_the_api_server_knows(
    node: tuple[Machine, Kubelet, DeviceSource],
) -> None:
    machine, served, source = node
    card = machine.root / CARD_PATH
    card.mkdir(parents=True)
    for name in ("card1", "renderD129"):
        folder = machine.root / "sys/class/drm" / name
        folder.mkdir(parents=True)
        (folder / "device").symlink_to(card)
    served.pods = (
        Pod("a", "whole", claims=(("gpu.nvidia.com", "gpu-0"),)),
        Pod("b", "slice", claims=(("gpu.nvidia.com", "gpu-0-mig-14-0-2"),)),
        Pod("c", "card", claims=(("gpu.amd.com", "gpu-1-129"),)),
        Pod("d", "passed-through", claims=(("gpu.nvidia.com", "gpu-vfio-1"),)),
        Pod("e", "channel", claims=(("compute-domain.nvidia.com", "channel-0"),)),
    )
    served.start()
    batch = source.read()
    (fault,) = batch.faults
    assert fault.reason is Reason.UNSUPPORTED
    assert "d/passed-through holds gpu.nvidia.com gpu-vfio-1" in fault.detail
    assert "ResourceSlices of the API server" in fault.detail
    assert claims(batch) == {
        (EVERY_DEVICE, "", ""): 1.0,
        (GPU, "a", "whole"): 1.0,
        (GPU, "b", "slice"): 2.0,
        (CARD, "c", "card"): 1.0,
        ("?gpu.nvidia.com gpu-vfio-1", "d", "passed-through"): 1.0,
    }


def test_the_kubelet_restarts_and_makes_its_socket_anew(
    node: tuple[Machine, Kubelet, DeviceSource],
) -> None:
    _, served, source = node
    served.start()
    for _ in range(5):
        # A worker that answers well must not wait for it after the restart.
        assert (GPU, "train", "resnet-0") in claims(source.read())
    served.stop()
    with pytest.raises(SourceError, match="not running") as error:
        source.read()
    assert error.value.reason is Reason.LOST
    served.pods = (Pod("train", "resnet-1", TRAIN.devices),)
    served.start()
    assert (GPU, "train", "resnet-1") in claims(source.read())


def test_a_socket_that_nobody_serves_is_lost(
    node: tuple[Machine, Kubelet, DeviceSource],
) -> None:
    machine, _, source = node
    machine.write(SOCKET, "")
    with pytest.raises(SourceError, match="UNAVAILABLE") as error:
        source.read()
    assert error.value.reason is Reason.LOST


ASK_AS_NOBODY = """
import os, sys
from joulefloor import kubelet
kubelet.ask('/nowhere')
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
print(*kubelet.ask(sys.argv[1])[1:])
"""
"""The first question loads all of gRPC, which may lie where only its owner may read."""


def test_a_socket_that_this_user_may_not_connect_is_denied(
    node: tuple[Machine, Kubelet, DeviceSource],
) -> None:
    """As the kubelet's own where its folder may be entered: gRPC says UNAVAILABLE."""
    _, served, _ = node
    served.start()
    served.socket.chmod(0)
    command = (sys.executable, "-c", ASK_AS_NOBODY, str(served.socket))
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    assert said.startswith("DENIED ")
    assert "UNAVAILABLE" in said
    assert served.calls == 0


def test_a_slow_kubelet_is_late_and_answers_later(
    node: tuple[Machine, Kubelet, DeviceSource],
) -> None:
    _, served, source = node
    served.released.clear()
    served.start()
    with pytest.raises(SourceError, match="DEADLINE_EXCEEDED") as error:
        source.read()
    assert error.value.reason is Reason.LATE
    served.released.set()
    assert (GPU, "train", "resnet-0") in claims(source.read())


def test_an_answer_that_is_none_is_garbled(
    node: tuple[Machine, Kubelet, DeviceSource],
) -> None:
    _, served, source = node
    served.answer = b"\x0a\xff\xff"
    served.start()
    with pytest.raises(SourceError, match="no list of pods") as error:
        source.read()
    assert error.value.reason is Reason.GARBLED


def test_five_thousand_pods_are_read(node: tuple[Machine, Kubelet, DeviceSource]) -> None:
    """Their answer is larger than gRPC's own bound of 4 MiB."""
    _, served, source = node
    filler = (("example.com/filler", tuple(f"{number:0100d}" for number in range(9))),)
    served.pods = (
        *(Pod(f"ns-{number % 50}", f"pod-{number}", filler) for number in range(4_998)),
        TRAIN,
        EMPTY,
    )
    # Written beforehand, since a kubelet in Python may take longer for it than is waited.
    served.answer = response(served.pods)
    served.start()
    batch = source.read()
    assert claims(batch) == {(EVERY_DEVICE, "", ""): 1.0, (GPU, "train", "resnet-0"): 1.0}


def test_a_killed_worker_is_started_again(
    node: tuple[Machine, Kubelet, DeviceSource],
) -> None:
    _, served, source = node
    served.start()
    source.read()
    pid = source._worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(SourceError) as error:
        source.read()
    assert error.value.reason is Reason.LOST
    source.close()
    assert (GPU, "train", "resnet-0") in claims(source.read())
    assert source._worker.pid != pid


def test_closing_ends_the_worker(node: tuple[Machine, Kubelet, DeviceSource]) -> None:
    _, served, source = node
    served.start()
    source.read()
    pid = source._worker.pid
    assert pid is not None
    source.close()
    assert eventually(lambda: not alive(pid), within_s=PATIENCE_S)
    source.close()


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_a_proxy_in_the_environment_does_not_touch_it(
    node: tuple[Machine, Kubelet, DeviceSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
        monkeypatch.setenv(name.upper(), "http://127.0.0.1:9")
    machine, served, source = node
    served.start()
    assert (GPU, "train", "resnet-0") in claims(source.read())
    answer, reason, _ = kubelet.ask(f"{machine.root}/{SOCKET}")
    assert (answer.pods, reason) == (2, "")


def test_without_grpc_the_reason_says_what_to_install(
    node: tuple[Machine, Kubelet, DeviceSource], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "shadow/grpc").mkdir(parents=True)
    (root / "shadow/grpc/__init__.py").write_text("raise ImportError\n")
    monkeypatch.setenv("PYTHONPATH", f"{root}/shadow")
    _, served, source = node
    served.start()
    with pytest.raises(SourceError, match=r"install joulefloor\[kubernetes\]") as error:
        source.read()
    assert error.value.reason is Reason.UNSUPPORTED


def test_the_daemon_side_does_not_import_grpc() -> None:
    code = "import sys, joulefloor.sources.workloads; sys.exit('grpc' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.fixture
def gpu_node(root: Path) -> Iterator[tuple[Machine, Kubelet]]:
    """A Kubernetes node with an AMD GPU whose driver tells its power."""
    machine = Machine(root, host_file="k8s-v2-systemd")
    machine.write("sys/class/kfd/kfd/topology/generation_id", "2")
    card = root / CARD_PATH
    machine.write(f"{CARD_PATH}/hwmon/hwmon3/name", "amdgpu")
    machine.write(f"{CARD_PATH}/hwmon/hwmon3/power1_average", 250_000_000)
    machine.write(f"{CARD_PATH}/hwmon/hwmon3/power1_cap", 500_000_000)
    (card / "hwmon/hwmon3/device").symlink_to(card)
    (root / "sys/bus/pci").mkdir(parents=True)
    (card / "subsystem").symlink_to(root / "sys/bus/pci")
    (root / "sys/class/hwmon").mkdir(parents=True)
    (root / "sys/class/hwmon/hwmon3").symlink_to(card / "hwmon/hwmon3")
    served = Kubelet(root / SOCKET, (Pod("train", "resnet-0", (("amd.com/gpu", (CARD,)),)),))
    served.start()
    yield machine, served
    served.stop()


CONFIG = (
    "sampling: {tick: 100ms}\n"
    "workloads: {static: allocation}\n"
    "sources:\n"
    "  hwmon: {period: 100ms}\n"
    "  model: {enabled: false}\n"
    "  workloads: {period: 100ms, device_period: 200ms}\n"
)
ENERGY = "joulefloor_workload_energy_joules_total"


def test_a_daemon_bills_a_gpu_to_its_pod_through_a_restart_of_the_kubelet(
    start: Callable[..., Daemon], gpu_node: tuple[Machine, Kubelet]
) -> None:
    machine, served = gpu_node
    daemon = start(machine=machine, config=CONFIG)

    def joules(kind: str) -> float:
        lines = (line for line in daemon.metrics().splitlines() if line.startswith(ENERGY))
        mine = [line for line in lines if 'component="gpu"' in line and f'kind="{kind}"' in line]
        return sum(float(line.rpartition(" ")[2]) for line in mine)

    assert daemon.until(lambda: joules("pod") > 0)
    served.stop()
    before = joules("unattributed")
    assert daemon.until(lambda: joules("unattributed") > before)
    served.start()
    before = joules("pod")
    assert daemon.until(lambda: joules("pod") > before)
    served.pods = ()
    before = joules("unattributed")
    assert daemon.until(lambda: joules("unattributed") > before)
    residual = daemon.value("joulefloor_workload_residual_ratio", component="gpu")
    assert residual is not None
    assert residual < 1e-6
