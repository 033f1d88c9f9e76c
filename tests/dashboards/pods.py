"""Pods for the fleet: some work, one sleeps, and a job comes and goes all the time."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.kubelet import Pod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import ClusterNode

PODS: Final = {
    "static_power": {"start": {"cpu": "20W", "dram": "1W"}},
    "workloads": {"static": "use", "keep": "3s"},
    "sources": {"simulated": {"enabled": False}},
}
"""Static energy by use, so that pods have some; ended pods go soon, so that some are finished."""
RUNNING: Final = {
    Pod("train", "trainer-0"): 0.8,
    Pod("train", "trainer-1"): 0.3,
    Pod("web", "shop-7f9c6d5b48-k2x9p"): 0.25,
    Pod("web", "shop-7f9c6d5b48-wq7dn"): 0.1,
    Pod("lab", "notebook-0"): 0.0,
    Pod("ci", "runner-0"): 0.04,
    Pod("db", "postgres-0"): 0.05,
    Pod("monitoring", "prometheus-0"): 0.03,
}
"""Pods and the CPUs that they keep busy."""
JOB_CPUS: Final = 0.4
JOB_S: Final = 7.0
PAUSE_S: Final = 5.0


@contextmanager
def running(node: ClusterNode) -> Iterator[None]:
    """Let the node's pods work until the block ends."""
    for pod, cpus in RUNNING.items():
        node.start(pod, cpus=cpus)
    stop = threading.Event()
    thread = threading.Thread(target=_work, args=(node, stop), daemon=True)
    with node.alive():
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _work(node: ClusterNode, stop: threading.Event) -> None:
    number = 28_937_160
    while not stop.wait(PAUSE_S):
        job = Pod("batch", f"report-{number}-9ssjm")
        node.start(job, cpus=JOB_CPUS)
        stop.wait(JOB_S)
        node.end(job.namespace, job.name)
        number += 1
