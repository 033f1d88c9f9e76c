"""Bills over time: every credited joule is on one bill in the tick of its credit."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from joulefloor import catalogue
from joulefloor.attribution import Policy
from joulefloor.billing import MOST_FINISHED, Terms, workload_of
from joulefloor.board import Board
from joulefloor.counters import MOST_NAMESPACES, MOST_OWNERS, Counters, Residuals
from joulefloor.ledger import Ledger, Rules
from joulefloor.model import (
    EVERY_DEVICE,
    IDLE,
    SYSTEM,
    UNATTRIBUTED,
    Batch,
    Channel,
    Measures,
    Reading,
    Snapshot,
    Workload,
)
from joulefloor.tally import Line, Tally
from joulefloor.units import NANOSECONDS_PER_SECOND

CPUS = 4
A, B, C = (Workload("pod", "web", name) for name in "abc")
OTHER = Workload("pod", "batch", "d")
GPU = "GPU-1"


def meter(component: str, device: str) -> Channel:
    labels = (component, device, "meter", "measured")
    return Channel(catalogue.COMPONENT_ENERGY, labels, Measures.ENERGY, max_watts=2_000.0)


def part(name: str) -> Channel:
    labels = ("gpu", GPU, name, "meter", "measured")
    return Channel(catalogue.PART_ENERGY, labels, Measures.ENERGY, max_watts=2_000.0)


def use(workload: Workload, component: str = "cpu", share: str = "dynamic") -> Channel:
    measures = Measures.USE if (component, share) == ("cpu", "dynamic") else Measures.HOLD
    return Channel(catalogue.WORKLOAD_ENERGY, (component, *workload, share), measures)


def claim(device: str, workload: Workload, division: str = "claim") -> Channel:
    labels = ("gpu", device, *workload, division)
    return Channel(catalogue.WORKLOAD_DEVICE_SHARE, labels, Measures.HOLD)


class Node:
    """A ledger with one package, DRAM and one GPU; who uses what is said by each test."""

    def __init__(
        self, policy: Policy = Policy.UNATTRIBUTED, static: float | None = 10.0, keep_s: float = 300
    ) -> None:
        self.board = Board()
        known = {} if static is None else dict.fromkeys(("cpu", "dram", "gpu"), static)
        rules = Rules(static_watts=known, model_patience_s=0.0, terms=Terms(policy, keep_s))
        self.ledger = Ledger(self.board, rules)
        self.meters = {
            name: meter(name, GPU if name == "gpu" else "package-0")
            for name in ("cpu", "dram", "gpu")
        }
        self.parts: dict[str, Channel] = {}
        self.channels: dict[tuple[str, Workload, str], Channel] = {}
        self.totals: dict[Channel, float] = dict.fromkeys(self.meters.values(), 0.0)
        self.cpu_s: dict[Workload, float] = {SYSTEM: 0.0, IDLE: 0.0}
        self.held: dict[Workload, float] = {}
        self.limits: dict[Workload, float] = {}
        self.claims: dict[tuple[str, Workload], float] | None = None
        self.busy = Channel(catalogue.UTILIZATION, ("gpu", GPU, "busy"), Measures.LEVEL)
        self.gpu_busy: float | None = None
        self.node = Channel(catalogue.UTILIZATION, ("node", "node", "busy"), Measures.LEVEL)
        self.now_s = 0.0
        self.counted = True

    def tick(
        self,
        joules: dict[str, float] | None = None,
        used: dict[Workload, float] | None = None,
        system: float = 0.0,
        parts: dict[str, float] | None = None,
    ) -> None:
        """One second: components burn `joules`, workloads use CPU seconds, `system` the rest."""
        self.now_s += 1.0
        for name, spent in (joules or {}).items():
            self.totals[self.meters[name]] += spent
        for name, spent in (parts or {}).items():
            channel = self.parts.setdefault(name, part(name))
            self.totals[channel] = self.totals.get(channel, 0.0) + spent
        busy = sum((used or {}).values()) + system
        for workload, seconds in {**(used or {}), SYSTEM: busy, IDLE: CPUS - busy}.items():
            self.cpu_s[workload] = self.cpu_s.get(workload, 0.0) + seconds
        self.fold("meters", dict(self.totals))
        levels = {self.node: busy / CPUS}
        if self.gpu_busy is not None:
            levels[self.busy] = self.gpu_busy
        self.fold("cpu", levels)
        self.fold("workloads", self.uses() if self.counted else {})
        self.fold("memory", self.memory())
        if self.claims is not None:
            held = {self.channel("gpu", *key): value for key, value in self.claims.items()}
            self.fold("devices", {**held, self.channel("gpu", EVERY_DEVICE, IDLE): 1.0})
        self.ledger.close(round(self.now_s * NANOSECONDS_PER_SECOND), 0.0)

    def uses(self) -> dict[Channel, float]:
        return {self.channel("cpu", "", who): value for who, value in self.cpu_s.items()}

    def memory(self) -> dict[Channel, float]:
        rest = 100.0 - sum(self.held.values())
        held = {**self.held, SYSTEM: sum(self.held.values()) + rest / 2, IDLE: rest / 2}
        values = {self.channel("dram", "", who): value for who, value in held.items()}
        limits = {self.channel("cpu", "limit", who): n for who, n in self.limits.items()}
        return values | limits

    def channel(self, component: str, device: str, workload: Workload) -> Channel:
        key = (component, workload, device)
        if key not in self.channels:
            if component == "gpu":
                self.channels[key] = claim(device, workload)
            else:
                share = "static" if device else "dynamic"
                self.channels[key] = use(workload, component, share)
        return self.channels[key]

    def fold(self, source: str, values: dict[Channel, float]) -> None:
        at_ns = round(self.now_s * NANOSECONDS_PER_SECOND)
        readings = tuple(Reading(channel, value, at_ns) for channel, value in values.items())
        self.ledger.fold(source, 1.0, Batch(readings))

    def remove(self, workload: Workload) -> None:
        """The workload ends: its control group is gone."""
        self.cpu_s.pop(workload, None)
        self.held.pop(workload, None)
        self.channels = {key: c for key, c in self.channels.items() if key[1] != workload}

    def samples(self, metric: catalogue.Metric) -> dict[tuple[str, ...], float]:
        layout, values = self.board.freeze()
        snapshot = Snapshot(1, 1, 1.0, layout, values)
        return {s.labels: s.value for s in snapshot.samples() if s.metric is metric}

    def bill(self, workload: Workload, component: str = "cpu", share: str = "dynamic") -> float:
        return self.samples(catalogue.WORKLOAD_ENERGY).get((component, *workload, share), 0.0)

    def billed(self, component: str) -> float:
        bills = self.samples(catalogue.WORKLOAD_ENERGY)
        return sum(joules for labels, joules in bills.items() if labels[0] == component)

    def spent(self, component: str) -> float:
        sums = self.samples(catalogue.NODE_COMPONENT_ENERGY)
        return sum(joules for labels, joules in sums.items() if labels[0] == component)


def test_a_stressed_pod_gets_95_percent_of_dynamic_energy_and_an_idle_one_at_most_1() -> None:
    node = Node(static=40.0)
    for _ in range(60):
        node.tick({"cpu": 140.0}, {A: 1.96, B: 0.002}, system=0.038)
    dynamic = 59 * 100.0
    assert node.bill(A) >= 0.95 * dynamic
    assert 0 < node.bill(B) <= 0.01 * dynamic
    assert node.bill(UNATTRIBUTED, share="static") == pytest.approx(59 * 40.0)
    assert node.billed("cpu") == pytest.approx(node.spent("cpu"), rel=1e-9)


TICK = st.fixed_dictionaries(
    {
        "cpu": st.floats(0, 500),
        "dram": st.floats(0, 100),
        "gpu": st.floats(0, 700),
        "a": st.floats(0, 2),
        "b": st.floats(0, 2),
        "system": st.floats(0, 1),
        "pod": st.sampled_from(("stays", "comes", "goes")),
        "counted": st.booleans(),
        "claims": st.sampled_from((None, (), (A,), (A, B), (C,))),
        "gpu_busy": st.none() | st.floats(0, 1),
    }
)


@settings(max_examples=60, deadline=None)
@given(
    ticks=st.lists(TICK, min_size=2, max_size=12),
    policy=st.sampled_from(Policy),
    static=st.sampled_from((None, 0.0, 10.0, 1_000.0)),
)
def test_shares_add_up_to_each_component_in_every_tick(
    ticks: list[dict[str, object]], policy: Policy, static: float | None
) -> None:
    """Pods come and go, sources fall silent, meters stand still: the sum is always the whole."""
    node = Node(policy, static)
    node.held = {A: 20.0}
    for tick in ticks:
        pods = {A: tick["a"], B: tick["b"]} if tick["pod"] != "stays" else {A: tick["a"]}
        if tick["pod"] == "goes":
            node.remove(B)
            pods = {A: tick["a"]}
        node.counted = bool(tick["counted"])
        claims = tick["claims"]
        node.claims = None if claims is None else {(GPU, who): 1.0 for who in claims}  # type: ignore[attr-defined]
        if claims is None:
            node.ledger.silence("devices")
        node.gpu_busy = tick["gpu_busy"]  # type: ignore[assignment]
        node.tick(
            {name: tick[name] for name in ("cpu", "dram", "gpu")},  # type: ignore[misc]
            pods,  # type: ignore[arg-type]
            tick["system"],  # type: ignore[arg-type]
        )
        for component in ("cpu", "dram", "gpu"):
            assert node.billed(component) == pytest.approx(
                node.spent(component), rel=1e-6, abs=1e-9
            )
        groups = node.samples(catalogue.NAMESPACE_ENERGY).items()
        pods_joules = sum(joules for labels, joules in groups if labels[1] == "pod")
        owners = node.samples(catalogue.OWNER_ENERGY)
        assert sum(owners.values()) == pytest.approx(pods_joules, rel=1e-6, abs=1e-9)
        residuals = node.samples(catalogue.WORKLOAD_RESIDUAL)
        assert all(residual < 1e-6 for residual in residuals.values())


def test_energy_from_before_anybody_was_counted_is_unattributed() -> None:
    node = Node()
    node.counted = False
    for _ in range(3):
        node.tick({"cpu": 50.0}, {A: 1.0})
    node.counted = True
    node.tick({"cpu": 50.0}, {A: 1.0})
    assert node.bill(A) == 0.0
    node.tick({"cpu": 50.0}, {A: 1.0})
    assert node.bill(A) == pytest.approx(40.0)
    assert node.billed("cpu") == pytest.approx(node.spent("cpu"))


def test_while_nobody_counts_the_energy_is_unattributed_and_no_old_share_is_repeated() -> None:
    node = Node()
    for _ in range(3):
        node.tick({"cpu": 50.0}, {A: 1.0})
    before = node.bill(A)
    node.ledger.silence("workloads")
    node.counted = False
    node.tick({"cpu": 50.0}, {A: 1.0})
    assert node.bill(A) == before
    assert node.bill(UNATTRIBUTED) == pytest.approx(40.0)
    assert node.billed("cpu") == pytest.approx(node.spent("cpu"))


def test_a_meter_slower_than_the_count_is_divided_by_all_use_since_it_last_moved() -> None:
    node = Node(static=0.0)
    node.tick({"cpu": 0.0}, {A: 0.0, B: 0.0})
    for second in range(1, 11):
        who = A if second <= 5 else B
        node.tick({"cpu": 100.0} if second % 10 == 0 else {}, {who: 1.0})
    assert node.bill(A) == pytest.approx(50.0)
    assert node.bill(B) == pytest.approx(50.0)


def test_dram_goes_by_memory_in_use() -> None:
    node = Node(static=2.0)
    node.held = {A: 30.0, B: 10.0}
    for _ in range(3):
        node.tick({"dram": 12.0})
    assert node.bill(A, "dram") == pytest.approx(2 * 10.0 * 30 / 70)
    assert node.bill(B, "dram") == pytest.approx(2 * 10.0 * 10 / 70)
    assert node.bill(SYSTEM, "dram") == pytest.approx(2 * 10.0 * 30 / 70)


def test_static_energy_by_allocation_goes_by_cpu_limit() -> None:
    node = Node(Policy.ALLOCATION, static=40.0)
    node.limits = {A: 1.0}
    for _ in range(3):
        node.tick({"cpu": 50.0}, {A: 0.1, B: 0.4})
    assert node.bill(A, share="static") == pytest.approx(2 * 40.0 * 1 / 4)
    assert node.bill(B, share="static") == pytest.approx(2 * 40.0 * 0.4 / 4)
    assert node.bill(IDLE, share="static") == pytest.approx(2 * 40.0 * 2.6 / 4)


def test_a_gpu_goes_to_the_pod_that_holds_it_and_a_free_one_is_idle() -> None:
    node = Node(static=60.0)
    node.claims = {}
    node.tick({"gpu": 60.0})
    node.tick({"gpu": 60.0})
    assert node.bill(IDLE, "gpu", "static") == pytest.approx(60.0)
    node.claims = {(GPU, A): 1.0}
    node.tick({"gpu": 300.0})
    assert node.bill(A, "gpu") == pytest.approx(240.0)
    assert node.samples(catalogue.WORKLOAD_DEVICE_SHARE) == {("gpu", GPU, *A, "whole"): 1.0}
    node.claims = {}
    node.tick({"gpu": 60.0})
    assert node.samples(catalogue.WORKLOAD_DEVICE_SHARE) == {}
    assert node.billed("gpu") == pytest.approx(node.spent("gpu"))


def test_while_the_kubelet_is_silent_gpu_energy_is_unattributed() -> None:
    node = Node(static=60.0)
    node.claims = {(GPU, A): 1.0}
    for _ in range(2):
        node.tick({"gpu": 100.0})
    before = node.bill(A, "gpu")
    node.claims = None
    node.ledger.silence("devices")
    node.tick({"gpu": 100.0})
    assert node.bill(A, "gpu") == before == pytest.approx(40.0)
    assert node.bill(UNATTRIBUTED, "gpu") == pytest.approx(40.0)
    assert node.billed("gpu") == pytest.approx(node.spent("gpu"))


def test_time_sliced_pods_share_by_replicas_and_the_label_says_so() -> None:
    node = Node(static=0.0)
    node.claims = {(GPU, A): 1.0, (GPU, B): 3.0}
    for _ in range(2):
        node.tick({"gpu": 100.0})
    assert node.bill(A, "gpu") == pytest.approx(25.0)
    assert node.bill(B, "gpu") == pytest.approx(75.0)
    assert node.samples(catalogue.WORKLOAD_DEVICE_SHARE) == {
        ("gpu", GPU, *A, "equal"): 0.25,
        ("gpu", GPU, *B, "equal"): 0.75,
    }


def test_mig_instances_share_the_board_by_what_each_spent() -> None:
    node = Node(static=0.0)
    node.claims = {("MIG-a", A): 1.0, ("MIG-b", B): 1.0}
    for _ in range(3):
        node.tick(
            {"gpu": 100.0},
            parts={"mig:3g.40gb:MIG-a": 60.0, "mig:1g.10gb:MIG-b": 20.0, "idle": 20.0},
        )
    assert node.bill(A, "gpu") == pytest.approx(150.0)
    assert node.bill(B, "gpu") == pytest.approx(50.0)
    assert ("gpu", GPU, *A, "activity") in node.samples(catalogue.WORKLOAD_DEVICE_SHARE)


def size(instance: str, board: str = GPU) -> Channel:
    """Says how much of its board an instance is."""
    return claim(instance, Workload("idle", board), "size")


SIZES = {size("MIG-a"): 1 / 7, size("MIG-b"): 3 / 7}


def carved(policy: Policy, *, spent: dict[str, float], held: tuple[str, ...] = ("MIG-a",)) -> Node:
    """Three seconds of a board that draws 100 W, 10 W of them static, and whose sizes are known."""
    node = Node(policy)
    node.claims = dict.fromkeys(((instance, A) for instance in held), 1.0)
    for _ in range(3):
        node.fold("nvml", SIZES)
        node.tick({"gpu": 100.0}, parts=spent)
    assert node.billed("gpu") == pytest.approx(node.spent("gpu"))
    return node


@pytest.mark.parametrize(
    ("policy", "static"),
    [
        (Policy.ALLOCATION, {A: 20 / 7, IDLE: 20 * 6 / 7}),
        (Policy.UNATTRIBUTED, {UNATTRIBUTED: 20}),
        (Policy.USE, {A: 20}),
    ],
)
def test_who_alone_holds_a_seventh_of_a_board_is_allotted_a_seventh_of_what_flows_anyway(
    policy: Policy, static: dict[Workload, float]
) -> None:
    node = carved(policy, spent={"mig:1g.10gb:MIG-a": 14.0, "idle": 86.0})
    assert node.bill(A, "gpu") == pytest.approx(180), "nobody else works there"
    for who in (A, IDLE, UNATTRIBUTED, SYSTEM):
        assert node.bill(who, "gpu", "static") == pytest.approx(static.get(who, 0.0))
    assert node.samples(catalogue.WORKLOAD_DEVICE_SHARE) == {("gpu", GPU, *A, "whole"): 1.0}


def test_what_is_done_in_instances_that_no_pod_holds_is_no_pods() -> None:
    node = carved(
        Policy.ALLOCATION,
        spent={"mig:1g.10gb:MIG-a": 10.0, "mig:3g.40gb:MIG-b": 30.0, "idle": 60.0},
    )
    assert node.bill(A, "gpu") == pytest.approx(180 / 4)
    assert node.bill(SYSTEM, "gpu") == pytest.approx(180 * 3 / 4)
    assert node.samples(catalogue.WORKLOAD_DEVICE_SHARE) == {("gpu", GPU, *A, "activity"): 0.25}


def test_a_board_on_which_nobody_works_is_divided_by_the_sizes_of_what_is_held() -> None:
    node = carved(Policy.ALLOCATION, spent={})
    assert node.bill(A, "gpu") == pytest.approx(180 / 7)
    assert node.bill(IDLE, "gpu") == pytest.approx(180 * 6 / 7)
    assert node.bill(UNATTRIBUTED, "gpu") == 0
    shares = node.samples(catalogue.WORKLOAD_DEVICE_SHARE)
    assert shares == {("gpu", GPU, *A, "equal"): pytest.approx(1 / 7)}
    both = carved(Policy.ALLOCATION, spent={}, held=("MIG-a", "MIG-b"))
    assert both.bill(A, "gpu") == pytest.approx(180 * 4 / 7)


def test_sizes_of_instances_alone_open_no_bills() -> None:
    node = Node()
    node.fold("nvml", SIZES)
    node.fold("meters", {node.meters["gpu"]: 100.0})
    node.ledger.close(NANOSECONDS_PER_SECOND, 0.0)
    assert not node.samples(catalogue.WORKLOAD_ENERGY)
    assert not node.samples(catalogue.NAMESPACE_ENERGY)


def test_an_instance_that_is_gone_has_no_size_any_more() -> None:
    node = carved(Policy.ALLOCATION, spent={})
    before = node.bill(A, "gpu")
    for _ in range(2):
        node.fold("nvml", {size("MIG-b"): 3 / 7})
        node.tick({"gpu": 100.0})
    assert node.bill(A, "gpu") == before, "nobody knows what it is a part of"
    assert node.bill(UNATTRIBUTED, "gpu") > 0


def test_a_board_is_not_called_free_while_an_instance_of_unknown_board_is_held() -> None:
    node = Node(static=60.0)
    node.claims = {("MIG-a", A): 1.0}
    for _ in range(3):
        node.tick({"gpu": 100.0})
    assert node.bill(UNATTRIBUTED, "gpu") == pytest.approx(80.0)
    assert node.bill(SYSTEM, "gpu") == node.bill(IDLE, "gpu", "static") == 0.0
    for _ in range(2):
        node.tick({"gpu": 100.0}, parts={"mig:3g.40gb:MIG-a": 50.0, "idle": 50.0})
    assert node.bill(A, "gpu") > 0
    assert node.billed("gpu") == pytest.approx(node.spent("gpu"))


def test_no_gpu_is_called_free_while_a_pod_holds_one_that_nobody_can_name() -> None:
    node = Node(static=60.0)
    node.claims = {("?gpu.nvidia.com gpu-9", A): 1.0}
    for _ in range(3):
        node.tick({"gpu": 100.0})
    assert node.bill(UNATTRIBUTED, "gpu") == pytest.approx(80.0)
    assert node.bill(UNATTRIBUTED, "gpu", "static") == pytest.approx(120.0)
    assert node.bill(A, "gpu") == node.bill(IDLE, "gpu", "static") == 0.0
    node.claims[GPU, B] = 1.0
    node.tick({"gpu": 100.0})
    assert node.bill(B, "gpu") == pytest.approx(40.0)


def test_time_sliced_pods_share_by_what_their_processes_do_where_that_is_known() -> None:
    """Process 7 is B's, 8 belongs to a pod that has no claim, and 9 to nobody."""
    node = Node(static=0.0)
    node.claims = {(GPU, A): 1.0, (GPU, B): 1.0}
    owners = {"process:6": A, "process:7": B, "process:8": C}
    told = {claim(process, who, "activity"): 1.0 for process, who in owners.items()}
    for _ in range(3):
        node.fold("owners", told)
        spent = {"process:6": 20.0, "process:7": 60.0, "process:8": 5.0, "process:9": 5.0}
        node.tick({"gpu": 100.0}, parts={**spent, "idle": 10.0})
    assert node.bill(A, "gpu") == pytest.approx(50.0)
    assert node.bill(B, "gpu") == pytest.approx(150.0)
    assert node.bill(C, "gpu") == 0.0
    assert ("gpu", GPU, *B, "activity") in node.samples(catalogue.WORKLOAD_DEVICE_SHARE)
    assert node.billed("gpu") == pytest.approx(node.spent("gpu"))


