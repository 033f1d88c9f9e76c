"""The whole /metrics of every recorded machine, byte for byte: the diff is the review."""

from __future__ import annotations

import difflib
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.machine import HOSTS, Machine
from tests.player import Player

FOLDER = Path(__file__).parent
MACHINES = sorted(path.stem for path in HOSTS.glob("*.host"))
TICKS = 8
JOULES_PER_TICK = 42.5
BUSY = 0.25


def play(machine: Machine, *, denied: bool) -> str:
    """Eight seconds of a quarter-busy machine, in which each meter burns 42.5 W."""
    player = Player(machine)
    for _ in range(TICKS):
        player.burn(JOULES_PER_TICK, BUSY, 1.0)
        with machine.as_nobody() if denied else nullcontext():
            player.tick()
    player.sampler.stop()
    lines = player.metrics().splitlines(keepends=True)
    return "".join(line for line in lines if "joulefloor_build_info" not in line)


@pytest.mark.parametrize("host", MACHINES)
def test_golden(host: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    golden = FOLDER / f"{host}.metrics"
    machine = Machine(tmp_path, host_file=host)
    seen = play(machine, denied="denied" in host)
    if request.config.getoption("--update-golden"):
        golden.write_text(seen)
        return
    expected = golden.read_text()
    diff = difflib.unified_diff(expected.splitlines(), seen.splitlines(), "golden", "now", n=0)
    assert seen == expected, "\n".join(diff)


def test_every_golden_file_belongs_to_a_machine() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.metrics")) == MACHINES
