"""What the rules over single GPUs must make of the samples: every device, every value.

A value of the counter of joules is that of the sample; the tests let it run on from there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

JOB: Final = "joulefloor-adapters"
VARYING: Final = {
    "component_power_limit_watts": ("limit",),
    "utilization_ratio": ("engine",),
    "temperature_celsius": ("sensor",),
    "temperature_margin_celsius": ("sensor",),
    "fan_speed_ratio": ("fan",),
    "clock_hertz": ("clock",),
    "memory_bytes": ("state",),
    "throttle_seconds_total": ("reason",),
    "device_errors_total": ("error",),
    "link_bytes_total": ("link", "direction"),
}
"""Labels that tell the series of one device and metric apart; the metric without its prefix."""
COUNTED: Final = "joulefloor_component_energy_joules_total"
"""The counter that runs on in the tests."""
FAN: Final = "fan_speed_ratio"
"""A fan belongs to a device, not to a component."""


class Device(NamedTuple):
    """A GPU: where it is, what it is, who shows it, and its values by metric and label."""

    machine: str
    name: str
    vendor: str
    model: str
    source: str
    values: Mapping[str, float | Mapping[str, float]]

    def series(self) -> Iterator[tuple[str, Mapping[str, str], float]]:
        """Every series of the GPU: metric, labels, value."""
        place = {"instance": self.machine, "device": self.name, "job": JOB, "component": "gpu"}
        yield "joulefloor_device_info", {**place, "vendor": self.vendor, "model": self.model}, 1
        for name, found in self.values.items():
            metric = f"joulefloor_{name}"
            if isinstance(found, float | int):
                yield metric, {**place, "source": self.source, "method": "measured"}, found
                continue
            of_metric = place.items() - {("component", "gpu")} if name == FAN else place.items()
            for words, value in found.items():
                more = dict(zip(VARYING[name], words.split(), strict=True))
                yield metric, dict(of_metric) | more, value


DRIVERS: Final = {
    "old-names": ("nvidia", "550.54.15"),
    "new-names": ("nvidia", "580.82.07"),
    "superchip": ("nvidia", "560.35.03"),
    "smi": ("nvidia", "595.80"),
    "nvml": ("nvidia", "590.48.01"),
    "instinct": ("amd", "6.12.12"),
}
"""Vendor and version of the driver, by machine; the exporter of mi250 does not tell."""
DEVICES: Final = (
    Device(
        "instinct",
        "e1ff74a1-0000-1000-80a4-000000000000",
        "amd",
        "AMD Instinct MI300X",
        "amd",
        {
            "clock_hertz": {"graphics": 2_050_000_000},
            "component_energy_joules_total": 18_000_000,
            "component_power_watts": 612,
            "device_errors_total": {"ecc_corrected": 5},
            "link_bytes_total": {"xgmi receive": 5_120_000, "xgmi transmit": 4_096_000},
            "memory_bytes": {"total": 206_141_652_992, "used": 157_286_400_000},
            "temperature_celsius": {"hotspot": 71, "memory": 63},
            "utilization_ratio": {"busy": 0.98, "memory": 0.41, "tensor": 0.475},
        },
    ),
    Device(
        "instinct",
        "e2ff74a1-0000-1000-80a4-000000000000",
        "amd",
        "AMD Instinct MI300X",
        "amd",
        {
            "clock_hertz": {"graphics": 132_000_000},
            "component_power_watts": 140,
            "memory_bytes": {"total": 206_141_652_992, "used": 314_572_800},
            "temperature_celsius": {"hotspot": 42, "memory": 38},
            "utilization_ratio": {"busy": 0, "memory": 0},
        },
    ),
    Device(
        "instinct",
        "e3ff74a1-0000-1000-80a4-000000000000",
        "amd",
        "AMD Instinct MI300X",
        "amd",
        {
            "clock_hertz": {"graphics": 1_200_000_000},
            "component_power_watts": 590,
            "device_errors_total": {"ecc_uncorrected": 1},
            "temperature_celsius": {"hotspot": 60, "memory": 52},
        },
    ),
    Device(
        "mi250",
        "gpu-0",
        "amd",
        "D65209",
        "amd",
        {
            "clock_hertz": {"graphics": 1_700_000_000},
            "component_power_watts": 420,
            "memory_bytes": {"total": 68_702_699_520, "used": 1_048_576_000},
            "temperature_celsius": {"die": 55, "memory": 59},
            "utilization_ratio": {"busy": 0.8},
        },
    ),
    Device(
        "mi250",
        "gpu-1",
        "amd",
        "D65209",
        "",
        {
            "clock_hertz": {"graphics": 1_600_000_000},
            "memory_bytes": {"total": 68_702_699_520, "used": 2_097_152_000},
            "temperature_celsius": {"die": 52, "memory": 57},
            "utilization_ratio": {"busy": 0.6},
        },
    ),
    Device(
        "new-names",
        "GPU-b0000000-0000-4000-8000-000000000000",
        "nvidia",
        "NVIDIA H100 80GB HBM3",
        "dcgm",
        {
            "clock_hertz": {"sm": 1_755_000_000},
            "component_energy_joules_total": 12_300_000,
            "component_power_limit_watts": {"enforced": 700},
            "component_power_watts": 415.75,
            "device_errors_total": {"xid": 4, "xid_13": 3, "xid_31": 1},
            "link_bytes_total": {"nvlink receive": 58_000_000, "nvlink transmit": 61_000_000},
            "memory_bytes": {"total": 85_520_809_984, "used": 73_400_320_000},
            "temperature_celsius": {"die": 66, "memory": 81},
            "temperature_margin_celsius": {"die": 21},
            "throttle_seconds_total": {
                "hw_thermal_slowdown": 60,
                "sw_power_cap": 130,
                "sw_thermal_slowdown": 25,
            },
            "utilization_ratio": {"busy": 0.93, "dram": 0.48, "tensor": 0.55},
        },
    ),
    Device(
        "new-names",
        "GPU-b1111111-1111-4111-8111-111111111111",
        "nvidia",
        "NVIDIA H100 80GB HBM3",
        "dcgm",
        {
            "clock_hertz": {"sm": 1_980_000_000},
            "component_power_limit_watts": {"enforced": 700},
            "component_power_watts": 70,
            "device_errors_total": {"row_remap": 1, "xid": 0},
            "memory_bytes": {"total": 85_520_809_984, "used": 524_288_000},
            "temperature_celsius": {"die": 38, "memory": 45},
            "temperature_margin_celsius": {"die": 49},
            "throttle_seconds_total": {"sw_power_cap": 0, "sync_boost": 2},
            "utilization_ratio": {"busy": 0.25, "memory": 0.07, "tensor": 0},
        },
    ),
    Device(
        "new-names",
        "GPU-b2222222-2222-4222-8222-222222222222",
        "nvidia",
        "NVIDIA H100 80GB HBM3",
        "dcgm",
        {
            "clock_hertz": {"sm": 345_000_000},
            "component_power_limit_watts": {"enforced": 700},
            "component_power_watts": 65.25,
            "device_errors_total": {"row_remap_failure": 1, "xid": 0},
            "memory_bytes": {"total": 84_934_656_000, "used": 0},
            "temperature_celsius": {"die": 30, "memory": 36},
            "temperature_margin_celsius": {"die": 60},
            "throttle_seconds_total": {"hw_power_brake_slowdown": 9, "sw_power_cap": 0},
            "utilization_ratio": {"memory": 0},
        },
    ),
    Device(
        "nvml",
        "GPU-e0000000-0000-4000-8000-000000000000",
        "nvidia",
        "NVIDIA H100 80GB HBM3",
        "nvidia_gpu_exporter",
        {
            "clock_hertz": {"sm": 1_755_000_000},
            "component_energy_joules_total": 20_700_000,
            "component_power_limit_watts": {"enforced": 700},
            "component_power_watts": 655.125,
            "device_errors_total": {
                "ecc_corrected": 7,
                "row_remap": 2,
                "xid": 3,
                "xid_13": 2,
                "xid_79": 1,
            },
            "memory_bytes": {"total": 85_520_809_984, "used": 73_400_320_000},
            "temperature_celsius": {"die": 66, "memory": 80},
            "temperature_margin_celsius": {"die": 21},
            "throttle_seconds_total": {
                "hw_thermal_slowdown": 60.25,
                "sw_power_cap": 130.5,
                "sw_thermal_slowdown": 25.125,
                "sync_boost": 1.5,
            },
            "utilization_ratio": {"busy": 0.99, "memory": 0.45},
        },
    ),
    Device(
        "nvml",
        "GPU-e1111111-1111-4111-8111-111111111111",
        "nvidia",
        "NVIDIA GH200 480GB",
        "nvidia_gpu_exporter",
        {
            "clock_hertz": {"sm": 1_980_000_000},
            "component_power_limit_watts": {"enforced": 900},
            "component_power_watts": 310,
            "device_errors_total": {"ecc_uncorrected": 1, "row_remap_failure": 1},
            "memory_bytes": {"total": 102_625_181_696, "used": 0},
            "temperature_celsius": {"die": 41, "memory": 47},
            "temperature_margin_celsius": {"die": 46},
            "throttle_seconds_total": {"hw_power_brake_slowdown": 4.5, "sw_power_cap": 0},
            "utilization_ratio": {"busy": 0, "memory": 0},
        },
    ),
    Device(
        "old-names",
        "GPU-a0000000-0000-4000-8000-000000000000",
        "nvidia",
        "NVIDIA A100-SXM4-80GB",
        "dcgm",
        {
            "clock_hertz": {"sm": 1_410_000_000},
            "component_energy_joules_total": 9_000_000,
            "component_power_limit_watts": {"enforced": 400},
            "component_power_watts": 311.25,
            "device_errors_total": {"ecc_corrected": 12, "xid": 0},
            "link_bytes_total": {"nvlink receive": 5_000_000, "nvlink transmit": 4_000_000},
            "memory_bytes": {"total": 85_899_345_920, "used": 64_424_509_440},
            "temperature_celsius": {"die": 61, "memory": 72},
            "temperature_margin_celsius": {"die": 31},
            "throttle_seconds_total": {
                "sw_power_cap": 7015.662857,
                "sync_boost": 1,
                "thermal": 2.5,
            },
            "utilization_ratio": {"busy": 0.97, "dram": 0.33, "tensor": 0.61},
        },
    ),
    Device(
        "old-names",
        "GPU-a1111111-1111-4111-8111-111111111111",
        "nvidia",
        "NVIDIA A100-SXM4-80GB",
        "dcgm",
        {
            "clock_hertz": {"sm": 1_410_000_000},
            "component_energy_joules_total": 6_000_000,
            "component_power_limit_watts": {"enforced": 400},
            "component_power_watts": 188.5,
            "device_errors_total": {
                "ecc_uncorrected": 2,
                "row_remap": 2,
                "row_remap_failure": 1,
                "xid": 1,
                "xid_79": 1,
            },
            "temperature_celsius": {"die": 44, "memory": 51},
            "temperature_margin_celsius": {"die": 48},
            "throttle_seconds_total": {"board_limit": 3, "reliability": 4, "sw_power_cap": 0},
        },
    ),
    Device(
        "old-names",
        "GPU-a2222222-2222-4222-8222-222222222222",
        "nvidia",
        "Tesla T4",
        "dcgm",
        {
            "clock_hertz": {"sm": 585_000_000},
            "component_power_limit_watts": {"enforced": 70},
            "component_power_watts": 27,
            "device_errors_total": {"xid": 0},
            "fan_speed_ratio": {"fan1": 0.35},
            "temperature_celsius": {"die": 39},
            "temperature_margin_celsius": {"die": 57},
            "utilization_ratio": {"busy": 0.42, "memory": 0.09},
        },
    ),
    Device(
        "smi",
        "GPU-d0000000-0000-4000-8000-000000000000",
        "nvidia",
        "NVIDIA L40S",
        "nvidia_gpu_exporter",
        {
            "clock_hertz": {"sm": 2_520_000_000},
            "component_power_limit_watts": {"enforced": 350},
            "component_power_watts": 71.5,
            "fan_speed_ratio": {"fan1": 0.41},
            "memory_bytes": {"total": 48_305_799_168, "used": 17_179_869_184},
            "temperature_celsius": {"die": 58},
            "utilization_ratio": {"busy": 0.74, "memory": 0.31},
        },
    ),
    Device(
        "smi",
        "GPU-d1111111-1111-4111-8111-111111111111",
        "nvidia",
        "NVIDIA L40S",
        "nvidia_gpu_exporter",
        {
            "clock_hertz": {"sm": 210_000_000},
            "component_power_limit_watts": {"enforced": 350},
            "component_power_watts": 33.25,
            "memory_bytes": {"total": 48_305_799_168, "used": 0},
            "temperature_celsius": {"die": 31},
            "utilization_ratio": {"busy": 0, "memory": 0},
        },
    ),
    Device(
        "superchip",
        "GPU-c0000000-0000-4000-8000-000000000000",
        "nvidia",
        "NVIDIA GH200 480GB",
        "dcgm",
        {
            "component_power_watts": 402.5,
        },
    ),
    Device(
        "superchip",
        "GPU-c1111111-1111-4111-8111-111111111111",
        "nvidia",
        "NVIDIA GH200 480GB",
        "dcgm",
        {
            "component_power_watts": 97.5,
        },
    ),
)
