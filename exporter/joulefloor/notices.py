"""Sentences for people: what is wrong here, how to mend it, and what the numbers do not hold.

Pure. Each is said once, the worst first.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from joulefloor.errors import MEANING, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from joulefloor.model import Fault, Health, Snapshot

_METERS = ("rapl", "hwmon")
"""Sources that measure power where a machine has a meter: their absence is worth a sentence."""
_MENDABLE = {Reason.DENIED, Reason.UNSUPPORTED}
_LAG = 0.9
"""A node meter this far below its parts is worth a sentence; meters lag each other a little."""
_HARMLESS = {"wrap"}
_EVENTS = {
    "reset": "began to count anew{times}; the step was not counted as energy",
    "gap": "was unread for too long{times}; energy of that time is missing or a lower bound",
    "rejected": "showed an impossible step{times}, which was not counted as energy",
    "frozen": "stood still while the machine worked{times}, and was not believed",
    "mirrored": "repeats another meter{times}, and is counted only once",
    "disagreement": "disagrees with another meter of the same thing{times}",
}


class Severity(StrEnum):
    """How much a sentence matters; in order."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Notice(NamedTuple):
    """One sentence and what it is about: a source, or `power` for the sums."""

    severity: Severity
    source: str
    text: str


def find_notices(
    snapshot: Snapshot,
    *,
    methods: set[str],
    modelled: set[str],
    node_watts: float | None,
    parts_watts: float,
    events: Mapping[tuple[str, ...], float],
) -> tuple[Notice, ...]:
    """Say what an on-call engineer should know about one snapshot.

    `methods`: of all powers known now; `modelled`: components that are; `events`: counts by
    (source, component, device, event); `node_watts`: the node's own meter, None without one;
    `parts_watts`: the sum of components.
    """
    found = [
        *(notice for health in snapshot.health for notice in _about(health)),
        *_about_power(snapshot, methods, modelled),
        *_about_node(methods, node_watts, parts_watts),
        *_about_events(events),
    ]
    order = list(Severity)
    return tuple(sorted(found, key=lambda notice: order.index(notice.severity)))


def _about(health: Health) -> Iterator[Notice]:
    reason = health.reason
    if health.up is False and reason is not None:
        severity = Severity.WARNING if reason in _MENDABLE else Severity.ERROR
        words = f"No readings: {MEANING[reason]}"
        yield Notice(severity, health.name, _sentence(words, health.detail))
    elif health.up:
        yield from _about_faults(health)


def _about_faults(health: Health) -> Iterator[Notice]:
    """One sentence per reason: a hundred denied files are one problem."""
    by_reason: dict[Reason, list[Fault]] = {}
    for fault in health.faults:
        by_reason.setdefault(fault.reason, []).append(fault)
    for reason, faults in by_reason.items():
        if reason is Reason.ABSENT:
            continue
        first = faults[0]
        words = f"{len(faults)} of {health.channels} readings missing: {MEANING[reason]}"
        yield Notice(Severity.WARNING, health.name, _sentence(words, first.detail))


def _about_power(snapshot: Snapshot, methods: set[str], modelled: set[str]) -> Iterator[Notice]:
    waiting = any(health.up is None and health.reason is None for health in snapshot.health)
    if (waiting or snapshot.seq == 0) and not methods:
        yield Notice(Severity.INFO, "power", "The first readings are on their way.")
        return
    if "simulated" in methods:
        words = "This machine is simulated: no number here was measured."
        yield Notice(Severity.INFO, "power", words)
    elif not methods:
        words = "Nothing here reports its power or allows to model it."
        yield Notice(Severity.WARNING, "power", words)
    elif methods == {"modelled"}:
        words = (
            "No meter can be read, so power is modelled from how busy the machine is; "
            "a model may be wrong by tens of percent."
        )
        yield Notice(Severity.WARNING, "power", words)
    elif modelled:
        names = ", ".join(sorted(modelled))
        words = (
            f"Power of {names} is modelled, not measured; a model may be wrong by tens of percent."
        )
        yield Notice(Severity.INFO, "power", words)
    if "measured" not in methods and "simulated" not in methods:
        yield from _absent_meters(snapshot)


def _about_node(
    methods: set[str], node_watts: float | None, parts_watts: float
) -> Iterator[Notice]:
    if methods and node_watts is None:
        words = (
            "No wall meter: the total is the sum of the components; what no meter covers, such as "
            "boards and power supply losses, is not in it."
        )
        yield Notice(Severity.INFO, "node", words)
    elif node_watts is not None and node_watts < _LAG * parts_watts:
        words = (
            f"The node meter reads {node_watts:.0f} W, its parts together {parts_watts:.0f} W: "
            "one of them lags or measures wrongly."
        )
        yield Notice(Severity.INFO, "node", words)


def _absent_meters(snapshot: Snapshot) -> Iterator[Notice]:
    for health in snapshot.health:
        if health.name in _METERS and health.reason is Reason.ABSENT:
            yield Notice(Severity.INFO, health.name, _sentence("Absent", health.detail))


def _about_events(events: Mapping[tuple[str, ...], float]) -> Iterator[Notice]:
    for (source, component, device, event), count in events.items():
        if event in _HARMLESS or count <= 0:
            continue
        times = " once" if count == 1 else f" {count:.0f} times"
        what = _EVENTS.get(event, event + "{times}").format(times=times)
        words = f"The meter of {component} {device} {what}."
        yield Notice(Severity.INFO, source, words)


def _sentence(words: str, detail: str) -> str:
    end = "" if detail.endswith((".", "!", "?")) else "."
    return f"{words}: {detail}{end}" if detail else f"{words}."
