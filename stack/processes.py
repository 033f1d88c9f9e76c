"""Runs a server as a child process on loopback, for `make run` and the tests.

Every server has a process session of its own, so that Ctrl-C reaches only the program that
started it, and stopping it takes its own children along. What it prints goes to a file.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from stack.query import answers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

LOOPBACK: Final = "127.0.0.1"
READY_S: Final = 60.0
STOP_S: Final = 5.0
_POLL_S: Final = 0.05


class PeerError(Exception):
    """A server that died or never became ready; the text ends with the last lines of its log."""


class Stopped(Exception):  # noqa: N818  not an error: a person asked for it
    """Raised out of a wait when the person at the keyboard asked to stop."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server: where it answers, where it logs, and how to stop it."""

    name: str
    url: str
    log: Path
    process: subprocess.Popen[bytes]

    @property
    def address(self) -> str:
        """The host:port that scrape configurations want."""
        return self.url.removeprefix("http://")

    def died(self) -> bool:
        """Say whether the process has ended on its own."""
        if self.process.returncode is not None:
            return True
        # WNOWAIT keeps the zombie, so that its process group stays its own until stop().
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.process.pid, flags) is not None

    def tail(self, lines: int = 15) -> str:
        """Return the last lines the process printed."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return "\n".join(text.splitlines()[-lines:])

    def await_ready(
        self, path: str, *, within_s: float = READY_S, stop: threading.Event | None = None
    ) -> Self:
        """Poll `path` until it answers; a server that does not is stopped.

        Raises:
            PeerError: the process died, or did not answer in time.
            Stopped: `stop` was set meanwhile.
        """
        try:
            self._poll(path, within_s, stop or threading.Event())
        except (PeerError, Stopped):
            self.stop()
            raise
        return self

    def _poll(self, path: str, within_s: float, asked: threading.Event) -> None:
        deadline = time.monotonic() + within_s
        while not answers(self.url + path):
            if self.died():
                raise PeerError(f"{self.name} ended while starting:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise PeerError(f"{self.name} is not ready after {within_s:g} s:\n{self.tail()}")
            if asked.wait(_POLL_S):
                raise Stopped

    def stop(self, within_s: float = STOP_S) -> None:
        """End the process and its children: SIGTERM, then SIGKILL after `within_s`."""
        if self.process.returncode is not None:
            return
        self._signal(signal.SIGTERM)
        deadline = time.monotonic() + within_s
        while not self.died() and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        self._signal(signal.SIGKILL)
        self.process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def __enter__(self) -> Self:
        """Hand out the running server."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the server."""
        self.stop()


def free_port(preferred: int = 0) -> int:
    """Find a free loopback TCP port: the preferred one when nobody listens there."""
    for port in (preferred, 0) if preferred else (0,):
        with socket.socket() as probe:
            # As the servers themselves do, so that a port in TIME_WAIT counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise PeerError("no free TCP port on 127.0.0.1")


def launch(
    name: str,
    command: Sequence[str | Path],
    *,
    port: int,
    directory: Path,
    environment: Mapping[str, str] | None = None,
) -> Peer:
    """Start a server in a session of its own; its output goes to `directory`/`name`.log.

    Raises:
        PeerError: the program cannot be started.
    """
    directory.mkdir(parents=True, exist_ok=True)
    log = directory / f"{name}.log"
    # So that even a starter that is killed outright leaves no server behind.
    tether = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                [*tether, *command],
                cwd=directory,
                env=None if environment is None else os.environ | environment,
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        except OSError as error:
            raise PeerError(f"{name} cannot be started: {error}") from error
    return Peer(name, f"http://{LOOPBACK}:{port}", log, process)
