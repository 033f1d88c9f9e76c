"""Starts a server in the environment that has it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from stack.processes import Peer, launch

if TYPE_CHECKING:
    from collections.abc import Mapping

SCRIPTS: Final = Path(__file__).parent / "peers"


def start(
    name: str,
    arguments: list[str],
    *,
    port: int,
    folder: Path,
    environment: Mapping[str, str] | None = None,
) -> Peer:
    """Run a module or script with the Python that PEER_PYTHON names."""
    python = os.environ.get("PEER_PYTHON")
    if python is None:
        pytest.fail("PEER_PYTHON does not name a Python with the server: see README.md here")
    return launch(name, [python, *arguments], port=port, directory=folder, environment=environment)
