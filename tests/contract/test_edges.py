"""Where bins begin and end, what they are called, and coarse edges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from contract.edges import coarse, edge_names, quantile_edges, range_names, spike_edges

FLOATS = hnp.arrays(np.float32, st.integers(2, 12), elements=st.floats(width=32, allow_nan=False, allow_infinity=False))
SHARES = hnp.arrays(np.float32, st.integers(2, 12), elements=st.floats(0, 1, width=32), unique=True)


@given(FLOATS)
def test_every_edge_has_a_name_that_is_near_it_and_its_own(values: np.ndarray) -> None:
    edges = tuple(float(edge) for edge in np.unique(values))
    names = edge_names(edges)

    assert len(set(names)) == len(edges)
    assert [float(name) for name in names] == pytest.approx(edges, rel=0.006)


@pytest.mark.parametrize(
    ("edges", "names"),
    [
        ((-0.67448974, -0.0, 0.5, 12.345678), ["-0.674", "0", "0.5", "12.3"]),
        ((17.0, 719.0, 1089.0, 4983.0), ["17", "719", "1089", "4983"]),
        ((0.12345678, 0.12345679, 0.13), ["0.12345678", "0.12345679", "0.13"]),
        ((1e-7, 2.5e7, 1e30), ["1e-7", "2.5e7", "1e30"]),
        ((1000000.0, 1000000.5), ["1000000", "1000000.5"]),
    ],
)
def test_names_are_short_and_readable(edges: tuple[float, ...], names: list[str]) -> None:
    assert edge_names(edges) == names


@given(SHARES)
def test_coarse_edges_leave_nothing_outside(values: np.ndarray) -> None:
    edges = tuple(float(edge) for edge in np.sort(values))
    found = np.array(coarse(edges), np.float32)

    assert found[0] <= np.float32(edges[0])
    assert found[-1] >= np.float32(edges[-1])
    assert (np.diff(found) > 0.0009).all()


def test_certainties_that_differ_by_arithmetic_alone_share_a_bin() -> None:
    assert coarse((0.3, 0.9, 0.99999, 0.999999, 1.0)) == (0.3, 0.9, 1.0)
    assert coarse((1e-9, 2e-9)) == (0.0, 0.001)
    assert coarse((1.0, 1.0000001)) == (1.0, 1.001)


BINS = 8


@given(
    hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-(2.0**127), 2.0**127, width=32)),
    st.integers(0, 400),
)
def test_a_value_that_would_fill_a_bin_alone_has_one_alone(others: np.ndarray, repeats: int) -> None:
    """Among others that hardly repeat, whatever these are."""
    others = np.unique(others)
    values = np.concatenate([others, np.repeat(others[repeats % len(others)], repeats)])
    edges = np.array(spike_edges(values, BINS), np.float32)
    counts, with_the_spike = histogram(values, edges), histogram(others[repeats % len(others)][None], edges)

    assert 2 <= len(edges) <= BINS + 1
    assert counts.min() > 0
    assert counts.sum() == len(values)
    if repeats * BINS >= len(values):
        assert counts[with_the_spike.argmax()] == repeats + 1


def histogram(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.histogram(values.astype(np.float64), edges.astype(np.float64))[0]


@given(hnp.arrays(np.float32, st.integers(1, 200), elements=st.integers(-4, 3).map(float)))
def test_each_of_few_different_values_has_a_bin(values: np.ndarray) -> None:
    counts = np.unique(values, return_counts=True)[1]

    assert histogram(values, np.array(spike_edges(values, BINS))).tolist() == counts.tolist()


def test_numbers_without_spikes_have_their_quantiles() -> None:
    values = np.random.default_rng(0).normal(size=10_000).astype(np.float32)

    assert spike_edges(values, BINS) == quantile_edges(values, BINS)
    assert spike_edges(np.array([np.nan, np.inf], np.float32)) == (0.0, 1.0)


def test_what_is_left_and_right_of_a_spike_is_told_apart_too() -> None:
    """Rain, of which most days have none, and visibility, of which most have all that is reported."""
    rng = np.random.default_rng(0)
    rain = np.where(rng.random(20_000) < 0.93, 0, rng.exponential(0.05, 20_000) + 0.01).astype(np.float32)
    for values, spike in ((rain, 0), (10 - rain, -1)):
        counts = histogram(values, np.array(spike_edges(values, BINS)))
        assert counts[spike] == (rain == 0).sum()
        assert np.delete(counts, spike).max() < 2.1 * (rain > 0).sum() / (BINS - 1)


@pytest.mark.parametrize("value", [0.0, -0.0, 5.0, 1e-45, -1e30, float(np.finfo(np.float32).max)])
def test_a_constant_has_a_bin_that_is_called_by_it(value: float) -> None:
    edges = spike_edges(np.full(50, value, np.float32), BINS)

    assert len(edges) == 2
    assert np.isfinite(edges).all()
    low, high = range_names(edges)[0].split("..")
    assert low == high
    assert float(low) == pytest.approx(value, rel=0.006)
    assert range_names((0.0, 1.0, 1.0000001192092896)) == ["0..1", "1..1"]
