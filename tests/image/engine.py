"""A Docker Engine of its own for the tests: private socket, private data, gone afterwards."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from stack.processes import launch
from stack.query import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

# Debian's client: one on PATH may be of another age and want plugins for a build.
CLIENT: Final = Path("/usr/bin/docker")
READY_S: Final = 180.0
STOP_S: Final = 20.0
LONGEST_S: Final = 1800.0
"""For a build, which takes a minute or two where nobody else needs the machine."""
TRIES: Final = 3
PROXIES: Final = ("http_proxy", "https_proxy", "no_proxy")


class EngineError(Exception):
    """The engine did not start or a command failed; the text says what it printed."""


def missing() -> str:
    """Say what a Docker Engine would need here; empty when nothing is missing."""
    if os.geteuid() != 0:
        return "a Docker Engine of its own needs root"
    absent = [name for name in ("dockerd", "debootstrap") if shutil.which(name) is None]
    if not CLIENT.exists():
        absent.append(str(CLIENT))
    return f"{', '.join(absent)} not found: tests/install.sh brings it" if absent else ""


@dataclass(frozen=True, slots=True)
class Engine:
    """A running Docker Engine, and what it builds and runs images for."""

    socket: Path
    platform: str

    def ask(
        self, *arguments: object, timeout_s: float = LONGEST_S
    ) -> subprocess.CompletedProcess[str]:
        """Run a docker command to its end, whatever comes of it."""
        own = {
            "DOCKER_HOST": f"unix://{self.socket}",
            "DOCKER_BUILDKIT": "1",
            "DOCKER_DEFAULT_PLATFORM": self.platform,
        }
        return subprocess.run(
            [str(CLIENT), *map(str, arguments)],
            capture_output=True,
            check=False,
            env=os.environ | own,
            text=True,
            timeout=timeout_s,
        )

    def done(self, *arguments: object) -> str:
        """Run a docker command that must succeed and return what it prints.

        Raises:
            EngineError: it failed.
        """
        answer = self.ask(*arguments)
        if answer.returncode != 0:
            said = (answer.stderr or answer.stdout).strip()[-3000:]
            raise EngineError(f"docker {arguments[0]}: {said}")
        return answer.stdout.strip()

    def build(self, context: Path, tag: str, *more: object) -> None:
        """Build an image; proxies of the environment reach the build as Docker knows them."""
        proxies = [f"--build-arg={name}" for name in PROXIES if name in os.environ]
        command = ("build", "--network", "host", "--progress", "plain", "--tag", tag)
        for attempt in range(1, TRIES + 1):
            try:
                self.done(*command, *proxies, *more, context)
            except EngineError:
                # Packages come over the network.
                if attempt == TRIES:
                    raise
            else:
                return

    def inspect(self, name: str) -> dict[str, Any]:
        """Everything the engine knows of an image or a container."""
        (known,) = json.loads(self.done("inspect", name))
        return dict(known)


@contextlib.contextmanager
def running(folder: Path, platform: str) -> Iterator[Engine]:
    """Start an engine in a folder (a short path: a socket's is 107 bytes at most) and stop it.

    Raises:
        EngineError: it did not become ready.
    """
    engine = Engine(folder / "docker.sock", platform)
    # Runtimes raise this limit by default, which a restricted root may not.
    files = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 20_000)
    command = [
        "dockerd",
        f"--data-root={folder / 'data'}",
        f"--exec-root={folder / 'exec'}",
        f"--pidfile={folder / 'pid'}",
        f"--host=unix://{engine.socket}",
        "--iptables=false",
        "--ip6tables=false",
        "--bridge=none",
        f"--default-ulimit=nofile={files}:{files}",
    ]
    daemon = launch("dockerd", command, port=0, directory=folder)
    try:
        if not eventually(lambda: _answers(engine) or daemon.died(), within_s=READY_S):
            raise EngineError(f"dockerd is not ready after {READY_S:g} s:\n{daemon.tail()}")
        if daemon.died():
            raise EngineError(f"dockerd ended while starting:\n{daemon.tail()}")
        yield engine
    finally:
        # Only the engine itself: it ends its containerd, and that its containers, in order.
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon.process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while not daemon.died() and time.monotonic() < deadline:
            time.sleep(0.05)
        daemon.stop()
        _unmount(folder)


def _answers(engine: Engine) -> bool:
    return engine.ask("version").returncode == 0


def _unmount(folder: Path) -> None:
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in sorted(mounts, reverse=True):
        if mount.startswith(f"{folder}/"):
            subprocess.run(["umount", "--lazy", mount], check=False)
