"""TorchServe's own server under our rules: every request, and no other.

Not collected with the others, because the server is large: see README.md.
"""

from __future__ import annotations

import json
import os
import zipfile
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from stack.peers import start_prometheus
from stack.processes import LOOPBACK, free_port
from stack.query import QueryError, answers, eventually, fetch, instant
from tests.optional.peer import start
from tests.optional.rules import PATIENCE_S, recorded, scraping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stack.programs import Program

REQUESTS: Final = 7
MANIFEST: Final = {
    "runtime": "python",
    "archiverVersion": "0.12.0",
    "model": {"modelName": "constant", "modelVersion": "1.0", "handler": "constant.py:handle"},
}
HANDLER: Final = '''\
"""Answers at once, and not at all to whom says nothing."""


def handle(data, context):
    """Called without data when the model is loaded."""
    if data is None:
        return None
    if not all(one.get("body") for one in data):
        raise ValueError("nothing said")
    return ["ok"] * len(data)
'''


def write_model(folder: Path) -> None:
    """Write the archive of a model that needs no weights."""
    with zipfile.ZipFile(folder / "constant.mar", "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(MANIFEST))
        archive.writestr("constant.py", HANDLER)


@contextmanager
def torchserve(folder: Path) -> Iterator[tuple[str, str]]:
    """Serve the model; yields its URL and the host:port of the metrics."""
    write_model(folder)
    names = ("inference_address", "management_address", "metrics_address")
    ports = {name: free_port() for name in names}
    config = {name: f"http://{LOOPBACK}:{port}" for name, port in ports.items()}
    config |= {f"grpc_{name}_port": str(free_port()) for name in ("inference", "management")}
    config |= {"metrics_mode": "prometheus", "disable_token_authorization": "true"}
    config |= {"default_workers_per_model": "1", "model_store": str(folder)}
    text = "".join(f"{key}={value}\n" for key, value in config.items())
    (folder / "config.properties").write_text(text, encoding="utf-8")
    # Its workers run the `python` of PATH; its marks and sockets lie where TEMP says.
    path = f"{Path(os.environ.get('PEER_PYTHON', '')).parent}{os.pathsep}{os.environ['PATH']}"
    logs = {f"{name}_LOCATION": str(folder / "logs") for name in ("LOG", "METRICS")}
    begin = "from ts.model_server import start; start()"
    options = ["--foreground", "--ncs", "--ts-config=config.properties"]
    with start(
        "torchserve",
        ["-c", begin, *options, "--models=constant=constant.mar"],
        port=ports["inference_address"],
        folder=folder,
        environment={"PATH": path, "TEMP": str(folder), **logs},
    ) as server:
        yield server.url, f"{LOOPBACK}:{ports['metrics_address']}"


def says(url: str, body: bytes) -> bool:
    """Say whether a prediction succeeds."""
    try:
        fetch(f"{url}/predictions/constant", data=body)
    except QueryError:
        return False
    return True


def test_torchserve_counts_requests(prometheus: Program, tmp_path: Path) -> None:
    """Also those whose handler failed; not those before the model was there."""
    with torchserve(tmp_path) as (url, metrics):
        assert eventually(partial(answers, f"{url}/ping"), within_s=PATIENCE_S)
        assert eventually(partial(says, url, b"first"), within_s=PATIENCE_S)
        for _ in range(REQUESTS - 2):
            assert says(url, b"more")
        assert not says(url, b"")
        config = scraping(metrics, {"namespace": "prod", "pod": "ts-5d4f9c8b7-xk2lp"}, tmp_path)
        with start_prometheus(prometheus, tmp_path / "prometheus", config) as peer:
            counter = f'ts_inference_requests_total{{model_name="constant"}} == {REQUESTS}'
            assert eventually(partial(instant, peer.url, counter), within_s=PATIENCE_S)
            rate = partial(recorded, peer.url, "inferences:rate5m", "constant", "workload")
            assert eventually(lambda: rate().keys() == {"ts"}, within_s=PATIENCE_S), rate()
            activity = partial(recorded, peer.url, "server_activity:rate5m", "constant", "server")
            assert eventually(lambda: activity().keys() == {"torchserve"}, within_s=PATIENCE_S)
