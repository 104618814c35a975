"""What the gate could not look at is said before training, all of it at once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from contract.features import Encoder
from tests.training import small
from training import config, pipeline
from training.errors import ConfigError, DataError
from training.judging import checkable
from training.progress import TrainingProgress
from training.rows import Prepared
from training.sections import TrainingConfig
from training.task import TaskName


def settings(checks: list[dict[str, Any]], task: TaskName = "binary", **sections: Any) -> TrainingConfig:
    raw = small.settings(task).model_dump(exclude_none=True) | sections
    raw["features"] |= {"c": {"kind": "category", "optional": True}, "title": {"kind": "text"}}
    raw["model"] = {"builder": "some.module:network"}
    return config.parse(raw | {"checks": checks})


def problems(made: TrainingConfig) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        checkable.require(made)
    return refused.value.problems


def data(task: TaskName, **changes: Any) -> Prepared:
    encoder = Encoder([feature.model_copy(update=changes) for feature in small.ENCODER.features])
    row = {"x": 5.0, "z": 1.0, "c": "a"}
    return replace(small.prepared(task), encoder=encoder, raw_test=lambda chosen: [row for _ in chosen])


ROW = {"x": 1, "z": 2, "title": "a"}


def test_all_that_is_sound_passes() -> None:
    checks = [
        {"kind": "invariance", "feature": "c", "values": ["a", None]},
        {"kind": "invariance", "feature": "x", "values": [1, 2.5]},
        {"kind": "direction", "feature": "x", "by": -1, "answer": "up"},
        {"kind": "minimum", "row": ROW, "expected": "yes"},
        {"kind": "budget", "max_size_mb": 1},
    ]
    made = settings(checks, gate={"minimum": {"roc_auc": 0.7, "log_loss": 0.5}})

    checkable.require(made)
    checkable.require_of_data(made, data("binary"))


def test_every_problem_is_named_with_its_key() -> None:
    checks = [
        {"kind": "invariance", "feature": "cc", "values": ["a"]},
        {"kind": "invariance", "feature": "x", "values": [1, "a", None, True]},
        {"kind": "direction", "feature": "c", "by": 0, "answer": "up", "of": "yes"},
        {"kind": "minimum", "row": {"x": 1, "y": 2, "title": 3}, "expected": 1},
        {"kind": "budget"},
    ]

    assert problems(settings(checks, gate={"minimum": {"rocauc": 0.7, "rmse": 1}})) == [
        "gate.minimum.rocauc: no metric of a binary task; did you mean 'roc_auc'?",
        "gate.minimum.rmse: no metric of a binary task; valid: accuracy, average_precision, brier, calibration_error, "
        "f1, log_loss, precision, recall, roc_auc",
        "checks.0.feature: 'cc' is no feature; did you mean 'c'?",
        "checks.1.values.1: expected a number, got 'a'",
        "checks.1.values.2: must not be missing",
        "checks.1.values.3: expected a number, got True",
        "checks.2.feature: c is a category, expected a number",
        "checks.2.by: expected something else than 0",
        "checks.2.of: is for many classes, this task is binary",
        "checks.3.row.y: is no feature; valid: c, title, x, z",
        "checks.3.row.title: expected a string, got 3",
        "checks.3.row.z: is missing",
        "checks.3.expected: expected a label, in quotes, got 1.0",
        "checks.4.kind: a budget needs max_latency_ms or max_size_mb",
    ]


def test_each_task_has_answers_of_its_own() -> None:
    minimum = {"kind": "minimum", "row": ROW, "expected": "yes"}
    direction = {"kind": "direction", "feature": "x", "by": 1, "answer": "up"}

    assert problems(settings([minimum], "regression")) == ["checks.0.expected: expected a number, got 'yes'"]
    assert problems(settings([direction], "multiclass")) == [
        "checks.0.of: is missing, the class whose probability goes up or down"
    ]
    checkable.require(settings([direction], "regression", gate={"minimum": {"r2": 0.5}}))


def test_labels_are_those_of_the_data() -> None:
    checks = [
        {"kind": "minimum", "row": ROW, "expected": "hihg"},
        {"kind": "direction", "feature": "x", "by": 1, "answer": "up", "of": "Low"},
    ]
    made = settings(checks, "multiclass")
    checkable.require(made)
    with pytest.raises(ConfigError) as refused:
        checkable.require_of_data(made, data("multiclass"))

    assert refused.value.problems == [
        "checks.0.expected: 'hihg' is no class; did you mean 'high'?",
        "checks.1.of: 'Low' is no class; did you mean 'low'?",
    ]


def test_a_model_that_would_refuse_every_test_row_is_not_trained() -> None:
    """As where the month is a feature, the split is by time, and what is out of range is rejected."""
    checkable.require_of_data(settings([]), data("binary"))
    with pytest.raises(DataError) as refused:
        checkable.require_of_data(settings([]), data("binary", on_out_of_range="reject"))

    assert "the service would refuse every test row, such as x: " in str(refused.value)


def test_nothing_is_read_before_that(tmp_path: Path) -> None:
    """The data are nowhere: that is not what is complained of."""
    made = settings([{"kind": "invariance", "feature": "carier", "values": ["UA"]}])
    with pytest.raises(ConfigError, match=r"checks\.0\.feature: 'carier' is no feature"):
        pipeline.run(made, tmp_path / "models", tmp_path / "runs", TrainingProgress(Console(quiet=True)))
    assert list(tmp_path.iterdir()) == []
