"""The invented machine of the demo: its GPUs, the models they serve, and its power, as curves.

Joules per token fall with load as they do with batch size, inside published measurements (ML.ENERGY
leaderboard, chat task, GPU energy per output token on H100: Llama-3.1-8B 0.070 to 0.455 J,
Llama-3.1-70B 0.373 to 3.76 J).
"""

from __future__ import annotations

from typing import NamedTuple

from joulefloor.curves import Curve, Pulse, Wave
from joulefloor.model import Workload

SOURCE = "simulated"
DAY_SECONDS = 600.0
"""The swing of a day, compressed."""
MOST_GPUS = 16
PSU_EFFICIENCY = 0.94
GIBIBYTE = 2**30


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