def test_a_pod_that_ended_holds_no_device_though_the_kubelet_still_lists_it() -> None:
    node = Node(static=0.0)
    node.claims = {(GPU, A): 1.0, (GPU, B): 1.0}
    for _ in range(3):
        node.tick({"gpu": 100.0}, {A: 0.1})
    assert node.bill(A, "gpu") == pytest.approx(200.0)
    assert node.bill(B, "gpu") == 0.0


def test_without_names_of_live_pods_every_claim_counts() -> None:
    node = Node(static=0.0)
    node.claims = {(GPU, A): 1.0, (GPU, B): 1.0}
    for _ in range(3):
        node.tick({"gpu": 100.0}, {Workload("pod", "", "5f1c7c0e"): 0.1})
    assert node.bill(A, "gpu") == node.bill(B, "gpu") == pytest.approx(100.0)


def test_a_pod_whose_cpu_time_cannot_be_read_holds_its_gpu_while_its_memory_is() -> None:
    node = Node(static=0.0)
    node.claims = {(GPU, A): 1.0}
    node.held = {A: 10.0, B: 10.0}
    for _ in range(3):
        node.tick({"gpu": 100.0}, {A: 1.0, B: 0.5})
    del node.cpu_s[A]
    for _ in range(3):
        node.tick({"gpu": 100.0}, {B: 0.5})
    assert node.bill(A, "gpu") == pytest.approx(500.0)
    assert node.bill(SYSTEM, "gpu") == 0.0


