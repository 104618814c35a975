"""Thresholds against brute force: every threshold there is, tried one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.evidence import Metric
from training.evaluation.threshold import choose, shortfall
from training.sections import ThresholdRule

RULES = {
    "f1": "f1",
    "cost": ThresholdRule(cost=(1, 3)),
    "dear": ThresholdRule(cost=(7, 0.5)),
    "precision": ThresholdRule(precision=0.6),
    "recall": ThresholdRule(recall=0.7),
}


def counts(labels, scores, threshold):
    said = scores >= np.float32(threshold)
    return (said & (labels == 1)).sum(), (said & (labels == 0)).sum(), (~said & (labels == 1)).sum()


def precision_recall_f1(labels, scores, threshold):
    hits, false_alarms, misses = counts(labels, scores, threshold)
    precision = hits / (hits + false_alarms) if hits + false_alarms else 0.0
    return precision, hits / (hits + misses), 2 * hits / (2 * hits + false_alarms + misses)


def worth(rule, labels, scores, threshold):
    """What the rule wants as much of as there is, with what is against the rule last."""
    precision, recall, f1 = precision_recall_f1(labels, scores, threshold)
    if rule == "f1":
        return (f1,)
    if rule.cost:
        _, false_alarms, misses = counts(labels, scores, threshold)
        return (-rule.cost[0] * false_alarms - rule.cost[1] * misses,)
    if rule.precision:
        return (1, recall, precision) if precision >= rule.precision else (0, precision, recall)
    return (1, precision, recall) if recall >= rule.recall else (0,)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(rows=st.integers(2, 40), digits=st.sampled_from([0, 1, 3, 7]), seed=st.integers(0, 10_000))
def test_no_threshold_is_better_than_the_one_chosen(rule, rows, digits, seed):
    random = np.random.default_rng(seed)
    scores = np.round(random.random(rows), digits).astype(np.float32)
    labels = (random.random(rows) < scores).astype(np.float32)
    labels[0] = 1
    choice = choose(rule, labels, scores)
    tried = [*scores, 0.0, 1.0, *((scores.max() + 1) / 2,)]
    assert worth(rule, labels, scores, choice.threshold) == pytest.approx(
        max(worth(rule, labels, scores, threshold) for threshold in tried)
    )
    assert (choice.precision, choice.recall, choice.f1) == pytest.approx(
        precision_recall_f1(labels, scores, choice.threshold)
    )
    assert 0 <= choice.threshold <= 1


def test_a_threshold_lies_midway_between_two_probabilities():
    labels = np.array([0, 0, 1, 1], np.float32)
    choice = choose("f1", labels, np.array([0.1, 0.2, 0.6, 0.8], np.float32))
    assert (choice.threshold, choice.f1) == (pytest.approx(0.4), 1.0)


def test_neighbouring_floats_are_told_apart():
    low = np.float32(0.6)
    scores = np.array([low, np.nextafter(low, np.float32(1))], np.float32)
    assert choose("f1", np.array([0, 1], np.float32), scores).f1 == 1


def test_a_number_is_taken_as_it_is():
    labels, scores = np.array([0, 1, 1], np.float32), np.array([0.7, 0.7, 0.2], np.float32)
    choice = choose(0.7, labels, scores)
    assert (choice.threshold, choice.precision, choice.recall, choice.f1) == (0.7, 0.5, 0.5, 0.5)
    assert choice.rule == "given"
    assert choice.curve


def test_without_a_positive_row_the_default_is_said_to_be_one():
    choice = choose("f1", np.zeros(3, np.float32), np.array([0.1, 0.2, 0.3], np.float32))
    assert choice.threshold == 0.5
    assert "no validation row is positive" in choice.rule


def test_a_precision_out_of_reach_gives_the_highest_and_says_so():
    labels, scores = np.array([0, 1, 0, 0], np.float32), np.array([0.9, 0.8, 0.7, 0.1], np.float32)
    rule = ThresholdRule(precision=0.9)
    choice = choose(rule, labels, scores)
    assert choice.precision == 0.5
    assert "does not reach" in choice.rule
    (warning,) = shortfall(rule, choice, {})
    assert "no threshold has a precision of 0.9" in warning.seen


def test_what_validation_promised_and_test_rows_do_not_keep_is_said():
    rule = ThresholdRule(recall=0.8)
    choice = choose(rule, np.array([0, 1], np.float32), np.array([0.1, 0.9], np.float32))
    sure, unsure = Metric(value=0.6, low=0.5, high=0.7), Metric(value=0.75, low=0.7, high=0.81)
    assert "0.6000 (0.5000 to 0.7000) on test" in shortfall(rule, choice, {"recall": sure})[0].seen
    assert shortfall(rule, choice, {"recall": unsure}) == []
    assert shortfall("f1", choice, {}) == []


def test_the_curve_is_short_and_holds_the_best():
    random = np.random.default_rng(0)
    scores = random.random(50_000).astype(np.float32)
    choice = choose("f1", (random.random(50_000) < scores).astype(np.float32), scores)
    assert 50 < len(choice.curve) <= 200
    assert max(f1 for _, f1 in choice.curve) == pytest.approx(choice.f1, abs=1e-3)
    assert list(choice.curve) == sorted(choice.curve)
