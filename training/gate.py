"""The gate: may a new version serve? It is compared with what serves now, on the same held-out rows.

Non-inferiority, not superiority: a version passes when even the lower end of a paired bootstrap interval of its
improvement lies above minus the margin. Point estimates decide nothing: on a thousand rows they differ by luck.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from contract.evidence import LOWER_IS_BETTER, Metric, Reason, Verdict
from contract.features import Encoded, Encoder
from contract.manifest import RegressionOutput
from training import expectations
from training.answers import Answers, Scores
from training.bootstrap import mcnemar, paired
from training.divisions import divisions
from training.metrics import calibration_error
from training.rows import Indices, RawRow
from training.sections import GateSection, TrainingConfig
from training.task import Labels, Task

# Of production's golden examples, so many must keep their label: another model may differ, but not on everything.
LABELS_KEPT = 0.8


@dataclass(frozen=True)
class HeldOut:
    """The rows that both versions answer: raw, with labels, and the row numbers of each slice by its name."""

    task: Task
    rows: Sequence[RawRow]
    labels: Labels
    slices: dict[str, Indices]
    seed: int


def some(rows: int, most: int) -> Indices:
    """At most `most` of so many rows, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.int64))


def slice_rows(encoder: Encoder, encoded: Encoded, fewest: int) -> dict[str, Indices]:
    """The rows of every category and numeric quantile of every feature that have rows enough, by name."""
    found = {
        f"{division.feature} {name}": np.flatnonzero(division.codes == code)
        for division in divisions(encoder, encoded, fewest)
        for code, name in enumerate(division.names)
    }
    return {name: rows for name, rows in found.items() if len(rows) >= fewest}


def judge(
    candidate: Answers,
    production: Answers | None,
    held_out: HeldOut,
    measured: dict[str, Metric],
    config: TrainingConfig,
) -> Verdict:
    """Every reason, for and against. `measured` are the candidate's metrics on all test rows."""
    gate = config.gate
    reasons = [*_minimum(measured, gate)]
    if gate.max_latency_ms is not None or gate.max_size_mb is not None:
        reasons.append(expectations.budget("limits", candidate.manifest, gate.max_latency_ms, gate.max_size_mb))
    if production is None:
        reasons.append(Reason(check="production", passed=True, detail="nothing serves yet to compare with"))
    else:
        reasons += _against(candidate, production, held_out, gate)
    reasons += expectations.hold(config.checks, candidate, held_out.rows)
    against = None if production is None else production.manifest.version
    return Verdict(passed=all(reason.passed for reason in reasons), against=against, reasons=tuple(reasons))


def _minimum(measured: dict[str, Metric], gate: GateSection) -> Iterator[Reason]:
    for name, worst in gate.minimum.items():
        if name not in measured:
            known = ", ".join(measured)
            yield Reason(check=f"minimum {name}", passed=False, detail=f"there is no such metric; there are: {known}")
            continue
        value, lower = measured[name].value, name in LOWER_IS_BETTER
        passed = value <= worst if lower else value >= worst
        yield Reason(
            check=f"minimum {name}", passed=passed, detail=f"{value:.4f}, at {'most' if lower else 'least'} {worst:g}"
        )


def _against(candidate: Answers, production: Answers, held_out: HeldOut, gate: GateSection) -> Iterator[Reason]:
    if _classes(candidate) != _classes(production) or candidate.manifest.task != production.manifest.task:
        yield Reason(check="same question", passed=False, detail=_other_question(candidate, production))
        return
    yield _golden(candidate, production)
    if refused := production.refusals(held_out.rows):
        problem = f"{production.label} cannot answer the held-out rows: {refused[0].path}: {refused[0].problem}"
        yield Reason(check="comparison", passed=False, detail=problem)
        return
    ours, theirs = candidate.scores(held_out.rows), production.scores(held_out.rows)
    yield _headline(held_out, ours, theirs, production.label, gate)
    if held_out.task.name != "regression":
        yield _accuracy(candidate, production, held_out, ours, theirs, gate)
        yield _calibration(held_out, ours, theirs, gate)
    yield _slices(held_out, ours, theirs, gate)


def _headline(held_out: HeldOut, ours: Scores, theirs: Scores, other: str, gate: GateSection) -> Reason:
    task = held_out.task
    gain = paired(task, task.headline, held_out.labels, ours, theirs, seed=held_out.seed)
    detail = f"{gain.value:+.4f} against {other} ({gain.low:+.4f} to {gain.high:+.4f}), allowed {-gate.margin:g}"
    return Reason(check=task.headline, passed=gain.low >= -gate.margin, detail=detail)