def test_a_gpu_whose_only_holder_was_never_seen_is_not_called_free() -> None:
    node = Node(static=60.0)
    node.claims = {(GPU, A): 1.0}
    for _ in range(3):
        node.tick({"gpu": 100.0}, {B: 0.5})
    assert node.bill(UNATTRIBUTED, "gpu") == pytest.approx(3 * 40.0 - 40.0)
    assert node.bill(UNATTRIBUTED, "gpu", "static") == pytest.approx(2 * 60.0)
    assert node.bill(SYSTEM, "gpu") == node.bill(IDLE, "gpu", "static") == 0.0
    assert node.billed("gpu") == pytest.approx(node.spent("gpu"))


def test_a_gpu_whose_only_holder_ended_is_free() -> None:
    node = Node(static=60.0)
    node.claims = {(GPU, A): 1.0}
    for _ in range(3):
        node.tick({"gpu": 100.0}, {A: 0.5, B: 0.5})
    before = node.bill(A, "gpu")
    del node.cpu_s[A]
    node.tick({"gpu": 100.0}, {B: 0.5})
    assert node.bill(A, "gpu") == before
    assert node.bill(SYSTEM, "gpu") == pytest.approx(40.0)
    assert node.bill(IDLE, "gpu", "static") == pytest.approx(60.0)


