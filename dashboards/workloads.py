"""Workloads: who uses the energy, and who holds machines without using them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dashboards.fields import BAD, GOOD, WARN, fixed, override
from dashboards.panels import bars, graph, number
from dashboards.promql import (
    CLUSTER,
    RANGE,
    WHOLE,
    Query,
    gain,
    leaders,
    level,
    others,
    rate,
    recorded,
)
from dashboards.screen import Row, Screen, choice, entry
from dashboards.tables import rows
from joulefloor import catalogue

if TYPE_CHECKING:
    from dashboards.classic import dashboard

NAMESPACE: Final = 'workload_namespace=~"$namespace"'
"""The chosen namespaces; what is nobody's has none, and belongs to all of them."""
SOMEBODY: Final = 'workload_kind!~"system|idle|unattributed"'
ACCELERATORS: Final = 'component=~"gpu|tpu"'
GREYS: Final = {"system": "#b4b4b4", "idle": "#8e8e8e", "unattributed": "#646464"}
"""What is no workload's, and its colours where namespaces have all others."""
POWER_NAME: Final = "namespace:joulefloor_power_watts:sum"
POD: Final = ("workload_namespace", "workload_pod")
OWNER_KEY: Final = ("workload_namespace", "workload_owner")
PODS: Final = {"workload_pod": "Pod", "workload_namespace": "Namespace"}
OWNERS: Final = {"workload_owner": "Owner", "workload_namespace": "Namespace"}
DEVICE: Final = "cluster, job, instance, component, device"
COST: Final = "($price) / 3.6e6"
"""Joules to money: 3.6 MJ are a kilowatt-hour."""
HOURS_OF_MONTH: Final = "730"
MIDDLES: Final = "[$__range:1m] offset -150s"
"""A mean over five minutes stands for the middle of them; what follows the last is the last."""
MOST: Final = 30
IDLE_BELOW: Final = "0.01"


def power(*matchers: str) -> Query:
    """Recorded watts of the chosen namespaces."""
    return recorded(POWER_NAME, ",".join((*matchers, NAMESPACE)))


def energy(watts: Query, of_hour: Query) -> Query:
    """Joules in the chosen time (of five minutes or more), from recorded watts.

    These are means over five minutes. The last of them alone is all that a younger workload took,
    and no hour is less than the last one.
    """
    found = {
        "all": f"sum_over_time({watts.expr}{MIDDLES}) * 60",
        "last": f"{watts.expr} * 300",
        "hour": f"{of_hour.expr} * ($__range_s >= bool 3600) > 0",
    }
    kinds = (f'label_replace({one}, "kind", "{kind}", "", "")' for kind, one in found.items())
    return Query(f"max without (kind) ({' or '.join(kinds)})", watts.legend, "joule")


def _greyed(panel: dashboard.Panel) -> dashboard.Panel:
    """Give what is nobody's its colours."""
    for kind, grey in GREYS.items():
        override(panel, kind, fixed(grey))
    return panel


