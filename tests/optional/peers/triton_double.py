"""Triton's server, by PyTriton, with a model that doubles.

`python triton_double.py PORT METRICS_PORT FOLDER`.
"""

from __future__ import annotations

import os
import signal
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt


def double(x: npt.NDArray[np.float32]) -> Mapping[str, npt.NDArray[np.float32]]:
    """Each element of the batch."""
    return {"y": x + x}


def main() -> None:
    """Serve until asked to stop."""
    # The process that holds the model would take another Python's library of the same name.
    os.environ["LD_LIBRARY_PATH"] = str(sysconfig.get_config_var("LIBDIR"))
    config = TritonConfig(
        http_address="127.0.0.1",
        http_port=int(sys.argv[1]),
        metrics_port=int(sys.argv[2]),
        allow_grpc=False,
        allow_gpu_metrics=False,
    )
    with Triton(config=config, workspace=Path(sys.argv[3]) / "workspace") as triton:
        triton.bind(
            model_name="double",
            infer_func=batch(double),
            inputs=[Tensor(name="x", dtype=np.float32, shape=(1,))],
            outputs=[Tensor(name="y", dtype=np.float32, shape=(1,))],
            config=ModelConfig(max_batch_size=8),
        )
        triton.run()
        signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    main()
