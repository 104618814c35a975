"""Every metric of a task on a set of rows, computed by scikit-learn, by the names that a manifest has them under.

Where rows lack a class, nothing is NaN: a ranking without both classes is worth 0.5 (chance) and an average precision
without positive rows 0; a macro average is over the classes that occur among the labels; what would be divided by
nothing is 0.
"""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    log_loss,
    mean_absolute_error,
    precision_recall_fscore_support,
    r2_score,
    roc_auc_score,
    root_mean_squared_error,
)

from training.task import Labels, Scores, Task

CALIBRATION_BINS = 15
EPSILON = float(np.finfo(np.float64).eps)
CHANCE = {"roc_auc": 0.5, "average_precision": 0.0}


def metrics(task: Task, labels: Labels, scores: Scores, threshold: float = 0.5) -> dict[str, float]:
    """All metrics of the task, its headline first. Raises ValueError where a score is not finite."""
    check(labels, scores)
    match task.name:
        case "binary":
            values = _binary(labels, scores, threshold)
        case "multiclass":
            values = _multiclass(labels, scores)
        case "regression":
            values = _regression(labels, scores)
    return {task.headline: values[task.headline]} | values


def check(labels: Labels, scores: Scores) -> None:
    """Raises ValueError for scores that no metric can be made of."""
    if len(labels) != len(scores) or not len(labels):
        raise ValueError(f"expected a score for each of at least one label, got {len(labels)} and {len(scores)}")
    wrong = int(np.count_nonzero(~np.isfinite(scores).reshape(len(scores), -1).all(axis=1)))
    if wrong:
        raise ValueError(f"the model's answers to {wrong:,} of {len(scores):,} rows are not finite")


def _binary(labels: Labels, scores: Scores, threshold: float) -> dict[str, float]:
    decided = scores >= np.float32(threshold)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, decided, average="binary", zero_division=0)
    wide = scores.astype(np.float64)
    return {
        **ranking(labels == 1, scores),
        "log_loss": float(log_loss(labels, wide, labels=[0, 1])),
        "brier": float(brier_score_loss(labels, wide, labels=[0, 1])),
        "calibration_error": calibration_error(labels, scores),
        "accuracy": float(accuracy_score(labels, decided)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }


def _multiclass(labels: Labels, scores: Scores) -> dict[str, float]:
    there, decided, given = np.unique(labels), scores.argmax(axis=1), probabilities(scores)
    classes = list(range(scores.shape[1]))
    precision, recall, f1, _ = precision_recall_fscore_support(
        labels, decided, labels=there, average="macro", zero_division=0
    )
    rankings = [ranking(labels == i, scores[:, i]) for i in there]
    return {
        "f1_macro": float(f1),
        "accuracy": float(accuracy_score(labels, decided)),
        "precision_macro": float(precision),
        "recall_macro": float(recall),
        "roc_auc": float(np.mean([each["roc_auc"] for each in rankings])),
        "average_precision": float(np.mean([each["average_precision"] for each in rankings])),
        "log_loss": float(log_loss(labels, given, labels=classes)),
        "brier": float(brier_score_loss(labels, given, labels=classes, scale_by_half=False)),
        "calibration_error": calibration_error(labels, scores),
    }


def _regression(labels: Labels, scores: Scores) -> dict[str, float]:
    truth, values = labels.astype(np.float64), scores.astype(np.float64)
    return {
        "rmse": float(root_mean_squared_error(truth, values)),
        "mae": float(mean_absolute_error(truth, values)),
        # Of a single row it is undefined.
        "r2": float(r2_score(truth, values)) if len(truth) > 1 else 0.0,
    }


def ranking(positive: NDArray[np.bool_], scores: Scores) -> dict[str, float]:
    """ROC AUC and average precision of one class against the rest."""
    if not rankable(positive):
        return CHANCE | ({"average_precision": 1.0} if positive.any() else {})
    return {
        "roc_auc": float(roc_auc_score(positive, scores)),
        "average_precision": float(average_precision_score(positive, scores)),
    }


def rankable(positive: NDArray[np.bool_]) -> bool:
    """Whether both classes are there, without which there is no order to judge."""
    return bool(positive.any() and not positive.all())


def probabilities(scores: Scores) -> NDArray[np.float64]:
    """[rows, classes] that add up to 1 in float64 too; of a binary task the two classes."""
    wide = scores.astype(np.float64)
    return np.stack([1 - wide, wide], axis=1) if wide.ndim == 1 else wide / wide.sum(axis=1, keepdims=True)


def confidence(labels: Labels, scores: Scores) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What calibration compares, row by row: the probability of the positive class and whether it was it; with many
    classes the largest probability and whether that class was right."""
    if scores.ndim == 1:
        return scores.astype(np.float64), (labels == 1).astype(np.float64)
    return scores.max(axis=1).astype(np.float64), (scores.argmax(axis=1) == labels).astype(np.float64)


def calibration_bin(sure: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of the bin of each probability; bins are of equal width."""
    return np.minimum(sure * CALIBRATION_BINS, CALIBRATION_BINS - 1).astype(np.int64)


def calibration_error(labels: Labels, scores: Scores) -> float:
    """Expected calibration error: the mean over rows of |mean probability - share that came true| of their bin, in 15
    bins of equal width (Naeini, Cooper, Hauskrecht 2015; of the label given, as in Guo et al. 2017, section 2, where
    there are many classes)."""
    sure, right = confidence(labels, scores)
    gaps = np.bincount(calibration_bin(sure), weights=sure - right, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(labels))
