"""Logging: one line per change of state, as key=value for people or as JSON for machines.

Our own few lines instead of the standard library's logging: the daemon logs a dozen events in its
life, from three threads, and `logging` costs 2.6 MiB of memory.

A line that cannot be written at once is lost, and counted: a full disk, a reader that went away or
one that no longer reads must not end or hold up the thread that had something to say.
"""

from __future__ import annotations

import os
import sys
from enum import IntEnum
from select import PIPE_BUF, POLLOUT, poll
from threading import Lock
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from joulefloor.clock import Clock


class Severity(IntEnum):
    """How bad an event is; values order them."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


class Log:
    """Writes events at or above a severity to a stream."""

    def __init__(
        self,
        clock: Clock,
        severity: Severity = Severity.INFO,
        *,
        as_json: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        """`stream` is standard error unless given."""
        self._clock = clock
        self._severity = severity
        self._as_json = as_json
        # None where standard error was closed: its descriptor may be somebody else's by now.
        self._stream: TextIO | None = stream or sys.stderr
        self._lock = Lock()
        self._lost = 0

    def info(self, event: str, **fields: object) -> None:
        """Normal change of state."""
        self._write(Severity.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Something a person may want to mend."""
        self._write(Severity.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Something a person must mend."""
        self._write(Severity.ERROR, event, fields)

    def debug(self, event: str, **fields: object) -> None:
        """For those who develop."""
        self._write(Severity.DEBUG, event, fields)

    def _write(self, severity: Severity, event: str, fields: dict[str, object]) -> None:
        if severity < self._severity:
            return
        line = self._line(severity, event, fields)
        with self._lock:
            if self._lost:
                lost: dict[str, object] = {"lines": self._lost}
                line = self._line(Severity.WARNING, "log_lines_lost", lost) + line
            self._lost = 0 if self._send(line) else self._lost + 1

    def _line(self, severity: Severity, event: str, fields: dict[str, object]) -> str:
        row: dict[str, object] = {
            "unix_s": round(self._clock.unix_s(), 3),
            "level": severity.name.lower(),
            "event": event,
            **fields,
        }
        return (_as_json(row) if self._as_json else _as_text(row)) + "\n"

    def _send(self, text: str) -> bool:
        """Whether all of it was written without waiting."""
        if self._stream is None:
            return False
        try:
            fd = self._stream.fileno()
        except (OSError, ValueError):  # held in memory
            self._stream.write(text)
            return True
        # Past the stream's buffer, which would keep what failed for a later flush to fail on.
        data = text.encode(errors="backslashreplace")
        try:
            return all(
                _has_room(fd) and os.write(fd, data[start : start + PIPE_BUF])
                for start in range(0, len(data), PIPE_BUF)
            )
        except OSError:
            return False


def _has_room(fd: int) -> bool:
    """Whether PIPE_BUF bytes can be written without waiting; files always have room."""
    poller = poll()
    poller.register(fd, POLLOUT)
    return any(events & POLLOUT for _, events in poller.poll(0))


def _as_text(row: dict[str, object]) -> str:
    return " ".join(f"{key}={_quoted(value)}" for key, value in row.items())


def _quoted(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) and abs(value) < 1e6 else str(value)  # noqa: PLR2004  # keep unix times whole
    plain = text and not any(character in text for character in ' "=\n\t\\')
    return text if plain else '"' + text.translate(_ESCAPES) + '"'


_ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"})


def _as_json(row: dict[str, object]) -> str:
    from json import dumps  # noqa: PLC0415  # only when asked for: 1.4 MiB

    return dumps(row, default=str)
