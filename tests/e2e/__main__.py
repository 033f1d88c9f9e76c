"""Runs the checks on a kind cluster of its own, or on a cluster that has joulefloor already."""

from __future__ import annotations

import argparse
import shutil
import sys
from typing import TYPE_CHECKING

from tests.e2e.checks import CHECKS, CheckError, kubelet_restart_is_survived
from tests.e2e.installed import TOOLS, Installed
from tests.e2e.kind import CLUSTER, Kind, missing
from tests.e2e.kubectl import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.e2e.checks import Cluster

NOT_HERE = 2
"""Exit code where the checks cannot run, as opposed to 1, where one of them failed."""


def main(arguments: Sequence[str]) -> int:
    """Make the cluster or the pods, ask, take them away; return the exit code."""
    chosen = _options().parse_args(arguments)
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    lacking = f"{', '.join(absent)} on the PATH" if absent else ""
    if not chosen.daemonset:
        lacking = missing()
    if lacking:
        _say(f"make e2e needs {lacking}; nothing was started. See tests/e2e/README.md.")
        return NOT_HERE
    try:
        return _installed(chosen) if chosen.daemonset else _kind(chosen)
    except CommandError as error:
        _say(str(error))
        return 1


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make e2e", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave what was made for a look around")
    there = parser.add_argument_group("on a cluster that is there, of kubectl's current context")
    there.add_argument("--daemonset", metavar="NAMESPACE/NAME", help="joulefloor's there")
    there.add_argument("--node", default="", help="node that runs the pods, if there are several")
    there.add_argument(
        "--restart-kubelet",
        default="",
        metavar="COMMAND",
        help="how, for the shell; without it that check is left out",
    )
    return parser


def _kind(chosen: argparse.Namespace) -> int:
    try:
        with Kind(keep=chosen.keep) as cluster:
            return run(cluster)
    finally:
        if chosen.keep:
            _say(f"kept: kind delete cluster --name {CLUSTER} takes it away")


def _installed(chosen: argparse.Namespace) -> int:
    restart = chosen.restart_kubelet
    there = Installed(chosen.daemonset, node=chosen.node, restart=restart, keep=chosen.keep)
    with there as cluster:
        return run(cluster, () if restart else (kubelet_restart_is_survived,))


def run(cluster: Cluster, without: Sequence[Callable[[Cluster], str]] = ()) -> int:
    """Every check, until one fails, because later ones need what earlier ones found."""
    for check in CHECKS:
        name = check.__name__.replace("_", " ")
        if check in without:
            _say(f"left    {name}: nobody said how")
            continue
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
