"""Baselines fitted for real, on every kind of feature and task, and what is said of them."""

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from contract.evidence import Metric
from contract.features import Encoded, Encoder
from contract.manifest import Baseline, CategoryFeature, ImageFeature, NumberFeature, TextFeature
from training import config
from training.evaluation.baselines import Fitted, fit, gains, verdict_line
from training.evaluation.metrics import metrics
from training.rows import InMemory, Prepared, Rows
from training.task import TASKS


def prepared(task, features, encoded, labels, classes=()):
    """Half of the rows train, a quarter validates, the rest tests."""
    rows = Rows(encoded, labels)
    ends = len(rows) // 2, len(rows) * 3 // 4
    train, validation, test = rows.take(slice(ends[0])), rows.take(slice(*ends)), rows.take(slice(ends[1], None))
    return Prepared(
        task=TASKS[task],
        encoder=Encoder(features),
        classes=classes,
        train=InMemory(train),
        sample=train,
        validation=validation,
        test=test,
        raw_test=lambda _: [],
        fingerprint="",
    )


def configured(task, **serving):
    raw = {
        "name": "x",
        "task": task,
        "data": {"path": "x", "target": "y"} | ({"positive": "1"} if task == "binary" else {}),
        "split": {"by": "random"},
        "features": {"a": "number"},
        "serving": serving,
    }
    return config.parse(raw)


def number(name):
    return NumberFeature(name=name, required=False, minimum=0, maximum=1, example=0)


def of_numbers(task, numbers, labels, classes=()):
    numbers = numbers.astype(np.float32)
    features = [number(f"n{i}") for i in range(numbers.shape[1])]
    return prepared(task, features, Encoded(numbers, np.empty((len(numbers), 0), np.int32)), labels, classes)


@pytest.fixture(scope="module")
def cancer():
    numbers, labels = load_breast_cancer(return_X_y=True)
    return of_numbers("binary", numbers, labels.astype(np.float32), ("0", "1"))


@pytest.fixture(scope="module")
def of_cancer(cancer):
    return fit(cancer, configured("binary"))


def test_they_are_scikit_learns_own(cancer, of_cancer):
    train, test = cancer.sample, cancer.test
    logistic = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    models = [logistic, HistGradientBoostingClassifier(random_state=0)]
    for model, found in zip(models, of_cancer[1:], strict=True):
        with threadpool_limits(1):
            model.fit(train.encoded.numbers, train.labels)
        expected = model.predict_proba(test.encoded.numbers)[:, 1]
        np.testing.assert_allclose(found.scores, expected, atol=1e-4)
        assert found.baseline.metrics == pytest.approx(metrics(cancer.task, test.labels, found.scores))


def test_each_has_its_metrics_its_interval_and_its_price(of_cancer):
    names = [each.baseline.name for each in of_cancer]
    assert names == ["majority", "logistic regression", "gradient boosting"]
    for each in of_cancer:
        headline = each.baseline.headline
        assert headline.low <= headline.value <= headline.high
        assert headline.value == pytest.approx(each.baseline.metrics["roc_auc"])
        assert each.baseline.predict_ms > 0
    majority, logistic, _ = (each.baseline for each in of_cancer)
    assert majority.metrics["roc_auc"] == 0.5
    assert logistic.metrics["roc_auc"] > 0.98


def test_each_has_the_threshold_that_the_rule_chooses_for_it(cancer):
    found = fit(cancer, configured("binary", threshold={"recall": 0.99}))
    assert [each.baseline.metrics["recall"] > 0.9 for each in found] == [True, True, True]
    assert found[0].baseline.metrics["recall"] == 1


def test_regression():
    numbers, labels = load_diabetes(return_X_y=True)
    data = of_numbers("regression", numbers, labels.astype(np.float32))
    mean, ridge, boosting = (each.baseline for each in fit(data, configured("regression")))
    assert (mean.name, ridge.name, boosting.name) == ("mean", "ridge regression", "gradient boosting")
    assert mean.metrics["r2"] == pytest.approx(0, abs=0.02)
    assert ridge.metrics["rmse"] < mean.metrics["rmse"] - 10


def test_pictures_of_many_classes_one_of_which_training_lacks():
    pixels, labels = load_digits(return_X_y=True)
    labels = labels.astype(np.int32)
    few = labels < 4  # quick
    pixels, labels = pixels[few], labels[few]
    labels[100] = 4  # the only row of its class, in training
    labels[-1] = 5  # and one that training never sees
    image = np.kron(pixels.reshape(-1, 8, 8, 1), np.ones((1, 5, 3, 1))).astype(np.uint8)
    encoded = Encoded(np.empty((len(labels), 0), np.float32), np.empty((len(labels), 0), np.int32), image)
    feature = ImageFeature(name="photo", shape=(40, 24, 1), maximum=16)
    classes = tuple(map(str, range(6)))
    data = prepared("multiclass", [feature], encoded, labels, classes)
    fitted = fit(data, configured("multiclass"))
    assert [each.scores.shape for each in fitted] == [(len(data.test), 6)] * 3
    assert fitted[1].baseline.metrics["accuracy"] > 0.85


