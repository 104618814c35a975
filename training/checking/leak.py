"""Features that give the target away: each alone, by a small tree on rows that the tree has not seen."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from contract.evidence import DataWarning
from training.checking.quick import Grade, Matrix, grade
from training.rows import Indices
from training.task import TaskName

TELLS_ALL = 0.99
FEWEST_HELD = 100
FEWEST_OF_A_CLASS = 10
ADVICE = (
    "ask whether it is known at the moment of the prediction; if it is filled in afterwards, or made from the target,"
    " leave it out"
)
_MEASURES = {"binary": "ROC AUC", "multiclass": "the errors that it spares the most frequent class", "regression": "R2"}


def warnings(
    x: Matrix, y: NDArray[np.float64], task: TaskName, learnt: Indices, held: Indices
) -> Iterator[DataWarning]:
    """`learnt` and `held` are row numbers of `x`. Says nothing where there are too few rows to say it of."""
    if not _are_enough(y, task, held):
        learnt = held = np.sort(np.concatenate([learnt, held]))
        if not _are_enough(y, task, held):
            return
    for i, name in enumerate(x.names):
        column = np.nan_to_num(x.values[:, i : i + 1], nan=-np.inf).clip(-3e38, 3e38)
        told = _told(column, y, task, learnt, held)
        if told.value > TELLS_ALL:
            seen = f"alone it tells {len(held):,} rows that it was not fitted to: {_MEASURES[task]} {told.value:.4f}"
            yield DataWarning(check="leak", column=name, seen=seen, advice=ADVICE)


def _are_enough(y: NDArray[np.float64], task: TaskName, held: Indices) -> bool:
    if len(held) < FEWEST_HELD:
        return False
    if task == "regression":
        return bool(np.var(y[held]) > 0)
    counts = np.unique(y[held], return_counts=True)[1]
    return len(counts) > 1 and (task == "multiclass" or bool(counts.min() >= FEWEST_OF_A_CLASS))


def _told(column: NDArray[np.float32], y: NDArray[np.float64], task: TaskName, learnt: Indices, held: Indices) -> Grade:
    """By a tree that is fitted to `learnt`; to folds where these are the rows that it must tell."""
    if task == "regression":
        tree = DecisionTreeRegressor(max_leaf_nodes=256, min_samples_leaf=3, random_state=0)
    else:
        leaves = max(64, 2 * len(np.unique(y)))
        tree = DecisionTreeClassifier(max_leaf_nodes=leaves, min_samples_leaf=3, random_state=0)
    if learnt is held:
        method = "predict_proba" if task == "binary" else "predict"
        folds = KFold(5, shuffle=True, random_state=0)
        given = cross_val_predict(tree, column[held], y[held], cv=folds, method=method)
    else:
        tree.fit(column[learnt], y[learnt])
        given = tree.predict_proba(column[held]) if task == "binary" else tree.predict(column[held])
    told = grade(task, y[held], given[:, -1] if task == "binary" else given)
    return _beyond_guessing(told, y[held]) if task == "multiclass" else told


def _beyond_guessing(told: Grade, y: NDArray[np.float64]) -> Grade:
    """Of the errors that always answering the most frequent class makes, the share that is made no more (Goodman and
    Kruskal's lambda, Measures of Association for Cross Classifications, 1954, section 5)."""
    usual = np.unique(y, return_counts=True)[1].max() / len(y)
    return Grade(1 - (1 - told.value) / (1 - usual), told.error / (1 - usual))
