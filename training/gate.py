"""The gate: may a new version serve? It is held against the config, and against what serves now on the same rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import binom

from contract import bundle, routing
from contract.answered import difference
from contract.errors import HornpipeError
from contract.evidence import LOWER_IS_BETTER, Difference, Metric, Reason, Verdict
from contract.features import Encoded, Encoder
from contract.manifest import BinaryOutput, Manifest, RegressionOutput
from training.evaluation.divisions import divisions
from training.judging import comparison, expectations
from training.judging.answers import Answers, Taken
from training.judging.comparison import Both, compare
from training.rows import Indices, Prepared, RawRow
from training.sections import GateSection, TrainingConfig
from training.task import Labels, Task

MOST_COMPARED = 20_000
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


def held_out(prepared: Prepared, config: TrainingConfig) -> HeldOut:
    """Test rows, evenly spread where there are very many."""
    chosen = _some(len(prepared.test), MOST_COMPARED)
    test = prepared.test.take(chosen)
    return HeldOut(
        task=prepared.task,
        rows=prepared.raw_test(chosen.tolist()),
        labels=test.labels,
        slices=slice_rows(prepared.encoder, test.encoded, config.evaluation.slice_rows),
        seed=config.training.seed,
    )


def slice_rows(encoder: Encoder, encoded: Encoded, fewest: int) -> dict[str, Indices]:
    """The rows of every category and numeric quantile of every feature that have rows enough, by name."""
    return {
        f"{division.feature} {name}": np.flatnonzero(division.codes == code)
        for division in divisions(encoder, encoded, fewest)
        for code, name in enumerate(division.names)
    }


def production(models: Path, name: str) -> Manifest | None:
    """What is known of the version that serves. None where there is none, or it cannot be read, which `judge` says."""
    try:
        number = routing.read(models, name).production
        return None if number is None else bundle.read_version(models, name, number).manifest
    except HornpipeError:
        return None


def judge(candidate: Answers, models: Path, rows: HeldOut, config: TrainingConfig) -> Verdict:
    """Every reason, for and against; `models` says what serves. What serves but cannot be loaded is a reason too."""
    reasons, against, seen = [*_limits(candidate, config.gate)], None, None
    try:
        against = routing.read(models, candidate.manifest.name).production
        if against is None:
            reasons.append(Reason(check="production", passed=True, detail="nothing serves yet to compare with"))
        else:
            production = Answers(bundle.read_version(models, candidate.manifest.name, against))
            found, seen = _against(candidate, production, rows, config.gate)
            reasons += found
    except HornpipeError as error:
        reasons.append(Reason(check="production", passed=False, detail=f"what serves cannot be loaded: {error}"))
    reasons += expectations.hold(config.checks, candidate, rows.rows)
    passed = all(reason.passed for reason in reasons)
    return Verdict(passed=passed, against=against, reasons=tuple(reasons), difference=seen)


def _limits(candidate: Answers, gate: GateSection) -> Iterator[Reason]:
    measured = candidate.manifest.metrics
    yield from (_minimum(name, measured[name], worst) for name, worst in gate.minimum.items())
    if gate.max_latency_ms is not None or gate.max_size_mb is not None:
        yield expectations.budget("limits", candidate.manifest, gate.max_latency_ms, gate.max_size_mb)


def _minimum(name: str, measured: Metric, worst: float) -> Reason:
    lower = name in LOWER_IS_BETTER
    passed = measured.value <= worst if lower else measured.value >= worst
    detail = f"{measured.value:.4g} ({measured.low:.4g} to {measured.high:.4g}), at {'most' if lower else 'least'} "
    return Reason(check=f"minimum {name}", passed=passed, detail=f"{detail}{worst:g}")


def _against(
    candidate: Answers, production: Answers, rows: HeldOut, gate: GateSection
) -> tuple[list[Reason], Difference | None]:
    """What speaks for it and against it beside production; and how else it answers, good or bad."""
    if candidate.classes != production.classes or candidate.manifest.task != production.manifest.task:
        other = _other_question(candidate, production)
        return [Reason(check="same question", passed=False, detail=other)], None
    reasons, known = [_golden(candidate, production)], production.known(rows.rows)
    (answered, ours), (before, theirs) = candidate.served(rows.rows), production.served(known)
    lost = before & ~answered
    if lost.any():
        detail = _refused(candidate, production, rows.rows, lost)
        reasons.append(Reason(check="answers", passed=False, detail=detail))
    shared = answered & before
    if not shared.any():
        return [*reasons, _nothing_shared(candidate, production, rows.rows)], None
    both = _both(candidate, rows, shared, (ours[shared[answered]], theirs[shared[before]]))
    name = candidate.manifest.output.name
    seen = difference(production.manifest, candidate.manifest, {name: both.theirs}, {name: both.ours})
    return [*reasons, *compare(both, production.label, gate)], seen


def _nothing_shared(candidate: Answers, production: Answers, rows: Sequence[RawRow]) -> Reason:
    problem = production.problem(production.known(rows)) or candidate.problem(rows)
    said = f"; {problem.path}: {problem.problem}" if problem else ""
    return Reason(check="comparison", passed=False, detail=f"both answer none of the held-out rows{said}")


def _both(candidate: Answers, rows: HeldOut, shared: Taken, answers: tuple[Labels, Labels]) -> Both:
    """The rows that both versions answer, with the slices' row numbers among those."""
    output, number = candidate.manifest.output, np.cumsum(shared) - 1
    slices = {name: number[chosen[shared[chosen]]] for name, chosen in rows.slices.items() if shared[chosen].any()}
    return Both(
        task=rows.task,
        labels=rows.labels[shared],
        ours=answers[0],
        theirs=answers[1],
        slices=slices,
        threshold=output.threshold if isinstance(output, BinaryOutput) else 0.5,
        seed=rows.seed,
    )


