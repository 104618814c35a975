"""Metrics of the same rows under many weightings at once, which is what a bootstrap asks for.

Weights are float64 [rows, b]: column j says how often each row counts in resample j. Sums over rows are then matrix
products, and a ranking is sorted once for all resamples. The values are scikit-learn's with `sample_weight`; undefined
ones (a ranking with one class alone) are NaN, for the caller to leave out.
"""

from collections.abc import Callable, Collection

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from contract.quality import CALIBRATION_BINS, EPSILON, calibration_bin, confidence, probabilities
from training.task import Labels, Scores, Task

Weights = NDArray[np.float64]
Values = dict[str, NDArray[np.float64]]
Weighted = Callable[[Weights], Values]


def weighted(task: Task, labels: Labels, scores: Scores, threshold: float, only: Collection[str] | None) -> Weighted:
    """A function from weights [rows, b] to every metric of `training.metrics.metrics`, or `only` those, each [b]."""

    def wanted(*names: str) -> bool:
        return only is None or not set(names).isdisjoint(only)

    parts = list(_parts(task, labels, scores, threshold, wanted))

    def values(weights: Weights) -> Values:
        found = {name: value for part in parts for name, value in part(weights).items()}
        return found if only is None else {name: found[name] for name in only}

    return values


def _parts(
    task: Task, labels: Labels, scores: Scores, threshold: float, wanted: Callable[..., bool]
) -> list[Callable[[Weights], Values]]:
    if task.name == "regression":
        return [_errors(labels, scores)]
    parts = [_probability_means(labels, scores)] if wanted("log_loss", "brier") else []
    if wanted("roc_auc", "average_precision"):
        parts.append(_ranking_means(labels, scores))
    if wanted("calibration_error"):
        parts.append(_calibration(labels, scores))
    if wanted("accuracy", *(f"{name}{end}" for name in ("precision", "recall", "f1") for end in ("", "_macro"))):
        parts.append(_decisions(labels, scores, threshold))
    return parts


def sums(columns: NDArray[np.float64], weights: Weights) -> NDArray[np.float64]:
    """[k, rows] and [rows, b] -> [k, b]; not by BLAS, whose threads cost more here than they bring."""
    totals: NDArray[np.float64] = np.einsum("kr,rb->kb", columns, weights)
    return totals


def _errors(labels: Labels, values: Scores) -> Weighted:
    errors = values.astype(np.float64) - labels
    centred = labels.astype(np.float64) - labels.mean(dtype=np.float64)  # or squares of a far mean drown the variance
    columns = np.stack([np.ones_like(errors), np.abs(errors), errors**2, centred, centred**2])

    def means(weights: Weights) -> Values:
        total, absolute, square, first, second = sums(columns, weights)
        variance = second - first**2 / total
        # A constant target has no variance to explain: 0, or 1 where every value is right, as scikit-learn has it.
        constant = variance <= 1e-12 * np.maximum(second, 1e-300)
        r2 = np.where(constant, np.where(square > 0, 0.0, 1.0), 1 - square / np.where(constant, 1, variance))
        return {"rmse": np.sqrt(square / total), "mae": absolute / total, "r2": r2}

    return means


def _probability_means(labels: Labels, scores: Scores) -> Weighted:
    given = probabilities(scores)
    rows, truth = np.arange(len(labels)), labels.astype(np.int64)
    of_truth = given[rows, truth]
    brier = (given**2).sum(axis=1) - 2 * of_truth + 1
    if scores.ndim == 1:
        brier /= 2  # the two classes say the same
    columns = np.stack([np.ones_like(of_truth), -np.log(np.clip(of_truth, EPSILON, 1 - EPSILON)), brier])

    def means(weights: Weights) -> Values:
        total, loss, square = sums(columns, weights)
        return {"log_loss": loss / total, "brier": square / total}

    return means


def _ranking_means(labels: Labels, scores: Scores) -> Weighted:
    """Of the positive class, or the mean over the classes for which there is something to rank."""
    if scores.ndim == 1:
        rankings = [ranking(labels == 1, scores)]
    else:
        rankings = [ranking(labels == i, scores[:, i]) for i in range(scores.shape[1])]

    def means(weights: Weights) -> Values:
        total, defined = np.zeros((2, weights.shape[1])), np.zeros(weights.shape[1])
        for each in rankings:
            values = each(weights)
            there = ~np.isnan(values[0])
            total += np.where(there, values, 0)
            defined += there
        area, precision = np.where(defined > 0, total / np.maximum(defined, 1), np.nan)
        return {"roc_auc": area, "average_precision": precision}

    return means