def test_texts_beside_categories():
    random = np.random.default_rng(0)
    words = np.array(["sun", "rain", "wind"])
    weather, color = random.integers(0, 3, 600), random.integers(2, 4, 600)
    texts = np.array([[f"much {words[i]} today"] for i in weather], dtype=object)
    labels = ((weather == 1) | (color == 3)).astype(np.float32)
    encoded = Encoded(np.empty((600, 0), np.float32), color[:, None].astype(np.int32), None, texts)
    features = [
        CategoryFeature(name="color", required=True, vocabulary=("a", "b"), example="a"),
        TextFeature(name="report", required=True, example="much sun today"),
    ]
    fitted = fit(prepared("binary", features, encoded, labels, ("0", "1")), configured("binary"))
    assert [each.baseline.name for each in fitted][1:] == ["logistic regression", "gradient boosting without the texts"]
    assert fitted[1].baseline.metrics["roc_auc"] > 0.98 > 0.92 > fitted[2].baseline.metrics["roc_auc"]


def test_texts_alone_have_no_boosting_and_may_be_without_words():
    random = np.random.default_rng(0)
    texts = random.choice(np.array(["?", "!"], object), (200, 1))
    labels = (texts[:, 0] == "!").astype(np.float32)
    encoded = Encoded(np.empty((200, 0), np.float32), np.empty((200, 0), np.int32), None, texts)
    features = [TextFeature(name="mark", required=True, example="?")]
    fitted = fit(prepared("binary", features, encoded, labels, ("0", "1")), configured("binary"))
    assert [each.baseline.name for each in fitted] == ["majority", "logistic regression"]
    assert fitted[1].baseline.metrics["accuracy"] == 1


def test_missing_numbers_and_columns_of_nothing_else():
    random = np.random.default_rng(0)
    numbers = random.normal(size=(400, 2))
    labels = (numbers[:, 0] > 0).astype(np.float32)
    numbers[::3, 0] = np.nan
    numbers[:, 1] = np.nan
    fitted = fit(of_numbers("binary", numbers, labels, ("0", "1")), configured("binary"))
    assert fitted[1].baseline.metrics["roc_auc"] > 0.7


def test_too_many_rows_are_cut_and_the_name_says_so(monkeypatch):
    monkeypatch.setattr("training.evaluation.simple._MOST_BOOSTING", 600)
    monkeypatch.setattr("training.evaluation.simple._FEWEST_ROWS", 100)
    numbers = np.random.default_rng(0).normal(size=(800, 2))
    fitted = fit(of_numbers("binary", numbers, (numbers[:, 0] > 0).astype(np.float32)), configured("binary"))
    assert [each.baseline.name for each in fitted][1:] == ["logistic regression", "gradient boosting on 300 rows"]


def line(*baselines):
    """The verdict on baselines of (name, their ROC AUC, the network's gain)."""
    fitted = [
        Fitted(Baseline(name=name, metrics={"roc_auc": reached}, fit_seconds=2.5), np.zeros(1, np.float32))
        for name, reached, _ in baselines
    ]
    gained = [Metric(value=(low + high) / 2, low=low, high=high) for *_, (low, high) in baselines]
    return verdict_line("roc_auc", Metric(value=0.8, low=0.79, high=0.81), fitted, gained)


def test_a_network_that_beats_them_all_needs_no_line():
    assert line(("majority", 0.5, (0.2, 0.4)), ("boosting", 0.79, (0.005, 0.015))) is None


def test_the_simplest_of_those_that_are_as_good_is_named():
    said = line(("majority", 0.5, (0.2, 0.4)), ("linear", 0.799, (-0.001, 0.003)), ("boosting", 0.8, (-0.002, 0.002)))
    assert said.startswith("A simpler model is as good: linear, fitted in 2.5 s, has a roc_auc of 0.7990")
    assert "a gain of -0.0010 to 0.0030" in said


def test_one_that_is_better_for_sure_comes_first():
    said = line(("linear", 0.799, (-0.001, 0.003)), ("boosting", 0.85, (-0.06, -0.04)))
    assert said.startswith("A simpler model is better: boosting")
    assert "better by 0.0400 to 0.0600" in said


def test_the_gains_are_paired(cancer, of_cancer):
    own = of_cancer[1].scores
    found = gains(cancer.task, cancer.test, own, of_cancer, resamples=100, seed=0)
    assert (found[1].low, found[1].high) == (0, 0)
    assert found[0].low > 0.3
