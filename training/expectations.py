"""The user's own expectations, `[[checks]]` in the config, held against a version's answers on held-out rows.

Invariance and direction are the behavioural tests of Ribeiro et al., Beyond Accuracy: Behavioral Testing of NLP Models
with CheckList, ACL 2020, section 2.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract.evidence import Reason
from contract.features import show
from contract.manifest import BinaryOutput, Manifest, MulticlassOutput
from training.answers import Answers, Scores
from training.errors import ConfigError
from training.rows import RawRow
from training.sections import BudgetCheck, Check, DirectionCheck, InvarianceCheck, MinimumCheck, TrainingConfig

MOST_ROWS = 1000


def check_names(config: TrainingConfig) -> None:
    """Raises ConfigError where a check speaks of a feature or label that the config does not know."""
    problems = [
        f"checks.{i}.{where}: {name!r} is no feature; features: {', '.join(config.features)}"
        for i, check in enumerate(config.checks)
        for where, name in _features_of(check)
        if name not in config.features
    ]
    if problems:
        raise ConfigError("checks", problems)


def _features_of(check: Check) -> list[tuple[str, str]]:
    match check:
        case InvarianceCheck() | DirectionCheck():
            return [("feature", check.feature)]
        case MinimumCheck():
            return [("row", name) for name in check.row]
        case BudgetCheck():
            return []


def hold(checks: Sequence[Check], answers: Answers, rows: Sequence[RawRow]) -> list[Reason]:
    """Each check against (at most a thousand of) the rows, in the order of the config."""
    some = list(rows[:MOST_ROWS])
    return [_hold(check, answers, some) for check in checks]


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
    changed = [[row | {check.feature: value} for row in rows] for value in check.values]
    if refused := [problem for each in changed for problem in answers.refusals(each)]:
        return Reason(check=name, passed=False, detail=f"{refused[0].path}: {refused[0].problem}")
    before = answers.scores(rows)
    moves = [_move(before, answers.scores(each)) for each in changed]
    worst = int(np.argmax([move.max() for move in moves]))
    most, over = float(moves[worst].max()), float((np.max(moves, axis=0) > check.tolerance).mean())
    detail = f"moves the answer by at most {most:.4g} (at {show(check.values[worst])}), allowed {check.tolerance:g}"
    detail += f"; {over:.1%} of {len(rows)} rows move by more" if over else ""
    return Reason(check=name, passed=most <= check.tolerance, detail=detail)


def _direction(check: DirectionCheck, answers: Answers, rows: list[RawRow]) -> Reason:
    name = f"{check.feature} {check.by:+g} moves the answer {check.answer}"
    rows = [row for row in rows if isinstance(row[check.feature], int | float)]
    raised = [row | {check.feature: row[check.feature] + check.by} for row in rows]
    if not rows:
        return Reason(check=name, passed=False, detail=f"no held-out row has a number in {check.feature}")
    if refused := answers.refusals(raised):
        return Reason(check=name, passed=False, detail=f"{refused[0].path}: {refused[0].problem}")
    sign = 1 if check.answer == "up" else -1
    change = sign * (_one_number(answers, raised) - _one_number(answers, rows))
    wrong = float((change < -check.tolerance).mean())
    detail = f"{wrong:.1%} of {len(rows)} rows move the other way, allowed {check.exceptions:.1%}"
    return Reason(
        check=name, passed=wrong <= check.exceptions, detail=f"{detail}; median move {np.median(change):+.4g}"
    )


def _minimum(check: MinimumCheck, answers: Answers) -> Reason:
    name = f"minimum: {check.expected!r} for a row"
    row = {feature.name: check.row.get(feature.name) for feature in answers.encoder.features}
    if refused := answers.refusals([row]):
        return Reason(check=name, passed=False, detail=f"{refused[0].path}: {refused[0].problem}")
    scores = answers.scores([row])
    if isinstance(check.expected, str):
        label = labels(answers.manifest, scores)[0]
        return Reason(check=name, passed=label == check.expected, detail=f"answered {label!r}")
    value = float(scores.reshape(-1)[0])
    within = abs(value - check.expected) <= check.tolerance
    return Reason(check=name, passed=within, detail=f"answered {value:.4g}, allowed within {check.tolerance:g}")


def budget(name: str, manifest: Manifest, max_latency_ms: float | None, max_size_mb: float | None) -> Reason:
    """Latency (p99 of one row, on the machine that trained) and size of the variant that serves, against limits."""
    variant = manifest.variant(manifest.chosen.variant)
    latency, size = variant.latency["1"].p99 / 1000, variant.size / 1e6
    passed = (max_latency_ms is None or latency <= max_latency_ms) and (max_size_mb is None or size <= max_size_mb)
    limits = [f"{limit:g} {unit}" for limit, unit in ((max_latency_ms, "ms"), (max_size_mb, "MB")) if limit is not None]
    detail = f"{variant.name}: p99 {latency:.3g} ms a row, {size:.3g} MB; allowed {', '.join(limits) or 'anything'}"
    return Reason(check=name, passed=passed, detail=detail)


def labels(manifest: Manifest, scores: Scores) -> list[str]:
    """What a classifier's scores mean, as the service words it. Raises ConfigError for a regression."""
    match manifest.output:
        case BinaryOutput() as output:
            positive = scores >= output.float32_threshold
            return [output.positive if each else output.negative for each in positive]
        case MulticlassOutput() as output:
            return [output.classes[i] for i in scores.argmax(axis=1)]
        case _:
            raise ConfigError("checks", ["expected: a regression answers a number, not a label"])


def _move(before: Scores, after: Scores) -> NDArray[np.float32]:
    """By how much each row's answer moved: of many classes, the one that moved most."""
    moves: NDArray[np.float32] = np.abs(after - before).reshape(len(before), -1).max(axis=1)
    return moves


def _one_number(answers: Answers, rows: list[RawRow]) -> Scores:
    """The number that goes up or down: the positive class' probability, the largest probability, the value."""
    scores = answers.scores(rows)
    return scores if scores.ndim == 1 else scores.max(axis=1)


def _of(check: BudgetCheck) -> str:
    limits = {"latency": check.max_latency_ms, "size": check.max_size_mb}
    return "".join(f" of {name}" for name, limit in limits.items() if limit is not None)
