"""One client of the server: its socket, what it has sent, what it has yet to be sent.

A connection never blocks and never decides: it moves bytes and cuts them into requests. What to do
next, and for how long it may take, is the server's business.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Protocol

from joulefloor.http1 import END_OF_HEAD, BadRequest, parse_head

if TYPE_CHECKING:
    import socket

    from joulefloor.http1 import Request

CHUNK_BYTES = 16_384
"""Read at most this much at once: one whole TLS record, so that none stays behind unseen."""
WRITE_BYTES = 262_144
"""Offer the kernel at most this much at once, so that one large answer holds up nobody."""


class Want(Enum):
    """What the socket has to become before a transfer can go on."""

    NOTHING = 0
    READABLE = 1
    WRITABLE = 2


class Wire(Protocol):
    """Bytes to and from a client, plain or encrypted, never blocking."""

    def fileno(self) -> int:
        """Descriptor to watch."""

    def handshake(self) -> Want:
        """Go on agreeing on a cipher; NOTHING when done. Raises OSError when it failed."""

    def receive(self) -> bytes | None:
        """Bytes, b"" at the end, None if there is nothing now. Raises OSError."""

    def send(self, head: bytes | memoryview, body: memoryview) -> int | None:
        """Count of bytes taken, None if there is no room now. Raises OSError."""

    def finish(self) -> None:
        """Tell the client that nothing follows; what it still sends can be read and dropped."""

    def close(self) -> None:
        """Give the descriptor back."""


class PlainWire:
    """A TCP socket as it is."""

    def __init__(self, client: socket.socket) -> None:
        """Take over a connected non-blocking socket."""
        self._client = client

    def fileno(self) -> int:
        """Descriptor to watch."""
        return self._client.fileno()

    def handshake(self) -> Want:
        """Plain text needs none."""
        return Want.NOTHING

    def receive(self) -> bytes | None:
        """One read."""
        try:
            return self._client.recv(CHUNK_BYTES)
        except BlockingIOError:
            return None

    def send(self, head: bytes | memoryview, body: memoryview) -> int | None:
        """Head and body in one call, hence mostly in one packet."""
        try:
            return self._client.sendmsg((head, body))
        except BlockingIOError:
            return None

    def finish(self) -> None:
        """Close the sending half."""
        self._client.shutdown(1)

    def close(self) -> None:
        """Close the socket."""
        self._client.close()


class Phase(Enum):
    """What a connection is doing; each phase has its own deadline."""

    HANDSHAKE = "agreeing on a cipher"
    READING = "waiting for a request, or for the rest of one"
    CHECKING = "its password is being checked"
    WRITING = "an answer is on its way"
    DRAINING = "answered for the last time; what still comes is dropped"


class Connection:
    """State of one client; `deadline_ns` is on the server's monotonic clock."""

    __slots__ = (
        "backlog",
        "body",
        "deadline_ns",
        "ended",
        "head",
        "inbox",
        "last",
        "phase",
        "served",
        "watched",
        "wire",
    )

    def __init__(self, wire: Wire, deadline_ns: int, phase: Phase) -> None:
        """Begin with nothing received and nothing to send."""
        self.wire = wire
        self.deadline_ns = deadline_ns
        self.phase = phase
        self.inbox = bytearray()
        self.head: bytes | memoryview = b""
        self.body = memoryview(b"")
        self.served = 0
        self.watched = 0
        self.backlog = False
        self.ended = False
        self.last = False

    @property
    def idle(self) -> bool:
        """Whether it was served and has asked for nothing since: nobody loses if it is closed."""
        return self.phase is Phase.READING and self.served > 0 and not self.inbox

    def fill(self) -> bool:
        """Receive once; whether anything new is known. Raises OSError."""
        data = self.wire.receive()
        if data is None:
            return False
        self.ended = not data
        self.inbox += data
        return True

    def take(self, limit_bytes: int) -> Request | None:
        """Cut the next whole request out of what was received, None if there is none yet.

        Raises:
            BadRequest: what was received is not, or cannot become, a request.
        """
        inbox = self.inbox
        while inbox[:2] == b"\r\n":
            del inbox[:2]
        if inbox and not (0x41 <= inbox[0] <= 0x5A or inbox[0] == 0x0D):  # noqa: PLR2004  # A to Z, or a line's end
            raise BadRequest(400, "this is not HTTP; if you meant https, it is http here")
        end = inbox.find(END_OF_HEAD, 0, limit_bytes + len(END_OF_HEAD))
        if end < 0:
            if len(inbox) >= limit_bytes:
                raise BadRequest(431, f"the request is larger than {limit_bytes} bytes")
            return None
        head = bytes(inbox[:end])
        del inbox[: end + len(END_OF_HEAD)]
        return parse_head(head)

    def queue(self, head: bytes, body: bytes) -> None:
        """Lay an answer out for sending."""
        self.head = head
        self.body = memoryview(body)
        self.phase = Phase.WRITING

    def flush(self) -> bool:
        """Send what the client takes now; whether all is sent. Raises OSError."""
        while self.head or self.body:
            sent = self.wire.send(self.head, self.body[:WRITE_BYTES])
            if sent is None:
                return False
            in_head = min(sent, len(self.head))
            self.head = memoryview(self.head)[in_head:]
            self.body = self.body[sent - in_head :]
        self.head = b""
        self.body = memoryview(b"")
        return True
