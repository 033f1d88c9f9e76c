"""Triton's own server under our rules: every element of a batch, and no request that failed.

Not collected with the others, because the server is large: see README.md.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from stack.peers import start_prometheus
from stack.processes import LOOPBACK, free_port
from stack.query import QueryError, eventually, fetch, instant
from tests.optional.peer import SCRIPTS, start
from tests.optional.rules import PATIENCE_S, recorded, scraping

if TYPE_CHECKING:
    from pathlib import Path

    from stack.programs import Program

BATCHES: Final = ([1.0, 2.0, 3.0], [4.0], [5.0, 6.0])
ELEMENTS: Final = sum(map(len, BATCHES))


def ask(url: str, numbers: list[float], name: str = "x") -> list[float]:
    """Have a batch doubled."""
    tensor = {"name": name, "shape": [len(numbers), 1], "datatype": "FP32", "data": numbers}
    body = json.dumps({"inputs": [tensor]}).encode()
    told = json.loads(fetch(f"{url}/v2/models/double/infer", data=body))
    (answer,) = told["outputs"]
    return list(answer["data"])


def test_triton_counts_elements(prometheus: Program, tmp_path: Path) -> None:
    port, metrics = free_port(), free_port()
    command = [str(SCRIPTS / "triton_double.py"), str(port), str(metrics), str(tmp_path)]
    with start("triton", command, port=port, folder=tmp_path) as server:
        server.await_ready("/v2/models/double/ready", within_s=PATIENCE_S)
        for batch in BATCHES:
            assert ask(server.url, batch) == [2 * number for number in batch]
        with pytest.raises(QueryError, match="unexpected inference input"):
            ask(server.url, [1.0], name="z")
        labels = {"namespace": "prod", "pod": "triton-5d4f9c8b7-xk2lp"}
        config = scraping(f"{LOOPBACK}:{metrics}", labels, tmp_path)
        with start_prometheus(prometheus, tmp_path / "prometheus", config) as peer:
            counter = f'nv_inference_count{{model="double"}} == {ELEMENTS}'
            assert eventually(partial(instant, peer.url, counter), within_s=PATIENCE_S)
            unit = partial(recorded, peer.url, "inferences:rate5m", "double", "unit")
            assert eventually(lambda: unit().keys() == {"element"}, within_s=PATIENCE_S), unit()
            work = partial(recorded, peer.url, "server_work:rate5m", "double", "workload")
            assert eventually(lambda: work().keys() == {"triton"}, within_s=PATIENCE_S), work()
