"""The user's own expectations, `[[checks]]` in the config, held against a version's answers on held-out rows.

Invariance and direction are the behavioural tests of Ribeiro et al., Beyond Accuracy: Behavioral Testing of NLP Models
with CheckList, ACL 2020, section 2.
"""

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract.evidence import Reason
from contract.features import show
from contract.manifest import BinaryOutput, ImageFeature, Manifest, MulticlassOutput, RegressionOutput, TensorsOutput
from training.judging.answers import Answers
from training.rows import RawRow
from training.sections import BudgetCheck, Check, DirectionCheck, InvarianceCheck, MinimumCheck
from training.task import Scores

MOST_ROWS = 1000


def hold(checks: Sequence[Check], answers: Answers, rows: Sequence[RawRow]) -> list[Reason]:
    """Each check against the rows that the version takes, or a thousand of them, in the order of the config."""
    if not checks:
        return []
    some = [rows[int(i)] for i in np.unique(np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).astype(int))]
    taken = [row for row in some if answers.encoder.accepts(row)]
    return [_hold(check, answers, taken) for check in checks]


def _hold(check: Check, answers: Answers, rows: list[RawRow]) -> Reason:
    match check:
        case InvarianceCheck():
            return _invariance(check, answers, rows)
        case DirectionCheck():
            return _direction(check, answers, rows)
        case MinimumCheck():
            return _minimum(check, answers)
        case BudgetCheck():
            return budget(f"budget{_of(check)}", answers.manifest, check.max_latency_ms, check.max_size_mb)


def _invariance(check: InvarianceCheck, answers: Answers, rows: list[RawRow]) -> Reason:
    name = f"invariance of {check.feature}"
    if not rows:
        return Reason(check=name, passed=False, detail="the model takes none of the held-out rows")
    before, moves = answers.answer(rows)[1], []
    for value in check.values:
        changed = [row | {check.feature: value} for row in rows]
        if problem := answers.problem(changed):
            return Reason(check=name, passed=False, detail=f"at {show(value)}: {problem.problem}")
        moves.append(_move(before, answers.answer(changed)[1]))
    worst = int(np.argmax([move.max() for move in moves]))
    most, over = float(moves[worst].max()), float((np.max(moves, axis=0) > check.tolerance).mean())
    detail = f"moves the answer by at most {most:.4g} (at {show(check.values[worst])}), allowed {check.tolerance:g}"
    detail += f"; {over:.1%} of {len(rows)} rows move by more" if over else ""
    return Reason(check=name, passed=most <= check.tolerance, detail=detail)


def _direction(check: DirectionCheck, answers: Answers, rows: list[RawRow]) -> Reason:
    name = f"{check.feature} {check.by:+g} moves the answer {check.answer}"
    pairs = [(row, row | {check.feature: row[check.feature] + check.by}) for row in rows if _has(row, check.feature)]
    pairs = [(row, raised) for row, raised in pairs if answers.encoder.accepts(raised)]
    if not pairs:
        return Reason(check=name, passed=False, detail=f"no held-out row has a {check.feature} that can be changed so")
    before, after = (_one_number(check, answers, [pair[i] for pair in pairs]) for i in (0, 1))
    change = (after - before) * (1 if check.answer == "up" else -1)
    wrong = float(np.mean(~(change >= -check.tolerance)))  # what is not a number is wrong too
    detail = f"{wrong:.1%} of {len(pairs)} rows move the other way, allowed {check.exceptions:.1%}"
    detail += f"; median move {np.median(after - before):+.4g}"
    return Reason(check=name, passed=wrong <= check.exceptions, detail=detail)


def _minimum(check: MinimumCheck, answers: Answers) -> Reason:
    name = f"minimum: {check.expected!r} for a row"
    try:
        row = {feature.name: _value(check.row.get(feature.name), feature) for feature in answers.manifest.features}
    except OSError as error:
        return Reason(check=name, passed=False, detail=f"{error.filename}: {error.strerror}")
    if problem := answers.problem([row]):
        return Reason(
            check=name, passed=False, detail=f"{problem.path}: {problem.problem}, expected {problem.expected}"
        )
    scores = answers.answer([row])[1]
    if isinstance(check.expected, str):
        label = labels(answers.manifest, scores)[0]
        return Reason(check=name, passed=label == check.expected, detail=f"answered {label!r}")
    value = float(scores[0])
    within = abs(value - check.expected) <= check.tolerance
    return Reason(check=name, passed=within, detail=f"answered {value:.4g}, allowed within {check.tolerance:g}")


def budget(name: str, manifest: Manifest, max_latency_ms: float | None, max_size_mb: float | None) -> Reason:
    """Latency (p99 of one row, on the machine that trained) and size of the variant that serves, against limits."""
    variant = manifest.variant(manifest.chosen.variant)
    latency, size = variant.latency["1"].p99 / 1000, variant.size / 1e6
    passed = (max_latency_ms is None or latency <= max_latency_ms) and (max_size_mb is None or size <= max_size_mb)
    limits = [f"{limit:g} {unit}" for limit, unit in ((max_latency_ms, "ms"), (max_size_mb, "MB")) if limit is not None]
    detail = f"{variant.name}: p99 {latency:.3g} ms a row, {size:.3g} MB; allowed {', '.join(limits)}"
    return Reason(check=name, passed=passed, detail=detail)


def labels(manifest: Manifest, scores: Scores) -> list[str]:
    """What a classifier's scores mean, as the service words it. Raises ValueError for a regression."""
    match manifest.output:
        case BinaryOutput() as output:
            positive = scores >= np.float32(output.threshold)
            return [output.positive if each else output.negative for each in positive]
        case MulticlassOutput() as output:
            return [output.classes[i] for i in scores.argmax(axis=1)]
        case RegressionOutput() | TensorsOutput():
            raise ValueError(f"the task {manifest.task} answers no label")


def _has(row: RawRow, feature: str) -> bool:
    return isinstance(row.get(feature), int | float)


def _value(value: object, feature: object) -> object:
    """A cell of the config as a request has it."""
    if isinstance(feature, ImageFeature) and isinstance(value, str):
        return {"b64": base64.b64encode(Path(value).read_bytes()).decode()}
    return value


def _move(before: Scores, after: Scores) -> NDArray[np.float32]:
    """By how much each row's answer moved: of many classes, the one that moved most."""
    moves: NDArray[np.float32] = np.abs(after - before).reshape(len(before), -1).max(axis=1)
    return moves


def _one_number(check: DirectionCheck, answers: Answers, rows: list[RawRow]) -> Scores:
    """The number that goes up or down: the probability of the positive class or of the class named, the value."""
    scores = answers.answer(rows)[1]
    return scores if check.of is None else scores[:, answers.classes.index(check.of)]


def _of(check: BudgetCheck) -> str:
    limits = {"latency": check.max_latency_ms, "size": check.max_size_mb}
    return "".join(f" of {name}" for name, limit in limits.items() if limit is not None)