def test_a_limit_that_outlives_its_pod_is_billed_nothing() -> None:
    """Limits are read every 30 s; the pod's CPU seconds of its last tick still count."""
    node = Node(Policy.ALLOCATION, static=40.0)
    node.limits = {A: 1.0, B: 1.0}
    for _ in range(3):
        node.tick({"cpu": 50.0}, {A: 0.5, B: 0.5})
    before = node.bill(A, share="static")
    del node.cpu_s[A]
    for _ in range(20):
        node.tick({"cpu": 50.0}, {B: 0.5})
    assert node.bill(A, share="static") == before
    assert node.billed("cpu") == pytest.approx(node.spent("cpu"))


def test_a_limit_counts_once_though_the_control_groups_of_its_pod_changed() -> None:
    tally = Tally()
    busy, rest, limit, old, new = (
        Line(channel, workload_of(channel), tally)
        for channel in (use(SYSTEM), use(IDLE), use(A, share="static"), use(A), use(A))
    )
    for line in (busy, rest, limit, old):
        tally.add(line)
    tally.read(busy, NANOSECONDS_PER_SECOND)
    limit.value, busy.used, rest.used, old.used = 1.0, 1.0, 3.0, 1.0
    tally.add(new)
    tally.drop(old)
    tally.read(busy, 2 * NANOSECONDS_PER_SECOND)
    totals = tally.totals()
    assert totals is not None
    assert totals.named == 1.0
    assert totals.allocated == sum(tally.allocated) == 1.0


