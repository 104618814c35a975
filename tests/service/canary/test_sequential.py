"""Bounds that hold at every look: against SciPy's distributions, and against chance itself."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from contract import drift
from service.canary.sequential import PRIOR, psi_beyond, quantile, share_bounds


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (3, 40), (40, 40), (17, 5000), (500, 1000)])
@pytest.mark.parametrize("alpha", [0.05, 0.0005])
def test_a_share_is_bounded_where_the_mixture_is_so_much_likelier(hits: int, count: int, alpha: float) -> None:
    mixed = stats.betabinom(count, PRIOR, PRIOR).logpmf(hits)

    def odds(share: float) -> float:
        return float(mixed - stats.binom(count, share).logpmf(hits) - math.log(2 / alpha))

    low, high = share_bounds(hits, count, alpha)

    assert low == (pytest.approx(optimize.brentq(odds, 1e-12, hits / count - 1e-12), rel=1e-6) if hits else 0)
    if hits == count:
        assert high == 1
    else:
        assert high == pytest.approx(optimize.brentq(odds, hits / count + 1e-12, 1 - 1e-12), rel=1e-6)


def test_of_nothing_nothing_is_known() -> None:
    assert share_bounds(0, 0, 0.01) == (0.0, 1.0)


@pytest.mark.parametrize("share", [0.01, 0.3])
def test_a_share_is_within_its_bounds_at_every_look(share: float) -> None:
    alpha, walks, looks = 0.1, 300, 1000
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(walks):
        sums = np.cumsum(random.random(looks) < share)
        # Only where it is far off can it be wrong; the others need not be looked at.
        counts = np.arange(1, looks + 1)
        far = np.abs(sums - share * counts) > 1.8 * np.sqrt(share * (1 - share) * counts)
        bounds = (share_bounds(float(sums[i]), int(counts[i]), alpha) for i in np.flatnonzero(far))
        wrong += any(not low <= share <= high for low, high in bounds)

    assert stats.binomtest(wrong, walks, alpha, alternative="greater").pvalue > 0.001


@pytest.mark.parametrize("alpha", [0.1, 0.01])
def test_a_mean_stays_below_its_bound_at_every_look(alpha: float) -> None:
    walks, looks = 2000, 3000
    counts = np.arange(1, looks + 1)
    bound = np.array([quantile(float(count), alpha) for count in counts]) * np.sqrt(counts)
    random = np.random.default_rng(2)
    crossed = sum(
        int((np.cumsum(random.standard_normal((100, looks)), axis=1) > bound).any(axis=1).sum())
        for _ in range(walks // 100)
    )

    assert stats.binomtest(crossed, walks, alpha, alternative="greater").pvalue > 0.001
    assert crossed > 0  # it is no wider than it must be by far


def test_without_a_margin_a_psi_is_held_to_what_drift_is_held_to() -> None:
    assert psi_beyond(0.0, 13, 400, 9000) == pytest.approx(drift.critical(13, 400, 9000))
    assert psi_beyond(0.25, 13, 0, 100) == math.inf


@pytest.mark.parametrize("margin", [0.05, 0.25])
@pytest.mark.parametrize(("rows", "others"), [(60, 1200), (500, 9500), (5000, 15_000)])
def test_with_a_margin_it_is_about_a_noncentral_chi_square(margin: float, rows: int, others: int) -> None:
    scale = 1 / rows + 1 / others
    exact = scale * stats.ncx2(12, margin / scale).isf(stats.norm.sf(drift.CRITICAL_Z))

    assert psi_beyond(margin, 13, rows, others) == pytest.approx(exact, rel=0.06)
    assert psi_beyond(margin, 13, rows, others) > margin
