"""How far apart the answers of two versions to the same rows are."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.outputs import BinaryOutput, MulticlassOutput, Output, RegressionOutput, TensorsOutput
from contract.runtimes import Outputs

# Of outputs whose meaning is not known: what rounding does to a float32 network, and some more.
TENSORS_AGREE = 1e-3

# More is not worth telling apart; what is no number differs by so much from any.
LARGEST = 1000.0

Differences = NDArray[np.float64]


@dataclass(frozen=True)
class Comparison:
    """Rows that agreed and that did not, and the largest difference of any, which is in the terms of `compare`."""

    agreed: int
    disagreed: int
    largest: float


def compare(first: Output, second: Output, ours: Outputs, theirs: Outputs) -> Comparison | None:
    """Of n rows; None where the two cannot be compared.

    Classes agree when their labels do, each by its own threshold, and differ by their probabilities. Values agree when
    the second lies within the interval that the first gives, and differ by a share of the range that training saw.
    Tensors agree when no value differs by more than a thousandth of its output's largest, and differ by that share.
    """
    match first, second:
        case BinaryOutput(), BinaryOutput():
            return _binary(first, second, ours, theirs)
        case MulticlassOutput(), MulticlassOutput() if first.classes == second.classes:
            a, b = ours[first.name], theirs[second.name]
            return _comparison(a.argmax(axis=1) == b.argmax(axis=1), _rows(np.abs(a - b)))
        case RegressionOutput(), RegressionOutput():
            difference = np.abs(ours[first.name] - theirs[second.name])
            span = first.maximum - first.minimum
            return _comparison(difference <= first.half_width, difference / (span or 1.0))
        case TensorsOutput(), TensorsOutput():
            return _tensors(ours, theirs)
    return None


def _binary(first: BinaryOutput, second: BinaryOutput, ours: Outputs, theirs: Outputs) -> Comparison | None:
    """What is positive for one may be negative for the other."""
    if set(first.classes) != set(second.classes):
        return None
    a, b = ours[first.name], theirs[second.name]
    positive, theirs_positive = a >= first.float32_threshold, b >= second.float32_threshold
    if first.positive != second.positive:
        b, theirs_positive = 1 - b, ~theirs_positive
    return _comparison(positive == theirs_positive, np.abs(a - b))


def _tensors(ours: Outputs, theirs: Outputs) -> Comparison | None:
    if ours.keys() != theirs.keys() or any(ours[name].shape != theirs[name].shape for name in ours):
        return None
    each = [_share(ours[name], theirs[name]) for name in ours]
    difference = np.max(each, axis=0)
    return _comparison(difference <= TENSORS_AGREE, difference)


def _share(a: NDArray[Any], b: NDArray[Any]) -> Differences:
    """By row; of what is no number, 1 where anything differs."""
    if a.dtype.kind not in "fiu" or b.dtype.kind not in "fiu":
        return _rows((a != b).astype(np.float64))
    a, b = a.astype(np.float64), b.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    finite = a[np.isfinite(a)]
    largest = np.max(np.abs(finite)) if finite.size else 0.0
    with np.errstate(invalid="ignore"):  # infinity less infinity; it is the same
        return _rows(np.where(same, 0.0, np.abs(a - b) / (largest or 1.0)))


def _rows(differences: NDArray[Any]) -> Differences:
    """The largest of each row."""
    largest: Differences = differences.reshape(len(differences), -1).max(axis=1, initial=0.0).astype(np.float64)
    return largest


def _comparison(agree: NDArray[np.bool_], difference: NDArray[Any]) -> Comparison:
    """What is no number agrees with nothing."""
    known = np.isfinite(difference)
    agreed = int((agree & known).sum())
    largest = float(np.where(known, difference, LARGEST).max(initial=0.0))
    return Comparison(agreed, len(agree) - agreed, min(largest, LARGEST))
