"""What is asked of the floor k T ln 2: distances from it, by model, device and node."""

from __future__ import annotations

from typing import Final

from dashboards.models import KEY, POWER, at, per_model
from dashboards.promql import NODE, level, rate, recorded
from joulefloor import catalogue
from joulefloor.owners import OWNER

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
NODE_KEY = f"{NODE}, component"
WORKLOAD = "cluster, workload_namespace, workload"
ACCELERATORS = 'component=~"gpu|tpu"'
COOLER = 'component="cryocooler"'
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


def gap_of_node(reference: str) -> str:
    """Gaps of nodes and their components, with a label `definition`."""
    return f"({JOULES_PER_BIT}) / on ({NODE_KEY}) group_left () {_floor_of_node(reference)}"


def _floor_of_node(reference: str) -> str:
    """Of the mean device of a component. A die colder than the sink counts as the sink."""
    devices = level(catalogue.LANDAUER, f'reference="{reference}"').expr
    if reference == "sink":
        return f"avg by ({NODE_KEY}) ({devices})"
    both = f"avg by ({NODE_KEY}, reference) ({level(catalogue.LANDAUER).expr})"
    return f"(max by ({NODE_KEY}) ({both}) and avg by ({NODE_KEY}) ({devices}))"


def _watts_of_node() -> str:
    """Of its accelerators, and of what cools them."""
    power = "node:joulefloor_component_power_watts:sum"
    devices = f"sum by ({NODE_KEY}) ({recorded(power, ACCELERATORS).expr})"
    cooler = f"sum by ({NODE}) ({recorded(power, COOLER).expr})"
    return f"({devices} + on ({NODE}) group_left () {cooler} or {devices})"


def _bits_of_node(definition: str) -> str:
    """Where all that hold accelerators of the node tell their bits."""
    pods = level(catalogue.WORKLOAD_DEVICE_SHARE, ACCELERATORS).by(
        *NODE_KEY.split(", "), "workload_namespace", "workload_pod"
    )
    held = (
        f"sum by ({NODE_KEY}, workload_namespace, workload) "
        f'(label_replace({pods.expr}, "workload", "$1", "workload_pod", "{OWNER}"))'
    )
    name = "workload:joulefloor_erased_bits_per_accelerator:ratio5m"
    bits = recorded(name, f'definition="{definition}"').expr
    return (
        f"(sum by ({NODE_KEY}) ({held} * on ({WORKLOAD}) group_left () {bits}) "
        f"unless on ({NODE_KEY}) ({held} unless on ({WORKLOAD}) {bits}))"
    )


_JOULES_PER_BIT: Final = {
    "arith": f"sum by ({NODE_KEY}) ({NODE_GAP.expr}) * {_floor_of_node('sink')}",
    "op1": f"sum by ({NODE_KEY}) ({recorded('node:joulefloor_joules_per_operation:ratio5m').expr})",
    "write": f"{_watts_of_node()} / ({_bits_of_node('write')} > 0)",
    "logical": f"{_watts_of_node()} / ({_bits_of_node('logical')} > 0)",
}
JOULES_PER_BIT: Final = " or ".join(
    f'label_replace({joules}, "definition", "{name}", "", "")'
    for name, joules in _JOULES_PER_BIT.items()
)
"""Of nodes and their components, by definition of an erased bit.

Gaps by `arith` and energies of operations are recorded; bits that are written or forgotten are
those of the workloads whose accelerators the node has.
"""
