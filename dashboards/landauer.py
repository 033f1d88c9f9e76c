"""Landauer: how far computing is above the floor k T ln 2, and what makes up the distance."""

from __future__ import annotations

from dashboards.fields import GOOD, WARN, cell
from dashboards.floor import (
    APART,
    ARITH,
    BITS,
    BY_DEFINITION,
    DEVICE_GAP,
    DEVICE_JOULES,
    DYNAMIC,
    FLOOR,
    GAP,
    GAP_ARITH,
    GAP_DIE,
    GAP_SINK,
    LINKS,
    MOVING,
    NODE_GAP,
    OPERATIONS,
    PER_OPERATION,
    STATIC,
    WATTS,
    gap_of_node,
    leading,
)
from dashboards.models import (
    MODEL_CHOICE,
    in_words,
)
from dashboards.panels import bars, graph, note, number
from dashboards.promql import Query, level, recorded
from dashboards.screen import Row, Screen
from dashboards.tables import rows
from dashboards.waterfall import WATERFALLS
from dashboards.words import DECADES, ZEPTO, ZEPTOJOULES_PER_BIT
from joulefloor import catalogue

WORDS = """\
**The floor.** Erasing one bit at temperature T gives off at least **k T ln 2** of heat (Landauer,
1961). In a warm machine room that is about 3 zJ: 0.000 000 000 000 000 000 003 J.

**A decade** is a factor of ten: 7 decades above the floor is ten million times its heat.

**Which bits are erased?** There is more than one answer, so each number names its definition:

- **arith**, used where nothing else is said: an operation on n-bit operands takes two numbers and
  leaves one, so n bits are gone.
- **op1**: one bit for each operation, a convention to compare with.
- **write**: each bit written to memory replaces another.
- **logical**: entropy of what went in minus entropy of what came out. Where a process measures its
  entropies, the only one that binds every machine; from a server's perplexity, an estimate.

The floor is a law for machines that forget. It is no forecast: nothing here says how near to it a
computer can come.
"""
BITS_PER_JOULE = "si:bit/J"

NOW = (
    number(
        FLOOR.total("avg").times(ZEPTO),
        title="The floor",
        unit=ZEPTOJOULES_PER_BIT,
        decimals=2,
        description="k T ln 2 at the temperature of the heat sink, in zeptojoules (1e-21 J): the "
        "least heat for erasing one bit. Mean of the chosen clusters.",
    ),
    number(
        Query(f"log10({GAP_ARITH})"),
        title="Above the floor",
        unit=DECADES,
        decimals=2,
        description="Energy of the accelerators for each bit that the operations of the chosen "
        "models erase (definition: arith), over the floor. In decades: 7 is ten million times.",
    ),
    number(
        Query(GAP_ARITH),
        title="Times the floor",
        unit="sishort",
        decimals=1,
        description="The same as a factor: how many times k T ln 2 each of those bits takes.",
    ),
    number(
        Query(f"sum({WATTS} and {OPERATIONS}) / sum({OPERATIONS} and {WATTS})"),
        title="Energy per operation",
        unit="joule",
        description="Energy of the accelerators over the arithmetic operations of the chosen "
        "models.",
    ),
    number(
        Query(f"sum({ARITH} and {WATTS}) / sum({WATTS} and {ARITH})"),
        title="Bits per joule",
        unit=BITS_PER_JOULE,
        description="Bits erased (definition: arith) for each joule of the accelerators.",
    ),
    number(
        recorded("node:joulefloor_entropy_production_watts_per_kelvin:sum").total(),
        title="Entropy production",
        description="IT power of the chosen nodes over the temperature of their heat sink: all of "
        "it ends there as heat.",
    ),
)

