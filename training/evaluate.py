"""Metrics on held-out rows, with intervals, and what simpler models reach on the same split."""

import time

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, average_precision_score, brier_score_loss, log_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from contract.evidence import Metric
from contract.features import Encoded
from contract.manifest import Baseline
from training.rows import Rows

HEADLINE = "roc_auc"
RESAMPLES = 200

Scores = NDArray[np.float32]


def metrics(labels: NDArray[np.float32], scores: Scores, threshold: float) -> dict[str, float]:
    """ROC AUC, average precision, log loss, Brier score and accuracy of probabilities, both float32 [n]."""
    return {
        HEADLINE: float(roc_auc_score(labels, scores)),
        "average_precision": float(average_precision_score(labels, scores)),
        "log_loss": float(log_loss(labels, scores.astype(np.float64))),
        "brier": float(brier_score_loss(labels, scores)),
        "accuracy": float(accuracy_score(labels, scores >= threshold)),
    }


def metrics_with_intervals(
    labels: NDArray[np.float32], scores: Scores, threshold: float, seed: int, resamples: int = RESAMPLES
) -> dict[str, Metric]:
    """`metrics` with 95% percentile bootstrap intervals over rows (Efron & Tibshirani 1993, chapter 13)."""
    values = metrics(labels, scores, threshold)
    random = np.random.default_rng(seed)
    samples = []
    for _ in range(resamples):
        rows = random.integers(0, len(labels), len(labels))
        if labels[rows].min() != labels[rows].max():  # one class alone has no ROC
            samples.append(metrics(labels[rows], scores[rows], threshold))
    return {name: _with_interval(value, [sample[name] for sample in samples]) for name, value in values.items()}


def _with_interval(value: float, samples: list[float]) -> Metric:
    low, high = np.percentile(samples or [value], [2.5, 97.5])
    return Metric(value=value, low=float(low), high=float(high))


def baselines(train: Rows, test: Rows, threshold: float, seed: int) -> tuple[Baseline, ...]:
    """Majority, logistic regression and gradient boosting, with scikit-learn's defaults, on the same rows."""
    share = np.full(len(test), train.labels.mean(), np.float32)
    majority = Baseline(name="majority", metrics=metrics(test.labels, share, threshold), fit_seconds=0.0)
    return (
        majority,
        _fitted("logistic regression", _logistic(train.encoded), train, test, threshold),
        _fitted("gradient boosting", _boosting(train.encoded, seed), train, test, threshold),
    )


def _fitted(name: str, model: object, train: Rows, test: Rows, threshold: float) -> Baseline:
    started = time.perf_counter()
    model.fit(_matrix(train.encoded), train.labels)  # type: ignore[attr-defined]  # scikit-learn is untyped
    seconds = time.perf_counter() - started
    scores = model.predict_proba(_matrix(test.encoded))[:, 1].astype(np.float32)  # type: ignore[attr-defined]
    return Baseline(name=name, metrics=metrics(test.labels, scores, threshold), fit_seconds=round(seconds, 2))


def _matrix(encoded: Encoded) -> NDArray[np.float32]:
    """Numbers, then category codes; float32 [n, F + C]."""
    return np.hstack([encoded.numbers, encoded.categories.astype(np.float32)])


def _columns(encoded: Encoded) -> tuple[list[int], list[int]]:
    numbers, categories = encoded.numbers.shape[1], encoded.categories.shape[1]
    return list(range(numbers)), list(range(numbers, numbers + categories))


def _logistic(encoded: Encoded) -> object:
    numbers, categories = _columns(encoded)
    prepare = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore"), categories),
        sparse_threshold=1.0,
    )
    return make_pipeline(prepare, LogisticRegression(max_iter=500))


def _boosting(encoded: Encoded, seed: int) -> object:
    categories = _columns(encoded)[1]
    # It takes categories with fewer than 256 codes; with more, their order by frequency has to do.
    few = [i for i in categories if encoded.categories[:, i - categories[0]].max() < 255]
    return HistGradientBoostingClassifier(categorical_features=few, random_state=seed)
