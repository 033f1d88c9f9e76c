"""The sampler: asks sources each tick, never waits for a slow one, publishes one snapshot a tick.

Sources are read by threads of their own (`readers`), because every hardware call may block; one
ledger thread owns ledger and board alone. Between them are queues and nothing shared.
"""

from __future__ import annotations

from threading import Event, Thread
from typing import TYPE_CHECKING, TypeGuard

from joulefloor import catalogue
from joulefloor.errors import Reason
from joulefloor.model import EMPTY, Fault, Health, Snapshot
from joulefloor.readers import Readers, Runner
from joulefloor.units import NANOSECONDS_PER_SECOND, nanoseconds_from_seconds

if TYPE_CHECKING:
    from collections.abc import Iterable

    from joulefloor.board import Board
    from joulefloor.catalogue import Metric
    from joulefloor.clock import Clock
    from joulefloor.ledger import Ledger
    from joulefloor.log import Log
    from joulefloor.readers import Result
    from joulefloor.sources import Source

GRACE_S = 0.2
"""How long a tick waits for the sources it has just asked."""
TURN_S = 0.02
"""How long one thread reads alone: several at once would fight for the interpreter."""
QUICK_S = 0.002
"""Sources that took longer the last time are read after those that did not."""
BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
SUSPEND_NS = NANOSECONDS_PER_SECOND // 2
"""A jump of boot time against monotonic time beyond this is a suspend."""
SWEEP_S = 300.0
OWNER = "sampler"