def _refused(candidate: Answers, production: Answers, rows: Sequence[RawRow], lost: Taken) -> str:
    first = int(np.flatnonzero(lost)[0])
    problem = candidate.problem([rows[first]])
    said = f"{problem.path}: {problem.problem}, got {problem.received}" if problem else "an answer that is not finite"
    count = f"{np.count_nonzero(lost):,} of {len(rows):,} held-out rows"
    return f"fails on {count} that {production.label} answers, such as {said}"


def _golden(candidate: Answers, production: Answers) -> Reason:
    """What production answers, the candidate must answer too, and mostly with the same label. They are few, and have no
    truth: refused is only who keeps significantly fewer, since after drift a good one differs on a few."""
    rows: list[RawRow] = [dict(example.row) for example in production.manifest.golden]
    if problem := candidate.problem(rows):
        detail = f"refuses what {production.label} answers: {problem.path}: {problem.problem}, got {problem.received}"
        return Reason(check="golden examples", passed=False, detail=detail)
    ours, theirs = candidate.answer(rows)[1], production.answer(rows)[1]
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
    kept = sum(a == b for a, b in pairs)
    by_chance = float(binom.cdf(kept, len(rows), LABELS_KEPT))
    detail = f"{kept / len(rows):.0%} of {len(rows)} of {production.label} keep their label, "
    detail += f"of all at least {LABELS_KEPT:.0%} should, p = {by_chance:.3g}"
    return Reason(check="golden examples", passed=by_chance >= comparison.SIGNIFICANT, detail=detail)


def _other_question(candidate: Answers, production: Answers) -> str:
    mine, other = (f"{a.manifest.task} of {', '.join(a.classes) or 'a number'}" for a in (candidate, production))
    return f"it answers {mine}; {production.label}, which serves, {other}"


def _some(rows: int, most: int) -> Indices:
    """At most `most` of so many rows, evenly spread."""
    return np.unique(np.linspace(0, rows - 1, min(rows, most)).astype(np.int64))
