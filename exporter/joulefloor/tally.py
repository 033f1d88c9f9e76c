"""Who used how much of a component, and who holds which device, between two bills. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from joulefloor.attribution import Holding, Totals
from joulefloor.model import EVERY_DEVICE, IDLE, PROCESS, SYSTEM, UNKNOWN_DEVICE, Measures
from joulefloor.units import NANOSECONDS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from joulefloor.model import Channel, Reading, Workload


K = TypeVar("K")
SIZE = "size"
"""Division of the HOLD channel that says how large a part is, as a share of its device."""
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


class Tally:
    """Use of one component since it was last billed.

    Of cumulative use (USE) the differences count, of what is held now (HOLD) the latest values.
    The reserved workload `system` stands for what all used together, `idle` for what was left;
    limits come as HOLD channels whose share is static.

    `lines` are the users of the last `totals`, the same tuple while they stay; `due` is what each
    used, `allocated` the same with limits in the place of use.

    While the same channels are read again and again their numbers are kept in lists, side by side:
    every tick touches all of them. Any change puts the numbers back into the lines.
    """

    def __init__(self) -> None:
        """Nothing used."""
        self.present: dict[Workload, Line] = {}
        self.lines: tuple[Line, ...] = ()
        self.due: list[float] = []
        self.allocated: list[float] = []
        self._users: tuple[Line, ...] | None = None
        self._limits: dict[Workload, Line] = {}
        self._ended: list[Line] = []
        self._arrivals: dict[Workload, None] = {}
        self._last: Totals | None = None
        self._whole: Line | None = None
        self._rest: Line | None = None
        self._read_ns = 0
        self._billed_ns = 0
        self._channels: tuple[Channel, ...] = ()
        self._together: Sequence[Line] = ()
        self._values: Sequence[float] = ()
        self._used: list[float] = []

    def take(self, readings: Sequence[Reading]) -> bool:
        """Take in readings of the very channels of the last time; False if they are others."""
        if not self._channels or readings[0].channel is not self._channels[0]:
            return False
        channels, values, times = zip(*readings, strict=True)
        if channels != self._channels:
            self._part()
            return False
        if self._whole is not None and self._whole.counts:
            changes = zip(self._used, self._values, values, strict=True)
            self._used = [used + (now - old) if now > old else used for used, old, now in changes]
        self._values = values
        self._read_ns = times[0]
        self._billed_ns = self._billed_ns or times[0]
        return True

    def gather(self, lines: Sequence[Line]) -> None:
        """These were read together: all that share the component, and nobody else."""
        users = tuple(lines[2:])
        if (
            lines[:2] == [self._whole, self._rest]
            and len(users) == len(self.present)
            and all(self.present.get(line.workload) is line for line in users)
        ):
            self._together, self._users = lines, users
            self._channels = tuple([line.channel for line in lines])
            self._values = [line.value or 0.0 for line in lines]
            self._used = [line.used for line in lines]

    def _part(self) -> None:
        """Put the numbers back into their lines."""
        for line, value, used in zip(self._together, self._values, self._used, strict=True):
            line.value, line.used = value, used
        self._channels, self._together, self._values, self._used = (), (), (), []

    def add(self, line: Line) -> None:
        """A new channel."""
        self._part()
        if line.workload == SYSTEM:
            self._whole = line
            self._billed_ns = 0
        elif line.workload == IDLE:
            self._rest = line
        elif line.channel.labels[-1] == "static":
            self._limits[line.workload] = line
        else:
            self.present[line.workload] = line
            self._users = None
            self._arrivals[line.workload] = None

    def read(self, line: Line, at_ns: int) -> None:
        """The whole was read at that instant, and so was everything else with it."""
        if line is self._whole:
            self._read_ns = at_ns
            self._billed_ns = self._billed_ns or at_ns

    def drop(self, line: Line) -> None:
        """The channel is silent; what it has counted stays until the next bill."""
        self._part()
        if line is self._whole:
            self._whole = self._last = None
            self._ended.clear()
        elif self.present.get(line.workload) is line:
            del self.present[line.workload]
            self._arrivals.pop(line.workload, None)
            self._users = None
        elif self._limits.get(line.workload) is line:
            del self._limits[line.workload]
        if line.used and self._whole is not None:
            self._ended.append(line)

    def forget(self, workload: Workload) -> None:
        """The workload is no longer on any bill."""
        self._ended = [line for line in self._ended if line.workload != workload]
        stay = [at for at, line in enumerate(self.lines) if line.workload != workload]
        if self._last is not None and len(stay) < len(self.lines):
            self.lines = tuple([self.lines[at] for at in stay])
            self.due = [self.due[at] for at in stay]
            self.allocated = [self.allocated[at] for at in stay]
            self._last = self._last._replace(named=sum(self.due), allocated=sum(self.allocated))

    def arrivals(self) -> Iterable[Workload]:
        """Workloads that came since this was last asked, if they are still there."""
        new, self._arrivals = self._arrivals, {}
        return new

    def totals(self) -> Totals | None:
        """Use since the last bill, or as at the last bill if nothing new is known.

        None when nobody knows it. Asked for only when there is energy to bill: until then use adds
        up.
        """
        whole, rest = self._whole, self._rest
        if whole is None or rest is None:
            return None
        if self._users is None:
            self._users = tuple(self.present.values())
        alone = () if self._channels else (whole, rest, *self._users)
        if not whole.counts:
            kept = self._values if self._channels else [line.value or 0.0 for line in alone]
            busy, left, *self.due = kept
            self.lines = self._users
            self._last = self._sum(busy, left, 1.0)
        elif self._read_ns > self._billed_ns:
            seconds = (self._read_ns - self._billed_ns) / NANOSECONDS_PER_SECOND
            self._billed_ns = self._read_ns
            kept = self._used if self._channels else [line.used for line in alone]
            busy, left, *self.due = kept
            self.lines = self._users
            if self._ended:
                self.lines = (*self._users, *self._ended)
                self.due += [line.used for line in self._ended]
            self._last = self._sum(busy, left, seconds)
            self._ended.clear()
            self._used = [0.0] * len(self._used)
            for line in alone:
                line.used = 0.0
        return self._last

    def _sum(self, busy: float, left: float, seconds: float) -> Totals:
        """Add up what is due, and what is allocated where limits take the place of use.

        Limits are read seldom: one of a workload that is no longer read counts nothing. Each counts
        once, though a workload whose control groups changed has a line that ended and a new one.
        """
        named = allocated = sum(self.due)
        self.allocated = self.due
        if self._limits:
            limits = {user: (limit.value or 0.0) * seconds for user, limit in self._limits.items()}
            self.allocated = [
                limits.pop(line.workload, 0.0 if line.workload in self._limits else due)
                for line, due in zip(self.lines, self.due, strict=True)
            ]
            allocated = sum(self.allocated)
        return Totals(named, busy, busy + left, allocated)


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
        self._sizes: dict[str, dict[str, Line]] = {}
        self._seen: set[Line] = set()

    @property
    def known(self) -> bool:
        """Whether somebody keeps the list of claims."""
        return EVERY_DEVICE in self._claims

    @property
    def parts(self) -> set[str]:
        """MIG instances that are held, while only their meters could tell which device's they are.

        And devices of which nobody can tell which one it is.
        """
        placed = {part for sizes in self._sizes.values() for part in sizes}
        held = {device for device in self._claims if device.startswith(("MIG-", UNKNOWN_DEVICE))}
        return held - placed

    def add(self, line: Line) -> None:
        """A claim (how much of the device is held), what its holder does, or a part's size."""
        labels = line.channel.labels
        if labels[-1] == SIZE:
            self._sizes.setdefault(line.workload.namespace, {})[labels[1]] = line
            return
        self._tables(line).setdefault(line.channel.labels[1], {})[line.workload] = line

    def read(self, line: Line, at_ns: int) -> None:
        """A claim holds until it is given back."""

    def drop(self, line: Line) -> None:
        """The claim is given back, or the part is gone."""
        part = line.channel.labels[1]
        sizes = self._sizes.get(line.workload.namespace, {})
        if sizes.get(part) is line:
            del sizes[part]
            return
        self._seen.discard(line)
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
        of live pods are known, pods that ended hold nothing, and pods that never were among them
        leave it unknown who holds the device unless others do.
        """
        lines = list(self._claims.get(device, {}).values())
        claims = _values(self._claims.get(device, {}))
        activity = _values(self._activity.get(device, {}))
        sizes = {} if claims else self._sizes_of(device, parts)
        others = 0.0
        for part in (*parts, *(part for part in sizes if part not in parts)):
            joules = parts.get(part, 0.0)
            for user in self._activity.get(part, ()):
                activity[user] = activity.get(user, 0.0) + joules
            lines += self._claims.get(part, {}).values()
            holders = _values(self._claims.get(part, {}))
            others += joules if part in sizes and not holders else 0.0
            for user, held in holders.items():
                share = held / sum(holders.values())
                amount = sizes[part] * share if sizes else held
                claims[user] = claims.get(user, 0.0) + amount
                activity[user] = activity.get(user, 0.0) + joules * share
        if live:
            claims = {user: held for user, held in claims.items() if user in live}
            self._seen.update(line for line in lines if line.workload in live)
        unknown = bool(live) and not self._seen.issuperset(lines)
        free = max(0.0, 1.0 - sum(claims.values())) if sizes else 0.0
        return Holding(claims, activity, busy, unknown, free, others)

    def _sizes_of(self, device: str, parts: Mapping[str, float]) -> dict[str, float]:
        """Sizes of the parts of a device; none unless they are known of all that are held."""
        sizes = _values(self._sizes.get(device, {}))
        held = [part for part in parts if part in self._claims]
        return sizes if all(part in sizes for part in held) else {}


def _values(lines: Mapping[K, Line]) -> dict[K, float]:
    return {key: line.value or 0.0 for key, line in lines.items()}
