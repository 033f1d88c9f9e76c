"""Every metric joulefloor exports, as a row: the one place where a metric name is written.

METRICS.md is generated from these rows; rules, dashboards and documents are checked against them.
Units are base units and part of the name. Counters of joules are cumulative since the daemon
started and never decrease. A label `method` says how a number was obtained: measured (a meter),
modelled (a documented model) or simulated (the demo).
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Kind(StrEnum):
    """Prometheus types in use; INFO is a gauge of constant 1 whose labels are the message."""

    COUNTER = "counter"
    GAUGE = "gauge"
    INFO = "info"


class Metric(NamedTuple):
    """One row: the exposed name, its type, base unit, labels in contract order, and its help."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    help: str
    since: str


def _counter(name: str, unit: str, labels: str, text: str, since: str = "0.1.0") -> Metric:
    return Metric(name, Kind.COUNTER, unit, tuple(labels.split()), text, since)


def _gauge(name: str, unit: str, labels: str, text: str, since: str = "0.1.0") -> Metric:
    return Metric(name, Kind.GAUGE, unit, tuple(labels.split()), text, since)


def _info(name: str, labels: str, text: str, since: str = "0.1.0") -> Metric:
    return Metric(name, Kind.INFO, "", tuple(labels.split()), text, since)


NODE_ENERGY = _counter(
    "joulefloor_node_energy_joules_total",
    "joules",
    "source method",
    "Energy into the whole machine, from the elected node meter.",
)
NODE_POWER = _gauge(
    "joulefloor_node_power_watts",
    "watts",
    "source method",
    "Power into the whole machine, mean since the node meter last moved.",
)
COMPONENT_ENERGY = _counter(
    "joulefloor_component_energy_joules_total",
    "joules",
    "component device source method",
    "Energy of one component, from its elected meter; components are disjoint, so sums are right.",
)
COMPONENT_POWER = _gauge(
    "joulefloor_component_power_watts",
    "watts",
    "component device source method",
    "Power of one component, mean since its elected meter last moved.",
)
COMPONENT_STATIC_POWER = _gauge(
    "joulefloor_component_static_power_watts",
    "watts",
    "component device",
    "Power the component draws when idle, learned in quiet minutes; dynamic is power minus static.",
)
COMPONENT_POWER_LIMIT = _gauge(
    "joulefloor_component_power_limit_watts",
    "watts",
    "component device limit",
    "Power limit of the component: enforced (in force now); default, min and max where the source "
    "tells all details.",
)
PART_ENERGY = _counter(
    "joulefloor_part_energy_joules_total",
    "joules",
    "component device part source method",
    "Energy of a part inside a component (core, uncore, memory); never add it to the component.",
)
PART_POWER = _gauge(
    "joulefloor_part_power_watts",
    "watts",
    "component device part source method",
    "Power of a part inside a component; never add it to the component.",
)
NODE_COMPONENT_ENERGY = _counter(
    "joulefloor_node_component_energy_joules_total",
    "joules",
    "component method",
    "Energy of all devices of one component on this machine, so that fleets read one series each.",
)
ALTERNATE_ENERGY = _counter(
    "joulefloor_alternate_energy_joules_total",
    "joules",
    "level component device source method",
    "Energy seen by meters that were not elected, for cross-checks; never add it to anything.",
)
WORKLOAD_ENERGY = _counter(
    "joulefloor_workload_energy_joules_total",
    "joules",
    "component workload_kind workload_namespace workload_pod share",
    "Energy of one component billed to one workload (pod, container, job, guest, service); the "
    "kinds system, idle and unattributed close the sum. share: dynamic or static.",
)
NAMESPACE_ENERGY = _counter(
    "joulefloor_namespace_energy_joules_total",
    "joules",
    "component workload_kind workload_namespace share",
    "The same energy by namespace and kind; it stays when the workload has ended, and its sum over "
    "a component is the energy of the component.",
)
OWNER_ENERGY = _counter(
    "joulefloor_owner_energy_joules_total",
    "joules",
    "workload_namespace workload_owner share",
    "Energy of the pods of one owner, all components together; it stays when they have ended. The "
    "owner (Deployment, StatefulSet, DaemonSet, Job, CronJob) is derived from the name of the pod, "
    "which is its own owner if it fits no rule; beyond 1,000 the labels are empty.",
)
WORKLOAD_DEVICE_SHARE = _gauge(
    "joulefloor_workload_device_share_ratio",
    "ratio",
    "component device workload_kind workload_namespace workload_pod division",
    "Share of a device's dynamic energy that a workload which holds it is billed for. division: "
    "whole (it alone), equal (by what each holds) or activity (by what each does).",
)
WORKLOAD_RESIDUAL = _gauge(
    "joulefloor_workload_residual_ratio",
    "ratio",
    "component",
    "Energy of the component in the last minute that is on no bill, or on two, as a share of it: "
    "0, or there is a bug.",
)
SELF_ENERGY = _counter(
    "joulefloor_self_energy_joules_total",
    "joules",
    "method",
    "Energy this daemon used itself: its share of CPU time times the energy of the CPUs.",
)

