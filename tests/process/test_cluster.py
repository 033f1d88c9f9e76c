"""A cluster of one node, end to end: groups, kubelet, daemon, Prometheus, rules; as `make e2e`."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from stack.peers import prometheus_config, start_prometheus, write_config
from stack.query import eventually, instant
from tests.cluster import CARD, CPUS, ClusterNode
from tests.e2e import checks
from tests.e2e.readers import from_exposition, from_prometheus
from tests.kubelet import Pod
from tests.patience import PATIENCE_S
from tests.prom.required import require
from tests.rulefiles import ALERTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.process.conftest import Daemon

    Start = Callable[..., Daemon]
    Read = Callable[[str, Sequence[str]], list[checks.Sample]]

CONFIG: Final = (
    "sampling: {tick: 250ms}\n"
    "static_power: {start: {cpu: 20W, dram: 1W, gpu: 50W}}\n"
    "workloads: {keep: 1s}\n"
    "sources:\n"
    "  rapl: {period: 500ms}\n"
    "  hwmon: {period: 500ms}\n"
    "  model: {enabled: false}\n"
    "  workloads: {period: 500ms, memory_period: 1s, device_period: 1s}\n"
)
TRAINER: Final = Pod("train", "trainer-0", (("amd.com/gpu", (CARD,)),))
SUCCESSOR: Final = Pod("train", "trainer-1", TRAINER.devices)
POWER: Final = "namespace:joulefloor_power_watts:sum"


class Composed:
    """The node as a cluster; `read` asks the daemon or a Prometheus."""

    def __init__(self, node: ClusterNode, url: str, read: Read) -> None:
        self.node = node
        self._url = url
        self._read = read

    def read(self, *names: str) -> Sequence[checks.Sample]:
        return self._read(self._url, names)

    def start(self, pod: str) -> None:
        self.node.start(Pod(checks.NAMESPACE, pod))

    def delete(self, pod: str) -> None:
        self.node.end(checks.NAMESPACE, pod)

    def restart_kubelet(self) -> None:
        """It is away for so long that the daemon notices, as a real one is."""
        self.node.kubelet.stop()
        assert eventually(lambda: not self._asked(), within_s=PATIENCE_S)
        self.node.kubelet.start()

    def _asked(self) -> bool:
        found = self.read(checks.UP)
        return any(one.labels["source"] == checks.DEVICES and one.value == 1 for one in found)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A composed cluster needs seconds, not minutes."""
    monkeypatch.setattr(checks, "PATIENCE_S", PATIENCE_S)


@pytest.fixture
def node() -> Iterator[ClusterNode]:
    """A node that lives, with a pod that holds its GPU; a socket's path may have 107 letters."""
    folder = Path(tempfile.mkdtemp(prefix="jf-", dir="/tmp"))
    made = ClusterNode(folder)
    made.add_gpu()
    made.start(TRAINER)
    made.start(Pod(checks.NAMESPACE, checks.STRESSED), cpus=CPUS)
    made.start(Pod(checks.NAMESPACE, checks.IDLE))
    made.kubelet.start()
    with made.alive():
        yield made
    made.kubelet.stop()
    shutil.rmtree(folder)


@pytest.fixture
def prometheus(start: Start, node: ClusterNode, tmp_path: Path) -> Iterator[str]:
    """A Prometheus that scrapes the node's daemon and evaluates the rules in seconds."""
    daemon = start(machine=node.machine, config=CONFIG)
    rules = []
    for name in ("recording.yaml", "workloads.yaml"):
        content: dict[str, Any] = yaml.safe_load((ALERTS / name).read_text(encoding="utf-8"))
        for group in content["groups"]:
            group["interval"] = "1s"
        rules.append(write_config(tmp_path / "rules" / name, content))
    config = prometheus_config({"joulefloor": [daemon.peer.address]}, interval_s=1, rules=rules)
    with ExitStack() as stack:
        program = require("prometheus", major=3)
        yield stack.enter_context(start_prometheus(program, tmp_path / "prometheus", config)).url


def held(cluster: Composed) -> dict[str, float]:
    """Whose the GPU is: pod to share."""
    return {
        labels["workload_pod"]: value
        for _, labels, value in cluster.read("joulefloor_workload_device_share_ratio")
    }


def watts(url: str, matchers: str = "") -> dict[str, float]:
    """What the rules record for CPU power, by namespace or by reserved kind."""
    found = instant(url, f'{POWER}{{component="cpu"{matchers}}}')
    return {
        one["metric"].get("workload_namespace") or one["metric"]["workload_kind"]: float(
            one["value"][1]
        )
        for one in found
    }


