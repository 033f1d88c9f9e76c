"""Finds the real servers that tests need, and says what a missing one means.

A missing one skips its tests with the reason, or fails them where JOULEFLOOR_REQUIRE_PEERS=1 says
that nothing may be missing. `tests/install.sh` brings all of them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from stack.programs import NEWER_ROOT, Program, default_places, locate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Debian 12's VictoriaMetrics is from 2022 and rejects what current rule files may hold.
NEWEST_FIRST = (NEWER_ROOT / "usr" / "bin", *default_places())


def require(
    name: str, *, major: int | None = None, places: Sequence[Path] | None = None
) -> Program:
    """Find a program, or skip (fail where everything is required) saying what is missing."""
    program = locate(name, major=major, places=places)
    if program is not None:
        return program
    wanted = name if major is None else f"{name} {major}.x"
    reason = f"{wanted} is not on this machine: tests/install.sh brings it"
    if os.environ.get("JOULEFLOOR_REQUIRE_PEERS") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
