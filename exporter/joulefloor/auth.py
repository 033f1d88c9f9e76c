"""HTTP basic authentication with bcrypt, as the exporter-toolkit's web configuration states it.

A bcrypt check takes a large part of a second on purpose, so it never runs in the server's thread:
one worker checks one password at a time, and what was found right is remembered.
"""

from __future__ import annotations

import binascii
import hashlib
import os
from collections import OrderedDict
from contextlib import suppress
from queue import Empty, Full, Queue
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

import bcrypt

from joulefloor.exchange import Checking
from joulefloor.http1 import text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from joulefloor.http1 import Request, Response

_WAITING = 32
_REMEMBERED = 128
_LONGEST_PASSWORD = 72
"""Bytes that bcrypt looks at; it always has ignored the rest."""
_COST = slice(4, 6)

UNAUTHORIZED = text(
    401,
    "a user name and password are needed",
    (("WWW-Authenticate", 'Basic realm="joulefloor", charset="UTF-8"'),),
)
BUSY = text(503, "too many password checks are waiting", (("Retry-After", "5"),))


class _Check(NamedTuple):
    """One password to be checked, and whom to tell."""

    known: bool
    password: bytes
    hashed: bytes
    memory: bytes
    tell: Callable[[Response | None], None]


class Passwords:
    """The gate of a server with users."""

    def __init__(self, users: Mapping[str, bytes]) -> None:
        """`users`: name to bcrypt hash. The worker starts with the first check."""
        self._users = dict(users)
        self._salt = os.urandom(16)
        self._right: OrderedDict[bytes, None] = OrderedDict()
        self._checks: Queue[_Check | None] = Queue(_WAITING)
        self._worker: Thread | None = None
        # An unknown user is checked against a hash that nothing matches, at the highest cost in
        # use: the time to a refusal does not tell which names exist.
        cost = max((int(hashed[_COST]) for hashed in users.values()), default=10)
        self._nobody = b"$2b$%02d$" % cost + b"." * 53

    def ask(self, request: Request, later: Callable[[Response | None], None]) -> Response | None:
        """None for who is known, a refusal for who is not. Raises Checking."""
        pair = _credentials(request.headers.get("authorization", ""))
        if pair is None:
            return UNAUTHORIZED
        user, password = pair
        memory = self._memory(user, password)
        if memory in self._right:
            return None
        hashed = self._users.get(user)
        check = _Check(
            hashed is not None, password[:_LONGEST_PASSWORD], hashed or self._nobody, memory, later
        )
        try:
            self._checks.put_nowait(check)
        except Full:
            return BUSY
        if self._worker is None:
            self._worker = Thread(target=self._work, name="passwords", daemon=True)
            self._worker.start()
        raise Checking

    def close(self) -> None:
        """Let the worker end after its current check."""
        with suppress(Empty):
            while True:
                self._checks.get_nowait()
        self._checks.put_nowait(None)

    def _memory(self, user: str, password: bytes) -> bytes:
        """Fingerprint under which a right password is remembered; the password itself is not."""
        name = user.encode()
        text = len(name).to_bytes(4, "big") + name + password
        return hashlib.blake2b(text, key=self._salt, digest_size=32).digest()

    def _work(self) -> None:
        while (check := self._checks.get()) is not None:
            right = _matches(check.password, check.hashed) and check.known
            if right:
                self._right[check.memory] = None
                while len(self._right) > _REMEMBERED:
                    self._right.popitem(last=False)
            check.tell(None if right else UNAUTHORIZED)


def _matches(password: bytes, hashed: bytes) -> bool:
    try:
        return bcrypt.checkpw(password, hashed)
    except ValueError:
        return False


def _credentials(header: str) -> tuple[str, bytes] | None:
    """User and password of an Authorization header, None if it holds none."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = binascii.a2b_base64(encoded.strip()).partition(b":")
        return (user.decode(), password) if colon else None
    except ValueError:
        return None
