"""What predictions are worth once the truth is known: every metric of a task, by the names that a manifest has them
under. In NumPy alone, which is all that the service has; training's metrics are these.

Labels: of two classes 1 for the positive one and 0; of many an index into the classes; of a regression the number.
Scores are what the model answers: probability [n], probabilities [n, classes], value [n].
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Kind = Literal["binary", "multiclass", "regression"]
Labels = NDArray[Any]
Scores = NDArray[np.float32]
Floats = NDArray[np.float64]

CALIBRATION_BINS = 15
# Of more classes the service leaves ROC AUC out: one ranking a class, each a sort of all rows, would take too long.
MOST_RANKED = 100
EPSILON = float(np.finfo(np.float64).eps)


def values(kind: Kind, labels: Labels, scores: Scores, threshold: float = 0.5) -> dict[str, float]:
    """Every metric of at least one row, none of them NaN.

    A ranking without both classes is worth 0.5 (chance) and an average precision without positive rows 0; a macro
    average is over the classes that occur among the labels; what would be divided by nothing is 0.
    """
    if kind == "regression":
        return _errors(labels, scores)
    found = _rankings(labels, scores) | probability_means(labels, scores)
    found["calibration_error"] = calibration_error(labels, scores)
    counts = Decisions.of(labels, scores, threshold)
    found["accuracy"] = float(counts.hits.sum() / len(labels))
    precision, recall, f1 = counts.by_class()
    if scores.ndim == 1:
        return found | {"precision": float(precision[1]), "recall": float(recall[1]), "f1": float(f1[1])}
    there = counts.true > 0
    macro = {"precision_macro": precision, "recall_macro": recall, "f1_macro": f1}
    return found | {name: float(each[there].mean()) for name, each in macro.items()}


class Decisions(NamedTuple):
    """Rows by class: labelled so, decided so, and both; and what each row was decided to be. Float64 [classes]."""

    true: Floats
    said: Floats
    hits: Floats
    decided: NDArray[np.int64]

    @classmethod
    def of(cls, labels: Labels, scores: Scores, threshold: float) -> "Decisions":
        """The positive class is decided for from the threshold on, as float32 has it; of many the largest."""
        classes = scores.shape[1] if scores.ndim > 1 else 2
        truth, decided = labels.astype(np.int64), decide(scores, threshold)
        groups = truth, decided, truth[truth == decided]
        true, said, hits = (np.bincount(each, minlength=classes).astype(np.float64) for each in groups)
        return cls(true, said, hits, decided)

    def by_class(self) -> tuple[Floats, Floats, Floats]:
        """Precision, recall and F1; 0 where they would be divided by nothing."""
        return _share(self.hits, self.said), _share(self.hits, self.true), _share(2 * self.hits, self.said + self.true)


def decide(scores: Scores, threshold: float) -> NDArray[np.int64]:
    """The class of each row, an index."""
    return scores.argmax(axis=1) if scores.ndim > 1 else (scores >= np.float32(threshold)).astype(np.int64)


def _share(parts: Floats, of: Floats) -> Floats:
    return np.divide(parts, of, out=np.zeros_like(parts), where=of > 0)


def _errors(labels: Labels, scores: Scores) -> dict[str, float]:
    truth = labels.astype(np.float64)
    errors = scores.astype(np.float64) - truth
    square, variance = float(np.mean(errors**2)), float(np.var(truth))
    # Of a single row it is undefined; of a constant target it is 0, or 1 where every value is right.
    constant = 0.0 if square > 0 or len(truth) < 2 else 1.0
    return {
        "rmse": square**0.5,
        "mae": float(np.abs(errors).mean()),
        "r2": 1 - square / variance if variance > 0 else constant,
    }


def probability_means(labels: Labels, scores: Scores) -> dict[str, float]:
    """Log loss and Brier score."""
    loss, square = probability_terms(labels, scores)
    return {"log_loss": float(loss.mean()), "brier": float(square.mean())}


def probability_terms(labels: Labels, scores: Scores) -> tuple[Floats, Floats]:
    """What log loss and Brier score are the means of, row by row."""
    given = probabilities(scores)
    of_truth = given[np.arange(len(labels)), labels.astype(np.int64)]
    square = (given**2).sum(axis=1) - 2 * of_truth + 1
    if scores.ndim == 1:
        square /= 2  # the two classes say the same
    return -np.log(np.clip(of_truth, EPSILON, 1 - EPSILON)), square


def _rankings(labels: Labels, scores: Scores) -> dict[str, float]:
    if scores.ndim == 1:
        return ranking(labels == 1, scores)
    found = [ranking(labels == i, scores[:, i]) for i in np.unique(labels)]
    return {name: float(np.mean([each[name] for each in found])) for name in ("roc_auc", "average_precision")}


def ranking(positive: NDArray[np.bool_], scores: Scores) -> dict[str, float]:
    """ROC AUC and average precision of one class against the rest."""
    if not rankable(positive):
        return {"roc_auc": 0.5, "average_precision": 1.0 if positive.any() else 0.0}
    hits, misses = _by_score(positive, scores)
    hits_until, misses_until = np.cumsum(hits), np.cumsum(misses)
    pairs = hits @ (misses_until[-1] - misses_until + misses / 2)  # Mann-Whitney: in the right order, ties half
    precision = hits_until / (hits_until + misses_until)
    return {
        "roc_auc": float(pairs / (hits_until[-1] * misses_until[-1])),
        "average_precision": float(hits @ precision / hits_until[-1]),
    }


def rankable(positive: NDArray[np.bool_]) -> bool:
    """Whether both classes are there, without which there is no order to judge."""
    return bool(positive.any() and not positive.all())


def _by_score(positive: NDArray[np.bool_], scores: Scores) -> tuple[Floats, Floats]:
    """Positive and other rows of each score that occurs, the highest first."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    group = np.cumsum(np.r_[True, ranked[1:] != ranked[:-1]]) - 1
    hits = np.bincount(group, weights=positive[order]).astype(np.float64)
    return hits, np.bincount(group) - hits


def probabilities(scores: Scores) -> Floats:
    """[rows, classes] that add up to 1 in float64 too; of a binary task the two classes."""
    wide = scores.astype(np.float64)
    return np.stack([1 - wide, wide], axis=1) if wide.ndim == 1 else wide / wide.sum(axis=1, keepdims=True)


def confidence(labels: Labels, scores: Scores) -> tuple[Floats, Floats]:
    """What calibration compares, row by row: the probability of the positive class and whether it was it; with many
    classes the largest probability and whether that class was right."""
    if scores.ndim == 1:
        return scores.astype(np.float64), (labels == 1).astype(np.float64)
    return scores.max(axis=1).astype(np.float64), (scores.argmax(axis=1) == labels).astype(np.float64)


def calibration_bin(sure: Floats) -> NDArray[np.int64]:
    """The number of the bin of each probability; bins are of equal width."""
    return np.minimum(sure * CALIBRATION_BINS, CALIBRATION_BINS - 1).astype(np.int64)


def calibration_error(labels: Labels, scores: Scores) -> float:
    """Expected calibration error: the mean over rows of |mean probability - share that came true| of their bin, in 15
    bins of equal width (Naeini, Cooper, Hauskrecht 2015; of the label given, as in Guo et al. 2017, section 2, where
    there are many classes)."""
    return gap(*confidence(labels, scores))


def gap(sure: Floats, right: Floats) -> float:
    """The calibration error of what `confidence` gives."""
    gaps = np.bincount(calibration_bin(sure), weights=sure - right, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(sure))
