"""Gaps of a node by every definition and reference: what the panel and SERVERS.md answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.dashboards.board import boards
from tests.prom.answers import expect
from tests.rulefiles import ALERTS

if TYPE_CHECKING:
    from pathlib import Path

SERVERS_MD: Final = (ALERTS / "SERVERS.md").read_text(encoding="utf-8")
PANEL: Final = "Joulefloor / Landauer / Nodes, by definition of an erased bit ["
NODE: Final = 'cluster="c1",job="joulefloor",instance="n1"'
GPU: Final = f'{NODE},component="gpu"'
CPU: Final = f'{NODE},component="cpu"'
COLD: Final = 'cluster="c1",job="joulefloor",instance="cold",component="gpu"'
SINK, DIE, COLD_DIE = 2.870978885078724e-21, 3.349475365925178e-21, 3.8279718467716317e-23
"""k T ln 2 at 300 K, 350 K and 4 K."""
JOULES: Final = "node:joulefloor_joules_per_operation:ratio5m"
GAP: Final = 'node:joulefloor_landauer_gap:ratio5m{{definition="arith",reference="sink",{}}}'
FLOOR: Final = "joulefloor_landauer_joules_per_bit"
WATTS: Final = 'node:joulefloor_component_power_watts:sum{{{},method="measured"}}'
HELD: Final = (
    "joulefloor_workload_device_share_ratio"
    '{{{},device="{}",workload_kind="pod",workload_namespace="prod",workload_pod="{}"}}'
)
BITS: Final = (
    "workload:joulefloor_erased_bits_per_accelerator:ratio5m"
    '{{cluster="c1",workload_namespace="prod",workload="{}",definition="{}"}}'
)
FLEET: Final[dict[str, float]] = {
    # An H100 at 700 W and 400 TFLOP/s in bf16, 350 K at its die, beside a CPU without operations.
    f"{JOULES}{{{GPU}}}": 1.75e-12,
    GAP.format(GPU): 3.8096764e7,
    f'{FLOOR}{{{GPU},device="0",reference="sink"}}': SINK,
    f'{FLOOR}{{{GPU},device="0",reference="die"}}': DIE,
    f'{FLOOR}{{{CPU},device="0",reference="sink"}}': SINK,
    WATTS.format(GPU): 700,
    WATTS.format(CPU): 150,
    # Two pods of one workload hold halves of it: 8e12 bits written, 1e6 forgotten each second.
    HELD.format(GPU, "0", "llm-5d4f9c8b7-xk2lp"): 0.5,
    HELD.format(GPU, "0", "llm-5d4f9c8b7-zz2lp"): 0.5,
    BITS.format("llm", "write"): 8e12,
    BITS.format("llm", "logical"): 1e6,
    # 1 W of logic at 4 K and 500 W of cooler: 5.01e-18 J for an operation on 16 bits.
    f"{JOULES}{{{COLD}}}": 5.01e-18,
    GAP.format(COLD): 109.06556,
    f'{FLOOR}{{{COLD},device="0",reference="sink"}}': SINK,
    f'{FLOOR}{{{COLD},device="0",reference="die"}}': COLD_DIE,
    WATTS.format(COLD): 1,
    WATTS.format(COLD.replace("gpu", "cryocooler")): 500,
    # It writes as well, but a pod beside it does not say what.
    HELD.format(COLD, "0", "lab-0"): 0.5,
    HELD.format(COLD, "0", "silent-0"): 0.5,
    BITS.format("lab", "write"): 8e12,
}
# Reference values: 3.809676e7 and 6.095482e8 at 300 K, 3.265437e7 and 5.224699e8 at 350 K. Written:
# 700 W / 8e12 bits/s / floor; forgotten: 700 W / 1e6 bits/s / floor. In decades.
N1: Final = {
    "arith": {"sink": 7.581, "die": 7.514},
    "op1": {"sink": 8.785, "die": 8.718},
    "write": {"sink": 10.484, "die": 10.417},
    "logical": {"sink": 17.387, "die": 17.320},
}
# At 4 K the sink counts: 5.01e-18 J over 16 bits and over one of 2.870979e-21 J.
COLD_NODE: Final = {
    "arith": {"sink": 2.038, "die": 2.038},
    "op1": {"sink": 3.242, "die": 3.242},
}


@pytest.mark.parametrize("major", [2, 3], ids="prometheus{}".format)
def test_the_panel_has_all_definitions_at_both_temperatures(tmp_path: Path, major: int) -> None:
    asks = [ask for board in boards() for ask in board.asks() if ask.where.startswith(PANEL)]
    assert len(asks) == 2
    expected: list[dict[str, float]] = [
        {
            f'{{{labels},definition="{definition}"}}': decades[reference]
            for labels, node in ((GPU, N1), (COLD, COLD_NODE))
            for definition, decades in node.items()
        }
        for reference in ("sink", "die")
    ]

    expect(tmp_path, major, FLEET, dict(zip((ask.filled() for ask in asks), expected, strict=True)))


@pytest.mark.parametrize("definition", N1)
def test_the_document_has_the_expression_of_a_gap_at_the_die(
    tmp_path: Path, definition: str
) -> None:
    section = SERVERS_MD.split("\n## The gap of a node\n")[1].split("\n## ")[0]
    written = dict(re.findall(r"```promql\n# (\w+), .*\n((?s:.+?))```", section))

    expect(
        tmp_path, 3, FLEET, {f"log10({written[definition]})": {f"{{{GPU}}}": N1[definition]["die"]}}
    )
