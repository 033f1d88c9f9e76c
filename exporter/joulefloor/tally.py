"""Who used how much of a component, and who holds which device, between two bills. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from joulefloor.attribution import Holding, Usage
from joulefloor.model import EVERY_DEVICE, IDLE, PROCESS, SYSTEM, Measures
from joulefloor.units import NANOSECONDS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from joulefloor.model import Channel, Workload


PARTS_LAST_S = 10.0
"""For so long of a device's time it is divided by what its parts last spent."""


class Line:
    """One USE or HOLD channel: its last value, and what it counted since the last bill."""

    __slots__ = ("channel", "counts", "tally", "used", "value", "workload")

    def __init__(self, channel: Channel, workload: Workload, tally: Tally | Claims) -> None:
        """Nothing read yet; the first value of a counter is what the next one is compared with."""
        self.channel = channel
        self.workload = workload
        self.tally = tally
        self.counts = channel.measures is Measures.USE
        self.value: float | None = None
        self.used = 0.0

    def take(self, value: float) -> None:
        """A counter that goes back counts nothing."""
        if self.counts and self.value is not None and value > self.value:
            self.used += value - self.value
        self.value = value


class Tally:
    """Use of one component since it was last billed.

    Of cumulative use (USE) the differences count, of what is held now (HOLD) the latest values.
    The reserved workload `system` stands for what all used together, `idle` for what was left;
    limits come as HOLD channels whose share is static.
    """

    def __init__(self) -> None:
        """Nothing used."""
        self.present: dict[Workload, Line] = {}
        self._limits: dict[Workload, Line] = {}
        self._ended: dict[Workload, float] = {}
        self._arrivals: list[Workload] = []
        self._last: Usage | None = None
        self._whole: Line | None = None
        self._rest: Line | None = None
        self._read_ns = 0
        self._billed_ns = 0

    def add(self, line: Line) -> None:
        """A new channel."""
        if line.workload == SYSTEM:
            self._whole = line
            self._billed_ns = 0
        elif line.workload == IDLE:
            self._rest = line
        elif line.channel.labels[-1] == "static":
            self._limits[line.workload] = line
        else:
            self.present[line.workload] = line
            self._arrivals.append(line.workload)

    def read(self, line: Line, at_ns: int) -> None:
        """The whole was read at that instant, and so was everything else with it."""
        if line is self._whole:
            self._read_ns = at_ns
            self._billed_ns = self._billed_ns or at_ns

    def drop(self, line: Line) -> None:
        """The channel is silent; what it has counted stays until the next bill."""
        if line is self._whole:
            self._whole = self._last = None
            self._ended.clear()
        elif self.present.get(line.workload) is line:
            del self.present[line.workload]
        elif self._limits.get(line.workload) is line:
            del self._limits[line.workload]
        if line.used and self._whole is not None:
            self._ended[line.workload] = self._ended.get(line.workload, 0.0) + line.used

    def forget(self, workload: Workload) -> None:
        """The workload is no longer on any bill."""
        self._ended.pop(workload, None)

    def arrivals(self) -> Iterable[Workload]:
        """Workloads that came since this was last asked, if they are still there."""
        new, self._arrivals = self._arrivals, []
        return [workload for workload in new if workload in self.present]

    def usage(self) -> Usage | None:
        """Use since the last bill, or as at the last bill if nothing new is known.

        None when nobody knows it. Asked for only when there is energy to bill: until then use
        adds up.
        """
        whole, rest = self._whole, self._rest
        if whole is None or rest is None:
            return None
        if not whole.counts:
            return self._held(whole, rest)
        if self._read_ns > self._billed_ns:
            seconds = (self._read_ns - self._billed_ns) / NANOSECONDS_PER_SECOND
            self._billed_ns = self._read_ns
            self._last = self._used(whole, rest, seconds)
        return self._last

    def _held(self, whole: Line, rest: Line) -> Usage:
        held = {workload: line.value or 0.0 for workload, line in self.present.items()}
        busy = whole.value or 0.0
        limits = {workload: line.value or 0.0 for workload, line in self._limits.items()}
        return Usage(held, busy, busy + (rest.value or 0.0), limits)

    def _used(self, whole: Line, rest: Line, seconds: float) -> Usage:
        used, self._ended = self._ended, {}
        for workload, line in self.present.items():
            if line.used:
                used[workload] = used.get(workload, 0.0) + line.used
                line.used = 0.0
        capacity = whole.used + rest.used
        busy, whole.used, rest.used = whole.used, 0.0, 0.0
        limits = {
            workload: (line.value or 0.0) * seconds for workload, line in self._limits.items()
        }
        return Usage(used, busy, capacity, limits)


