"""What happens to a daemon in life: killed, hung, asked by many, asked wrongly."""

from __future__ import annotations

import gzip
import os
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from joulefloor.catalogue import (
    COMPONENT_ENERGY,
    COMPONENT_POWER,
    SOURCE_FAULTS,
    SOURCE_UP,
    TEMPERATURE,
    TICKS,
)
from stack.processes import LOOPBACK
from stack.query import fetch
from tests.machine import Machine
from tests.patience import PATIENCE_S
from tests.process.conftest import QUICK, joulefloor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.process.conftest import Daemon

ZONE = "sys/devices/virtual/powercap/intel-rapl/intel-rapl:0/energy_uj"
PACKAGE = {"component": "cpu", "device": "package-0", "source": "rapl"}


def joules(daemon: Daemon) -> float | None:
    return daemon.value(COMPONENT_ENERGY.name, **PACKAGE)


def burn(daemon: Daemon, microjoules: int) -> None:
    daemon.machine.write(ZONE, int(daemon.machine.host.text(ZONE)) + microjoules)


def test_kill_9_and_restart_starts_at_zero_and_counts_nothing_of_the_time_between(
    start: Callable[..., Daemon],
) -> None:
    first = start()
    assert first.until(lambda: joules(first) == 0)
    burn(first, 20_000_000)
    assert first.until(lambda: joules(first) == pytest.approx(20))
    os.kill(first.peer.process.pid, signal.SIGKILL)
    first.peer.process.wait()
    burn(first, 500_000_000)
    again = start(machine=first.machine)
    assert again.until(lambda: joules(again) == 0)
    burn(again, 30_000_000)
    assert again.until(lambda: joules(again) == pytest.approx(30))


def hung(start: Callable[..., Daemon], root: Path) -> Daemon:
    """A daemon that reads a FIFO nobody writes to, which hangs as a read of a dead driver does."""
    root.mkdir()
    machine = Machine(root, host_file="intel-2s")
    zone = next(path for path in root.rglob("thermal_zone0/temp") if not path.is_symlink())
    zone.unlink()
    os.mkfifo(zone)
    daemon = start(machine=machine, config=QUICK + "  thermal: {period: 1s, deadline: 500ms}\n")
    assert daemon.until(
        lambda: daemon.value(SOURCE_FAULTS.name, source="thermal", reason="LATE") == 1
    )
    assert daemon.value(SOURCE_UP.name, source="thermal") == 0
    return daemon


def test_a_hung_read_costs_its_own_series(start: Callable[..., Daemon], tmp_path: Path) -> None:
    daemon = hung(start, tmp_path / "hung")
    before = daemon.value(TICKS.name)
    assert before is not None
    burn(daemon, 10_000_000)
    assert daemon.until(lambda: joules(daemon) == pytest.approx(10))
    assert daemon.until(lambda: daemon.value(COMPONENT_POWER.name, **PACKAGE) is not None)
    after = daemon.value(TICKS.name)
    assert after is not None
    assert after > before


def test_sigterm_ends_a_daemon_with_a_hung_read_within_two_seconds(
    start: Callable[..., Daemon], tmp_path: Path
) -> None:
    """The best of five: whoever shares this machine may take its CPUs for a while."""

    def took_s(attempt: int) -> float:
        process = hung(start, tmp_path / f"hung-{attempt}").peer.process
        asked_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=PATIENCE_S) == 0
        return time.monotonic() - asked_s

    assert any(took_s(attempt) < 2 for attempt in range(5))


def test_many_scrapers_at_once_get_the_same_bytes_for_the_same_tick(
    start: Callable[..., Daemon],
) -> None:
    daemon = start(config=QUICK.replace("tick: 100ms", "tick: 1s"))

    def scrape(_: int) -> tuple[str, str]:
        text = daemon.metrics()
        match = re.search(rf"^{TICKS.name} (\S+)$", text, re.MULTILINE)
        assert match is not None
        return match[1], text

    with ThreadPoolExecutor(50) as pool:
        scraped = list(pool.map(scrape, range(300)))
    by_tick: dict[str, set[str]] = {}
    for tick, text in scraped:
        by_tick.setdefault(tick, set()).add(text)
    assert all(len(texts) == 1 for texts in by_tick.values())


def test_scraping_changes_nothing(start: Callable[..., Daemon]) -> None:
    daemon = start()
    assert daemon.until(lambda: joules(daemon) == 0)
    burn(daemon, 7_000_000)
    for _ in range(50):
        daemon.metrics()
    assert daemon.until(lambda: joules(daemon) == pytest.approx(7))


