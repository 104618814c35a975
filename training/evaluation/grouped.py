"""The headline metric of every part of a division of the rows at once."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from training.evaluation.divisions import NOWHERE
from training.task import Labels, Scores, Task

Codes = NDArray[np.int32]
Floats = NDArray[np.float64]

# From codes [rows] below `count`, NOWHERE for rows in no part: the metric of each part [count], and how many rows it is
# known by; the spread of the metric is about inverse to the square root of these.
Grouped = Callable[[Codes, int], tuple[Floats, Floats]]


def grouped(task: Task, labels: Labels, scores: Scores) -> Grouped:
    """The task's headline metric by part; of parts with 0 rows known by, the value means nothing."""
    match task.name:
        case "binary":
            return _roc_auc(labels == 1, scores)
        case "multiclass":
            return _f1_macro(labels.astype(np.int64), scores.argmax(axis=1), scores.shape[1])
        case "regression":
            return _rmse((labels.astype(np.float64) - scores) ** 2)


def _roc_auc(positive: NDArray[np.bool_], scores: Scores) -> Grouped:
    """By the sum of the ranks of the positive rows within their part, those of ties averaged (Mann-Whitney). An ROC AUC
    is known by 4 P N / (P + N) rows: all of them where the classes are even, few where one is rare."""
    order = np.argsort(scores, kind="stable")
    is_positive, level = positive[order], np.unique(scores[order], return_inverse=True)[1]

    def by_part(codes: Codes, count: int) -> tuple[Floats, Floats]:
        ranked = codes[order]
        within = np.argsort(ranked, kind="stable")[np.count_nonzero(ranked == NOWHERE) :]
        part, levels, hit = ranked[within], level[within], is_positive[within]
        rows, hits = (np.bincount(part, weights=each, minlength=count) for each in (np.ones(len(part)), hit))
        first = np.flatnonzero(np.r_[True, (part[1:] != part[:-1]) | (levels[1:] != levels[:-1])][: len(part)])
        length = np.diff(np.r_[first, len(part)])
        start = np.cumsum(rows) - rows
        rank = np.repeat(first + (length + 1) / 2, length) - start[part]
        total = np.bincount(part, weights=rank * hit, minlength=count)
        pairs = hits * (rows - hits)
        area = (total - hits * (hits + 1) / 2) / np.maximum(pairs, 1)
        return area, 4 * pairs / np.maximum(rows, 1)

    return by_part


def _f1_macro(truth: NDArray[np.int64], decided: NDArray[np.int64], classes: int) -> Grouped:
    def by_part(codes: Codes, count: int) -> tuple[Floats, Floats]:
        there = codes != NOWHERE
        part, true, said = codes[there].astype(np.int64), truth[there], decided[there]

        def table(which: NDArray[np.int64], weights: Floats | None = None) -> Floats:
            counted = np.bincount(part * classes + which, weights=weights, minlength=count * classes)
            return counted.reshape(count, classes).astype(np.float64)

        rows, hits = table(true), table(true, (true == said).astype(np.float64))
        f1 = 2 * hits / np.maximum(rows + table(said), 1)
        occurs = rows > 0
        return (f1 * occurs).sum(axis=1) / np.maximum(occurs.sum(axis=1), 1), rows.sum(axis=1)

    return by_part


def _rmse(squares: Floats) -> Grouped:
    def by_part(codes: Codes, count: int) -> tuple[Floats, Floats]:
        there = codes != NOWHERE
        total, rows = (
            np.bincount(codes[there], weights=each, minlength=count) for each in (squares[there], np.ones(there.sum()))
        )
        return np.sqrt(total / np.maximum(rows, 1)), rows.astype(np.float64)

    return by_part
