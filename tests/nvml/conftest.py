"""A fake driver in a folder, for the tests of the kit; skipped where nothing can compile it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.nvml.build import compiler
from tests.nvml.probe import Probe
from tests.nvml.scenario import FakeDriver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def driver(tmp_path: Path) -> FakeDriver:
    """A driver without GPUs, its clock at one second after its epoch."""
    if compiler() is None and os.environ.get("JOULEFLOOR_REQUIRE_PEERS") != "1":
        pytest.skip("gcc is not installed: apt-get install gcc libc6-dev")
    made = FakeDriver(tmp_path / "driver")
    made.driver.set(epoch_ns=0, now_ns=1_000_000_000)
    made.write()
    return made


@pytest.fixture
def h100(driver: FakeDriver) -> Iterator[Probe]:
    """A program on a driver with two H100."""
    for number in range(2):
        driver.gpu(number, "h100-sxm5")
    driver.write()
    with Probe(driver) as probe:
        yield probe