class Parts:
    """What the parts of a device spent since it was last billed, or when they last spent anything.

    Parts are metered apart from the device, and may tell later than the device does.
    """

    def __init__(self) -> None:
        """Nothing spent."""
        self.names: set[str] = set()
        self._spent: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._age_s = 0.0

    def add(self, part: str, joules: float) -> None:
        """A part spent joules (>= 0)."""
        self._spent[part] = self._spent.get(part, 0.0) + joules
        if not part.startswith(PROCESS):
            self.names.add(part)

    def spent(self, seconds: float) -> dict[str, float]:
        """Joules by part, for the bill of a device for that many seconds."""
        self._age_s += seconds
        if any(self._spent.values()):
            self._last, self._spent, self._age_s = self._spent, {}, 0.0
        elif self._age_s > PARTS_LAST_S:
            self._last = {part: 0.0 for part in self._last if not part.startswith(PROCESS)}
        return self._last


class Claims:
    """Who holds which devices of one component (gpu, tpu)."""

    def __init__(self) -> None:
        """Nothing claimed, and unknown whether that is so."""
        self._claims: dict[str, dict[Workload, Line]] = {}
        self._activity: dict[str, dict[Workload, Line]] = {}

    @property
    def known(self) -> bool:
        """Whether somebody keeps the list of claims."""
        return EVERY_DEVICE in self._claims

    @property
    def parts(self) -> set[str]:
        """MIG instances that are held; which device they are parts of only their meters tell."""
        return {device for device in self._claims if device.startswith("MIG-")}

    def add(self, line: Line) -> None:
        """A claim (how much of the device is held), or what the holder does on it."""
        self._tables(line).setdefault(line.channel.labels[1], {})[line.workload] = line

    def read(self, line: Line, at_ns: int) -> None:
        """A claim holds until it is given back."""

    def drop(self, line: Line) -> None:
        """The claim is given back."""
        tables, device = self._tables(line), line.channel.labels[1]
        table = tables.get(device, {})
        if table.get(line.workload) is line:
            del table[line.workload]
        if not table:
            tables.pop(device, None)

    def _tables(self, line: Line) -> dict[str, dict[Workload, Line]]:
        return self._activity if line.channel.labels[-1] == "activity" else self._claims

    def holding(
        self,
        device: str,
        parts: Mapping[str, float],
        live: frozenset[Workload],
        busy: float | None,
    ) -> Holding:
        """Holders of a device and of its parts, whose joules (by `parts`) are their activity.

        A process is a part that nobody claims, and whose owner is told as its activity. Where names
        of live pods are known, pods that ended hold nothing.
        """
        claims = _values(self._claims.get(device, {}))
        activity = _values(self._activity.get(device, {}))
        for part, joules in parts.items():
            for user in self._activity.get(part, ()):
                activity[user] = activity.get(user, 0.0) + joules
            holders = _values(self._claims.get(part, {}))
            for user, held in holders.items():
                claims[user] = claims.get(user, 0.0) + held
                share = joules * held / sum(holders.values())
                activity[user] = activity.get(user, 0.0) + share
        if live:
            claims = {user: held for user, held in claims.items() if user in live}
        return Holding(claims, activity, busy)


def _values(lines: Mapping[Workload, Line]) -> dict[Workload, float]:
    return {workload: line.value or 0.0 for workload, line in lines.items()}
