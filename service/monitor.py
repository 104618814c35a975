"""Counts of one version's inputs and outputs, by the bins of its drift baseline.

A request only leaves its arrays here; they are counted together, many rows at a time, when enough have gathered or
somebody looks. All of it happens on the event loop, so there is nothing to lock.
"""

import numpy as np
from numpy.typing import NDArray

from contract.features import Encoded, Encoder
from contract.histogram import Counts, InputCounter, NumberCounter
from contract.manifest import Manifest

MOST_PENDING_ROWS = 512


class Monitor:
    """Everything that has been counted of one version since it was loaded here."""

    def __init__(self, manifest: Manifest, encoder: Encoder) -> None:
        self.manifest = manifest
        self._input_counter = InputCounter.of(encoder, manifest.drift.inputs)
        self._output_counter = NumberCounter([manifest.drift.outputs[manifest.output.name]], nan_is_missing=False)
        self._inputs = np.zeros(sum(self._input_counter.sizes), np.int64)
        self._outputs = np.zeros(sum(self._output_counter.sizes), np.int64)
        self._score_sum = 0.0
        self._positives = 0
        self._rows = 0
        self._pending: list[tuple[Encoded, NDArray[np.float32]]] = []
        self._pending_rows = 0

    def observe(self, encoded: Encoded, scores: NDArray[np.float32], rows: int) -> None:
        """Take note of n rows and their outputs, float32 [n]; neither may be changed afterwards."""
        self._pending.append((encoded, scores))
        self._pending_rows += rows
        if self._pending_rows >= MOST_PENDING_ROWS:
            self.flush()

    def flush(self) -> None:
        """Count what has gathered."""
        if not self._pending:
            return
        batches, scores = zip(*self._pending, strict=True)
        self._pending, self._pending_rows = [], 0
        encoded = Encoded.join(batches)
        together = np.concatenate(scores)
        self._inputs += self._input_counter.count(encoded)
        self._outputs += self._output_counter.count(together[:, None])
        self._score_sum += float(np.nansum(together, dtype=np.float64))
        self._positives += int((together >= self.manifest.output.float32_threshold).sum())
        self._rows += encoded.rows

    def inputs(self) -> dict[str, Counts]:
        """Counts by feature, in the order of its bins."""
        self.flush()
        return self._input_counter.split(self._inputs)

    def outputs(self) -> dict[str, Counts]:
        """Counts by output, in the order of its bins."""
        self.flush()
        return {self.manifest.output.name: self._outputs}

    def labels(self) -> dict[str, int]:
        """Predictions by label, in the order of the classes."""
        self.flush()
        positive = self.manifest.output.positive
        return {
            label: self._positives if label == positive else self._rows - self._positives
            for label in self.manifest.output.classes
        }

    @property
    def score_sum(self) -> float:
        self.flush()
        return self._score_sum
