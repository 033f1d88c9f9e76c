"""Puts a fake driver into a folder, for any program: `python -m tests.nvml FOLDER --board h200`.

LD_LIBRARY_PATH=FOLDER some-program-that-uses-nvml
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.nvml.scenario import PROFILES, FakeDriver


def main() -> None:
    """Write the library and a scenario that a person may go on editing."""
    boards = sorted(path.stem for path in PROFILES.glob("*.gpu"))
    options = argparse.ArgumentParser(prog="python -m tests.nvml", description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--board", choices=boards, default="h100-sxm5")
    options.add_argument("--gpus", type=int, default=8)
    options.add_argument("--load", help="true power in mW, as a value of the scenario")
    chosen = options.parse_args()
    driver = FakeDriver(chosen.folder)
    for number in range(chosen.gpus):
        gpu = driver.gpu(number, chosen.board)
        if chosen.load is not None:
            gpu.put("load", chosen.load)
    driver.write()
    sys.stdout.write(f"LD_LIBRARY_PATH={chosen.folder}\n")


if __name__ == "__main__":
    main()
