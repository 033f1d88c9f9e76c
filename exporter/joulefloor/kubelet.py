"""Asks the kubelet which pod holds which device: a worker process of its own, for gRPC's weight.

`python -m joulefloor.kubelet SOCKET`: each round that arrives on the standard input is answered on
the standard output by frames of rows, VALUES (round, rows), and one last BEAT (round, pods, reason,
detail) with an empty reason when all went well. The daemon never imports this module.

Reads: the service v1.PodResourcesLister of the kubelet (GA since Kubernetes 1.28), method List.
"""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from joulefloor.errors import Reason
from joulefloor.frames import ROUND, Kind, pack

if TYPE_CHECKING:
    from collections.abc import Iterator

METHOD = "/v1.PodResourcesLister/List"
CALL_SECONDS = 2.0
MOST_BYTES = 64 << 20
"""Of one answer; gRPC's own bound of 4 MiB is too low for some thousand pods."""
ROWS_PER_FRAME = 500
OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", MOST_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
)
STDIN, STDOUT = 0, 1
CDI = "cdi:"
"""Before the kind of a CDI name, where a row has nothing better to tell."""
LENGTH_DELIMITED = 2
VARINT, FIXED64, FIXED32 = 0, 1, 5


class Row(NamedTuple):
    """One device that a pod holds.

    `resource` is a resource name, the driver of a DRA claim, or `cdi:` and the kind of a CDI name.
    """

    namespace: str
    pod: str
    resource: str
    device: str


class Answer(NamedTuple):
    """Devices held, and the number of pods listed."""

    rows: tuple[Row, ...]
    pods: int


def fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of the length-delimited fields of a protobuf message, others skipped.

    Raises:
        ValueError: the bytes are no such message.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == LENGTH_DELIMITED:
            length, at = _varint(message, at)
            end = at + length
            if end > len(message):
                raise ValueError("cut short")
            yield number, message[at:end]
            at = end
        elif kind == VARINT:
            _, at = _varint(message, at)
        elif kind in {FIXED64, FIXED32}:
            at += 8 if kind == FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 64:  # noqa: PLR2004  # bits
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004  # the last byte has no continuation bit
            return value, at
    raise ValueError("not a varint")


def decode(message: bytes) -> Answer:
    """What a ListPodResourcesResponse says about devices.

    Raises:
        ValueError: the bytes are none.
    """
    rows: list[Row] = []
    pods = 0
    for number, pod in fields(message):
        if number == 1:
            pods += 1
            rows += _pod(pod)
    return Answer(tuple(rows), pods)


def _pod(message: bytes) -> Iterator[Row]:
    """Rows of a PodResources: 1 name, 2 namespace, 3 containers.

    Containers may use one claim together, which is held once; each has its own plugin devices.
    """
    parts = list(fields(message))
    texts = {number: part for number, part in parts if number in {1, 2}}
    namespace, name = texts.get(2, b"").decode(), texts.get(1, b"").decode()
    claimed: dict[tuple[bytes, ...], Row] = {}
    for number, container in parts:
        if number == 3:  # noqa: PLR2004  # containers
            for field, part in fields(container):
                if field == 2:  # noqa: PLR2004  # ContainerDevices
                    yield from (Row(namespace, name, *row) for row in _devices(part))
                elif field == 5:  # noqa: PLR2004  # DynamicResource
                    claimed |= {
                        key: Row(namespace, name, *row) for key, row in _claimed(part).items()
                    }
    yield from claimed.values()


def _devices(message: bytes) -> Iterator[tuple[str, str]]:
    """Of a ContainerDevices: 1 resource, 2 ids."""
    inner = list(fields(message))
    resource = b"".join(text for key, text in inner if key == 1).decode()
    yield from ((resource, text.decode()) for key, text in inner if key == 2)  # noqa: PLR2004  # ids


def _claimed(message: bytes) -> dict[tuple[bytes, ...], tuple[str, str]]:
    """Of a DynamicResource: 4 claimed devices, each with 1 CDI names, 2 driver, 3 pool, 4 device.

    Older kubelets tell the CDI names alone, which differ from driver to driver. Since 1.34 claims
    are listed by default, before that behind the gate KubeletPodResourcesDynamicResources.
    """
    found: dict[tuple[bytes, ...], tuple[str, str]] = {}
    for key, claim in fields(message):
        if key == 4:  # noqa: PLR2004  # ClaimResource
            parts = list(fields(claim))
            texts = dict(parts)
            if texts.get(2):
                row = texts[2].decode(), texts.get(4, b"").decode()
                found[texts[2], texts.get(3, b""), texts.get(4, b""), texts.get(5, b"")] = row
                continue
            for number, names in parts:
                if number == 1:
                    name = dict(fields(names)).get(1, b"")
                    kind, _, device = name.decode().partition("=")
                    found[b"cdi", name] = f"{CDI}{kind}", device
    return found


def ask(socket: str) -> tuple[Answer, str, str]:
    """One question on a connection of its own, since the kubelet makes its socket anew.

    Gives the answer, and a reason with its detail when there is none.
    """
    import grpc  # noqa: PLC0415  # may not be installed

    with grpc.insecure_channel(f"unix:{socket}", options=OPTIONS) as channel:
        call = channel.unary_unary(METHOD)
        try:
            return decode(call(b"", timeout=CALL_SECONDS)), "", ""
        except ValueError as error:
            return Answer((), 0), Reason.GARBLED, f"{socket}: no list of pods: {error}"
        except grpc.RpcError as error:
            reason = {
                grpc.StatusCode.DEADLINE_EXCEEDED: Reason.LATE,
                grpc.StatusCode.UNIMPLEMENTED: Reason.UNSUPPORTED,
                grpc.StatusCode.PERMISSION_DENIED: Reason.DENIED,
            }.get(error.code(), Reason.LOST)
            if os.strerror(errno.EACCES) in (error.details() or ""):
                # gRPC has no status of its own for a socket that may not be connected.
                reason = Reason.DENIED
            return Answer((), 0), reason, f"{socket}: {error.code().name}: {error.details()}"


def answer(socket: str, number: int) -> bytes:
    """Frames that answer one round."""
    found, reason, detail = Answer((), 0), "", ""
    try:
        found, reason, detail = ask(socket)
    except ImportError:
        reason = Reason.UNSUPPORTED
        detail = "grpcio is not installed; install joulefloor[kubernetes] to ask the kubelet"
    rows = tuple(map(tuple, found.rows))
    frames = [
        pack(Kind.VALUES, (number, rows[start : start + ROWS_PER_FRAME]))
        for start in range(0, len(rows), ROWS_PER_FRAME)
    ]
    return b"".join([*frames, pack(Kind.BEAT, (number, found.pods, str(reason), detail))])


def main(socket: str) -> None:
    """Answer rounds until the daemon closes its end."""
    while len(question := os.read(STDIN, ROUND.size)) == ROUND.size:
        data = memoryview(answer(socket, ROUND.unpack(question)[0]))
        while data:
            data = data[os.write(STDOUT, data) :]


if __name__ == "__main__":
    main(sys.argv[1])
