"""Answers of two versions of a model to the same rows, counted alike: by the bins and the labels of one of them.

The gate counts held-out rows so, and the service what a canary and production answer: what the gate has seen of the two
is what the service may expect of them.
"""

import numpy as np
from numpy.typing import NDArray

from contract.comparison import compare
from contract.evidence import Difference
from contract.histogram import OutputCounter
from contract.manifest import BinaryOutput, Manifest, MulticlassOutput, Output
from contract.runtimes import Outputs

# Pairs of more labels would be most of a manifest; by the score, and by disagreement, their rows are compared all the
# same.
MOST_LABELS = 50

Places = NDArray[np.intp]


class AnswerBins:
    """Counts answers of either version by the bins and labels of the one that is `known`; of answers that mean
    something else, nothing."""

    def __init__(self, known: Manifest, other: Manifest) -> None:
        watched = known.drift.outputs
        self._comparable = _meaning(known.output) == _meaning(other.output) and bool(watched)
        self._counter = OutputCounter.of(known.output, watched)
        names = self._counter.names
        self._place = names.index(known.score) if known.task != "tensors" and known.score in names else 0
        self._first = sum(self._counter.sizes[: self._place])
        self.bins = self._counter.sizes[self._place] if names else 0
        self.labels = len(known.output.classes) if isinstance(known.output, BinaryOutput | MulticlassOutput) else 1

    def note(self, outputs: Outputs, rows: NDArray[np.int64] | slice = slice(None)) -> NDArray[np.float32] | None:
        """What must be known of some rows to count them later."""
        return self._counter.note(outputs)[rows] if self._comparable else None

    def places(self, noted: NDArray[np.float32]) -> tuple[Places, Places]:
        """The bin of each row's score, or of the first output that is watched, and its label; both [n]."""
        watched, labels = self._counter.watched(noted)
        return self._counter.numbers.flat_bins(watched)[:, self._place] - self._first, labels

    def count(self, noted: list[NDArray[np.float32]]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Rows by bin, and by label."""
        if not noted:
            return (), ()
        places = self.places(np.concatenate(noted))
        bins, labels = (np.bincount(at, minlength=n) for at, n in zip(places, (self.bins, self.labels), strict=True))
        return tuple(bins.tolist()), tuple(labels.tolist())


def difference(known: Manifest, other: Manifest, before: Outputs, now: Outputs) -> Difference | None:
    """How else than the known version another answers the same rows; None where the two cannot be compared."""
    counting = AnswerBins(known, other)
    old, new = counting.note(before), counting.note(now)
    if old is None or new is None or not len(old):
        return None
    (from_bin, from_label), (to_bin, to_label) = counting.places(old), counting.places(new)
    disagreed = [0] * counting.bins
    for number in np.unique(from_bin).tolist():
        rows = from_bin == number
        found = compare(known.output, other.output, _some(before, rows), _some(now, rows))
        disagreed[number] = 0 if found is None else found.disagreed
    labels = _table(from_label, to_label, counting.labels) if 1 < counting.labels <= MOST_LABELS else ()
    return Difference(bins=_table(from_bin, to_bin, counting.bins), labels=labels, disagreed=tuple(disagreed))


def _some(outputs: Outputs, rows: NDArray[np.bool_]) -> Outputs:
    return {name: values[rows] for name, values in outputs.items()}


def _table(rows: Places, columns: Places, size: int) -> tuple[tuple[int, ...], ...]:
    counts = np.bincount(rows * size + columns, minlength=size * size).reshape(size, size)
    return tuple(map(tuple, counts.tolist()))


def _meaning(output: Output) -> object:
    """What outputs must have in common to be counted alike."""
    return output.name, getattr(output, "classes", None), getattr(output, "positive", None)
