"""Messages between the daemon and a worker process: framed, versioned, bounded.

A frame is a header (magic, version, kind, length, checksum) and a body of plain values: tuples of
numbers, strings and None. A pipe may cut frames anywhere; `Unpacker` puts them together again and
refuses whatever is not a frame, so that a driver that scribbles over the pipe costs the worker, not
us. The checksum is needed because a few wrong bytes can keep marshal busy for minutes.
"""

from __future__ import annotations

import marshal
from binascii import crc32
from enum import IntEnum
from struct import Struct
from typing import Any, NamedTuple

MAGIC = b"jF"
VERSION = 1
HEADER = Struct("<2sBBII")
MOST_BYTES = 1 << 18
"""Longest body; a GPU with every field and eight MIG instances needs some 8 KiB."""
ROUND = Struct("<I")
"""A request from the daemon: the number of the round."""


class Kind(IntEnum):
    """What a worker tells.

    HELLO (driver version, units): the devices are open. BEAT (round, ready, asked, busy): the
    worker lives; `asked` are the units that will answer, `busy` (unit, call, since_ns) those still
    at an earlier round. ROWS (unit, generation, name, rows): what the values of a unit mean.
    VALUES (unit, generation, at_ns, values, faults, gone): one read. DOWN (reason, detail): the
    worker ends.
    """

    HELLO = 1
    BEAT = 2
    ROWS = 3
    VALUES = 4
    DOWN = 5


class Frame(NamedTuple):
    """A whole message."""

    kind: Kind
    body: tuple[Any, ...]


def pack(kind: Kind, body: tuple[Any, ...]) -> bytes:
    """Bytes of one frame.

    Raises:
        ValueError: the body is too long or holds something that is not a plain value.
    """
    data = marshal.dumps(body)
    if len(data) > MOST_BYTES:
        raise ValueError(f"a {kind.name} frame of {len(data)} bytes is longer than {MOST_BYTES}")
    return HEADER.pack(MAGIC, VERSION, kind, len(data), crc32(data)) + data


class Unpacker:
    """Collects bytes as they arrive and gives whole frames."""

    def __init__(self) -> None:
        """Nothing has arrived."""
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[Frame]:
        """Frames completed by `data`, in order.

        Raises:
            ValueError: these bytes are no frames of this version.
        """
        self._pending += data
        frames: list[Frame] = []
        while len(self._pending) >= HEADER.size:
            magic, version, kind, length, checksum = HEADER.unpack_from(self._pending)
            if magic != MAGIC or version != VERSION or length > MOST_BYTES:
                raise ValueError(f"no frame: {bytes(self._pending[:16])!r}")
            end = HEADER.size + length
            if len(self._pending) < end:
                break
            data = bytes(self._pending[HEADER.size : end])
            if crc32(data) != checksum:
                raise ValueError("a frame with a wrong checksum")
            frames.append(Frame(Kind(kind), _body(data)))
            del self._pending[:end]
        return frames


def _body(data: bytes) -> tuple[Any, ...]:
    try:
        body = marshal.loads(data)  # noqa: S302  # from our own worker, framed and bounded
    except (EOFError, TypeError, ValueError) as error:
        raise ValueError(f"a frame with a broken body: {error}") from None
    if not isinstance(body, tuple):
        raise ValueError("a frame whose body is no tuple")  # noqa: TRY004  # one error for callers
    return body