def test_pods_of_a_component_without_a_meter_leave_nothing_behind() -> None:
    node = Node(static=0.0, keep_s=0)
    for number in range(20):
        pod = Workload("pod", "ci", f"run{number}x")
        node.held = {pod: 10.0}
        node.tick({"cpu": 50.0}, {pod: 0.5})
        node.remove(pod)
    node.tick({"cpu": 50.0})
    assert not node.ledger._billing._tallies["dram"]._arrivals


def test_processes_on_a_gpu_leave_nothing_behind_where_no_kubelet_is() -> None:
    node = Node(static=0.0)
    for number in range(20):
        for spent in (0.0, 5.0):
            node.tick({"gpu": 10.0}, {A: 1.0}, parts={f"process:{number}": spent})
    (parts,) = node.ledger._billing._parts.values()
    assert len(parts.spent(0.0)) == 1


def test_a_namespace_that_is_told_apart_has_all_its_components_and_shares() -> None:
    board = Board()
    counters = Counters(board, "")
    for number in range(MOST_NAMESPACES + 1):
        pod = Workload("pod", f"ns-{number}", "a")
        for component in ("cpu", "dram", "gpu"):
            counters.charge(component, ({pod: 1.0}, {pod: 1.0}))
    counters.close()
    told: dict[str, dict[tuple[str, ...], float]] = {}
    for cell in board._cells.values():
        told.setdefault(cell.metric.name, {})[cell.labels] = board.value(cell) or 0.0
    named = told[catalogue.NAMESPACE_ENERGY.name]
    owned = told[catalogue.OWNER_ENERGY.name]
    assert len({labels[2] for labels in named}) == MOST_NAMESPACES + 1
    for component in ("cpu", "dram", "gpu"):
        for share in ("dynamic", "static"):
            assert named[component, "pod", f"ns-{MOST_NAMESPACES - 1}", share] == 1.0
            assert named[component, "pod", "", share] == 1.0
    assert owned[f"ns-{MOST_OWNERS - 1}", "a", "static"] == 3.0
    assert owned["", "", "dynamic"] == 3.0
    assert len(owned) == 2 * (MOST_OWNERS + 1)


