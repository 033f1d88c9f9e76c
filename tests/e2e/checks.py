"""What must hold on a cluster: pods are found, billed by use, and outlived by their namespace.

`make e2e` asks this of a kind cluster or of one that is there, tests/process/test_cluster.py of a
composed node. A cluster has a namespace with two pods, one that keeps all CPUs busy and one that
sleeps.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from joulefloor import catalogue
from stack.query import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

NAMESPACE: Final = "joulefloor-e2e"
STRESSED: Final = "stressed"
IDLE: Final = "idle"
LATER: Final = "later"
"""The pod that is started after the kubelet was."""
ENOUGH_JOULES: Final = 200.0
"""Dynamic CPU energy over which shares are taken."""
LEAST_STRESSED: Final = 0.95
MOST_IDLE: Final = 0.01
MOST_RESIDUAL: Final = 0.001
PATIENCE_S: Final = 420.0
"""The chart's daemon keeps bills of ended pods for five minutes if it is told nothing else."""
WORKLOAD: Final = catalogue.WORKLOAD_ENERGY.name
GROUPED: Final = catalogue.NAMESPACE_ENERGY.name
COMPONENT: Final = catalogue.COMPONENT_ENERGY.name
RESIDUAL: Final = catalogue.WORKLOAD_RESIDUAL.name
UP: Final = catalogue.SOURCE_UP.name
READ_S: Final = catalogue.SOURCE_READ.name
DEVICES: Final = "workloads-devices"


class Sample(NamedTuple):
    """One series now."""

    name: str
    labels: Mapping[str, str]
    value: float


class Cluster(Protocol):
    """A cluster of one node: what its daemon says, and hands on its pods and its kubelet."""

    def read(self, *names: str) -> Sequence[Sample]:
        """All series of these names, of one instant; empty while nobody answers."""

    def start(self, pod: str) -> None:
        """Start an idle pod in the namespace."""

    def delete(self, pod: str) -> None:
        """Delete a pod of the namespace; it may return before the pod is gone."""

    def restart_kubelet(self) -> None:
        """Restart the kubelet, which makes its socket anew; return when it answers."""


class CheckError(AssertionError):
    """Something that must hold on a cluster does not; the text says what was seen instead."""


def pods_are_found(cluster: Cluster) -> str:
    """Both pods have bills under their own names."""
    return _found(cluster, STRESSED, IDLE)


def energy_follows_use(cluster: Cluster) -> str:
    """The stressed pod gets nearly all dynamic energy of the CPUs, the idle one nearly none."""
    before = _dynamic(cluster)

    def spent() -> dict[str, float]:
        now = _dynamic(cluster)
        gained = {who: joules - before.get(who, 0.0) for who, joules in now.items()}
        return gained if sum(gained.values()) >= ENOUGH_JOULES else {}

    gained = eventually(spent, within_s=PATIENCE_S)
    if not gained:
        raise CheckError(f"the CPUs spent less than {ENOUGH_JOULES:.0f} J above idle: {before}")
    whole = sum(gained.values())
    shares = {who: joules / whole for who, joules in gained.items()}
    ranked = sorted(shares.items(), key=lambda one: -one[1])[:5]
    said = ", ".join(f"{who} {share:.1%}" for who, share in ranked)
    stressed, idle = (shares.get(f"{NAMESPACE}/{pod}", 0.0) for pod in (STRESSED, IDLE))
    if stressed < LEAST_STRESSED or idle > MOST_IDLE:
        raise CheckError(
            f"of the dynamic CPU energy the stressed pod must get {LEAST_STRESSED:.0%} and the "
            f"idle one at most {MOST_IDLE:.0%}; it went to {said}"
        )
    return f"stressed {stressed:.1%}, idle {idle:.2%} of {whole:.0f} J dynamic CPU energy"


