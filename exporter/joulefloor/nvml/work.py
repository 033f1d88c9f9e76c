"""What a GPU does and for whom: activity of its engines, operations, and shares of its energy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joulefloor import catalogue
from joulefloor.errors import Reason
from joulefloor.nvml.activity import (
    CYCLES_ELAPSED,
    FULL,
    LINK_TOTALS,
    LINKS,
    PIPE_CYCLES,
    STANDARD,
    Sampler,
    cycle_shares,
)
from joulefloor.nvml.binding import NOT_SUPPORTED, Refusal
from joulefloor.nvml.peaks import Operations, Refused, peaks_of
from joulefloor.nvml.shares import Sharing
from joulefloor.nvml.table import ENGINES_SHOWN, level
from joulefloor.nvml.taken import RowFault
from joulefloor.units import NANOSECONDS_PER_SECOND, Hertz

if TYPE_CHECKING:
    from joulefloor.clock import Clock
    from joulefloor.nvml.activity import Interval
    from joulefloor.nvml.binding import Binding
    from joulefloor.nvml.rows import Identity
    from joulefloor.nvml.table import Row
    from joulefloor.nvml.taken import Capabilities, Taken
    from joulefloor.remote import Divided

BY_CYCLES, BY_ACTIVITY = "nvml-cycles", "nvml-gpm"
"""Label `source` of operations: counters of cycles, or activity of each interval."""
MODELLED = "modelled"
UNKNOWN_PEAK = "unknown_peak"
PCIE, CYCLE_COUNTERS = "pcie", "pipe_cycles"
"""Capabilities that are asked for in full detail only."""


class Work:
    """Activity of one GPU between rounds; holds what needs two of them."""

    def __init__(
        self,
        binding: Binding,
        clock: Clock,
        device: object,
        identity: Identity,
        *,
        full: bool,
    ) -> None:
        """Peak rates are known by the product name.

        `full`: use of every engine, bytes over PCIe and the driver's counters of cycles are told.
        """
        self.process_parts = False
        self._full = full
        uuid = self._uuid = identity.uuid
        self._binding = binding
        self._sampler = Sampler(binding, clock, device, FULL if full else STANDARD)
        self._sharing = Sharing(binding, clock, device, uuid)
        self._peaks = peaks_of(identity.name)
        self._operations = {source: Operations(self._peaks) for source in (BY_CYCLES, BY_ACTIVITY)}
        self._moved: dict[tuple[str, str], float] = {}
        self._own_counter: dict[tuple[str, str], bool] = {}
        self._engines: tuple[Row, ...] = ()
        self._cycles: tuple[dict[int, float], int] = {}, 0
        self._sampled = False
        self._pipes: set[str] = set()

    def unknown(self, able: Capabilities) -> dict[str, str]:
        """Why operations are not counted: no activity, or nobody published the peak rates.

        Of a GPU of which some are known, the others are told one by one: its counts are too low.
        What comes with activity only, cycles and bytes over PCIe, lacks with it.
        """
        state = able.missing().get("activity")
        if state is not None:
            with_it = ("operations", *((PCIE, CYCLE_COUNTERS) if self._full else ()))
            return dict.fromkeys(with_it, state)
        if self._sampled and not self._peaks:
            return {"operations": UNKNOWN_PEAK}
        unknown = self._pipes - {peak.pipe for peak in self._peaks}
        return {f"operations_{pipe}": UNKNOWN_PEAK for pipe in sorted(unknown)}

    def read(
        self,
        taken: Taken,
        able: Capabilities,
        *,
        joules: float | None,
        watts: float | None,
        sm_clock: float | None,
    ) -> None:
        """Add what is known of this round to `taken`.

        `joules`: the energy counter, J; `watts`: mean power since the last round; `sm_clock`: Hz.

        Raises:
            Refusal: the GPU or the driver is gone.
        """
        interval = self._sample(able, taken)
        self._write_links(taken, interval)
        if interval is not None:
            self._sampled = True
            self._pipes |= interval.told_pipes()
            self._write_engines(taken, interval)
            if self._full:
                self._write_cycles(taken, able, interval)
                self._note_pcie(taken, able, interval)
            if sm_clock is not None and self._peaks:
                self._write_operations(taken, interval, Hertz(sm_clock))
        busy = taken.values.get(level(catalogue.UTILIZATION, self._uuid, "busy"))
        self._sharing.read(taken, able, joules, watts, busy=busy, processes=self.process_parts)

    def go_on(self, divided: Divided) -> None:
        """Divide on from where an earlier process came to."""
        self._sharing.go_on(divided)

    def close(self) -> None:
        """Free what the driver allocated."""
        self._sampler.close()
        self._sharing.close()

    def _sample(self, able: Capabilities, taken: Taken) -> Interval | None:
        """The interval since the last sample, if there are two; a failure is that of its rows."""
        if not able.due("activity"):
            able.repeat("activity", self._engines, taken)
            return None
        try:
            interval = self._sampler.take()
        except Refusal as refusal:
            able.note("activity", self._engines, refusal, taken)
            return None
        able.works("activity")
        return interval

    def _write_engines(self, taken: Taken, interval: Interval) -> None:
        shares = {
            level(catalogue.UTILIZATION, self._uuid, engine): share
            for engine, share in interval.engines().items()
            if self._full or engine in ENGINES_SHOWN
        }
        taken.values |= shares
        self._engines = tuple(shares)
        busy = level(catalogue.UTILIZATION, self._uuid, "busy")
        graphics = interval.engines().get("graphics")
        if busy not in taken.values and graphics is not None:
            taken.values[busy] = graphics

    def _write_links(self, taken: Taken, interval: Interval | None) -> None:
        """Bytes integrated from mean rates, where the driver has no counter of its own.

        Whoever told a place first goes on alone: the two count from different beginnings.
        """
        moved = {} if interval is None else interval.moved()
        for place, amount in moved.items():
            self._moved[place] = self._moved.get(place, 0.0) + amount
        for place, total in ({} if interval is None else interval.counted()).items():
            # A counter that stands at 0 while bytes move is none.
            if total or not self._moved.get(place):
                taken.values[level(catalogue.LINK, self._uuid, *place)] = total
        for place in LINKS.values():
            row = level(catalogue.LINK, self._uuid, *place)
            if row in taken.values and self._own_counter.setdefault(place, True):
                continue
            taken.values.pop(row, None)
            if place in moved and not self._own_counter.setdefault(place, False):
                taken.values[row] = self._moved[place]

    def _write_cycles(self, taken: Taken, able: Capabilities, interval: Interval) -> None:
        """The driver's counters as they are: they run on when this process ends."""
        for number, pipe in PIPE_CYCLES.items():
            row = level(catalogue.PIPE_CYCLES, self._uuid, pipe)
            key = f"{CYCLE_COUNTERS}/{pipe}"
            if number in interval.values:
                able.works(key)
                taken.values[row] = interval.values[number]
            else:
                able.note(key, (row,), self._refusal(interval, number), taken)

    def _note_pcie(self, taken: Taken, able: Capabilities, interval: Interval) -> None:
        """Whether there are bytes over PCIe, by a counter or by rates, and if not, why.

        nvmlDeviceGetPcieThroughput is no way out: it waits for 20 ms in each direction, and tells
        nothing of the other 960 ms of a second.
        """
        totals = {place: number for number, place in LINK_TOTALS.items()}
        for number, place in LINKS.items():
            if place not in totals:
                continue
            key = f"{PCIE}/{place[1]}"
            row = level(catalogue.LINK, self._uuid, *place)
            if interval.values.keys() & {number, totals[place]}:
                able.works(key)
            else:
                able.note(key, (row,), self._refusal(interval, number), taken)

    def _refusal(self, interval: Interval, number: int) -> Refusal:
        code = interval.refused.get(number, NOT_SUPPORTED)
        return self._binding.refusal(f"GPM metric {number}", code)

    def _write_operations(self, taken: Taken, interval: Interval, sm_clock: Hertz) -> None:
        """By cycle counters where there are any, which lose nothing, else by activity.

        Counters cover the time since they were last read, which may be many intervals ago.
        """
        (before, before_ns), self._cycles = self._cycles, (interval.values, interval.at_ns)
        source, activity, seconds = BY_ACTIVITY, interval.pipes(), interval.seconds
        if CYCLES_ELAPSED in interval.values:
            shares = cycle_shares(before, interval.values)
            if shares is None:
                return
            source, activity = BY_CYCLES, shares
            seconds = (interval.at_ns - before_ns) / NANOSECONDS_PER_SECOND
        operations = self._operations[source]
        rows = {p: self._operations_row(p, source) for p in operations.totals}
        try:
            operations.add(activity, sm_clock, seconds)
        except Refused as refused:
            rejected = [RowFault(row, Reason.GARBLED, str(refused)) for row in rows.values()]
            taken.faults.extend(rejected)
            return
        for precision, row in rows.items():
            taken.values[row] = operations.totals[precision]

    def _operations_row(self, precision: str, source: str) -> Row:
        return level(catalogue.OPERATIONS, self._uuid, precision, source, MODELLED)
