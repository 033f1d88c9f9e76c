"""The daemon on a machine with eight GPUs: hung driver calls, a killed worker, and the way out."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stack.query import eventually
from tests.machine import Machine
from tests.nvml.build import compiler
from tests.nvml.scenario import FakeDriver

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.process.conftest import Daemon

pytestmark = pytest.mark.skipif(compiler() is None, reason="gcc compiles the fake driver")

ENERGY = "joulefloor_component_energy_joules_total"
HUNG = 5


@pytest.fixture
def driver(tmp_path: Path) -> FakeDriver:
    """Eight H100 whose clocks run."""
    fake = FakeDriver(tmp_path / "driver")
    for number in range(8):
        fake.gpu(number, "h100-sxm5").set(load=400_000)
    fake.write()
    return fake


def begin(
    start: Callable[..., Daemon], tmp_path: Path, driver: FakeDriver, settings: str = ""
) -> Daemon:
    root = tmp_path / "machine"
    root.mkdir()
    machine = Machine(root, host_file="bare-vm")
    machine.write("dev/nvidiactl", "")
    config = (
        "sampling: {tick: 100ms}\nsources:\n"
        f"  nvml: {{library_folder: {driver.folder}, {settings or 'period: 100ms'}}}\n"
    )
    return start(machine=machine, config=config)


def joules(daemon: Daemon, driver: FakeDriver, number: int) -> float | None:
    uuid = driver.gpu(number).keys["uuid"]
    return daemon.value(ENERGY, device=uuid, source="nvml")


def watts(daemon: Daemon, driver: FakeDriver, number: int) -> float | None:
    uuid = driver.gpu(number).keys["uuid"]
    return daemon.value("joulefloor_component_power_watts", device=uuid, source="nvml")


def workers(daemon: Daemon) -> list[int]:
    """Processes the daemon has started."""
    parent = daemon.peer.process.pid
    tasks = Path(f"/proc/{parent}/task").glob("*/children")
    return [int(pid) for task in tasks for pid in task.read_text().split()]


def test_one_hung_gpu_of_eight_costs_itself_only_and_sigterm_still_ends_the_daemon(
    start: Callable[..., Daemon], tmp_path: Path, driver: FakeDriver
) -> None:
    daemon = begin(start, tmp_path, driver, "period: 100ms, patience: 200ms")
    assert daemon.until(lambda: all(joules(daemon, driver, n) for n in range(8)))
    driver.gpu(HUNG).hang("*")
    driver.write()
    late = {"source": "nvml", "reason": "LATE"}
    assert daemon.until(lambda: bool(daemon.value("joulefloor_source_faults", **late)))
    assert daemon.until(lambda: watts(daemon, driver, HUNG) is None)
    before = {n: joules(daemon, driver, n) or 0.0 for n in range(8)}
    others = [n for n in range(8) if n != HUNG]
    assert daemon.until(lambda: all((joules(daemon, driver, n) or 0) > before[n] for n in others))
    assert joules(daemon, driver, HUNG) == before[HUNG]
    assert daemon.value("joulefloor_source_up", source="nvml") == 1
    (worker,) = workers(daemon)
    daemon.peer.process.send_signal(signal.SIGTERM)
    assert daemon.peer.process.wait(timeout=4) == 0
    assert eventually(lambda: not alive(worker), within_s=5)


def test_every_call_of_every_gpu_hanging_leaves_scrapes_and_the_way_out(
    start: Callable[..., Daemon], tmp_path: Path, driver: FakeDriver
) -> None:
    daemon = begin(start, tmp_path, driver)
    assert daemon.until(lambda: bool(joules(daemon, driver, 0)))
    driver.driver.hang("*")
    driver.write()
    assert daemon.until(lambda: daemon.value("joulefloor_source_up", source="nvml") == 0)
    assert daemon.value("joulefloor_ticks_total")
    daemon.peer.process.send_signal(signal.SIGTERM)
    assert daemon.peer.process.wait(timeout=4) == 0


def test_a_driver_that_hangs_while_it_opens_holds_nothing_up(
    start: Callable[..., Daemon], tmp_path: Path, driver: FakeDriver
) -> None:
    driver.driver.hang("nvmlInitWithFlags")
    driver.write()
    daemon = begin(start, tmp_path, driver, "period: 100ms, deadline: 300ms")
    late = {"source": "nvml", "reason": "LATE"}
    assert daemon.until(lambda: bool(daemon.value("joulefloor_source_faults", **late)))
    assert daemon.value("joulefloor_source_up", source="nvml") == 0
    driver.driver.heal()
    driver.write()
    assert daemon.until(lambda: bool(joules(daemon, driver, 7)))
    driver.driver.hang("*")
    driver.write()
    daemon.peer.process.send_signal(signal.SIGTERM)
    assert daemon.peer.process.wait(timeout=4) == 0


def test_sigterm_ends_a_daemon_whose_driver_does_not_even_open(
    start: Callable[..., Daemon], tmp_path: Path, driver: FakeDriver
) -> None:
    driver.driver.hang("nvmlInitWithFlags")
    driver.write()
    daemon = begin(start, tmp_path, driver, "period: 100ms, deadline: 300ms")
    assert daemon.until(lambda: len(workers(daemon)) == 1)
    (worker,) = workers(daemon)
    daemon.peer.process.send_signal(signal.SIGTERM)
    assert daemon.peer.process.wait(timeout=4) == 0
    assert eventually(lambda: not alive(worker), within_s=5)


def test_no_driver_call_ever_happens_in_a_scrape(
    start: Callable[..., Daemon], tmp_path: Path, driver: FakeDriver
) -> None:
    daemon = begin(start, tmp_path, driver, "period: 60s, deadline: 10s, power_period: 60s")
    assert daemon.until(lambda: "nvml-power" in daemon.metrics())
    driver.forget_calls()
    for _ in range(20):
        assert ENERGY in daemon.metrics()
    functions = {call.function for call in driver.calls()}
    assert functions <= {"nvmlDeviceGetCount_v2"}, "only the roster, by its own clock"


def test_a_killed_worker_is_replaced_and_the_joules_go_on(
    start: Callable[..., Daemon], tmp_path: Path, driver: FakeDriver
) -> None:
    daemon = begin(start, tmp_path, driver)
    assert daemon.until(lambda: bool(joules(daemon, driver, 0)))
    (worker,) = workers(daemon)
    before = joules(daemon, driver, 0) or 0.0
    os.kill(worker, signal.SIGKILL)
    assert daemon.until(lambda: (joules(daemon, driver, 0) or 0.0) > before + 400)
    assert workers(daemon) != [worker]


def test_the_worker_ends_with_a_daemon_that_was_killed(
    start: Callable[..., Daemon], tmp_path: Path, driver: FakeDriver
) -> None:
    daemon = begin(start, tmp_path, driver)
    assert daemon.until(lambda: bool(joules(daemon, driver, 0)))
    driver.gpu(HUNG).hang("*")
    driver.write()
    (worker,) = workers(daemon)
    daemon.peer.process.kill()
    daemon.peer.process.wait()
    assert eventually(lambda: not alive(worker), within_s=5)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