ALL = power()
THEIRS = power(SOMEBODY)
STATIC = recorded("namespace:joulefloor_static_power_watts:sum", NAMESPACE)
HOUR = recorded("namespace:joulefloor_energy_joules:increase1h", NAMESPACE)
METERED = recorded("cluster:joulefloor_component_power_watts:sum")
OWNER_WATTS = rate(catalogue.OWNER_ENERGY, NAMESPACE)
MODEL_WATTS = recorded("workload:joulefloor_power_watts:sum", NAMESPACE)
OWNER_JOULES = gain(catalogue.OWNER_ENERGY, NAMESPACE)
OWNER_RANK = OWNER_JOULES.by(*OWNER_KEY).expr.replace(RANGE, WHOLE)
KIND = ("workload_namespace", "workload_kind")
CHOSEN = energy(ALL.by(*KIND), HOUR.by(*KIND))
BY_NAMESPACE = f"sum by (workload_namespace) ({THEIRS.expr})"
NAMESPACE_RANK = f"sum by (workload_namespace) (sum_over_time({THEIRS.expr}{WHOLE}))"
"""Recorded at a steady pace, so the sums of watts are as joules."""
SHARE = level(catalogue.WORKLOAD_DEVICE_SHARE, f"{ACCELERATORS},{NAMESPACE}").expr
HELD = f"max without (division) ({SHARE})"
RECENT = SHARE + "[5m]"
RECENT_KNOWN = (
    level(catalogue.WORKLOAD_DEVICE_SHARE, f'{ACCELERATORS},division!="equal",{NAMESPACE}').expr
    + "[5m]"
)
"""Without the moments in which a shared device does nothing: of use they say nothing."""
BUSY = level(catalogue.UTILIZATION, f'{ACCELERATORS},engine="busy"').expr + "[5m]"
USE = (
    f"(max without (division) (avg_over_time({RECENT_KNOWN})) or "
    f"max without (division) (avg_over_time({RECENT}))) * on ({DEVICE}) group_left () "
    f"max by ({DEVICE}) (avg_over_time({BUSY}))"
)
UNUSED = f"({HELD} and {USE} < {IDLE_BELOW})"
BOARD_POWER = f"sum by ({DEVICE}) ({level(catalogue.COMPONENT_POWER, ACCELERATORS).expr})"
WASTED = f"{UNUSED} * on ({DEVICE}) group_left () {BOARD_POWER}"
BILLED = f"{SOMEBODY},{NAMESPACE}"
WATTS = rate(catalogue.WORKLOAD_ENERGY, BILLED)
JOULES = gain(catalogue.WORKLOAD_ENERGY, BILLED)
TOP_PODS = f"topk({MOST}, {WATTS.by('cluster', 'workload_kind', *POD).expr})"
RESIDUAL = level(catalogue.WORKLOAD_RESIDUAL)
UNKNOWN = recorded(POWER_NAME, f'workload_kind="unattributed",{NAMESPACE}')
LOW = ((None, GOOD), (0.05, WARN), (0.2, BAD))
EXAMPLE = "at the price per kWh above, which is an example (0.20 EUR) until you put in yours."

NOW = (
    number(
        THEIRS.total(),
        title="Power of workloads",
        description="Power on the bills of pods, jobs, services and guests of the chosen "
        "namespaces, in all chosen clusters. A mean over five minutes.",
    ),
    number(
        Query(f"count({UNUSED}) or count({HELD}) * 0"),
        title="Held, not used",
        unit="short",
        steps=((None, GOOD), (1, WARN)),
        description="Pairs of a workload and an accelerator of the chosen nodes that it holds and "
        "has used less than 1 % of in the last five minutes; a shared one counts once for each "
        "such holder. The table below says who.",
    ),
    number(
        Query(f"sum({WASTED}) or count({HELD}) * 0"),
        title="Power of unused",
        unit="watt",
        steps=((None, GOOD), (1, WARN)),
        description="What accelerators draw for those who hold and do not use them: of each its "
        "power times the holder's share of it, which is 0 while only others work on it.",
    ),
    number(
        Query(f"sum({STATIC.expr}) / sum({ALL.expr})"),
        title="Static share",
        unit="percentunit",
        decimals=0,
        description="Share of all power that flows whether or not anybody works. Who is billed "
        "for it, the configuration says: nobody, by what is held, or by use.",
    ),
    number(
        Query(f"sum({UNKNOWN.expr}) / sum({ALL.expr}) or sum({ALL.expr}) * 0"),
        title="On nobody's bill",
        unit="percentunit",
        decimals=0,
        description="Share of all power that is unattributed: static power, unless the policy "
        "bills it, and components of which nobody can tell who used them.",
    ),
    number(
        Query(f"sum({THEIRS.expr}) * 3600 * {HOURS_OF_MONTH} * {COST}"),
        title="A month costs",
        unit="short",
        decimals=0,
        description="Cost of a month (730 h) of the workloads at their present power, in the "
        f"currency of the price, {EXAMPLE}",
    ),
)

