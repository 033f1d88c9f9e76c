"""A kubelet for tests: the real gRPC service PodResourcesLister on a unix socket.

Messages are written in protobuf's wire format by hand, from the field numbers of the v1 API.
"""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import grpc

from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

METHOD = "List"
SERVICE = "v1.PodResourcesLister"


def field(number: int, content: bytes | str | int) -> bytes:
    """One field: length-delimited, or a varint."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    data = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first."""
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


class Pod(NamedTuple):
    """A pod with its devices (resource, ids) and DRA claims (driver, device), in one container."""

    namespace: str
    name: str
    devices: tuple[tuple[str, tuple[str, ...]], ...] = ()
    claims: tuple[tuple[str, str], ...] = ()

    def message(self) -> bytes:
        """PodResources."""
        return field(1, self.name) + field(2, self.namespace) + field(3, self.container())

    def container(self) -> bytes:
        """ContainerResources, with fields that are of no interest among the others."""
        topology = field(3, field(1, field(1, 0)))
        container = field(1, "main")
        for resource, ids in self.devices:
            device = field(1, resource) + b"".join(field(2, one) for one in ids) + topology
            container += field(2, device)
        container += field(3, varint(0) + varint(7)) + field(4, field(1, "memory") + field(2, 4096))
        for driver, device_name in self.claims:
            claimed = field(1, field(1, f"k8s.{driver}/device={device_name}"))
            claimed += field(2, driver) + field(3, "node1") + field(4, device_name)
            container += field(5, field(2, "claim") + field(3, self.namespace) + field(4, claimed))
        return container


def response(pods: Iterable[Pod]) -> bytes:
    """ListPodResourcesResponse."""
    return b"".join(field(1, pod.message()) for pod in pods)


class Kubelet:
    """Serves a list of pods on `socket`; may be slow, broken, restarted."""

    def __init__(self, socket: Path, pods: Iterable[Pod] = ()) -> None:
        """Nothing is served before `start`."""
        self.socket = socket
        self.pods = tuple(pods)
        self.answer: bytes | None = None
        self.released = threading.Event()
        self.released.set()
        self.calls = 0
        self._server: grpc.Server | None = None

    def start(self) -> Kubelet:
        """Make the socket anew, as the kubelet does."""
        self.socket.parent.mkdir(parents=True, exist_ok=True)
        self.socket.unlink(missing_ok=True)
        handler = grpc.method_handlers_generic_handler(
            SERVICE, {METHOD: grpc.unary_unary_rpc_method_handler(self._list)}
        )
        self._server = grpc.server(ThreadPoolExecutor(2), handlers=(handler,))
        self._server.add_insecure_port(f"unix:{self.socket}")
        self._server.start()
        return self

    def stop(self) -> None:
        """End and take the socket away."""
        self.released.set()
        if self._server is not None:
            self._server.stop(None).wait()
            self._server = None
        self.socket.unlink(missing_ok=True)

    def _list(self, _request: bytes, _context: grpc.ServicerContext) -> bytes:
        self.calls += 1
        self.released.wait(PATIENCE_S)
        return response(self.pods) if self.answer is None else self.answer
