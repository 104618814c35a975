"""Simpler models on the same encoded rows, with scikit-learn's defaults."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from contract.features import Encoded
from training.rows import Rows
from training.task import Scores, Task

Matrix = Callable[[Encoded], Any]

_ITERATIONS = 500
_SIDE = 16  # pictures are averaged down to it
_MOST_CODES = 255
_WORDS = 50  # of a text, as many as it weighs columns
# Rows x columns x logits that a model is fitted to: some ten seconds.
_MOST_LINEAR, _MOST_BOOSTING = 30_000_000, 25_000_000
_FEWEST_ROWS = 2_000
_MOST_FOR_ONE_THREAD = 500_000


@dataclass(frozen=True)
class Simple:
    """A model before fitting. `fit_to` is how many rows it is fitted to at most; `matrix` makes its input of rows, from
    training rows."""

    name: str
    estimator: Any
    matrix: Callable[[Encoded], Matrix]
    fit_to: int

    def fit(self, task: Task, train: Rows, classes: int) -> Callable[[Encoded], Scores]:
        """The fitted model: from rows to the scores of the task."""
        if task.name != "regression":
            # Boosting holds rows of each class out by itself, which one row alone does not allow.
            train = train.take(np.flatnonzero(np.bincount(train.labels.astype(int))[train.labels.astype(int)] > 1))
        matrix = self.matrix(train.encoded)
        with warnings.catch_warnings(), threads(train):
            # A linear model that is nearly there after 500 iterations is a fair yardstick.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self.estimator.fit(matrix(train.encoded), train.labels)
        return lambda encoded: _scores(task, self.estimator, matrix(encoded), classes)


def threads(rows: Rows) -> threadpool_limits:
    """One thread for few rows: more of them would wait for each other longer than they work."""
    small = len(rows) * _width(rows.encoded) < _MOST_FOR_ONE_THREAD
    return threadpool_limits(1 if small else None)


def simple_models(task: Task, train: Rows, classes: int, seed: int) -> Iterator[Simple]:
    """From the simplest on; gradient boosting only where there is more than texts."""
    columns, logits = _width(train.encoded), task.logits(classes)
    texts = _WORDS * (0 if train.encoded.texts is None else train.encoded.texts.shape[1])
    rows = len(train)
    if task.name == "regression":
        yield Simple("mean", DummyRegressor(), _nothing, rows)
        linear, boosting = Ridge(), HistGradientBoostingRegressor
    else:
        yield Simple("majority", DummyClassifier(), _nothing, rows)
        linear, boosting = LogisticRegression(max_iter=_ITERATIONS), HistGradientBoostingClassifier
    name = "ridge regression" if task.name == "regression" else "logistic regression"
    yield Simple(name, linear, _linear, max(_FEWEST_ROWS, _MOST_LINEAR // ((columns + texts) * logits)))
    if columns:
        categories = _few_codes(train.encoded)
        model = boosting(categorical_features=categories or None, random_state=seed)
        name = "gradient boosting" + (" without the texts" if texts else "")
        yield Simple(name, model, _filled, max(_FEWEST_ROWS, _MOST_BOOSTING // (columns * logits)))


def _scores(task: Task, estimator: Any, matrix: Any, classes: int) -> Scores:  # noqa: ANN401  # scikit-learn is untyped
    if task.name == "regression":
        values: Scores = estimator.predict(matrix).astype(np.float32)
        return values
    given = np.zeros((matrix.shape[0], max(2, classes)), np.float32)
    given[:, estimator.classes_.astype(int)] = estimator.predict_proba(matrix)  # training rows may lack a class
    return given[:, 1] if task.name == "binary" else given


def _nothing(train: Encoded) -> Matrix:
    del train
    return lambda encoded: np.zeros((encoded.rows, 1), np.float32)


def _filled(train: Encoded) -> Matrix:
    """Columns without a single known number are 0: binning fails on them."""
    empty = np.isnan(_dense(train)).all(axis=0)
    return lambda encoded: np.where(empty, np.float32(0), _dense(encoded))


def _linear(train: Encoded) -> Matrix:
    """Numbers imputed, with an indicator, and standardised; one-hot categories; pixels; TF-IDF of texts."""
    numbers, categories = train.numbers.shape[1], train.categories.shape[1]
    columns = np.split(np.arange(_width(train)), [numbers, numbers + categories])
    impute = SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)
    table = make_column_transformer(
        (make_pipeline(impute, StandardScaler()), columns[0]),
        (OneHotEncoder(handle_unknown="ignore"), columns[1]),
        (StandardScaler(), columns[2]),
        sparse_threshold=1.0,
    )
    if _width(train):
        table.fit(_dense(train))
    texts = [] if train.texts is None else [_tf_idf(column) for column in train.texts.T]

    def matrix(encoded: Encoded) -> Any:  # noqa: ANN401  # dense or sparse
        parts = [table.transform(_dense(encoded))] if _width(encoded) else []
        if encoded.texts is not None:
            parts += [each.transform(column) for each, column in zip(texts, encoded.texts.T, strict=True)]
        return parts[0] if len(parts) == 1 else sparse.hstack(parts, format="csr")

    return matrix


def _tf_idf(texts: NDArray[np.object_]) -> Any:  # noqa: ANN401  # scikit-learn is untyped
    try:
        return TfidfVectorizer().fit(texts)
    except ValueError:  # no word of two letters in any of them: then letters
        return TfidfVectorizer(analyzer="char").fit(np.append(texts, "?"))


def _dense(encoded: Encoded) -> NDArray[np.float32]:
    """Numbers, category codes and pixels; float32 [n, columns]."""
    parts = [encoded.numbers, encoded.categories.astype(np.float32)]
    if encoded.image is not None:
        parts.append(_pixels(encoded.image))
    return np.hstack(parts)


def _pixels(image: NDArray[Any]) -> NDArray[np.float32]:
    """Flattened, of pictures of 16 x 16 at most: each pixel the mean of a block."""
    rows, height, width, channels = image.shape
    tall, wide = -(-height // _SIDE), -(-width // _SIDE)
    down, across = height // tall, width // wide
    cut = image[:, : down * tall, : across * wide].reshape(rows, down, tall, across, wide, channels)
    pixels: NDArray[np.float32] = cut.mean(axis=(2, 4), dtype=np.float32).reshape(rows, -1)
    return pixels


def _width(encoded: Encoded) -> int:
    return int(_dense(encoded.take(slice(0, 1))).shape[1])


def _few_codes(encoded: Encoded) -> list[int]:
    """The columns of categories that gradient boosting can take as such; of more than 255 codes, which are in order of
    their frequency, the order has to do."""
    numbers, highest = encoded.numbers.shape[1], encoded.categories.max(axis=0, initial=0)
    return [numbers + i for i, code in enumerate(highest) if code < _MOST_CODES]
