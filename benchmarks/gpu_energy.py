"""`python -m benchmarks.gpu_energy`: GPU energy by counter and by power against a scripted truth.

The real source and its worker read a fake driver (tests/nvml) whose loads have known means. Each
load runs under three power sensors, all at the same time, once per sampling period of the power
lane. The truth of a window of whole load periods is its length times the mean.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from joulefloor.account import Account, settle
from joulefloor.catalogue import COMPONENT_ENERGY
from joulefloor.clock import SystemClock
from joulefloor.host import Host
from joulefloor.sources import Site, nvml
from joulefloor.units import Seconds
from tests.nvml.curves import Steps
from tests.nvml.scenario import FakeDriver

if TYPE_CHECKING:
    from joulefloor.model import Batch

LOW_MILLIWATTS, HIGH_MILLIWATTS = 100_000, 650_000
WINDOW_S = 40
PERIODS_S = (0.02, 0.1, 1.0)
FREQUENCIES_HERTZ = (0.05, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0)
BURSTS = Steps(
    (
        (60, HIGH_MILLIWATTS),
        (840, LOW_MILLIWATTS),
        (100, 500_000),
        (1000, LOW_MILLIWATTS),
        (50, HIGH_MILLIWATTS),
        (1950, LOW_MILLIWATTS),
    )
)
"""Four seconds, over and over."""
SENSORS = {
    "instant": {"power_average": "unsupported", "power_instant": "sum load"},
    "25 of 100 ms (A100)": {
        "power_average": "unsupported",
        "power_instant": "every 100 mean 25 load",
    },
    "mean of 1 s (H100)": {"power_average": "every 100 mean 1000 load"},
}
WHY = {
    "counter": "it has no gaps: what is left is the age of its last step, at both ends",
    "instant": "an edge is found by the next sample only; of a wave as fast as the sampling "
    "one place of its period is seen",
    "25 of 100 ms (A100)": "three quarters of the time are never looked at; a wave that fits into "
    "100 ms is seen at one place of its period for ever, and nothing averages that out",
    "mean of 1 s (H100)": "nothing is missed, but all is seen half a second late: what is left are "
    "the ends of the time, less the longer it is",
}
"""What makes each of them err."""


@dataclass(frozen=True, slots=True)
class Load:
    """A load curve for the fake driver and its mean power, W."""

    name: str
    curve: str
    watts: float


def loads() -> tuple[Load, ...]:
    """Steady, square waves of 30 % duty, and bursts."""
    mean = (LOW_MILLIWATTS + 0.3 * (HIGH_MILLIWATTS - LOW_MILLIWATTS)) / 1000
    squares = tuple(
        Load(
            f"square {hertz:g} Hz",
            f"square {LOW_MILLIWATTS} {HIGH_MILLIWATTS} {1000 / hertz:g} 30",
            mean,
        )
        for hertz in FREQUENCIES_HERTZ
    )
    burst = BURSTS.integral(4.0) / 4.0 / 1000
    return (Load("idle", str(LOW_MILLIWATTS), 100.0), *squares, Load("bursts", str(BURSTS), burst))


def scripted(folder: Path) -> tuple[FakeDriver, dict[str, tuple[Load, str]]]:
    """A driver with a GPU per load and sensor, by UUID."""
    driver = FakeDriver(folder)
    gpus: dict[str, tuple[Load, str]] = {}
    for load in loads():
        for sensor, keys in SENSORS.items():
            gpu = driver.gpu(len(gpus), "h100-sxm5")
            gpu.put("load", load.curve)
            for key, curve in keys.items():
                gpu.put(key, curve)
            gpus[gpu.keys["uuid"]] = (load, sensor)
    driver.write()
    return driver, gpus


class Books:
    """An account per GPU and meter, and the instants of its first and last reading."""

    def __init__(self) -> None:
        """Nothing was read."""
        self.accounts: dict[tuple[str, str], Account] = {}
        self.first_ns: dict[tuple[str, str], int] = {}
        self.last_ns: dict[tuple[str, str], int] = {}

    def take(self, batch: Batch) -> None:
        """Settle every energy reading."""
        for reading in batch.readings:
            if reading.channel.metric is COMPONENT_ENERGY:
                key = (reading.channel.label("device"), reading.channel.label("source"))
                account = self.accounts.get(key, Account())
                self.accounts[key] = settle(account, reading, gap_limit_s=15.0).account
                self.first_ns.setdefault(key, reading.at_ns)
                self.last_ns[key] = reading.at_ns

    def error(self, key: tuple[str, str], watts: float) -> float:
        """Relative error of the joules against `watts` over the same time."""
        seconds = (self.last_ns[key] - self.first_ns[key]) / 1e9
        return self.accounts[key].joules / (watts * seconds) - 1


def run(period_s: float) -> dict[tuple[str, str, str], float]:
    """Errors by (load, sensor, meter) for one sampling period of power."""
    with tempfile.TemporaryDirectory(prefix="gpu-energy-") as scratch:
        driver, gpus = scripted(Path(scratch) / "driver")
        (Path(scratch) / "dev").mkdir()
        (Path(scratch) / "dev" / "nvidiactl").touch()
        limits = nvml.Settings(
            power_period=Seconds(period_s), library_folder=str(driver.folder), patience=Seconds(0.9)
        )
        source = nvml.NvmlSource(Site(Host(Path(scratch)), SystemClock(), limits))
        source.read()
        books, due = Books(), time.monotonic() + 1
        for _ in range(WINDOW_S + 1):
            time.sleep(max(0.0, due - time.monotonic()))
            books.take(source.read())
            due += 1
        source.close()
    return {
        (load.name, sensor, meter): books.error((uuid, meter), load.watts)
        for uuid, (load, sensor) in gpus.items()
        for meter in ("nvml", "nvml-power")
    }


def main() -> None:
    """Print one table."""
    errors = {period_s: run(period_s) for period_s in PERIODS_S}
    told = [f"{sensor}, {period:g} s" for sensor in SENSORS for period in PERIODS_S]
    print(f"Error of energy over {WINDOW_S} s, %")
    print("| load | counter |", " | ".join(told), "|")
    print("|---|---" + "|---" * len(told) + "|")
    for load in loads():
        counter = max((errors[p][load.name, s, "nvml"] for p in errors for s in SENSORS), key=abs)
        row = [errors[p][load.name, s, "nvml-power"] for s in SENSORS for p in PERIODS_S]
        print(f"| {load.name} |", " | ".join(f"{100 * e:+.2f}" for e in (counter, *row)), "|")
    print("\n| meter | why it errs |\n|---|---|")
    for meter, reason in WHY.items():
        print(f"| {meter} | {reason} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