def test_the_checks_of_a_cluster_hold_for_what_the_daemon_says(
    start: Start, node: ClusterNode
) -> None:
    daemon = start(machine=node.machine, config=CONFIG)
    cluster = Composed(node, daemon.peer.url, from_exposition)
    assert eventually(lambda: held(cluster) == {"trainer-0": 1.0}, within_s=PATIENCE_S)
    for check in checks.CHECKS:
        assert check(cluster)
    node.end("train", "trainer-0")
    node.start(SUCCESSOR)
    assert eventually(lambda: held(cluster) == {"trainer-1": 1.0}, within_s=PATIENCE_S)


def test_they_hold_in_a_prometheus_whose_rules_tell_the_stressed_namespace(
    prometheus: str, node: ClusterNode
) -> None:
    cluster = Composed(node, prometheus, from_prometheus)
    checks.pods_are_found(cluster)
    checks.energy_follows_use(cluster)
    recorded = eventually(
        lambda: found if len(found := watts(prometheus)) >= 3 else {}, within_s=PATIENCE_S
    )
    theirs = recorded[checks.NAMESPACE]
    assert theirs / (theirs + recorded["system"]) >= checks.LEAST_STRESSED
    assert recorded["unattributed"] > 0, "static power is nobody's by default"
    assert recorded.get("train", 0.0) <= checks.MOST_IDLE * theirs
    for check in checks.CHECKS[2:]:
        assert check(cluster)
    assert instant(prometheus, f'{POWER}{{workload_namespace="{checks.NAMESPACE}"}}')
    assert instant(prometheus, 'ALERTS{alertname="JoulefloorAttributionResidual"}') == []


# -- the checks themselves ------------------------------------------------------------------------


class Told:
    """A cluster that says what the test tells it; time stands still there."""

    def __init__(self, *scrapes: list[checks.Sample]) -> None:
        self._scrapes = list(scrapes)

    def read(self, *names: str) -> Sequence[checks.Sample]:
        now = self._scrapes.pop(0) if len(self._scrapes) > 1 else self._scrapes[0]
        return [sample for sample in now if sample.name in names]

    def start(self, pod: str) -> None:
        """No pod comes."""

    def delete(self, pod: str) -> None:
        """No pod goes."""

    def restart_kubelet(self) -> None:
        """It does not come back."""


def bill(pod: str, joules: float, kind: str = "pod") -> checks.Sample:
    namespace = checks.NAMESPACE if pod else ""
    labels = {"component": "cpu", "share": "dynamic", "workload_kind": kind}
    return checks.Sample(
        checks.WORKLOAD, labels | {"workload_namespace": namespace, "workload_pod": pod}, joules
    )


def grouped(joules: float) -> checks.Sample:
    labels = {"component": "cpu", "workload_kind": "pod", "workload_namespace": checks.NAMESPACE}
    return checks.Sample(checks.GROUPED, labels, joules)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "PATIENCE_S", 0.0)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    ("check", "scrapes", "complaint"),
    [
        (checks.pods_are_found, [[bill("other", 1.0)]], "no bill for stressed and idle"),
        (
            checks.energy_follows_use,
            [[bill("stressed", 0.0)], [bill("stressed", 900.0), bill("", 100.0, "system")]],
            "it went to joulefloor-e2e/stressed 90.0%, system 10.0%",
        ),
        (
            checks.energy_follows_use,
            [[bill("stressed", 0.0)], [bill("stressed", 980.0), bill("idle", 20.0)]],
            "joulefloor-e2e/idle 2.0%",
        ),
        (checks.energy_follows_use, [[bill("stressed", 5.0)]], "less than 200 J"),
        (
            checks.bills_add_up,
            [[grouped(90.0), checks.Sample(checks.COMPONENT, {"component": "cpu"}, 100.0)]],
            "cpu took 100.0 J, billed are 90.0",
        ),
        (
            checks.bills_add_up,
            [
                [
                    checks.Sample(checks.COMPONENT, {"component": "cpu"}, 100.0),
                    checks.Sample(checks.RESIDUAL, {"component": "cpu"}, 0.02),
                ]
            ],
            "residual 2.000%",
        ),
        (checks.namespace_outlives_pod, [[bill("stressed", 5.0)]], "still has a bill"),
        (
            checks.namespace_outlives_pod,
            [[grouped(500.0)], [grouped(20.0)]],
            "had 500.0 J, and 20.0 J without its pod",
        ),
        (
            checks.kubelet_restart_is_survived,
            [[checks.Sample(checks.UP, {"source": checks.DEVICES}, 1.0), bill("later", 0.0)]],
            "has not reached it",
        ),
    ],
)
def test_a_cluster_on_which_something_does_not_hold_fails_with_what_was_seen(
    check: Callable[[checks.Cluster], str], scrapes: list[list[checks.Sample]], complaint: str
) -> None:
    with pytest.raises(checks.CheckError, match=complaint):
        check(Told(*scrapes))
