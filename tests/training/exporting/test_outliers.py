"""How strange rows are found: against the density that they were drawn from, and for what goes wrong in production."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal, spearmanr
from sklearn.metrics import roc_auc_score

from contract import histogram
from contract.encoded import Encoded
from contract.features import Encoder
from contract.histogram import InputCounter
from contract.kinds import ImageFeature, TensorFeature, TextFeature
from contract.manifest import DriftBaseline
from contract.outlier import OutlierBaseline, OutlierScorer
from training.exporting import outliers
from training.exporting.outliers import Columns

COVARIANCE = np.array([[1.0, 0.8, 0.0], [0.8, 1.0, 0.3], [0.0, 0.3, 1.0]])
CITIES = 5
NAMES = ("distance", "price", "weight")


def drawn(count: int, seed: int, apart: float = 3.0) -> Columns:
    """Three normal numbers of different units; a category that says what the first one is about."""
    random = np.random.default_rng(seed)
    numbers = random.multivariate_normal(np.zeros(3), COVARIANCE, count)
    cities = random.choice(CITIES, count, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    numbers[:, 0] = numbers[:, 0] * 0.3 + apart * cities
    scaled = numbers * [100, 1, 1e-3] + [5000, -7, 0]
    return Columns(NAMES, scaled.astype(np.float32), {"city": 2 + CITIES}, (2 + cities[:, None]).astype(np.int32))


@pytest.fixture(scope="module")
def baseline() -> OutlierBaseline:
    made = outliers.fit(drawn(5000, 1), seed=0)
    assert made is not None
    return made


def scorer(made: OutlierBaseline | None, columns: Columns) -> OutlierScorer:
    assert made is not None
    return OutlierScorer(made, columns.names, tuple(columns.categories))


def scores(made: OutlierBaseline | None, columns: Columns) -> np.ndarray:
    return scorer(made, columns).scores(columns.numbers, columns.codes)


def shares(made: OutlierBaseline | None, columns: Columns) -> np.ndarray:
    return scorer(made, columns).shares(columns.numbers, columns.codes)


def auroc(made: OutlierBaseline | None, usual: Columns, strange: Columns) -> float:
    labels = np.repeat([0, 1], [len(usual.numbers), len(strange.numbers)])
    return float(roc_auc_score(labels, np.concatenate([scores(made, usual), scores(made, strange)])))


@pytest.mark.parametrize(("apart", "least"), [(0.0, 0.95), (0.3, 0.95), (3.0, 0.87)])
def test_it_ranks_rows_as_their_true_density_does(apart: float, least: float) -> None:
    """It is a model of its own, and bins are coarse where values lie in clusters, as those of a category do."""
    made, fresh = outliers.fit(drawn(5000, 1, apart), seed=0), drawn(3000, 2, apart)
    cities = fresh.codes[:, 0] - 2
    plain = (fresh.numbers - [5000, -7, 0]) / [100, 1, 1e-3]
    plain[:, 0] = (plain[:, 0] - apart * cities) / 0.3
    true = multivariate_normal(np.zeros(3), COVARIANCE).logpdf(plain) + np.log([0.5, 0.2, 0.15, 0.1, 0.05])[cities]

    assert spearmanr(scores(made, fresh), -true).statistic > least


@pytest.mark.parametrize("count", [200, 1000, 5000])
def test_as_many_new_rows_are_strange_as_training_rows_were(count: int) -> None:
    made = outliers.fit(drawn(count, 1), seed=0)

    fresh = shares(made, drawn(20_000, 2))

    slack = 3 / np.sqrt(count)  # of the training rows' own quantiles
    for share in (0.5, 0.9, 0.95):
        assert (fresh > share).mean() == pytest.approx(1 - share, abs=slack * np.sqrt(share * (1 - share)) + 0.01)


@pytest.mark.parametrize(
    ("change", "least"),
    [
        (lambda c, r: c._replace(numbers=r.permuted(c.numbers, axis=0)), 0.8),
        (lambda c, r: c._replace(codes=r.permuted(c.codes, axis=0)), 0.75),
        (lambda c, r: c._replace(numbers=c.numbers * np.float32([1.609, 1, 1])), 0.95),
        (lambda c, r: c._replace(numbers=c.numbers[:, [1, 0, 2]]), 0.99),
        (lambda c, r: c._replace(numbers=c.numbers + np.float32([0, 6, 0])), 0.99),
        (lambda c, r: c._replace(codes=c.codes * 0), 0.8),
        (lambda c, r: c._replace(numbers=c.numbers * np.float32([1, 1, np.nan])), 0.85),
    ],
    ids=["columns permuted", "category permuted", "another unit", "swapped", "out of range", "unseen", "missing"],
)
def test_what_goes_wrong_in_production_is_strange(baseline: OutlierBaseline, change, least: float) -> None:
    changed = change(drawn(2000, 3), np.random.default_rng(0))

    assert auroc(baseline, drawn(2000, 2), changed) > least


def test_rows_of_the_same_kind_are_not_strange(baseline: OutlierBaseline) -> None:
    assert auroc(baseline, drawn(4000, 2), drawn(4000, 3)) == pytest.approx(0.5, abs=0.03)


def test_what_is_often_missing_is_as_strange_as_what_is_there() -> None:
    def with_gaps(columns: Columns, seed: int) -> Columns:
        gaps = np.random.default_rng(seed).random(columns.numbers.shape) < 0.5
        return columns._replace(numbers=np.where(gaps, np.float32(np.nan), columns.numbers))

    made = outliers.fit(with_gaps(drawn(5000, 1), 1), seed=0)
    fresh = with_gaps(drawn(5000, 2), 2)
    missing, share = np.isnan(fresh.numbers).sum(axis=1), shares(made, fresh)

    assert [share[missing == count].mean() for count in range(4)] == pytest.approx([0.5] * 4, abs=0.15)


def test_the_further_beyond_training_the_stranger(baseline: OutlierBaseline) -> None:
    row = drawn(1, 2)
    numbers = np.repeat(row.numbers, 40, axis=0)
    numbers[:, 1] += np.arange(40)

    found = scorer(baseline, row).scores(numbers, np.repeat(row.codes, 40, axis=0))

    assert (np.diff(found[4:20]) > 0).all()
    assert (np.diff(found[20:]) >= 0).all()
    assert scorer(baseline, row).shares(numbers, np.repeat(row.codes, 40, axis=0))[-1] == 1.0


def test_one_wild_training_value_hides_nothing() -> None:
    columns = drawn(5000, 1)
    columns.numbers[17, 1] = 1e30
    made = outliers.fit(columns, seed=0)

    strange = drawn(2000, 3)
    strange.numbers[:, 1] += 6

    assert auroc(made, drawn(2000, 2), strange) > 0.99


def degenerate() -> dict[str, Columns]:
    random = np.random.default_rng(0)
    one = np.ones((100, 1), np.float32)
    none = np.empty((100, 0), np.float32)
    no_codes = np.empty((100, 0), np.int32)
    wide = random.normal(size=(100, outliers.MOST_TOGETHER + 1)).astype(np.float32)
    infinite = random.choice(np.float32([np.inf, -np.inf, 0, 3e38, -3e38]), (100, 1))
    return {
        "constant": Columns(("x",), one, {}, no_codes),
        "zero": Columns(("x",), one * 0, {}, no_codes),
        "large": Columns(("x",), one * np.float32(3e38), {}, no_codes),
        "all missing": Columns(("x",), one * np.float32(np.nan), {}, no_codes),
        "infinite": Columns(("x",), infinite, {}, no_codes),
        "twice the same": Columns(("x", "y"), np.hstack([wide[:, :1]] * 2), {}, no_codes),
        "one category": Columns((), none, {"c": 3}, np.full((100, 1), 2, np.int32)),
        "unseen alone": Columns((), none, {"c": 3}, np.zeros((100, 1), np.int32)),
        "many": Columns(tuple(map(str, range(wide.shape[1]))), wide, {}, no_codes),
    }


@pytest.mark.parametrize("name", degenerate())
def test_whatever_the_rows_are_like_there_is_a_finite_score(name: str) -> None:
    columns = degenerate()[name]
    made = outliers.fit(columns, seed=0)
    assert made is not None
    again = OutlierBaseline.model_validate_json(made.model_dump_json())

    assert np.isfinite(scores(again, columns)).all()
    assert ((shares(again, columns) >= 0) & (shares(again, columns) <= 1)).all()
    assert bool(made.whitening) == (0 < len(columns.names) <= outliers.MOST_TOGETHER)


def test_a_constant_that_changes_is_the_strangest_thing() -> None:
    columns = degenerate()["constant"]

    assert shares(outliers.fit(columns, seed=0), columns._replace(numbers=columns.numbers + 2)) == pytest.approx(1.0)


def test_without_rows_or_columns_there_is_none() -> None:
    few, nothing = drawn(outliers.LEAST_ROWS - 1, 1), Columns((), np.empty((99, 0)), {}, np.empty((99, 0), np.int32))

    assert outliers.fit(few, seed=0) is None
    assert outliers.fit(nothing, seed=0) is None


def test_the_same_rows_and_seed_give_the_same_baseline(baseline: OutlierBaseline) -> None:
    assert outliers.fit(drawn(5000, 1), seed=0) == baseline


def of_rows(encoder: Encoder, rows: Encoded, changed: Encoded) -> tuple[np.ndarray, np.ndarray]:
    """The shares of fresh rows like those of training, which are the first half, and of changed ones."""
    half = rows.rows // 2
    train, fresh = rows.take(slice(0, half)), rows.take(slice(half, None))
    words = histogram.fit_words(encoder, train)
    inputs = histogram.fit_inputs(encoder, train) | histogram.fit_statistics(encoder, train, words)
    drift = DriftBaseline(rows=half, inputs=inputs, outputs={}, labels={}, words=words)
    made = outliers.of_rows(encoder, train, drift, seed=0)
    assert made is not None
    counter = InputCounter.of(encoder, drift.inputs, drift.words)
    known = OutlierScorer(made, counter.names, ())

    def told(some: Encoded) -> np.ndarray:
        numbers, codes, measured = counter.columns(some)
        return known.shares(np.concatenate([numbers, measured], axis=1), codes)

    return told(fresh), told(changed)


def test_pictures_are_strange_by_what_is_measured_of_them() -> None:
    from sklearn.datasets import load_digits

    pictures = np.random.default_rng(0).permutation(load_digits().images)[..., None].astype(np.float32)
    encoder = Encoder([ImageFeature(name="picture", shape=(8, 8, 1), dtype="float32", maximum=16.0)])
    nothing = np.empty((len(pictures), 0), np.float32)
    rows = Encoded(nothing, nothing.astype(np.int32), pictures)

    usual, inverted = of_rows(encoder, rows, rows._replace(image=16 - pictures))

    assert (usual > 0.9).mean() == pytest.approx(0.1, abs=0.05)
    assert (inverted > 0.99).mean() > 0.99


def test_texts_are_strange_by_length_and_words_that_training_does_not_know() -> None:
    """A training text knows its own words; were they counted as known, every new text would be strange."""
    random = np.random.default_rng(0)
    frequency = 1 / np.arange(1, 3001)
    words = [f"word{i}" for i in range(3000)]

    def texts(known: list[str]) -> Encoded:
        drawn = [
            " ".join(random.choice(known, random.integers(8, 15), p=frequency / frequency.sum())) for _ in range(2000)
        ]
        nothing = np.empty((2000, 0), np.float32)
        return Encoded(nothing, nothing.astype(np.int32), texts=np.array(drawn, object)[:, None])

    encoder = Encoder([TextFeature(name="text", required=True, example="a")])

    usual, foreign = of_rows(encoder, texts(words), texts([f"mot{i}" for i in range(3000)]))

    assert (usual > 0.9).mean() == pytest.approx(0.1, abs=0.05)
    assert (foreign > 0.99).mean() > 0.99


def test_the_numbers_of_an_imported_model_are_scored() -> None:
    columns = drawn(2000, 1, apart=0.0).numbers
    encoder = Encoder([TensorFeature(name=name, dtype="float32", shape=(1,)) for name in NAMES])

    def rows(values: np.ndarray) -> Encoded:
        return Encoded.of_tensors({name: values[:, i : i + 1] for i, name in enumerate(NAMES)})

    named = {name: columns[:, i : i + 1] for i, name in enumerate(NAMES)}
    inputs = histogram.fit_numbers(named, len(columns), histogram.fit_input)
    drift = DriftBaseline(rows=len(columns), inputs=inputs, outputs={}, labels={})
    made = outliers.of_rows(encoder, rows(columns), drift, seed=0)
    assert made is not None

    assert list(made.numbers) == list(NAMES)
    assert outliers.of_rows(encoder, rows(columns), drift.model_copy(update={"inputs": {}}), seed=0) is None
