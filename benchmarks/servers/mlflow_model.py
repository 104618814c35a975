"""MLflow: python -m benchmarks.servers.mlflow_model FOLDER writes the model that `mlflow models serve` then serves.

A custom Python model (https://mlflow.org/docs/latest/ml/traditional-ml/tutorials/creating-custom-pyfunc), because a
SavedModel's own flavour takes neither rows with strings nor pictures. Without a signature "instances" come as they are
written; rows come as a table. No binary bodies, and no batching of requests.
"""

import sys
from typing import Any

import mlflow
import numpy as np

from benchmarks.servers import networks
from benchmarks.servers.payload import Payload, Tensors, description


class Predictions(mlflow.pyfunc.PythonModel):
    """Loaded once in the server's process."""

    def load_context(self, context: Any) -> None:  # noqa: ARG002  # the description says where the model is
        self.payload = Payload(description())
        self.network = networks.load(description())

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:  # noqa: ARG002
        return self.network(self._tensors(model_input)).tolist()

    def _tensors(self, given: Any) -> Tensors:
        if self.payload.kind == "rows":
            return self.payload.columns(given.to_dict("records"))
        if isinstance(given, np.ndarray) and given.dtype != object:
            return {self.payload.input: given.astype(np.float32)}
        files = given["b64"] if isinstance(given, dict) else [each["b64"] for each in given]
        return self.payload.instances([{"b64": file} for file in files])


if __name__ == "__main__":
    mlflow.pyfunc.save_model(sys.argv[1], python_model=Predictions(), pip_requirements=[])
