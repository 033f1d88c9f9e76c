"""Fixtures every test may use."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import settings

from tests.machine import Machine
from tests.player import Player

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_DESCRIPTORS: Final = 200
"""Open files that a whole test session may end with: peers that live that long, and their logs."""

# Machines are shared and noisy: how long an example takes says nothing.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--update-golden` writes the golden files instead of comparing with them."""
    parser.addoption("--update-golden", action="store_true", help="write golden files anew")


@pytest.fixture(scope="session", autouse=True)
def _descriptors_are_given_back() -> Iterator[None]:
    """Fail a session whose tests leave files open, before one of them runs out of descriptors."""
    yield
    gc.collect()
    held = Counter(_target(entry) for entry in Path("/proc/self/fd").iterdir())
    assert held.total() <= MOST_DESCRIPTORS, held.most_common(20)


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
