"""Whether a probability of 0.7 comes true seven times in ten, and what is done about it; for numbers, how wide an
interval must be to hold the truth nine times in ten."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from contract.quality import CALIBRATION_BINS, calibration_bin, calibration_error, confidence
from training.exporting.results import Reliability, ReliabilityBin
from training.task import Labels, Scores, Task

COLDEST, HOTTEST = 0.05, 20.0
COVERAGE = 0.9
_FEWEST_ROWS = 40


def temperature(task: Task, logits: NDArray[np.float32], labels: Labels, seed: int = 0) -> float:
    """By what the logits of validation rows should be divided (Guo et al. 2017, On Calibration of Modern Neural
    Networks, section 4.2), 1.0 for not at all.

    The temperature has the least log loss on all rows. It is used only where temperatures of each half lower both the
    calibration error and the log loss of the other half: on the rows it was chosen by, it would always look good.
    """
    if task.name == "regression" or len(labels) < _FEWEST_ROWS:
        return 1.0
    crossed = np.empty_like(logits)
    halves = np.array_split(np.random.default_rng(seed).permutation(len(labels)), 2)
    for fitted, judged in (halves, halves[::-1]):
        crossed[judged] = logits[judged] / np.float32(best_temperature(logits[fitted], labels[fitted]))
    before, after = task.scores(logits), task.scores(crossed)
    better = calibration_error(labels, after) < calibration_error(labels, before)
    if not better or log_loss(crossed, labels, 1.0) >= log_loss(logits, labels, 1.0):
        return 1.0
    return best_temperature(logits, labels)


def best_temperature(logits: NDArray[np.float32], labels: Labels) -> float:
    """The temperature of the least log loss; that is convex in its inverse, so there is one."""
    found = minimize_scalar(
        lambda inverse: log_loss(logits, labels, 1 / inverse), bounds=(1 / HOTTEST, 1 / COLDEST), method="bounded"
    )
    return float(1 / found.x)


def log_loss(logits: NDArray[np.float32], labels: Labels, divisor: float) -> float:
    """Mean log loss of logits [n] or [n, classes] divided by a temperature."""
    wide = logits.astype(np.float64) / divisor
    if wide.ndim == 1:
        return float(np.logaddexp(0, np.where(labels == 1, -wide, wide)).mean())
    highest = wide.max(axis=1)
    total = np.log(np.exp(wide - highest[:, None]).sum(axis=1)) + highest
    return float((total - wide[np.arange(len(wide)), labels]).mean())


def reliability(labels: Labels, before: Scores, after: Scores, temperature: float) -> Reliability:
    """The reliability curve on test rows, without and with the temperature."""
    return Reliability(
        temperature=temperature,
        before=bins(labels, before),
        after=bins(labels, after),
        error_before=calibration_error(labels, before),
        error_after=calibration_error(labels, after),
    )


def bins(labels: Labels, scores: Scores) -> tuple[ReliabilityBin, ...]:
    """The bins of the calibration error that hold any rows."""
    sure, right = confidence(labels, scores)
    number = calibration_bin(sure)
    rows, predicted, observed = (
        np.bincount(number, weights=each, minlength=CALIBRATION_BINS) for each in (np.ones_like(sure), sure, right)
    )
    return tuple(
        ReliabilityBin(predicted=predicted[i] / rows[i], observed=observed[i] / rows[i], rows=int(rows[i]))
        for i in np.flatnonzero(rows)
    )


def half_width(labels: Labels, values: Scores, coverage: float) -> float:
    """Half the width of an interval around a predicted number that holds the truth of a new row with at least this
    probability: the ceil((n + 1) coverage)-th smallest error on n validation rows (split conformal prediction, Lei et
    al. 2018, section 2.2), and the largest where there are too few rows for that."""
    errors = np.sort(np.abs(labels.astype(np.float64) - values))
    rank = math.ceil((len(errors) + 1) * coverage)
    return float(errors[min(rank, len(errors)) - 1])


def within(labels: Labels, values: Scores, width: float) -> NDArray[np.float64]:
    """For each row 1 where the truth lies in the interval of this half width, 0 where not."""
    return (np.abs(labels.astype(np.float64) - values) <= width).astype(np.float64)
