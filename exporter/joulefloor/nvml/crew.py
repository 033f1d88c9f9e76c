"""One thread per GPU, so that a call that hangs costs its GPU only."""

from __future__ import annotations

from queue import Empty, SimpleQueue
from threading import Lock, Thread, get_ident
from typing import TYPE_CHECKING

from joulefloor.errors import Reason
from joulefloor.frames import Kind, pack
from joulefloor.nvml.binding import DRIVER_CHANGED, Refusal
from joulefloor.nvml.gpu import Boards, Gpu
from joulefloor.nvml.power import SHORTEST_S
from joulefloor.units import NANOSECONDS_PER_SECOND, nanoseconds_from_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from joulefloor.clock import Clock
    from joulefloor.nvml.binding import Binding
    from joulefloor.nvml.gpu import Options
    from joulefloor.nvml.table import Row
    from joulefloor.nvml.taken import Taken

REOPEN_S = 2.0
"""How often a GPU that is gone is looked for."""


class Post:
    """The pipe to the daemon, written by all threads."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        """`write` sends bytes and may block."""
        self._write = write
        self._lock = Lock()

    def send(self, kind: Kind, *body: object) -> None:
        """Send one whole frame."""
        frame = pack(kind, body)
        with self._lock:
            self._write(frame)


class Unit:
    """The thread of one GPU: samples power on its own, reads everything when asked."""

    def __init__(
        self,
        index: int,
        *,
        binding: Binding,
        clock: Clock,
        boards: Boards,
        options: Options,
        post: Post,
        fatal: Callable[[Reason, str], None],
    ) -> None:
        """`fatal` ends the process when the driver has changed."""
        self.index = index
        self.busy_since_ns: int | None = None
        self._binding = binding
        self._clock = clock
        self._boards = boards
        self._options = options
        self._post = post
        self._fatal = fatal
        self._asked: SimpleQueue[bool] = SimpleQueue()
        self._gpu: Gpu | None = None
        self._uuid: bytes | None = None
        self._gone: Refusal | None = None
        self._reopen_ns = 0
        self._rows: tuple[Row, ...] = ()
        self._generation = 0
        self._thread = Thread(target=self._run, name=f"gpu-{index}", daemon=True)

    def start(self) -> None:
        """Begin; the driver is called only from here on."""
        self._thread.start()

    def ask(self, now_ns: int) -> bool:
        """Request a round; False while an earlier one is not done."""
        if self.busy_since_ns is not None:
            return False
        self.busy_since_ns = now_ns
        self._asked.put(True)
        return True

    def calling(self) -> str:
        """The driver call its thread is in, or made last."""
        return self._binding.calling.get(self._thread.ident or 0, "thread start")

    def _run(self) -> None:
        self._binding.calling[get_ident()] = "none yet"
        due_ns = self._clock.monotonic_ns()
        while True:
            left_s = (due_ns - self._clock.monotonic_ns()) / NANOSECONDS_PER_SECOND
            try:
                self._asked.get(timeout=max(0.0, left_s))
            except Empty:
                if self._gpu is not None and self._gone is None:
                    self._gpu.sample_power()
            else:
                self._answer()
            due_ns = self._clock.monotonic_ns() + nanoseconds_from_seconds(self._pause_s())

    def _pause_s(self) -> float:
        """Time until power is to be sampled again, s; each round samples it as well."""
        if self._gpu is None or self._gone is not None:
            return max(SHORTEST_S, self._options.power_period_s)
        return self._gpu.next_sample_s()

    def _answer(self) -> None:
        try:
            gpu = self._open()
            taken = gpu.read()
        except Refusal as refusal:
            self._lose(refusal)
            return
        taken.faults = [fault for fault in taken.faults if fault.row not in taken.values]
        rows = (*taken.values, *(fault.row for fault in taken.faults))
        if rows != self._rows:
            self._rows = rows
            self._generation += 1
            body = (self.index, self._generation, gpu.identity.uuid, tuple(map(tuple, rows)))
            self._post.send(Kind.ROWS, *body)
        self._send_values(taken)

    def _send_values(self, taken: Taken) -> None:
        first = len(taken.values)
        faults = tuple(
            (first + offset, fault.reason.value, fault.detail)
            for offset, fault in enumerate(taken.faults)
        )
        self.busy_since_ns = None
        values = tuple(map(float, taken.values.values()))
        body = (self.index, self._generation, taken.at_ns, values, faults, None)
        self._post.send(Kind.VALUES, *body)

    def _open(self) -> Gpu:
        """The GPU, found by UUID once that is known, else by its number.

        Raises:
            Refusal: it is not there.
        """
        if self._gpu is not None and self._gone is None:
            return self._gpu
        now_ns = self._clock.monotonic_ns()
        if self._gone is not None and now_ns < self._reopen_ns:
            raise self._gone
        if self._uuid is not None:
            device = self._binding.call("nvmlDeviceGetHandleByUUID", self._uuid)
        else:
            device = self._binding.call("nvmlDeviceGetHandleByIndex", self.index)
        if self._gpu is not None:
            self._gpu.close()
        self._gpu = Gpu(self._binding, self._clock, device, self._boards, self._options)
        self._uuid = self._gpu.identity.uuid.encode()
        self._gone = None
        return self._gpu

    def _lose(self, refusal: Refusal) -> None:
        """Tell that the whole GPU gave nothing, or that the driver is another one."""
        if refusal.code in DRIVER_CHANGED:
            self._fatal(Reason.LOST, refusal.detail)
            return
        now_ns = self._clock.monotonic_ns()
        if refusal is not self._gone:
            self._reopen_ns = now_ns + nanoseconds_from_seconds(REOPEN_S)
            if self._gpu is not None:
                self._boards.leave(self._gpu.identity)
        self._gone = refusal
        self.busy_since_ns = None
        gone = (refusal.reason.value, refusal.detail)
        self._post.send(Kind.VALUES, self.index, self._generation, now_ns, (), (), gone)
