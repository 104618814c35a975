"""Distances and critical values, held against scipy, and against what chance does."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import jensenshannon
from scipy.special import rel_entr
from scipy.stats import chi2, norm

from contract import drift
from contract.histogram import ratios

COUNTS = st.integers(2, 30).flatmap(lambda bins: hnp.arrays(np.int64, (2, bins), elements=st.integers(0, 10**6)))


@given(COUNTS)
def test_distances_are_those_of_scipy(both: np.ndarray) -> None:
    window, training = both
    q, rows = np.array(ratios(training)), window.sum()
    smoothed = [count + min(0.5, rows * ratio) for count, ratio in zip(window, q, strict=True)]
    p = np.array(smoothed) / sum(smoothed) if rows else q

    found = drift.drift(window, ratios(training), int(training.sum()))

    assert found.psi == pytest.approx(rel_entr(p, q).sum() + rel_entr(q, p).sum(), rel=1e-9, abs=1e-12)
    with np.errstate(invalid="ignore"):  # scipy takes the root of what is barely below 0
        assert found.js**2 == pytest.approx(np.nan_to_num(jensenshannon(p, q, base=2)) ** 2, rel=1e-6, abs=1e-12)
    assert found.linf == pytest.approx(np.linalg.norm(p - q, np.inf), rel=1e-12)
    assert found.rows == rows


def test_what_is_equal_is_at_no_distance_and_what_is_apart_at_the_largest() -> None:
    same = np.array([50, 30, 20])
    alike = drift.drift(same, ratios(same), 100)
    apart = drift.drift(np.array([10**9, 0]), ratios(np.array([0, 10**9])), 10**9)

    assert (alike.psi, alike.js, alike.linf) == (0.0, 0.0, 0.0)
    assert apart.js == pytest.approx(1, abs=1e-6)
    assert apart.linf == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("freedom", range(2, 60))
@pytest.mark.parametrize("z", [1.645, 2.326, 3.09])
def test_the_approximate_quantile_is_near_the_true_one(freedom: int, z: float) -> None:
    assert drift.chi_square(freedom, z) == pytest.approx(chi2.isf(norm.sf(z), freedom), rel=0.025)


@pytest.mark.parametrize("freedom", range(1, 60))
def test_far_out_it_errs_to_the_safe_side(freedom: int) -> None:
    true = chi2.isf(norm.sf(drift.CRITICAL_Z), freedom)

    assert true < drift.chi_square(freedom, drift.CRITICAL_Z) < true * (1 + 0.2 / freedom + 0.01)


ZIPF = np.arange(1, 21) ** -1.5
EMPTY = [0.0] * 4  # below, above, missing, non-finite


@pytest.mark.parametrize(("rows", "baseline_rows"), [(50, 200_000), (200, 200_000), (1000, 1000)])
@pytest.mark.parametrize(
    "true", [np.full(10, 0.1), np.array([0.1] * 10 + EMPTY), np.append(ZIPF, 0), np.array([0.97, 0.02, 0.01, *EMPTY])]
)
def test_chance_passes_the_critical_value_no_oftener_than_it_says(
    true: np.ndarray, rows: int, baseline_rows: int
) -> None:
    """Also where bins are rare or never have rows; and where all have, about as often."""
    rng, z, repeats = np.random.default_rng(7), 2.326, 3000
    limit, said = drift.critical(len(true), rows, baseline_rows, z), norm.sf(z)
    windows, baselines = (rng.multinomial(n, true / true.sum(), repeats) for n in (rows, baseline_rows))

    passed = [drift.drift(w, ratios(b), baseline_rows).psi > limit for w, b in zip(windows, baselines, strict=True)]

    assert np.mean(passed) < 1.8 * said
    if len(true) == 10 and rows > 100:
        assert np.mean(passed) > said / 2


def test_few_rows_need_more_and_many_need_what_is_noticeable() -> None:
    even = np.full(10, 100)
    lopsided = np.array([130, 130, 130, 130, 130, 70, 70, 70, 70, 70])
    few, many = drift.drift(lopsided // 20, ratios(even), 10**6), drift.drift(lopsided * 20, ratios(even), 10**6)

    assert few.threshold == few.critical > 0.5 > many.threshold == drift.NOTICEABLE
    assert many.psi == pytest.approx(few.psi, rel=0.3)
    assert drift.drift(np.array([900, *[10] * 9]), ratios(even), 10**6).drifted
    assert not few.drifted


@pytest.mark.parametrize(("rows", "baseline_rows"), [(0, 100), (100, 0)])
def test_nothing_drifts_without_rows(rows: int, baseline_rows: int) -> None:
    found = drift.drift(np.array([rows, 0]), (0.001, 0.999), baseline_rows)

    assert found.critical == math.inf
    assert not found.drifted
