"""What the ids of device plugins and of DRA drivers mean: which GPU or TPU a pod holds.

An id that cannot be resolved on the node is an error that says so; nothing is attributed to a
guess. `podresources` asks the kubelet for the ids.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

CDI = "cdi:"
"""Before the kind of a CDI name, which is all that older kubelets tell of a claim."""
DRA_AMD = "gpu.amd.com"
"""The DRA driver whose devices are named by their nodes under /dev/dri."""
NONE: Mapping[str, str] = {}
ASK_API = "which one, only the ResourceSlices of the API server tell"

_NVIDIA = re.compile(r"(?P<uuid>(?:GPU|MIG)-[0-9a-fA-F-]+)(?:::\w+)?")
_OLD_MIG = re.compile(r"MIG-(?P<uuid>GPU-[0-9a-fA-F-]+)/\d+/\d+(?:::\w+)?")
_GKE = re.compile(r"nvidia(?P<minor>\d+)(?:/(?:gi|vgpu)\d+)*")
_DRA = re.compile(r"gpu-(?P<minor>\d+)(?:-mig-(?:\d+-\d+-(?P<slices>[1-9]\d?)|[\w.-]+))?")
_NODES = re.compile(r"gpu-(?P<card>\d+)-(?P<render>\d+)")
PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


class Held(NamedTuple):
    """A device as its meters call it, and how much of it is held (slices of a MIG board)."""

    component: str
    device: str
    amount: float = 1.0


class UnknownDeviceError(ValueError):
    """A pod holds a device of the component, and nobody here can tell which."""

    def __init__(self, component: str, resource: str, device: str, why: str) -> None:
        """`why` is for people."""
        super().__init__(f"{resource} {device}: {why}")
        self.component = component


def held(
    resource: str,
    device: str,
    by_minor: Mapping[str, str],
    by_card: Mapping[str, str] = NONE,
) -> Held | None:
    """The device behind an id of a device plugin or DRA driver; None if it has no energy meter.

    `by_minor`: UUIDs of NVIDIA GPUs by device minor, for ids that tell only that. `by_card`: PCI
    addresses of other GPUs by `card1` and `renderD129`. Replicas of a shared device (`::N`,
    `/vgpuN`) are the device, GKE's, DRA's and old MIG ids are the board they are on.

    Raises:
        UnknownDeviceError: it is a GPU or TPU, and nobody knows which.
    """
    told = _OLD_MIG.fullmatch(device) or _NVIDIA.fullmatch(device)
    if told is not None:
        return Held("gpu", told["uuid"])
    if resource == "gpu.nvidia.com":
        return _by_minor(_DRA, resource, device, by_minor)
    if resource.startswith(("nvidia.com/gpu", "nvidia.com/mig-")):
        return _by_minor(_GKE, resource, device, by_minor)
    if resource == DRA_AMD:
        return _by_card(resource, device, by_card)
    if resource.startswith("amd.com/"):
        return _amd(resource, device)
    return _other(resource, device)


def _other(resource: str, device: str) -> Held | None:
    if resource.startswith(CDI) and "gpu" in resource:
        raise UnknownDeviceError(
            "gpu", resource, device, "this kubelet tells no more than the CDI name"
        )
    if resource == "tpu.google.com":
        raise UnknownDeviceError("tpu", resource, device, ASK_API)
    return Held("tpu", device) if resource == "google.com/tpu" else None


def _amd(resource: str, device: str) -> Held:
    if PCI.fullmatch(device) is None:
        raise UnknownDeviceError("gpu", resource, device, "not a PCI address")
    return Held("gpu", device)


def _by_minor(
    shape: re.Pattern[str], resource: str, device: str, by_minor: Mapping[str, str]
) -> Held:
    found = shape.fullmatch(device)
    if found is None:
        raise UnknownDeviceError("gpu", resource, device, ASK_API)
    if found["minor"] not in by_minor:
        raise UnknownDeviceError("gpu", resource, device, "no such GPU in proc/driver/nvidia")
    slices = found.groupdict().get("slices")
    return Held("gpu", by_minor[found["minor"]], float(slices or 1.0))


def _by_card(resource: str, device: str, by_card: Mapping[str, str]) -> Held:
    """AMD's driver names a device by its two nodes under /dev/dri, which are of one GPU."""
    found = _NODES.fullmatch(device)
    card = by_card.get(f"card{found['card']}") if found else None
    if found is None or card is None or card != by_card.get(f"renderD{found['render']}"):
        raise UnknownDeviceError("gpu", resource, device, ASK_API)
    return Held("gpu", card)
