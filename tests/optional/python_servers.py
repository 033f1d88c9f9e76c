"""KServe's and Ray Serve's own servers under our rules: every request, and no other.

Not collected with the others, because the servers are large: see README.md.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from stack.peers import start_prometheus
from stack.processes import LOOPBACK, free_port
from stack.query import answers, eventually, fetch, instant
from tests.optional.peer import SCRIPTS, start
from tests.optional.rules import PATIENCE_S, recorded, scraping

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from stack.processes import Peer
    from stack.programs import Program

REQUESTS: Final = 7


def serve(script: str, *ports: int, folder: Path) -> Peer:
    """Start one of our scripts over a server."""
    arguments = [str(SCRIPTS / script), *map(str, ports)]
    return start(script, arguments, port=ports[0], folder=folder)


def count(url: str, counter: str) -> float:
    """A counter as Prometheus has it, 0 as long as it has none."""
    return sum(float(one["value"][1]) for one in instant(url, counter))


def check(
    prometheus: Program, metrics: str, folder: Path, counter: str, series: tuple[str, str]
) -> None:
    """The counter is what was asked for, and the rules record it as requests of the model."""
    model, workload = series
    labels: Mapping[str, str] = {"namespace": "prod", "pod": f"{workload}-5d4f9c8b7-xk2lp"}
    config = scraping(metrics, labels, folder)
    with start_prometheus(prometheus, folder / "prometheus", config) as peer:
        complete = partial(count, peer.url, counter)
        assert eventually(lambda: complete() == REQUESTS, within_s=PATIENCE_S), complete()
        rate = partial(recorded, peer.url, "inferences:rate5m", model, "workload")
        assert eventually(lambda: rate().keys() == {workload}, within_s=PATIENCE_S), rate()


def test_kserve_counts_predictions(prometheus: Program, tmp_path: Path) -> None:
    port = free_port()
    with serve("kserve_model.py", port, folder=tmp_path) as server:
        server.await_ready("/v1/models/constant", within_s=PATIENCE_S)
        for _ in range(REQUESTS):
            fetch(f"{server.url}/v1/models/constant:predict", data=b'{"instances": [[1]]}')
        counter = 'request_predict_seconds_count{model_name="constant"}'
        check(prometheus, server.address, tmp_path, counter, ("constant", "iris"))


def test_ray_serve_counts_calls_of_the_deployment(prometheus: Program, tmp_path: Path) -> None:
    port, metrics = free_port(), free_port()
    with serve("ray_deployment.py", port, metrics, folder=tmp_path) as server:
        asked = f"{server.url}/classify"
        # The first answer may be the one of a deployment that is not there yet, which is no call.
        assert eventually(partial(answers, asked), within_s=PATIENCE_S), server.tail()
        for _ in range(REQUESTS - 1):
            fetch(asked)
        counter = 'ray_serve_deployment_request_counter_total{deployment="Classifier"}'
        check(prometheus, f"{LOOPBACK}:{metrics}", tmp_path, counter, ("Classifier", "vision"))
