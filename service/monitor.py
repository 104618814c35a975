"""Counts of one version's inputs and outputs, by the bins of its drift baseline.

A request only leaves its arrays here; they are counted together, many rows at a time, when enough have gathered or
somebody looks. All of it happens on the event loop, so there is nothing to lock.
"""

import numpy as np
from numpy.typing import NDArray

from contract.features import Encoded, Encoder
from contract.histogram import Counts, InputCounter, NumberCounter, scores
from contract.manifest import BinaryOutput, Manifest, MulticlassOutput, Output
from contract.runtimes import Outputs

MOST_PENDING_ROWS = 512

# Numbers and categories are counted; pictures and texts would only be held on to.
_Observed = tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]


class Monitor:
    """Everything that has been counted of one version since it was loaded here."""

    def __init__(self, manifest: Manifest, encoder: Encoder) -> None:
        self.manifest = manifest
        self._input_counter = InputCounter.of(encoder, manifest.drift.inputs)
        self._output_counter = NumberCounter([manifest.drift.outputs[manifest.score]], nan_is_missing=False)
        self._inputs = np.zeros(sum(self._input_counter.sizes), np.int64)
        self._outputs = np.zeros(sum(self._output_counter.sizes), np.int64)
        self._score_sum = 0.0
        self._labels = np.zeros(len(_labels(manifest.output)), np.int64)
        self._pending: list[_Observed] = []
        self._pending_rows = 0

    def observe(self, encoded: Encoded, outputs: Outputs, rows: int) -> None:
        """Take note of n rows and their outputs by name; neither may be changed afterwards."""
        answers = outputs[self.manifest.output.name]
        self._pending.append((encoded.numbers, encoded.categories, answers))
        self._pending_rows += rows
        if self._pending_rows >= MOST_PENDING_ROWS:
            self.flush()

    def flush(self) -> None:
        """Count what has gathered."""
        if not self._pending:
            return
        numbers, categories, answers = map(np.concatenate, zip(*self._pending, strict=True))
        self._pending, self._pending_rows = [], 0
        watched = scores(self.manifest.output, answers)
        self._inputs += self._input_counter.count(Encoded(numbers, categories))
        self._outputs += self._output_counter.count(watched[:, None])
        self._score_sum += float(np.nansum(watched, dtype=np.float64))
        self._labels += np.bincount(_label_numbers(self.manifest.output, answers), minlength=self._labels.size)

    def inputs(self) -> dict[str, Counts]:
        """Counts by feature, in the order of its bins."""
        self.flush()
        return self._input_counter.split(self._inputs)

    def outputs(self) -> dict[str, Counts]:
        """Counts of the output's score, in the order of its bins."""
        self.flush()
        return {self.manifest.score: self._outputs}

    def labels(self) -> dict[str, int]:
        """Predictions by label, in the order of the classes; under an empty label where the output is a value."""
        self.flush()
        return dict(zip(_labels(self.manifest.output), self._labels.tolist(), strict=True))

    @property
    def score_sum(self) -> float:
        self.flush()
        return self._score_sum


def _labels(output: Output) -> tuple[str, ...]:
    return output.classes if isinstance(output, BinaryOutput | MulticlassOutput) else ("",)


def _label_numbers(output: Output, answers: NDArray[np.float32]) -> NDArray[np.intp]:
    """Which of `_labels` each row gets, int [n]."""
    match output:
        case BinaryOutput():
            positive = output.classes.index(output.positive)
            return np.where(answers >= output.float32_threshold, positive, 1 - positive)
        case MulticlassOutput():
            largest: NDArray[np.intp] = answers.argmax(axis=1)
            return largest
        case _:
            return np.zeros(len(answers), np.intp)
