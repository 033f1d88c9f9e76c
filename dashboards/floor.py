"""What is asked of the floor k T ln 2: distances from it, by model, device and node."""

from __future__ import annotations

from dashboards.models import KEY, POWER, at, per_model
from dashboards.promql import NODE, level, rate, recorded
from joulefloor import catalogue

FLOOR = recorded("cluster:joulefloor_floor_joules_per_bit:ratio", 'reference="sink"').by("cluster")
BITS = recorded("model:joulefloor_erased_bits:rate5m").expr
ARITH = per_model("model:joulefloor_erased_bits:rate5m", 'definition="arith"')
OPERATIONS = per_model("model:joulefloor_operations:rate5m")
WATTS = at(POWER, "device")
"""Of the accelerators, or of the CPUs where a model has none: what operations are set against."""
GAP_NAME = "model:joulefloor_landauer_gap:ratio5m"
GAP = per_model(GAP_NAME, 'definition="arith",reference="sink"')
GAP_SINK = recorded(GAP_NAME, 'reference="sink"').expr
GAP_DIE = recorded(GAP_NAME, 'reference="die"').expr
FLOOR_WATTS = f"({ARITH} and {WATTS}) * on (cluster) group_left () {FLOOR.expr}"
GAP_ARITH = f"sum({WATTS} and {ARITH} and on (cluster) {FLOOR.expr}) / sum({FLOOR_WATTS})"
BY_DEFINITION = (
    # Watts are those of the models for which the definition has bits, where the floor is known.
    f"sum by (definition) ((({BITS} and on (cluster) {FLOOR.expr}) ^ 0) "
    f"* on ({KEY}) group_left () {WATTS}) / sum by (definition) "
    f"(({BITS} and on ({KEY}) {WATTS}) * on (cluster) group_left () {FLOOR.expr})"
)
DEVICE = f"{NODE}, component, device"
DEVICE_OPERATIONS = rate(catalogue.OPERATIONS).expr
DEVICE_WATTS = f"sum by ({DEVICE}) ({rate(catalogue.COMPONENT_ENERGY).expr})"
DEVICE_JOULES = f"{DEVICE_WATTS} / (sum by ({DEVICE}) ({DEVICE_OPERATIONS}) > 0)"
DEVICE_BITS = (
    f"sum by ({DEVICE}) ({DEVICE_OPERATIONS} * on (precision) group_left () "
    f"precision:joulefloor_operand_bits:max) unless on ({DEVICE}) "
    f"({DEVICE_OPERATIONS} unless on (precision) precision:joulefloor_operand_bits:max)"
)
"""Erased by the operations of a device; known only where the width of every precision is."""
DEVICE_FLOOR = level(catalogue.LANDAUER, 'reference="sink"').by(*DEVICE.split(", ")).expr
DEVICE_GAP = f"{DEVICE_WATTS} / (({DEVICE_BITS}) * {DEVICE_FLOOR} > 0)"
NODE_GAP = recorded("node:joulefloor_landauer_gap:ratio5m", 'definition="arith",reference="sink"')
PER_OPERATION = recorded("model:joulefloor_joules_per_operation:ratio5m").expr
APART = (
    # Once for each way in which the operations are counted.
    f"{recorded('model:joulefloor_operations:rate5m').expr} ^ 0 * on ({KEY}) group_left () "
    f"{per_model('model:joulefloor_operation_disagreement:ratio')}"
)
LINKS = "link:joulefloor_energy_joules_per_bit:max"
DYNAMIC = recorded("cluster:joulefloor_dynamic_power_watts:diff")
STATIC = recorded("cluster:joulefloor_static_power_watts:sum")
MOVING = recorded("cluster:joulefloor_io_power_watts:sum")


def leading(expr: str) -> str:
    """The ten devices with the highest values; of a UUID its first eight digits are enough."""
    return f'label_replace(topk(10, {expr}), "device", "$1", "device", "(GPU-.{{8}}).+")'
