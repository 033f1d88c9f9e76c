"""vLLM under Ray Serve, on a CPU.

`python ray_vllm.py PORT METRICS_PORT FOLDER OPTIONS`: the options of the engine as JSON.
"""

from __future__ import annotations

import json
import signal
import sys

import ray
from ray import serve
from ray.serve.llm import LLMConfig, build_openai_app

SHARED_MEMORY_BYTES = 100 * 2**20

if __name__ == "__main__":
    asked, metrics = int(sys.argv[1]), int(sys.argv[2])
    options = json.loads(sys.argv[4])
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=SHARED_MEMORY_BYTES,
        _node_ip_address="127.0.0.1",
        _metrics_export_port=metrics,
        _system_config={"metrics_report_interval_ms": 1000},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": asked})
    model = LLMConfig(
        model_loading_config={"model_id": "tiny", "model_source": sys.argv[3]},
        deployment_config={"num_replicas": 1},
        placement_group_config={"bundles": [{"CPU": 1}]},
        engine_kwargs={**options, "distributed_executor_backend": "mp"},
    )
    serve.run(build_openai_app({"llm_configs": [model]}), name="llm")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
