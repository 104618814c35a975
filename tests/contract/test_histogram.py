"""Bins and counts, held against NumPy counted the slow way."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from contract import drift, histogram
from contract.edges import quantile_edges, spike_edges
from contract.features import Encoded, Encoder
from contract.manifest import (
    BinaryOutput,
    CategoryFeature,
    MulticlassOutput,
    NumberBins,
    NumberFeature,
    RegressionOutput,
    TensorFeature,
    TensorsOutput,
    TextFeature,
)
from contract.signature import TensorSpec

FLOATS = st.floats(-100, 100, width=32) | st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1.0])
EdgesOf = Callable[[np.ndarray], tuple[float, ...]]
COLUMN = hnp.arrays(np.float32, st.integers(1, 50), elements=FLOATS)


def slow_counts(values: np.ndarray, edges: tuple[float, ...]) -> list[int]:
    """below, bins, above, missing, non-finite: one comparison at a time."""
    counts = [0] * (len(edges) + 3)
    for value in values:
        if np.isnan(value):
            counts[-2] += 1
        elif np.isinf(value):
            counts[-1] += 1
        elif value < edges[0]:
            counts[0] += 1
        elif value > edges[-1]:
            counts[-3] += 1
        else:
            i = max(k for k in range(len(edges) - 1) if value >= edges[k])
            counts[1 + i] += 1
    return counts


@pytest.mark.parametrize("edges_of", [quantile_edges, spike_edges])
@given(COLUMN, COLUMN)
def test_numbers_fall_into_the_bins_of_their_edges(edges_of: EdgesOf, train: np.ndarray, served: np.ndarray) -> None:
    edges = edges_of(train)
    bins = NumberBins(edges=edges, ratios=(0.0,) * (len(edges) + 3))
    counts = histogram.NumberCounter([bins], nan_is_missing=True).count(served[:, None])

    assert counts.tolist() == slow_counts(served, edges)
    assert counts.sum() == len(served)
    assert len(histogram.bin_names(bins)) == len(set(histogram.bin_names(bins))) == len(counts)


@pytest.mark.parametrize("edges_of", [quantile_edges, spike_edges])
@given(hnp.arrays(np.float32, st.integers(20, 200), elements=st.floats(-100, 100, width=32)))
def test_no_training_number_lies_outside_its_own_baseline(edges_of: EdgesOf, train: np.ndarray) -> None:
    edges = edges_of(train)

    assert edges[0] == train.min() or len(np.unique(train)) == 1
    counts = slow_counts(train, edges)
    assert counts[0] == counts[-3] == 0


def test_quantile_bins_hold_equal_shares_as_numpy_has_it() -> None:
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)
    bins = histogram.fit_output(values)

    counted, _ = np.histogram(values, bins=np.array(bins.edges))
    np.testing.assert_allclose(bins.ratios[1:-3], counted / 10_000, atol=2e-3)
    np.testing.assert_allclose(sum(bins.ratios), 1)


@pytest.mark.parametrize("ones", [0.3, 0.02])
def test_drift_of_a_number_that_is_true_or_false_is_seen(ones: float) -> None:
    """It is as large as that of the same feature, were it a category."""
    train, served = (np.arange(10_000) < 10_000 * share for share in (ones, ones + 0.4))
    bins = histogram.fit_input(train.astype(np.float32))
    counts = histogram.NumberCounter([bins], nan_is_missing=True).count(served[:, None].astype(np.float32))

    p, q = served.mean(), train.mean()
    expected = (p - q) * np.log(p / q) + (q - p) * np.log((1 - p) / (1 - q))
    np.testing.assert_allclose(drift.drift(counts, bins.ratios, 10_000).psi, expected, rtol=0.02)


def test_categories_are_counted_with_other_missing_and_unseen() -> None:
    vocabulary = tuple(f"c{i:02}" for i in range(30))
    feature = CategoryFeature(name="dest", required=False, vocabulary=vocabulary, example="c00")
    number = NumberFeature(name="n", required=True, minimum=0, maximum=1, example=0)
    encoder = Encoder([feature, number])
    train = np.repeat(np.arange(2, 32), np.arange(40, 10, -1)).astype(np.int32)
    bins = histogram.fit_inputs(encoder, Encoded(np.zeros((len(train), 1), np.float32), train[:, None]))
    counter = histogram.InputCounter.of(encoder, bins)
    served = np.array([[2], [2], [31], [1], [0]], np.int32)  # c00 twice, the rarest, missing, unseen
    counts = counter.split(counter.count(Encoded(np.zeros((5, 1), np.float32), served)))

    assert bins["dest"].categories == vocabulary[:20]
    assert dict(zip(histogram.bin_names(bins["dest"]), counts["dest"].tolist(), strict=True)) == {
        **{f"={name}": 0 for name in vocabulary[:20]},
        "=c00": 2,
        "other": 1,
        "missing": 1,
        "unseen": 1,
    }


def test_the_score_of_an_output_is_its_confidence_or_itself() -> None:
    probabilities = np.array([[0.2, 0.5, 0.3], [0.1, 0.1, 0.8]], np.float32)
    binary = BinaryOutput(classes=("no", "yes"), positive="yes", threshold=0.5)
    regression = RegressionOutput(minimum=0, maximum=1, half_width=0.1)

    assert histogram.scores(MulticlassOutput(classes=("a", "b", "c")), probabilities).tolist() == [0.5, np.float32(0.8)]
    for output in (binary, regression):
        np.testing.assert_array_equal(histogram.scores(output, probabilities[:, 0]), probabilities[:, 0])


def test_a_model_without_numbers_and_categories_has_no_input_bins() -> None:
    encoder = Encoder([TextFeature(name="body", required=True, example="words")])
    encoded = encoder.encode([{"body": "a"}, {"body": "b"}])
    counter = histogram.InputCounter.of(encoder, {})

    assert histogram.fit_inputs(encoder, encoded) == {}
    assert counter.split(counter.count(encoded)) == {}


def test_numbers_of_imported_models_are_counted_by_name() -> None:
    features = [TensorFeature(name=name, dtype="int64", shape=shape) for name, shape in (("a", ()), ("b", (1,)))]
    words = TensorFeature(name="words", dtype="string", shape=())
    rows = {"a": np.arange(100), "b": np.arange(100)[:, None] * 2}
    bins = histogram.fit_numbers(rows, 100, histogram.fit_input)
    counter = histogram.InputCounter.of(Encoder([*features, words]), bins)
    served = {"a": np.array([-1, 50, 1000]), "b": np.array([[0], [0], [2**62]]), "words": np.array([b"x"] * 3, object)}
    counts = counter.split(counter.count(Encoded.of_tensors(served)))

    assert counter.names == ("a", "b")
    for name, values in served.items():
        if name in bins:
            assert counts[name].tolist() == slow_counts(values.ravel().astype(np.float32), bins[name].edges)


def test_outputs_of_imported_models_are_counted_where_they_are_numbers() -> None:
    specs = [TensorSpec(name=n, dtype="float32", shape=s) for n, s in (("y", (-1,)), ("z", (-1, 1)), ("v", (-1, 3)))]
    answers = {"y": np.float32([1, 2]), "z": np.float32([[3], [np.nan]]), "v": np.zeros((2, 3), np.float32)}
    bins = histogram.fit_numbers({name: answers[name] for name in ("z", "y")}, 2, histogram.fit_output)
    counter = histogram.OutputCounter.of(TensorsOutput(tensors=tuple(specs)), bins)
    watched, labels = counter.watched(counter.note(answers))
    counts = counter.split(counter.count(watched))

    assert watched.shape == (2, 2)
    assert labels.tolist() == [0, 0]
    assert list(counts) == ["z", "y"]
    assert counts["y"].sum() == counts["z"].sum() == 2
    assert counts["z"][-1] == 1


def test_no_baseline_counts_nothing() -> None:
    counter = histogram.OutputCounter.of(
        TensorsOutput(tensors=(TensorSpec(name="y", dtype="float32", shape=(-1,)),)), {}
    )

    assert counter.split(counter.count(counter.watched(counter.note({"y": np.float32([1])}))[0])) == {}
