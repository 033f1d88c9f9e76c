"""The demo machine: eight GPUs that serve two language models, invented. method="simulated".

Every number is a pure function of the monotonic clock. A power curve is a constant plus sines plus
square pulses, so its energy is an exact integral, and the first law holds to rounding: the wall
meter is the sum of the components plus the loss of the power supplies. Joules per token fall with
load as they do with batch size, inside published measurements (ML.ENERGY leaderboard, chat task,
GPU energy per output token on H100: Llama-3.1-8B 0.070 to 0.455 J, Llama-3.1-70B 0.373 to 3.76 J).
Each model runs in a pod of its own, which holds its GPUs and uses CPU and memory: the ledger bills
them as it bills real pods. It is longer than other sources because it stands for many of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cbrt
from typing import TYPE_CHECKING, NamedTuple

from joulefloor import catalogue
from joulefloor.curves import Curve, Pulse, Wave
from joulefloor.model import (
    EVERY_DEVICE,
    IDLE,
    SYSTEM,
    Batch,
    Channel,
    Measures,
    Reading,
    Workload,
)
from joulefloor.units import Seconds, seconds_from_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from joulefloor.sources import Site, Source

SOURCE = "simulated"
DAY_SECONDS = 600.0
"""The swing of a day, compressed."""
MOST_GPUS = 16
PSU_EFFICIENCY = 0.94
GIBIBYTE = 2**30


@dataclass(frozen=True, slots=True)
class Settings:
    """Size and phase of the demo machine."""

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


class Served(NamedTuple):
    """A language model of the demo: how one GPU runs it at full load.

    `tokens_per_s`: output tokens of one GPU at full load. `load`: mean and swing of the load, 0 to
    1, with `phase` of the day. `memory_gib`: GPU memory it occupies. `parameters`: of the model.
    `budget`: J per output token at the node that its owner allows, `training`: J that its training
    took (GPU hours of the model card times 700 W); 0 if nobody says.
    """

    name: str
    tokens_per_s: float
    load: float
    swing: float
    phase: float
    memory_gib: float
    parameters: float
    budget: float
    training: float

    @property
    def workload(self) -> Workload:
        """The pod that serves it."""
        return Workload("pod", SOURCE, f"{self.name.partition('/')[2].replace('.', '-')}-0")


SERVED = (
    Served("simulated/llama-3.1-8b", 7_800.0, 0.58, 0.30, 0.0, 62.0, 8.03e9, 0.5, 3.68e12),
    Served("simulated/llama-3.1-70b", 1_380.0, 0.55, 0.30, 0.9, 71.0, 70.6e9, 0.4, 1.764e13),
    Served("simulated/qwen3-32b", 0.0, 0.0, 0.0, 0.0, 66.0, 32.8e9, 0.0, 0.0),
)
"""The last one is loaded and serves nobody: its GPUs burn their idle power for it."""
PLACES = (0, 0, 1, 1, 1, 1, 2, 2)
"""Which model runs on which GPU; further GPUs repeat it."""
OUTPUT_TOKENS = 220.0
INPUT_TOKENS = 640.0
"""Per inference."""
OPERATIONS_PER_PARAMETER = 2.1
"""Per token: two, and some for attention."""
PRECISION = "bf16"
OPERAND_BITS = 16.0
INPUT_BITS = 3.0
OUTPUT_BITS = 1.5
"""Entropy per token."""
PUE = 1.2
CPUS = 96.0
MEMORY_BYTES = 1024.0 * GIBIBYTE
POD_MEMORY = 0.1
"""Share of the machine's memory that each pod uses; as much again is the system's."""

GPU_IDLE_WATTS = 112.0
GPU_LOAD_WATTS = 490.0
GPU_LIMIT_WATTS = 700.0
GPU_MOST_WATTS = 740.0
PREFILL_WATTS = 40.0
PREFILL_SHARE = 0.05
THROTTLED_GPU = 3
THROTTLE = Pulse(1.0, 240.0, 18.0, 60.0)
THROTTLE_LOAD = 0.15
"""What a GPU loses of its load while it is too hot."""
THROTTLE_CLOCK = 0.55
SM_HERTZ = 1.98e9
MEMORY_HERTZ = 2.619e9


class Gpu(NamedTuple):
    """One GPU: identity, its model, load (0 to 1), power and share of time it is held back."""

    device: str
    served: Served
    load: Curve
    watts: Curve
    throttled: Curve


def gpus(count: int) -> tuple[Gpu, ...]:
    """The GPUs of the demo."""
    count = min(MOST_GPUS, max(1, count))
    throttled = min(THROTTLED_GPU, count - 1)
    return tuple(_gpu(index, is_throttled=index == throttled) for index in range(count))


def _gpu(index: int, *, is_throttled: bool) -> Gpu:
    served = SERVED[PLACES[index % len(PLACES)]]
    load, prefill, held = Curve(0.0), Curve(0.0), Curve(0.0)
    if served.tokens_per_s:
        day = Wave(served.swing, DAY_SECONDS, served.phase)
        load = Curve(served.load, (day, Wave(0.04, 47.0, 0.7 * index)))
        prefill = Curve(0.0, (Pulse(1.0, 23.0 + index, 1.5, 2.5 * index),))
        held = Curve(0.0, (THROTTLE,)) if is_throttled else held
    load = load.plus(held.scaled(-THROTTLE_LOAD), prefill.scaled(PREFILL_SHARE))
    watts = load.scaled(GPU_LOAD_WATTS, GPU_IDLE_WATTS + 1.7 * (index % 3))
    watts = watts.plus(prefill.scaled(PREFILL_WATTS))
    return Gpu(f"GPU-sim-{index}", served, load, watts, held)


class Machine(NamedTuple):
    """Power of everything in the demo machine, W, by (component, device)."""

    gpus: tuple[Gpu, ...]
    cpu_load: tuple[Curve, ...]
    watts: dict[tuple[str, str], Curve]

    @property
    def wall_watts(self) -> Curve:
        """What the power supplies draw."""
        total = Curve(0.0).plus(*self.watts.values())
        return total.scaled(1 / PSU_EFFICIENCY)


def machine(count: int) -> Machine:
    """The demo machine with so many GPUs."""
    cards = gpus(count)
    mean_load = Curve(0.0).plus(*(card.load for card in cards)).scaled(1 / len(cards))
    cpu_load = tuple(
        mean_load.scaled(0.35, 0.06).plus(Curve(0.04, (Wave(0.03, 61.0, number),)))
        for number in (0.0, 2.0)
    )
    watts = {("gpu", card.device): card.watts for card in cards}
    for number, load in enumerate(cpu_load):
        watts["cpu", f"package-{number}"] = load.scaled(260.0, 88.0)
        watts["dram", f"package-{number}"] = load.scaled(45.0, 22.0)
    heat = Curve(0.0).plus(*watts.values())
    watts["fan", "chassis"] = heat.scaled(0.055, 40.0)
    watts["nic", "simulated"] = mean_load.scaled(9.0, 44.0)
    watts["disk", "simulated"] = Curve(38.0)
    return Machine(cards, cpu_load, watts)


class Row(NamedTuple):
    """A channel and its value as a function of the demo's time in s."""

    channel: Channel
    value: Callable[[float], float]