UTILIZATION = _gauge(
    "joulefloor_utilization_ratio",
    "ratio",
    "component device engine",
    "Share of the time in which the engine was in use, 0 to 1, over the last sampling period.",
)
TEMPERATURE = _gauge(
    "joulefloor_temperature_celsius",
    "celsius",
    "component device sensor",
    "Temperature at the named sensor.",
)
TEMPERATURE_MARGIN = _gauge(
    "joulefloor_temperature_margin_celsius",
    "celsius",
    "component device sensor",
    "Degrees left until the device slows down; 0 or less means that it does.",
)
REFERENCE_TEMPERATURE = _gauge(
    "joulefloor_reference_temperature_kelvin",
    "kelvin",
    "reference method",
    "Temperature of the heat sink (inlet air or coolant) that floors and entropy refer to.",
)
LANDAUER = _gauge(
    "joulefloor_landauer_joules_per_bit",
    "joules_per_bit",
    "component device reference",
    "k T ln 2 at the sink or die temperature: the least heat for erasing one bit. Not a target.",
)
FAN_SPEED = _gauge(
    "joulefloor_fan_speed_rpm", "rpm", "device fan", "Fan speed in revolutions per minute."
)
FAN_SPEED_RATIO = _gauge(
    "joulefloor_fan_speed_ratio",
    "ratio",
    "device fan",
    "Fan or cooling device level as a share of its maximum, 0 to 1.",
)
CLOCK = _gauge(
    "joulefloor_clock_hertz",
    "hertz",
    "component device clock",
    "Clock frequency: mean and max over the cores of a package, or the named clock of a device.",
)
THROTTLE = _counter(
    "joulefloor_throttle_seconds_total",
    "seconds",
    "component device reason",
    "Time in which the device was held back, by reason; most reasons appear with their first time.",
)
MEMORY = _gauge(
    "joulefloor_memory_bytes", "bytes", "component device state", "Memory: used and total."
)
LINK = _counter(
    "joulefloor_link_bytes_total",
    "bytes",
    "component device link direction",
    "Bytes moved over a link: network (receive, transmit), disk (read, write) and others; those of "
    "a GPU appear with their first byte, those of its PCIe only where the source tells all "
    "details.",
)
OPERATIONS = _counter(
    "joulefloor_operations_total",
    "",
    "component device precision source method",
    "Arithmetic operations done, from hardware activity times the documented rate of the pipe; "
    "a lower bound where one pipe serves several precisions. Most precisions appear with their "
    "first operation.",
)
PIPE_CYCLES = _counter(
    "joulefloor_pipe_cycles_total",
    "",
    "component device pipe",
    "Clock cycles since the machine started in which a pipe of the multiprocessors worked, as the "
    "driver counts them, only where the source tells all details. pipe: elapsed (all cycles; what "
    "the others are divided by), sm (with any work), tensor (any matrix pipe), hmma, imma, dmma, "
    "dfma, int, fp64, fp32, fp16.",
)
PERFORMANCE_STATE = _gauge(
    "joulefloor_performance_state",
    "",
    "component device",
    "Performance state of the device: 0 is the fastest, 15 the slowest; only where the source "
    "tells all details.",
)
DEVICE_ERRORS = _counter(
    "joulefloor_device_errors_total",
    "",
    "component device error",
    "Errors the device itself counts: xid (all), xid_N (code N alone), ecc_corrected, "
    "ecc_uncorrected, row_remap, row_remap_failure, pcie_replay; all but xid appear with their "
    "first count.",
)
DEVICE_CAPABILITY = _info(
    "joulefloor_device_capability_info",
    "component device capability state",
    "What the driver does not give for this device: unsupported, denied or unknown_peak; "
    "a capability without a series here is read.",
)
DRIVER_INFO = _info(
    "joulefloor_driver_info", "vendor version", "Version of the loaded driver of a vendor."
)
DEVICE_INFO = _info(
    "joulefloor_device_info",
    "component device vendor model",
    "Names of a device; join on component and device.",
)

