"""Meters of one device: which of them is elected, and how its joules are credited. Pure.

A joule is credited once per device: a credit covers an interval of time, and only the part of it
that no earlier credit of the device covered counts. So a meter that takes over from another, or
comes back after an outage, never adds what the other has already counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from joulefloor import catalogue
from joulefloor.account import Account, Event
from joulefloor.model import PROCESS
from joulefloor.units import NANOSECONDS_PER_SECOND, nanoseconds_from_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from joulefloor.board import Cell
    from joulefloor.model import Channel, Reading

FAILOVER_S = 30.0
"""An elected meter without a reading for so long (or three of its periods) loses to the next."""
TWIN_RUN = 3
"""Readings in a row after which two counters are called mirrored, or independent."""
COMPARE_NS = nanoseconds_from_seconds(60.0)
"""Elected and other meters of a device are compared over windows of this length."""
DISAGREE_RATIO = 0.15
DISAGREE_WATTS = 2.0
"""Means further apart than both of these are a disagreement."""
MOST_VANISHED = 1_000
"""Processes kept after their end at most; the one that ended first goes first."""
TWIN_SKEW_S = 0.002
"""Two reads of one mirrored counter may differ by what it counts in this time."""


class Identity(NamedTuple):
    """What a meter measures: level (node, component, part), component, device and part."""

    level: str
    component: str
    device: str
    part: str = ""


def identity_of(channel: Channel) -> Identity:
    """Identity from the labels of an energy channel; the machine itself is node/node."""
    level = catalogue.LEVEL_OF[channel.metric]
    component = channel.label("component") or "node"
    return Identity(level, component, channel.label("device") or "node", channel.label("part"))


class Meter:
    """One energy channel with its account and what it credited as elected and as alternate."""

    def __init__(self, channel: Channel, source: str, period_s: float) -> None:
        """`source` is the name of the runner that reads it every `period_s`."""
        self.channel = channel
        self.source = source
        self.label = channel.label("source")
        self.modelled = channel.label("method") == "modelled"
        self.identity = identity_of(channel)
        self.patience_ns = nanoseconds_from_seconds(max(FAILOVER_S, 3 * period_s))
        self.gap_limit_s = max(15.0, 3 * period_s)
        self.account = Account()
        self.elected_joules = 0.0
        self.other_joules = 0.0
        self.good_ns = 0
        self.present = False
        self.last: Reading | None = None
        self.before: Reading | None = None
        self.mirrored = False
        self.held_joules = 0.0
        self.doubtful = bool(channel.twins)
        self._same_run = 0
        self._other_run = 0
        self.energy_cell: Cell | None = None
        self.power_cell: Cell | None = None
        self.other_cell: Cell | None = None

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Its series on the board."""
        cells = (self.energy_cell, self.power_cell, self.other_cell)
        return tuple(cell for cell in cells if cell is not None)

    def live(self, now_ns: int) -> bool:
        """Whether it read lately, moves, and is not the mirror image of another meter."""
        fresh = self.good_ns > 0 and now_ns - self.good_ns <= self.patience_ns
        return fresh and not self.mirrored and not self.account.frozen

    def take(self, reading: Reading) -> None:
        """Remember the newest reading and the one before it."""
        if self.last is None or reading.at_ns > self.last.at_ns:
            self.before, self.last = self.last, reading
            self.good_ns = reading.at_ns
        self.present = True

    def compare(self, first: Meter) -> Event | None:
        """Hold this counter against the first of its twins; MIRRORED once it proves a mirror.

        Mirrors show the same raw value (within the time between the two reads) or the very same
        step, TWIN_RUN times in a row while counting. Until that is decided joules are held back.
        """
        first.doubtful = False
        if not (self.last and self.before and first.last and first.before and first.present):
            return None
        step = self.last.value - self.before.value
        first_step = first.last.value - first.before.value
        if step == 0 and first_step == 0:
            return None
        tolerance = self.channel.max_watts * TWIN_SKEW_S
        same = step == first_step or abs(self.last.value - first.last.value) <= tolerance
        self._same_run = self._same_run + 1 if same else 0
        self._other_run = 0 if same else self._other_run + 1
        self.doubtful = self.doubtful or same
        if self._same_run >= TWIN_RUN and not self.mirrored:
            self.mirrored, self.doubtful = True, False
            self.other_joules += self.held_joules
            self.held_joules = 0.0
            return Event.MIRRORED
        if self._other_run >= TWIN_RUN:
            self.mirrored = self.doubtful = False
        return None


