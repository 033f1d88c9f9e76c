"""The daemon on a machine with eight GPUs: hung driver calls, a killed worker, and the way out."""

from __future__ import annotations

import os
import re
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stack.query import eventually
from tests.machine import Machine
from tests.nvml.build import compiler
from tests.nvml.scenario import FakeDriver, Instance
from tests.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.process.conftest import Daemon

pytestmark = pytest.mark.skipif(compiler() is None, reason="gcc compiles the fake driver")

ENERGY = "joulefloor_component_energy_joules_total"
PART = "joulefloor_part_energy_joules_total"
HUNG = 5
LOST = 7
GIB = 1 << 30
INSTANCES = (
    Instance(1, "3g.40gb", 3, 60, 40 * GIB, "MIG-31b7a200-0000-4000-8000-000000000001", 80.0),
    Instance(7, "1g.10gb", 1, 16, 10 * GIB, "MIG-9c04d511-0000-4000-8000-000000000007", 35.0),
)
HEALS_SOON = """
from joulefloor.__main__ import main
from joulefloor.sources import nvml
nvml.HEAL_S = (1.0,)
main()
"""
"""The program, which looks for a lost GPU each second and not each minute."""


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


def test_case_1_one_hung_gpu_of_eight_costs_itself_only_and_sigterm_still_ends_the_daemon(
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
    assert daemon.until(lambda: daemon.value("joulefloor_source_up", source="nvml") == 1)
    assert min(seconds_of_a_scrape(daemon) for _ in range(10)) < 0.5
    (worker,) = workers(daemon)
    daemon.peer.process.send_signal(signal.SIGTERM)
    assert daemon.peer.process.wait(timeout=PATIENCE_S) == 0
    assert eventually(lambda: not alive(worker), within_s=PATIENCE_S)


def seconds_of_a_scrape(daemon: Daemon) -> float:
    begun_s = time.monotonic()
    assert ENERGY in daemon.metrics()
    return time.monotonic() - begun_s


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
    assert daemon.peer.process.wait(timeout=PATIENCE_S) == 0


def test_a_driver_that_hangs_while_it_opens_holds_nothing_up(
    start: Callable[..., Daemon], tmp_path: Path, driver: FakeDriver
) -> None:
    driver.driver.hang("nvmlInitWithFlags")
    driver.write()
    daemon = begin(start, tmp_path, driver, "period: 100ms, deadline: 300ms")
    late = {"source": "nvml", "reason": "LATE"}
    assert daemon.until(lambda: bool(daemon.value("joulefloor_source_faults", **late)))
    assert daemon.until(lambda: daemon.value("joulefloor_source_up", source="nvml") == 0)
    driver.driver.heal()
    driver.write()
    assert daemon.until(lambda: bool(joules(daemon, driver, 7)))
    driver.driver.hang("*")
    driver.write()
    daemon.peer.process.send_signal(signal.SIGTERM)
    assert daemon.peer.process.wait(timeout=PATIENCE_S) == 0


def test_sigterm_ends_a_daemon_whose_driver_does_not_even_open(
    start: Callable[..., Daemon], tmp_path: Path, driver: FakeDriver
) -> None:
    driver.driver.hang("nvmlInitWithFlags")
    driver.write()
    daemon = begin(start, tmp_path, driver, "period: 100ms, deadline: 300ms")
    assert daemon.until(lambda: len(workers(daemon)) == 1)
    (worker,) = workers(daemon)
    daemon.peer.process.send_signal(signal.SIGTERM)
    assert daemon.peer.process.wait(timeout=PATIENCE_S) == 0
    assert eventually(lambda: not alive(worker), within_s=PATIENCE_S)


def test_case_10_no_driver_call_happens_in_twenty_scrapes_at_once(
    start: Callable[..., Daemon], tmp_path: Path, driver: FakeDriver
) -> None:
    daemon = begin(start, tmp_path, driver, "period: 60s, deadline: 10s, power_period: 60s")
    assert daemon.until(lambda: "nvml-power" in daemon.metrics())
    driver.forget_calls()
    with ThreadPoolExecutor(20) as scrapers:
        pages = list(scrapers.map(lambda _: daemon.metrics(), range(20)))
    assert all(ENERGY in page for page in pages)
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


def joules_of_parts(daemon: Daemon, driver: FakeDriver) -> tuple[dict[str, float], float]:
    """Joules of the parts of the first GPU, and those of the GPU, at one instant."""
    uuid = driver.gpu(0).keys["uuid"]
    own = [line for line in daemon.metrics().splitlines() if uuid in line]
    parts = {}
    for line in own:
        told = re.fullmatch(PART + r'{.*part="(?P<part>[^"]+)".*} (?P<joules>\S+)', line)
        if told is not None:
            parts[told["part"]] = float(told["joules"])
    board = sum(float(line.split()[-1]) for line in own if line.startswith(ENERGY))
    return parts, board


def resets(daemon: Daemon) -> list[str]:
    events = [line for line in daemon.metrics().splitlines() if "_meter_events_total" in line]
    return [line for line in events if 'event="reset"' in line]


@pytest.mark.parametrize("way", ["heals", "is-killed"])
def test_parts_go_on_without_an_event_or_a_lost_joule_when_the_worker(
    start: Callable[..., Daemon],
    tmp_path: Path,
    driver: FakeDriver,
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    monkeypatch.setattr("tests.process.conftest.PROGRAM", (sys.executable, "-c", HEALS_SOON))
    driver.carve(0, *INSTANCES)
    driver.write()
    daemon = begin(start, tmp_path, driver)
    assert daemon.until(lambda: min(joules_of_parts(daemon, driver)[0].values(), default=0) > 20)
    before, board_before = joules_of_parts(daemon, driver)
    for _ in range(2):
        (worker,) = workers(daemon)
        if way == "heals":
            driver.gpu(LOST).put("state", "lost")
            driver.write()
        else:
            os.kill(worker, signal.SIGKILL)
        assert daemon.until(lambda: workers(daemon) not in ([], [worker]))  # noqa: B023
        driver.gpu(LOST).drop("state")
        driver.write()
        begun = sum(joules_of_parts(daemon, driver)[0].values())
        assert daemon.until(
            lambda: sum(joules_of_parts(daemon, driver)[0].values()) > begun + 400  # noqa: B023
        )
    after, board_after = joules_of_parts(daemon, driver)
    spent = {part: joules - before[part] for part, joules in after.items()}
    whole = board_after - board_before
    assert sum(spent.values()) == pytest.approx(whole, rel=1e-6)
    instances = [f"mig:{one.profile}:{one.uuid}" for one in INSTANCES]
    assert spent[instances[0]] == pytest.approx(whole * 0.8 * 3 / 7, rel=0.02)
    assert spent[instances[1]] == pytest.approx(whole * 0.35 / 7, rel=0.02)
    assert resets(daemon) == []


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
    assert eventually(lambda: not alive(worker), within_s=PATIENCE_S)


def alive(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
