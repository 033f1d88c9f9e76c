"""What one snapshot says about this machine, for people: /status, the live page, `make run`.

Pure. A quantity that is not known is None, never 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from joulefloor import catalogue
from joulefloor.notices import Notice, find_notices

if TYPE_CHECKING:
    from collections.abc import Iterable

    from joulefloor.catalogue import Metric
    from joulefloor.model import Fault, Health, Snapshot

_MOST_FAULTS = 20
"""Faults listed per source; the count in `faults` of a larger number is in the metrics."""


class NodeMeter(NamedTuple):
    """The elected meter of the whole machine."""

    source: str
    method: str
    watts: float | None
    joules: float | None


class ComponentPower(NamedTuple):
    """One component: power now, energy since start, idle share, limit, use from 0 to 1."""

    component: str
    device: str
    source: str
    method: str
    watts: float | None
    joules: float | None
    static_watts: float | None
    limit_watts: float | None
    utilization: float | None


class Total(NamedTuple):
    """All devices of one component that are known by one method."""

    component: str
    method: str
    watts: float | None
    joules: float | None


class Power(NamedTuple):
    """Power of the machine: from its own meter if it has one, else the sum of components.

    `method` is measured, modelled, simulated, mixed, or empty when nothing is known. `static_watts`
    and `dynamic_watts` split those components whose idle power is known.
    """

    watts: float | None
    method: str
    basis: str
    static_watts: float | None
    dynamic_watts: float | None


class Temperature(NamedTuple):
    """One sensor."""

    component: str
    device: str
    sensor: str
    celsius: float


class SourceFault(NamedTuple):
    """A channel of a source that gives nothing; empty if the source as a whole does not."""

    channel: str
    reason: str
    detail: str


class SourceState(NamedTuple):
    """A source: up, down, absent, or waiting for its first read."""

    name: str
    state: str
    reason: str
    detail: str
    errors: dict[str, int]
    faults: tuple[SourceFault, ...]
    channels: int
    read_seconds: float
    last_success_unix_seconds: float | None


class Status(NamedTuple):
    """Everything the live page shows."""

    host: str
    version: str
    uptime_seconds: float
    time_unix_seconds: float
    ticks: int
    power: Power
    node: tuple[NodeMeter, ...]
    components: tuple[ComponentPower, ...]
    totals: tuple[Total, ...]
    temperatures: tuple[Temperature, ...]
    sources: tuple[SourceState, ...]
    warnings: tuple[Notice, ...]


_Series = dict[tuple[str, ...], float]


class _Tables:
    """Values of a snapshot by metric and labels."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._tables: dict[str, _Series] = {}
        for metric, labels, value in snapshot.samples():
            self._tables.setdefault(metric.name, {})[labels] = value

    def of(self, metric: Metric) -> _Series:
        return self._tables.get(metric.name, {})


def read_status(snapshot: Snapshot, *, host: str, version: str, uptime_s: float) -> Status:
    """Sort one snapshot into what people ask about; `host` is the machine's name."""
    tables = _Tables(snapshot)
    node = _node(tables)
    components = _components(tables)
    events = tables.of(catalogue.METER_EVENTS)
    methods = {row.method for row in components if row.watts is not None}
    methods |= {row.method for row in node if row.watts is not None}
    return Status(
        host=host,
        version=version,
        uptime_seconds=uptime_s,
        time_unix_seconds=snapshot.unix_s,
        ticks=snapshot.seq,
        power=_power(node, components),
        node=node,
        components=components,
        totals=_totals(tables, components),
        temperatures=tuple(
            Temperature(*cast("tuple[str, str, str]", labels), value)
            for labels, value in tables.of(catalogue.TEMPERATURE).items()
        ),
        sources=tuple(map(_source, snapshot.health)),
        warnings=find_notices(
            snapshot,
            methods=methods,
            modelled={row.component for row in components if row.method == "modelled"},
            node_watts=next((row.watts for row in node if row.watts is not None), None),
            parts_watts=sum(row.watts or 0.0 for row in components),
            events=events,
        ),
    )


