"""Quick models that answer questions about data, never a request: trees on a sample of rows, and how good they are.

On one thread: scikit-learn's wait for each other in a loop, which on cores that others use takes fifty times as long.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from training.rows import Indices
from training.sections import FeatureSection
from training.sources.columns import as_float32, plain
from training.task import TaskName

MOST_VALUES = 200  # of a category; gradient boosting takes 255


@dataclass(frozen=True)
class Matrix:
    """Columns as trees take them: float32 [rows, features], NaN where missing; a category is the rank of its value by
    frequency, `MOST_VALUES` for all that are rarer."""

    names: tuple[str, ...]
    values: NDArray[np.float32]
    categorical: NDArray[np.bool_]

    def take(self, rows: Indices) -> "Matrix":
        return Matrix(self.names, self.values[rows], self.categorical)

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Grade:
    """How well something is told: ROC AUC (binary), share of right answers (multiclass) or R² (regression), with its
    standard error."""

    value: float
    error: float

    @property
    def low(self) -> float:
        """Lower end of the 95% interval."""
        return self.value - 1.96 * self.error

    @property
    def high(self) -> float:
        return min(1.0, self.value + 1.96 * self.error)


def evenly(rows: Indices, most: int) -> Indices:
    """At most `most` of the rows, evenly spaced and in their order."""
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


def matrix(table: pa.Table, sections: Mapping[str, FeatureSection]) -> Matrix:
    """Of the numbers and categories of a table that has a column for each."""
    chosen = {name: section.kind for name, section in sections.items() if section.kind in ("number", "category")}
    values = np.empty((len(table), len(chosen)), np.float32)
    for i, (name, kind) in enumerate(chosen.items()):
        values[:, i] = as_float32(table[name]) if kind == "number" else _ranks(table[name])
    return Matrix(tuple(chosen), values, np.array([kind == "category" for kind in chosen.values()], bool))


def _ranks(column: pa.ChunkedArray) -> NDArray[np.float32]:
    codes = category_codes(column)
    counts = np.bincount(codes[codes >= 0])
    ranks = np.empty(len(counts) + 1, np.float32)
    ranks[np.argsort(-counts, kind="stable")] = np.minimum(np.arange(len(counts)), MOST_VALUES)
    ranks[-1] = np.nan
    return ranks[codes]


def category_codes(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """A number from 0 for each different value, -1 where missing or empty."""
    coded = pa.chunked_array([plain(column).cast(pa.string()).combine_chunks()]).dictionary_encode().chunk(0)
    codes: NDArray[np.int64] = coded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    empty = [i for i, value in enumerate(coded.dictionary.to_pylist()) if value in ("", None)]
    return np.where(np.isin(codes, empty), -1, codes) if empty else codes


def answers(column: pa.ChunkedArray, task: TaskName) -> NDArray[np.float64]:
    """The target as trees take it: float64 [n], the number of the class where there are classes."""
    if task == "regression":
        return as_float32(column).astype(np.float64)
    return category_codes(column).astype(np.float64)


def boosted(x: Matrix, y: NDArray[np.float64], task: TaskName, at: Matrix) -> NDArray[np.float64]:
    """Fit trees to rows and answer others: values [n], probability of the higher class [n] (binary), or
    the class [n]."""
    with threadpool_limits(1):
        return _boosted(x, y, task, at)


def _boosted(x: Matrix, y: NDArray[np.float64], task: TaskName, at: Matrix) -> NDArray[np.float64]:
    if task == "multiclass":  # boosting would grow a tree for each class in each round
        forest = ExtraTreesClassifier(60, max_leaf_nodes=256, max_features=None, random_state=0)
        return np.asarray(forest.fit(x.values, y).predict(at.values), np.float64)
    options = {"max_iter": 40, "max_leaf_nodes": 15, "early_stopping": False, "random_state": 0}
    if task == "regression":
        model = HistGradientBoostingRegressor(categorical_features=x.categorical, **options).fit(x.values, y)
        return np.asarray(model.predict(at.values), np.float64)
    model = HistGradientBoostingClassifier(categorical_features=x.categorical, **options).fit(x.values, y)
    return np.asarray(model.predict_proba(at.values)[:, -1], np.float64)


def grade(task: TaskName, truth: NDArray[np.float64], given: NDArray[np.float64]) -> Grade:
    """Of answers as `boosted` gives them. Of a binary task the higher number is the positive one; both must occur."""
    match task:
        case "binary":
            return _auc(truth == truth.max(), given)
        case "multiclass":
            share = float(np.mean(truth == given))
            return Grade(share, float(np.sqrt(share * (1 - share) / len(truth))))
        case "regression":
            errors = (truth - given) ** 2 / max(float(np.var(truth)), 1e-30)
            return Grade(1 - float(errors.mean()), float(errors.std() / np.sqrt(len(errors))))


def _auc(positive: NDArray[np.bool_], given: NDArray[np.float64]) -> Grade:
    """Standard error by Hanley and McNeil, The Meaning and Use of the Area under a ROC Curve, 1982, formula 1."""
    area = float(roc_auc_score(positive, given))
    positives, negatives = int(positive.sum()), int((~positive).sum())
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (positives - 1) * (q1 - area**2) + (negatives - 1) * (q2 - area**2)
    return Grade(area, float(np.sqrt(max(spread, 0.0) / (positives * negatives))))
