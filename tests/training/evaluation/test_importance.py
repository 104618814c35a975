"""Permutation importance against scikit-learn's, and where one knows what the model looks at."""

import numpy as np
import pytest
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression

from contract.features import Encoded, Encoder
from contract.manifest import CategoryFeature, NumberFeature, TextFeature
from training.evaluation.importance import MOST_ROWS, importance
from training.rows import Rows
from training.task import TASKS


def number(name):
    return NumberFeature(name=name, required=True, minimum=0, maximum=1, example=0)


@pytest.fixture
def linear():
    """Numbers of weights 2, 1 and 0, with rows and a model of them."""
    random = np.random.default_rng(0)
    numbers = random.normal(size=(3000, 3)).astype(np.float32)
    labels = (random.random(3000) < 1 / (1 + np.exp(-numbers @ [2, 1, 0]))).astype(np.float32)
    rows = Rows(Encoded(numbers, np.empty((3000, 0), np.int32)), labels)
    return Encoder([number("strong"), number("weak"), number("idle")]), rows, LogisticRegression().fit(numbers, labels)


def test_it_is_scikit_learns_with_an_interval(linear):
    encoder, rows, model = linear
    found = importance(TASKS["binary"], encoder, rows, lambda e: model.predict_proba(e.numbers)[:, 1].astype("f4"))
    oracle = permutation_importance(
        model, rows.encoded.numbers, rows.labels, scoring="roc_auc", n_repeats=10, random_state=0
    )
    assert [each.feature for each in found] == ["strong", "weak", "idle"]
    for each, mean, deviation in zip(found, oracle.importances_mean, oracle.importances_std, strict=True):
        assert each.drop.value == pytest.approx(mean, abs=4 * deviation + 1e-6)
        assert each.drop.low <= each.drop.value <= each.drop.high
    assert found[1].drop.low > 0 > found[2].drop.low


def test_worse_is_positive_where_less_is_better(linear):
    encoder, rows, _ = linear
    values = Rows(rows.encoded, rows.encoded.numbers @ np.array([2, 1, 0], np.float32))
    found = importance(TASKS["regression"], encoder, values, lambda e: e.numbers @ np.array([2, 1, 0], np.float32))
    assert {each.feature: round(each.drop.value) for each in found} == {"strong": 3, "weak": 1, "idle": 0}


def test_categories_and_texts_are_shuffled_too_and_rows_stay_as_they_are():
    random = np.random.default_rng(0)
    categories = random.integers(0, 4, (20_000, 1)).astype(np.int32)
    texts = random.choice(np.array(["good", "bad"], object), (20_000, 1))
    labels = (texts[:, 0] == "good").astype(np.float32)
    rows = Rows(Encoded(np.empty((20_000, 0), np.float32), categories, None, texts), labels)
    before = texts.copy()
    encoder = Encoder(
        [
            CategoryFeature(name="color", required=True, vocabulary=("a", "b"), example="a"),
            TextFeature(name="review", required=True, example="good"),
        ]
    )
    asked = []

    def predict(encoded):
        asked.append(encoded.rows)
        return np.where(encoded.texts[:, 0] == "good", 0.9, 0.1).astype(np.float32)

    found = importance(TASKS["binary"], encoder, rows, predict)
    assert [each.feature for each in found] == ["review", "color"]
    assert found[0].drop.value == pytest.approx(0.5, abs=0.02)
    assert (found[1].drop.low, found[1].drop.high) == (0, 0)
    assert set(asked) == {MOST_ROWS}
    np.testing.assert_array_equal(texts, before)


def test_one_feature_alone_has_nothing_to_be_compared_with(linear):
    _, rows, _ = linear
    alone = Rows(Encoded(rows.encoded.numbers[:, :1], rows.encoded.categories), rows.labels)
    assert importance(TASKS["binary"], Encoder([number("strong")]), alone, lambda e: e.numbers[:, 0]) == ()
