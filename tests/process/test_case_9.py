"""Case 9 of the failures of this field: what the kubelet says of who holds which GPU.

The kubelet is a real gRPC server, asked by the real worker; the ledger bills by what it says.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from joulefloor import catalogue, podresources
from joulefloor.billing import Terms
from joulefloor.board import Board
from joulefloor.errors import Reason, SourceError
from joulefloor.ledger import Ledger, Rules
from joulefloor.model import IDLE, SYSTEM, Batch, Channel, Measures, Reading, Workload
from joulefloor.podresources import SOCKET, DeviceSource
from tests.kubelet import Kubelet, Pod
from tests.machine import Machine
from tests.patience import PATIENCE_S
from tests.unit.gpus import LeapingClock

if TYPE_CHECKING:
    from collections.abc import Iterator

GPUS = tuple(f"GPU-8f6a1c2e-1111-2222-3333-44445555666{number}" for number in range(2))
JOULES = 100.0
PERIOD_S = 30.0
SECOND_NS = 1_000_000_000


def pod(name: str, *gpus: str) -> Pod:
    return Pod("train", name, (("nvidia.com/gpu", gpus),) if gpus else ())


class Node:
    """Two GPUs that spend JOULES a second each, and the pods that live on the machine."""

    def __init__(self, root: Path) -> None:
        """No pod yet; the idle power is known to be nothing, so that all energy is dynamic."""
        machine = Machine(root)
        for minor, gpu in enumerate(GPUS):
            folder = f"proc/driver/nvidia/gpus/0000:0{minor}:00.0"
            machine.write(f"{folder}/information", f"GPU UUID: {gpu}\nDevice Minor: {minor}")
        self.kubelet = Kubelet(root / SOCKET)
        self.clock = LeapingClock()
        self.source = DeviceSource(machine.host, self.clock, PERIOD_S)
        self.live: tuple[str, ...] = ()
        self.batch = Batch(())
        self._board = Board()
        rules = Rules(static_watts={"gpu": 0.0}, terms=Terms())
        self._ledger = Ledger(self._board, rules)
        self._seconds = 0
        labels = [("gpu", gpu, "nvml", "measured") for gpu in GPUS]
        metric = catalogue.COMPONENT_ENERGY
        self._meters = [Channel(metric, one, Measures.ENERGY) for one in labels]
        self._busy = [
            Channel(catalogue.UTILIZATION, ("gpu", gpu, "busy"), Measures.LEVEL) for gpu in GPUS
        ]
        self._uses: dict[Workload, Channel] = {}

    def tick(self, seconds: int = 1) -> None:
        """Let time pass; the kubelet is asked each second, and takes it for its period."""
        for _ in range(seconds):
            self._seconds += 1
            self.clock.leap(PERIOD_S)
            at_ns = self._seconds * SECOND_NS
            try:
                self.batch = self.source.read()
            except SourceError:
                self._ledger.silence(self.source.name)
                self.batch = Batch(())
            else:
                moved = tuple(one._replace(at_ns=at_ns) for one in self.batch.readings)
                self._ledger.fold(self.source.name, 1.0, Batch(moved, self.batch.faults))
            users = (SYSTEM, IDLE, *(Workload("pod", "train", name) for name in self.live))
            used = [Reading(self._use(user), 0.1 * self._seconds, at_ns) for user in users]
            self._ledger.fold("workloads", 1.0, Batch(tuple(used)))
            spent = [Reading(meter, JOULES * self._seconds, at_ns) for meter in self._meters]
            spent += [Reading(busy, 1.0, at_ns) for busy in self._busy]
            self._ledger.fold("nvml", 1.0, Batch(tuple(spent)))
            self._ledger.close(at_ns, 0.0)

    def _use(self, user: Workload) -> Channel:
        labels = ("cpu", *user, "dynamic")
        if user not in self._uses:
            self._uses[user] = Channel(catalogue.WORKLOAD_ENERGY, labels, Measures.USE)
        return self._uses[user]

    @property
    def bills(self) -> dict[str, float]:
        """GPU joules so far by pod, or by reserved kind."""
        layout, values = self._board.freeze()
        found: dict[str, float] = {}
        for family in layout.families:
            if family.metric is catalogue.WORKLOAD_ENERGY:
                for offset, (component, kind, _, name, *_) in enumerate(family.series):
                    joules = values[family.start + offset]
                    if component == "gpu" and joules is not None:
                        found[name or kind] = found.get(name or kind, 0.0) + joules
        return found

    def earned(self, seconds: int) -> dict[str, float]:
        """What each is billed for the next seconds; together what the GPUs spent."""
        before = self.bills
        self.tick(seconds)
        more = {who: joules - before.get(who, 0.0) for who, joules in self.bills.items()}
        assert sum(more.values()) == pytest.approx(len(GPUS) * JOULES * seconds)
        return {who: round(joules, 6) for who, joules in more.items() if joules > 1e-9}


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """Its folder has few letters: a socket's path may have 107."""
    # On a loaded machine a worker may need long to load gRPC.
    monkeypatch.setattr(podresources, "DEADLINE_SECONDS", PATIENCE_S)
    folder = Path(tempfile.mkdtemp(prefix="jf-", dir="/tmp"))
    made = Node(folder)
    yield made
    made.source.close()
    made.kubelet.stop()
    shutil.rmtree(folder)


def test_case_9_a_kubelet_that_restarts_with_a_new_socket_loses_no_joule(node: Node) -> None:
    node.live = ("a", "b")
    node.kubelet.pods = (pod("a", GPUS[0]), pod("b", GPUS[1]))
    node.kubelet.start()
    node.tick(2)
    assert node.earned(3) == {"a": 300, "b": 300}
    node.kubelet.stop()
    node.tick()
    assert node.earned(2) == {"unattributed": 400}
    node.kubelet.pods = (pod("a", *GPUS), pod("b"))
    node.kubelet.start()
    node.tick()
    assert node.earned(3) == {"a": 600}


def test_case_9_a_slow_kubelet_is_late_and_nothing_is_billed_by_an_old_list(node: Node) -> None:
    node.live = ("a", "b")
    node.kubelet.pods = (pod("a", GPUS[0]), pod("b", GPUS[1]))
    node.kubelet.released.clear()
    node.kubelet.start()
    with pytest.raises(SourceError) as error:
        node.source.read()
    assert error.value.reason is Reason.LATE
    node.kubelet.released.set()
    node.tick(2)
    assert node.earned(1) == {"a": 100, "b": 100}


def test_case_9_terminal_pods_two_holders_and_a_claim_nobody_can_resolve_in_a_huge_list(
    node: Node,
) -> None:
    """The terminal pod is still listed, the claim of DRA names a device of no known GPU.

    So the second GPU may be held or not: nobody is billed for it.
    """
    others = tuple(pod(f"filler-{number}") for number in range(3_000))
    node.live = ("a", "b", "orphan")
    node.kubelet.pods = (
        *others,
        pod("a", GPUS[0]),
        pod("b", GPUS[0]),
        pod("ended", GPUS[0], GPUS[1]),
        Pod("train", "orphan", claims=(("gpu.nvidia.com", "gpu-7"),)),
    )
    node.kubelet.start()
    node.tick(2)
    assert node.earned(2) == {"a": 100, "b": 100, "unattributed": 200}
    (fault,) = node.batch.faults
    assert fault.reason is Reason.UNSUPPORTED
    assert "train/orphan" in fault.detail
