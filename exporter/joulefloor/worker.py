"""A killable worker process that speaks to hardware through a vendor's library, seen from here.

A vendor call may never return, may crash the process, and keeps the library of yesterday's driver
mapped. So it happens in a process of its own: asked once per round through a pipe, killed when its
heart stops, started again by whoever reads next. It ends when our end of its pipe closes, however
this process ends.
"""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

from joulefloor.errors import Reason, SourceError
from joulefloor.frames import ROUND, Unpacker
from joulefloor.units import NANOSECONDS_PER_SECOND, nanoseconds_from_seconds

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

    from joulefloor.clock import Clock
    from joulefloor.frames import Frame

GRACE_S = 0.3
"""Time for the worker to hand its devices back before it is killed."""
YOUNG_S = 30.0
"""A worker that ends younger than this makes the next start wait."""
PAUSES_S = (0.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
CHUNK = 65_536
GATHER_MS = 3
"""What comes so soon after the first frame is taken with it: being woken costs more than that."""
_INHERITED = ("LD_LIBRARY_PATH", "PATH", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "TZ")
"""What of the environment a worker needs; nothing else is passed on."""


class Worker:
    """One process at a time, its pipes, and the pause after it failed young."""

    def __init__(self, command: Sequence[str], clock: Clock, extra: Mapping[str, str]) -> None:
        """`extra` is added to the environment; nothing is started before `start`."""
        self._command = tuple(command)
        self._clock = clock
        self._extra = dict(extra)
        self._process: subprocess.Popen[bytes] | None = None
        self._unpacker = Unpacker()
        self._poll = select.poll()
        self._round = 0
        self._early_ends = 0
        self._not_before_ns = 0
        self._last_words = ""
        self.started_ns = 0

    @property
    def running(self) -> bool:
        """Whether there is a process to talk to."""
        return self._process is not None and self._process.stdout is not None

    @property
    def pid(self) -> int | None:
        """Process id, for people and tests."""
        return None if self._process is None else self._process.pid

    def start(self, *more: str) -> None:
        """Start the process; `more`: words at the end of its command.

        Raises:
            SourceError: LATE while an earlier one cannot be killed or a pause is on, LOST when
                there is no starting it.
        """
        import subprocess  # noqa: PLC0415  # only where there is a device to watch

        now_ns = self._clock.monotonic_ns()
        if self._process is not None and self._process.poll() is None:
            detail = f"worker {self._process.pid} is stuck in the kernel; reset or reboot"
            raise SourceError(Reason.LATE, detail)
        if now_ns < self._not_before_ns:
            left_s = (self._not_before_ns - now_ns) / NANOSECONDS_PER_SECOND
            ends = f"the worker ended early {self._early_ends} times ({self._last_words})"
            raise SourceError(Reason.LOST, f"{ends}; the next try is in {left_s:.0f} s")
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        try:
            self._process = subprocess.Popen(  # noqa: S603  # our own interpreter
                (*self._command, *more),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment | self._extra,
                bufsize=0,
            )
        except OSError as error:
            raise SourceError(Reason.LOST, f"{self._command[0]}: {error.strerror}") from None
        self.started_ns = now_ns
        self._unpacker = Unpacker()
        self._poll = select.poll()
        for pipe in (self._process.stdin, self._process.stdout):
            os.set_blocking(_descriptor(pipe), False)
        self._poll.register(_descriptor(self._process.stdout), select.POLLIN)

    def ask(self) -> int:
        """Request a round; returns its number. Why a process ended is told by `receive`.

        Raises:
            SourceError: LOST when there is no process, LATE when it does not take requests.
        """
        self._round = (self._round + 1) % (1 << 32)
        try:
            os.write(_descriptor(self._pipes().stdin), ROUND.pack(self._round))
        except BlockingIOError:
            raise SourceError(Reason.LATE, "the worker takes no requests") from None
        except BrokenPipeError:
            return self._round
        return self._round

    def receive(self, until_ns: int) -> list[Frame]:
        """What arrives first and soon after it; empty when nothing does until `until_ns`.

        Raises:
            SourceError: LOST when the process ended, GARBLED when it sends no frames.
        """
        left_ns = until_ns - self._clock.monotonic_ns()
        if not self._poll.poll(max(0, -(-left_ns // 1_000_000))):
            return []
        select.poll().poll(GATHER_MS)
        try:
            data = os.read(_descriptor(self._pipes().stdout), CHUNK)
        except BlockingIOError:
            return []
        if not data:
            raise self._ended()
        try:
            return self._unpacker.feed(data)
        except ValueError as error:
            raise SourceError(Reason.GARBLED, f"the worker sent {error}") from None

    def stop(self) -> None:
        """Close its pipe, which tells it to end, and kill it if it does not; may be repeated."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return
        process.stdin.close()
        if process.poll() is None:
            _drain(self._poll, _descriptor(process.stdout))
            process.kill()
        process.stdout.close()
        process.stdin = process.stdout = None
        self._poll = select.poll()
        if not _reaped(process):
            return
        self._process = None

    def answered(self) -> None:
        """Remember that it is of use: past its youth that makes up for earlier ends."""
        if self._old(self._clock.monotonic_ns()):
            self._early_ends = 0

    def lived(self, *, well: bool, last_words: str = "") -> None:
        """Remember how this process ended: ends in its youth lengthen the pause."""
        self._last_words = last_words
        now_ns = self._clock.monotonic_ns()
        self._early_ends = 0 if well and self._old(now_ns) else self._early_ends + 1
        pause_s = PAUSES_S[min(self._early_ends, len(PAUSES_S)) - 1] if self._early_ends else 0.0
        self._not_before_ns = now_ns + nanoseconds_from_seconds(pause_s)

    def _old(self, now_ns: int) -> bool:
        return now_ns - self.started_ns > nanoseconds_from_seconds(YOUNG_S)

    def _pipes(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.stdout is None:
            raise SourceError(Reason.LOST, "there is no worker")
        return self._process

    def _ended(self) -> SourceError:
        process = self._pipes()
        _reaped(process)
        code = process.returncode
        how = "closed its pipe" if code is None else f"exited with {code}"
        if code is not None and code < 0:
            how = f"was killed by signal {-code}"
        return SourceError(Reason.LOST, f"worker {process.pid} {how}")


def _descriptor(pipe: object) -> int:
    """File descriptor of an open pipe."""
    return int(pipe.fileno())  # type: ignore[attr-defined]


def _drain(poll: select.poll, descriptor: int) -> None:
    """Read on until the other end closes, for GRACE_S at most, so that it is not stuck writing."""
    for _ in range(64):
        if not poll.poll(round(GRACE_S * 1000)) or not os.read(descriptor, CHUNK):
            return


def _reaped(process: subprocess.Popen[bytes]) -> bool:
    """Wait a moment for a killed process; one stuck in the kernel is left as it is."""
    import subprocess  # noqa: PLC0415  # loaded already

    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        return False
    return True