def build(site: Site[Settings]) -> tuple[Source, ...]:
    """The sources simulated (meters and counters), simulated-sensors and -workloads."""
    settings = site.settings
    model = machine(settings.gpus)
    fast = (*_energies(model), *_activity(model), *_inference(model))
    slow = (*_names(model), *_sensors(model), *_fans(model), *_stated(model))
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
        yield _constant(catalogue.THROTTLE, (*labels, "sw_power_cap"), 0.0)
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
    for served in SERVED:
        loads = [card.load for card in model.gpus if card.served is served]
        if loads:
            rate = Curve(0.0).plus(*loads).scaled(served.tokens_per_s / OUTPUT_TOKENS)
            labels = (served.name,)
            yield _row(catalogue.INFERENCES, labels, rate.integral)
            for direction, tokens in (("input", INPUT_TOKENS), ("output", OUTPUT_TOKENS)):
                counter = rate.scaled(tokens).integral
                yield _row(catalogue.INFERENCE_TOKENS, (*labels, direction), counter)
            done = rate.scaled(operations_per_token(served) * (INPUT_TOKENS + OUTPUT_TOKENS))
            yield _row(catalogue.INFERENCE_OPERATIONS, (*labels, PRECISION), done.integral)
            read = rate.scaled(INPUT_TOKENS * INPUT_BITS)
            said = rate.scaled(OUTPUT_TOKENS * OUTPUT_BITS)
            yield _row(catalogue.INPUT_ENTROPY, labels, read.integral)
            yield _row(catalogue.OUTPUT_ENTROPY, (*labels, "marginal"), said.integral)
    for card in model.gpus:
        if card.served.tokens_per_s:
            tokens = card.served.tokens_per_s * (1 + INPUT_TOKENS / OUTPUT_TOKENS)
            rate = card.load.scaled(tokens * operations_per_token(card.served))
            pipe = ("gpu", card.device, PRECISION, SOURCE, SOURCE)
            yield _row(catalogue.OPERATIONS, pipe, rate.integral)


