"""One GPU: its identity and everything that is read of it in a round."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from joulefloor import catalogue
from joulefloor.nvml.binding import MISSING, NO_DATA, Refusal
from joulefloor.nvml.power import Pace, PowerMean
from joulefloor.nvml.rows import Entry, Identity, Rows
from joulefloor.nvml.table import (
    ALWAYS,
    FREE_POWER_FACTOR,
    MODULE,
    PER_CENT,
    PER_MILLI,
    POWER_AVERAGE,
    POWER_INSTANT,
    QUIET,
    Row,
    level,
)
from joulefloor.nvml.taken import Capabilities, Taken
from joulefloor.nvml.work import Work
from joulefloor.nvml.xids import Xids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from joulefloor.clock import Clock
    from joulefloor.nvml.binding import Binding
    from joulefloor.remote import Divided

UNKNOWN_LIMIT_WATTS = 2_500.0
"""Bound on the power of a GPU that does not tell its limit."""
SHARED_COUNTER = ("GH200",)
"""GPUs whose energy counter counts the CPU of their module too."""


class Options(NamedTuple):
    """What the daemon's settings say to the worker.

    `power_period_s`: between two samples of power at most, s, unless the sensor gives the
    mean of a second. `process_parts`: whether each process on a shared GPU becomes a part. `full`:
    whether all that can be read is told. `divided`: how far an earlier worker divided the joules of
    a GPU, by UUID; each is used once.
    """

    power_period_s: float = 0.1
    process_parts: bool = False
    full: bool = False
    divided: dict[str, Divided] = {}  # noqa: RUF012  # handed over, and emptied


class Boards:
    """Which GPU speaks for a board, so that a meter shared by two is read once."""

    def __init__(self) -> None:
        """No board yet. One dictionary operation each: safe between threads."""
        self._speaker: dict[str, str] = {}

    def speaks(self, identity: Identity) -> bool:
        """Whether this GPU is the first of its board that came."""
        return self._speaker.setdefault(identity.board, identity.uuid) == identity.uuid

    def leave(self, identity: Identity) -> None:
        """Let another GPU of the board speak."""
        if self._speaker.get(identity.board) == identity.uuid:
            del self._speaker[identity.board]


def identify(binding: Binding, device: object) -> Identity:
    """Ask for the names; only the UUID is indispensable.

    Raises:
        Refusal: no UUID.
    """
    uuid = binding.text("nvmlDeviceGetUUID", device)
    names = {}
    for name in ("nvmlDeviceGetName", "nvmlDeviceGetSerial"):
        try:
            names[name] = binding.text(name, device)
        except Refusal:
            names[name] = ""
    serial = names["nvmlDeviceGetSerial"]
    board = serial if serial.strip("0") else uuid
    return Identity(uuid, names["nvmlDeviceGetName"] or "unknown", board)


class Gpu:
    """Reads one GPU. Used by one thread only, since any call may hang."""

    def __init__(
        self, binding: Binding, clock: Clock, device: object, boards: Boards, options: Options
    ) -> None:
        """Identify it and find its power bound.

        Raises:
            Refusal: it does not even tell its UUID.
        """
        self.identity = identify(binding, device)
        self._binding = binding
        self._clock = clock
        self._device = device
        self._boards = boards
        self._able = Capabilities(clock)
        self._bound_watts = self._highest_watts()
        self._power = PowerMean()
        self._pace = Pace(options.power_period_s, curious=options.full)
        self._power_refusal: Refusal | None = None
        self._excess_watts: float | None = None
        self._xids = Xids(binding, device, self.identity.uuid)
        self._fans: int | None = None
        self._work = Work(binding, clock, device, self.identity, full=options.full)
        self._work.process_parts = options.process_parts
        divided = options.divided.pop(self.identity.uuid, None)
        if divided is not None:
            self._work.go_on(divided)
        self._full = options.full
        self._rows = Rows(self.identity, self._bound_watts, full=self._full)
        self._loud: set[Row] = set()

    def next_sample_s(self) -> float:
        """Time until power is to be sampled again, s."""
        return self._pace.next_s(self._clock.monotonic_ns())

    def sample_power(self) -> None:
        """Take a sample between rounds; what it refuses is told by the next round."""
        if not self._able.due("power"):
            return
        try:
            watts, mean = self._watts()
        except Refusal as refusal:
            self._power_refusal = refusal
            return
        self._power_refusal = None
        if watts > self._bound_watts:
            self._excess_watts = watts
            return
        now_ns = self._clock.monotonic_ns()
        self._pace.note(watts, now_ns, mean=mean)
        self._power.add(watts, now_ns)

    def read(self) -> Taken:
        """Everything of this round.

        Raises:
            Refusal: the GPU or the driver is gone.
        """
        taken = Taken()
        joules = self._read_energy(taken)
        # The time of the counter, whatever the calls after it take.
        taken.at_ns = self._clock.monotonic_ns()
        watts = self._read_power(taken)
        self._read_levels(taken)
        self._read_fields(taken)
        self._read_fans(taken)
        self._xids.read(taken, self._able)
        clock = taken.values.get(self._rows.sm_clock)
        self._work.read(taken, self._able, joules=joules, watts=watts, sm_clock=clock)
        taken.values[self._rows.info] = 1.0
        for capability, state in (self._work.unknown(self._able) | self._able.missing()).items():
            row = level(catalogue.DEVICE_CAPABILITY, self.identity.uuid, capability, state)
            taken.values[row] = 1.0
        if self._full and self._pace.update_s is not None:
            taken.values[self._rows.update_period] = self._pace.update_s
        if not self._full:
            self._quieten(taken)
        return taken

    def _quieten(self, taken: Taken) -> None:
        """Leave out counters that never were other than 0, and use of memory twice over."""
        quiet = [row for row in taken.values if row.metric in QUIET and row not in self._loud]
        for row in quiet:
            if taken.values[row] or not ALWAYS.isdisjoint(row.labels):
                self._loud.add(row)
            else:
                del taken.values[row]
        if not self._able.lacks("activity"):
            taken.values.pop(self._rows.utilization[2], None)
        taken.values.pop(self._rows.utilization[1], None)

    def close(self) -> None:
        """Give back what the driver allocated, as far as it still answers."""
        self._boards.leave(self.identity)
        self._work.close()
        self._xids.close()

    # -- energy and power ------------------------------------------------------------------------

    def _read_energy(self, taken: Taken) -> float | None:
        """The driver's counter; of the module's where it counts a whole module."""
        row = self._rows.energy
        if any(name in self.identity.name for name in SHARED_COUNTER):
            if not self._boards.speaks(self.identity):
                return None
            row = self._rows.module_energy
        call = "nvmlDeviceGetTotalEnergyConsumption"
        self._able.read(
            "energy_counter",
            (row,),
            lambda: (self._binding.number(call, self._device) * PER_MILLI,),
            taken,
        )
        return taken.values.get(row) if row is self._rows.energy else None

    def _read_power(self, taken: Taken) -> float | None:
        """The mean of the samples since the last round, this instant's included.

        A sample above the bound is told as it is, so that the ledger notes and rejects it; then
        nothing is known of the round.
        """
        self.sample_power()
        excess_watts, self._excess_watts = self._excess_watts, None

        def mean() -> Sequence[float | None]:
            if self._power_refusal is not None:
                raise self._power_refusal
            return (self._power.take() if excess_watts is None else excess_watts,)

        self._able.read("power", (self._rows.power,), mean, taken)
        return taken.values.get(self._rows.power) if excess_watts is None else None

    def _watts(self) -> tuple[float, bool]:
        """Power now, and whether it is the mean of the last second: that where there is one.

        The mean misses nothing between two samples; an instant value of A100 and later covers a
        quarter of the time. A GPU that is on draws something.
        """
        wanted = [(POWER_AVERAGE, 0), (POWER_INSTANT, 0)]
        name, milliwatts, mean = "nvmlDeviceGetFieldValues", 0.0, False
        for (number, _), (code, value) in zip(
            wanted, self._binding.fields(self._device, wanted), strict=True
        ):
            if not code:
                milliwatts, mean = value, number == POWER_AVERAGE
                break
            if code not in MISSING:
                raise self._binding.refusal(f"field {number}", code)
        else:
            name = "nvmlDeviceGetPowerUsage"
            milliwatts = self._binding.number(name, self._device)
        watts = milliwatts * PER_MILLI
        if not watts > 0:
            raise Refusal(name, 0, f"{watts:g} W is impossible")
        return watts, mean

    def _highest_watts(self) -> float:
        """A generous bound on the power of this GPU."""
        try:
            limits = self._limits()
        except Refusal:
            return UNKNOWN_LIMIT_WATTS
        return max(limits) * FREE_POWER_FACTOR if max(limits) > 0 else UNKNOWN_LIMIT_WATTS

    def _limits(self) -> tuple[float, float]:
        least, most = self._binding.pair(
            "nvmlDeviceGetPowerManagementLimitConstraints", self._device
        )
        return least * PER_MILLI, most * PER_MILLI

    # -- gauges ----------------------------------------------------------------------------------

    def _read_levels(self, taken: Taken) -> None:
        binding, device, rows, able = self._binding, self._device, self._rows, self._able

        def one(call: str, factor: float, argument: int | None) -> tuple[float]:
            more = () if argument is None else (argument,)
            return (binding.number(call, device, *more) * factor,)

        if self._full:
            able.read("power_limit_range", rows.limits, self._limits, taken)
        for key, row, call, factor, argument in rows.gauges:
            able.read(key, (row,), partial(one, call, factor, argument), taken)
        able.read("memory", rows.memory, self._memory, taken)
        able.read("utilization", rows.utilization, self._utilization, taken)

    def _memory(self) -> Sequence[float | None]:
        answer = self._binding.call("nvmlDeviceGetMemoryInfo", self._device)
        return answer.used, answer.total  # type: ignore[attr-defined]

    def _utilization(self) -> Sequence[float | None]:
        """Share of the sampling window with any kernel, which is also the best "in use"."""
        call = "nvmlDeviceGetUtilizationRates"
        answer = self._binding.call(call, self._device)
        kernel, memory = answer.gpu * PER_CENT, answer.memory * PER_CENT  # type: ignore[attr-defined]
        if not (0 <= kernel <= 1 and 0 <= memory <= 1):
            raise Refusal(call, NO_DATA, f"{kernel:.0%} and {memory:.0%} are impossible")
        return kernel, kernel, memory

    def _read_fields(self, taken: Taken) -> None:
        """All fields in one call, each with its own answer."""
        due: list[Entry] = []
        for entry in self._rows.fields:
            is_shared = entry.row.labels[0] == MODULE
            if is_shared and not self._boards.speaks(self.identity):
                continue
            if not all(map(self._able.lacks, entry.instead_of)):
                continue
            if self._able.due(entry.key):
                due.append(entry)
            else:
                self._able.repeat(entry.key, (entry.row,), taken)
        if not due:
            return
        try:
            answers = self._binding.fields(self._device, [entry.field for entry in due])
        except Refusal as refusal:
            for entry in due:
                self._able.note(entry.key, (entry.row,), refusal, taken)
            return
        for entry, (code, value) in zip(due, answers, strict=True):
            if code:
                wrong = self._binding.refusal(f"field {entry.field[0]}", code)
                self._able.note(entry.key, (entry.row,), wrong, taken)
            else:
                self._able.works(entry.key)
                taken.values[entry.row] = value * entry.factor

    def _read_fans(self, taken: Taken) -> None:
        """Speed of each fan in per cent of its most; boards cooled by the chassis have none."""
        if self._fans is None:
            if not self._able.due("fan"):
                return
            try:
                self._fans = int(self._binding.number("nvmlDeviceGetNumFans", self._device))
            except Refusal as refusal:
                self._able.note("fan", (), refusal, taken)
                return
            self._able.works("fan")
        for fan in range(self._fans):
            row = Row(catalogue.FAN_SPEED_RATIO.name, (self.identity.uuid, f"fan{fan + 1}"))

            def speed(number: int = fan) -> Sequence[float]:
                call = "nvmlDeviceGetFanSpeed_v2"
                return (self._binding.number(call, self._device, number) * PER_CENT,)

            self._able.read(f"fan/{fan}", (row,), speed, taken)
