"""Temperatures against a grid and against known truth; conformal intervals against what they promise."""

import numpy as np
import pytest
from scipy.special import log_softmax

from contract.quality import calibration_error
from tests.training.evaluation.test_metrics import BINARY, MULTICLASS, REGRESSION
from training.evaluation.calibration import (
    best_temperature,
    bins,
    half_width,
    log_loss,
    reliability,
    temperature,
    within,
)
from training.evaluation.metrics import metrics


def overconfident(task, rows, by, seed=0):
    """Rows whose logits are `by` times what they should be."""
    random = np.random.default_rng(seed)
    if task is BINARY:
        logits = random.normal(size=rows).astype(np.float32)
        return by * logits, (random.random(rows) < task.scores(logits)).astype(np.float32)
    logits = random.normal(size=(rows, 5)).astype(np.float32)
    gumbel = random.gumbel(size=logits.shape)
    return by * logits, (logits + gumbel).argmax(axis=1).astype(np.int32)


@pytest.mark.parametrize("task", [BINARY, MULTICLASS], ids=["binary", "multiclass"])
@pytest.mark.parametrize("by", [0.4, 3.0])
def test_the_temperature_that_was_put_in_comes_out(task, by):
    logits, labels = overconfident(task, 20_000, np.float32(by))
    found = temperature(task, logits, labels)
    assert found == pytest.approx(by, rel=0.05)
    before, after = (calibration_error(labels, task.scores(each)) for each in (logits, logits / np.float32(found)))
    assert after < before / 4


@pytest.mark.parametrize("task", [BINARY, MULTICLASS], ids=["binary", "multiclass"])
def test_no_temperature_of_a_grid_has_less_log_loss(task):
    logits, labels = overconfident(task, 500, np.float32(2.0))
    found = best_temperature(logits, labels)
    losses = [log_loss(logits, labels, each) for each in np.geomspace(0.1, 10, 400)]
    assert log_loss(logits, labels, found) <= min(losses) + 1e-9


@pytest.mark.parametrize("task", [BINARY, MULTICLASS], ids=["binary", "multiclass"])
def test_the_log_loss_is_scikit_learns_and_scipys(task):
    logits, labels = overconfident(task, 300, np.float32(1.0))
    assert log_loss(logits, labels, 1.0) == pytest.approx(metrics(task, labels, task.scores(logits))["log_loss"])
    if task is MULTICLASS:
        expected = -log_softmax(logits / 3, axis=1)[np.arange(300), labels].mean()
        assert log_loss(logits, labels, 3.0) == pytest.approx(expected)


def test_what_is_calibrated_is_mostly_left_alone():
    kept = sum(temperature(BINARY, *overconfident(BINARY, 400, np.float32(1.0), seed)) == 1 for seed in range(20))
    assert kept >= 12


def test_regression_and_few_rows_have_no_temperature():
    assert temperature(REGRESSION, np.zeros(100, np.float32), np.zeros(100, np.float32)) == 1
    assert temperature(BINARY, *overconfident(BINARY, 20, np.float32(5.0))) == 1


def test_logits_that_separate_perfectly_do_not_run_away():
    labels = np.tile(np.array([0, 1], np.float32), 100)
    assert 0.04 < temperature(BINARY, labels * 8 - 4, labels) <= 1


def test_reliability_bins_hold_every_row():
    logits, labels = overconfident(MULTICLASS, 2000, np.float32(3.0))
    before, after = MULTICLASS.scores(logits), MULTICLASS.scores(logits / 3)
    found = reliability(labels, before, after, 3.0)
    assert sum(each.rows for each in found.before) == 2000
    weighed = sum(abs(each.predicted - each.observed) * each.rows for each in found.before) / 2000
    assert found.error_before == pytest.approx(weighed)
    assert found.error_after < found.error_before / 2


def test_an_empty_bin_is_left_out():
    only = bins(np.array([1, 0], np.float32), np.array([0.99, 0.98], np.float32))
    assert [(each.rows, each.observed) for each in only] == [(2, 0.5)]


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_an_interval_holds_the_truth_of_new_rows_as_often_as_was_asked(coverage):
    random = np.random.default_rng(0)
    held = []
    for _ in range(300):
        labels = random.exponential(size=120).astype(np.float32)
        values = np.ones(120, np.float32)
        width = half_width(labels[:60], values[:60], coverage)
        held.append(within(labels[60:], values[60:], width).mean())
    assert coverage - 0.01 < np.mean(held) < coverage + 0.03


def test_too_few_rows_give_the_widest_interval():
    assert half_width(np.array([1, 4], np.float32), np.zeros(2, np.float32), 0.9) == 4
