"""How well each class is told from the others: by itself, in the confusion matrix, along the curves."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix, precision_recall_curve, roc_curve

from contract.evidence import Metric
from contract.quality import rankable
from training.evaluation.bootstrap import RESAMPLES, spread
from training.evaluation.thinning import thinned
from training.evaluation.weighted import decisions
from training.exporting.results import ClassMetrics, Points
from training.task import Labels, Scores

MOST_CURVES = 12
_MOST_IN_MATRIX = 200

_NAMES = ("precision", "recall", "f1")


def by_class(
    classes: tuple[str, ...],
    labels: Labels,
    scores: Scores,
    threshold: float = 0.5,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, ClassMetrics]:
    """Precision, recall and F1 of every class that is among the labels, with intervals; 0 where nothing was said to be
    of it."""
    found = spread(lambda rows: decisions(labels[rows], scores[rows], threshold), len(labels), resamples, seed)
    counts = np.bincount(labels.astype(int), minlength=len(classes))
    return {
        classes[i]: ClassMetrics(**{name: _at(found, k, i) for k, name in enumerate(_NAMES)}, rows=int(counts[i]))
        for i in np.flatnonzero(counts).tolist()
    }


def _at(found: NDArray[np.float64], metric: int, of: int) -> Metric:
    value, low, high = found[:, metric, of]
    return Metric(value=float(value), low=float(low), high=float(high))


def confusion(classes: tuple[str, ...], labels: Labels, said: NDArray[np.int64]) -> tuple[tuple[int, ...], ...]:
    """Rows true, columns decided; () for more classes than anybody could look at."""
    if len(classes) > _MOST_IN_MATRIX:
        return ()
    matrix = confusion_matrix(labels.astype(int), said, labels=range(len(classes)))
    return tuple(tuple(int(count) for count in row) for row in matrix)


def decided(scores: Scores, threshold: float = 0.5) -> NDArray[np.int64]:
    """The number of the class that each row is said to be of."""
    return scores.argmax(axis=1) if scores.ndim > 1 else (scores >= np.float32(threshold)).astype(np.int64)


def curves(
    classes: tuple[str, ...], labels: Labels, scores: Scores, of: dict[str, ClassMetrics]
) -> tuple[dict[str, Points], dict[str, Points]]:
    """ROC (false positive rate, true positive rate) and precision-recall (recall, precision), at most 200 points each:
    of the positive class, or of each class against the rest, where there are many the 12 with the lowest F1."""
    if scores.ndim == 1:
        chosen = {classes[1]: (labels == 1, scores)}
    else:
        worst = sorted(of, key=lambda name: of[name].f1.value)[:MOST_CURVES]
        chosen = {name: (labels == i, scores[:, i]) for i, name in enumerate(classes) if name in worst}
    drawn = {name: _curves(*each) for name, each in chosen.items() if rankable(each[0])}
    return {name: roc for name, (roc, _) in drawn.items()}, {name: precise for name, (_, precise) in drawn.items()}


def _curves(positive: NDArray[np.bool_], scores: Scores) -> tuple[Points, Points]:
    false_rate, true_rate, _ = roc_curve(positive, scores)
    precision, recall, _ = precision_recall_curve(positive, scores, drop_intermediate=True)
    return thinned(false_rate, true_rate), thinned(recall[::-1], precision[::-1])
