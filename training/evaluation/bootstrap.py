"""How sure a metric is: 95% percentile bootstrap intervals over rows (Efron & Tibshirani 1993, chapters 13 and 10).

`intervals` is for one model, `paired` for the difference of two on the same rows: the same resamples for both, so that
what is hard for both cancels out.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from contract.evidence import Metric, improvement
from training.evaluation.metrics import check, metrics
from training.evaluation.weighted import Values, Weighted, Weights, sums, weighted
from training.task import Labels, Scores, Task

RESAMPLES = 200
LEVELS = (2.5, 97.5)
Samples = NDArray[np.float64]

_BLOCK = 4_000_000  # weights in memory at once: 32 MB
_MOST_SCORES = 20_000_000
_MOST_ROWS = 100_000


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
    values = metrics(task, labels, scores, threshold) if only is None else _few(task, labels, scores, threshold, only)
    rows, scale = _thinned(len(labels), _width(scores), seed)
    names = list(values)
    statistic = weighted(task, labels[rows], scores[rows], threshold, names)
    found = resampled(statistic, len(labels[rows]), resamples, seed)
    own = statistic(np.ones((len(labels[rows]), 1)))
    measured = {
        name: _metric(values[name], _centred(name, values[name], found[name], float(own[name][0]), scale))
        for name in names
    }
    if (error := measured.get("calibration_error")) and error.low < 0:  # by the shift of its interval
        measured["calibration_error"] = error.model_copy(update={"low": 0.0})
    return measured


def _few(task: Task, labels: Labels, scores: Scores, threshold: float, only: Collection[str]) -> dict[str, float]:
    """Some of the metrics, for less work than all of them."""
    check(labels, scores)
    found = weighted(task, labels, scores, threshold, only)(np.ones((len(labels), 1)))
    values = {name: float(found[name][0]) for name in only}
    if any(map(math.isnan, values.values())):
        defined = metrics(task, labels, scores, threshold)
        return {name: defined[name] for name in only}
    return values


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
    value, samples = _difference(task, metric, labels, (candidate, other), thresholds, resamples, seed)
    return _metric(value, samples)


def drops(
    task: Task,
    metric: str,
    labels: Labels,
    own: Scores,
    others: Sequence[Scores],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Metric:
    """By how much `own` is better than the `others` are on average, on the same rows. The resamples are divided among
    the others, so that the interval covers both the draw of the rows and what differs between the others."""
    each = max(1, math.ceil(resamples / len(others)))
    values, samples = [], []
    for i, other in enumerate(others):
        value, found = _difference(task, metric, labels, (own, other), (0.5, 0.5), each, seed + i)
        values.append(value)
        samples.append(found)
    return _metric(float(np.mean(values)), np.concatenate(samples))


def _difference(
    task: Task,
    metric: str,
    labels: Labels,
    both: tuple[Scores, Scores],
    thresholds: tuple[float, float],
    resamples: int,
    seed: int,
) -> tuple[float, Samples]:
    """By how much the first is better than the second: on all rows, and on resamples of them."""
    for scores in both:
        check(labels, scores)
    sign = improvement(metric, 1, 0)

    def difference(rows: slice | NDArray[np.int64]) -> Weighted:
        pairs = zip(both, thresholds, strict=True)
        of = [weighted(task, labels[rows], scores[rows], threshold, [metric]) for scores, threshold in pairs]
        return lambda weights: {metric: sign * (of[0](weights)[metric] - of[1](weights)[metric])}

    def equally(statistic: Weighted, rows: int) -> float:
        return float(statistic(np.ones((rows, 1)))[metric][0])

    rows, scale = _thinned(len(labels), _width(both[0]), seed)
    statistic, count = difference(rows), len(labels[rows])
    own = equally(statistic, count)
    if math.isnan(own):
        return 0.0, np.zeros(resamples)
    value = own if scale == 1 else equally(difference(slice(None)), len(labels))
    return value, _centred(metric, value, resampled(statistic, count, resamples, seed)[metric], own, scale)


def mcnemar(candidate_right: NDArray[np.bool_], other_right: NDArray[np.bool_]) -> float:
    """The two-sided p-value of both models being right equally often, from the rows on which just one of them is: the
    exact binomial form of McNemar's test (McNemar 1947). 1 where they never differ."""
    gained = int(np.count_nonzero(candidate_right & ~other_right))
    lost = int(np.count_nonzero(~candidate_right & other_right))
    return float(binomtest(gained, gained + lost, 0.5).pvalue) if gained + lost else 1.0


def mean(values: NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = 0) -> Metric:
    """The mean of one value a row, with its interval."""
    found = spread(
        lambda rows: lambda weights: sums(values[None, rows], weights)[0] / len(values[rows]),
        len(values),
        resamples,
        seed,
    )
    return Metric(value=float(found[0]), low=float(found[1]), high=float(found[2]))


def spread(
    statistic_of: Callable[[slice | NDArray[np.int64]], Callable[[Weights], Samples]],
    rows: int,
    resamples: int,
    seed: int,
) -> NDArray[np.float64]:
    """Value, low and high [3, ...] of a statistic that has many values at once: from some of the rows to a function of
    their weights [rows, b], [..., b]."""
    chosen, scale = _thinned(rows, 1, seed)
    statistic, count = statistic_of(chosen), len(np.arange(rows)[chosen])
    samples = resampled(lambda weights: {"": statistic(weights)}, count, resamples, seed)[""]
    own = statistic(np.ones((count, 1)))
    value = own if scale == 1 else statistic_of(slice(None))(np.ones((rows, 1)))
    return np.stack([value[..., 0], *np.percentile(value + (samples - own) * scale, LEVELS, axis=-1)])


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


def _centred(name: str, value: float, samples: Samples, own: float, scale: float) -> Samples:
    """Resamples of some rows, whose value is `own`, as resamples of all rows, whose value is `value`."""
    if name == "calibration_error":
        # Its bins take noise for error, and a resample has twice the noise: without a shift by this known bias (Efron
        # & Tibshirani, chapter 10) the interval of a well calibrated model would lie above its value.
        samples = samples - (samples.mean() - own)
    return value + (samples - own) * scale if scale < 1 else samples


def _metric(value: float, samples: Samples) -> Metric:
    defined = samples[~np.isnan(samples)]
    if not defined.size:
        return Metric(value=value, low=0.0, high=1.0)
    low, high = np.percentile(defined, LEVELS)
    return Metric(value=value, low=float(low), high=float(high))
