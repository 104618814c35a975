"""The whole evaluation of each task, on scores whose truth is known."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, confusion_matrix, precision_recall_fscore_support

from contract.features import Encoded
from contract.manifest import ImageFeature, TextFeature
from tests.training.evaluation.test_baselines import configured, of_numbers, prepared
from tests.training.evaluation.test_metrics import BINARY, binary_rows, multiclass_rows
from training.evaluate import decide, evaluate
from training.evaluation.bootstrap import intervals
from training.evaluation.classes import by_class, confusion, curves, decided
from training.evaluation.metrics import metrics
from training.exporting.results import Results
from training.task import TASKS


def of_logits(task, rows=4000, seed=0):
    """Prepared rows of two numbers, the second of no use, and what a network that is too sure of itself ends in."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(rows, 2)).astype(np.float32)
    if task == "regression":
        labels = (numbers[:, 0] + 0.5 * random.normal(size=rows)).astype(np.float32)
        return of_numbers(task, numbers, labels), lambda encoded: encoded.numbers[:, 0]
    if task == "binary":
        labels = (random.random(rows) < BINARY.scores(2 * numbers[:, 0])).astype(np.float32)
        return of_numbers(task, numbers, labels, ("no", "yes")), lambda encoded: 6 * encoded.numbers[:, 0]
    to = np.array([[2, 0, -2], [0, 0, 0]], np.float32)
    labels = (numbers @ to + random.gumbel(size=(rows, 3))).argmax(axis=1).astype(np.int32)
    return of_numbers(task, numbers, labels, ("a", "b", "c")), lambda encoded: 3 * encoded.numbers @ to


def evaluated(task, **serving):
    data, network = of_logits(task)
    checked = configured(task, **serving)
    decisions = decide(data, network(data.validation.encoded), checked)
    results = evaluate(
        data,
        network(data.test.encoded),
        decisions,
        checked,
        lambda encoded: decisions.scores(data.task, network(encoded)),
    )
    return data, network, decisions, results


@pytest.mark.parametrize("task", TASKS)
def test_results_are_whole_and_come_back_from_json(task):
    _, _, _, results = evaluated(task)
    text = results.model_dump_json()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert Results.model_validate_json(text) == results
    assert len(json.loads(text)["importance"]) == 2
    assert results.importance[0].feature == "n0"
    assert results.importance[0].drop.low > 0
    assert next(iter(results.metrics)) == results.headline == TASKS[task].headline


def test_a_binary_network_is_calibrated_and_its_threshold_chosen_before_it_is_measured():
    data, network, decisions, results = evaluated("binary", threshold="f1")
    assert decisions.temperature == pytest.approx(3, rel=0.15)
    scores = BINARY.scores(network(data.test.encoded) / np.float32(decisions.temperature))
    expected = metrics(BINARY, data.test.labels, scores, decisions.limit)
    assert {name: metric.value for name, metric in results.metrics.items()} == pytest.approx(expected)
    assert results.threshold == decisions.threshold
    assert 0.2 < decisions.limit < 0.5
    assert results.reliability.error_after < results.reliability.error_before
    assert results.reliability.error_after == results.metrics["calibration_error"].value
    assert list(results.roc) == ["yes"]
    assert sum(map(sum, results.confusion)) == len(data.test)
    (true_negative, false_positive), (false_negative, true_positive) = results.confusion
    assert results.metrics["precision"].value == true_positive / (true_positive + false_positive)
    assert results.by_class["no"].recall.value == true_negative / (true_negative + false_positive)
    assert results.by_class["yes"].rows == false_negative + true_positive


def test_many_classes_have_no_threshold():
    _, _, decisions, results = evaluated("multiclass")
    assert decisions.threshold is None
    assert results.threshold is None
    assert set(results.roc) == set(results.precision_recall) == {"a", "b", "c"}
    macro = np.mean([each.f1.value for each in results.by_class.values()])
    assert results.metrics["f1_macro"].value == pytest.approx(macro)


def test_a_regression_has_an_interval_that_holds_nine_in_ten():
    data, network, decisions, results = evaluated("regression")
    assert decisions.temperature == 1
    assert decisions.half_width == pytest.approx(0.5 * 1.645, rel=0.1)
    coverage = results.residuals.coverage
    errors = np.abs(data.test.labels - network(data.test.encoded))
    assert coverage.value == pytest.approx((errors <= decisions.half_width).mean())
    assert coverage.low < 0.9 < coverage.high
    assert len(results.residuals.points) == 1000
    assert np.std([residual for _, residual in results.residuals.points]) == pytest.approx(0.5, rel=0.1)
    assert results.by_class == {}


def test_what_is_switched_off_is_not_done():
    data, network = of_logits("binary")
    checked = configured("binary")
    off = checked.evaluation.model_copy(update={"slices": False, "importance": False, "calibrate": False})
    checked = checked.model_copy(update={"evaluation": off})
    decisions = decide(data, network(data.validation.encoded), checked)
    results = evaluate(data, network(data.test.encoded), decisions, checked, lambda _: pytest.fail("asked"))
    assert (decisions.temperature, results.slices, results.importance) == (1.0, (), ())


