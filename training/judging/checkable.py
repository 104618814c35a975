"""Whether the gate can look at what the config wants it to, found out before training and not after."""

from collections.abc import Iterator

import numpy as np

from training.errors import ConfigError, DataError, did_you_mean
from training.evaluation.metrics import metrics
from training.rows import Prepared
from training.sections import (
    BudgetCheck,
    Cell,
    Check,
    DirectionCheck,
    FeatureSection,
    InvarianceCheck,
    MinimumCheck,
    TrainingConfig,
)
from training.task import TASKS, TaskName

FEW = 100


def require(config: TrainingConfig) -> None:
    """Raises ConfigError where [gate] or [[checks]] speak of what the config does not know."""
    problems = [*_minimum(config)]
    for i, check in enumerate(config.checks):
        problems += [f"checks.{i}.{problem}" for problem in _problems(check, config)]
    if problems:
        raise ConfigError("config", problems)


def require_of_data(config: TrainingConfig, prepared: Prepared) -> None:
    """The same for what only the data know. Raises ConfigError for a label that there is none of, and DataError where
    the service would refuse every test row, since nothing can be proven of such a model."""
    _require_classes(config, prepared.classes)
    few = np.unique(np.linspace(0, len(prepared.test) - 1, FEW).astype(int)).tolist()
    rows = prepared.raw_test(few)
    refused = prepared.encoder.encode(rows[:1])
    if isinstance(refused, list) and not any(map(prepared.encoder.accepts, rows)):
        problem = refused[0]
        said = f"{problem.path.removeprefix('instances[0].')}: {problem.problem}, got {problem.received}"
        advice = "its on_out_of_range or on_unseen, or that of [serving], is too strict for them"
        raise DataError("data", [f"the service would refuse every test row, such as {said}; {advice}"])


def _require_classes(config: TrainingConfig, classes: tuple[str, ...]) -> None:
    named = [(f"checks.{i}.{key}", label) for i, check in enumerate(config.checks) for key, label in _labels(check)]
    problems = [
        f"{key}: {label!r} is no class; {did_you_mean(label, classes)}" for key, label in named if label not in classes
    ]
    if problems:
        raise ConfigError("config", problems)


def _minimum(config: TrainingConfig) -> Iterator[str]:
    known = _metrics(config.task)
    for name in config.gate.minimum:
        if name not in known:
            yield f"gate.minimum.{name}: no metric of a {config.task} task; {did_you_mean(name, known)}"


def _metrics(task: TaskName) -> list[str]:
    labels, scores = np.array([0, 1]), np.array([0.2, 0.7], np.float32)
    return list(
        metrics(TASKS[task], labels, np.stack([1 - scores, scores], axis=1) if task == "multiclass" else scores)
    )


def _problems(check: Check, config: TrainingConfig) -> Iterator[str]:
    match check:
        case InvarianceCheck():
            yield from _of_feature(check.feature, config) or _of_values(check, config.features[check.feature])
        case DirectionCheck():
            yield from _of_feature(check.feature, config) or _of_direction(check, config)
        case MinimumCheck():
            yield from _of_row(check, config)
        case BudgetCheck():
            if check.max_latency_ms is None and check.max_size_mb is None:
                yield "kind: a budget needs max_latency_ms or max_size_mb"


def _of_feature(name: str, config: TrainingConfig) -> list[str]:
    if name in config.features:
        return []
    return [f"feature: {name!r} is no feature; {did_you_mean(name, config.features)}"]


def _of_values(check: InvarianceCheck, feature: FeatureSection) -> list[str]:
    if feature.kind == "image":
        return [f"feature: {check.feature} is a picture, which cannot be set to a value"]
    return [f"values.{i}: {problem}" for i, each in enumerate(check.values) for problem in _of_cell(each, feature)]


def _of_direction(check: DirectionCheck, config: TrainingConfig) -> list[str]:
    problems = []
    if config.features[check.feature].kind != "number":
        problems.append(f"feature: {check.feature} is a {config.features[check.feature].kind}, expected a number")
    if check.by == 0:
        problems.append("by: expected something else than 0")
    if config.task == "multiclass" and check.of is None:
        problems.append("of: is missing, the class whose probability goes up or down")
    if config.task != "multiclass" and check.of is not None:
        problems.append(f"of: is for many classes, this task is {config.task}")
    return problems


def _of_row(check: MinimumCheck, config: TrainingConfig) -> Iterator[str]:
    for name, value in check.row.items():
        if name not in config.features:
            yield f"row.{name}: is no feature; {did_you_mean(name, config.features)}"
        else:
            yield from (f"row.{name}: {problem}" for problem in _of_cell(value, config.features[name]))
    for name, feature in config.features.items():
        if not feature.optional and name not in check.row:
            yield f"row.{name}: is missing"
    if (config.task == "regression") == isinstance(check.expected, str):
        wanted = "a number" if config.task == "regression" else "a label, in quotes"
        yield f"expected: expected {wanted}, got {check.expected!r}"


def _of_cell(value: Cell, feature: FeatureSection) -> list[str]:
    """A value that no request could have."""
    if value is None:
        return [] if feature.optional else ["must not be missing"]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if number == (feature.kind == "number"):
        return []
    return [f"expected {'a number' if feature.kind == 'number' else 'a string'}, got {value!r}"]


def _labels(check: Check) -> Iterator[tuple[str, str]]:
    match check:
        case DirectionCheck() if check.of is not None:
            yield "of", check.of
        case MinimumCheck() if isinstance(check.expected, str):
            yield "expected", check.expected
