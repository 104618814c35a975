"""Metrics and their intervals against scipy, brute force, and how often intervals hold what they promise to hold.

That the values are scikit-learn's is held by tests/training/evaluation/test_metrics.py: training's metrics are these.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit, softmax
from scipy.stats import binomtest, norm

from contract.quality import values
from contract.quality_interval import MEASURED, mean, measured, wilson


def rows_of(kind, random, rows):
    """Labels and scores of a model that is a little too sure of itself."""
    if kind == "binary":
        labels = (random.random(rows) < 0.25).astype(np.float32)
        return labels, expit(random.normal(size=rows) + 1.2 * labels - 1.3).astype(np.float32)
    if kind == "multiclass":
        labels = random.choice(4, rows, p=[0.5, 0.25, 0.15, 0.1]).astype(np.int32)
        return labels, softmax(random.normal(size=(rows, 4)) + 1.5 * np.eye(4)[labels], axis=1).astype(np.float32)
    labels = random.normal(size=rows).astype(np.float32)
    return labels, (labels + random.standard_t(6, rows)).astype(np.float32)


KINDS = ("binary", "multiclass", "regression")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50)
@given(rows=st.integers(1, 60), seed=st.integers(0, 10_000))
def test_every_value_is_that_of_the_metric_and_within_its_interval(kind, rows, seed):
    labels, scores = rows_of(kind, np.random.default_rng(seed), rows)

    found, expected = measured(kind, labels, scores, 0.4), values(kind, labels, scores, 0.4)

    assert {name: each.value for name, each in found.items()} == pytest.approx({name: expected[name] for name in found})
    assert all(each.low <= each.value <= each.high and each.low >= 0 for each in found.values())


@pytest.mark.parametrize("kind", KINDS)
def test_intervals_hold_the_truth_about_as_often_as_they_say(kind):
    random = np.random.default_rng(1)
    truth = values(kind, *rows_of(kind, random, 400_000), 0.4)
    runs = [measured(kind, *rows_of(kind, random, 400), 0.4) for _ in range(400)]
    # Of 400 rows the bins of the calibration error hold noise as well: its truth is what 400 rows have on average.
    truth["calibration_error"] = np.mean([run["calibration_error"].value for run in runs]) if kind != KINDS[2] else 0

    assert runs[0].keys() == set(MEASURED[kind])
    for name in runs[0]:
        held = np.mean([run[name].low <= truth[name] <= run[name].high for run in runs])
        assert 0.915 <= held <= 0.985, name


@given(st.integers(0, 50), st.integers(1, 50))
def test_the_interval_of_a_share_is_scipys_wilson(hits, rows):
    hits = min(hits, rows)
    expected = binomtest(hits, rows).proportion_ci(0.95, method="wilson")

    found = wilson(hits, rows)

    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_the_interval_of_the_area_is_delongs_pair_by_pair():
    labels, scores = rows_of("binary", np.random.default_rng(2), 150)
    scores = np.round(scores, 1)  # ties
    positive, others = scores[labels == 1], scores[labels == 0]
    won = (positive[:, None] > others) + 0.5 * (positive[:, None] == others)
    area = won.mean()
    error = np.sqrt(won.mean(axis=1).var(ddof=1) / len(positive) + won.mean(axis=0).var(ddof=1) / len(others))
    half = norm.ppf(0.975) * error / (area * (1 - area))

    found = measured("binary", labels, scores)["roc_auc"]

    assert found.value == pytest.approx(area)
    assert (found.low, found.high) == pytest.approx((expit(logit(area) - half), expit(logit(area) + half)))


def test_a_perfect_order_of_few_rows_is_not_thought_certain():
    found = measured("binary", np.array([0, 0, 0, 1, 1]), np.array([0.1, 0.2, 0.3, 0.8, 0.9], np.float32))["roc_auc"]

    assert found.value == found.high == 1
    assert found.low < 0.5  # two positive rows say little


def test_f1_is_between_what_the_share_it_is_made_of_allows():
    labels, scores = rows_of("binary", np.random.default_rng(3), 500)
    said = scores >= np.float32(0.5)
    hits, union = int((said & (labels == 1)).sum()), int((said | (labels == 1)).sum())
    share = binomtest(hits, union).proportion_ci(0.95, method="wilson")

    found = measured("binary", labels, scores)["f1"]

    assert (found.low, found.high) == pytest.approx(tuple(2 * s / (1 + s) for s in (share.low, share.high)))


def test_what_rows_do_not_define_is_left_out():
    zeros, low = np.zeros(5, np.int64), np.full(5, 0.1, np.float32)

    found = measured("binary", zeros, low)

    assert found.keys() == {"accuracy", "log_loss", "brier", "calibration_error"}
    assert measured("binary", zeros[:0], low[:0]) == {}
    assert "roc_auc" not in measured("multiclass", zeros, np.tile(np.array([0.8, 0.2], np.float32), (5, 1)))


def test_one_row_says_next_to_nothing():
    found = measured("regression", np.array([3.0]), np.array([4.0], np.float32))

    assert (found["mae"].low, found["mae"].value, found["mae"].high) == (0, 1, 2)
    assert mean(np.array([0.0, 0.0])).high == 0
