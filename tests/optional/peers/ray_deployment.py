"""A Ray Serve deployment that always says ok: `python ray_deployment.py PORT METRICS_PORT`."""

from __future__ import annotations

import signal
import sys

import ray
from ray import serve

SHARED_MEMORY_BYTES = 100 * 2**20


class Classifier:
    """Answers at once."""

    async def __call__(self, _request: object) -> str:
        """The same for everybody."""
        return "ok"


if __name__ == "__main__":
    asked, metrics = int(sys.argv[1]), int(sys.argv[2])
    ray.init(
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=SHARED_MEMORY_BYTES,
        _metrics_export_port=metrics,
    )
    serve.start(http_options={"host": "127.0.0.1", "port": asked})
    deployment = serve.deployment(name="Classifier")(Classifier)
    serve.run(deployment.bind(), name="vision", route_prefix="/classify")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
