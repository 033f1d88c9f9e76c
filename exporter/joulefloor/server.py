"""The daemon's HTTP server: one thread, epoll, no framework, nothing that can stall a scrape.

A scrape costs three system calls. This module owns the sockets and the loop; what is said on a
connection is `exchange`, how it is written is `http1`.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
from threading import RLock
from typing import TYPE_CHECKING, Protocol

from joulefloor.connection import Connection, Phase, PlainWire
from joulefloor.exchange import TURNS, Exchange, Limits
from joulefloor.http1 import Request, Response, text
from joulefloor.listen import Address, listen_on_all
from joulefloor.units import seconds_from_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from joulefloor.clock import Clock
    from joulefloor.connection import Wire
    from joulefloor.exchange import Gate
    from joulefloor.http1 import Route
    from joulefloor.log import Log

_ANTEROOM = 32
"""Clients beyond the limit that are at least told so; for more there is not even time for that."""
_NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Tls(Protocol):
    """Encrypts what comes in."""

    def wrap(self, client: socket.socket) -> Wire:
        """Take over a connected non-blocking socket. Raises OSError."""


def nothing_here(request: Request) -> Response:
    """Answer for a path without a route."""
    return text(404, f"404: nothing is at {request.path}")


class Server:
    """Answers requests from a table of routes until it is told to stop."""

    def __init__(
        self,
        addresses: Iterable[str],
        routes: Mapping[str, Route],
        *,
        clock: Clock,
        log: Log,
        missing: Route = nothing_here,
        headers: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        gate: Gate | None = None,
        limits: Limits = Limits(),  # noqa: B008  # immutable
    ) -> None:
        """Listen on every address, or on none; `headers` go with every answer.

        Raises:
            StartError: an address cannot be had; the message names it and the fix.
        """
        self._listeners = listen_on_all(addresses)
        self._tls = tls
        self._gate = gate
        self._limits = limits
        self._clock = clock
        self._log = log
        self._exchange = Exchange(
            routes,
            missing=missing,
            headers=headers or {},
            gate=gate,
            limits=limits,
            clock=clock,
            log=log,
            ring=self._ring,
        )
        self._connections: set[Connection] = set()
        self._deaf_until_ns: int | None = None
        self._said_deaf = False
        self._stopping = False
        # A signal handler may ring while its own thread does.
        self._bell = RLock()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake_fd, selectors.EVENT_READ)
        self._listen_again()

    @property
    def urls(self) -> tuple[str, ...]:
        """Where it listens, as bound: `[::]` and `0.0.0.0` are all addresses of this machine."""
        scheme = "http" if self._tls is None else "https"
        places = (Address(*listener.getsockname()[:2]) for listener in self._listeners)
        return tuple(f"{scheme}://{place}" for place in places)

    def run(self) -> None:
        """Serve until `stop`, then close every socket."""
        ready = self._exchange.ready
        try:
            while not self._stopping:
                for key, _ in self._selector.select(self._timeout_s()):
                    if isinstance(key.data, Connection):
                        self._advance(key.data)
                    elif key.data is None:
                        self._wake()
                    else:
                        self._accept(key.data)
                for _ in range(len(ready)):
                    self._advance(ready.popleft())
                self._expire()
        finally:
            self.close()

    def stop(self) -> None:
        """End `run` soon; may be called from a signal handler or from another thread."""
        self._stopping = True
        self._ring()

    def close(self) -> None:
        """Close every socket; a second call does nothing."""
        with self._bell:
            wake_fd, self._wake_fd = self._wake_fd, -1
        if wake_fd < 0:
            return
        for connection in tuple(self._connections):
            self._drop(connection)
        for listener in self._listeners:
            listener.close()
        self._selector.close()
        if self._gate is not None:
            self._gate.close()
        os.close(wake_fd)

    def _ring(self) -> None:
        with self._bell:
            if self._wake_fd >= 0:
                os.eventfd_write(self._wake_fd, 1)

    def _wake(self) -> None:
        os.eventfd_read(self._wake_fd)
        for connection in self._exchange.settle_verdicts():
            self._advance(connection)

    def _timeout_s(self) -> float | None:
        if self._exchange.ready:
            return 0.0
        deadlines = [connection.deadline_ns for connection in self._connections]
        if self._deaf_until_ns is not None:
            deadlines.append(self._deaf_until_ns)
        if not deadlines:
            return None
        return max(0.0, seconds_from_nanoseconds(min(deadlines) - self._clock.monotonic_ns()))

    def _expire(self) -> None:
        now_ns = self._clock.monotonic_ns()
        for connection in [c for c in self._connections if c.deadline_ns <= now_ns]:
            if self._exchange.give_up(connection):
                self._advance(connection)
            else:
                self._drop(connection)
        if self._deaf_until_ns is not None and self._deaf_until_ns <= now_ns:
            self._deaf_until_ns = None
            self._listen_again()

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(TURNS):
            try:
                client, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_ROOM:
                    self._turn_deaf(error)
                    return
                continue
            try:
                self._welcome(client)
            except OSError:
                client.close()

    def _turn_deaf(self, error: OSError) -> None:
        """Without descriptors left, accept would fail in a busy loop: pause it, and make room."""
        if not self._said_deaf:
            self._said_deaf = True
            self._log.error("accept_failed", error=error.strerror, hint="raise ulimit -n")
        self._make_room()
        if self._deaf_until_ns is None:
            self._deaf_until_ns = self._exchange.after(self._limits.linger_s)
            for listener in self._listeners:
                self._selector.unregister(listener)

    def _listen_again(self) -> None:
        for listener in self._listeners:
            self._selector.register(listener, selectors.EVENT_READ, listener)

    def _make_room(self) -> bool:
        """Close the connection that has been idle longest; whether there was one."""
        idle = [connection for connection in self._connections if connection.idle]
        if idle:
            self._drop(min(idle, key=lambda connection: connection.deadline_ns))
        return bool(idle)

    def _welcome(self, client: socket.socket) -> None:
        client.setblocking(False)
        crowd = len(self._connections) - self._limits.connections
        if crowd >= 0 and not self._make_room():
            if self._tls is not None or crowd >= _ANTEROOM:
                client.close()
                return
            refused = Connection(PlainWire(client), 0, Phase.READING)
            self._exchange.turn_away(refused)
            self._connections.add(refused)
            self._advance(refused)
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = PlainWire(client) if self._tls is None else self._tls.wrap(client)
        phase = Phase.READING if self._tls is None else Phase.HANDSHAKE
        connection = Connection(wire, self._exchange.after(self._limits.header_s), phase)
        self._connections.add(connection)
        self._advance(connection)

    def _advance(self, connection: Connection) -> None:
        """Go as far with one client as it goes without waiting."""
        if connection not in self._connections:
            return
        try:
            self._watch(connection, self._exchange.step(connection))
        except OSError:
            self._drop(connection)

    def _watch(self, connection: Connection, events: int) -> None:
        if events == connection.watched:
            return
        if not events:
            self._selector.unregister(connection.wire)
        elif not connection.watched:
            self._selector.register(connection.wire, events, connection)
        else:
            self._selector.modify(connection.wire, events, connection)
        connection.watched = events

    def _drop(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if connection.watched:
            self._selector.unregister(connection.wire)
            connection.watched = 0
        connection.wire.close()