SOURCE_UP = _gauge(
    "joulefloor_source_up",
    "",
    "source",
    "1 if the last read of the source gave at least one reading in time, else 0.",
)
SOURCE_ERRORS = _counter(
    "joulefloor_source_errors_total",
    "",
    "source reason",
    "Failed reads of the source or of one of its channels, by reason.",
)
SOURCE_FAULTS = _gauge(
    "joulefloor_source_faults",
    "",
    "source reason",
    "Channels of the source (or the source itself, as 1) that give nothing now, by reason.",
)
SOURCE_READ = _gauge(
    "joulefloor_source_read_seconds", "seconds", "source", "Duration of the last read."
)
SOURCE_LAST_SUCCESS = _gauge(
    "joulefloor_source_last_success_timestamp_seconds",
    "seconds",
    "source",
    "Unix time of the last read that gave at least one reading, of a source that gives none now.",
)
METER_EVENTS = _counter(
    "joulefloor_meter_events_total",
    "",
    "source component device event",
    "What went wrong with a meter and was not counted: wrap, reset, gap, rejected (physically "
    "impossible), frozen, mirrored, disagreement.",
)
METER_GAP = _counter(
    "joulefloor_meter_gap_seconds_total",
    "seconds",
    "source component device",
    "Time for which a meter gave no energy or only a lower bound.",
)
METER_UPDATE = _gauge(
    "joulefloor_meter_update_period_seconds",
    "seconds",
    "source component device",
    "How often a power meter is read anew by its own device, as measured; only where the source "
    "tells all details.",
)

TICKS = _counter(
    "joulefloor_ticks_total", "", "", "Ticks of the ledger; one each sampling tick, else it hangs."
)
TICK_LATENESS = _gauge(
    "joulefloor_tick_lateness_seconds",
    "seconds",
    "",
    "How late the last tick began, behind its instant on the monotonic clock.",
)
SERIES = _gauge("joulefloor_exported_series", "", "", "Series in the last snapshot.")
BUILD_INFO = _info(
    "joulefloor_build_info", "version python", "Version of the daemon and of Python."
)

PROCESS_CPU = _counter(
    "process_cpu_seconds_total", "seconds", "", "Total user and system CPU time spent in seconds."
)
PROCESS_RSS = _gauge("process_resident_memory_bytes", "bytes", "", "Resident memory size in bytes.")
PROCESS_VSZ = _gauge("process_virtual_memory_bytes", "bytes", "", "Virtual memory size in bytes.")
PROCESS_START = _gauge(
    "process_start_time_seconds",
    "seconds",
    "",
    "Start time of the process since unix epoch in seconds.",
)
PROCESS_FDS = _gauge("process_open_fds", "", "", "Number of open file descriptors.")
PROCESS_MAX_FDS = _gauge("process_max_fds", "", "", "Maximum number of open file descriptors.")

INFERENCES = _counter(
    "joulefloor_inferences_total",
    "",
    "model",
    "Inferences served, counted by an instrumented process; simulated in the demo.",
)
INFERENCE_TOKENS = _counter(
    "joulefloor_inference_tokens_total",
    "",
    "model direction",
    "Tokens by direction (input: computed prompt tokens, output: generated tokens).",
)

