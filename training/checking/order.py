"""Whether rows lie in an order that a random split hides: it trains on the neighbours of what it tests on."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from contract.evidence import DataWarning
from training.checking.quick import Grade, Matrix, boosted, evenly, grade
from training.init.profile import Profile
from training.rows import Indices
from training.task import TaskName

FEWEST_ROWS = 1_000
MOST_ROWS = 12_000
HELD = 0.25
FLATTERY = 0.02  # in the measure of the task
SORTED = 0.3  # share of the changes of class from row to row that shuffled rows would have
ADVICE = (
    'if later rows came later, let the split say so: split.by = "time" with a date column, or "order"; if neighbours'
    ' belong together (one customer, one machine), split.by = "group"'
)
_MEASURES = {"binary": "ROC AUC", "multiclass": "accuracy", "regression": "R2"}


def warnings(x: Matrix, y: NDArray[np.float64], task: TaskName, profiles: dict[str, Profile]) -> Iterator[DataWarning]:
    """Rows are in the order of the file. A quick model on random rows against the same one on the last rows."""
    rows = evenly(np.arange(len(y)), MOST_ROWS)
    if len(rows) < FEWEST_ROWS or not x.names or _is_sorted_by_target(y, task):
        return
    last = len(rows) - round(HELD * len(rows))
    shuffled = np.random.default_rng(0).permutation(rows)
    by_chance = _told(x, y, task, shuffled[:last], shuffled[last:])
    by_order = _told(x, y, task, rows[:last], rows[last:])
    if by_chance is None or by_order is None:
        return
    gap, error = by_chance.value - by_order.value, float(np.hypot(by_chance.error, by_order.error))
    if gap - 1.96 * error > FLATTERY:
        measure = _MEASURES[task]
        seen = f"a quick model reaches {measure} {by_chance.value:.3f} on random rows, {by_order.value:.3f} on the last"
        rising = [name for name, each in profiles.items() if each.trend and 2 < each.distinct < each.known]
        seen += f" {HELD:.0%}; the rows lie in the order of {', '.join(rising[:3])}" if rising else f" {HELD:.0%}"
        yield DataWarning(check="order", seen=seen, advice=ADVICE)


def _told(x: Matrix, y: NDArray[np.float64], task: TaskName, learnt: Indices, held: Indices) -> Grade | None:
    """None where the rows lack a class."""
    classes = np.unique(y[held])
    if task != "regression" and not (len(classes) > 1 and set(classes) <= set(np.unique(y[learnt]))):
        return None
    return grade(task, y[held], boosted(x.take(learnt), y[learnt], task, x.take(held)))


def _is_sorted_by_target(y: NDArray[np.float64], task: TaskName) -> bool:
    """As files are that were put together class by class: the last rows are then no future, but another class."""
    if task == "regression":
        return bool(abs(np.corrcoef(np.arange(len(y)), y.argsort(kind="stable").argsort())[0, 1]) > 0.9)
    shares = np.unique(y, return_counts=True)[1] / len(y)
    expected = 1 - float(np.sum(shares**2))
    return bool(np.mean(y[1:] != y[:-1]) < SORTED * expected)