def test_the_residual_is_that_of_the_last_minute() -> None:
    """A loss shows at once after any time without one, and is over a minute after its end."""
    residuals = Residuals()
    credited = billed = 0.0
    ratios = []
    for second in range(20_300):
        credited += 100.0
        billed += 95.0 if 20_000 <= second < 20_100 else 100.0
        at_ns = (second + 1) * NANOSECONDS_PER_SECOND
        ratios.append(residuals.close(at_ns, {"cpu": credited}, {"cpu": billed})["cpu"])
    assert max(ratios[:20_000]) == 0.0
    assert ratios[20_000] == pytest.approx(0.05 / 60, rel=1.0)
    assert ratios[20_060:20_100] == pytest.approx([0.05] * 40)
    assert max(ratios[20_160:]) == 0.0


def test_rounding_is_no_residual_and_a_component_without_energy_has_none() -> None:
    residuals = Residuals()
    for second in range(1, 200):
        at_ns = second * NANOSECONDS_PER_SECOND
        large = 1e10 + second * 1e-5
        credited, billed = {"cpu": large, "gpu": 0.0}, {"cpu": large + 4e-6, "gpu": 0.0}
        assert residuals.close(at_ns, credited, billed) == {"cpu": 0.0, "gpu": 0.0}


def test_a_finished_workload_stays_for_a_set_time_and_its_namespace_for_ever() -> None:
    node = Node(static=0.0, keep_s=300)
    for _ in range(3):
        node.tick({"cpu": 50.0}, {A: 1.0, OTHER: 1.0})
    joules = node.bill(OTHER)
    node.remove(OTHER)
    for _ in range(301):
        node.tick({"cpu": 50.0}, {A: 1.0})
        assert node.bill(OTHER) == joules
    node.tick({"cpu": 50.0}, {A: 1.0})
    assert ("cpu", *OTHER, "dynamic") not in node.samples(catalogue.WORKLOAD_ENERGY)
    groups = node.samples(catalogue.NAMESPACE_ENERGY)
    assert groups["cpu", "pod", "batch", "dynamic"] == joules
    assert sum(joules for labels, joules in groups.items() if labels[0] == "cpu") == pytest.approx(
        node.spent("cpu")
    )


