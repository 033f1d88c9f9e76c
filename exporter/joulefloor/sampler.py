"""The sampler: asks sources each tick, never waits for a slow one, publishes one snapshot a tick.

One thread per source, because every hardware call may block and Python cannot interrupt it; one
ledger thread, which owns ledger and board alone. Between them two queues and nothing shared.
"""

from __future__ import annotations

from queue import Empty, SimpleQueue
from threading import Event, Thread
from traceback import format_exc
from typing import TYPE_CHECKING, NamedTuple

from joulefloor import catalogue
from joulefloor.errors import Reason, SourceError
from joulefloor.model import EMPTY, Batch, Fault, Health, Snapshot
from joulefloor.units import NANOSECONDS_PER_SECOND, nanoseconds_from_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from joulefloor.board import Board
    from joulefloor.catalogue import Metric
    from joulefloor.clock import Clock
    from joulefloor.ledger import Ledger
    from joulefloor.log import Log
    from joulefloor.sources import Source

GRACE_S = 0.2
"""How long a tick waits for the sources it has just asked."""
TURN_S = 0.002
"""How long a source just asked has the interpreter to itself: at once they would fight for it."""
BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
SUSPEND_NS = NANOSECONDS_PER_SECOND // 2
"""A jump of boot time against monotonic time beyond this is a suspend."""
SWEEP_S = 300.0
OWNER = "sampler"


class Result(NamedTuple):
    """What a runner brought back."""

    runner: Runner
    batch: Batch
    failure: Fault | None
    trace: str
    started_ns: int
    finished_ns: int


class Runner:
    """Drives one source in its own thread, one read per request."""

    def __init__(self, source: Source, clock: Clock, results: SimpleQueue[Result]) -> None:
        """The thread starts with the first request; results go to the shared queue."""
        self.source = source
        self.name = source.name
        self.asked_ns = 0
        self.due_ns = 0
        self.busy = False
        self.answered = False
        self.late = False
        self.failures = 0
        self.health = Health(source.name, None, detail="not read yet")
        self.written: Health | None = None
        self.errors: dict[Reason, int] = {}
        self._clock = clock
        self._requests: SimpleQueue[bool] = SimpleQueue()
        self._results = results
        self._thread: Thread | None = None

    def ask(self, now_ns: int) -> None:
        """Request one read; the caller has checked that none is under way."""
        self.busy = True
        self.asked_ns = now_ns
        period_ns = nanoseconds_from_seconds(self.source.period_s)
        self.due_ns = max(self.due_ns + period_ns, now_ns + period_ns // 2)
        if self._thread is None:
            self._thread = Thread(target=self._run, name=f"source-{self.name}", daemon=True)
            self._thread.start()
        self._requests.put(True)

    def stop(self) -> None:
        """Let the thread end after its current read; a hung one is left behind."""
        self._requests.put(False)

    def join(self, seconds: float) -> None:
        """Wait for the thread, at most `seconds`."""
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while self._requests.get():
            self._results.put(self._read())
        self.source.close()

    def _read(self) -> Result:
        started_ns = self._clock.monotonic_ns()
        batch, failure, trace = Batch(()), None, ""
        try:
            batch = self.source.read()
        except SourceError as error:
            failure = Fault(None, error.reason, error.detail, self._clock.monotonic_ns())
        except Exception as error:  # noqa: BLE001  # the one place where a source's bug ends
            detail = f"{type(error).__name__}: {error}"
            failure = Fault(None, Reason.BUG, detail, self._clock.monotonic_ns())
            trace = format_exc()
        if failure is not None:
            self.source.close()
        return Result(self, batch, failure, trace, started_ns, self._clock.monotonic_ns())


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
        self._results: SimpleQueue[Result] = SimpleQueue()
        self.runners = [Runner(source, clock, self._results) for source in sources]
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
        """End the ledger thread and the runners; waits at most `seconds` for all of them."""
        self._stop.set()
        for runner in self.runners:
            runner.stop()
        deadline_ns = self._clock.monotonic_ns() + nanoseconds_from_seconds(seconds)
        waits: list[Callable[[float], None]] = [runner.join for runner in self.runners]
        if self._thread is not None:
            waits.append(self._thread.join)
        for wait in waits:
            left_ns = deadline_ns - self._clock.monotonic_ns()
            wait(max(0.0, left_ns / NANOSECONDS_PER_SECOND))

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
        for runner in asked:
            runner.ask(now_ns)
            self._collect({runner.name}, TURN_S)
        self._collect({runner.name for runner in asked if runner.busy}, GRACE_S)
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

    def _collect(self, waiting: set[str], seconds: float) -> None:
        """Fold what came, until all who are waited for have answered or the time is over."""
        end_ns = self._clock.monotonic_ns() + nanoseconds_from_seconds(seconds)
        while True:
            left_s = (end_ns - self._clock.monotonic_ns()) / NANOSECONDS_PER_SECOND
            try:
                block = bool(waiting) and left_s > 0
                result = self._results.get(block, max(0.0, left_s) if block else None)
            except Empty:
                return
            waiting.discard(result.runner.name)
            self._fold(result)

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
