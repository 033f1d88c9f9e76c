"""A demo machine: GPUs that serve language models, all of it invented. method="simulated".

Every number is a pure function of the monotonic clock. A power curve is a constant plus sines plus
square pulses, so its energy is an exact integral, and the first law holds to rounding: the wall
meter is the sum of the components plus the loss of the power supplies. Each model runs in a pod of
its own, which holds its GPUs and uses CPU and memory: the ledger bills them as it bills real pods.
It is longer than other sources because it stands for many of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cbrt
from typing import TYPE_CHECKING, NamedTuple

from joulefloor import catalogue
from joulefloor.bounds import POSITIVE, check_bounds
from joulefloor.curves import Curve, Wave
from joulefloor.demo import (
    BUILDING_FACTOR,
    BUILDING_WATTS,
    BYTES_PER_PARAMETER,
    CARBON,
    CPUS,
    DAY_SECONDS,
    GIBIBYTE,
    GPU_LIMIT_WATTS,
    GPU_MOST_WATTS,
    INPUT_BITS,
    INPUT_TOKENS,
    MEMORY_BYTES,
    MEMORY_HERTZ,
    MODELS,
    NOBODY,
    OPERAND_BITS,
    OPERATIONS_PER_PARAMETER,
    OUTPUT_BITS,
    OUTPUT_TOKENS,
    PLACES,
    POD_MEMORY,
    PRECISION,
    PUE,
    SM_HERTZ,
    SOURCE,
    THROTTLE_CLOCK,
    WRITTEN_BYTES_PER_PARAMETER,
    Machine,
    Served,
    machine,
)
from joulefloor.model import (
    EVERY_DEVICE,
    IDLE,
    SYSTEM,
    Batch,
    Channel,
    Measures,
    Reading,
)
from joulefloor.units import Seconds, seconds_from_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from joulefloor.sources import Site, Source


@dataclass(frozen=True, slots=True)
class Settings:
    """What the demo machine is and does."""

    #: Seconds between reads of meters and counters (> 0).
    period: Seconds = Seconds(1.0)
    #: Seconds between reads of temperatures, clocks, fans and memory (> 0).
    slow_period: Seconds = Seconds(5.0)
    #: Seconds after which a read counts as late (> 0).
    deadline: Seconds = Seconds(0.5)
    #: Number of GPUs (1 to 16; other numbers are brought into this range).
    gpus: int = 8
    #: Seconds by which the machine's day is ahead of the monotonic clock (>= 0).
    epoch: Seconds = Seconds(0.0)
    #: The model of each GPU in turn, "" for a GPU that no pod holds; the list is repeated.
    models: tuple[str, ...] = PLACES
    #: Site whose building meters it shows, for a measured PUE; none by default.
    site: str = ""

    def __post_init__(self) -> None:
        """Refuse times that cannot work and a model that does not exist."""
        check_bounds(self, period=POSITIVE, slow_period=POSITIVE, deadline=POSITIVE)
        unknown = [name for name in self.models if name not in MODELS]
        if unknown or not self.models:
            known = ", ".join(name or '""' for name in MODELS)
            raise ValueError(f"models: must be some of {known}, not {', '.join(unknown)!r}")


class Row(NamedTuple):
    """A channel and its value as a function of the demo's time in s."""

    channel: Channel
    value: Callable[[float], float]


def build(site: Site[Settings]) -> tuple[Source, ...]:
    """The sources simulated (meters and counters), simulated-sensors and -workloads."""
    settings = site.settings
    model = machine(settings.gpus, settings.models)
    fast = (*_energies(model), *_activity(model), *_inference(model))
    if settings.site:
        fast = (*fast, *_building(model, settings.site))
    slow = (*_names(model), *_sensors(model), *_fans(model), *_stated(model, settings.epoch))
    return (
        SimulatedSource(site, SOURCE, settings.period, fast),
        SimulatedSource(site, f"{SOURCE}-sensors", settings.slow_period, slow),
        SimulatedSource(site, f"{SOURCE}-workloads", settings.period, tuple(_bills(model))),
    )