GAPS = (
    note(
        WORDS,
        title="What this page shows",
        size=(8, 13),
        description="The definitions that the numbers on this page rest on.",
    ),
    graph(
        Query(f"log10({GAP})").by("model", operation="max"),
        title="Decades above the floor, by model",
        unit="short",
        size=(8, 13),
        description="Energy of the accelerators for each bit that the operations of a model erase "
        "(definition: arith), over k T ln 2 at the heat sink. The floor is 0; one up is ten times.",
    ),
    graph(
        Query(f"log10({BY_DEFINITION})", "{{definition}}"),
        title="The same, by definition of an erased bit",
        unit="short",
        size=(8, 13),
        description="All chosen models together. The less a definition calls erased, the further "
        "away is its floor. Each is a different question, none is wrong.",
    ),
)

OPERATING = (
    bars(
        Query(leading(DEVICE_JOULES), "{{instance}} {{device}}"),
        title="Energy per operation, by device",
        unit="joule",
        size=(8, 9),
        to_node=True,
        description="The ten devices whose operations take most: energy over operations, as "
        "their counters say. Only devices that count operations are here.",
    ),
    bars(
        Query(leading(f"log10({DEVICE_GAP})"), "{{instance}} {{device}}"),
        title="Decades above the floor, by device",
        unit=DECADES,
        size=(8, 9),
        decimals=2,
        to_node=True,
        description="The ten devices that are furthest above k T ln 2 at the heat sink, for each "
        "bit that an operation erases (definition: arith).",
    ),
    bars(
        Query(f"topk(10, log10({NODE_GAP.expr}))", "{{instance}} {{component}}"),
        title="Decades above the floor, by node",
        unit=DECADES,
        size=(8, 9),
        decimals=2,
        to_node=True,
        description="The same for all devices of a kind in a node, as recorded; the work of a "
        "cryocooler is counted in.",
    ),
    rows(
        {
            "Bits erased": Query(BITS, unit="si:bit/s"),
            "Above the sink": Query(f"log10({GAP_SINK})", unit=DECADES),
            "Above the die": Query(f"log10({GAP_DIE})", unit=DECADES),
        },
        {"model": "Model", "definition": "Definition"},
        title="Models and definitions",
        size=(12, 9),
        first=("Model", "Definition", "Above the sink"),
        sort="Model",
        ascending=True,
        cells={
            "Model": {"custom.width": 180},
            "Above the sink": {"decimals": 2},
            "Above the die": {"decimals": 2},
        },
        description="Bits that each definition calls erased, and decades above k T ln 2 at the "
        "temperature of the heat sink and of the die. A hotter die has a higher floor.",
    ),
    rows(
        {
            "Operations": Query(
                recorded("model:joulefloor_operations:rate5m").expr, unit="si:op/s"
            ),
            "Energy of one": Query(PER_OPERATION, unit="joule"),
            "Sources apart": Query(APART),
        },
        {"model": "Model", "source": "Counted by"},
        title="Operations of the models",
        size=(12, 9),
        first=("Model", "Operations"),
        sort="Operations",
        cells={
            "Model": {"custom.width": 180},
            "Sources apart": {"decimals": 2, **cell(((None, GOOD), (2, WARN)))},
        },
        description="Operations and who counted them: the server, hardware counters, an "
        "instrumented process, or two per parameter and token. Sources apart: the largest count "
        "over the smallest; energy per operation is off by as much.",
    ),
)

NODES = (
    rows(
        {
            "Above the sink": Query(f"log10({gap_of_node('sink')})", unit=DECADES),
            "Above the die": Query(f"log10({gap_of_node('die')})", unit=DECADES),
        },
        {"instance": "Node", "component": "Component", "definition": "Definition"},
        title="Nodes, by definition of an erased bit",
        size=(24, 9),
        first=("Node", "Component", "Definition", "Above the sink"),
        sort="Node",
        ascending=True,
        cells={
            "Node": {"custom.width": 180},
            "Above the sink": {"decimals": 2},
            "Above the die": {"decimals": 2},
        },
        description="Decades above k T ln 2 at the temperature of the heat sink and of the die: "
        "power of all devices of a kind, the work of a cryocooler counted in, over the bits they "
        "erase. arith: operations times the width of their operands; op1: operations; write and "
        "logical: what the workloads on its accelerators write and forget, where all tell it. No "
        "definition says how near a computer could come.",
    ),
)

