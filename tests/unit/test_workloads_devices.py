"""What the ids of device plugins and DRA drivers mean, and what any bytes of a kubelet do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from joulefloor.deviceids import Held, UnknownDeviceError, held
from joulefloor.errors import Reason, SourceError
from joulefloor.kubelet import Answer, Row, decode
from joulefloor.podresources import DeviceSource
from tests.kubelet import Pod, field, response

if TYPE_CHECKING:
    from tests.machine import Machine

GPU = "GPU-8f6a1c2e-1111-2222-3333-444455556666"
MIG = "MIG-0a0b0c0d-1111-2222-3333-444455556666"
CARD = "0000:c1:00.0"
BY_MINOR = {"0": GPU}
BY_CARD = {"card1": CARD, "renderD129": CARD, "renderD130": "0000:c2:00.0"}

SHAPES = {
    "whole": ("nvidia.com/gpu", GPU, GPU),
    "replica": ("nvidia.com/gpu.shared", f"{GPU}::3", GPU),
    "renamed": ("example.com/big-gpu", GPU, GPU),
    "mig": ("nvidia.com/mig-1g.10gb", MIG, MIG),
    "mig replica": ("nvidia.com/mig-1g.10gb", f"{MIG}::0", MIG),
    "old mig": ("nvidia.com/mig-1g.5gb", f"MIG-{GPU}/7/0", GPU),
    "gke": ("nvidia.com/gpu", "nvidia0", GPU),
    "gke time-sliced": ("nvidia.com/gpu", "nvidia0/vgpu1", GPU),
    "gke mig": ("nvidia.com/gpu", "nvidia0/gi3", GPU),
    "gke mig time-sliced": ("nvidia.com/gpu", "nvidia0/gi3/vgpu0", GPU),
    "dra": ("gpu.nvidia.com", "gpu-0", GPU),
    "dra mig": ("gpu.nvidia.com", "gpu-0-mig-1g.10gb-19-0", GPU),
    "dra amd": ("gpu.amd.com", "gpu-1-129", CARD),
    "cdi": ("cdi:nvidia.com/gpu", GPU, GPU),
    "amd": ("amd.com/gpu", "0000:c1:00.0", "0000:c1:00.0"),
}


@pytest.mark.parametrize(("resource", "device", "meter"), SHAPES.values(), ids=SHAPES)
def test_the_shapes_of_device_ids(resource: str, device: str, meter: str) -> None:
    assert held(resource, device, BY_MINOR, BY_CARD) == Held("gpu", meter)


def test_a_dra_claim_of_a_mig_instance_holds_the_board_by_its_slices() -> None:
    assert held("gpu.nvidia.com", "gpu-0-mig-9-4-4", BY_MINOR) == Held("gpu", GPU, 4.0)


def test_tpus_are_devices_and_other_resources_are_not() -> None:
    assert held("google.com/tpu", "2", {}) == Held("tpu", "2")
    assert held("intel.com/sriov", "0000:18:02.1", {}) is None
    assert held("hugepages-2Mi", "1", {}) is None
    assert held("nvidia.com/hostdev", "0000:18:02.1", {}) is None
    assert held("compute-domain.nvidia.com", "channel-0", {}) is None
    assert held("cdi:k8s.compute-domain.nvidia.com/channel", "0", {}) is None


@pytest.mark.parametrize(
    ("resource", "device"),
    [
        ("nvidia.com/gpu", "nvidia7"),
        ("gpu.nvidia.com", "gpu-9"),
        ("gpu.nvidia.com", "gpu-vfio-0"),
        ("gpu.nvidia.com", ""),
        ("amd.com/gpu", "amdgpu_xcp_1"),
        ("gpu.amd.com", "gpu-1-130"),
        ("gpu.amd.com", "gpu-7-135"),
        ("tpu.google.com", "tpu-0"),
        ("cdi:k8s.gpu.nvidia.com/device", "gpu-0"),
    ],
)
def test_a_gpu_that_nobody_can_find_is_an_error_that_names_it(resource: str, device: str) -> None:
    with pytest.raises(UnknownDeviceError, match=f"{resource} {device}") as error:
        held(resource, device, BY_MINOR, BY_CARD)
    assert error.value.component == ("tpu" if "tpu" in resource else "gpu")


@given(resource=st.text(), device=st.text())
def test_any_id_is_a_device_none_or_an_error(resource: str, device: str) -> None:
    try:
        found = held(resource, device, BY_MINOR)
    except ValueError:
        return
    assert found is None or found.device


PODS = (
    Pod("train", "a", (("nvidia.com/gpu", (GPU, "GPU-2")), ("intel.com/x", ("y",)))),
    Pod("web", "nothing"),
    Pod("dra", "b", claims=(("gpu.nvidia.com", "gpu-0"),)),
)


def test_devices_of_every_pod_are_read_from_the_answer() -> None:
    assert decode(response(PODS)) == Answer(
        (
            Row("train", "a", "nvidia.com/gpu", GPU),
            Row("train", "a", "nvidia.com/gpu", "GPU-2"),
            Row("train", "a", "intel.com/x", "y"),
            Row("dra", "b", "gpu.nvidia.com", "gpu-0"),
        ),
        3,
    )


# A kubelet 1.20.2 with containerd 1.6.20 and a device plugin: the daemon's own pod, a pod with two
# GPUs and a container beside them, and a pod that has ended, whose GPU is free again.
RECORDED = bytes.fromhex(
    "0a2c0a106a6f756c65666c6f6f722d6877723438120a6a6f756c65666c6f6f721a0c0a0a6a6f756c65666c6f"
    "6f720a8c010a09747261696e65722d301205747261696e1a700a046d61696e12680a0e6e76696469612e636f"
    "6d2f67707512284750552d30303030303030302d303030302d343030302d383030302d303030303030303030"
    "30303012284750552d30303030303030302d303030302d343030302d383030302d3030303030303030303030"
    "321a020a001a060a04736964650a170a06646f6e652d301205747261696e1a060a046d61696e"
)


def test_the_answer_of_a_real_kubelet_is_read() -> None:
    board = "GPU-00000000-0000-4000-8000-00000000000"
    assert decode(RECORDED) == Answer(
        (
            Row("train", "trainer-0", "nvidia.com/gpu", f"{board}0"),
            Row("train", "trainer-0", "nvidia.com/gpu", f"{board}2"),
        ),
        3,
    )


def test_a_claim_that_two_containers_share_is_held_once() -> None:
    """Devices of a plugin belong to one container each, and count each."""
    container = Pod("dra", "b", (("nvidia.com/gpu", (GPU,)),), PODS[2].claims).container()
    pod = field(1, "b") + field(2, "dra") + field(3, container) + field(3, container)
    rows = decode(field(1, pod)).rows
    assert [row.resource for row in rows] == ["nvidia.com/gpu", "nvidia.com/gpu", "gpu.nvidia.com"]


def test_an_older_kubelet_tells_only_cdi_names_of_a_claim() -> None:
    names = field(1, field(1, f"nvidia.com/gpu={GPU}")) + field(1, field(1, "example.com/x=y"))
    dynamic = field(1, "class") + field(2, "claim") + field(3, "dra") + field(4, names)
    pod = field(1, "b") + field(2, "dra") + field(3, field(1, "main") + field(5, dynamic))
    assert decode(field(1, pod)).rows == (
        Row("dra", "b", "cdi:nvidia.com/gpu", GPU),
        Row("dra", "b", "cdi:example.com/x", "y"),
    )


def test_fields_of_later_versions_are_skipped() -> None:
    later = (
        field(15, 7) + field(16, b"new") + bytes([9 << 3 | 1]) + bytes(8) + bytes([77]) + bytes(4)
    )
    pod = PODS[0].message() + later
    assert decode(later + field(1, pod)).pods == 1


@given(message=st.binary(max_size=200))
@example(message=b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")
@example(message=field(1, field(1, b"\xff")))
def test_any_bytes_are_an_answer_or_a_value_error(message: bytes) -> None:
    try:
        decode(message)
    except ValueError:
        return


def devices(machine: Machine) -> DeviceSource:
    return DeviceSource(machine.host, machine.clock, 10.0)


def test_a_node_without_kubernetes_starts_nothing(machine: Machine) -> None:
    machine.write("dev/nvidiactl", "")
    source = devices(machine)
    with pytest.raises(SourceError, match="no kubelet here") as error:
        source.read()
    assert error.value.reason is Reason.ABSENT
    assert source._worker.pid is None


def test_a_node_without_devices_starts_nothing(machine: Machine) -> None:
    machine.write("var/lib/kubelet/pod-resources/kubelet.sock", "")
    source = devices(machine)
    with pytest.raises(SourceError, match="no GPU or TPU") as error:
        source.read()
    assert error.value.reason is Reason.ABSENT
    assert source._worker.pid is None


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("proc/driver/nvidia/gpus/0000:01:00.0/information", "Device Minor: 0"),
        ("sys/class/kfd/kfd/topology/generation_id", "2"),
        ("sys/class/vfio/0/dev", "241:0"),
        ("sys/class/accel/accel0/device/vendor", "0x1ae0"),
    ],
)
def test_a_device_is_seen_without_a_dev_of_the_host_as_in_the_charts_pod(
    machine: Machine, path: str, content: str
) -> None:
    (machine.root / "var/lib/kubelet/pod-resources").mkdir(parents=True)
    machine.write(path, content)
    with pytest.raises(SourceError, match="kubelet is not running"):
        devices(machine).read()


def test_an_accelerator_of_another_vendor_is_no_tpu(machine: Machine) -> None:
    (machine.root / "var/lib/kubelet/pod-resources").mkdir(parents=True)
    machine.write("sys/class/accel/accel0/device/vendor", "0x8086")
    with pytest.raises(SourceError, match="no GPU or TPU"):
        devices(machine).read()


def test_a_kubelet_without_its_socket_is_lost_and_nothing_is_started(machine: Machine) -> None:
    machine.write("dev/nvidiactl", "")
    (machine.root / "var/lib/kubelet/pod-resources").mkdir(parents=True)
    source = devices(machine)
    with pytest.raises(SourceError, match="kubelet is not running") as error:
        source.read()
    assert error.value.reason is Reason.LOST
    assert source._worker.pid is None


@pytest.mark.parametrize("depth", ["var/lib/kubelet", "var/lib/kubelet/pod-resources"])
def test_a_kubelet_behind_a_folder_of_root_alone_is_denied_with_the_fix(
    machine: Machine, depth: str
) -> None:
    machine.write("dev/nvidiactl", "")
    machine.write("var/lib/kubelet/pod-resources/kubelet.sock", "")
    source = devices(machine)
    (machine.root / depth).chmod(0o700 if os.geteuid() == 0 else 0)
    with (
        machine.as_nobody(),
        pytest.raises(SourceError, match=r"root only.*rapl\.mode: root") as error,
    ):
        source.read()
    (machine.root / depth).chmod(0o700)
    assert error.value.reason is Reason.DENIED
    assert source._worker.pid is None


def test_without_devices_a_folder_of_root_alone_is_not_missed(machine: Machine) -> None:
    machine.write("var/lib/kubelet/pod-resources/kubelet.sock", "")
    folder = machine.root / "var/lib/kubelet"
    folder.chmod(0o700 if os.geteuid() == 0 else 0)
    with machine.as_nobody(), pytest.raises(SourceError) as error:
        devices(machine).read()
    folder.chmod(0o700)
    assert error.value.reason is Reason.ABSENT
