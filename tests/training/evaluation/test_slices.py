"""Slices against each part's own metric, and against a fault that was put in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.features import Encoded, Encoder
from contract.manifest import CategoryFeature, ImageFeature, NumberFeature, TextFeature
from tests.training.evaluation.test_metrics import BINARY, MULTICLASS, REGRESSION, rows_of
from training.evaluation.bootstrap import intervals
from training.evaluation.divisions import NOWHERE, divisions, rows_where
from training.evaluation.grouped import grouped
from training.evaluation.metrics import metrics
from training.evaluation.slices import MOST, worst
from training.rows import Rows
from training.task import TASKS

COLORS = CategoryFeature(name="color", required=False, vocabulary=("red", "blue", "missing"), example="red")


def number(name):
    return NumberFeature(name=name, required=False, minimum=0, maximum=1, example=0.5)


def table(rows=4000, seed=0):
    """Colours and two numbers, one of them of few values; all with missing ones."""
    random = np.random.default_rng(seed)
    encoder = Encoder([COLORS, number("size"), number("day")])
    numbers = np.stack([random.normal(size=rows), random.integers(1, 8, rows)], axis=1).astype(np.float32)
    numbers[random.random((rows, 2)) < 0.1] = np.nan
    categories = random.integers(0, 5, (rows, 1)).astype(np.int32)
    return encoder, Encoded(numbers, categories), random


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@settings(max_examples=15)
@given(rows=st.integers(30, 150), ties=st.booleans(), seed=st.integers(0, 999))
def test_the_metric_of_each_part_is_what_its_rows_alone_give(task, rows, ties, seed):
    random = np.random.default_rng(seed)
    labels, scores = rows_of(task, random, rows, ties)
    codes = random.integers(NOWHERE, 4, rows).astype(np.int32)
    values, known_by = grouped(task, labels, scores)(codes, 5)
    for part in range(5):
        mine = codes == part
        if known_by[part] > 0:
            expected = metrics(task, labels[mine], scores[mine])[task.headline]
            assert values[part] == pytest.approx(expected, rel=1e-6)
        else:
            assert not mine.any() or len(np.unique(labels[mine])) == 1


def test_even_classes_are_known_by_all_their_rows():
    labels = np.tile(np.array([0, 1], np.float32), 50)
    _, known_by = grouped(BINARY, labels, labels)(np.zeros(100, np.int32), 1)
    assert known_by[0] == 100


def test_names_find_the_rows_again():
    encoder, encoded, _ = table()
    found = divisions(encoder, encoded, fewest=10)
    assert [division.feature for division in found] == ["size", "day", "color"]
    for division in found:
        for code, name in enumerate(division.names):
            np.testing.assert_array_equal(
                division.codes == code, rows_where({division.feature: name}, encoder, encoded)
            )
    assert found[0].names[-1] == "missing"
    assert len(found[0].names) == 5
    assert found[1].names == ("1", "2", "3", "4", "5", "6", "7", "missing")
    assert found[2].names == ("unseen", "(missing)", "red", "blue", "missing")


def test_every_row_is_in_a_part_that_is_large_enough():
    encoder, encoded, _ = table(rows=200)
    found = {division.feature: division for division in divisions(encoder, encoded, fewest=30)}
    assert "day" not in found or (np.bincount(found["day"].codes[found["day"].codes >= 0]) >= 30).all()
    assert (np.bincount(found["size"].codes[found["size"].codes >= 0]) >= 30).all()


def test_a_feature_that_is_always_missing_or_the_same_divides_nothing():
    encoder = Encoder([number("empty"), number("same")])
    numbers = np.stack([np.full(50, np.nan), np.full(50, 3)], axis=1).astype(np.float32)
    assert divisions(encoder, Encoded(numbers, np.empty((50, 0), np.int32)), fewest=10) == []


def test_a_fault_that_was_put_in_is_found_and_only_that():
    encoder, encoded, random = table(rows=12_000)
    labels = (random.random(12_000) < 0.4).astype(np.float32)
    logits = random.normal(size=12_000) + 2 * labels
    broken = (encoded.categories[:, 0] == 2) & (encoded.numbers[:, 1] == 3)
    logits[broken] = random.normal(size=broken.sum())
    test, scores = Rows(encoded, labels), BINARY.scores(logits.astype(np.float32))
    overall = intervals(BINARY, labels, scores, only=["roc_auc"])["roc_auc"]
    found = worst(BINARY, encoder, test, scores, overall, fewest=100)
    assert found[0].where == {"day": "3", "color": "red"}
    assert found[0].rows == broken.sum()
    assert found[0].metric.value == pytest.approx(metrics(BINARY, labels[broken], scores[broken])["roc_auc"])
    assert found[0].metric.high < overall.low
    assert len(found) <= MOST
    # The whole day and the whole colour suffer too; no other pair is named.
    assert [each.where for each in found if len(each.where) == 2] == [found[0].where]


def test_of_very_many_rows_a_part_is_searched_and_all_are_measured(monkeypatch):
    monkeypatch.setattr("training.evaluation.slices._MOST_ROWS", 4000)
    encoder, encoded, random = table(rows=12_000)
    labels = (random.random(12_000) < 0.4).astype(np.float32)
    logits = random.normal(size=12_000) + 2 * labels
    broken = encoded.categories[:, 0] == 2
    logits[broken] = random.normal(size=broken.sum())
    scores = BINARY.scores(logits.astype(np.float32))
    overall = intervals(BINARY, labels, scores, only=["roc_auc"])["roc_auc"]
    found = worst(BINARY, encoder, Rows(encoded, labels), scores, overall, fewest=100)
    assert (found[0].where, found[0].rows) == ({"color": "red"}, broken.sum())
    assert found[0].metric.value == pytest.approx(metrics(BINARY, labels[broken], scores[broken])["roc_auc"])


@pytest.mark.parametrize("task", [MULTICLASS, REGRESSION], ids=["multiclass", "regression"])
def test_other_tasks_have_slices_too(task):
    encoder, encoded, random = table(rows=8000)
    labels, scores = rows_of(task, random, 8000)
    broken = encoded.categories[:, 0] == 3
    scores[broken] = scores[broken][::-1] if task is MULTICLASS else scores[broken] + 3
    overall = intervals(task, labels, scores, only=[task.headline])[task.headline]
    found = worst(task, encoder, Rows(encoded, labels), scores, overall, fewest=100)
    assert found[0].where["color"] == "blue"


@pytest.mark.parametrize("seed", range(5))
def test_where_nothing_is_wrong_no_pair_is_accused(seed):
    encoder, encoded, random = table(rows=6000, seed=seed)
    labels = (random.random(6000) < 0.4).astype(np.float32)
    scores = BINARY.scores((random.normal(size=6000) + 2 * labels).astype(np.float32))
    overall = intervals(BINARY, labels, scores, only=["roc_auc"])["roc_auc"]
    found = worst(BINARY, encoder, Rows(encoded, labels), scores, overall, fewest=100)
    assert all(len(each.where) == 1 for each in found)


def test_texts_are_divided_by_length_and_pictures_by_brightness():
    random = np.random.default_rng(0)
    encoder = Encoder(
        [
            ImageFeature(name="photo", shape=(4, 4, 1)),
            TextFeature(name="title", required=True, example="a"),
        ]
    )
    texts = np.array([["x" * length] for length in random.integers(0, 300, 500)], dtype=object)
    image = random.integers(0, 256, (500, 4, 4, 1)).astype(np.uint8)
    encoded = Encoded(np.empty((500, 0), np.float32), np.empty((500, 0), np.int32), image, texts)
    found = {division.feature: division for division in divisions(encoder, encoded, fewest=20)}
    assert set(found) == {"photo", "title"}
    assert [len(each.names) for each in found.values()] == [4, 4]
    shortest = rows_where({"title": found["title"].names[0]}, encoder, encoded)
    assert 100 < shortest.sum() < 150
    assert max(len(text) for text in texts[shortest, 0]) < min(len(text) for text in texts[~shortest, 0])


def test_one_class_alone_has_no_slices_and_no_fault():
    encoder, encoded, _ = table(rows=500)
    labels, scores = np.zeros(500, np.float32), np.linspace(0, 1, 500).astype(np.float32)
    overall = intervals(BINARY, labels, scores, only=["roc_auc"])["roc_auc"]
    assert worst(BINARY, encoder, Rows(encoded, labels), scores, overall, fewest=50) == ()
