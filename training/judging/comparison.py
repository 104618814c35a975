"""Two versions on the same held-out rows: is the new one worse, anywhere, by more than its margin?

Point estimates decide nothing: on a thousand rows they differ by luck. The headline metric must be shown to be no worse
(non-inferiority: the lower end of a paired bootstrap interval lies above minus the margin). What is looked at besides,
accuracy, calibration and every slice, must not be shown to be worse: there, a small slice would never be proven sound.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from contract.evidence import Metric, Reason
from contract.quality import calibration_error
from training.evaluation.bootstrap import mcnemar, paired
from training.judging import margin
from training.sections import GateSection
from training.task import Labels, Scores, Task

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class Both:
    """Labels and both versions' answers to n rows; `slices` are their row numbers by name, `threshold` is that of the
    new version, by which the answers of both are judged."""

    task: Task
    labels: Labels
    ours: Scores
    theirs: Scores
    slices: Mapping[str, NDArray[np.int64]]
    threshold: float
    seed: int

    def gain(self, metric: str, rows: slice | NDArray[np.int64] = slice(None)) -> Metric:
        """By how much the new version is better, with its interval."""
        ours, theirs = self.ours[rows], self.theirs[rows]
        return paired(
            self.task, metric, self.labels[rows], ours, theirs, thresholds=(self.threshold,) * 2, seed=self.seed
        )

    def allowed(self, share: float) -> float:
        """A margin of the config in the headline metric's unit."""
        return share * margin.unit(self.task, self.labels)


def compare(both: Both, other: str, gate: GateSection) -> list[Reason]:
    """Every reason for and against. `other` is what the version is called that is compared with."""
    reasons = [headline(both, other, gate)]
    if both.task.name != "regression":
        reasons += [accuracy(both, gate), calibration(both, gate)]
    return [*reasons, slices(both, gate)]


def headline(both: Both, other: str, gate: GateSection) -> Reason:
    """Not worse by more than the margin, for sure."""
    gain, allowed = both.gain(both.task.headline), both.allowed(gate.margin)
    detail = f"{gain.value:+.4g} against {other} ({gain.low:+.4g} to {gain.high:+.4g}), allowed {-allowed:.4g}"
    if gain.low < -allowed <= gain.value:
        detail += f"; {len(both.labels):,} rows are too few to be sure of less"
    return Reason(check=both.task.headline, passed=gain.low >= -allowed, detail=detail)


def accuracy(both: Both, gate: GateSection) -> Reason:
    """McNemar's test: refused when labels are wrong significantly more often, and by more than the margin."""
    ours, theirs = (_right(both, scores) for scores in (both.ours, both.theirs))
    change, p = float(ours.mean() - theirs.mean()), mcnemar(ours, theirs)
    detail = f"{change:+.4f}, McNemar p = {p:.3g}, allowed {-gate.margin:g}"
    return Reason(check="accuracy", passed=change >= -gate.margin or p >= SIGNIFICANT, detail=detail)


def _right(both: Both, scores: Scores) -> NDArray[np.bool_]:
    if both.task.name == "binary":
        return np.asarray((scores >= np.float32(both.threshold)) == (both.labels == 1))
    return np.asarray(scores.argmax(axis=1) == both.labels)


def calibration(both: Both, gate: GateSection) -> Reason:
    """Refused when the calibration error grew by more than the margin, and that is no accident."""
    mine, other = (calibration_error(both.labels, scores) for scores in (both.ours, both.theirs))
    gain = both.gain("calibration_error")
    worse = gain.value < -gate.calibration_margin and gain.high < 0
    detail = f"calibration error {mine:.4f}, was {other:.4f}, allowed {gate.calibration_margin:+g}"
    return Reason(check="calibration", passed=not worse, detail=detail)


def slices(both: Both, gate: GateSection) -> Reason:
    """The worst slice. One is too bad when it lost more than the margin, and that is no accident: the whole interval,
    widened for the number of slices (Bonferroni), lies below zero."""
    if not both.slices:
        return Reason(check="slices", passed=True, detail="no slice has rows enough to compare")
    count, allowed = len(both.slices), both.allowed(gate.slice_margin)
    gains = {name: widened(both.gain(both.task.headline, rows), count) for name, rows in both.slices.items()}
    bad = {name: gain for name, gain in gains.items() if gain.value < -allowed and gain.high < 0}
    name, worst = min((bad or gains).items(), key=lambda each: each[1].value)
    detail = f"worst of {count}: {name} {worst.value:+.4g} ({worst.low:+.4g} to {worst.high:+.4g})"
    others = [each for each in bad if each != name]
    also = f"; too bad as well: {', '.join(others)}" if others else ""
    return Reason(check="slices", passed=not bad, detail=f"{detail}, allowed {-allowed:.4g}{also}")


def widened(gain: Metric, comparisons: int) -> Metric:
    """The interval at 1 - 0.05 / comparisons instead of 95%, taking each half of it for half a normal distribution's:
    two hundred resamples have no such percentiles of their own."""
    tail = SIGNIFICANT / 2
    factor = float(norm.isf(tail / comparisons) / norm.isf(tail))
    low, high = (gain.value + factor * (end - gain.value) for end in (gain.low, gain.high))
    return Metric(value=gain.value, low=low, high=high)
