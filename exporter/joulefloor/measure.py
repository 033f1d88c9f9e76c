"""`joulefloor measure -- CMD`: the joules a machine spends while a command runs."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Self

from joulefloor import catalogue
from joulefloor.marks import ENERGIES, Mark, Meters
from joulefloor.units import seconds_from_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import FrameType

    from joulefloor.clock import Clock
    from joulefloor.marks import Key
    from joulefloor.sampler import Sampler

NOT_FOUND = 127
NOT_EXECUTABLE = 126
SIGNALLED = 128


class Spent(NamedTuple):
    """Energy of one component over the run.

    `joules` (> 0) is what its meter counted in `metered_seconds` (> 0), the time between the
    updates of the meter next to the start and to the end of the run; `mean_watts` is over that.
    """

    level: str
    component: str
    device: str
    joules: float
    metered_seconds: float
    mean_watts: float
    method: str
    source: str


class Measured(NamedTuple):
    """A run: its duration, the CPU time of the command and its children, and the energies.

    `missing`: what a reader of the energies has to know of meters that told nothing, or too little.
    """

    exit_code: int
    seconds: float
    command_cpu_seconds: float
    spent: tuple[Spent, ...]
    missing: tuple[str, ...]


def measure(command: Sequence[str], sampler: Sampler, clock: Clock, tick_s: float) -> Measured:
    """Run `command` and account for the energy of the machine meanwhile.

    The machine is measured, not the command: what else runs is in the numbers. Every source has
    answered, or is late, before the command starts. Meters are read right before the start, each
    tick, and right after the end.
    """
    meters = Meters(sampler, clock)
    meters.read_all()  # opens them, which may take seconds
    meters.read_all()
    before = dict(meters.marks)
    started_ns = clock.monotonic_ns()
    with _Signals() as signals:
        try:
            child = subprocess.Popen(command)  # noqa: S603  # running it is what the user asked for
        except FileNotFoundError:
            return Measured(NOT_FOUND, 0.0, 0.0, (), (f"{command[0]}: command not found",))
        except OSError as error:
            return Measured(NOT_EXECUTABLE, 0.0, 0.0, (), (f"{command[0]}: {error.strerror}",))
        signals.pass_on_to(child.pid)
        with _Ticking(meters, tick_s):
            _, status, usage = os.wait4(child.pid, 0)
            ended_ns = clock.monotonic_ns()
    meters.read_all()
    child.returncode = os.waitstatus_to_exitcode(status)
    spent, still = _spent(before, meters)
    return Measured(
        child.returncode if child.returncode >= 0 else SIGNALLED - child.returncode,
        seconds_from_nanoseconds(ended_ns - started_ns),
        usage.ru_utime + usage.ru_stime,
        spent,
        (*_missing(sampler, everything=not (spent or still)), *still),
    )


class _Signals:
    """While a command runs, signals are for the command: it ends, and the report follows.

    Ctrl-C reaches it from the terminal; what asks only this process to end is passed on.
    """

    def __init__(self) -> None:
        self._pid: int | None = None
        self._came: list[int] = []

    def __enter__(self) -> Self:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        self._before = {
            number: signal.signal(number, self._take)
            for number in numbers
            if signal.getsignal(number) != signal.SIG_IGN
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def pass_on_to(self, pid: int) -> None:
        """The command has started; it gets what came before as well."""
        self._pid = pid
        for number in self._came:
            os.kill(pid, number)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            return
        if self._pid is None:
            self._came.append(number)
            return
        with suppress(ProcessLookupError):
            os.kill(self._pid, number)


class _Ticking:
    """Ticks while the command runs; nobody else ticks meanwhile."""

    def __init__(self, meters: Meters, tick_s: float) -> None:
        self._meters = meters
        self._tick_s = tick_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._tick_s):
            self._meters.tick()


def _spent(before: Mapping[Key, Mark], meters: Meters) -> tuple[tuple[Spent, ...], tuple[str, ...]]:
    """Energies of the meters that moved, and what is to be known of the others."""
    rows: list[Spent] = []
    notes: list[str] = []
    for key, (joules, at_ns) in meters.marks.items():
        name, labels = key
        if name == catalogue.NODE_ENERGY.name:
            level, (source, method), component, device = "node", labels, "node", ""
        else:
            level, (component, device, source, method) = "component", labels
        who = " ".join(filter(None, (component, device, f"({source})")))
        start = before.get(key) or Mark(0.0, meters.first_ns[key])
        spent, seconds = joules - start.joules, seconds_from_nanoseconds(at_ns - start.at_ns)
        if spent <= 0 or seconds <= 0:
            notes.append(f"{who}: did not update during the run")
            continue
        if key not in before:
            notes.append(f"{who}: first read after the command had begun; its joules are too few")
        watts = spent / seconds
        rows.append(Spent(level, component, device, spent, seconds, watts, method, source))
    return tuple(rows), tuple(notes)


def _missing(sampler: Sampler, *, everything: bool) -> Iterator[str]:
    """Why a meter that one would expect gave nothing; `everything`: also those not expected."""
    for health in sampler.snapshot.health:
        if health.up is False or (everything and health.up is None):
            yield f"{health.name}: {health.reason}: {health.detail}"
            continue
        for fault in health.faults:
            if fault.channel is not None and fault.channel.metric in ENERGIES:
                yield f"{health.name}: {fault.reason}: {fault.detail}"


def report(measured: Measured) -> str:
    """The report for people."""
    wide = max(16, *(len(row.device) for row in measured.spent), 0)
    head = f"{'component':<12}{'device':<{wide}}{'joules':>14}{'seconds':>12}{'mean watts':>12}"
    lines = [f"{head}  method"]
    lines += [
        f"{row.component:<12}{row.device:<{wide}}{row.joules:>14.3f}{row.metered_seconds:>12.3f}"
        f"{row.mean_watts:>12.3f}  {row.method} ({row.source})"
        for row in measured.spent
    ]
    if not measured.spent:
        lines.append("nothing was measured:")
    lines += [f"  {why}" for why in measured.missing]
    lines.append(
        f"{measured.seconds:.3f} s elapsed, {measured.command_cpu_seconds:.3f} s of CPU time used "
        f"by the command, exit code {measured.exit_code}"
    )
    return "\n".join(lines)


def report_json(measured: Measured) -> str:
    """The report for programs."""
    from json import dumps  # noqa: PLC0415  # rarely asked for

    row = measured._asdict()
    row["spent"] = [spent._asdict() for spent in measured.spent]
    return dumps(row, indent=2)
