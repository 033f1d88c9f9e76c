"""The driver's own counters of cycles and bytes: told as they are, or with the reason why not.

The source, its worker process and NVIDIA's binding are the real ones; only the driver is scripted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from joulefloor.catalogue import DEVICE_CAPABILITY, LINK, OPERATIONS, PIPE_CYCLES
from joulefloor.errors import Reason
from joulefloor.nvml.activity import PIPE_CYCLES as COUNTERS
from tests.nvml.build import compiler
from tests.unit.gpus import Rig, reasons_of, series_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from joulefloor.model import Batch

pytestmark = pytest.mark.skipif(compiler() is None, reason="gcc compiles the fake driver")

WORK = {2: 80.0, 5: 45.0, 7: 40.0, 12: 10.0}
PER_SECOND = {"elapsed": 1.5e9, "sm": 1.2e9, "tensor": 6.75e8, "hmma": 6e8, "fp32": 1.5e8}
"""Cycles of a second of that work at 1.5 GHz."""


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Make a GPU in full detail; its worker ends with the test."""
    rigs: list[Rig] = []

    def make(profile: str = "h100-sxm5", *, stopped: bool = False, detail: str = "full") -> Rig:
        rig = Rig(tmp_path / f"rig-{len(rigs)}", profile, stopped=stopped)
        rig.build(detail=detail)
        rigs.append(rig)
        return rig

    yield make
    for rig in rigs:
        rig.source.close()


def cycles(batch: Batch) -> dict[str, float]:
    return {labels[2]: value for labels, value in series_of(batch, PIPE_CYCLES).items()}


def states(batch: Batch) -> set[tuple[str, ...]]:
    return {labels[2:] for labels in series_of(batch, DEVICE_CAPABILITY)}


def pcie(batch: Batch) -> dict[str, float]:
    links = series_of(batch, LINK).items()
    return {labels[3]: value for labels, value in links if labels[2] == "pcie"}


def test_cycles_since_reboot_are_told_by_pipe_as_the_driver_counts_them(
    begin: Callable[..., Rig],
) -> None:
    gpus = begin(stopped=True)
    gpus.gpus[0].work(1500, WORK)
    gpus.driver.write()
    gpus.until(lambda b: not b.faults)
    told = {}
    for seconds in (10.0, 2.5):
        gpus.pass_time(seconds)
        told = cycles(gpus.until(lambda b: bool(cycles(b))))
    assert told == pytest.approx({pipe: 12.5 * rate for pipe, rate in PER_SECOND.items()})


def test_cycles_go_on_when_the_worker_is_another(begin: Callable[..., Rig]) -> None:
    gpus = begin()
    gpus.gpus[0].work(1500, WORK).put("gpm.252", "rate 600000000 7e15")
    gpus.driver.write()
    before = cycles(gpus.until(lambda b: bool(cycles(b))))
    gpus.source.close()
    after = cycles(gpus.until(lambda b: bool(cycles(b))))
    assert 7e15 < before["hmma"] < after["hmma"] < before["hmma"] + 60 * 6e8


def test_counters_of_cycles_that_begin_anew_are_told_so_and_take_no_operation_back(
    begin: Callable[..., Rig],
) -> None:
    gpus = begin()
    gpus.gpus[0].work(1500, WORK)
    gpus.driver.write()
    done = ("gpu", gpus.uuid(0), "fp16", "nvml-cycles", "modelled")
    first = gpus.until(lambda b: series_of(b, OPERATIONS).get(done, 0.0) > 0)
    start = gpus.driver.driver.keys["epoch_ns"]
    for number, value in ((248, 1.5e9), (252, 6e8)):
        gpus.gpus[0].put(f"gpm.{number}", f"rate {value:.0f}")
    gpus.driver.driver.set(epoch_ns=int(start) + 10**9 * 3600)
    gpus.driver.write()
    second = gpus.until(lambda b: cycles(b).get("hmma", 1e99) < cycles(first)["hmma"])
    total = series_of(second, OPERATIONS).get(done)
    assert total is None or total >= series_of(first, OPERATIONS)[done]


