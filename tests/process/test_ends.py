"""How a daemon ends, and what must not end it: its log, a signal, a bug in its ledger."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from joulefloor.catalogue import SOURCE_UP, TICKS
from stack.processes import LOOPBACK, Peer, free_port
from tests.machine import Machine
from tests.patience import PATIENCE_S
from tests.process.conftest import PROGRAM, QUICK, Daemon

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ZONE = "sys/devices/virtual/powercap/intel-rapl/intel-rapl:0/energy_uj"
LEDGER_BUG = """
from joulefloor.__main__ import main
from joulefloor.ledger import Ledger
ticks = []
def close(*_, **__):
    ticks.append(1)
    if len(ticks) == 3:
        raise ZeroDivisionError("in the ledger")
Ledger.close = close
main()
"""


def _gone() -> int:
    """A pipe whose reader went away."""
    reader, writer = os.pipe()
    os.close(reader)
    return writer


def _device_without_room() -> int:
    return os.open("/dev/full", os.O_WRONLY)


@contextmanager
def _full() -> Iterator[int]:
    """A pipe that is full, and that nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    for size in (4096, 1):
        try:
            while True:
                os.write(writer, b"x" * size)
        except BlockingIOError:
            pass
    os.set_blocking(writer, True)
    yield writer
    os.close(reader)


@contextmanager
def _daemon(
    folder: Path, stderr: int | None, program: tuple[str, ...] = PROGRAM
) -> Iterator[Daemon]:
    """A daemon that logs to a descriptor; without one its standard error is closed."""
    root = folder / "root"
    root.mkdir(exist_ok=True)
    machine = Machine(root, host_file="intel-2s")
    config = folder / "joulefloor.yaml"
    config.write_text(QUICK)
    port = free_port()
    close = ("sh", "-c", 'exec "$@" 2>&-', "sh") if stderr is None else ()
    process = subprocess.Popen(
        [
            *close,
            *program,
            "run",
            f"--config.file={config}",
            f"--path.rootfs={root}",
            f"--web.listen-address={LOOPBACK}:{port}",
        ],
        stderr=stderr,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    log = folder / "joulefloor.log"
    peer = Peer("joulefloor", f"http://{LOOPBACK}:{port}", log, process)
    try:
        yield Daemon(machine, peer)
    finally:
        peer.stop()


def _goes_on(daemon: Daemon) -> None:
    """It has something to log, and ticks afterwards."""
    daemon.peer.await_ready("/readyz", within_s=PATIENCE_S)
    daemon.machine.write(ZONE, "garbage")
    for other in daemon.machine.root.rglob("energy_uj"):
        daemon.machine.write(str(other.relative_to(daemon.machine.root)), "garbage")
    assert daemon.until(lambda: daemon.value(SOURCE_UP.name, source="rapl") == 0)
    before = daemon.value(TICKS.name) or 0.0
    assert daemon.until(lambda: (daemon.value(TICKS.name) or 0.0) > before + 2)


def _end(daemon: Daemon) -> int:
    daemon.peer.process.send_signal(signal.SIGTERM)
    return daemon.peer.process.wait(timeout=PATIENCE_S)


@pytest.mark.parametrize("open_log", [_gone, _device_without_room, None])
def test_a_log_that_cannot_be_written_stops_neither_ticks_nor_the_end(
    tmp_path: Path, open_log: Callable[[], int] | None
) -> None:
    stderr = None if open_log is None else open_log()
    with _daemon(tmp_path, stderr) as daemon:
        if stderr is not None:
            os.close(stderr)
        _goes_on(daemon)
        assert _end(daemon) == 0


def test_a_log_that_nobody_reads_holds_up_neither_ticks_nor_the_end(tmp_path: Path) -> None:
    with _full() as stderr, _daemon(tmp_path, stderr) as daemon:
        os.close(stderr)
        _goes_on(daemon)
        assert _end(daemon) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_every_signal_to_end_is_followed_by_a_last_line(
    start: Callable[..., Daemon], number: signal.Signals
) -> None:
    daemon = start()
    os.kill(daemon.peer.process.pid, number)
    assert daemon.peer.process.wait(timeout=PATIENCE_S) == 0
    assert "event=stopped" in daemon.peer.tail(1)


def test_a_daemon_started_by_nohup_outlives_its_terminal(tmp_path: Path) -> None:
    with _daemon(tmp_path, subprocess.DEVNULL, ("nohup", *PROGRAM)) as daemon:
        daemon.peer.await_ready("/readyz", within_s=PATIENCE_S)
        daemon.peer.process.send_signal(signal.SIGHUP)
        before = daemon.value(TICKS.name) or 0.0
        assert daemon.until(lambda: (daemon.value(TICKS.name) or 0.0) > before + 2)
        assert _end(daemon) == 0


def test_a_ledger_that_ends_by_a_bug_ends_the_daemon_with_one_line_in_the_log(
    tmp_path: Path,
) -> None:
    program = (sys.executable, "-c", LEDGER_BUG)
    with (
        (tmp_path / "joulefloor.log").open("wb") as log,
        _daemon(tmp_path, log.fileno(), program) as daemon,
    ):
        assert daemon.peer.process.wait(timeout=PATIENCE_S) == 1
        lines = daemon.peer.tail(1000).splitlines()
    (told,) = [line for line in lines if "ZeroDivisionError" in line]
    assert "level=error event=thread_bug thread=ledger" in told
    assert all(line.startswith("unix_s=") for line in lines)
    assert "event=stopped" in lines[-1]
