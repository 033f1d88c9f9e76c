"""The invented machines of the demo: their GPUs, the models they serve, and their power, as curves.

Joules per token fall with load as they do with batch size, inside published measurements (ML.ENERGY
leaderboard, GPU energy per output token on H100, best batch to a batch of 8). Chat: Llama-3.1-8B
0.0702 to 0.455 J, Qwen3-14B 0.112 to 0.706 J, Llama-3.1-70B 0.373 to 3.76 J. GPQA: gpt-oss-20b
0.0442 to 0.357 J. Below a batch of 8 a step takes the same energy for fewer tokens.
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
    1, with `phase` of the day. `memory_gib`: GPU memory it occupies. `parameters`: active ones.
    `budget`: J per output token at the node that its owner allows, `training`: J that its training
    took (GPU hours of the model card times 700 W); 0 if nobody says. `batch`: requests that its pod
    works on at full load, `waiting`: requests in its queue. `before`: tokens of the same load a
    week ago, as a multiple of today's (>= 1); more than 1 is a regression.
    """

    name: str
    tokens_per_s: float
    load: float
    swing: float
    phase: float
    memory_gib: float
    parameters: float
    budget: float = 0.0
    training: float = 0.0
    batch: float = 0.0
    waiting: int = 0
    before: float = 1.0

    @property
    def workload(self) -> Workload:
        """The pod that serves it."""
        return Workload("pod", SOURCE, f"{self.name.partition('/')[2].replace('.', '-')}-0")


NOBODY = Served("", 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""Holds the GPUs that no pod holds."""
SERVED = (
    Served("simulated/llama-3.1-8b", 7_800.0, 0.58, 0.30, 0.0, 62.0, 8.03e9, 0.5, 3.68e12, 190.0),
    Served("simulated/llama-3.1-70b", 1_380.0, 0.55, 0.30, 0.9, 71.0, 7.06e10, 0.2, 1.76e13, 128.0),
    # Loaded and serves nobody: its GPUs burn their idle power for it.
    Served("simulated/qwen3-32b", 0.0, 0.0, 0.0, 0.0, 66.0, 3.28e10),
    # Something holds its batch below what fits, so requests wait and every token is dear.
    Served("simulated/qwen3-14b", 400.0, 0.75, 0.10, 2.1, 34.0, 1.48e10, batch=3.4, waiting=14),
    # Since it changed, the same tokens take nearly twice the load.
    Served("simulated/gpt-oss-20b", 5_200.0, 0.64, 0.20, 1.5, 45.0, 3.6e9, batch=96.0, before=1.8),
)
MODELS = {served.name.partition("/")[2]: served for served in (*SERVED, NOBODY)}
"""By the name that the settings give them; "" is nobody."""
PLACES = (*("llama-3.1-8b",) * 2, *("llama-3.1-70b",) * 4, *("qwen3-32b",) * 2)
"""Which model runs on which GPU, unless the settings say; further GPUs repeat it."""
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
BYTES_PER_PARAMETER = 2.0
"""Read once for each step of a batch."""
WRITTEN_BYTES_PER_PARAMETER = 4e-4
"""For each token: its keys and values, and what the layers hand on."""
PUE = 1.2
BUILDING_FACTOR = 1.12
BUILDING_WATTS = 450.0
"""What the building takes: so many times the machine's watts, and so much whatever it does."""
CARBON = Curve(320.0, (Wave(110.0, DAY_SECONDS, 2.0),))
"""Of the grid, g CO2 equivalent per kWh."""
CPUS = 96.0
MEMORY_BYTES = 1024.0 * GIBIBYTE
POD_MEMORY = 0.1
"""Share of the machine's memory that each pod uses; as much again is the system's."""

GPU_BARE_WATTS = 74.0
GPU_IDLE_WATTS = 112.0
"""Of a GPU that holds a model; without one it draws less."""
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


def gpus(count: int, places: tuple[str, ...] = PLACES) -> tuple[Gpu, ...]:
    """The GPUs of the demo."""
    count = min(MOST_GPUS, max(1, count))
    throttled = min(THROTTLED_GPU, count - 1)
    return tuple(
        _gpu(index, MODELS[places[index % len(places)]], is_throttled=index == throttled)
        for index in range(count)
    )


def _gpu(index: int, served: Served, *, is_throttled: bool) -> Gpu:
    load, prefill, held = Curve(0.0), Curve(0.0), Curve(0.0)
    if served.tokens_per_s:
        day = Wave(served.swing, DAY_SECONDS, served.phase)
        load = Curve(served.load, (day, Wave(0.04, 47.0, 0.7 * index)))
        prefill = Curve(0.0, (Pulse(1.0, 23.0 + index, 1.5, 2.5 * index),))
        held = Curve(0.0, (THROTTLE,)) if is_throttled else held
    load = load.plus(held.scaled(-THROTTLE_LOAD), prefill.scaled(PREFILL_SHARE))
    idle_watts = GPU_BARE_WATTS if served is NOBODY else GPU_IDLE_WATTS
    watts = load.scaled(GPU_LOAD_WATTS, idle_watts + 1.7 * (index % 3))
    watts = watts.plus(prefill.scaled(PREFILL_WATTS))
    return Gpu(f"GPU-sim-{index}", served, load, watts, held)


def week_ago(card: Gpu) -> Gpu:
    """The same GPU before its model changed: the same tokens took less load."""
    load = card.load.scaled(1 / card.served.before)
    idle_watts = card.watts.mean - GPU_LOAD_WATTS * card.load.mean
    return card._replace(load=load, watts=load.scaled(GPU_LOAD_WATTS, idle_watts))


class Machine(NamedTuple):
    """Power of everything in the demo machine, W, by (component, device)."""

    gpus: tuple[Gpu, ...]
    cpu_load: tuple[Curve, ...]
    watts: dict[tuple[str, str], Curve]

    @property
    def serving(self) -> dict[Served, Curve]:
        """The models that a pod holds GPUs for, with the sum of their GPUs' load."""
        loads: dict[Served, Curve] = {}
        for card in self.gpus:
            if card.served is not NOBODY:
                loads[card.served] = loads.get(card.served, Curve(0.0)).plus(card.load)
        return loads

    @property
    def wall_watts(self) -> Curve:
        """What the power supplies draw."""
        total = Curve(0.0).plus(*self.watts.values())
        return total.scaled(1 / PSU_EFFICIENCY)


def machine(count: int, places: tuple[str, ...] = PLACES) -> Machine:
    """A demo machine with so many GPUs, which serve these models in turn."""
    cards = gpus(count, places)
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
