"""From requests to answers, for one connection at a time and never waiting for it.

`Exchange.step` moves a connection as far as it goes now and says what it waits for. Every phase
has a deadline and every buffer a bound; no client is waited for, so a slow, silent or hostile one
costs only itself.
"""

from __future__ import annotations

from collections import deque
from selectors import EVENT_READ, EVENT_WRITE
from typing import TYPE_CHECKING, NamedTuple, Protocol

from joulefloor.connection import Connection, Phase, Want
from joulefloor.errors import JoulefloorError
from joulefloor.http1 import METHODS, BadRequest, Request, Response, encode_head, http_date, text
from joulefloor.units import Seconds, nanoseconds_from_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from joulefloor.clock import Clock
    from joulefloor.http1 import Route
    from joulefloor.log import Log

TURNS = 8
"""Pipelined requests answered before other clients get their turn."""
_COMPLAINTS = 64


class Limits(NamedTuple):
    """What a client may cost; seconds > 0.

    The idle time is above 60 s, since Prometheus scrapes each minute by default and a connection
    that closes in the very moment of the next scrape would make it connect anew each time.
    """

    header_bytes: int = 16_384
    connections: int = 256
    header_s: Seconds = Seconds(10.0)
    idle_s: Seconds = Seconds(75.0)
    check_s: Seconds = Seconds(10.0)
    write_s: Seconds = Seconds(60.0)
    linger_s: Seconds = Seconds(1.0)


class Checking(Exception):  # noqa: N818  # no failure: the answer follows
    """The gate needs time; others are served meanwhile."""


class Gate(Protocol):
    """Who may come in, asked once per request."""

    def ask(self, request: Request, later: Callable[[Response | None], None]) -> Response | None:
        """None: come in. A response: the refusal to send.

        Raises:
            Checking: `later` will be called, from another thread, with the answer.
        """

    def close(self) -> None:
        """Check nothing any more."""


class _Verdict(NamedTuple):
    """What the gate said later."""

    connection: Connection
    request: Request
    refusal: Response | None