def bills_add_up(cluster: Cluster) -> str:
    """What is billed, nobody's bills included, is what the components took."""
    samples = cluster.read(GROUPED, COMPONENT, RESIDUAL)
    billed, taken, residual = defaultdict[str, float](float), defaultdict[str, float](float), 0.0
    for name, labels, value in samples:
        if name == RESIDUAL:
            residual = max(residual, value)
        else:
            (billed if name == GROUPED else taken)[labels["component"]] += value
    if not any(taken.values()) or residual > MOST_RESIDUAL:
        raise CheckError(f"residual {residual:.3%} of {dict(taken)} J")
    for component, joules in taken.items():
        if abs(billed[component] - joules) > MOST_RESIDUAL * joules:
            raise CheckError(f"{component} took {joules:.1f} J, billed are {billed[component]:.1f}")
    return f"{len(taken)} components, residual {residual:.1e}"


def namespace_outlives_pod(cluster: Cluster) -> str:
    """A deleted pod loses its series, and its namespace loses no joule."""
    before = _of_namespace(cluster)
    cluster.delete(STRESSED)
    gone = eventually(lambda: not _has(cluster, STRESSED), within_s=PATIENCE_S)
    if not gone:
        raise CheckError(f"{STRESSED} still has a bill {PATIENCE_S:.0f} s after it was deleted")
    after = _of_namespace(cluster)
    if after < before:
        raise CheckError(f"the namespace had {before:.1f} J, and {after:.1f} J without its pod")
    return f"the namespace had {before:.0f} J with the pod and keeps {after:.0f} J"


def kubelet_restart_is_survived(cluster: Cluster) -> str:
    """After a restart new pods are found, and who asks for devices is answered again."""
    asked = _devices(cluster, UP) is not None
    cluster.restart_kubelet()
    before_s = _devices(cluster, READ_S)
    cluster.start(LATER)
    said = _found(cluster, LATER)
    if not asked:
        return f"{said}; no accelerators, so nobody asks for their holders"

    def answered() -> bool:
        # No two reads take the same nanoseconds.
        return _devices(cluster, READ_S) != before_s and _devices(cluster, UP) == 1

    if not eventually(answered, within_s=PATIENCE_S):
        raise CheckError(f"the kubelet is back, and {DEVICES} has not reached it")
    return f"{said}; its device list is read again"


CHECKS: Final[Sequence[Callable[[Cluster], str]]] = (
    pods_are_found,
    energy_follows_use,
    bills_add_up,
    namespace_outlives_pod,
    kubelet_restart_is_survived,
)
"""In this order: the stressed pod is deleted on the way."""


def _found(cluster: Cluster, *pods: str) -> str:
    if not eventually(lambda: all(_has(cluster, pod) for pod in pods), within_s=PATIENCE_S):
        seen = sorted(_dynamic(cluster))
        raise CheckError(
            f"no bill for {' and '.join(pods)} in {NAMESPACE} after {PATIENCE_S:.0f} s; there are "
            f"{seen}. Names come from /var/log/pods, usage from /sys/fs/cgroup"
        )
    return f"{' and '.join(pods)} found by name"


def _has(cluster: Cluster, pod: str) -> bool:
    return any(
        (labels["workload_namespace"], labels["workload_pod"]) == (NAMESPACE, pod)
        for _, labels, _ in _labelled(cluster, WORKLOAD, "workload_pod")
    )


def _dynamic(cluster: Cluster) -> dict[str, float]:
    """Dynamic joules of the CPUs so far by namespace/pod, or by reserved kind."""
    found: dict[str, float] = defaultdict(float)
    for _, labels, value in cluster.read(WORKLOAD):
        if (labels["component"], labels["share"]) == ("cpu", "dynamic"):
            pod = labels.get("workload_pod")
            who = f"{labels.get('workload_namespace', '')}/{pod}" if pod else ""
            found[who or labels["workload_kind"]] += value
    return found


def _of_namespace(cluster: Cluster) -> float:
    return sum(
        value
        for _, labels, value in _labelled(cluster, GROUPED, "workload_namespace")
        if labels["workload_namespace"] == NAMESPACE
    )


def _labelled(cluster: Cluster, name: str, label: str) -> list[Sample]:
    return [sample for sample in cluster.read(name) if sample.labels.get(label)]


def _devices(cluster: Cluster, name: str) -> float | None:
    """A health series of the source that asks the kubelet, None where nobody asks."""
    found = [value for _, labels, value in cluster.read(name) if labels["source"] == DEVICES]
    return found[0] if found else None