def test_a_promise_of_validation_that_test_rows_break_is_a_warning():
    data, network = of_logits("binary")
    checked = configured("binary", threshold={"precision": 0.9})
    decisions = decide(data, network(data.validation.encoded), checked)
    lucky = replace(data, test=replace(data.test, labels=1 - data.test.labels))
    (warning,) = evaluate(lucky, network(data.test.encoded), decisions, checked).warnings
    assert warning.check == "wanted precision"


def test_each_class_has_scikit_learns_numbers_and_an_interval():
    labels, scores = multiclass_rows(np.random.default_rng(0), 1000)
    found = by_class(tuple("abcd"), labels, scores)
    expected = precision_recall_fscore_support(labels, scores.argmax(axis=1))
    for i, name in enumerate("abcd"):
        got = found[name]
        assert [got.precision.value, got.recall.value, got.f1.value, got.rows] == pytest.approx(
            [e[i] for e in expected]
        )
        rows = labels == i  # recall is a mean over the rows of the class
        spread = 1.96 * np.std(scores[rows].argmax(axis=1) == i) / np.sqrt(rows.sum())
        assert got.recall.high - got.recall.value == pytest.approx(spread, rel=0.35)


def test_the_positive_class_has_the_same_interval_here_and_there():
    labels, scores = binary_rows(np.random.default_rng(0), 500)
    assert by_class(("no", "yes"), labels, scores, 0.3)["yes"].f1 == intervals(BINARY, labels, scores, 0.3)["f1"]


def test_a_class_without_rows_has_no_numbers():
    labels, scores = multiclass_rows(np.random.default_rng(0), 100)
    wider = np.concatenate([scores, np.zeros((100, 1), np.float32)], axis=1)
    assert list(by_class(tuple("abcde"), labels, wider)) == list("abcd")
    assert set(curves(tuple("abcde"), labels, wider, by_class(tuple("abcde"), labels, wider))[0]) == set("abcd")


def test_confusion_is_scikit_learns_and_not_drawn_for_hundreds():
    labels, scores = multiclass_rows(np.random.default_rng(0), 300)
    matrix = confusion(tuple("abcd"), labels, decided(scores))
    np.testing.assert_array_equal(matrix, confusion_matrix(labels, scores.argmax(axis=1)))
    assert confusion(tuple(map(str, range(500))), labels, decided(scores)) == ()


def test_curves_keep_their_area_in_few_points():
    labels, scores = binary_rows(np.random.default_rng(0), 30_000)
    roc, precise = (each["yes"] for each in curves(("no", "yes"), labels, scores, {}))
    values = metrics(BINARY, labels, scores)
    assert len(roc) <= 200
    assert len(precise) <= 200
    assert auc(*zip(*roc, strict=True)) == pytest.approx(values["roc_auc"], abs=1e-3)
    assert auc(*zip(*precise, strict=True)) == pytest.approx(average_precision_score(labels, scores), abs=5e-3)
    assert (roc[0], roc[-1]) == ((0, 0), (1, 1))


def test_of_very_many_classes_the_hardest_have_curves():
    labels, scores = multiclass_rows(np.random.default_rng(0), 900, 20)
    names = tuple(map(str, range(20)))
    found = by_class(names, labels, scores)
    roc, _ = curves(names, labels, scores, found)
    assert len(roc) == 12
    assert max(found[name].f1.value for name in roc) <= min(found[n].f1.value for n in names if n not in roc)


def test_multiclass_logits_that_are_not_finite_are_named():
    data, network = of_logits("multiclass")
    logits = network(data.test.encoded)
    logits[7] = np.nan
    decisions = decide(data, network(data.validation.encoded), configured("multiclass"))
    with pytest.raises(ValueError, match="not finite"):
        evaluate(data, logits, decisions, configured("multiclass"))


def test_pictures_and_texts_are_evaluated_too():
    random = np.random.default_rng(0)
    dark = random.random(2400) < 0.5
    image = (random.integers(0, 100, (2400, 6, 6, 1)) + np.where(dark, 0, 120)[:, None, None, None]).astype(np.uint8)
    texts = np.array([["word " * count] for count in random.integers(1, 30, 2400)], dtype=object)
    labels = random.integers(0, 3, 2400).astype(np.int32)
    logits = (3 * np.eye(3)[labels] * ~dark[:, None] + random.normal(size=(2400, 3))).astype(np.float32)
    features = [ImageFeature(name="photo", shape=(6, 6, 1)), TextFeature(name="title", required=True, example="word")]
    encoded = Encoded(np.empty((2400, 0), np.float32), np.empty((2400, 0), np.int32), image, texts)
    data, checked = prepared("multiclass", features, encoded, labels, ("a", "b", "c")), configured("multiclass")
    decisions = decide(data, logits[1200:1800], checked)
    results = evaluate(data, logits[1800:], decisions, checked, lambda _: logits[1800:])
    assert "photo" in results.slices[0].where
    assert results.slices[0].metric.high < results.metrics["f1_macro"].low
    assert results.importance == ()  # of one text alone
