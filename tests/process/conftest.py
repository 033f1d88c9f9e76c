"""The real program as a process: how the tests below start it and ask it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from stack.processes import LOOPBACK, free_port, launch
from stack.query import eventually, fetch
from tests.machine import Machine
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from stack.processes import Peer

PROGRAM = (sys.executable, "-m", "joulefloor")
QUICK = (
    "sampling: {tick: 100ms}\n"
    "sources:\n"
    "  rapl: {period: 100ms}\n"
    "  hwmon: {period: 100ms}\n"
    "  model: {enabled: false}\n"
)


def joulefloor(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    """Run a command of the program to its end."""
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [*PROGRAM, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
        **options,
    )


class Daemon:
    """A running daemon on a machine of its own."""

    def __init__(self, machine: Machine, peer: Peer) -> None:
        self.machine = machine
        self.peer = peer

    def metrics(self) -> str:
        return fetch(f"{self.peer.url}/metrics", timeout_s=PATIENCE_S).decode()

    def value(self, name: str, **labels: str) -> float | None:
        """One series' value, None if absent."""
        for line in self.metrics().splitlines():
            if line.startswith(name) and all(
                f'{key}="{text}"' in line for key, text in labels.items()
            ):
                match = re.fullmatch(r"(?P<name>\w+)(?:{.*})? (?P<value>\S+)", line)
                if match is not None and match["name"] == name:
                    return float(match["value"])
        return None

    def until(self, holds: Callable[[], bool]) -> bool:
        """Wait until something holds."""
        return eventually(holds, within_s=PATIENCE_S)


Start = "Callable[..., Daemon]"


@pytest.fixture(scope="session", autouse=True)
def _hanging_up_ends_programs() -> Iterator[None]:
    """Programs inherit what becomes of SIGHUP, also from a session that nohup started."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Start daemons on an expanded host file; all are stopped at the end."""
    running: list[Peer] = []

    def _start(
        host: str = "intel-2s",
        *arguments: str,
        config: str = QUICK,
        machine: Machine | None = None,
        uid: int | None = None,
    ) -> Daemon:
        if machine is None:
            root = tmp_path / f"host-{len(running)}"
            root.mkdir()
            machine = Machine(root, host_file=host)
        file = tmp_path / f"joulefloor-{len(running)}.yaml"
        file.write_text(config)
        port = free_port()
        command = [
            *(_as_uid(uid) if uid is not None else ()),
            *PROGRAM,
            "run",
            f"--config.file={file}",
            f"--path.rootfs={machine.root}",
            f"--web.listen-address={LOOPBACK}:{port}",
            *arguments,
        ]
        peer = launch("joulefloor", command, port=port, directory=tmp_path / f"log-{len(running)}")
        running.append(peer)
        peer.await_ready("/readyz", within_s=PATIENCE_S)
        return Daemon(machine, peer)

    yield _start
    for peer in running:
        peer.stop()


def _as_uid(uid: int) -> tuple[str, ...]:
    """Become somebody without rights, if we are somebody with all of them."""
    if os.geteuid() != 0:
        return ()
    return ("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--")
