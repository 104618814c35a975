"""How sure a metric of labelled rows is: 95% intervals by formula, for the service computes them anew every minute.

- Shares (accuracy, precision, recall): Wilson 1927. F1 is 2J / (1 + J) of a share, J = TP / (TP + FP + FN), so its
  interval is that of J, carried over (F* of Hand, Christen and Kirielle 2021).
- ROC AUC of two classes: DeLong, DeLong and Clarke-Pearson 1988, on the logit scale (Pepe 2003, section 5.2).
- Means (log loss, Brier score, absolute error): normal. RMSE: the ends of the mean square's interval, rooted.
- Macro averages and ROC AUC of many classes: normal, with the spread of each row's influence on the metric (the
  infinitesimal jackknife, Efron 1982, chapter 6).
- Calibration error: a parametric bootstrap of the gaps of its bins, moved back by its known bias, as in training.

What the rows do not define (a ranking with one class alone, a precision where nothing was decided for) is left out.
"""

import math

import numpy as np
from numpy.typing import NDArray

from contract.evidence import Metric
from contract.quality import (
    CALIBRATION_BINS,
    MOST_RANKED,
    Decisions,
    Floats,
    Kind,
    Labels,
    Scores,
    calibration_bin,
    confidence,
    gap,
    probability_terms,
    rankable,
)

NORMAL = 1.959963984540054  # of 95% on two sides
DRAWS = 1000

_OF_CLASSES = ("roc_auc", "log_loss", "brier", "calibration_error", "accuracy")
# All that `measured` may find.
MEASURED: dict[Kind, tuple[str, ...]] = {
    "binary": (*_OF_CLASSES, "precision", "recall", "f1"),
    "multiclass": (*_OF_CLASSES, "precision_macro", "recall_macro", "f1_macro"),
    "regression": ("rmse", "mae"),
}


def measured(kind: Kind, labels: Labels, scores: Scores, threshold: float = 0.5) -> dict[str, Metric]:
    """Every metric that the rows define, with its interval; none of no rows. The values are those of
    `contract.quality.values`. Labels and scores as there, all scores finite."""
    if not len(labels):
        return {}
    if kind == "regression":
        return _errors(labels, scores)
    loss, square = probability_terms(labels, scores)
    found = _rankings(labels, scores)
    found |= {"log_loss": mean(loss), "brier": mean(square), "calibration_error": _calibration(labels, scores)}
    counts = Decisions.of(labels, scores, threshold)
    return found | (_of_two(counts) if scores.ndim == 1 else _of_many(labels.astype(np.int64), counts))


def wilson(hits: float, rows: float) -> Metric:
    """A share of at least one row."""
    share, z = hits / rows, NORMAL**2 / rows
    middle = (share + z / 2) / (1 + z)
    half = NORMAL * math.sqrt(share * (1 - share) / rows + z / (4 * rows)) / (1 + z)
    # At 0 and 1 rounding must not leave the value outside.
    return Metric(value=share, low=min(share, max(0.0, middle - half)), high=max(share, min(1.0, middle + half)))


def mean(terms: Floats) -> Metric:
    """A mean of what is never negative; of one row from 0 to twice its value, for want of a spread."""
    value = float(terms.mean())
    half = NORMAL * _error(terms) if len(terms) > 1 else value
    return Metric(value=value, low=max(0.0, value - half), high=value + half)


def _error(terms: Floats) -> float:
    """The standard error of a mean."""
    return float(terms.std(ddof=1)) / math.sqrt(len(terms)) if len(terms) > 1 else 0.0


def _errors(labels: Labels, scores: Scores) -> dict[str, Metric]:
    errors = scores.astype(np.float64) - labels
    square = mean(errors**2)
    root = Metric(value=square.value**0.5, low=square.low**0.5, high=square.high**0.5)
    return {"rmse": root, "mae": mean(np.abs(errors))}


def _of_two(counts: Decisions) -> dict[str, Metric]:
    true, said, hits = counts.true[1], counts.said[1], counts.hits[1]
    found = {"accuracy": wilson(counts.hits.sum(), counts.true.sum())}
    shares = {"precision": (hits, said), "recall": (hits, true), "f1": (hits, said + true - hits)}
    found |= {name: wilson(part, of) for name, (part, of) in shares.items() if of}
    if "f1" in found:
        share = found["f1"]
        found["f1"] = Metric(value=_f1(share.value), low=_f1(share.low), high=_f1(share.high))
    return found


def _f1(share: float) -> float:
    return 2 * share / (1 + share)


