"""Confidence, entropy and margin, against SciPy and sorting."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from contract import certainty

EDGES = np.array([0, 1, 0.5, 1e-30, 1 - 1e-7, np.nan], np.float32)


@pytest.mark.parametrize("classes", [2, 3, 10, 1000])
def test_of_many_is_as_scipy_has_it(classes: int) -> None:
    rows = np.random.default_rng(classes).dirichlet(np.full(classes, 0.2), 200).astype(np.float32)
    rows[0], rows[1, :] = np.eye(classes)[1], 1 / classes
    confidence, of_all, margin, label = certainty.of_many(rows).T
    ordered = np.sort(rows, axis=1)

    np.testing.assert_array_equal(confidence, ordered[:, -1])
    np.testing.assert_allclose(of_all, entropy(rows.astype(np.float64), axis=1), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(margin, ordered[:, -1] - ordered[:, -2])
    np.testing.assert_array_equal(label, rows.argmax(axis=1))


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_of_two_is_of_many(values: list[float]) -> None:
    positive = np.array(values, np.float32)
    both = np.stack([1 - positive, positive], axis=1)

    np.testing.assert_allclose(certainty.of_two(positive), certainty.of_many(both)[:, :3], rtol=1e-5, atol=1e-6)


def test_what_is_no_number_stays_none_and_nothing_warns() -> None:
    found = certainty.of_two(EDGES)

    assert np.isnan(found[-1]).all()
    assert np.isfinite(found[:-1]).all()
    assert found[:2].tolist() == [[1, 0, 1]] * 2
    assert found[2].tolist() == pytest.approx([0.5, np.log(2), 0])
    assert np.isnan(certainty.of_many(np.float32([[0.5, np.nan, 0.5]]))[0, :3]).all()
