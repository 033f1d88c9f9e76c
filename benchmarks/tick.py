"""Where the CPU time of a tick goes: `python -m benchmarks.tick [SECONDS]`.

Starts the daemon on the AI node of the other benchmarks, ticking once a second with the caches as
cold as they are then, and lists the CPU time of its parts by the clock of their threads. Parts lie
within each other: `tick` holds `fold`, `close` and `publish`, `close` holds `bills`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.__main__ import node
from benchmarks.machines import BUSY_NODE
from benchmarks.programs import command_of, environment
from joulefloor.billing import Billing
from joulefloor.cli import main as daemon
from joulefloor.ledger import Ledger
from joulefloor.readers import Runner
from joulefloor.sampler import Sampler
from stack.processes import free_port

if TYPE_CHECKING:
    from collections.abc import Callable

INSIDE: Final = "JOULEFLOOR_TICK_SECONDS"
SETTLE_S: Final = 8.0
SPENT: Final[defaultdict[str, int]] = defaultdict(int)


def probe(owner: type[Any], method: str, name: Callable[..., str]) -> None:
    """Add the CPU time of each call to its part."""
    plain = getattr(owner, method)

    def timed(self: Any, *arguments: Any, **more: Any) -> Any:  # noqa: ANN401  # any method's
        started_ns = time.thread_time_ns()
        try:
            return plain(self, *arguments, **more)
        finally:
            SPENT[name(self, *arguments)] += time.thread_time_ns() - started_ns

    setattr(owner, method, timed)


def watch(seconds: float) -> None:
    """Print what was spent in so many seconds of the running daemon, and end it."""
    time.sleep(SETTLE_S)
    SPENT.clear()
    before_s = time.process_time()
    time.sleep(seconds)
    spent, whole_s = dict(SPENT), time.process_time() - before_s
    lines = [f"| {name} | {spent[name] / seconds / 1e3:.0f} |" for name in sorted(spent)]
    lines += [f"| all of the process | {whole_s / seconds * 1e6:.0f} |"]
    print("\n".join(["| part | us of CPU in a second |", "|---|---|", *lines]), flush=True)
    os._exit(0)


def probe_parts() -> None:
    """Add the CPU time of each part of a tick to SPENT, from now on."""
    probe(Runner, "read", lambda runner: f"read {runner.name}")
    probe(Sampler, "_fold", lambda _, result: f"fold {result.runner.name}")
    probe(Sampler, "tick", lambda *_: "tick")
    probe(Sampler, "_publish", lambda *_: "publish")
    probe(Ledger, "close", lambda *_: "close")
    probe(Billing, "close", lambda *_: "bills")


def inside(seconds: float) -> None:
    """Be the daemon, with probes."""
    probe_parts()
    threading.Thread(target=watch, args=(seconds,), daemon=True).start()
    daemon()


def main() -> int:
    """Start it on the machine that the other benchmarks compose."""
    seconds = os.environ.get(INSIDE)
    if seconds is not None:
        inside(float(seconds))
        return 0
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        load = node("AI node", BUSY_NODE, running, folder)
        flags = command_of(load, folder, free_port())[3:]
        settings = environment(folder) | {INSIDE: sys.argv[1] if len(sys.argv) > 1 else "30"}
        command = (sys.executable, "-m", "benchmarks.tick", *flags)
        return subprocess.run(command, env=os.environ | settings, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
