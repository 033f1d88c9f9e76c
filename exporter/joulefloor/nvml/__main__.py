"""`python -m joulefloor.nvml`: answers requests on stdin with frames on stdout until stdin closes.

The main thread never calls the driver, so it always hears requests, signals and the end of the
pipe. SIGUSR1 gives the devices back: the process says so and ends.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from traceback import format_exception
from typing import TYPE_CHECKING

from joulefloor.clock import SystemClock
from joulefloor.errors import Reason, SourceError
from joulefloor.frames import ROUND, Kind
from joulefloor.nvml.binding import (
    DRIVER_CHANGED,
    DRIVER_NOT_LOADED,
    LIB_RM_VERSION_MISMATCH,
    LIBRARY_NOT_FOUND,
    NO_PERMISSION,
    Refusal,
    load,
)
from joulefloor.nvml.crew import Post, Unit
from joulefloor.nvml.gpu import Boards, Options
from joulefloor.remote import Divided

if TYPE_CHECKING:
    from threading import ExceptHookArgs

    from joulefloor.nvml.binding import Binding

ROSTER_S = 10.0
"""How often the number of GPUs and the driver are looked at."""
PARTING_S = 0.2
"""Time for the driver to take its devices back before the process ends anyway."""
REQUESTS = 4096
HINTS = {
    LIBRARY_NOT_FOUND: "; use the NVIDIA container runtime, or set library_folder",
    DRIVER_NOT_LOADED: "; load the kernel module: modprobe nvidia",
    LIB_RM_VERSION_MISMATCH: "; the kernel module is of another version: reload it or reboot",
    NO_PERMISSION: "; the user needs to open /dev/nvidiactl and /dev/nvidia*",
}
RELEASED = "the devices were released on request (SIGUSR1)"


class Program:
    """The worker: boots the driver in a thread, hears the daemon in the main one."""

    def __init__(self, options: Options, descriptor: int) -> None:
        """Frames go to `descriptor`."""
        self._options = options
        self._clock = SystemClock()
        self._descriptor = descriptor
        self._post = Post(self._write)
        self._units: tuple[Unit, ...] = ()
        self._binding: Binding | None = None
        self._round = 0
        self._lock = threading.Lock()

    def run(self) -> None:
        """Answer until the daemon closes the pipe."""
        threading.excepthook = self._crashed
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        threading.Thread(target=self._await_release, name="release", daemon=True).start()
        threading.Thread(target=self._boot, name="boot", daemon=True).start()
        pending = b""
        while data := os.read(0, REQUESTS):
            pending += data
            whole = len(pending) - len(pending) % ROUND.size
            if whole:
                (self._round,) = ROUND.unpack_from(pending, whole - ROUND.size)
                pending = pending[whole:]
                self._beat()
        self._part()

    def _await_release(self) -> None:
        """A thread, not a handler: a handler could run in the middle of a frame."""
        signal.sigwait({signal.SIGUSR1})
        self._end(Reason.ABSENT, RELEASED)

    def _beat(self) -> None:
        """Ask every GPU that is free; tell who was asked and who is still busy."""
        now_ns = self._clock.monotonic_ns()
        with self._lock:
            busy = tuple(
                (unit.index, unit.calling(), unit.busy_since_ns)
                for unit in self._units
                if unit.busy_since_ns is not None
            )
            stuck = {index for index, _, _ in busy}
            free = [unit for unit in self._units if unit.index not in stuck]
            asked = tuple(unit.index for unit in free if unit.ask(now_ns))
        self._post.send(Kind.BEAT, self._round, bool(self._binding), asked, busy)

    def _boot(self) -> None:
        """Open the driver and its GPUs, then watch that they stay the same."""
        try:
            binding = load()
            binding.call("nvmlInit")
            count = int(binding.number("nvmlDeviceGetCount"))
            version = binding.text("nvmlSystemGetDriverVersion")
        except SourceError as error:
            self._end(error.reason, error.detail)
            return
        except Refusal as refusal:
            absent = refusal.code in {DRIVER_NOT_LOADED, LIBRARY_NOT_FOUND}
            hint = HINTS.get(refusal.code, "")
            self._end(Reason.ABSENT if absent else refusal.reason, refusal.detail + hint)
            return
        self._post.send(Kind.HELLO, version, count)
        boards = Boards()
        units = tuple(
            Unit(
                index,
                binding=binding,
                clock=self._clock,
                boards=boards,
                options=self._options,
                post=self._post,
                fatal=self._end,
            )
            for index in range(count)
        )
        for unit in units:
            unit.start()
        with self._lock:
            self._units, self._binding = units, binding
        self._beat()
        self._watch(binding, count)

    def _watch(self, binding: Binding, count: int) -> None:
        pause = threading.Event()
        while not pause.wait(ROSTER_S):
            try:
                now = int(binding.number("nvmlDeviceGetCount"))
            except Refusal as refusal:
                if refusal.code in DRIVER_CHANGED:
                    self._end(Reason.LOST, refusal.detail)
                continue
            if now != count:
                self._end(Reason.LOST, f"there are {now} GPUs now, not {count}")

    def _end(self, reason: Reason, detail: str) -> None:
        """Tell why and leave, whatever other threads are doing."""
        self._post.send(Kind.DOWN, reason.value, detail)
        self._part()

    def _part(self) -> None:
        """Give the devices back if the driver answers; closing the files does the same."""
        shut = threading.Thread(target=self._shut, daemon=True)
        shut.start()
        shut.join(PARTING_S)
        os._exit(0)

    def _shut(self) -> None:
        if self._binding is not None:
            try:
                self._binding.call("nvmlShutdown")
            except Refusal:
                return

    def _crashed(self, what: ExceptHookArgs) -> None:
        """A mistake of ours in a thread: the daemon gets the traceback."""
        lines = format_exception(what.exc_type, what.exc_value, what.exc_traceback)
        self._end(Reason.BUG, "".join(lines)[-4000:])

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._descriptor, view) :]
            except OSError:
                os._exit(0)


def main(arguments: list[str]) -> None:
    """`arguments`: power period in s, 1 if processes become parts, and 1 for full detail.

    Then a word for each GPU whose joules an earlier worker divided: UUID=J@NS, the counter and the
    instant up to which it did.
    """
    frames = os.dup(1)
    os.dup2(2, 1)
    period, processes, full, *words = arguments
    divided = {uuid: Divided.of(rest) for uuid, _, rest in (word.partition("=") for word in words)}
    Program(Options(float(period), processes == "1", full == "1", divided), frames).run()


if __name__ == "__main__":
    main(sys.argv[1:])
