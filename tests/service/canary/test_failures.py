"""Bets on a canary's failures: whether chance wins them as seldom as it may, and how soon a worse one is found."""

import numpy as np
import pytest
from scipy import optimize, stats

from service.canary.failures import Counted, _nearest, excess

ALPHA = 0.05
MARGIN = 0.005
# Production's requests of each step and the canary's, as at 5% and 25%.
STEPS = ((9500, 500), (1500, 500))


def step(random: np.random.Generator, sizes: tuple[int, int], before: float, more: float) -> Counted:
    return Counted(
        sizes[0], int(random.binomial(sizes[0], before)), sizes[1], int(random.binomial(sizes[1], before + more))
    )


def test_at_the_margin_itself_hardly_any_bet_is_won_at_any_look() -> None:
    """Failures change from step to step, and the canary's share of all requests with them."""
    random, runs, wrong = np.random.default_rng(3), 200, 0
    for _ in range(runs):
        known: list[Counted] = []
        for before, sizes in zip((0.001, 0.03), STEPS, strict=True):
            looks = [step(random, (sizes[0] // 5, sizes[1] // 5), before, MARGIN) for _ in range(5)]
            sums = [Counted(*map(sum, zip(*looks[: i + 1], strict=True))) for i in range(5)]
            wrong_now = any(excess([*known, each], ALPHA) > MARGIN for each in sums)
            known.append(sums[-1])
            if wrong_now:
                wrong += 1
                break

    assert stats.binomtest(wrong, runs, ALPHA, alternative="greater").pvalue > 0.001


def test_what_no_step_shows_alone_all_show_together() -> None:
    """2% more of the requests fail, in the first two steps of the default policy."""
    random, alpha = np.random.default_rng(4), 0.001
    alone = together = 0
    for _ in range(60):
        steps = [step(random, sizes, 0.003, 0.02) for sizes in STEPS]
        alone += any(excess([each], alpha) > MARGIN for each in steps)
        together += excess(steps, alpha) > MARGIN

    assert together >= 15
    assert together >= 2 * alone


def test_a_common_failure_is_nobodys() -> None:
    """Half an hour in which all requests fail is both's, whatever the canary's share is then."""
    assert excess([Counted(9500, 0, 500, 0), Counted(1500, 1500, 500, 500)], ALPHA) == 0
    assert excess([Counted(1500, 0, 500, 500)], ALPHA) > 0.9


def test_without_either_side_nothing_is_known() -> None:
    assert excess([], ALPHA) == 0
    assert excess([Counted(0, 0, 500, 500)], ALPHA) == 0
    assert excess([Counted(500, 100, 0, 0)], ALPHA) == 0


@pytest.mark.parametrize(("before", "after", "share"), [(0.001, 0.02, 0.05), (0.1, 0.3, 0.5), (0.003, 0.9, 0.25)])
def test_the_nearest_pair_is_the_one_of_least_divergence(before: float, after: float, share: float) -> None:
    def divergence(rate: float) -> float:
        pairs = ((after, rate + MARGIN, share), (before, rate, 1 - share))
        return sum(w * (p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))) for p, q, w in pairs)

    best = optimize.minimize_scalar(divergence, bounds=(1e-7, 0.99), method="bounded", options={"xatol": 1e-10}).x
    found = _nearest(np.array([before]), np.array([after]), np.array([[share]]), MARGIN)

    assert found[0, 0] == pytest.approx(best, rel=1e-3)
