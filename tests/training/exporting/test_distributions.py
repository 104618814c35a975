"""The small pictures of the inputs, against NumPy."""

import numpy as np
import pytest

from contract import histogram
from contract.features import Encoded
from contract.manifest import Bins, DriftBaseline, NumberBins
from tests.training import small
from training.exporting.distributions import distributions
from training.rows import Prepared, Rows


def prepared() -> Prepared:
    """Test rows that lie higher, lack some numbers and have one category that training has not."""
    made = small.prepared(count=1000)
    numbers, categories = made.test.encoded.numbers + 1, made.test.encoded.categories.copy()
    numbers[:50, 0] = np.nan
    categories[:20] = 0  # unseen
    test = Rows(Encoded(numbers, categories), made.test.labels)
    return Prepared(**{**made.__dict__, "test": test})


def of(inputs: dict[str, Bins]) -> DriftBaseline:
    return DriftBaseline(rows=1, inputs=inputs, outputs={}, labels={})


def test_shares_are_those_that_numpy_counts() -> None:
    data = prepared()
    baseline = histogram.fit_inputs(data.encoder, data.sample.encoded)
    summaries = {each.name: each for each in distributions(data, of(baseline))}
    bins = baseline["x"]
    assert isinstance(bins, NumberBins)
    edges = [-np.inf, *bins.edges[:-1], np.nextafter(np.float32(bins.edges[-1]), np.float32(np.inf)), np.inf]
    values = data.test.encoded.numbers[:, 0]
    counts, _ = np.histogram(values[np.isfinite(values)], edges)
    expected = [count / len(values) for count in counts if count] + [50 / len(values)]

    assert list(summaries) == ["x", "z", "c"]
    assert summaries["x"].bins[-1] == "missing"
    assert [share for share in summaries["x"].test if share] == pytest.approx(expected)
    assert summaries["x"].train[-1] == 0
    for each in summaries.values():
        assert sum(each.train) == pytest.approx(1)
        assert sum(each.test) == pytest.approx(1)
        assert all(one or other for one, other in zip(each.train, each.test, strict=True))


def test_categories_are_by_name_with_those_that_training_has_not() -> None:
    data = prepared()
    baseline = histogram.fit_inputs(data.encoder, data.sample.encoded)
    found = {each.name: each for each in distributions(data, of(baseline))}["c"]
    shares = dict(zip(found.bins, zip(found.train, found.test, strict=True), strict=True))
    codes = data.sample.encoded.categories[:, 0]

    assert found.kind == "category"
    assert set(shares) == {"=a", "=b", "=d", "unseen"}
    assert shares["=b"][0] == pytest.approx((codes == 3).mean())
    assert shares["unseen"] == pytest.approx((0, 20 / len(data.test)))


def test_without_numbers_and_categories_there_is_nothing_to_show() -> None:
    data = small.prepared(count=10)
    empty = Prepared(**{**data.__dict__, "encoder": type(data.encoder)([])})
    nothing = Encoded(np.empty((10, 0), np.float32), np.empty((10, 0), np.int32))
    rows = Rows(nothing, data.sample.labels)
    assert distributions(Prepared(**{**empty.__dict__, "sample": rows, "test": rows}), of({})) == ()
