"""Two machines that have dcgm-exporter and no daemon, with four GPUs each, whose numbers move.

`plain` shows the rows that dcgm-exporter ships; `full` also those that alerts/adapters/README.md
names. Both are composed.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import yaml

from stack.peers import write_config
from tests.dashboards.board import SCRAPE_S
from tests.dashboards.promql import RULES
from tests.served import served

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

PLAIN, FULL = "plain", "full"
MODEL: Final = "NVIDIA H100 80GB HBM3"
PERIOD_S: Final = 240.0
WAVE: Final = 0.06
EVENTS_S: Final = 12.0
"""An XID so often, so that panels of errors have one whenever they are drawn."""
FILES: Final = (
    "recording.yaml",
    "alerting.yaml",
    "accelerators.yaml",
    "adapters/elect.yaml",
    "adapters/dcgm.yaml",
    "adapters/dcgm_devices.yaml",
)


class Gpu(NamedTuple):
    """What a GPU does: watts, per cent of use, degrees, MiB of memory, MHz, seconds held back.

    `held` is the share of time in which it is held back by power, and by heat.
    """

    watts: float
    busy: int
    tensor: float
    dram: float
    die: int
    memory: int
    used: int
    clock: int
    held: tuple[float, float] = (0.0, 0.0)


GPUS: Final = (
    Gpu(655, 100, 0.64, 0.48, 66, 81, 70_000, 1755, held=(0.13, 0.0)),
    Gpu(430, 92, 0.09, 0.22, 86, 93, 61_000, 1290, held=(0.0, 0.085)),
    Gpu(128, 0, 0.0, 0.0, 41, 44, 21_000, 1980),
    Gpu(310, 71, 0.31, 0.27, 57, 66, 30_000, 1860),
)
SHIPPED: Final[Mapping[str, str]] = {
    "DCGM_FI_DEV_SM_CLOCK": "gauge",
    "DCGM_FI_DEV_MEM_CLOCK": "gauge",
    "DCGM_FI_DEV_MEMORY_TEMP": "gauge",
    "DCGM_FI_DEV_GPU_TEMP": "gauge",
    "DCGM_FI_DEV_POWER_USAGE": "gauge",
    "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": "counter",
    "DCGM_FI_DEV_GPU_UTIL": "gauge",
    "DCGM_FI_DEV_MEM_COPY_UTIL": "gauge",
    "DCGM_FI_DEV_XID_ERRORS": "gauge",
    "DCGM_FI_DEV_FB_FREE": "gauge",
    "DCGM_FI_DEV_FB_USED": "gauge",
    "DCGM_FI_DEV_FB_RESERVED": "gauge",
    "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": "counter",
    "DCGM_FI_DEV_ROW_REMAP_FAILURE": "gauge",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": "gauge",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": "gauge",
    "DCGM_FI_PROF_DRAM_ACTIVE": "gauge",
    "DCGM_FI_PROF_PCIE_TX_BYTES": "gauge",
}
"""Rows that dcgm-exporter ships and the rules read, and two that they do not."""
ADDED: Final[Mapping[str, str]] = {
    "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": "gauge",
    "DCGM_FI_DEV_SLOWDOWN_TEMP": "gauge",
    "DCGM_FI_DEV_FAN_SPEED": "gauge",
    "DCGM_FI_DEV_POWER_VIOLATION": "counter",
    "DCGM_FI_DEV_THERMAL_VIOLATION": "counter",
    "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS": "counter",
    "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": "counter",
    "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": "counter",
    "DCGM_EXP_XID_ERRORS_TOTAL": "counter",
    "DCGM_FI_DEV_NVLINK_COUNT_TX_BYTES": "counter",
    "DCGM_FI_DEV_NVLINK_COUNT_RX_BYTES": "counter",
}
"""Rows that alerts/adapters/README.md names."""


def values(gpu: Gpu, age_s: float) -> dict[str, float]:
    """Every row of a GPU that has run for so long."""
    angle = 2 * math.pi * age_s / PERIOD_S
    swing = gpu.watts * WAVE
    joules = gpu.watts * age_s + swing * PERIOD_S / (2 * math.pi) * (1 - math.cos(angle))
    held_ns = [share * age_s * 1e9 for share in gpu.held]
    moved = gpu.busy * 6e8 * age_s
    return {
        "DCGM_FI_DEV_SM_CLOCK": gpu.clock,
        "DCGM_FI_DEV_MEM_CLOCK": 2619,
        "DCGM_FI_DEV_MEMORY_TEMP": gpu.memory,
        "DCGM_FI_DEV_GPU_TEMP": gpu.die,
        "DCGM_FI_DEV_POWER_USAGE": gpu.watts + swing * math.sin(angle),
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION": round(joules * 1e3) + 7_000_000,
        "DCGM_FI_DEV_GPU_UTIL": gpu.busy,
        "DCGM_FI_DEV_MEM_COPY_UTIL": gpu.busy // 2,
        "DCGM_FI_DEV_XID_ERRORS": 13 if gpu.die > 80 and age_s > EVENTS_S else 0,
        "DCGM_FI_DEV_FB_FREE": 81_000 - gpu.used,
        "DCGM_FI_DEV_FB_USED": gpu.used,
        "DCGM_FI_DEV_FB_RESERVED": 559,
        "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS": 0,
        "DCGM_FI_DEV_ROW_REMAP_FAILURE": 0,
        "DCGM_FI_PROF_GR_ENGINE_ACTIVE": gpu.busy / 100,
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": gpu.tensor,
        "DCGM_FI_PROF_DRAM_ACTIVE": gpu.dram,
        "DCGM_FI_PROF_PCIE_TX_BYTES": gpu.busy * 1e8,
        "DCGM_FI_DEV_ENFORCED_POWER_LIMIT": 700,
        "DCGM_FI_DEV_SLOWDOWN_TEMP": 88,
        "DCGM_FI_DEV_FAN_SPEED": 58,
        "DCGM_FI_DEV_POWER_VIOLATION": round(held_ns[0]),
        "DCGM_FI_DEV_THERMAL_VIOLATION": round(held_ns[1]),
        "DCGM_FI_DEV_CLOCKS_EVENT_REASON_HW_POWER_BRAKE_SLOWDOWN_NS": 0,
        "DCGM_FI_DEV_ECC_SBE_VOL_TOTAL": age_s // 20,
        "DCGM_FI_DEV_ECC_DBE_VOL_TOTAL": 0,
        "DCGM_EXP_XID_ERRORS_TOTAL": age_s // EVENTS_S if gpu.held[1] else 0,
        "DCGM_FI_DEV_NVLINK_COUNT_TX_BYTES": round(moved),
        "DCGM_FI_DEV_NVLINK_COUNT_RX_BYTES": round(moved * 0.95),
    }


def page(machine: str, age_s: float) -> str:
    """What the exporter of that machine shows."""
    rows = SHIPPED if machine == PLAIN else {**SHIPPED, **ADDED}
    found = [(name_of(machine, number), gpu) for number, gpu in enumerate(GPUS)]
    lines = []
    for metric, kind in rows.items():
        lines.append(f"# TYPE {metric} {kind}")
        for (uuid, labels), gpu in found:
            value = values(gpu, age_s)[metric]
            if metric.startswith("DCGM_EXP"):
                if value:
                    lines.append(f'{metric}{{{labels},UUID="{uuid}",xid="13"}} {value:g}')
            else:
                lines.append(f'{metric}{{{labels},UUID="{uuid}"}} {value!r}')
    return "\n".join(lines) + "\n"


def name_of(machine: str, number: int) -> tuple[str, str]:
    """A GPU's UUID, and the labels of its series but that one."""
    first = 0x7B10_4C00 + (machine == FULL) * 0x1000 + number
    uuid = f"GPU-{first:x}-4d1f-4000-8000-0000000000{number:02x}"
    labels = (
        f'gpu="{number}",pci_bus_id="00000000:{number + 1:02X}:00.0",device="nvidia{number}",'
        f'modelName="{MODEL}",Hostname="{machine}",DCGM_FI_DRIVER_VERSION="570.124.06"'
    )
    return uuid, labels


def exporters() -> AbstractContextManager[str]:
    """Serve /plain and /full on loopback, of GPUs that begin now; yields host:port."""
    start_s = time.monotonic()
    return served(lambda name: page(name, time.monotonic() - start_s).encode())


def scraping(address: str, folder: Path) -> Mapping[str, Any]:
    """The prometheus.yml over both machines, with the rules each second."""
    rules = []
    for name in FILES:
        content = yaml.safe_load((RULES / name).read_text(encoding="utf-8"))
        for group in content["groups"]:
            group["interval"] = f"{SCRAPE_S}s"
        rules.append(write_config(folder / name, content))
    pace = f"{SCRAPE_S}s"
    jobs = [
        {
            "job_name": "dcgm",
            "static_configs": [
                {
                    "targets": [address],
                    "labels": {
                        "__metrics_path__": f"/{machine}",
                        "instance": f"10.0.0.{number}:9400",
                        "cluster": "berlin",
                    },
                }
                for number, machine in enumerate((PLAIN, FULL), start=5)
            ],
        }
    ]
    return {
        "global": {"scrape_interval": pace, "evaluation_interval": pace},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": jobs,
    }