class SimulatedSource:
    """Gives the rows their values at the present time.

    Reads: only the clock.
    Raises: nothing.
    """

    def __init__(
        self, site: Site[Settings], name: str, period_s: float, rows: tuple[Row, ...]
    ) -> None:
        """`rows` say what is given; the settings say how far the demo's day is ahead."""
        self.name = name
        self.period_s = period_s
        self.deadline_s: float = site.settings.deadline
        self._rows = rows
        self._clock = site.clock
        self._epoch_s = site.settings.epoch

    def channels(self) -> tuple[Channel, ...]:
        """All of them, always."""
        return tuple(row.channel for row in self._rows)

    def read(self) -> Batch:
        """Every value at one instant."""
        at_ns = self._clock.monotonic_ns()
        t = seconds_from_nanoseconds(at_ns) + self._epoch_s
        return Batch(tuple(Reading(row.channel, row.value(t), at_ns) for row in self._rows))

    def close(self) -> None:
        """Nothing is held."""


def _row(metric: catalogue.Metric, labels: tuple[str, ...], value: Callable[[float], float]) -> Row:
    return Row(Channel(metric, labels, Measures.LEVEL), value)


def _constant(metric: catalogue.Metric, labels: tuple[str, ...], value: float) -> Row:
    return _row(metric, labels, lambda _: value)


def _busy(component: str, device: str, load: Curve) -> Row:
    channel = Channel(catalogue.UTILIZATION, (component, device, "busy"), Measures.BUSY)
    return Row(channel, load.integral)


def _energies(model: Machine) -> Iterator[Row]:
    """Counters of the components and of the wall meter."""
    for (component, device), watts in model.watts.items():
        labels = (component, device, SOURCE, SOURCE)
        bound = GPU_MOST_WATTS if component == "gpu" else 2_000.0
        yield Row(
            Channel(catalogue.COMPONENT_ENERGY, labels, Measures.ENERGY, max_watts=bound),
            watts.integral,
        )
    wall = Channel(catalogue.NODE_ENERGY, (SOURCE, SOURCE), Measures.ENERGY, max_watts=20_000.0)
    yield Row(wall, model.wall_watts.integral)


def _activity(model: Machine) -> Iterator[Row]:
    """Busy shares, throttling and bytes on links."""
    for number, load in enumerate(model.cpu_load):
        yield _busy("cpu", f"package-{number}", load)
    node = Curve(0.0).plus(*model.cpu_load).scaled(1 / len(model.cpu_load))
    yield _busy("node", "node", node)
    for card in model.gpus:
        yield _busy("gpu", card.device, card.load)
        labels = ("gpu", card.device)
        yield _row(catalogue.THROTTLE, (*labels, "hw_thermal_slowdown"), card.throttled.integral)
        hbm = card.load.scaled(2.1e12)
        yield _row(catalogue.LINK, (*labels, "hbm", "read"), hbm.integral)
        for direction in ("receive", "transmit"):
            nvlink = card.load.scaled(6e10)
            yield _row(catalogue.LINK, (*labels, "nvlink", direction), nvlink.integral)
    load = Curve(0.0).plus(*(card.load for card in model.gpus))
    for direction, rate in (("receive", 4e6), ("transmit", 1.5e6)):
        port = ("nic", "simulated", "network", direction)
        yield _row(catalogue.LINK, port, load.scaled(rate).integral)