class Sampler:
    """Ticks the ledger and publishes snapshots. `snapshot` is replaced by one store per tick."""

    def __init__(
        self,
        sources: Iterable[Source],
        ledger: Ledger,
        board: Board,
        clock: Clock,
        log: Log,
        *,
        tick_s: float = 1.0,
    ) -> None:
        """Nothing runs before `start` or `tick`."""
        self.snapshot: Snapshot = EMPTY
        self.runners = [Runner(source, clock) for source in sources]
        self._readers = Readers()
        self._ledger = ledger
        self._board = board
        self._clock = clock
        self._log = log
        self._tick_ns = nanoseconds_from_seconds(tick_s)
        self._stop = Event()
        self._thread: Thread | None = None
        self._seq = 0
        self._asleep_ns = clock.boottime_ns() - clock.monotonic_ns()
        self._swept_ns = clock.monotonic_ns()
        self.ticked_ns = 0

    def start(self) -> None:
        """Tick in a thread of its own until `stop`."""
        self._thread = Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def stop(self, seconds: float = 1.0) -> None:
        """End the ledger thread and close the sources; waits at most `seconds` for all of them."""
        self._stop.set()
        self._readers.stop()
        ends = [
            Thread(target=runner.close, name=f"close-{runner.name}", daemon=True)
            for runner in self.runners
            if runner.asked_ns
        ]
        for closer in ends:
            closer.start()
        if self._thread is not None:
            ends.append(self._thread)
        deadline_ns = self._clock.monotonic_ns() + nanoseconds_from_seconds(seconds)
        for thread in ends:
            left_ns = deadline_ns - self._clock.monotonic_ns()
            thread.join(max(0.0, left_ns / NANOSECONDS_PER_SECOND))

    def alive(self, now_ns: int) -> bool:
        """Whether the ledger ticked lately: within three ticks and the grace, at least 3 s."""
        patience_ns = max(3 * self._tick_ns, 3 * NANOSECONDS_PER_SECOND)
        return self.ticked_ns > 0 and now_ns - self.ticked_ns <= patience_ns

    def _run(self) -> None:
        due_ns = self._clock.monotonic_ns()
        while not self._stop.is_set():
            self.tick(due_ns)
            due_ns += self._tick_ns
            behind_ns = self._clock.monotonic_ns() - due_ns
            if behind_ns > self._tick_ns:
                due_ns += behind_ns - behind_ns % self._tick_ns
            left_ns = due_ns - self._clock.monotonic_ns()
            self._stop.wait(max(0.0, left_ns / NANOSECONDS_PER_SECOND))

    def tick(self, due_ns: int) -> None:
        """Ask what is due, fold what came, publish. `due_ns` is when this tick should begin."""
        now_ns = self._clock.monotonic_ns()
        late_ns = max(0, now_ns - due_ns)
        self._notice_suspend()
        asked = [runner for runner in self.runners if not runner.busy and runner.due_ns <= now_ns]
        asked.sort(key=_lets_wait)
        for runner in asked:
            runner.ask(now_ns)
        self._readers.ask(asked)
        self._collect(set(asked))
        now_ns = max(now_ns, self._clock.monotonic_ns())
        for runner in self.runners:
            self._check_deadline(runner, now_ns)
        complete = all(runner.answered for runner in self.runners)
        self._ledger.close(now_ns, self._clock.process_cpu_s(), complete=complete)
        self._publish(now_ns, late_ns)

    def _notice_suspend(self) -> None:
        asleep_ns = self._clock.boottime_ns() - self._clock.monotonic_ns()
        slept_ns = asleep_ns - self._asleep_ns
        self._asleep_ns = asleep_ns
        if slept_ns > SUSPEND_NS:
            self._ledger.suspended()
            self._log.info("machine_suspended", seconds=slept_ns / NANOSECONDS_PER_SECOND)

    def _collect(self, waiting: set[Runner]) -> None:
        """Fold what came, until all who are waited for have answered or the grace is over."""
        end_ns = self._clock.monotonic_ns() + nanoseconds_from_seconds(GRACE_S)
        over = False
        while True:
            for result in self._readers.results():
                waiting.discard(result.runner)
                self._fold(result)
            if not waiting or over:
                return
            behind = self._readers.behind
            left_s = (end_ns - self._clock.monotonic_ns()) / NANOSECONDS_PER_SECOND
            done = self._readers.wait(max(0.0, min(left_s, TURN_S) if behind else left_s))
            over = left_s <= 0 or not (done or behind)
            if not done:
                self._readers.relieve()

    def _fold(self, result: Result) -> None:
        runner, failure = result.runner, result.failure
        runner.busy = runner.late = False
        runner.answered = True
        took_s = (result.finished_ns - result.started_ns) / NANOSECONDS_PER_SECOND
        if failure is not None:
            self._fail(runner, failure, took_s, result.trace)
            return
        runner.failures = 0
        faults = result.batch.faults
        faults += self._ledger.fold(runner.name, runner.source.period_s, result.batch)
        for fault in faults:
            runner.errors[fault.reason] = runner.errors.get(fault.reason, 0) + 1
        good = len(result.batch.readings)
        worst = faults[0] if faults and not good else None
        self._judge(
            runner,
            Health(
                runner.name,
                up=good > 0,
                reason=worst.reason if worst else None,
                detail=worst.detail if worst else "",
                errors=tuple(sorted(runner.errors.items())),
                faults=faults,
                channels=good + len(result.batch.faults),
                read_seconds=took_s,
                last_success_unix_s=(
                    self._clock.unix_s() if good else runner.health.last_success_unix_s
                ),
            ),
        )

    def _fail(self, runner: Runner, failure: Fault, took_s: float, trace: str) -> None:
        """The whole source gave nothing: silence it, ask again after a growing pause."""
        self._ledger.silence(runner.name)
        reason = failure.reason
        pause_s = BACKOFF_S[min(runner.failures, len(BACKOFF_S) - 1)]
        if reason is Reason.ABSENT:
            pause_s = BACKOFF_S[-1]
        runner.failures += 1
        runner.due_ns = failure.at_ns + nanoseconds_from_seconds(
            max(pause_s, runner.source.period_s)
        )
        runner.errors[reason] = runner.errors.get(reason, 0) + (reason is not Reason.ABSENT)
        if trace:
            self._log.error("source_bug", source=runner.name, traceback=trace)
        self._judge(
            runner,
            Health(
                runner.name,
                up=None if reason is Reason.ABSENT else False,
                reason=reason,
                detail=failure.detail,
                errors=tuple(sorted(item for item in runner.errors.items() if item[1])),
                faults=(failure,),
                read_seconds=took_s,
                last_success_unix_s=runner.health.last_success_unix_s,
            ),
        )

    def _check_deadline(self, runner: Runner, now_ns: int) -> None:
        waited_s = (now_ns - runner.asked_ns) / NANOSECONDS_PER_SECOND
        if not runner.busy or runner.late or waited_s <= runner.source.deadline_s:
            return
        runner.late = True
        self._ledger.silence(runner.name)
        detail = f"no answer for {runner.source.deadline_s:g} s; the driver or device hangs"
        runner.errors[Reason.LATE] = runner.errors.get(Reason.LATE, 0) + 1
        self._judge(
            runner,
            Health(
                runner.name,
                up=False,
                reason=Reason.LATE,
                detail=detail,
                errors=tuple(sorted(runner.errors.items())),
                faults=(Fault(None, Reason.LATE, detail, now_ns),),
                read_seconds=waited_s,
                last_success_unix_s=runner.health.last_success_unix_s,
            ),
        )

    def _judge(self, runner: Runner, health: Health) -> None:
        """Keep the health; one log line per change of state."""
        before = runner.health
        runner.health = health
        if (before.up, before.reason) == (health.up, health.reason):
            return
        if health.up:
            self._log.info("source_up", source=runner.name, channels=health.channels)
        elif health.up is None:
            self._log.info("source_absent", source=runner.name, detail=health.detail)
        else:
            self._log.warning(
                "source_down", source=runner.name, reason=health.reason, detail=health.detail
            )

    def _publish(self, now_ns: int, late_ns: int) -> None:
        self._seq += 1
        for runner in self.runners:
            if runner.health is not runner.written:
                self._write_health(runner)
                runner.written = runner.health
        self._put(catalogue.TICKS, (), self._seq)
        self._put(catalogue.TICK_LATENESS, (), late_ns / NANOSECONDS_PER_SECOND)
        if now_ns - self._swept_ns > nanoseconds_from_seconds(SWEEP_S):
            self._swept_ns = now_ns
            self._board.sweep()
        series = self._board.cell(catalogue.SERIES, (), OWNER)
        self._board.put(series, self._board.count())
        layout, values = self._board.freeze()
        health = tuple(runner.health for runner in self.runners)
        self.snapshot = Snapshot(self._seq, now_ns, self._clock.unix_s(), layout, values, health)
        self.ticked_ns = now_ns

    def _write_health(self, runner: Runner) -> None:
        health, labels = runner.health, (runner.name,)
        if _is_well(runner.written) and _is_well(health) and runner.written.errors == health.errors:
            self._put(catalogue.SOURCE_READ, labels, health.read_seconds)
            return
        if health.up is not None:
            self._put(catalogue.SOURCE_UP, labels, float(health.up))
            self._put(catalogue.SOURCE_READ, labels, health.read_seconds)
        elif health.last_success_unix_s:
            for metric in (catalogue.SOURCE_UP, catalogue.SOURCE_READ):
                self._board.clear(self._board.cell(metric, labels, OWNER))
        if not health.up and health.last_success_unix_s:
            self._put(catalogue.SOURCE_LAST_SUCCESS, labels, health.last_success_unix_s)
        elif runner.written is not None and not runner.written.up:
            self._board.clear(self._board.cell(catalogue.SOURCE_LAST_SUCCESS, labels, OWNER))
        for reason, count in health.errors:
            self._put(catalogue.SOURCE_ERRORS, (runner.name, reason), count)
        faults = dict.fromkeys(runner.errors, 0)
        for fault in health.faults:
            faults[fault.reason] = faults.get(fault.reason, 0) + 1
        for reason, count in faults.items():
            self._put(catalogue.SOURCE_FAULTS, (runner.name, reason), count)

    def _put(self, metric: Metric, labels: tuple[str, ...], value: float) -> None:
        self._board.put(self._board.cell(metric, labels, OWNER), value)


def _lets_wait(runner: Runner) -> bool:
    """Whether it kept its thread for long the last time; such are read after all others."""
    return runner.health.read_seconds > QUICK_S


def _is_well(health: Health | None) -> TypeGuard[Health]:
    """Whether all of a source could be read."""
    return health is not None and health.up is True and not health.faults
