"""From which probability on the positive class is the label: a number, or what validation rows say is best."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.evidence import DataWarning, Metric
from training.evaluation.thinning import thinned
from training.exporting.results import ThresholdChoice
from training.sections import Threshold, ThresholdRule
from training.task import Labels, Scores

DEFAULT = 0.5
Floats = NDArray[np.float64]


class Outcomes(NamedTuple):
    """What every threshold that makes a difference gives, from the highest (fewest positives) to the lowest."""

    threshold: Floats
    hits: Floats
    false_alarms: Floats
    positives: int

    @property
    def precision(self) -> Floats:
        """0 where nothing is called positive."""
        return self.hits / np.maximum(self.hits + self.false_alarms, 1)

    @property
    def recall(self) -> Floats:
        return self.hits / max(self.positives, 1)

    @property
    def f1(self) -> Floats:
        return 2 * self.hits / np.maximum(self.hits + self.false_alarms + self.positives, 1)

    @property
    def misses(self) -> Floats:
        return self.positives - self.hits


def choose(rule: Threshold, labels: Labels, probabilities: Scores) -> ThresholdChoice:
    """The threshold that the rule asks for, on validation rows, and what it gives there.

    A precision that no threshold reaches gives the threshold with the highest there is, which `shortfall` tells of;
    without a positive row to choose by, it is 0.5.
    """
    if isinstance(rule, float):
        return _given(rule, labels, probabilities)
    found = outcomes(labels, probabilities)
    text = _describe(rule)
    if not found.positives:
        return _given(DEFAULT, labels, probabilities, f"{text}: no validation row is positive, so the default")
    best = _best(rule, found)
    if _is_out_of_reach(rule, found):
        text += ", which validation does not reach: its highest"
    return ThresholdChoice(
        threshold=float(found.threshold[best]),
        rule=text,
        precision=float(found.precision[best]),
        recall=float(found.recall[best]),
        f1=float(found.f1[best]),
        curve=_curve(found),
    )


def shortfall(rule: Threshold, choice: ThresholdChoice, test: dict[str, Metric]) -> list[DataWarning]:
    """Where a precision or recall that was asked for is not reached on validation, or for sure not on the test rows."""
    if not isinstance(rule, ThresholdRule) or rule.cost is not None:
        return []
    name = "precision" if rule.precision is not None else "recall"
    wanted, found = getattr(rule, name), getattr(choice, name)
    if found < wanted:
        seen = f"no threshold has a {name} of {wanted:g} on the validation rows; the highest, {found:.4f}, was taken"
    elif test[name].high < wanted:
        metric = test[name]
        seen = f"{wanted:g} on the validation rows, {metric.value:.4f} ({metric.low:.4f} to {metric.high:.4f}) on test"
    else:
        return []
    return [DataWarning(check=f"wanted {name}", seen=seen, advice=f"ask for a lower serving.threshold.{name}")]


def outcomes(labels: Labels, probabilities: Scores) -> Outcomes:
    """A threshold lies midway between neighbouring probabilities: a runtime that rounds otherwise decides the same."""
    order = np.argsort(-probabilities, kind="stable")
    ranked, positive = probabilities[order].astype(np.float32), labels[order] == 1
    last = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
    distinct = ranked[last]
    middle = (distinct / 2 + np.r_[distinct[1:], np.float32(0)] / 2).astype(np.float32)
    below = np.r_[distinct[1:], np.float32(-1)]
    threshold = np.where(middle > below, middle, distinct)  # no float32 lies between two neighbours
    hits = np.cumsum(positive)[last].astype(np.float64)
    return _with_none(
        Outcomes(threshold.astype(np.float64), hits, last + 1 - hits, int(positive.sum())), float(distinct[0])
    )


def _with_none(found: Outcomes, highest: float) -> Outcomes:
    """Calling nothing positive is a choice too, if a threshold up to 1 can do it."""
    if highest >= 1:
        return found
    above = np.float32((1 + highest) / 2)
    none = float(above) if above > highest else 1.0
    hits, false_alarms = np.r_[0.0, found.hits], np.r_[0.0, found.false_alarms]
    return Outcomes(np.r_[none, found.threshold], hits, false_alarms, found.positives)


def _best(rule: Threshold, found: Outcomes) -> int:
    if not isinstance(rule, ThresholdRule):
        return int(found.f1.argmax())
    if rule.cost is not None:
        return int((rule.cost[0] * found.false_alarms + rule.cost[1] * found.misses).argmin())
    if rule.precision is not None:
        enough = (found.precision >= rule.precision) & (found.hits > 0)
        # Of thresholds with one recall, the most precise.
        return _first_best(np.where(enough, found.recall, -1), found.precision) if enough.any() else _precise(found)
    return _first_best(np.where(found.recall >= (rule.recall or 0), found.precision, -1), found.recall)


def _precise(found: Outcomes) -> int:
    return _first_best(found.precision, found.recall)


def _first_best(value: Floats, then: Floats) -> int:
    """The number of the largest value; of several the one with the largest `then`, and of these the first."""
    return int(np.lexsort((-then, -value))[0])


def _is_out_of_reach(rule: Threshold, found: Outcomes) -> bool:
    wanted = rule.precision if isinstance(rule, ThresholdRule) else None
    return wanted is not None and float(found.precision.max()) < wanted


def _describe(rule: Threshold) -> str:
    if not isinstance(rule, ThresholdRule):
        return "highest F1"
    if rule.cost is not None:
        return f"least cost, {rule.cost[0]:g} a false positive and {rule.cost[1]:g} a false negative"
    if rule.precision is not None:
        return f"most recall with a precision of {rule.precision:g}"
    return f"most precision with a recall of {rule.recall:g}"


def _given(threshold: float, labels: Labels, probabilities: Scores, rule: str = "given") -> ThresholdChoice:
    said, positive = probabilities >= np.float32(threshold), labels == 1
    hits, count = float((said & positive).sum()), float(said.sum() + positive.sum())
    return ThresholdChoice(
        threshold=threshold,
        rule=rule,
        precision=hits / max(float(said.sum()), 1),
        recall=hits / max(float(positive.sum()), 1),
        f1=2 * hits / max(count, 1),
        curve=_curve(outcomes(labels, probabilities)),
    )


def _curve(found: Outcomes) -> tuple[tuple[float, float], ...]:
    return thinned(found.threshold[::-1], found.f1[::-1])
