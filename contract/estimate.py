"""What predictions are worth before anybody knows the truth: from what the model itself thinks of them.

Where a probability of 0.8 comes true four times in five, so many rows of 0.8 hold a known number of right answers; so
the expected confusion matrix is a sum of probabilities, and metrics are made of that (confidence-based performance
estimation, NannyML; of the same idea Guillory et al. 2021, Predicting with Confidence on Unseen Distributions). It sees
what a shift of the inputs does to quality. It cannot see that the same inputs now mean something else: that shows as
the estimate's error, once labels come.
"""

from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, model_validator

from contract.part import Many, Part
from contract.quality import EPSILON, MOST_RANKED, Decisions, Floats, Scores, decide, probabilities
from contract.signature import Float32

Share = Annotated[float, Field(ge=0, le=1)]

# Which means an expectation has, by the task.
MEANS = {
    "binary": {"probability", "log_loss", "brier", "order"},
    "multiclass": {"accuracy", "log_loss", "brier"},
    "regression": {"mae", "square"},
}


class Expectation(Part):
    """What training knows of this, from validation rows.

    `scores` and `probabilities` are the points of a rising curve from a score to how often that came true: isotonic,
    and there only where it lowers calibration error and Brier score of rows that it was not fitted to. With two classes
    it is of the positive one's probability, with many of the largest.

    For estimates from counts: each cell is a bin of what the output is watched by, as the drift baseline has it; with
    two classes, the bin that holds the threshold is two cells, and `positive` says which cells lie above it. `means`
    are by cell: with two classes of the `probability`, `log_loss`, `brier` and `order` (the ROC AUC within the cell);
    with many of the `accuracy`, `log_loss` and `brier`; in a regression of the absolute error, `mae`, and the squared
    one, `square`.
    """

    scores: Many[Float32] = ()
    probabilities: Many[Share] = ()
    bins: Many[int]
    positive: Many[bool]
    means: dict[str, Many[FiniteFloat]]

    @model_validator(mode="after")
    def _fits(self) -> "Expectation":
        if len(self.scores) != len(self.probabilities) or (np.diff(self.scores) <= 0).any():
            raise ValueError("the curve needs a probability for each of its rising scores")
        if {len(self.bins)} != {len(self.positive), *map(len, self.means.values())}:
            raise ValueError("expected one mean of each kind a cell")
        return self

    def curve(self, scores: Scores) -> Floats:
        """How often each score came true, which of a calibrated model is the score."""
        wide: Floats = scores.astype(np.float64)
        if self.scores:
            wide = np.interp(wide, self.scores, self.probabilities)
        return wide


def calibrated(expectation: Expectation | None, scores: Scores) -> Floats:
    """The probability of every class [n, classes], of two classes as well: the scores' own where nothing else is known.

    Of many classes the curve says how probable the largest is; the others share the rest as before. (NannyML has a
    curve a class. The errors of a thousand curves add up in their sum; this one is of what is decided by.)
    """
    given = probabilities(scores)
    if expectation is None or not expectation.scores:
        return given
    if scores.ndim == 1:
        positive = expectation.curve(scores)
        return np.stack([1 - positive, positive], axis=1)
    decided, rows = scores.argmax(axis=1), np.arange(len(scores))
    largest = expectation.curve(scores.max(axis=1))
    rest = 1 - given[rows, decided]
    others = np.divide(1 - largest, rest, out=np.zeros_like(rest), where=rest > EPSILON)
    found: Floats = given * others[:, None]
    found[rows, decided] = 1 - (found.sum(axis=1) - found[rows, decided])
    return found


def estimated(probable: Floats, scores: Scores, threshold: float = 0.5) -> dict[str, float]:
    """Every metric that can be expected of at least one row. `probable` are those of `calibrated`, [n, classes].

    Ratios are those of expected counts, as NannyML's are. The calibration error is not among them: that it is small is
    what all of this rests on.
    """
    decided = decide(scores, threshold)
    counts = expected_decisions(probable, decided)
    loss, square = expected_terms(probable, scores)
    found = {"log_loss": float(loss.mean()), "brier": float(square.mean())}
    return found | of_decisions(counts) | _expected_ranking(probable, scores)


def expected_decisions(probable: Floats, decided: NDArray[np.int64]) -> Decisions:
    """As many rows of each class as are to be expected."""
    classes, rows = probable.shape[1], np.arange(len(probable))
    said = np.bincount(decided, minlength=classes).astype(np.float64)
    hits = np.bincount(decided, weights=probable[rows, decided], minlength=classes).astype(np.float64)
    return Decisions(probable.sum(axis=0), said, hits, decided)


def of_decisions(counts: Decisions) -> dict[str, float]:
    """Accuracy, precision, recall and F1; what would be divided by nothing is left out."""
    accuracy = {"accuracy": float(counts.hits.sum() / counts.true.sum())}
    precision, recall, f1 = counts.by_class()
    if len(counts.true) == 2:
        defined = {"precision": counts.said[1], "recall": counts.true[1], "f1": counts.said[1] + counts.true[1]}
        shares = {"precision": precision[1], "recall": recall[1], "f1": f1[1]}
        return accuracy | {name: float(shares[name]) for name, of in defined.items() if of > 0}
    return accuracy | {
        "f1_macro": float(f1.mean()),
        "precision_macro": float(precision.mean()),
        "recall_macro": float(recall.mean()),
    }


def expected_terms(probable: Floats, scores: Scores) -> tuple[Floats, Floats]:
    """What the log loss and the Brier score of each row are expected to be."""
    given = probabilities(scores)
    loss: Floats = -(probable * np.log(np.clip(given, EPSILON, 1 - EPSILON))).sum(axis=1)
    square: Floats = ((given - probable) ** 2 + probable * (1 - probable)).sum(axis=1)
    return loss, square / 2 if scores.ndim == 1 else square


def _expected_ranking(probable: Floats, scores: Scores) -> dict[str, float]:
    """ROC AUC, of many classes the mean of each against the rest; nothing where there is no order to judge."""
    if probable.shape[1] > MOST_RANKED:
        return {}
    columns = [(probable[:, 1], scores)] if scores.ndim == 1 else list(zip(probable.T, scores.T, strict=True))
    areas = [area for each, by in columns if (area := expected_area(each, by)) is not None]
    return {"roc_auc": float(np.mean(areas))} if areas else {}


def expected_area(positive: Floats, scores: Scores) -> float | None:
    """ROC AUC where each row is a positive one with this probability: over pairs of different rows, ties half."""
    order = np.argsort(scores, kind="stable")
    group = np.cumsum(np.r_[False, scores[order][1:] != scores[order][:-1]])
    hits, misses, same = (
        np.bincount(group, weights=each[order]) for each in (positive, 1 - positive, positive * (1 - positive))
    )
    # A row is not beside itself: of a group's pairs, those of a row with itself are none.
    right = hits @ (np.cumsum(misses) - misses / 2) - same.sum() / 2
    pairs = hits.sum() * misses.sum() - same.sum()
    return float(right / pairs) if pairs > EPSILON else None
