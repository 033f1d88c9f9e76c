"""The account of one meter: the only code that understands counters, wraps, resets and gaps.

Pure: no I/O, no clock, no history beside the Account itself. Every reading either adds joules that
the meter vouches for, or an event that says why it adds none. Joules never decrease, and no step
credits more than `max_watts` times the time since the last accepted reading.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from joulefloor.model import Measures
from joulefloor.units import NANOSECONDS_PER_SECOND

if TYPE_CHECKING:
    from joulefloor.model import Channel, Reading

COUNTER_SLACK_S = 0.2
"""Counters move in steps (RAPL 1 ms, NVML 100 ms): that much time may show up one reading late."""
STALE_AFTER_S = 10.0
"""A meter that has not moved for so long has no power to show."""
FROZEN_AFTER_S = 60.0
"""A meter that has not moved for so long, while the machine did, is frozen."""
WITNESS_SPREAD = 0.1
"""Change of CPU utilisation (0..1) during which a live power meter cannot stay on one value."""


class Event(StrEnum):
    """What happened to a meter instead of, or beside, energy; a label value."""

    WRAP = "wrap"
    RESET = "reset"
    GAP = "gap"
    REJECTED = "rejected"
    FROZEN = "frozen"
    MIRRORED = "mirrored"
    DISAGREEMENT = "disagreement"


class Base(NamedTuple):
    """An accepted or suspected raw value (J or W) and its instant."""

    raw: float
    at_ns: int


class Account(NamedTuple):
    """State of one meter.

    `joules`: credited so far, never decreasing. `watts`: mean since the meter last moved, None when
    unknown. `base`: the last accepted reading, None before the first and after a suspend.
    `suspect`: an implausible reading that waits for the next one to tell glitch from reset.
    `held_joules`: integrated from a value that has not changed yet, credited when it does.
    `moved_ns`: when the raw value last changed; `witness_low/high`: CPU utilisation since then.
    """

    joules: float = 0.0
    watts: float | None = None
    covered_s: float = 0.0
    gaps: int = 0
    base: Base | None = None
    suspect: Base | None = None
    held_joules: float = 0.0
    held_since_ns: int = 0
    moved_ns: int = 0
    frozen: bool = False
    witness_low: float = 1.0
    witness_high: float = 0.0


class Settled(NamedTuple):
    """Outcome of one reading: the new account, what it credits and for which time."""

    account: Account
    credit_joules: float = 0.0
    since_ns: int = 0
    event: Event | None = None
    gap_s: float = 0.0


def settle(
    account: Account, reading: Reading, *, gap_limit_s: float, witness: float | None = None
) -> Settled:
    """Credit what `reading` proves.

    `gap_limit_s`: longest time over which power readings are integrated. `witness`: CPU utilisation
    of the machine (0..1) at this time, None if unknown.
    """
    base = account.base
    power = reading.channel.measures is Measures.POWER
    if reading.value < 0 or (power and reading.value > reading.channel.max_watts):
        return Settled(account._replace(watts=None), event=Event.REJECTED)
    if base is None:
        started = Base(reading.value, reading.at_ns)
        return Settled(account._replace(base=started, moved_ns=reading.at_ns, suspect=None))
    if reading.at_ns <= base.at_ns:
        return Settled(account)
    if power:
        return _settle_power(account, base, reading, gap_limit_s, witness)
    return _settle_counter(account, base, reading)


def rebase(account: Account) -> Account:
    """Forget the base: what passes until the next reading is not credited (suspend)."""
    return account._replace(base=None, suspect=None, watts=None, held_joules=0.0)


class _Step(NamedTuple):
    """A plausible way from a base to a new raw value."""

    joules: float
    event: Event | None


def _step(channel: Channel, base: Base, raw: float, dt_s: float) -> _Step | None:
    """Joules between base and `raw`; None when physics forbids it."""
    ceiling = channel.max_watts * (dt_s + COUNTER_SLACK_S)
    span = channel.wraps_at_joules
    delta = raw - base.raw
    if delta < 0:
        if span is None or raw > span:
            return None
        delta += span
        if not 0 <= delta <= ceiling:
            return None
        return _Step(delta, Event.GAP if ceiling >= span else Event.WRAP)
    if delta > ceiling:
        return None
    return _Step(delta, Event.GAP if span is not None and ceiling >= span else None)


def _settle_counter(account: Account, base: Base, reading: Reading) -> Settled:
    raw, at_ns, channel = reading.value, reading.at_ns, reading.channel
    now = Base(raw, at_ns)
    dt_s = (at_ns - base.at_ns) / NANOSECONDS_PER_SECOND
    step = _step(channel, base, raw, dt_s)
    suspect = account.suspect
    if suspect is not None:
        later_s = (at_ns - suspect.at_ns) / NANOSECONDS_PER_SECOND
        moved = _step(channel, suspect, raw, later_s)
        if moved is not None and (step is None or moved.joules < step.joules):
            lost_s = (suspect.at_ns - base.at_ns) / NANOSECONDS_PER_SECOND
            event = Event.RESET if suspect.raw < base.raw else Event.REJECTED
            account = account._replace(suspect=None, moved_ns=suspect.at_ns, gaps=account.gaps + 1)
            return _credit(account, suspect, now, moved.joules, event)._replace(gap_s=lost_s)
    if step is None:
        verdict = None if suspect is None else Event.REJECTED
        return Settled(account._replace(suspect=now, watts=None), event=verdict)
    if suspect is not None:
        account = account._replace(suspect=None)
        return _credit(account, base, now, step.joules, Event.REJECTED)
    settled = _credit(account, base, now, step.joules, step.event)
    return settled._replace(gap_s=dt_s) if step.event is Event.GAP else settled


def _credit(account: Account, base: Base, now: Base, joules: float, event: Event | None) -> Settled:
    """Book the joules of a counter; a counter that stands still shows no power for long."""
    still_s = (now.at_ns - account.moved_ns) / NANOSECONDS_PER_SECOND
    watts, moved_ns, frozen = account.watts, account.moved_ns, account.frozen
    if joules > 0:
        watts = joules / still_s if still_s > 0 else None
        moved_ns, frozen = now.at_ns, False
    elif still_s > FROZEN_AFTER_S and not frozen:
        watts, frozen = None, True
        event = event or Event.FROZEN
    elif still_s > STALE_AFTER_S:
        watts = None
    booked = Account(
        account.joules + joules,
        watts,
        account.covered_s + (now.at_ns - base.at_ns) / NANOSECONDS_PER_SECOND,
        account.gaps + (event is Event.GAP),
        now,
        account.suspect,
        account.held_joules,
        account.held_since_ns,
        moved_ns,
        frozen,
        account.witness_low,
        account.witness_high,
    )
    return Settled(booked, joules, base.at_ns, event)


def _settle_power(
    account: Account, base: Base, reading: Reading, gap_limit_s: float, witness: float | None
) -> Settled:
    watts, at_ns, channel = reading.value, reading.at_ns, reading.channel
    now = Base(watts, at_ns)
    dt_s = (at_ns - base.at_ns) / NANOSECONDS_PER_SECOND
    if dt_s > gap_limit_s:
        fresh = account._replace(base=now, watts=watts, held_joules=0.0, moved_ns=at_ns)
        fresh = fresh._replace(gaps=account.gaps + 1, frozen=False)
        return Settled(fresh, event=Event.GAP, gap_s=dt_s)
    joules = (base.raw + watts) / 2 * dt_s
    if not channel.witnessed:
        account = account._replace(
            joules=account.joules + joules,
            covered_s=account.covered_s + dt_s,
            base=now,
            watts=joules / dt_s,
            moved_ns=at_ns,
        )
        return Settled(account, joules, base.at_ns)
    return _settle_witnessed(account, base, now, joules, witness)


def _settle_witnessed(
    account: Account, base: Base, now: Base, joules: float, witness: float | None
) -> Settled:
    """Hold back joules of a value that may be a dead meter's last word, until it moves.

    If it stays for FROZEN_AFTER_S while CPU utilisation moved by WITNESS_SPREAD, it is frozen and
    what was held is dropped; if nothing else moved either, a constant reading is believed.
    """
    if now.raw != base.raw:
        if account.frozen:
            lost_s = (now.at_ns - account.moved_ns) / NANOSECONDS_PER_SECOND
            fresh = _moved(account, now)._replace(watts=now.raw, held_joules=0.0)
            return Settled(fresh._replace(gaps=account.gaps + 1), event=Event.GAP, gap_s=lost_s)
        return _release(_moved(account, now), base, joules)
    if witness is not None:
        account = account._replace(
            witness_low=min(account.witness_low, witness),
            witness_high=max(account.witness_high, witness),
        )
    if account.frozen:
        return Settled(account._replace(base=now))
    since_ns = account.held_since_ns if account.held_joules else base.at_ns
    account = account._replace(base=now, held_since_ns=since_ns)
    still_s = (now.at_ns - account.moved_ns) / NANOSECONDS_PER_SECOND
    if still_s <= FROZEN_AFTER_S:
        return Settled(account._replace(held_joules=account.held_joules + joules, watts=now.raw))
    if account.witness_high - account.witness_low >= WITNESS_SPREAD:
        return Settled(
            account._replace(frozen=True, watts=None, held_joules=0.0), event=Event.FROZEN
        )
    return _release(_moved(account, now), base, joules)


def _moved(account: Account, now: Base) -> Account:
    return account._replace(
        base=now, moved_ns=now.at_ns, frozen=False, witness_low=1.0, witness_high=0.0
    )


def _release(account: Account, base: Base, joules: float) -> Settled:
    """Credit what was held together with the newest interval."""
    since_ns = account.held_since_ns if account.held_joules else base.at_ns
    credit = account.held_joules + joules
    now_ns = account.moved_ns
    account = account._replace(
        joules=account.joules + credit,
        covered_s=account.covered_s + (now_ns - since_ns) / NANOSECONDS_PER_SECOND,
        watts=joules * NANOSECONDS_PER_SECOND / (now_ns - base.at_ns),
        held_joules=0.0,
    )
    return Settled(account, credit, since_ns)
