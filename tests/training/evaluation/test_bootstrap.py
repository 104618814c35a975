"""Intervals: against resampling by hand, against known coverage, and paired ones against what pairing is for."""

import numpy as np
import pytest
from scipy.stats import binom

from tests.training.evaluation.test_metrics import BINARY, MULTICLASS, REGRESSION, binary_rows, multiclass_rows, rows_of
from training.evaluation import bootstrap
from training.evaluation.bootstrap import intervals, mcnemar, paired
from training.evaluation.metrics import metrics
from training.task import TASKS


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_intervals_are_those_of_drawing_rows_again_and_again(task):
    labels, scores = rows_of(task, np.random.default_rng(0), 400)
    found = intervals(task, labels, scores, 0.4, resamples=40, seed=1)
    random = np.random.default_rng(1)
    drawn = [random.integers(0, 400, 400, np.int32) for _ in range(40)]
    samples = [metrics(task, labels[rows], scores[rows], 0.4) for rows in drawn]
    for name, metric in found.items():
        own = [sample[name] for sample in samples]
        low, high = np.percentile(own, [2.5, 97.5])
        assert metric.value == pytest.approx(metrics(task, labels, scores, 0.4)[name])
        bias = np.mean(own) - metric.value if name == "calibration_error" else 0
        assert [metric.low, metric.high] == pytest.approx([low - bias, high - bias]), name


def test_the_same_seed_draws_the_same_whatever_the_blocks(monkeypatch):
    labels, scores = binary_rows(np.random.default_rng(0), 300)
    whole = intervals(BINARY, labels, scores, seed=7)
    monkeypatch.setattr(bootstrap, "_BLOCK", 900)
    assert intervals(BINARY, labels, scores, seed=7) == whole
    assert intervals(BINARY, labels, scores, seed=8) != whole


def test_about_95_percent_of_intervals_hold_the_truth():
    random = np.random.default_rng(0)
    held = 0
    for seed in range(200):
        labels = random.normal(size=150).astype(np.float32)
        metric = intervals(REGRESSION, labels, np.zeros(150, np.float32), only=["mae"], seed=seed)["mae"]
        held += metric.low <= np.sqrt(2 / np.pi) <= metric.high
    assert binom.cdf(held, 200, 0.95) > 1e-3  # more would be well, and the percentile interval is a bit narrow
    assert held < 200


def test_the_calibration_error_of_a_calibrated_model_lies_in_its_interval():
    random = np.random.default_rng(0)
    for seed in range(20):
        scores = random.random(2000).astype(np.float32)
        labels = (random.random(2000) < scores).astype(np.float32)
        metric = intervals(BINARY, labels, scores, only=["calibration_error"], seed=seed)["calibration_error"]
        assert 0 <= metric.low < metric.value < metric.high < 0.08


def test_of_very_many_rows_a_part_gives_the_same_interval(monkeypatch):
    labels, scores = binary_rows(np.random.default_rng(0), 20_000)
    whole = intervals(BINARY, labels, scores, resamples=400)
    monkeypatch.setattr(bootstrap, "_MOST_ROWS", 5000)
    part = intervals(BINARY, labels, scores, resamples=400)
    for name, metric in whole.items():
        assert part[name].value == metric.value
        width = metric.high - metric.low
        assert [part[name].low, part[name].high] == pytest.approx([metric.low, metric.high], abs=0.25 * width), name


def test_one_class_alone_is_not_certainty():
    scores = np.linspace(0.1, 0.9, 20).astype(np.float32)
    found = intervals(BINARY, np.zeros(20, np.float32), scores)
    assert (found["roc_auc"].value, found["roc_auc"].low, found["roc_auc"].high) == (0.5, 0, 1)
    assert all(np.isfinite([metric.low, metric.high]).all() for metric in found.values())
    assert intervals(BINARY, np.zeros(20, np.float32), scores, only=["roc_auc"]) == {"roc_auc": found["roc_auc"]}
    nothing = paired(BINARY, "roc_auc", np.zeros(20, np.float32), scores, scores[::-1])
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)


