"""Fixtures every test may use."""

from __future__ import annotations

import gc
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings

from joulefloor.worker import Worker
from tests.machine import Machine
from tests.patience import PATIENCE_S
from tests.player import Player

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_DESCRIPTORS: Final = 200
"""Open files that a whole test session may end with: peers that live that long, and their logs."""

HEAVY: Final = ("engine", "servers")
"""Fixtures that keep this machine busy until the session ends: nobody else should have to wait."""

# Machines are shared and noisy: how long an example takes says nothing. Continuous integration
# looks at the same examples each time, so that what it refuses is what was changed; elsewhere
# they are new ones.
settings.register_profile(
    "patient",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes the golden files instead of comparing with them."""
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")


def pytest_configure() -> None:
    """Files of machines are readable for everybody, whatever the person who tests has set."""
    os.umask(0o022)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the fleet and of the image come last, in whatever order they are otherwise."""
    items.sort(key=_weight)


def _weight(item: pytest.Item) -> int:
    """0, or the place of the heavy fixture that it needs; sorting keeps the order of equals."""
    needed = getattr(item, "fixturenames", ())
    return max((1 + at for at, name in enumerate(HEAVY) if name in needed), default=0)


@pytest.fixture(scope="session", autouse=True)
def _descriptors_are_given_back() -> Iterator[None]:
    """Fail a session whose tests leave files open, before one of them runs out of descriptors."""
    yield
    gc.collect()
    held = Counter(_target(entry) for entry in Path("/proc/self/fd").iterdir())
    assert held.total() <= MOST_DESCRIPTORS, held.most_common(20)


@pytest.fixture(scope="session", autouse=True)
def _killed_workers_are_gone() -> Iterator[None]:
    """Wait for workers longer than the daemon does, which would go on without one.

    Under load a killed process may take longer to go, and Python warns whoever lets go of it, in
    whatever test is then running.
    """
    stop = Worker.stop

    def stop_whole(worker: Worker) -> None:
        process = worker._process
        stop(worker)
        if process is not None:
            process.wait(PATIENCE_S)

    with mock.patch.object(Worker, "stop", stop_whole):
        yield


@pytest.fixture(autouse=True)
def _players_end() -> Iterator[None]:
    """No machine plays on after its test."""
    yield
    Player.end_all()


def _target(entry: Path) -> str:
    try:
        return entry.readlink().name
    except OSError:
        return "closed"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """An empty machine."""
    return Machine(tmp_path)