TEMPERATURES = (
    graph(
        recorded("cluster:joulefloor_floor_joules_per_bit:ratio")
        .by("cluster", "reference")
        .times(ZEPTO),
        title="The floor, at the heat sink and at the die",
        unit=ZEPTOJOULES_PER_BIT,
        size=(8, 9),
        minimum=None,
        description="k T ln 2. Against the surroundings the sink counts; heat that leaves a hot "
        "die at its own temperature pays the higher floor. A colder chip pays in cooling work.",
    ),
    graph(
        level(catalogue.REFERENCE_TEMPERATURE).by("reference", operation="avg"),
        title="Reference temperatures",
        size=(8, 9),
        minimum=None,
        description="Mean temperature of the heat sinks of the chosen nodes, in kelvin.",
    ),
    graph(
        Query(f"{ARITH} / {WATTS}").by("model"),
        Query(f"1 / avg({FLOOR.expr})", "bound at the heat sink"),
        title="Bits erased for a joule",
        unit=BITS_PER_JOULE,
        size=(8, 9),
        logarithmic=True,
        lines={"bound at the heat sink": "red"},
        description="Bits (definition: arith) for each joule of the accelerators. The dashed line "
        "is what k T ln 2 permits at most: a bound of physics. Each line of the grid is ten times.",
    ),
)

HEAT = (
    graph(
        in_words(recorded("node:joulefloor_entropy_production_watts_per_kelvin:sum").by("cluster")),
        title="Entropy production of clusters",
        size=(8, 9),
        description="IT power over the temperature of the heat sink, added up over the chosen "
        "nodes.",
    ),
    graph(
        STATIC.total().named("static"),
        DYNAMIC.total().named("dynamic"),
        MOVING.total().named("of it moving bits, modelled"),
        title="Static, dynamic, moving bits",
        unit="watt",
        size=(8, 9),
        stacked=True,
        lines={"of it moving bits, modelled": "red"},
        description="Power when idle, what work adds, and, as a dashed line, how much of it goes "
        "into links by a model: measured bytes times published joules per bit.",
    ),
    graph(
        MOVING.by("link"),
        title="Power of moving bits, modelled",
        size=(8, 9),
        logarithmic=True,
        description="Measured bytes on each kind of link times the joules per bit in the table "
        "below. The scale is logarithmic.",
    ),
    rows(
        {
            "Energy": Query(f"{LINKS} * 1e12", unit="suffix: pJ/bit"),
            "Above the floor": Query(
                f"log10({LINKS} / on () group_left () avg({FLOOR.expr}))", unit=DECADES
            ),
        },
        {"link": "Link", "year": "Year", "source": "Source"},
        title="Moving a bit, as published",
        size=(24, 7),
        first=("Link", "Energy", "Above the floor", "Year"),
        sort="Energy",
        cells={
            "Link": {"custom.width": 100},
            "Year": {"custom.width": 100, "unit": "none"},
            "Energy": {"decimals": 1, "custom.width": 120},
            "Above the floor": {"decimals": 2, "custom.width": 140},
        },
        description="Joules that the model uses for moving a bit, with source and year, beside "
        "the floor for erasing one. Published figures differ by a factor of two; put yours into "
        "alerts/link-energy.yaml.",
    ),
)

SCREEN = Screen(
    "Landauer",
    "How far above the floor of physics does computing happen here, and what makes the distance?",
    (
        Row("", NOW),
        Row("", GAPS),
        Row("Where the joules of an inference come from", WATERFALLS),
        Row("Operations and bits", OPERATING),
        Row("Nodes and their floors", NODES),
        Row("The floor and its temperature", TEMPERATURES),
        Row("Heat", HEAT),
    ),
    variables=(MODEL_CHOICE,),
)
