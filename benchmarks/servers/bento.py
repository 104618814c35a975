"""BentoML: bentoml serve benchmarks.servers.bento:Predictions

Adaptive batching as its documentation shows it (https://docs.bentoml.com/en/latest/get-started/adaptive-batching.html),
one worker. A picture is a file of a form (https://docs.bentoml.com/en/latest/build-with-bentoml/iotypes.html).
"""

from pathlib import Path
from typing import Any

import bentoml
import numpy as np

from benchmarks.servers import networks
from benchmarks.servers.payload import Payload, description

BATCH = description()["batch"]
BATCHING = {"batchable": True, "max_batch_size": BATCH, "max_latency_ms": 60_000} if BATCH > 1 else {}

Scores = list[list[float]]


@bentoml.service(workers=1, traffic={"timeout": 60}, metrics={"enabled": True})
class Predictions:
    """An endpoint for each kind of body."""

    def __init__(self) -> None:
        self.payload = Payload(description())
        self.network = networks.load(description())

    @bentoml.api(**BATCHING)
    def predict(self, instances: np.ndarray) -> Scores:
        """Nested lists of numbers."""
        return self.network({self.payload.input: instances.astype(np.float32)}).tolist()

    @bentoml.api(**BATCHING)
    def rows(self, instances: list[dict[str, Any]]) -> Scores:
        """Objects of columns, or of files in base64."""
        return self.network(self.payload.instances(instances)).tolist()

    @bentoml.api(**BATCHING)
    def picture(self, files: list[Path]) -> Scores:
        """PNG or JPEG files."""
        return self.network(self.payload.pictures([file.read_bytes() for file in files])).tolist()

    @bentoml.api(**BATCHING)
    def tensor(self, files: list[Path]) -> Scores:
        """Files of raw float32 values."""
        return self.network(self.payload.tensor(b"".join(file.read_bytes() for file in files))).tolist()