class Device:
    """All meters of one identity and the election among them."""

    def __init__(self, identity: Identity) -> None:
        """No meter yet."""
        self.identity = identity
        self.meters: list[Meter] = []
        self.elected: Meter | None = None
        self.covered_ns = 0
        self._compared_ns = 0
        self._marks: dict[Meter, float] = {}

    @property
    def present(self) -> bool:
        """Whether any of its meters is read."""
        return any(meter.present for meter in self.meters)

    @property
    def read_ns(self) -> int:
        """When any of its meters was last read."""
        return max(meter.good_ns for meter in self.meters)

    def elect(self, now_ns: int, prefer: Sequence[str], *, allow_model: bool) -> Meter | None:
        """The live meter that comes first in `prefer`; a modelled one only if allowed.

        With no live meter left the last elected stays, so that its counter goes on from there; a
        counter that mirrors another device's loses its seat.
        """
        if self.elected is not None and self.elected.mirrored:
            self.elected = None
        fit = [
            meter
            for meter in self.meters
            if meter.live(now_ns)
            and (allow_model or not meter.modelled)
            and (not meter.doubtful or meter is self.elected)
        ]
        best = min(fit, key=_rank(prefer)) if len(fit) > 1 else next(iter(fit), None)
        if best is not None:
            if self.elected is None:
                self._pass_over(best)
            self.elected = best
        return self.elected

    def disagreements(self, now_ns: int) -> list[Meter]:
        """Real meters that, over the last window, told something else than the elected one.

        Only meters that read throughout are compared; a modelled one is expected to differ.
        """
        if now_ns - self._compared_ns < COMPARE_NS:
            return []
        seconds = (now_ns - self._compared_ns) / NANOSECONDS_PER_SECOND
        marks, self._compared_ns = self._marks, now_ns
        real = [meter for meter in self.meters if meter.live(now_ns) and not meter.modelled]
        told = {m: m.account.joules + m.account.held_joules for m in real}
        self._marks = told if len(real) > 1 else {}
        if self.elected not in marks or self.elected not in self._marks:
            return []
        watts = {
            meter: (joules - marks[meter]) / seconds
            for meter, joules in self._marks.items()
            if meter in marks
        }
        truth = watts.pop(self.elected)
        return [
            meter
            for meter, shown in watts.items()
            if abs(shown - truth) > max(DISAGREE_WATTS, DISAGREE_RATIO * truth)
        ]

    def _pass_over(self, best: Meter) -> None:
        """At the first election the joules held by those who lost become alternates."""
        for meter in self.meters:
            if meter is not best and not meter.doubtful:
                meter.other_joules += meter.held_joules
                meter.held_joules = 0.0

    def credit(self, meter: Meter, joules: float, since_ns: int, until_ns: int) -> float:
        """Book joules of an interval; returns what counts for the device."""
        if meter.doubtful or self.elected is None:
            meter.held_joules += joules
            return 0.0
        if meter is not self.elected:
            meter.other_joules += joules
            return 0.0
        fresh_ns = until_ns - max(since_ns, self.covered_ns)
        share = max(0.0, min(1.0, fresh_ns / (until_ns - since_ns)))
        counted = joules * share + meter.held_joules
        meter.elected_joules += counted
        meter.other_joules += joules * (1.0 - share)
        meter.held_joules = 0.0
        self.covered_ns = max(self.covered_ns, until_ns)
        return counted


def _rank(prefer: Sequence[str]) -> Callable[[Meter], tuple[bool, int, str]]:
    """How meters of a device are ranked: models last, then as preferred, then by name."""

    def rank(meter: Meter) -> tuple[bool, int, str]:
        place = prefer.index(meter.label) if meter.label in prefer else len(prefer)
        return (meter.modelled, place, meter.label)

    return rank


class Fleeting:
    """Devices that are processes, of which there is no end, and which do not come back."""

    def __init__(self, keep_s: float) -> None:
        """`keep_s`: for how long they are kept after their end."""
        self._keep_ns = nanoseconds_from_seconds(keep_s)
        self._devices: dict[Identity, Device] = {}

    def add(self, device: Device) -> None:
        """Watch it, if it is a process."""
        if device.identity.part.startswith(f"{PROCESS}:"):
            self._devices[device.identity] = device

    def vanished(self, now_ns: int) -> list[Device]:
        """Those that ended long ago, or that are too many; they are watched no longer."""
        ended = [one for one in self._devices.values() if not one.present]
        ended.sort(key=lambda device: device.read_ns)
        surplus = len(ended) - MOST_VANISHED
        gone = [
            device
            for place, device in enumerate(ended)
            if place < surplus or now_ns - device.read_ns > self._keep_ns
        ]
        for device in gone:
            del self._devices[device.identity]
        return gone
