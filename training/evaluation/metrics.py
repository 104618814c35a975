"""Every metric of a task on a set of rows, by the names that a manifest has them under; contract/quality.py defines
them, for the service computes the same ones."""

import numpy as np

from contract.quality import values
from training.task import Labels, Scores, Task


def metrics(task: Task, labels: Labels, scores: Scores, threshold: float = 0.5) -> dict[str, float]:
    """All metrics of the task, its headline first. Raises ValueError where a score is not finite."""
    check(labels, scores)
    found = values(task.name, labels, scores, threshold)
    return {task.headline: found[task.headline]} | found


def check(labels: Labels, scores: Scores) -> None:
    """Raises ValueError for scores that no metric can be made of."""
    if len(labels) != len(scores) or not len(labels):
        raise ValueError(f"expected a score for each of at least one label, got {len(labels)} and {len(scores)}")
    wrong = int(np.count_nonzero(~np.isfinite(scores).reshape(len(scores), -1).all(axis=1)))
    if wrong:
        raise ValueError(f"the model's answers to {wrong:,} of {len(scores):,} rows are not finite")
