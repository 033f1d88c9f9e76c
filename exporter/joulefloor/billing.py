"""Bills: the joules of every component, divided among workloads in each tick. Pure.

The ledger says what it credited to which device, sources say who used or held what; `attribution`
divides. Every joule credited is put on exactly one bill in the tick in which it was credited, so
that the bills of a component add up to the component, whatever is unknown.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from joulefloor import catalogue
from joulefloor.attribution import (
    Energy,
    Holding,
    Policy,
    bill_device,
    bill_nobody,
    price_use,
    weights_of,
)
from joulefloor.counters import DYNAMIC, OWNER, STATIC, Counters, Residuals
from joulefloor.model import IDLE, PROCESS, SYSTEM, UNATTRIBUTED, Measures, Workload
from joulefloor.tally import Claims, Line, Parts, Tally
from joulefloor.units import nanoseconds_from_seconds

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from joulefloor.board import Board, Cell
    from joulefloor.model import Channel, Reading

    Known = Callable[[str, str], float | None]

MOST_FINISHED = 1000
"""Finished workloads that are kept at most; the one that ended first goes first."""

Device = tuple[str, str]
RESERVED = frozenset({SYSTEM.kind, IDLE.kind, UNATTRIBUTED.kind})


class Terms(NamedTuple):
    """How workloads are billed.

    `policy` for static energy, `keep_s` after a workload's end; `node`: what the cluster calls this
    machine, empty if unknown.
    """

    policy: Policy = Policy.UNATTRIBUTED
    keep_s: float = 300.0
    node: str = ""


class Billing:
    """All bills, and what is known of who uses and holds what."""

    def __init__(self, board: Board, terms: Terms) -> None:
        """Nothing is billed before somebody's use was read; nothing is lost until then either."""
        self._board = board
        self._terms = terms
        self._keep_ns = nanoseconds_from_seconds(terms.keep_s)
        self._tallies: dict[str, Tally] = {}
        self._claims: dict[str, Claims] = {}
        self._lines: dict[Channel, Line] = {}
        self._spent: dict[Device, list[float]] = {}
        self._parts: dict[Device, Parts] = {}
        self._counters = Counters(board, terms.node)
        self._present: dict[Workload, int] = {}
        self._leaving: set[Workload] = set()
        self._ended: dict[Workload, int] = {}
        self._credited: dict[str, float] = {}
        self._residuals = Residuals()
        self._shares: dict[Device, set[Cell]] = {}
        self._begun = False

    # -- what was used and held -----------------------------------------------------------------

    def fold(self, readings: Sequence[Reading]) -> tuple[bool, list[Reading]]:
        """Take in USE and HOLD readings; whether a channel was new, and the readings left over.

        A counter that goes back counts nothing.
        """
        component = readings[0].channel.labels[0]
        tally = self._tallies.get(component)
        if tally is not None and tally.take(readings):
            return False, []
        lines, new = self._lines, False
        rest: list[Reading] = []
        for reading in readings:
            channel, value, at_ns = reading
            line = lines.get(channel)
            if line is None:
                if not is_billed(channel.measures):
                    rest.append(reading)
                    continue
                new = True
                line = lines[channel] = self._open(channel)
            if line.counts and line.value is not None and value > line.value:
                line.used += value - line.value
            line.value = value
            if line.workload is SYSTEM:
                line.tally.read(line, at_ns)
        tally = self._tallies.get(component)
        if tally is not None and not rest:
            tally.gather([lines[reading.channel] for reading in readings])
        return new, rest

    def silence(self, channel: Channel) -> None:
        """The channel gives nothing now: the workload ended, or nobody knows."""
        line = self._lines.pop(channel, None)
        if line is None:
            return
        line.tally.drop(line)
        workload = line.workload
        if workload.kind not in RESERVED:
            self._present[workload] -= 1
            if not self._present[workload]:
                self._leaving.add(workload)

    def _open(self, channel: Channel) -> Line:
        component, workload = channel.labels[0], workload_of(channel)
        if workload.kind not in RESERVED:
            self._present[workload] = self._present.get(workload, 0) + 1
            self._leaving.discard(workload)
            self._ended.pop(workload, None)
        tally: Tally | Claims
        if channel.metric is catalogue.WORKLOAD_DEVICE_SHARE:
            tally = self._claims.setdefault(component, Claims())
        else:
            tally = self._tallies.setdefault(component, Tally())
        line = Line(channel, workload, tally)
        tally.add(line)
        return line

    # -- what was spent -------------------------------------------------------------------------

    def credit(self, component: str, device: str, joules: float, seconds: float) -> None:
        """The ledger credited a device with joules (>= 0) for `seconds` of time."""
        spent = self._spent.get((component, device))
        if spent is None:
            spent = self._spent[component, device] = [0.0, 0.0]
        spent[0] += joules
        spent[1] += seconds

    def credit_part(self, component: str, device: str, part: str, joules: float) -> None:
        """A part of a device spent joules (>= 0): `mig:PROFILE:UUID` or `process:PID`."""
        kind, _, name = part.partition(":")
        if self._begun and kind in {"mig", PROCESS}:
            parts = self._parts.setdefault((component, device), Parts())
            parts.add(part if kind == PROCESS else name.rpartition(":")[2], joules)

    def close(self, now_ns: int, static_watts: Known, activity: Known) -> None:
        """End of a tick: bill what was spent since the last one.

        `static_watts` and `activity` (0..1) of a (component, device), None while unknown.
        """
        listed = any(claims.known for claims in self._claims.values())
        if self._tallies or listed or self._begun:
            pooled = self._bill_devices(static_watts, activity)
            for component, energy in pooled.items():
                self._bill_component(component, energy)
            self._begun = True
            self._close_residuals(now_ns)
        self._forget(now_ns)

    def _bill_devices(self, static_watts: Known, activity: Known) -> dict[str, Energy]:
        """Bill devices that are held; returns the energy of the others by component."""
        pooled: dict[str, Energy] = {}
        live = self._live() if self._claims else frozenset()
        lost = self._lost()
        for (component, device), spent in self._spent.items():
            joules, seconds = spent
            spent[0] = spent[1] = 0.0
            self._credited[component] = self._credited.get(component, 0.0) + joules
            energy = _split(joules, seconds, static_watts(component, device))
            claims = self._claims.get(component)
            parts = self._parts.get((component, device))
            known = parts.spent(seconds) if parts is not None else {}
            if claims is not None and claims.known and self._begun:
                holding = claims.holding(device, known, live, activity(component, device))
                if holding.claims or not (holding.unknown or component in lost):
                    self._write_shares(component, device, holding)
                    bills = bill_device(energy, holding, self._terms.policy)
                    self._counters.charge(component, bills)
                    continue
            self._write_shares(component, device, Holding({}))
            sums = zip(pooled.get(component, Energy()), energy, strict=True)
            pooled[component] = Energy(*(old + new for old, new in sums))
        return pooled

    def _lost(self) -> set[str]:
        """Components some part of which is held, while nobody knows which device it is a part of.

        No device of theirs can be called free.
        """
        known = {name for parts in self._parts.values() for name in parts.names}
        return {name for name, claims in self._claims.items() if claims.parts - known}

    def _bill_component(self, component: str, energy: Energy) -> None:
        tally = self._tallies.get(component)
        totals = None
        if tally is not None:
            totals = tally.totals() if any(energy) else None
            for workload in tally.arrivals():
                self._counters.open(component, DYNAMIC, workload)
        if tally is None or totals is None or not self._begun:
            self._counters.charge(component, bill_nobody(energy))
            return
        policy = self._terms.policy
        prices = price_use(energy, totals, policy)
        self._counters.charge(component, prices.rest)
        by = tally.allocated if policy is Policy.ALLOCATION else tally.due
        for share, amounts, price in (
            (DYNAMIC, tally.due, prices.dynamic),
            (STATIC, by, prices.static),
        ):
            if price:
                self._counters.charge_use(component, share, tally.lines, amounts, price)

    def _live(self) -> frozenset[Workload]:
        """Pods that have a cgroup which can be read, by name; empty while no names are known."""
        users = chain.from_iterable(tally.present for tally in self._tallies.values())
        return frozenset(user for user in users if user.kind == "pod" and user.namespace)

    # -- board ----------------------------------------------------------------------------------

    def _close_residuals(self, now_ns: int) -> None:
        """Write how far the bills of a component are from what was lately credited to it."""
        billed = self._counters.close()
        for component, ratio in self._residuals.close(now_ns, self._credited, billed).items():
            cell = self._board.cell(catalogue.WORKLOAD_RESIDUAL, (component,), OWNER)
            self._board.put(cell, ratio)

    def _write_shares(self, component: str, device: str, holding: Holding) -> None:
        """Say who is billed for a device and by what it is divided."""
        before = self._shares.get((component, device), set())
        if not holding.claims and not before:
            return
        weights = weights_of(holding)
        known = holding.others + sum(holding.activity.get(user, 0.0) for user in weights) > 0
        division = "whole" if len(weights) == 1 else "activity" if known else "equal"
        now: set[Cell] = set()
        whole = sum(weights.values())
        for workload, weight in weights.items():
            if workload.kind in RESERVED:
                continue
            labels = (component, device, *workload, division)
            cell = self._board.cell(catalogue.WORKLOAD_DEVICE_SHARE, labels, OWNER)
            cell.lasting = False
            self._board.put(cell, weight / whole)
            now.add(cell)
        for cell in before - now:
            if cell.slot >= 0:
                self._board.clear(cell)
        self._shares[component, device] = now

    # -- the end of a workload ------------------------------------------------------------------

    def _forget(self, now_ns: int) -> None:
        """Drop the bills of workloads that ended long ago, or that are too many."""
        for workload in sorted(self._leaving):
            del self._present[workload]
            self._ended[workload] = now_ns
        self._leaving.clear()
        while self._ended:
            workload, ended_ns = next(iter(self._ended.items()))
            if now_ns - ended_ns <= self._keep_ns and len(self._ended) <= MOST_FINISHED:
                return
            del self._ended[workload]
            for tally in self._tallies.values():
                tally.forget(workload)
            self._counters.forget(workload)


def workload_of(channel: Channel) -> Workload:
    """Who a USE or HOLD channel is about."""
    first = 2 if channel.metric is catalogue.WORKLOAD_DEVICE_SHARE else 1
    workload = Workload(*channel.labels[first : first + 3])
    return SYSTEM if workload == SYSTEM else workload


def is_billed(measures: Measures) -> bool:
    """Whether readings of the kind belong to the bills."""
    return measures is Measures.USE or measures is Measures.HOLD


def _split(joules: float, seconds: float, static_watts: float | None) -> Energy:
    if static_watts is None:
        return Energy(unsplit=joules)
    static = min(joules, static_watts * seconds)
    return Energy(joules - static, static)