def _of_many(truth: NDArray[np.int64], counts: Decisions) -> dict[str, Metric]:
    """Each row counts for its own class where it is right, and against all shares that it is divided by."""
    found = {"accuracy": wilson(counts.hits.sum(), len(truth))}
    there, right = counts.true > 0, truth == counts.decided
    precision, recall, f1 = counts.by_class()
    rows, classes = len(truth), int(there.sum())
    true, said, both = (
        np.divide(rows, of, out=np.zeros_like(of), where=there & (of > 0))
        for of in (counts.true, counts.said, (counts.true + counts.said) / 2)
    )
    terms = {
        "precision_macro": (precision, (right - precision[counts.decided]) * said[counts.decided]),
        "recall_macro": (recall, (right - recall[truth]) * true[truth]),
        "f1_macro": (f1, right * both[truth] - (f1 * both)[truth] / 2 - (f1 * both)[counts.decided] / 2),
    }
    return found | {
        name: _within(float(of[there].mean()), _error(each / classes)) for name, (of, each) in terms.items()
    }


def _within(value: float, error: float) -> Metric:
    """Of what is from 0 to 1."""
    return Metric(value=value, low=max(0.0, value - NORMAL * error), high=min(1.0, value + NORMAL * error))


def _rankings(labels: Labels, scores: Scores) -> dict[str, Metric]:
    if scores.ndim == 1:
        positive = labels == 1
        return {"roc_auc": _area(positive, scores)} if rankable(positive) else {}
    there = np.unique(labels)
    if not 1 < len(there) <= MOST_RANKED:
        return {}
    found = [_placements(labels == i, scores[:, i]) for i in there]
    influence = np.mean([_influence(labels == i, each) for i, each in zip(there, found, strict=True)], axis=0)
    value = np.mean([each[labels == i].mean() for i, each in zip(there, found, strict=True)])
    return {"roc_auc": _within(float(value), _error(influence))}


def _area(positive: NDArray[np.bool_], scores: Scores) -> Metric:
    """ROC AUC with DeLong's interval on the logit scale, so that it stays within 0 and 1."""
    placements = _placements(positive, scores)
    of_positive, of_others = placements[positive], placements[~positive]
    value = float(of_positive.mean())
    error = math.hypot(_error(of_positive), _error(of_others))
    fewest = min(len(of_positive), len(of_others))
    if error == 0 or fewest < 2 or not 0 < value < 1:
        return wilson(value * fewest, fewest)  # as of as many independent pairs
    logit, half = math.log(value / (1 - value)), NORMAL * error / (value * (1 - value))
    return Metric(value=value, low=_expit(logit - half), high=_expit(logit + half))


def _expit(logit: float) -> float:
    return 0.5 * (1 + math.tanh(logit / 2))


def _placements(positive: NDArray[np.bool_], scores: Scores) -> Floats:
    """Of each row the share of the other class that it is on the right side of, ties half: by midranks, as in Sun and
    Xu 2014 (Fast implementation of DeLong's algorithm)."""
    placements = np.empty(len(scores))
    for of, sign in ((positive, 1), (~positive, -1)):
        others = np.sort(sign * scores[~of])
        mine = sign * scores[of]
        passed = np.searchsorted(others, mine, "left") + np.searchsorted(others, mine, "right")
        placements[of] = passed / (2 * len(others))
    return placements


def _influence(positive: NDArray[np.bool_], placements: Floats) -> Floats:
    """By how much each row moves the area, times the number of rows."""
    share = positive.mean()
    area = placements[positive].mean()
    influence: Floats = (placements - area) / np.where(positive, share, 1 - share)
    return influence


def _calibration(labels: Labels, scores: Scores) -> Metric:
    sure, right = confidence(labels, scores)
    value, bins, gaps = gap(sure, right), calibration_bin(sure), sure - right
    total, square = (np.bincount(bins, weights=each, minlength=CALIBRATION_BINS) for each in (gaps, gaps**2))
    spread = np.sqrt(np.maximum(square - total**2 / len(gaps), 0))
    drawn = np.random.default_rng(0).normal(total, spread, (DRAWS, CALIBRATION_BINS))
    samples = np.abs(drawn).sum(axis=1) / len(gaps)
    # The bins take noise for error, and a draw has twice the noise (Efron & Tibshirani 1993, chapter 10).
    low, high = np.percentile(samples - (samples.mean() - value), (2.5, 97.5))
    return Metric(value=value, low=max(0.0, float(low)), high=float(high))
