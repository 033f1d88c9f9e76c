"""`joulefloor measure -- CMD`: the joules a machine spends while a command runs."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING, NamedTuple

from joulefloor import catalogue
from joulefloor.units import NANOSECONDS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Sequence

    from joulefloor.clock import Clock
    from joulefloor.sampler import Sampler

NOT_FOUND = 127
NOT_EXECUTABLE = 126
SIGNALLED = 128


class Spent(NamedTuple):
    """Energy of one component over the run. `joules` >= 0, `mean_watts` over the whole run."""

    level: str
    component: str
    device: str
    joules: float
    mean_watts: float
    method: str
    source: str


class Measured(NamedTuple):
    """A run: its duration, the CPU time of the command and its children, and the energies."""

    exit_code: int
    seconds: float
    command_cpu_seconds: float
    spent: tuple[Spent, ...]
    missing: tuple[str, ...]


def measure(command: Sequence[str], sampler: Sampler, clock: Clock, tick_s: float) -> Measured:
    """Run `command` and account for the energy of the machine meanwhile.

    The machine is measured, not the command: what else runs is in the numbers. Meters are read
    right before the start, each tick, and right after the end.
    """
    _tick(sampler, clock)
    started_ns = clock.monotonic_ns()
    before = _energies(sampler)
    try:
        child = subprocess.Popen(command)  # noqa: S603  # running it is what the user asked for
    except FileNotFoundError:
        return Measured(NOT_FOUND, 0.0, 0.0, (), (f"{command[0]}: command not found",))
    except OSError as error:
        return Measured(NOT_EXECUTABLE, 0.0, 0.0, (), (f"{command[0]}: {error.strerror}",))
    ended = threading.Event()
    ticker = threading.Thread(
        target=_tick_until, args=(ended, sampler, clock, tick_s), name="ledger", daemon=True
    )
    with _Interrupts():
        ticker.start()
        _, status, usage = os.wait4(child.pid, 0)
    ended.set()
    ticker.join()
    _tick(sampler, clock)
    seconds = (clock.monotonic_ns() - started_ns) / NANOSECONDS_PER_SECOND
    child.returncode = os.waitstatus_to_exitcode(status)
    code = child.returncode if child.returncode >= 0 else SIGNALLED - child.returncode
    return Measured(
        code,
        seconds,
        usage.ru_utime + usage.ru_stime,
        _spent(before, _energies(sampler), seconds),
        _missing(sampler),
    )


class _Interrupts:
    """While a command runs, Ctrl-C is for the command: it ends, and the report follows."""

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGINT, signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)


def _tick(sampler: Sampler, clock: Clock) -> None:
    """Read every meter now, whether its period is over or not."""
    now_ns = clock.monotonic_ns()
    for runner in sampler.runners:
        runner.due_ns = now_ns
    sampler.tick(now_ns)


def _tick_until(ended: threading.Event, sampler: Sampler, clock: Clock, tick_s: float) -> None:
    while not ended.wait(tick_s):
        sampler.tick(clock.monotonic_ns())


_Key = tuple[str, tuple[str, ...]]


def _energies(sampler: Sampler) -> dict[_Key, float]:
    wanted = {catalogue.NODE_ENERGY.name, catalogue.COMPONENT_ENERGY.name}
    return {
        (sample.metric.name, sample.labels): sample.value
        for sample in sampler.snapshot.samples()
        if sample.metric.name in wanted
    }


def _spent(
    before: dict[_Key, float], after: dict[_Key, float], seconds: float
) -> tuple[Spent, ...]:
    rows: list[Spent] = []
    for (name, labels), value in after.items():
        joules = value - before.get((name, labels), 0.0)
        if name == catalogue.NODE_ENERGY.name:
            level, (source, method), component, device = "node", labels, "node", ""
        else:
            level, (component, device, source, method) = "component", labels
        rows.append(Spent(level, component, device, joules, joules / seconds, method, source))
    return tuple(rows)


def _missing(sampler: Sampler) -> tuple[str, ...]:
    """Why a meter that one would expect gave nothing."""
    return tuple(
        f"{health.name}: {health.reason}: {health.detail}"
        for health in sampler.snapshot.health
        if health.up is False
    )


def report(measured: Measured) -> str:
    """The report for people."""
    lines = [f"{'component':<12}{'device':<18}{'joules':>12}{'mean watts':>12}  method"]
    lines += [
        f"{row.component:<12}{row.device:<18}{row.joules:>12.3f}{row.mean_watts:>12.3f}"
        f"  {row.method} ({row.source})"
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
