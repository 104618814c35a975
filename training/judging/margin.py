"""What a margin in the config is measured in."""

import numpy as np

from training.task import Labels, Task


def unit(task: Task, labels: Labels) -> float:
    """By what a margin must be multiplied to be in the headline metric's unit.

    Shares and rankings go from 0 to 1 and are their own unit. An error is in the target's unit, and there the same
    margin is a share of the target's standard deviation on the rows that are compared: the error of whoever always
    answers the mean.
    """
    return float(labels.std(dtype=np.float64)) if task.name == "regression" else 1.0
