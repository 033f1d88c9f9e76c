"""A scraper that costs little itself: one raw socket, kept alive where the server allows it."""

from __future__ import annotations

import gzip
import socket
import time
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from types import TracebackType

TIMEOUT_S = 10.0
CHUNK = 262_144
LAST_CHUNK = b"\r\n0\r\n\r\n"


class Answer(NamedTuple):
    """A body as it came, compressed or not, and how long it took from asking to its last byte."""

    body: bytes
    milliseconds: float

    @property
    def text(self) -> str:
        """The exposition."""
        packed = self.body
        return (gzip.decompress(packed) if packed[:2] == b"\x1f\x8b" else packed).decode()


class Scraper:
    """One client of one address."""

    def __init__(self, address: str) -> None:
        """Connect with the first scrape; `address` is host:port."""
        host, _, port = address.partition(":")
        self._place = (host, int(port))
        self._socket: socket.socket | None = None
        self._request = (
            f"GET /metrics HTTP/1.1\r\nHost: {address}\r\nUser-Agent: bench\r\n"
            "Accept: text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\nAccept-Encoding: gzip\r\n\r\n"
        ).encode()

    def __enter__(self) -> Self:
        """Hand out the client."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hang up."""
        self.close()

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def scrape(self) -> Answer:
        """Ask once; the connection is kept if the server keeps it.

        Raises:
            OSError: nobody answers, or not with 200.
        """
        started_ns = time.perf_counter_ns()
        if self._socket is None:
            self._socket = socket.create_connection(self._place, TIMEOUT_S)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.sendall(self._request)
        head, body = self._receive(self._socket)
        if head.startswith(b"http/1.0") or b"\nconnection: close" in head:
            self.close()
        if not head.startswith((b"http/1.1 200", b"http/1.0 200")):
            self.close()
            raise OSError(head[:40].decode(errors="replace"))
        return Answer(body, (time.perf_counter_ns() - started_ns) / 1e6)

    def _receive(self, peer: socket.socket) -> tuple[bytes, bytes]:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more(peer)
        head, _, body = data.partition(b"\r\n\r\n")
        head = head.lower()
        if b"transfer-encoding: chunked" in head:
            while not body.endswith(LAST_CHUNK):
                body += self._more(peer)
            return head, _without_chunks(body)
        _, _, length = head.partition(b"content-length:")
        if length:
            size = int(length.split(None, 1)[0])
            while len(body) < size:
                body += self._more(peer)
            return head, body
        while more := peer.recv(CHUNK):
            body += more
        self.close()
        return head, body

    def _more(self, peer: socket.socket) -> bytes:
        data = peer.recv(CHUNK)
        if not data:
            self.close()
            raise OSError("the server hung up within an answer")
        return data


def _without_chunks(body: bytes) -> bytes:
    pieces: list[bytes] = []
    while True:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if not length:
            return b"".join(pieces)
        pieces.append(rest[:length])
        body = rest[length + 2 :]


def values_of(text: str, name: str) -> list[float]:
    """Values of every series of that name in an exposition."""
    lines = (line for line in text.splitlines() if line.startswith(name))
    return [float(line.rpartition(" ")[2]) for line in lines if line[len(name)] in "{ "]


def count_series(text: str) -> int:
    """Number of series in an exposition."""
    return sum(1 for line in text.splitlines() if line and not line.startswith("#"))