def operations_per_token(served: Served) -> float:
    """Arithmetic operations for a token of the model."""
    return OPERATIONS_PER_PARAMETER * served.parameters


def _bills(model: Machine) -> Iterator[Row]:
    """What the pods hold and use; the ledger divides energy by it and publishes the result."""
    claims = [(EVERY_DEVICE, IDLE), *((card.device, card.served.workload) for card in model.gpus)]
    for device, holder in claims:
        labels = ("gpu", device, *holder, "claim")
        yield Row(Channel(catalogue.WORKLOAD_DEVICE_SHARE, labels, Measures.HOLD), lambda _: 1.0)
    busy = Curve(0.0).plus(*model.cpu_load).scaled(CPUS / len(model.cpu_load))
    uses = {SYSTEM: busy, IDLE: busy.scaled(-1.0, CPUS)}
    for card in model.gpus:
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


def _stated(model: Machine) -> Iterator[Row]:
    """What the owners of the models say of them, and the operator of the site of it."""
    for served in dict.fromkeys(card.served for card in model.gpus):
        labels = (served.name,)
        _, namespace, pod, _ = served.workload
        yield _constant(catalogue.MODEL_WORKLOAD, (*labels, namespace, pod), 1.0)
        yield _constant(catalogue.MODEL_PARAMETERS, labels, served.parameters)
        yield _constant(catalogue.MODEL_OPERAND_BITS, labels, OPERAND_BITS)
        if served.budget:
            yield _constant(catalogue.MODEL_BUDGET, labels, served.budget)
        if served.training:
            yield _constant(catalogue.MODEL_TRAINING_ENERGY, labels, served.training)
    yield _constant(catalogue.CONFIGURED_PUE, (), PUE)


def _names(model: Machine) -> Iterator[Row]:
    """Names that say what they are, and power limits."""
    for card in model.gpus:
        labels = ("gpu", card.device)
        gpu = (*labels, "simulated", "simulated GPU, 80 GiB, 700 W")
        yield _constant(catalogue.DEVICE_INFO, gpu, 1.0)
        for limit, watts in (
            ("enforced", GPU_LIMIT_WATTS),
            ("default", GPU_LIMIT_WATTS),
            ("min", 200.0),
            ("max", GPU_LIMIT_WATTS),
        ):
            yield _constant(catalogue.COMPONENT_POWER_LIMIT, (*labels, limit), watts)
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