INFERENCE_OPERATIONS = _counter(
    "joulefloor_inference_operations_total",
    "",
    "model precision",
    "Arithmetic operations of the inferences, counted by an instrumented process.",
)
INFERENCE_BYTES = _counter(
    "joulefloor_inference_bytes_total",
    "bytes",
    "model kind",
    "Bytes that the tensors of the inferences moved: kind read or write.",
)
INPUT_ENTROPY = _counter(
    "joulefloor_inference_input_entropy_bits_total",
    "bits",
    "model",
    "Shannon entropy of the inputs, which are forgotten after the inference.",
)
OUTPUT_ENTROPY = _counter(
    "joulefloor_inference_output_entropy_bits_total",
    "bits",
    "model kind",
    "Shannon entropy of the outputs. kind: marginal (of all answers, what the output holds) or "
    "conditional (of the answer when the input is known).",
)
INFERENCE_REQUESTS = _gauge(
    "joulefloor_inference_requests",
    "",
    "model state",
    "Requests of an instrumented process now. state: running (in its batch) or waiting.",
)
TRAINING_STEPS = _counter(
    "joulefloor_training_steps_total", "", "model", "Training steps of an instrumented process."
)
MODEL_WORKLOAD = _info(
    "joulefloor_model_workload_info",
    "model workload_namespace workload_pod",
    "Which workload a process runs the model in, one per process and model; needed where the "
    "target labels of the process do not name its pod.",
)
WORKLOAD_WORKERS = _info(
    "joulefloor_workload_workers_info",
    "workload_namespace workload",
    "Pods of the workload that show no metrics work for one that does; stated by its owner.",
)
MODEL_PARAMETERS = _gauge(
    "joulefloor_model_parameters",
    "",
    "model",
    "Active parameters of the model; a token costs about two operations for each.",
)
MODEL_OPERAND_BITS = _gauge(
    "joulefloor_model_operand_bits",
    "bits",
    "model",
    "Width of the operands that the model computes with: 16 for bf16, 8 for fp8 and int8.",
)
MODEL_BUDGET = _gauge(
    "joulefloor_model_energy_budget_joules_per_token",
    "joules",
    "model",
    "Energy at the boundary node that an output token of the model may cost; stated by its owner.",
)
MODEL_TRAINING_ENERGY = _gauge(
    "joulefloor_model_training_energy_joules",
    "joules",
    "model",
    "Energy that the training of the model took; stated by its owner or measured in training.",
)
CONFIGURED_PUE = _gauge(
    "joulefloor_configured_pue_ratio",
    "ratio",
    "",
    "Power usage effectiveness that the operator of the site states, 1 or more.",
)

CARBON_INTENSITY = _gauge(
    "joulefloor_grid_carbon_intensity_grams_per_kilowatt_hour",
    "grams_per_kilowatt_hour",
    "zone basis source",
    "CO2 equivalent of a kilowatt hour of the grid in that zone. basis: average (all that the grid "
    "generates), market (what contracts and certificates say) or marginal (one more).",
)
FACILITY_ENERGY = _counter(
    "joulefloor_facility_energy_joules_total",
    "joules",
    "site meter role source method",
    "Energy through a meter of the building. role: total (all of the site) or it (what the "
    "machines take); PUE is total over it.",
)

METRICS: tuple[Metric, ...] = tuple(row for row in globals().values() if isinstance(row, Metric))
"""All rows, in the order in which they are exposed and documented."""

POWER_OF = {
    NODE_ENERGY: NODE_POWER,
    COMPONENT_ENERGY: COMPONENT_POWER,
    PART_ENERGY: PART_POWER,
}
"""The gauge that shows the power of an energy counter's account."""

LEVEL_OF = {NODE_ENERGY: "node", COMPONENT_ENERGY: "component", PART_ENERGY: "part"}
"""The label value `level` under which a meter of that counter appears when it is not elected."""