class Exchange:
    """Answers connections from a table of routes."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        *,
        missing: Route,
        headers: Mapping[str, str],
        gate: Gate | None,
        limits: Limits,
        clock: Clock,
        log: Log,
        ring: Callable[[], None],
    ) -> None:
        """`headers` go with every answer; `ring` wakes the server after a late verdict."""
        self.ready: deque[Connection] = deque()
        self._routes = routes
        self._missing = missing
        self._headers = {"X-Content-Type-Options": "nosniff", **headers}
        self._gate = gate
        self._limits = limits
        self._clock = clock
        self._log = log
        self._ring = ring
        self._verdicts: deque[_Verdict] = deque()
        self._date = (0, "")
        self._complaints: set[str] = set()

    def step(self, connection: Connection) -> int:
        """Move one client on; returns the events to wait for, 0 for none.

        Raises:
            OSError: the client is gone.
        """
        if connection.phase is Phase.HANDSHAKE:
            want = connection.wire.handshake()
            if want is not Want.NOTHING:
                return EVENT_WRITE if want is Want.WRITABLE else EVENT_READ
            connection.phase = Phase.READING
        if connection.phase is Phase.WRITING:
            self._flush(connection)
        if connection.phase is Phase.READING:
            self._read(connection)
        if connection.phase is Phase.DRAINING:
            _drain(connection)
        if connection.phase is Phase.CHECKING:
            return 0
        return EVENT_WRITE if connection.phase is Phase.WRITING else EVENT_READ

    def settle_verdicts(self) -> list[Connection]:
        """Lay out what the gate has decided since; returns the connections to move on."""
        settled = []
        while self._verdicts:
            connection, request, refusal = self._verdicts.popleft()
            if connection.phase is Phase.CHECKING:
                self._answer(connection, request, refusal or self._route(request))
                settled.append(connection)
        return settled

    def give_up(self, connection: Connection) -> bool:
        """Lay out a last answer for a client whose deadline is over; False to close at once."""
        if connection.phase is Phase.CHECKING:
            self._answer(connection, None, text(503, "the password check took too long"))
            return True
        if connection.phase is Phase.READING and connection.inbox:
            self._answer(connection, None, text(408, "the request did not arrive in time"))
            return True
        return False

    def turn_away(self, connection: Connection) -> None:
        """Lay out the answer for a client that finds no room."""
        self._answer(connection, None, text(503, "too many connections"))

    def after(self, seconds: Seconds) -> int:
        """Instant of the monotonic clock that far ahead, in nanoseconds."""
        return self._clock.monotonic_ns() + nanoseconds_from_seconds(seconds)

    def _read(self, connection: Connection) -> None:
        if not connection.backlog:
            started = bool(connection.inbox)
            if not connection.fill():
                return
            if connection.served and not started:
                connection.deadline_ns = self.after(self._limits.header_s)
        connection.backlog = True
        for _ in range(TURNS):
            if not self._take(connection):
                break
        else:
            self.ready.append(connection)
            return
        if connection.phase is Phase.READING:
            connection.backlog = False
            if connection.ended:
                raise ConnectionResetError

    def _take(self, connection: Connection) -> bool:
        """Answer one request; whether it is sent and the next one may follow."""
        try:
            request = connection.take(self._limits.header_bytes)
        except BadRequest as refused:
            self._answer(connection, None, text(refused.status, refused.why))
            return self._flush(connection)
        if request is None:
            return False
        try:
            response = self._respond(connection, request)
        except Checking:
            connection.phase = Phase.CHECKING
            connection.deadline_ns = self.after(self._limits.check_s)
            return False
        self._answer(connection, request, response)
        return self._flush(connection)

    def _respond(self, connection: Connection, request: Request) -> Response:
        if self._gate is not None:

            def later(refusal: Response | None) -> None:
                self._verdicts.append(_Verdict(connection, request, refusal))
                self._ring()

            refusal = self._gate.ask(request, later)
            if refusal is not None:
                return refusal
        return self._route(request)

    def _route(self, request: Request) -> Response:
        if request.method not in METHODS:
            return text(405, "only GET and HEAD are answered", (("Allow", "GET, HEAD"),))
        try:
            return self._routes.get(request.path, self._missing)(request)
        except (JoulefloorError, ValueError, OSError) as error:
            self._complain(request.path, f"{type(error).__name__}: {error}")
            return text(500, "this page failed; the log says why")

    def _complain(self, path: str, words: str) -> None:
        """Log once per distinct failure, never per scrape."""
        if words not in self._complaints and len(self._complaints) < _COMPLAINTS:
            self._complaints.add(words)
            self._log.error("page_failed", path=path, error=words)

    def _answer(self, connection: Connection, request: Request | None, response: Response) -> None:
        """Lay out an answer; None as request means that the connection cannot go on after it."""
        connection.last = request is None or not request.keep_alive
        head = encode_head(response, self._now(), self._headers, keep_alive=not connection.last)
        body = b"" if request is not None and request.method == "HEAD" else response.body
        connection.queue(head, body)
        connection.deadline_ns = self.after(self._limits.write_s)

    def _now(self) -> str:
        unix_s = max(0, int(self._clock.unix_s()))
        if self._date[0] != unix_s or not self._date[1]:
            self._date = (unix_s, http_date(unix_s))
        return self._date[1]

    def _flush(self, connection: Connection) -> bool:
        """Send on; whether the connection is free for its next request."""
        if not connection.flush():
            return False
        connection.served += 1
        if connection.last or (connection.ended and not connection.inbox):
            connection.wire.finish()
            connection.phase = Phase.DRAINING
            connection.deadline_ns = self.after(self._limits.linger_s)
            return False
        connection.phase = Phase.READING
        slack = self._limits.header_s if connection.inbox else self._limits.idle_s
        connection.deadline_ns = self.after(slack)
        return True


def _drain(connection: Connection) -> None:
    """Drop what a client still sends: closing at once would reset it before it reads the answer."""
    for _ in range(TURNS):
        data = connection.wire.receive()
        if data is None:
            return
        if not data:
            raise ConnectionResetError
