"""Metrics against scikit-learn, against each other, and where rows lack a class."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from contract.quality import calibration_error
from training.evaluation.metrics import metrics
from training.evaluation.weighted import decisions, weighted
from training.task import TASKS

BINARY, MULTICLASS, REGRESSION = TASKS["binary"], TASKS["multiclass"], TASKS["regression"]


def binary_rows(random, rows, ties=False):
    labels = (random.random(rows) < 0.3).astype(np.float32)
    labels[:2] = 0, 1
    scores = BINARY.scores((random.normal(size=rows) + labels - 1).astype(np.float32))
    return labels, np.round(scores, 1) if ties else scores


def multiclass_rows(random, rows, classes=4):
    labels = random.integers(0, classes, rows).astype(np.int32)
    labels[:classes] = range(classes)
    return labels, MULTICLASS.scores((random.normal(size=(rows, classes)) + 2 * np.eye(classes)[labels]).astype("f4"))


def weighted_oracle(task, labels, scores, weights, threshold):
    """scikit-learn with sample_weight; the labels hold every class and every class has weight."""
    weigh = {"sample_weight": weights}
    if task is REGRESSION:
        return {
            "rmse": oracle.root_mean_squared_error(labels, scores, **weigh),
            "mae": oracle.mean_absolute_error(labels, scores, **weigh),
            "r2": oracle.r2_score(labels, scores, **weigh),
        }
    if task is BINARY:
        said, wide = scores >= np.float32(threshold), scores.astype(float)
        return {
            "roc_auc": oracle.roc_auc_score(labels, scores, **weigh),
            "average_precision": oracle.average_precision_score(labels, scores, **weigh),
            "log_loss": oracle.log_loss(labels, wide, **weigh),
            "brier": oracle.brier_score_loss(labels, wide, **weigh),
            "accuracy": oracle.accuracy_score(labels, said, **weigh),
            "precision": oracle.precision_score(labels, said, zero_division=0, **weigh),
            "recall": oracle.recall_score(labels, said, **weigh),
            "f1": oracle.f1_score(labels, said, **weigh),
        }
    said, wide = scores.argmax(axis=1), scores / scores.sum(axis=1, keepdims=True, dtype=float)
    macro = {"average": "macro", "zero_division": 0} | weigh
    one_hot = np.eye(scores.shape[1])[labels]
    return {
        "accuracy": oracle.accuracy_score(labels, said, **weigh),
        "f1_macro": oracle.f1_score(labels, said, **macro),
        "precision_macro": oracle.precision_score(labels, said, **macro),
        "recall_macro": oracle.recall_score(labels, said, **macro),
        "roc_auc": oracle.roc_auc_score(labels, wide, multi_class="ovr", **weigh),
        "average_precision": oracle.average_precision_score(one_hot, scores, average="macro", **weigh),
        "log_loss": oracle.log_loss(labels, wide, **weigh),
        "brier": np.average(((wide - one_hot) ** 2).sum(axis=1), weights=weights),
    }


def rows_of(task, random, rows, ties=False):
    if task is BINARY:
        return binary_rows(random, rows, ties)
    if task is MULTICLASS:
        return multiclass_rows(random, rows)
    labels = (1e4 + random.normal(size=rows)).astype(np.float32)
    return labels, (labels + random.normal(size=rows)).astype(np.float32)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@settings(max_examples=20)  # scikit-learn takes its time
@given(rows=st.integers(8, 120), ties=st.booleans(), seed=st.integers(0, 10_000))
def test_many_weightings_at_once_are_scikit_learns_sample_weight_one_by_one(task, rows, ties, seed):
    random = np.random.default_rng(seed)
    labels, scores = rows_of(task, random, rows, ties)
    weights = random.integers(0, 4, (rows, 3)).astype(float)
    weights[:4] += 1  # every class has a row
    found = weighted(task, labels, scores, 0.5, None)(weights)
    for column in range(3):
        expected = weighted_oracle(task, labels, scores, weights[:, column], 0.5)
        assert {name: found[name][column] for name in expected} == pytest.approx(expected, rel=1e-6, abs=1e-9)


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("ties", [False, True])
def test_metrics_are_the_weighted_ones_with_equal_weights(task, ties):
    labels, scores = rows_of(task, np.random.default_rng(1), 500, ties)
    equal = weighted(task, labels, scores, 0.4, None)(np.ones((500, 1)))
    values = metrics(task, labels, scores, 0.4)
    assert values == pytest.approx({name: value[0] for name, value in equal.items()})
    assert next(iter(values)) == task.headline


def test_only_the_metrics_asked_for_are_computed():
    labels, scores = binary_rows(np.random.default_rng(0), 50)
    found = weighted(BINARY, labels, scores, 0.5, ["f1", "brier"])(np.ones((50, 2)))
    assert list(found) == ["f1", "brier"]


@pytest.mark.parametrize("classes", [2, 5])
def test_calibration_error_is_what_its_definition_says(classes):
    labels, scores = multiclass_rows(np.random.default_rng(3), 700, classes)
    if classes == 2:
        labels, scores = labels.astype(np.float32), scores[:, 1]
        sure, right = scores, labels
    else:
        sure, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    expected = 0.0
    for i in range(15):
        inside = (sure >= i / 15) & ((sure < (i + 1) / 15) | (i == 14))
        if inside.any():
            expected += inside.mean() * abs(sure[inside].mean(dtype=float) - right[inside].mean(dtype=float))
    assert calibration_error(labels, scores) == pytest.approx(expected, abs=1e-6)


def test_a_probability_of_one_has_a_bin():
    assert calibration_error(np.ones(3, np.float32), np.ones(3, np.float32)) == 0


def test_decisions_by_class_are_scikit_learns():
    labels, scores = multiclass_rows(np.random.default_rng(4), 300)
    precision, recall, f1, _, rows = decisions(labels, scores, 0.5)(np.ones((300, 1)))[..., 0]
    expected = oracle.precision_recall_fscore_support(labels, scores.argmax(axis=1))
    np.testing.assert_allclose([precision, recall, f1, rows], expected)


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_leaves_no_metric_undefined(label):
    labels = np.full(5, label, np.float32)
    values = metrics(BINARY, labels, np.linspace(0.1, 0.8, 5).astype(np.float32))
    assert np.isfinite(list(values.values())).all()
    assert values["roc_auc"] == 0.5
    assert values["average_precision"] == label


def test_a_class_that_no_row_has_is_left_out_of_the_averages():
    random = np.random.default_rng(5)
    labels, scores = multiclass_rows(random, 200, 3)
    wider = np.concatenate([scores, np.zeros((200, 1), np.float32)], axis=1)
    few, many = metrics(MULTICLASS, labels, scores), metrics(MULTICLASS, labels, wider)
    assert many == pytest.approx(few)


def test_one_row_has_metrics():
    one = np.ones(1, np.float32)
    for task in (BINARY, REGRESSION):
        assert np.isfinite(list(metrics(task, one, one).values())).all()
    assert np.isfinite(list(metrics(MULTICLASS, np.ones(1, np.int32), np.full((1, 3), 1 / 3, "f4")).values())).all()


def test_a_constant_target():
    constant = np.full(6, 3, np.float32)
    for values, r2 in ((constant, 1.0), (constant + 1, 0.0)):
        equal = weighted(REGRESSION, constant, values, 0.5, None)(np.ones((6, 1)))
        assert metrics(REGRESSION, constant, values)["r2"] == equal["r2"][0] == r2


def test_the_threshold_is_compared_as_float32():
    threshold = 0.7  # its float32 is less than it
    labels = np.array([0, 1], np.float32)
    assert metrics(BINARY, labels, np.array([0.1, np.float32(threshold)], np.float32), threshold)["recall"] == 1


def test_scores_that_are_not_finite_are_named():
    with pytest.raises(ValueError, match="answers to 1 of 2 rows are not finite"):
        metrics(BINARY, np.array([0, 1], np.float32), np.array([0.5, np.nan], np.float32))
    with pytest.raises(ValueError, match="got 1 and 2"):
        metrics(BINARY, np.array([0], np.float32), np.array([0.5, 0.5], np.float32))
