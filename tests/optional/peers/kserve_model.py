"""A KServe model server whose model always says 1: `python kserve_model.py PORT`."""

from __future__ import annotations

import sys

from kserve import Model, ModelServer


class Constant(Model):  # type: ignore[misc]  # untyped where kserve is not installed
    """Answers at once."""

    def __init__(self) -> None:
        """It is ready from the beginning."""
        super().__init__("constant")
        self.ready = True

    def predict(self, payload: object, headers: object = None) -> dict[str, list[int]]:  # noqa: ARG002
        """The same for everybody."""
        return {"predictions": [1]}


if __name__ == "__main__":
    ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1).start([Constant()])