@pytest.mark.parametrize("profile", ["t4", "a100-sxm4-80gb", "l40s"])
def test_a_board_without_activity_has_no_cycles_and_no_bytes_of_pcie_and_says_so(
    begin: Callable[..., Rig], profile: str
) -> None:
    gpus = begin(profile)
    gpus.gpus[0].set(pcie__tx_kibps=5_000, pcie__rx_kibps=5_000)
    gpus.driver.write()
    batch = gpus.until(lambda b: ("pcie", "unsupported") in states(b))
    assert {("pipe_cycles", "unsupported"), ("operations", "unsupported")} <= states(batch)
    assert not cycles(batch)
    assert not pcie(batch)
    assert "nvmlDeviceGetPcieThroughput" not in {call.function for call in gpus.driver.calls()}


def test_each_counter_of_cycles_is_read_unsupported_or_denied(begin: Callable[..., Rig]) -> None:
    gpus = begin()
    for number in COUNTERS:
        gpus.gpus[0].put(f"gpm.{number}", "rate 1000")
    gpus.driver.write()
    batch = gpus.until(lambda b: set(cycles(b)) == set(COUNTERS.values()))
    assert "pipe_cycles" not in {name for name, _ in states(batch)}
    gpus.gpus[0].put("gpm.252", "denied").put("gpm.250", "error 2").put("gpm.258", "error 21")
    gpus.driver.write()
    batch = gpus.until(lambda b: ("pipe_cycles", "denied") in states(b))
    told = {fault.channel.labels[2]: fault.reason for fault in batch.faults if fault.channel}
    assert told == {"hmma": Reason.DENIED, "fp64": Reason.LATE}
    assert set(cycles(batch)) == set(COUNTERS.values()) - {"hmma", "tensor", "fp64"}
    gpus.gpus[0].drop(*(f"gpm.{number}" for number in COUNTERS))
    gpus.driver.write()
    batch = gpus.until(lambda b: ("pipe_cycles", "unsupported") in states(b) and not b.faults)
    assert not cycles(batch)


def test_without_full_detail_neither_cycles_nor_bytes_of_pcie_are_told(
    begin: Callable[..., Rig],
) -> None:
    gpus = begin(detail="standard")
    gpus.gpus[0].work(1500, WORK).put("gpm.20", 900)
    gpus.gpus[0].put("nvlink.data_tx_kib", 900)
    gpus.driver.write()
    batch = gpus.until(lambda b: bool(series_of(b, LINK)) and bool(series_of(b, OPERATIONS)))
    assert {labels[2] for labels in series_of(batch, LINK)} == {"nvlink"}
    assert not cycles(batch)
    assert not states(batch)


def test_bytes_of_pcie_are_the_drivers_counter_where_it_has_one(begin: Callable[..., Rig]) -> None:
    gpus = begin(stopped=True)
    gpus.gpus[0].put("gpm.20", 100).put("gpm.21", 100).put("gpm.255", "rate 5000000 9e12")
    gpus.driver.write()
    gpus.until(lambda b: not b.faults)
    told = {}
    for _ in range(2):
        gpus.pass_time(2)
        told = pcie(gpus.until(lambda b: len(pcie(b)) == 2))
    assert told["transmit"] == 9e12 + 4 * 5e6
    assert told["receive"] < 60 * 100 * 2**20, "integrated since the worker began"


def test_a_counter_of_pcie_that_stands_at_0_while_bytes_move_is_not_believed(
    begin: Callable[..., Rig],
) -> None:
    gpus = begin()
    gpus.gpus[0].put("gpm.20", 100).put("gpm.255", 0)
    gpus.driver.write()
    told = pcie(gpus.until(lambda b: pcie(b).get("transmit", 0.0) > 0))
    assert told["transmit"] < 60 * 100 * 2**20


def test_bytes_of_pcie_that_may_not_be_read_are_denied(begin: Callable[..., Rig]) -> None:
    gpus = begin()
    for number in (20, 21, 255, 256):
        gpus.gpus[0].put(f"gpm.{number}", "denied")
    gpus.driver.write()
    batch = gpus.until(lambda b: ("pcie", "denied") in states(b) and bool(b.faults))
    assert not pcie(batch)
    assert reasons_of(batch, gpus.uuid(0)) == {Reason.DENIED}