def status(snapshot: Snapshot, *, host: str, version: str, uptime_s: float) -> dict[str, object]:
    """Lay out the same as plain dictionaries and lists, for JSON."""
    plain = _plain(read_status(snapshot, host=host, version=version, uptime_s=uptime_s))
    return cast("dict[str, object]", plain)


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        fields = getattr(value, "_fields", None)
        if fields is None:
            return [_plain(item) for item in value]
        return {name: _plain(item) for name, item in zip(fields, value, strict=True)}
    return value


def _node(tables: _Tables) -> tuple[NodeMeter, ...]:
    powers, energies = tables.of(catalogue.NODE_POWER), tables.of(catalogue.NODE_ENERGY)
    return tuple(
        NodeMeter(labels[0], labels[1], powers.get(labels), energies.get(labels))
        for labels in _current(powers, energies, depth=0)
    )


def _components(tables: _Tables) -> tuple[ComponentPower, ...]:
    powers, energies = tables.of(catalogue.COMPONENT_POWER), tables.of(catalogue.COMPONENT_ENERGY)
    statics = tables.of(catalogue.COMPONENT_STATIC_POWER)
    limits = tables.of(catalogue.COMPONENT_POWER_LIMIT)
    busy = tables.of(catalogue.UTILIZATION)
    rows = []
    for labels in _current(powers, energies, depth=2):
        component, device, source, method = labels
        rows.append(
            ComponentPower(
                component=component,
                device=device,
                source=source,
                method=method,
                watts=powers.get(labels),
                joules=energies.get(labels),
                static_watts=statics.get((component, device)),
                limit_watts=limits.get((component, device, "enforced")),
                utilization=busy.get((component, device, "busy")),
            )
        )
    return tuple(rows)


def _current(powers: _Series, energies: _Series, depth: int) -> list[tuple[str, ...]]:
    """Series in order; of a device (the first `depth` labels) that has power, only those with it.

    A counter stays after its meter lost the election, its power does not.
    """
    alive = {labels[:depth] for labels in powers}
    idle = (labels for labels in energies if labels not in powers and labels[:depth] not in alive)
    return sorted([*powers, *idle])


def _power(node: Iterable[NodeMeter], components: Iterable[ComponentPower]) -> Power:
    known = [row for row in components if row.watts is not None]
    split = [(row.watts or 0.0, row.static_watts) for row in known]
    halves = [(watts, static) for watts, static in split if static is not None]
    # A component may for a moment draw less than its learned idle power; it is all static then.
    static_watts = sum(min(watts, static) for watts, static in halves) if halves else None
    dynamic_watts = sum(max(0.0, watts - static) for watts, static in halves) if halves else None
    meter = next((row for row in node if row.watts is not None), None)
    if meter is not None:
        basis = f"node meter {meter.source}"
        return Power(meter.watts, meter.method, basis, static_watts, dynamic_watts)
    if not known:
        return Power(None, "", "", None, None)
    methods = {row.method for row in known}
    method = methods.pop() if len(methods) == 1 else "mixed"
    watts = sum(watts for watts, _ in split)
    noun = "component" if len(known) == 1 else "components"
    return Power(watts, method, f"sum of {len(known)} {noun}", static_watts, dynamic_watts)


def _totals(tables: _Tables, components: Iterable[ComponentPower]) -> tuple[Total, ...]:
    watts: dict[tuple[str, ...], float] = {}
    for row in components:
        if row.watts is not None:
            key = (row.component, row.method)
            watts[key] = watts.get(key, 0.0) + row.watts
    joules = tables.of(catalogue.NODE_COMPONENT_ENERGY)
    return tuple(
        Total(key[0], key[1], watts.get(key), joules.get(key)) for key in sorted({*watts, *joules})
    )


def _source(health: Health) -> SourceState:
    states = {True: "up", False: "down", None: "absent" if health.reason else "waiting"}
    return SourceState(
        name=health.name,
        state=states[health.up],
        reason=str(health.reason or ""),
        detail=health.detail,
        errors={str(reason): count for reason, count in health.errors},
        faults=tuple(map(_fault, health.faults[:_MOST_FAULTS])),
        channels=health.channels,
        read_seconds=health.read_seconds,
        last_success_unix_seconds=health.last_success_unix_s or None,
    )


def _fault(fault: Fault) -> SourceFault:
    channel = "" if fault.channel is None else "/".join(fault.channel.labels)
    return SourceFault(channel, str(fault.reason), fault.detail)
