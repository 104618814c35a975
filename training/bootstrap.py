"""How sure a metric is: 95% percentile bootstrap intervals over rows (Efron & Tibshirani 1993, chapters 13 and 10).

`intervals` is for one model, `paired` for the difference of two on the same rows: the same resamples for both, so that
what is hard for both cancels out.
"""

import math
from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from contract.evidence import Metric, improvement
from training.metrics import metrics
from training.task import Labels, Scores, Task
from training.weighted import Values, Weighted, Weights, sums, weighted

RESAMPLES = 200
LEVELS = (2.5, 97.5)
_BLOCK = 4_000_000  # weights in memory at once: 32 MB
_MOST_SCORES = 20_000_000
_MOST_ROWS = 250_000


def intervals(
    task: Task,
    labels: Labels,
    scores: Scores,
    threshold: float = 0.5,
    *,
    only: Collection[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Metric]:
    """Every metric of `training.metrics.metrics`, or `only` those, with its interval. Raises ValueError as that does.

    A metric that no resample defines (a ranking with one class alone) has the interval of all it could be, 0 to 1.
    """
    values = metrics(task, labels, scores, threshold)
    rows, scale = _thinned(len(labels), _width(scores), seed)
    statistic = weighted(task, labels[rows], scores[rows], threshold, only or values.keys())
    found = resampled(statistic, len(labels[rows]), resamples, seed)
    own = statistic(np.ones((len(labels[rows]), 1)))
    return {name: _metric(name, values[name], found[name], float(own[name][0]), scale) for name in only or values}


def paired(
    task: Task,
    metric: str,
    labels: Labels,
    candidate: Scores,
    other: Scores,
    *,
    thresholds: tuple[float, float] = (0.5, 0.5),
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Metric:
    """By how much `candidate` is better than `other` in this metric on the same rows, with its interval; positive is
    better, whichever way the metric runs. `thresholds` are theirs, for the metrics of decisions.

    So `low >= -margin` is non-inferiority, and `low > 0` is better for sure. Where the metric is not defined (a ranking
    with one class alone) there is no difference: 0 from 0 to 0.
    """
    both = [(candidate, thresholds[0]), (other, thresholds[1])]
    value = improvement(metric, *(metrics(task, labels, scores, limit)[metric] for scores, limit in both))
    rows, scale = _thinned(len(labels), _width(candidate), seed)
    of = [weighted(task, labels[rows], scores[rows], limit, [metric]) for scores, limit in both]
    sign = improvement(metric, 1, 0)

    def difference(weights: Weights) -> Values:
        return {metric: sign * (of[0](weights)[metric] - of[1](weights)[metric])}

    samples = resampled(difference, len(labels[rows]), resamples, seed)[metric]
    if np.isnan(samples).all():
        return Metric(value=0.0, low=0.0, high=0.0)
    own = difference(np.ones((len(labels[rows]), 1)))[metric]
    return _metric(metric, value, samples, float(own[0]), scale, floor=-math.inf)


def mcnemar(candidate_right: NDArray[np.bool_], other_right: NDArray[np.bool_]) -> float:
    """The two-sided p-value of both models being right equally often, from the rows on which just one of them is: the
    exact binomial form of McNemar's test (McNemar 1947). 1 where they never differ."""
    gained = int(np.count_nonzero(candidate_right & ~other_right))
    lost = int(np.count_nonzero(~candidate_right & other_right))
    return float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


def mean(values: NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = 0) -> Metric:
    """The mean of one value a row, with its interval."""
    rows, scale = _thinned(len(values), 1, seed)
    kept = values[rows]
    samples = resampled(lambda weights: {"mean": sums(kept[None], weights)[0] / len(kept)}, len(kept), resamples, seed)
    return _metric("mean", float(values.mean()), samples["mean"], float(kept.mean()), scale)


def resampled(statistic: Weighted, rows: int, resamples: int, seed: int) -> Values:
    """A statistic of weights [rows, b] on as many resamples; each of its values becomes [..., resamples]."""
    blocks = [statistic(weights) for weights in _weights(rows, resamples, seed)]
    return {name: np.concatenate([block[name] for block in blocks], axis=-1) for name in blocks[0]}


def _weights(rows: int, resamples: int, seed: int) -> Iterator[Weights]:
    """How often each row is drawn, in blocks [rows, b]; the draws do not depend on the size of the blocks."""
    random = np.random.default_rng(seed)
    block = max(1, _BLOCK // rows)
    for start in range(0, resamples, block):
        drawn = (random.integers(0, rows, rows, np.int32) for _ in range(start, min(start + block, resamples)))
        counts = [np.bincount(each, minlength=rows) for each in drawn]
        yield np.array(counts, np.float64).T.copy()  # the fastest way to it


def _width(scores: Scores) -> int:
    return scores.shape[1] if scores.ndim > 1 else 1


def _thinned(rows: int, width: int, seed: int) -> tuple[slice | NDArray[np.int64], float]:
    """The rows that are resampled, and by what the spread among them must be multiplied to be that of all rows.

    Of very many rows a random part will do: the spread shrinks with the square root of the rows (Bickel, Götze and
    van Zwet 1997, Resampling fewer than n observations).
    """
    most = max(1000, min(_MOST_ROWS, _MOST_SCORES // width))
    if rows <= most:
        return slice(None), 1.0
    chosen = np.random.default_rng(seed).choice(rows, most, replace=False)
    return np.sort(chosen), math.sqrt(most / rows)


def _metric(
    name: str, value: float, samples: NDArray[np.float64], own: float, scale: float, floor: float = 0.0
) -> Metric:
    """`own` is the value on the rows that were resampled."""
    defined = samples[~np.isnan(samples)]
    if not defined.size:
        return Metric(value=value, low=0.0, high=1.0)
    if name == "calibration_error":
        # Its bins take noise for error, and a resample has twice the noise: without the shift by this known bias the
        # interval of a well calibrated model would lie above its value.
        defined = np.maximum(defined - defined.mean() + own, floor)
    low, high = np.percentile(value + (defined - own) * scale if scale < 1 else defined, LEVELS)
    return Metric(value=value, low=float(low), high=float(high))
