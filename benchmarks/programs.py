"""Starts what is compared, and reads what it has used."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.scrape import Scraper
from stack.peers import start_node_exporter, write_config
from stack.processes import PeerError, free_port, launch
from stack.programs import locate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from stack.processes import Peer

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
BYTES_PER_MIB = 2**20
CLOCK_OF_PROCESS = 2
"""CPUCLOCK_SCHED of the kernel: what clock_getcpuclockid(3) puts beside the process number."""


class Load(NamedTuple):
    """What the daemon watches: its name in the table, the configuration and root it is given."""

    name: str
    config: Mapping[str, object]
    rootfs: Path | None


def environment(directory: Path) -> dict[str, str]:
    """Make Python keep its bytecode as an installed package does, away from the checkout."""
    return {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(directory / "bytecode")}


def command_of(load: Load, directory: Path, port: int, *, tick: str | None = None) -> list[str]:
    """Command line of the daemon; `tick` overrides the second between its ticks."""
    command = [sys.executable, "-m", "joulefloor", "run", "--log.level=error"]
    command.append(f"--web.listen-address=127.0.0.1:{port}")
    config = dict(load.config) | ({"sampling": {"tick": tick}} if tick else {})
    if config:
        file = write_config(directory / f"{load.name}-{tick or '1s'}.yaml", config)
        command.append(f"--config.file={file}")
    if load.rootfs is not None:
        command.append(f"--path.rootfs={load.rootfs}")
    return command


def start_daemon(load: Load, directory: Path, *, tick: str | None = None) -> Peer:
    """Start joulefloor and wait until its first snapshot is there."""
    port = free_port()
    command: Sequence[str | Path] = command_of(load, directory, port, tick=tick)
    peer = launch(
        f"joulefloor-{load.name}-{tick or '1s'}",
        command,
        port=port,
        directory=directory,
        environment=environment(directory),
    )
    return peer.await_ready("/readyz")


def start_copy(of: Peer, directory: Path) -> Peer:
    """Start prometheus-client with the series that a daemon shows now."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.client_peer", f"{of.url}/metrics", str(port)]
    root = Path(__file__).resolve().parent.parent
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    peer = launch(
        f"copy-of-{of.name}",
        command,
        port=port,
        directory=directory,
        environment=environment(directory) | {"PYTHONPATH": path},
    )
    return peer.await_ready("/metrics")


def start_yardstick(directory: Path) -> Peer:
    """Start node_exporter with its defaults.

    Raises:
        PeerError: there is none on this machine.
    """
    program = locate("node_exporter")
    if program is None:
        raise PeerError("node_exporter is missing: tests/install.sh brings it")
    return start_node_exporter(program, directory)


def cpu_s(peer: Peer) -> float:
    """CPU seconds the process has used, all threads, those that ended included."""
    return _cpu_s(peer.process.pid)


def _cpu_s(pid: int) -> float:
    return time.clock_gettime_ns((~pid << 3) | CLOCK_OF_PROCESS) / 1e9


def rss_mib(peer: Peer) -> float:
    """Resident memory of the process."""
    return _rss_mib(peer.process.pid)


def _rss_mib(pid: int) -> float:
    fields = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()
    return int(fields[1]) * PAGE_BYTES / BYTES_PER_MIB


class WorkerUse(NamedTuple):
    """What the worker processes of a daemon have used."""

    cpu_percent: float
    rss_mib: float


def worker_of(peer: Peer, seconds: float = 5.0) -> WorkerUse:
    """Watch the child processes of a daemon for a while: they hold the vendors' libraries."""
    tasks = Path(f"/proc/{peer.process.pid}/task").glob("*/children")
    children = [int(word) for task in tasks for word in task.read_text().split()]
    before = sum(_cpu_s(child) for child in children)
    time.sleep(seconds)
    used_s = sum(_cpu_s(child) for child in children) - before
    return WorkerUse(used_s / seconds * 100, sum(_rss_mib(child) for child in children))


def exposition(peer: Peer) -> str:
    """What it shows now."""
    with Scraper(peer.address) as scraper:
        return scraper.scrape().text