def _inference(model: Machine) -> Iterator[Row]:
    """What the models served; the loaded but idle one stays at zero."""
    for served, load in model.serving.items():
        rate = load.scaled(served.tokens_per_s / OUTPUT_TOKENS)
        labels = (served.name,)
        yield _row(catalogue.INFERENCES, labels, rate.integral)
        for direction, tokens in (("input", INPUT_TOKENS), ("output", OUTPUT_TOKENS)):
            counter = rate.scaled(tokens).integral
            yield _row(catalogue.INFERENCE_TOKENS, (*labels, direction), counter)
        done = rate.scaled(operations_per_token(served) * (INPUT_TOKENS + OUTPUT_TOKENS))
        yield _row(catalogue.INFERENCE_OPERATIONS, (*labels, PRECISION), done.integral)
        for kind, moved in bytes_per_inference(served).items():
            yield _row(catalogue.INFERENCE_BYTES, (*labels, kind), rate.scaled(moved).integral)
        heard = rate.scaled(INPUT_TOKENS * INPUT_BITS)
        said = rate.scaled(OUTPUT_TOKENS * OUTPUT_BITS)
        yield _row(catalogue.INPUT_ENTROPY, labels, heard.integral)
        yield _row(catalogue.OUTPUT_ENTROPY, (*labels, "marginal"), said.integral)
        cards = sum(card.served is served for card in model.gpus)
        batch = load.scaled(served.batch / cards)
        yield _row(catalogue.INFERENCE_REQUESTS, (*labels, "running"), batch.at)
        yield _constant(catalogue.INFERENCE_REQUESTS, (*labels, "waiting"), float(served.waiting))
    for card in model.gpus:
        if card.served.tokens_per_s:
            tokens = card.served.tokens_per_s * (1 + INPUT_TOKENS / OUTPUT_TOKENS)
            rate = card.load.scaled(tokens * operations_per_token(card.served))
            pipe = ("gpu", card.device, PRECISION, SOURCE, SOURCE)
            yield _row(catalogue.OPERATIONS, pipe, rate.integral)


def _building(model: Machine, site: str) -> Iterator[Row]:
    """Meters of the building: what this machine takes, and that with its share of the cooling."""
    machines = model.wall_watts
    for role, watts in (
        ("total", machines.scaled(BUILDING_FACTOR, BUILDING_WATTS)),
        ("it", machines),
    ):
        labels = (site, SOURCE, role, SOURCE, SOURCE)
        yield _row(catalogue.FACILITY_ENERGY, labels, watts.integral)


def operations_per_token(served: Served) -> float:
    """Arithmetic operations for a token of the model."""
    return OPERATIONS_PER_PARAMETER * served.parameters


def bytes_per_inference(served: Served) -> dict[str, float]:
    """Bytes that an inference of the model moves: weights are read once for a batch."""
    tokens = INPUT_TOKENS + OUTPUT_TOKENS
    written = WRITTEN_BYTES_PER_PARAMETER * served.parameters * tokens
    weights = BYTES_PER_PARAMETER * served.parameters * OUTPUT_TOKENS / max(1.0, served.batch)
    return {"read": weights + written, "write": written}


def _bills(model: Machine) -> Iterator[Row]:
    """What the pods hold and use; the ledger divides energy by it and publishes the result."""
    held = [card for card in model.gpus if card.served is not NOBODY]
    claims = [(EVERY_DEVICE, IDLE), *((card.device, card.served.workload) for card in held)]
    for device, holder in claims:
        labels = ("gpu", device, *holder, "claim")
        yield Row(Channel(catalogue.WORKLOAD_DEVICE_SHARE, labels, Measures.HOLD), lambda _: 1.0)
    busy = Curve(0.0).plus(*model.cpu_load).scaled(CPUS / len(model.cpu_load))
    uses = {SYSTEM: busy, IDLE: busy.scaled(-1.0, CPUS)}
    for card in held:
        used = card.load.scaled(0.35 * CPUS / len(model.gpus))
        uses[card.served.workload] = uses.get(card.served.workload, Curve(0.0)).plus(used)
    pods = len(uses) - 2
    share = {SYSTEM: POD_MEMORY * (pods + 1), IDLE: 1 - POD_MEMORY * (pods + 1)}
    for user, curve in uses.items():
        cpu, dram = ("cpu", *user, "dynamic"), ("dram", *user, "dynamic")
        yield Row(Channel(catalogue.WORKLOAD_ENERGY, cpu, Measures.USE), curve.integral)
        used_bytes = MEMORY_BYTES * share.get(user, POD_MEMORY)
        yield _held(Channel(catalogue.WORKLOAD_ENERGY, dram, Measures.HOLD), used_bytes)


def _held(channel: Channel, amount: float) -> Row:
    return Row(channel, lambda _: amount)


