"""Runs the checks on a kind cluster of its own: `make e2e`, for people with kind and docker."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from tests.e2e.checks import CHECKS, CheckError
from tests.e2e.kind import CLUSTER, CommandError, Kind, missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.e2e.checks import Cluster

NOT_HERE = 2
"""Exit code where the checks cannot run, as opposed to 1, where one of them failed."""


def main(arguments: Sequence[str]) -> int:
    """Make the cluster, ask it, take it away; return the exit code."""
    parser = argparse.ArgumentParser(prog="make e2e", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave the cluster for a look around")
    chosen = parser.parse_args(arguments)
    if lacking := missing():
        _say(f"make e2e needs {lacking}; nothing was started. See tests/e2e/README.md.")
        return NOT_HERE
    try:
        with Kind(keep=chosen.keep) as cluster:
            return run(cluster)
    except CommandError as error:
        _say(str(error))
        return 1
    finally:
        if chosen.keep:
            _say(f"kept: kind delete cluster --name {CLUSTER} takes it away")


def run(cluster: Cluster) -> int:
    """Every check, until one fails, because later ones need what earlier ones found."""
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        try:
            _say(f"ok      {name}: {check(cluster)}")
        except CheckError as error:
            _say(f"FAILED  {name}: {error}")
            return 1
    return 0


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