def _accuracy(
    candidate: Answers, production: Answers, held_out: HeldOut, ours: Scores, theirs: Scores, gate: GateSection
) -> Reason:
    """McNemar's test of the labels: refused when they are wrong significantly more often, by more than the margin."""
    right = [_right(answers, scores, held_out.labels) for answers, scores in ((candidate, ours), (production, theirs))]
    change, p = float(right[0].mean() - right[1].mean()), mcnemar(right[0], right[1])
    detail = f"{change:+.4f}, McNemar p = {p:.3g}, allowed {-gate.margin:g}"
    return Reason(check="accuracy", passed=change >= -gate.margin or p >= 0.05, detail=detail)


def _right(answers: Answers, scores: Scores, labels: Labels) -> NDArray[np.bool_]:
    names = np.array(_classes(answers))
    right: NDArray[np.bool_] = np.array(expectations.labels(answers.manifest, scores)) == names[labels.astype(int)]
    return right


def _calibration(held_out: HeldOut, ours: Scores, theirs: Scores, gate: GateSection) -> Reason:
    mine, other = (calibration_error(held_out.labels, scores) for scores in (ours, theirs))
    detail = f"calibration error {mine:.4f}, was {other:.4f}, allowed {gate.calibration_margin:+g}"
    return Reason(check="calibration", passed=mine - other <= gate.calibration_margin, detail=detail)


def _slices(held_out: HeldOut, ours: Scores, theirs: Scores, gate: GateSection) -> Reason:
    """The worst slice. One is too bad when it lost more than the margin, and that is no accident: the whole interval,
    widened for the number of slices (Bonferroni), lies below zero."""
    task = held_out.task
    gains = {
        name: _widened(
            paired(task, task.headline, held_out.labels[i], ours[i], theirs[i], seed=held_out.seed),
            len(held_out.slices),
        )
        for name, i in held_out.slices.items()
    }
    if not gains:
        return Reason(check="slices", passed=True, detail="no slice has rows enough to compare")
    bad = {name: gain for name, gain in gains.items() if gain.value < -gate.slice_margin and gain.high < 0}
    name, worst = min((bad or gains).items(), key=lambda each: each[1].value)
    detail = f"worst of {len(gains)}: {name} {worst.value:+.4f} ({worst.low:+.4f} to {worst.high:+.4f})"
    return Reason(check="slices", passed=not bad, detail=f"{detail}, allowed {-gate.slice_margin:g}")


def _widened(gain: Metric, comparisons: int) -> Metric:
    """The interval at 1 - 0.05 / comparisons instead of 95%, taking each half of it for half a normal distribution's:
    two hundred resamples have no such percentiles of their own."""
    factor = float(norm.isf(0.025 / comparisons) / norm.isf(0.025))
    low, high = (gain.value + factor * (end - gain.value) for end in (gain.low, gain.high))
    return Metric(value=gain.value, low=low, high=high)


def _golden(candidate: Answers, production: Answers) -> Reason:
    """What production answers, the candidate must answer too, and mostly with the same label."""
    rows: list[dict[str, Any]] = [dict(example.row) for example in production.manifest.golden]
    if refused := candidate.refusals(rows):
        problem = f"refuses what {production.label} answers: {refused[0].path}: {refused[0].problem}"
        return Reason(check="golden examples", passed=False, detail=problem)
    ours, theirs = candidate.scores(rows), production.scores(rows)
    if not np.isfinite(ours).all():
        return Reason(check="golden examples", passed=False, detail="an answer is not finite")
    if isinstance(candidate.manifest.output, RegressionOutput):
        span = candidate.manifest.output.maximum - candidate.manifest.output.minimum
        moved = float(np.median(np.abs(ours - theirs)))
        detail = f"answers {len(rows)} of {production.label}, median move {moved:.4g} of a range of {span:.4g}"
        return Reason(check="golden examples", passed=moved <= (1 - LABELS_KEPT) * span, detail=detail)
    pairs = zip(
        expectations.labels(candidate.manifest, ours), expectations.labels(production.manifest, theirs), strict=True
    )
    kept = float(np.mean([a == b for a, b in pairs]))
    detail = f"{kept:.0%} of {len(rows)} of {production.label} keep their label, at least {LABELS_KEPT:.0%}"
    return Reason(check="golden examples", passed=kept >= LABELS_KEPT, detail=detail)


def _classes(answers: Answers) -> tuple[str, ...]:
    output = answers.manifest.output
    if isinstance(output, RegressionOutput):
        return ()
    if output.name == "probability":
        return (output.negative, output.positive)
    return output.classes


def _other_question(candidate: Answers, production: Answers) -> str:
    mine, other = (f"{a.manifest.task} of {', '.join(_classes(a)) or 'a number'}" for a in (candidate, production))
    return f"{candidate.label} answers {mine}; {production.label}, which serves, answers {other}"