WHO = (
    _greyed(
        graph(
            Query(leaders(8, BY_NAMESPACE, NAMESPACE_RANK), "{{workload_namespace}}"),
            Query(f"sum({others(8, BY_NAMESPACE, NAMESPACE_RANK)})", "all others"),
            *(power(f'workload_kind="{kind}"').total().named(kind) for kind in GREYS),
            METERED.total().named("component meters"),
            title="Power by namespace",
            unit="watt",
            size=(14, 10),
            stacked=True,
            lines={"component meters": "red"},
            description="The eight namespaces that took most in the chosen time, all others, and "
            "what is nobody's: system (the rest of the machine's own work), idle (held by nobody) "
            "and unattributed. With all namespaces chosen the stack reaches the dashed line; what "
            "is missing is drawn by machines on which nobody is billed.",
        )
    ),
    rows(
        {
            "Unused": Query(f"{UNUSED} * 0 + 1"),
            "Power": Query(WASTED, unit="watt"),
            "Use": Query(f"({USE}) < {IDLE_BELOW}", unit="percentunit"),
        },
        {**PODS, "instance": "Node"},
        title="Who holds and does not use",
        first=("Pod", "Unused", "Power"),
        size=(10, 10),
        sort="Power",
        empty="Everything that is held is used.",
        cells={"Unused": {"unit": "short"}, "Use": {"decimals": 2}},
        description="Workloads that hold accelerators of which they used less than 1 % in the "
        "last five minutes: their share of the device times how busy it was. Power is their share "
        "of what those devices draw, 0 while only others work on them.",
    ),
)

NAMESPACES = (
    rows(
        {
            "Power": ALL,
            "CPU": power('component="cpu"'),
            "Memory": power('component="dram"'),
            "Accelerators": power(ACCELERATORS),
            "Static": STATIC,
            "Energy 1 h": HOUR,
            "Energy": CHOSEN,
            "Cost": CHOSEN.times(COST),
        },
        {"workload_namespace": "Namespace", "workload_kind": "Kind"},
        title="Namespaces",
        first=("Namespace", "Power", "Cost"),
        size=(24, 9),
        sort="Power",
        cells={"Cost": {"unit": "short"}},
        description="Every namespace and kind of the chosen clusters. The kinds system, idle and "
        "unattributed are nobody's, and close the sum. Static is what of the power flows whether "
        f"or not anybody works. Energy and cost are of the chosen time, {EXAMPLE}",
    ),
    graph(
        THEIRS.by("component"),
        title="Power of workloads by component",
        size=(12, 8),
        stacked=True,
        description="Power of the workloads of the chosen namespaces, by what draws it.",
    ),
    _greyed(
        graph(
            *(power(f'workload_kind="{kind}"').total().named(kind) for kind in GREYS),
            title="What is no workload's",
            size=(12, 8),
            stacked=True,
            description="system: work of the machine outside workloads. idle: devices that nobody "
            "holds. unattributed: static power that the policy bills to nobody, and components of "
            "which nobody can tell who used them.",
        )
    ),
)

OF_OWNERS = (
    bars(
        Query(
            f"topk(15, {OWNER_WATTS.by(*OWNER_KEY).expr}) > 0",
            "{{workload_namespace}}/{{workload_owner}}",
        ),
        title="Top owners by power",
        unit="watt",
        size=(10, 9),
        description="Pods of one controller on the chosen nodes together: their names without "
        "what a Deployment, StatefulSet, DaemonSet, Job or CronJob appends.",
    ),
    rows(
        {
            "Power": Query(f"topk({MOST}, {OWNER_WATTS.by(*OWNER_KEY).expr})", unit="watt"),
            "Static": rate(catalogue.OWNER_ENERGY, f'share="static",{NAMESPACE}'),
            "Energy": OWNER_JOULES,
            "Cost": OWNER_JOULES.times(COST),
        },
        OWNERS,
        title="Owners",
        first=("Owner", "Power", "Cost"),
        size=(14, 9),
        sort="Power",
        cells={"Cost": {"unit": "short"}},
        description="Owners of pods on the chosen nodes; the thirty that draw most have a power. "
        "Static is what of it flows whether or not anybody works. Energy and cost are of the "
        f"chosen time, ended pods included, {EXAMPLE}",
    ),
    bars(
        Query(f"topk(5, {MODEL_WATTS.expr})", "{{workload_namespace}}/{{workload}}"),
        title="Power by the label workload",
        unit="watt",
        size=(24, 6),
        description="The five that draw most now in the chosen clusters, by the label "
        "that joins energy with inference. It is no owner: pods of a StatefulSet and runs of a "
        "CronJob stay apart, and jobs, services and guests outside Kubernetes are among them.",
    ),
)