def ranking(positive: NDArray[np.bool_], scores: Scores) -> Callable[[Weights], NDArray[np.float64]]:
    """A function from weights [rows, b] to ROC AUC and average precision [2, b], NaN where a class has no weight.

    Rows of one score are one cell of the sorted ranking, and so is a run of cells without a positive row: neither
    metric sees into it. ROC AUC is the share of pairs in the right order, ties half (Mann-Whitney); average precision
    is the mean over positive rows of the precision at their score.
    """
    order = np.argsort(-scores, kind="stable")
    ranked, is_positive = scores[order], positive[order]
    group = np.cumsum(np.r_[True, ranked[1:] != ranked[:-1]]) - 1
    has_positive = np.bincount(group, weights=is_positive) > 0
    cell = (np.cumsum(np.r_[True, has_positive[1:] | has_positive[:-1]]) - 1)[group]
    cells = int(cell[-1]) + 1
    sum_positive = _summing(cell[is_positive], order[is_positive], cells, len(scores))
    sum_negative = _summing(cell[~is_positive], order[~is_positive], cells, len(scores))

    def values(weights: Weights) -> NDArray[np.float64]:
        hits, misses = sum_positive @ weights, sum_negative @ weights
        hits_until, misses_until = np.cumsum(hits, axis=0), np.cumsum(misses, axis=0)
        positives, negatives = hits_until[-1], misses_until[-1]
        pairs = np.einsum("cb,cb->b", hits, negatives - misses_until + misses / 2)
        precision = hits_until / np.maximum(hits_until + misses_until, 1e-300)
        defined = (positives > 0) & (negatives > 0)
        both = np.stack([pairs / np.where(defined, negatives, 1), np.einsum("cb,cb->b", hits, precision)])
        return np.where(defined, both / np.where(defined, positives, 1), np.nan)

    return values


def _calibration(labels: Labels, scores: Scores) -> Weighted:
    sure, right = confidence(labels, scores)
    gaps = csr_array(
        (sure - right, (calibration_bin(sure), np.arange(len(labels)))), shape=(CALIBRATION_BINS, len(labels))
    )
    return lambda weights: {"calibration_error": np.abs(gaps @ weights).sum(axis=0) / weights.sum(axis=0)}


def _decisions(labels: Labels, scores: Scores, threshold: float) -> Weighted:
    decided = decisions(labels, scores, threshold)

    def values(weights: Weights) -> Values:
        precision, recall, f1, right, rows = decided(weights)
        accuracy = right.sum(axis=0) / weights.sum(axis=0)
        if scores.ndim == 1:
            return {"accuracy": accuracy, "precision": precision[1], "recall": recall[1], "f1": f1[1]}
        there = rows > 0
        macro = [np.where(there, each, 0).sum(axis=0) / there.sum(axis=0) for each in (f1, precision, recall)]
        return {"accuracy": accuracy} | dict(zip(("f1_macro", "precision_macro", "recall_macro"), macro, strict=True))

    return values


def decisions(labels: Labels, scores: Scores, threshold: float) -> Callable[[Weights], NDArray[np.float64]]:
    """A function from weights [rows, b] to precision, recall, F1, rows that are right and rows, by class:
    [5, classes, b]. What would be divided by nothing is 0."""
    classes = scores.shape[1] if scores.ndim > 1 else 2
    truth = labels.astype(np.int64)
    decided = scores.argmax(axis=1) if scores.ndim > 1 else (scores >= np.float32(threshold)).astype(np.int64)
    rows, hits = np.arange(len(labels)), np.flatnonzero(truth == decided)
    sum_true, sum_decided = (_summing(each, rows, classes, len(labels)) for each in (truth, decided))
    sum_hits = _summing(truth[hits], hits, classes, len(labels))

    def values(weights: Weights) -> NDArray[np.float64]:
        true, said, right = sum_true @ weights, sum_decided @ weights, sum_hits @ weights
        precision, recall, f1 = (right / np.where(of > 0, of, 1) for of in (said, true, (said + true) / 2))
        return np.stack([precision, recall, f1, right, true])

    return values


def _summing(groups: NDArray[np.int64], rows: NDArray[np.int64], count: int, of: int) -> csr_array:
    """The matrix [count, of] that sums `rows` into their `groups`."""
    return csr_array((np.ones(len(rows)), (groups, rows)), shape=(count, of))
