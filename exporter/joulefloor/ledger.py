"""The ledger: folds readings into accounts and writes what is known onto the board each tick.

Pure: no I/O, no clock, no threads, no logging. It knows meters, levels and time, but no device
kinds: those are labels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from joulefloor import catalogue
from joulefloor.account import Event, rebase, settle
from joulefloor.attribution import own_joules
from joulefloor.baseline import Baseline
from joulefloor.billing import Billing, Terms, is_billed
from joulefloor.errors import Reason
from joulefloor.floor import Floor
from joulefloor.levels import Level, busy_ratio
from joulefloor.meters import Device, Fleeting, Identity, Meter
from joulefloor.model import Batch, Channel, Fault, Measures, Reading
from joulefloor.units import NANOSECONDS_PER_SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from joulefloor.board import Board

OWNER = "ledger"


class Rules(NamedTuple):
    """How the ledger decides; from the configuration.

    `prefer`: source labels, best first. `sink_celsius`: heat sink temperature while none is
    measured. `static_watts`: start value of the static power per component, W.
    `cpus`: CPUs of the machine, for the daemon's own share. `model_patience_s`: how long a
    model waits for sources that have not answered yet before it may be elected. `terms`: how
    workloads are billed.
    """

    prefer: tuple[str, ...] = ()
    sink_celsius: float = 25.0
    static_watts: Mapping[str, float] = {}
    cpus: int = 1
    model_patience_s: float = 5.0
    terms: Terms = Terms()


class Ledger:
    """Everything that is known from readings so far."""

    def __init__(self, board: Board, rules: Rules) -> None:
        """Write to `board`, decide by `rules`."""
        self._board = board
        self._rules = rules
        self._floor = Floor(board, rules.sink_celsius)
        self._billing = Billing(board, rules.terms)
        self._meters: dict[Channel, Meter] = {}
        self._by_key: dict[tuple[str, tuple[str, ...]], Meter] = {}
        self._devices: dict[Identity, Device] = {}
        self._fleeting = Fleeting(rules.terms.keep_s)
        self._levels: dict[Channel, Level] = {}
        self._channels: dict[str, set[Channel]] = {}
        self._twins: dict[str, list[Meter]] = {}
        self._activity: dict[tuple[str, str], float] = {}
        self._baselines: dict[tuple[str, str], Baseline] = {}
        self._sums: dict[tuple[str, str], float] = {}
        self._self_joules: dict[str, float] = {}
        self._tick_joules: dict[str, float] = {}
        self._adopted = False
        self._first_ns = 0
        self._closed_ns = 0
        self._own_cpu_s = 0.0

    def fold(self, source: str, period_s: float, batch: Batch) -> tuple[Fault, ...]:
        """Take in what a source brought; returns faults of readings that could not be used."""
        faults: list[Fault] = []
        self._adopted = False
        readings: Sequence[Reading] = batch.readings
        if readings and is_billed(readings[0].channel.measures):
            self._adopted, readings = self._billing.fold(readings)
        put, levels = self._board.put, self._levels
        for reading in readings:
            level = levels.get(reading.channel)
            plain = level is not None and level.plain and level.cell.slot >= 0
            if plain and put(level.cell, reading.value):  # type: ignore[union-attr]  # it is plain
                continue
            problem = self._fold_one(source, period_s, reading)
            if problem is not None:
                faults.append(problem)
        self._note_impossible(batch.faults)
        known = self._channels.setdefault(source, set())
        if self._adopted or len(known) != len(batch.readings) or batch.faults:
            read = {reading.channel for reading in batch.readings}
            self._silence(known - read)
            self._channels[source] = read
        self._compare_twins(batch)
        return tuple(faults)

    def _fold_one(self, source: str, period_s: float, reading: Reading) -> Fault | None:
        measures = reading.channel.measures
        if measures is Measures.LEVEL or measures is Measures.BUSY:
            return self._fold_level(source, reading)
        return self._fold_energy(source, period_s, reading)

    def silence(self, source: str) -> None:
        """The source gives nothing now: its gauges vanish, its counters hold."""
        self._silence(self._channels.pop(source, set()))

    def suspended(self) -> None:
        """The machine slept: no meter is credited for the time."""
        for meter in self._by_key.values():
            if meter.account.base is not None:
                meter.account = rebase(meter.account)
                self._note(meter, Event.GAP)
        for level in self._levels.values():
            level.before = None

    def close(self, now_ns: int, own_cpu_s: float, *, complete: bool = True) -> None:
        """End of a tick at `now_ns`: elect, write energies, learn baselines, write floors.

        `own_cpu_s`: CPU seconds this daemon has used so far. `complete`: every source has answered
        at least once, so that no meter can still turn up.
        """
        self._first_ns = self._first_ns or now_ns
        seconds = (now_ns - (self._closed_ns or now_ns)) / NANOSECONDS_PER_SECOND
        metered = {
            meter.identity.component
            for meter in self._by_key.values()
            if not meter.modelled and meter.live(now_ns) and meter.identity.level != "part"
        }
        patience_ns = self._rules.model_patience_s * NANOSECONDS_PER_SECOND
        patient = not complete and now_ns - self._first_ns < patience_ns
        for device in self._devices.values():
            is_part = device.identity.level == "part"
            allow = is_part or (not patient and device.identity.component not in metered)
            self._write_device(device, device.elect(now_ns, self._rules.prefer, allow_model=allow))
            self._learn(device, seconds)
            for meter in device.disagreements(now_ns):
                self._note(meter, Event.DISAGREEMENT)
        for labels, joules in self._sums.items():
            self._put(catalogue.NODE_COMPONENT_ENERGY, labels, joules)
        self._forget_vanished(now_ns)
        self._bill_self(seconds, own_cpu_s)
        self._billing.close(now_ns, self._static_watts, self._busy_of)
        self._floor.close()
        self._closed_ns = now_ns

    # -- energy ---------------------------------------------------------------------------------

    def _fold_energy(self, source: str, period_s: float, reading: Reading) -> Fault | None:
        meter = self._meters.get(reading.channel)
        if meter is None:
            meter = self._adopt(source, period_s, reading.channel)
        meter.take(reading)
        settled = settle(
            meter.account,
            reading,
            gap_limit_s=meter.gap_limit_s,
            witness=self._activity.get(("node", "node")),
        )
        meter.account = settled.account
        if settled.event is not None:
            self._note(meter, settled.event)
        if settled.gap_s > 0:
            identity = meter.identity
            labels = (meter.label, identity.component, identity.device)
            self._add(catalogue.METER_GAP, labels, settled.gap_s)
        if settled.credit_joules > 0:
            self._credit(meter, settled.credit_joules, settled.since_ns, reading.at_ns)
        return None

    def _credit(self, meter: Meter, joules: float, since_ns: int, until_ns: int) -> None:
        device = self._devices[meter.identity]
        fresh_ns = max(0, until_ns - max(since_ns, device.covered_ns))
        counted = device.credit(meter, joules, since_ns, until_ns)
        level, component, name, part = meter.identity
        if counted and level == "part":
            self._billing.credit_part(component, name, part, counted)
        elif counted and level == "component":
            self._billing.credit(component, name, counted, fresh_ns / NANOSECONDS_PER_SECOND)
            key = (component, meter.channel.label("method"))
            self._sums[key] = self._sums.get(key, 0.0) + counted
            if component == "cpu":
                self._tick_joules[key[1]] = self._tick_joules.get(key[1], 0.0) + counted

    def _adopt(self, source: str, period_s: float, channel: Channel) -> Meter:
        """Find the meter that this channel was before it was discovered anew, or open one."""
        self._adopted = True
        meter = self._by_key.get(channel.key)
        if meter is not None:
            self._meters.pop(meter.channel, None)
            meter.channel = channel
        else:
            meter = self._by_key[channel.key] = Meter(channel, source, period_s)
            device = self._devices.setdefault(meter.identity, Device(meter.identity))
            device.meters.append(meter)
            self._fleeting.add(device)
            if channel.twins:
                self._twins.setdefault(channel.twins, []).append(meter)
        self._meters[channel] = meter
        return meter

    def _forget_vanished(self, now_ns: int) -> None:
        """Drop processes that ended long ago with their series; nothing else is ever dropped."""
        for device in self._fleeting.vanished(now_ns):
            del self._devices[device.identity]
            for meter in device.meters:
                del self._by_key[meter.channel.key]
                self._meters.pop(meter.channel, None)
                self._board.remove(*meter.cells)

    def _compare_twins(self, batch: Batch) -> None:
        if not self._twins:
            return
        groups = {reading.channel.twins for reading in batch.readings} - {""}
        for group in groups:
            meters = sorted(self._twins[group], key=lambda meter: meter.identity)
            first = meters[0]
            for meter in meters[1:]:
                event = meter.compare(first)
                if event is not None:
                    self._note(meter, event)

    def _write_device(self, device: Device, elected: Meter | None) -> None:
        board = self._board
        for meter in device.meters:
            is_elected = meter is elected
            if is_elected and meter.energy_cell is None:
                metric = meter.channel.metric
                meter.energy_cell = board.cell(metric, meter.channel.labels, OWNER)
                power = catalogue.POWER_OF[metric]
                meter.power_cell = board.cell(power, meter.channel.labels, OWNER)
                if device.identity.level == "component":
                    component = device.identity.component
                    self._floor.add_device(component, device.identity.device)
                    self._sums.setdefault((component, meter.channel.label("method")), 0.0)
            if meter.energy_cell is not None and meter.power_cell is not None:
                board.put(meter.energy_cell, meter.elected_joules)
                watts = meter.account.watts
                if is_elected and meter.present and watts is not None:
                    board.put(meter.power_cell, watts)
                else:
                    board.clear(meter.power_cell)
            if elected is not None and not is_elected:
                self._write_other(meter)

    def _write_other(self, meter: Meter) -> None:
        if meter.other_cell is None:
            identity = meter.identity
            device = f"{identity.device}/{identity.part}" if identity.part else identity.device
            method = meter.channel.label("method")
            labels = (identity.level, identity.component, device, meter.label, method)
            meter.other_cell = self._board.cell(catalogue.ALTERNATE_ENERGY, labels, OWNER)
        self._board.put(meter.other_cell, meter.other_joules)

    def _note_impossible(self, faults: Sequence[Fault]) -> None:
        """Operations that no hardware can do are an event, as such a reading of a meter is."""
        devices = {
            tuple(map(fault.channel.label, ("source", "component", "device")))
            for fault in faults
            if fault.channel is not None and fault.channel.metric is catalogue.OPERATIONS
            if fault.reason is Reason.GARBLED
        }
        for labels in sorted(devices):
            self._add(catalogue.METER_EVENTS, (*labels, Event.REJECTED), 1.0)

    def _note(self, meter: Meter, event: Event) -> None:
        identity = meter.identity
        labels = (meter.label, identity.component, identity.device, event)
        self._add(catalogue.METER_EVENTS, labels, 1.0)

    # -- levels ---------------------------------------------------------------------------------

    def _fold_level(self, source: str, reading: Reading) -> Fault | None:
        level = self._levels.get(reading.channel)
        if level is None or level.cell.slot < 0:
            try:
                level = self._adopt_level(source, reading.channel)
            except ValueError as error:
                return Fault(reading.channel, Reason.BUG, str(error), reading.at_ns)
        value: float | None = reading.value
        if reading.channel.measures is Measures.BUSY:
            value = busy_ratio(level.before, reading)
            level.before = reading
        if value is None:
            self._board.clear(level.cell)
            return None
        if level.activity is not None:
            self._activity[level.activity] = value
        if self._board.put(level.cell, value):
            return None
        detail = f"{reading.channel.metric.name}{reading.channel.labels}: {value} is impossible"
        return Fault(reading.channel, Reason.GARBLED, detail, reading.at_ns)

    def _adopt_level(self, source: str, channel: Channel) -> Level:
        cell = self._board.cell(channel.metric, channel.labels, source)
        cell.lasting = False
        self._adopted = True
        busy = channel.metric is catalogue.UTILIZATION and channel.labels[2] == "busy"
        activity = (channel.labels[0], channel.labels[1]) if busy else None
        if channel.metric is catalogue.TEMPERATURE:
            self._floor.watch(cell)
        plain = activity is None and channel.measures is Measures.LEVEL
        level = self._levels[channel] = Level(cell, activity, plain=plain)
        return level

    def _silence(self, channels: set[Channel]) -> None:
        for channel in channels:
            if is_billed(channel.measures):
                self._billing.silence(channel)
                continue
            meter = self._meters.get(channel)
            if meter is not None:
                meter.present = False
            level = self._levels.pop(channel, None)
            if level is not None:
                if level.cell.slot >= 0:
                    self._board.clear(level.cell)
                if level.activity is not None:
                    self._activity.pop(level.activity, None)

    # -- derived --------------------------------------------------------------------------------

    def _learn(self, device: Device, seconds: float) -> None:
        """Feed the baseline of a component with its power and activity."""
        level, component, name, _ = device.identity
        meter = device.elected
        if level != "component" or meter is None or not meter.present or seconds <= 0:
            return
        watts = meter.account.watts
        activity = self._activity_of(component, name)
        if watts is None or activity is None:
            return
        baseline = self._baselines.get((component, name))
        new = baseline is None
        if baseline is None:
            start = self._rules.static_watts.get(component)
            baseline = self._baselines[component, name] = Baseline(start)
        new = baseline.observe(watts, activity, seconds) or new
        if new and baseline.static_watts is not None:
            self._put(catalogue.COMPONENT_STATIC_POWER, (component, name), baseline.static_watts)

    def _activity_of(self, component: str, device: str) -> float | None:
        """How busy a device is: its own utilisation, else that of its CPU package or the node."""
        package = device.partition("-die-")[0]
        for key in ((component, device), ("cpu", package), ("node", "node")):
            if key in self._activity:
                return self._activity[key]
        return None

    def _static_watts(self, component: str, device: str) -> float | None:
        baseline = self._baselines.get((component, device))
        return None if baseline is None else baseline.static_watts

    def _busy_of(self, component: str, device: str) -> float | None:
        return self._activity.get((component, device))

    def _bill_self(self, seconds: float, own_cpu_s: float) -> None:
        """Credit this daemon's share of the CPU energy of the tick to itself."""
        used_s = own_cpu_s - self._own_cpu_s
        self._own_cpu_s = own_cpu_s
        joules, self._tick_joules = self._tick_joules, {}
        busy = self._activity.get(("node", "node"))
        if seconds <= 0 or busy is None:
            return
        static = [
            baseline.static_watts
            for (component, _), baseline in self._baselines.items()
            if component == "cpu" and baseline.static_watts is not None
        ]
        for method, spent in joules.items():
            cpu_s = self._rules.cpus * seconds
            still = sum(static) * seconds if static else None
            own = own_joules(spent, still, min(used_s, cpu_s), busy * cpu_s, cpu_s)
            total = self._self_joules[method] = self._self_joules.get(method, 0.0) + own
            self._put(catalogue.SELF_ENERGY, (method,), total)

    # -- board ----------------------------------------------------------------------------------

    def _put(self, metric: catalogue.Metric, labels: tuple[str, ...], value: float) -> None:
        self._board.put(self._board.cell(metric, labels, OWNER), value)

    def _add(self, metric: catalogue.Metric, labels: tuple[str, ...], amount: float) -> None:
        cell = self._board.cell(metric, labels, OWNER)
        self._board.put(cell, (self._board.value(cell) or 0.0) + amount)