def test_a_rare_class_that_some_resamples_lack():
    labels, scores = multiclass_rows(np.random.default_rng(0), 60)
    labels[labels == 3] = 2
    labels[0] = 3
    found = intervals(MULTICLASS, labels, scores)
    assert all(metric.low <= metric.value <= metric.high for metric in found.values())


def test_pairs_cancel_what_is_hard_for_both():
    random = np.random.default_rng(0)
    labels = (random.random(4000) < 0.3).astype(np.float32)
    shared = random.normal(size=4000) + labels
    better, worse = (BINARY.scores((shared + noise * random.normal(size=4000)).astype("f4")) for noise in (0.1, 0.5))
    difference = paired(BINARY, "roc_auc", labels, better, worse)
    alone = [intervals(BINARY, labels, scores, only=["roc_auc"])["roc_auc"] for scores in (better, worse)]
    assert difference.value == pytest.approx(alone[0].value - alone[1].value)
    assert difference.low > 0
    assert alone[0].low < alone[1].high  # which the intervals side by side could not have said


@pytest.mark.parametrize(("metric", "task"), [("rmse", REGRESSION), ("log_loss", MULTICLASS), ("f1_macro", MULTICLASS)])
def test_better_is_positive_whichever_way_the_metric_runs(metric, task):
    labels, scores = rows_of(task, np.random.default_rng(0), 500)
    worse = scores * 1.001 if task is REGRESSION else scores[::-1]
    assert paired(task, metric, labels, scores, worse).low > 0
    assert paired(task, metric, labels, worse, scores).high < 0
    same = paired(task, metric, labels, scores, scores)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_each_of_a_pair_has_its_own_threshold():
    labels, scores = binary_rows(np.random.default_rng(0), 500)
    difference = paired(BINARY, "accuracy", labels, scores, scores, thresholds=(0.5, 0.99))
    assert difference.value == pytest.approx(
        metrics(BINARY, labels, scores, 0.5)["accuracy"] - metrics(BINARY, labels, scores, 0.99)["accuracy"]
    )


def test_mcnemar_is_a_sign_test_on_the_rows_that_differ():
    candidate = np.array([True] * 9 + [False] * 2 + [True] * 30 + [False] * 5)
    other = np.array([False] * 9 + [True] * 2 + [True] * 30 + [False] * 5)
    assert mcnemar(candidate, other) == pytest.approx(2 * binom.cdf(2, 11, 0.5))
    assert mcnemar(other, candidate) == mcnemar(candidate, other)
    assert mcnemar(candidate, candidate) == 1


def test_a_mean_has_the_interval_of_the_central_limit():
    values = np.random.default_rng(0).random(5000)
    found = bootstrap.mean(values, resamples=1000)
    error = 1.96 * values.std() / np.sqrt(5000)
    assert [found.value - found.low, found.high - found.value] == pytest.approx([error, error], rel=0.12)


def test_a_bad_fit_has_an_r2_below_nothing():
    labels, scores = rows_of(REGRESSION, np.random.default_rng(0), 200)
    found = intervals(REGRESSION, labels, scores + 5)["r2"]
    assert found.low <= found.value <= found.high < 0


def test_the_spread_among_several_others_is_part_of_the_interval():
    labels, scores = rows_of(REGRESSION, np.random.default_rng(0), 2000)
    same, apart = ([scores + 1, scores + far] for far in (1, 3))
    one = bootstrap.drops(REGRESSION, "mae", labels, scores, same)
    two = bootstrap.drops(REGRESSION, "mae", labels, scores, apart)
    assert two.high - two.low > 1.5 > one.high - one.low
    assert two.value == pytest.approx(
        np.mean([metrics(REGRESSION, labels, other)["mae"] for other in apart])
        - metrics(REGRESSION, labels, scores)["mae"]
    )
