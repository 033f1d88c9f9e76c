"""Six GPUs on the compiled fake driver, for the fleet: each has something that a panel shows.

One computes, one is too hot, one is idle with a context and a counter that disagrees, one is cut
into instances, one is shared by processes and of an older kind, and one falls off the bus.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.nvml.curves import Sine
from tests.nvml.scenario import FakeDriver, Instance

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

GIB: Final = 1 << 30
EVENTS_S: Final = 12.0
"""An XID so often, so that the panels of errors have one whenever they are drawn."""
APPLICATION_FAULT: Final = 13
XID: Final = 8
HOT, SHARED, LOST = 1, 4, 5
TENSOR: Final = {1: 97, 2: 93, 4: 6, 5: 64, 7: 64, 10: 48, 12: 5}
"""GPM metrics, %: a large matrix product, and little else."""
WAITING: Final = {1: 88, 2: 35, 4: 3, 5: 9, 7: 9, 10: 22, 12: 2}
"""Busy, as it says, with small kernels."""
INSTANCES: Final = (
    Instance(1, "3g.40gb", 3, 60, 40 * GIB, "MIG-31b7a200-0000-4000-8000-000000000001", 80.0),
    Instance(7, "1g.10gb", 1, 16, 10 * GIB, "MIG-9c04d511-0000-4000-8000-000000000007", 35.0),
)


def fake_gpus(folder: Path) -> FakeDriver:
    """The driver's folder, with its GPUs; the last of them is still well."""
    driver = FakeDriver(folder)
    for number in range(6):
        gpu = driver.gpu(number, "l40s" if number == SHARED else "h100-sxm5")
        # Told apart by their first group, as real ones are.
        gpu.put("uuid", f"GPU-{0x5E0C4A10 + number:x}-4d1f-4000-8000-0000000000{number:02x}")
    _compute(driver)
    _idle(driver)
    _divide(driver)
    driver.write()
    return driver


def settings(driver: FakeDriver) -> Mapping[str, object]:
    """The daemon's configuration of the source that reads them."""
    return {"library_folder": str(driver.folder), "process_parts": True}


@contextmanager
def failing(driver: FakeDriver) -> Iterator[None]:
    """Let one GPU fall off the bus at once, and another have an XID now and then."""
    stop = threading.Event()
    thread = threading.Thread(target=_fail, args=(driver, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _fail(driver: FakeDriver, stop: threading.Event) -> None:
    sequence = 0
    while not stop.wait(EVENTS_S / 3 if sequence == 0 else EVENTS_S):
        sequence += 1
        driver.gpu(LOST).put("state", "lost")
        driver.gpu(HOT).event(sequence, XID, APPLICATION_FAULT)
        driver.write()


def _compute(driver: FakeDriver) -> None:
    """One that works at its power limit, one that is held back by heat, one that will be lost."""
    first = driver.gpu(0).put("load", Sine(655_000, 35_000, 90_000)).work(1755, TENSOR)
    first.put("violation.power", "rate 130000000 7015662857000")
    first.put("ecc.corrected.volatile", "rate 0.2")
    hot = driver.gpu(HOT).put("load", Sine(430_000, 60_000, 70_000)).work(1290, WAITING)
    hot.put("violation.hw_thermal", "rate 60000000").put("violation.sw_thermal", "rate 25000000")
    hot.set(temperature=86, temperature__memory=93, temperature__margin=2)
    driver.gpu(LOST).put("load", 390_000).work(1710, TENSOR)
    for number, busy in ((0, 100), (HOT, 92), (LOST, 99)):
        gpu = driver.gpu(number).set(utilization__gpu=busy, utilization__memory=busy // 2)
        gpu.put("memory.used", 70 * GIB)
        gpu.put("gpm.20", 5_200).put("gpm.21", 1_900)
        gpu.put("nvlink.data_tx_kib", "rate 61000000").put("nvlink.data_rx_kib", "rate 58000000")


def _idle(driver: FakeDriver) -> None:
    """A context and nothing to do; its energy counter misses 30 % of its power."""
    idle = driver.gpu(2).put("load", 128_000).put("energy", "every 10 integral load 0 0.7")
    idle.put("memory.used", 21 * GIB).put("clock.sm", 1980).put("temperature", 41)


def _divide(driver: FakeDriver) -> None:
    """Instances on one, processes and fans on another."""
    driver.gpu(3).put("load", Sine(310_000, 30_000, 60_000)).put("memory.used", 30 * GIB)
    driver.carve(3, *INSTANCES)
    driver.gpu(3).put("gpm.1", 52).put("gpm.2", 44).put("gpm.10", 31)
    shared = driver.gpu(SHARED).put("load", Sine(210_000, 40_000, 50_000))
    shared.set(utilization__gpu=74, utilization__memory=31, temperature=63, temperature__margin=25)
    shared.set(fans=2, fan__0=58, fan__1=61, memory__used=17 * GIB)
    shared.process(4711, 11 * GIB, 45, 12).process(4712, 6 * GIB, 20, 5)