def test_the_counter_of_an_owner_survives_all_its_pods() -> None:
    pods = [Workload("pod", "web", f"frontend-6d4cf56db6-x2x7{letter}") for letter in "bcd"]
    node = Node(static=0.0, keep_s=0)
    node.held = dict.fromkeys(pods, 10.0)
    for pod in pods:
        for _ in range(3):
            node.tick({"cpu": 60.0, "dram": 10.0}, {pod: 1.0})
        node.remove(pod)
    for _ in range(2):
        node.tick({"cpu": 60.0, "dram": 10.0}, {A: 1.0})
    bills = node.samples(catalogue.WORKLOAD_ENERGY)
    assert not [labels for labels in bills if labels[2] == "web" and labels[3] != A.name]
    groups = node.samples(catalogue.NAMESPACE_ENERGY)
    billed = sum(joules for labels, joules in groups.items() if labels[1:3] == ("pod", "web"))
    owners = node.samples(catalogue.OWNER_ENERGY)
    mine = owners["web", "frontend", "dynamic"]
    assert mine > 360.0
    assert owners == {
        ("web", "frontend", "dynamic"): mine,
        ("web", "a", "dynamic"): pytest.approx(billed - mine),
    }


def test_owners_are_bounded_and_pods_without_a_name_share_one() -> None:
    node = Node(static=0.0, keep_s=0)
    for number in range(MOST_OWNERS + 50):
        pod = Workload("pod", "ci", f"run{number}x")
        node.tick({"cpu": 50.0}, {pod: 0.0})
        node.tick({"cpu": 50.0}, {pod: 1.0})
        node.remove(pod)
    unnamed = Workload("pod", "", "5f1c7c0e-2b1a-4c55-9d3e-000000000001")
    for _ in range(2):
        node.tick({"cpu": 50.0}, {unnamed: 1.0})
    owners = node.samples(catalogue.OWNER_ENERGY)
    assert len(owners) == MOST_OWNERS + 1
    assert owners["", "", "dynamic"] == pytest.approx(50 * 50.0 + 50.0)


def test_a_static_pod_belongs_to_the_same_owner_on_every_node() -> None:
    board = Board()
    ledger = Ledger(board, Rules(model_patience_s=0.0, terms=Terms(node="cp-1")))
    pod = Workload("pod", "kube-system", "kube-proxy-cp-1")
    cpu = meter("cpu", "package-0")
    channels = (use(SYSTEM), use(IDLE), use(pod))
    for second in range(1, 4):
        at_ns = second * NANOSECONDS_PER_SECOND
        ledger.fold("meters", 1.0, Batch((Reading(cpu, 50.0 * second, at_ns),)))
        uses = (float(second), 2.0 * second, float(second))
        readings = (Reading(c, used, at_ns) for c, used in zip(channels, uses, strict=True))
        ledger.fold("workloads", 1.0, Batch(tuple(readings)))
        ledger.close(at_ns, 0.0)
    layout, values = board.freeze()
    samples = Snapshot(1, 1, 1.0, layout, values).samples()
    owners = [s.labels for s in samples if s.metric is catalogue.OWNER_ENERGY]
    assert owners == [("kube-system", "kube-proxy", "dynamic")]


