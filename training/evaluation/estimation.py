"""What the service needs to estimate quality without labels: learnt on validation rows, checked on such as well."""

import numpy as np
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from contract import histogram
from contract.estimate import Expectation, calibrated, expected_area, expected_terms
from contract.estimate_counts import cell_edges
from contract.manifest import BinaryOutput, NumberBins, Output, RegressionOutput
from contract.quality import Floats, confidence, gap
from training.task import Labels, Scores

# Points of the curve at most: more would follow the noise of the validation rows, and fill the manifest.
POINTS = 65
FEWEST_ROWS = 200
FOLDS = 10

Curve = tuple[tuple[float, ...], tuple[float, ...]]
Rows = NDArray[np.int64]


def expectation(output: Output, bins: NumberBins, labels: Labels, scores: Scores, seed: int) -> Expectation:
    """From validation rows and the scores of the exported network; `bins` are those that its output is watched by."""
    threshold = output.threshold if isinstance(output, BinaryOutput) else None
    numbers, positive, starts = cell_edges(bins, threshold)
    watched = histogram.scores(output, scores)
    cells = np.searchsorted(starts, watched, "right") - 1
    if isinstance(output, RegressionOutput):
        points: Curve = (), ()
        means = _of_errors(np.abs(scores.astype(np.float64) - labels), cells, len(starts))
    else:
        points = curve(*confidence(labels, scores), seed) or ((), ())
        known = Expectation(scores=points[0], probabilities=points[1], bins=(), positive=(), means={})
        means = _of_classes(known, scores, cells, np.maximum(starts, bins.edges[0]).astype(np.float32))
    return Expectation(
        scores=points[0],
        probabilities=points[1],
        bins=tuple(numbers.tolist()),
        positive=tuple(positive.tolist()),
        means=means,
    )


def curve(sure: Floats, right: Floats, seed: int) -> Curve | None:
    """From a probability to how often that came true, if it lowers both the calibration error and the Brier score of
    rows that it was not fitted to (ten folds); else None. The first alone is lowered by chance, too."""
    if len(sure) < FEWEST_ROWS:
        return None
    folds = np.random.default_rng(seed).permutation(len(sure)) % FOLDS
    crossed = np.empty_like(sure)
    for fold in range(FOLDS):
        fitted = folds != fold
        crossed[~fitted] = np.interp(sure[~fitted], *isotonic(sure[fitted], right[fitted]))
    better = np.square(crossed - right).mean() < np.square(sure - right).mean()
    return isotonic(sure, right) if better and gap(crossed, right) < gap(sure, right) else None


def isotonic(sure: Floats, right: Floats) -> Curve:
    """The rising curve of least squares (Zadrozny and Elkan 2002), at some quantiles of what it was fitted to."""
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(sure, right)
    points = np.unique(np.quantile(sure, np.linspace(0, 1, POINTS), method="nearest").astype(np.float32))
    return tuple(points.tolist()), tuple(fitted.predict(points).tolist())


def _of_errors(errors: Floats, cells: Rows, count: int) -> dict[str, tuple[float, ...]]:
    """The mean error of rows with about the same answer, which says how hard such rows are: NannyML's direct loss
    estimation, with the answer as its only feature. Of all rows where a cell has none."""

    def means(terms: Floats) -> tuple[float, ...]:
        rows = np.bincount(cells, minlength=count)
        sums = np.bincount(cells, weights=terms, minlength=count)
        return tuple(np.where(rows > 0, sums / np.maximum(rows, 1), terms.mean()).tolist())

    return {"mae": means(errors), "square": means(errors**2)}


def _of_classes(known: Expectation, scores: Scores, cells: Rows, lowest: Scores) -> dict[str, tuple[float, ...]]:
    """Means over the rows of each cell; where there are none, as if one had its lowest score."""
    several = scores.ndim > 1
    found = []
    for cell, start in enumerate(lowest):
        mine = scores[cells == cell]
        if not len(mine):
            mine = _as_sure(start, scores.shape[1]) if several else start[None]
        found.append(_means(known, mine))
    return {name: tuple(each[name] for each in found) for name in found[0]}


def _means(known: Expectation, scores: Scores) -> dict[str, float]:
    probable = calibrated(known, scores)
    loss, square = (float(each.mean()) for each in expected_terms(probable, scores))
    if scores.ndim > 1:
        largest = probable[np.arange(len(scores)), scores.argmax(axis=1)]
        return {"accuracy": float(largest.mean()), "log_loss": loss, "brier": square}
    area = expected_area(probable[:, 1], scores)
    order = 0.5 if area is None else area
    return {"probability": float(probable[:, 1].mean()), "log_loss": loss, "brier": square, "order": order}


def _as_sure(confidence: np.float32, classes: int) -> Scores:
    """A row whose largest probability is this; the other classes share the rest."""
    sure = max(float(confidence), 1 / classes)
    row = np.full((1, classes), (1 - sure) / (classes - 1), np.float32)
    row[0, 0] = sure
    return row