def test_gzip_and_openmetrics_are_negotiated(start: Callable[..., Daemon]) -> None:
    daemon = start()
    host, port = daemon.peer.address.split(":")
    head, body = _raw(
        host,
        int(port),
        "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: gzip\r\n"
        "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5\r\n\r\n",
    )
    assert "application/openmetrics-text; version=1.0.0" in head
    assert gzip.decompress(body).endswith(b"# EOF\n")


def _raw(host: str, port: int, request: str) -> tuple[str, bytes]:
    with socket.create_connection((host, port), timeout=PATIENCE_S) as connection:
        connection.sendall(request.encode())
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode(), body


def test_without_the_right_to_read_rapl_the_daemon_runs_and_says_how_to_mend_it(
    start: Callable[..., Daemon], tmp_path: Path
) -> None:
    machine_root = tmp_path / "denied"
    machine_root.mkdir()
    machine = Machine(machine_root, host_file="rapl-denied")
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == os.geteuid():
            path.chmod(path.stat().st_mode | 0o055)
    if os.geteuid() != 0:
        for file in machine.root.rglob("energy_uj"):
            file.chmod(0)
    daemon = start(machine=machine, uid=65_534)
    assert daemon.until(
        lambda: daemon.value(SOURCE_FAULTS.name, source="rapl", reason="DENIED") == 1
    )
    assert joules(daemon) is None
    page = fetch(f"{daemon.peer.url}/").decode()
    assert "run as uid 0" in page


def test_temperatures_of_the_machine_are_there(start: Callable[..., Daemon]) -> None:
    daemon = start()
    assert daemon.until(
        lambda: daemon.value(TEMPERATURE.name, component="cpu", device="package-0") is not None
    )


class TestBadInput:
    """One clear message that names place and fix, exit code 2, nothing half-started."""

    def refused(self, *arguments: object) -> str:
        ended = joulefloor(*arguments)
        assert ended.returncode == 2, ended
        assert "Traceback" not in ended.stderr
        assert ended.stdout == ""
        return ended.stderr

    def test_a_port_in_use(self, start: Callable[..., Daemon]) -> None:
        daemon = start()
        told = self.refused("run", f"--web.listen-address={daemon.peer.address}")
        assert daemon.peer.address in told
        assert "in use" in told
        assert daemon.until(lambda: joules(daemon) == 0)

    @pytest.mark.parametrize("address", ["13806", "nowhere:port", "127.0.0.1:99999", "[::1:80"])
    def test_a_listen_address_that_is_none(self, address: str) -> None:
        assert "--web.listen-address" in self.refused("run", f"--web.listen-address={address}")

    def test_a_root_that_is_none(self, tmp_path: Path) -> None:
        told = self.refused("run", f"--path.rootfs={tmp_path / 'none'}")
        assert "--path.rootfs" in told

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"", "is empty"),
            (b"\x80\x81", "is not text"),
            (b"samplng: {}\n", "did you mean 'sampling'"),
            (b"sampling: {tick: 3W}\n", "expected a duration"),
        ],
    )
    def test_a_configuration_that_cannot_be_used(
        self, tmp_path: Path, content: bytes, says: str
    ) -> None:
        file = tmp_path / "joulefloor.yaml"
        file.write_bytes(content)
        for command in (("run", f"--config.file={file}"), ("check-config", file)):
            told = self.refused(*command)
            assert says in told
            assert str(file) in told

    def test_a_directory_in_place_of_the_configuration(self, tmp_path: Path) -> None:
        assert "Is a directory" in self.refused("run", f"--config.file={tmp_path}")

    def test_a_certificate_that_is_none(self, tmp_path: Path) -> None:
        (tmp_path / "cert.pem").write_text("not a certificate")
        (tmp_path / "key.pem").write_text("not a key")
        web = tmp_path / "web.yaml"
        web.write_text("tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n")
        told = self.refused("run", f"--web.config.file={web}", f"--web.listen-address={LOOPBACK}:0")
        assert f"{web}:1" in told
        assert "cert.pem" in told

    def test_a_required_source_that_is_absent(self, tmp_path: Path) -> None:
        file = tmp_path / "joulefloor.yaml"
        file.write_text("sources: {rapl: {required: true}}\n")
        empty = tmp_path / "empty"
        empty.mkdir()
        told = self.refused("run", f"--config.file={file}", f"--path.rootfs={empty}")
        assert "sources.rapl: required" in told

    def test_an_unknown_flag_or_command(self) -> None:
        assert "No such option" in self.refused("run", "--web.listen=1")
        assert "No such command" in self.refused("rum")