def _stated(model: Machine, epoch_s: float) -> Iterator[Row]:
    """What the owners of the models say of them, and the operator of the site of it.

    The grid has the same day for all machines, however far theirs is ahead.
    """
    for served in model.serving:
        labels = (served.name,)
        namespace, pod = served.workload.namespace, served.workload.name
        yield _constant(catalogue.MODEL_WORKLOAD, (*labels, namespace, pod), 1.0)
        yield _constant(catalogue.MODEL_PARAMETERS, labels, served.parameters)
        yield _constant(catalogue.MODEL_OPERAND_BITS, labels, OPERAND_BITS)
        if served.budget:
            yield _constant(catalogue.MODEL_BUDGET, labels, served.budget)
        if served.training:
            yield _constant(catalogue.MODEL_TRAINING_ENERGY, labels, served.training)
    yield _constant(catalogue.CONFIGURED_PUE, (), PUE)
    yield _row(
        catalogue.CARBON_INTENSITY, (SOURCE, "average", SOURCE), lambda t: CARBON.at(t - epoch_s)
    )


def _names(model: Machine) -> Iterator[Row]:
    """Names that say what they are, and power limits."""
    for card in model.gpus:
        labels = ("gpu", card.device)
        gpu = (*labels, "simulated", "simulated GPU, 80 GiB, 700 W")
        yield _constant(catalogue.DEVICE_INFO, gpu, 1.0)
        yield _constant(catalogue.COMPONENT_POWER_LIMIT, (*labels, "enforced"), GPU_LIMIT_WATTS)
    for number in range(len(model.cpu_load)):
        cpu = ("cpu", f"package-{number}", "simulated", "simulated CPU, 48 cores")
        yield _constant(catalogue.DEVICE_INFO, cpu, 1.0)


def _sensors(model: Machine) -> Iterator[Row]:
    """Temperatures, clocks and memory."""
    inlet = Curve(23.5, (Wave(1.2, 3 * DAY_SECONDS, 0.4),))
    supply = Curve(30.0, (Wave(0.8, 2 * DAY_SECONDS, 1.1),))
    watts = model.wall_watts
    for card in model.gpus:
        labels = ("gpu", card.device)
        die = supply.plus(card.watts.scaled(0.052))
        yield _row(catalogue.TEMPERATURE, (*labels, "die"), die.at)
        yield _row(catalogue.TEMPERATURE, (*labels, "memory"), die.scaled(1.0, 9.0).at)
        clock = card.throttled.scaled(-SM_HERTZ * (1 - THROTTLE_CLOCK), SM_HERTZ)
        yield _row(catalogue.CLOCK, (*labels, "sm"), clock.at)
        yield _constant(catalogue.CLOCK, (*labels, "memory"), MEMORY_HERTZ)
        used = card.load.scaled(5.0, card.served.memory_gib)
        yield _row(catalogue.MEMORY, (*labels, "used"), used.scaled(GIBIBYTE).at)
        yield _constant(catalogue.MEMORY, (*labels, "total"), 80.0 * GIBIBYTE)
    for number, load in enumerate(model.cpu_load):
        die = inlet.plus(load.scaled(55.0, 16.0))
        yield _row(catalogue.TEMPERATURE, ("cpu", f"package-{number}", "die"), die.at)
    for device, sensor, curve in (
        ("chassis", "inlet", inlet),
        ("chassis", "outlet", inlet.plus(watts.scaled(0.0028))),
        ("coolant", "coolant_supply", supply),
        ("coolant", "coolant_return", supply.plus(watts.scaled(0.0019))),
    ):
        yield _row(catalogue.TEMPERATURE, ("node", device, sensor), curve.at)


def _fans(model: Machine) -> Iterator[Row]:
    """Speeds follow from power by the fan law: power goes with the cube of speed."""
    watts = model.watts["fan", "chassis"]
    full_watts, full_rpm = 480.0, 16_000.0
    for number in range(6):
        labels = ("chassis", f"fan{number + 1}")
        skew = 1.0 - 0.01 * number

        def ratio(t: float, skew: float = skew) -> float:
            return min(1.0, skew * cbrt(watts.at(t) / full_watts))

        def rpm(t: float, ratio: Callable[[float], float] = ratio) -> float:
            return round(full_rpm * ratio(t))

        yield _row(catalogue.FAN_SPEED, labels, rpm)
        yield _row(catalogue.FAN_SPEED_RATIO, labels, ratio)