def test_a_process_id_that_is_used_again_bills_its_new_pod_from_then_on() -> None:
    node = Node(static=0.0)
    node.claims = {(GPU, A): 1.0, (GPU, B): 1.0}
    owner = A
    bills = []
    for second in range(6):
        owner = A if second < 3 else B
        node.fold("owners", {claim("process:7", owner, "activity"): 1.0})
        node.tick({"gpu": 100.0}, parts={"process:7": 80.0, "idle": 20.0})
        bills.append((node.bill(A, "gpu"), node.bill(B, "gpu")))
    assert bills[-1][0] == bills[2][0] == pytest.approx(200.0)
    assert bills[-1][1] == pytest.approx(300.0)
    assert node.billed("gpu") == pytest.approx(node.spent("gpu"))


def test_a_workload_forgotten_between_two_counts_is_on_no_bill_again() -> None:
    """Energy may be credited more often than use is counted; who ended meanwhile stays ended."""
    node = Node(static=0.0, keep_s=0)
    for _ in range(3):
        node.tick({"cpu": 50.0}, {A: 1.0, B: 1.0})
    node.tick({}, {A: 1.0, B: 1.0})
    before = node.bill(B)
    node.remove(B)
    node.tick({"cpu": 50.0}, {A: 1.0})
    assert node.bill(B) > before
    for _ in range(3):
        node.now_s += 1.0
        node.totals[node.meters["cpu"]] += 50.0
        node.fold("meters", dict(node.totals))
        node.ledger.close(round(node.now_s * NANOSECONDS_PER_SECOND), 0.0)
    assert ("cpu", *B, "dynamic") not in node.samples(catalogue.WORKLOAD_ENERGY)
    groups = node.samples(catalogue.NAMESPACE_ENERGY)
    assert sum(joules for labels, joules in groups.items() if labels[0] == "cpu") == pytest.approx(
        node.spent("cpu")
    )


def test_a_pod_of_the_same_name_goes_on_where_the_last_one_ended() -> None:
    node = Node(static=0.0)
    for _ in range(3):
        node.tick({"cpu": 50.0}, {A: 1.0})
    joules = node.bill(A)
    node.remove(A)
    node.tick({"cpu": 50.0}, {}, system=1.0)
    node.tick({"cpu": 50.0}, {A: 0.001}, system=1.0)
    assert node.bill(A) == joules
    node.tick({"cpu": 50.0}, {A: 1.0})
    assert node.bill(A) == pytest.approx(joules + 50.0)


def test_a_counter_that_goes_back_bills_nothing() -> None:
    node = Node(static=0.0)
    for _ in range(3):
        node.tick({"cpu": 50.0}, {A: 1.0})
    joules = node.bill(A)
    node.cpu_s[A] = 0.0
    node.tick({"cpu": 50.0}, {}, system=1.0)
    assert node.bill(A) == joules
    node.tick({"cpu": 50.0}, {A: 1.0})
    assert node.bill(A) == pytest.approx(joules + 50.0)


def test_churn_is_bounded() -> None:
    node = Node(static=0.0, keep_s=1e9)
    for number in range(MOST_FINISHED + 200):
        pod = Workload("pod", f"ns-{number}", "job")
        node.tick({"cpu": 50.0}, {pod: 0.0})
        node.tick({"cpu": 50.0}, {pod: 1.0})
        node.remove(pod)
    assert len(node.samples(catalogue.WORKLOAD_ENERGY)) <= MOST_FINISHED + 10
    assert len(node.samples(catalogue.NAMESPACE_ENERGY)) <= 1010
    groups = node.samples(catalogue.NAMESPACE_ENERGY)
    assert sum(groups.values()) == pytest.approx(
        sum(node.samples(catalogue.NODE_COMPONENT_ENERGY).values())
    )


def test_who_reads_the_board_and_how_often_changes_nothing() -> None:
    """Two scrapers, one of them greedy, see the counters that one alone would see."""
    alone, watched = Node(), Node()
    for second in range(20):
        used = {A: 1.0, B: 0.5} if second < 10 else {A: 1.0}
        for node in (alone, watched):
            if second == 10:
                node.remove(B)
            node.tick({"cpu": 50.0, "dram": 5.0}, used)
        for _ in range(3):
            watched.samples(catalogue.WORKLOAD_ENERGY)
    assert alone.samples(catalogue.WORKLOAD_ENERGY) == watched.samples(catalogue.WORKLOAD_ENERGY)


def test_a_machine_without_a_meter_has_no_bills() -> None:
    node = Node()
    node.meters = {}
    node.totals = {}
    for _ in range(3):
        node.tick({}, {A: 1.0})
    assert node.samples(catalogue.WORKLOAD_ENERGY) == {}
    assert node.samples(catalogue.WORKLOAD_RESIDUAL) == {}