OF_PODS = (
    rows(
        {
            "Power": Query(TOP_PODS, unit="watt"),
            "CPU": rate(catalogue.WORKLOAD_ENERGY, f'component="cpu",{BILLED}'),
            "Memory": rate(catalogue.WORKLOAD_ENERGY, f'component="dram",{BILLED}'),
            "Accelerators": rate(catalogue.WORKLOAD_ENERGY, f"{ACCELERATORS},{BILLED}"),
            "Static": rate(catalogue.WORKLOAD_ENERGY, f'share="static",{BILLED}'),
            "Holds": Query(f"{HELD} * 0 + 1"),
            "Energy": JOULES,
            "Cost": JOULES.times(COST),
        },
        {**PODS, "workload_kind": "Kind"},
        title="Pods",
        first=("Pod", "Power", "Cost"),
        size=(24, 11),
        sort="Power",
        cells={
            "Pod": {"custom.width": 230},
            "Holds": {"unit": "short"},
            "Cost": {"unit": "short"},
        },
        description="Workloads of the chosen nodes and namespaces that have a bill; the thirty "
        "that draw most have a power. Energy and cost are of the chosen time, from the counters, "
        f"{EXAMPLE} With thousands of pods choose a namespace or a node first.",
    ),
    bars(
        Query(
            f"topk(15, {OWNER_JOULES.by(*OWNER_KEY).expr}) > 0",
            "{{workload_namespace}}/{{workload_owner}}",
        ),
        title="Energy by owner, ended pods included",
        unit="joule",
        size=(8, 9),
        description="Joules of the chosen time and nodes by owner, from counters that stay when "
        "the pods have ended.",
    ),
    graph(
        Query(
            leaders(5, OWNER_WATTS.by(*OWNER_KEY).expr, OWNER_RANK),
            "{{workload_namespace}}/{{workload_owner}}",
        ),
        title="Top owners over time",
        unit="watt",
        size=(8, 9),
        description="The five owners whose pods took most on the chosen nodes in the chosen time.",
    ),
    rows(
        {
            "Energy": Query(
                f"{JOULES.by('cluster', *POD).expr} > 0 unless on (cluster, {', '.join(POD)}) "
                f"{WATTS.by('cluster', *POD).expr}",
                unit="joule",
            ),
        },
        PODS,
        title="Finished workloads",
        first=("Pod", "Energy"),
        size=(8, 9),
        sort="Energy",
        empty="No workload ended in this time.",
        cells={"Pod": {"custom.width": 200}},
        description="Workloads that ended within the chosen time, and what they took in it. The "
        "daemon shows a finished workload for five minutes more; its namespace keeps the joules.",
    ),
)

TRUST = (
    graph(
        Query(
            f"round({RESIDUAL.by('component', operation='max').expr}, 1e-6)",
            "{{component}}",
        ),
        Query(f"max({RESIDUAL.expr}) * 0 + 0.01", "alert above"),
        title="Residual of attribution",
        unit="percentunit",
        size=(12, 8),
        lines={"alert above": "red"},
        description="Energy that is on no bill, or on two, as a share of the component's energy: "
        "the worst of the chosen nodes. 0, or there is a defect.",
    ),
    graph(
        Query(
            f"sum by (component) ({UNKNOWN.expr}) / sum by (component) ({ALL.expr})",
            "{{component}}",
        ),
        title="Unattributed share",
        unit="percentunit",
        size=(12, 8),
        maximum=1,
        description="Share of each component's power that is on nobody's bill. Fans, drives and "
        "network cards are never billed; of CPUs, memory and accelerators static power is not, "
        "unless the policy says so.",
    ),
)

SCREEN = Screen(
    "Workloads",
    "Who uses the energy, and who holds machines without using them?",
    (
        Row("", NOW),
        Row("", WHO),
        Row("Namespaces", NAMESPACES),
        Row("Owners", OF_OWNERS),
        Row("Pods", OF_PODS),
        Row("Can it be trusted?", TRUST),
    ),
    variables=(
        choice(
            "namespace",
            "Namespace",
            f"label_values({POWER_NAME}{{{CLUSTER}}}, workload_namespace)",
        ),
        entry("price", "Price per kWh (example)", "0.20"),
    ),
)
