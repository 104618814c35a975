"""The curve from score to truth: against scikit-learn's isotonic regression, and on rows that it has not seen."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from contract.quality import gap
from training.evaluation.estimation import FEWEST_ROWS, POINTS, curve, isotonic


def rows(count, power, seed=0):
    """Probabilities, and how it went: of a power over 1 the model is too sure, of 1 it is calibrated."""
    random = np.random.default_rng(seed)
    true = random.beta(1, 3, count)
    sure = true**power / (true**power + (1 - true) ** power)
    return sure.astype(np.float32).astype(float), (random.random(count) < true).astype(float)


@pytest.mark.parametrize("power", [0.5, 2.0])
def test_it_corrects_a_model_that_is_wrong_about_itself(power):
    points = curve(*rows(5000, power), seed=0)
    sure, right = rows(20_000, power, seed=1)

    assert gap(np.interp(sure, *points), right) < gap(sure, right) / 3


@pytest.mark.parametrize("seed", range(10))
def test_it_spoils_nothing_where_there_is_nothing_to_correct(seed):
    points = curve(*rows(3000, 1.0, seed), seed=seed)
    sure, right = rows(20_000, 1.0, seed + 100)

    assert points is None or gap(np.interp(sure, *points), right) < gap(sure, right) + 0.02


def test_few_points_of_it_are_as_good_as_all():
    sure, right = rows(5000, 2.0)
    scores, probabilities = isotonic(sure, right)
    expected = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(sure, right)

    assert len(scores) <= POINTS
    assert np.all(np.diff(scores) > 0)
    assert np.all(np.diff(probabilities) >= 0)
    fresh, truth = rows(20_000, 2.0, seed=1)
    few, all_of_them = (gap(each, truth) for each in (np.interp(fresh, scores, probabilities), expected.predict(fresh)))
    assert few < all_of_them + 0.002


def test_few_rows_have_none():
    assert curve(*rows(FEWEST_ROWS - 1, 3.0), seed=0) is None


def test_it_is_the_same_every_time():
    assert curve(*rows(1000, 2.0), seed=3) == curve(*rows(1000, 2.0), seed=3)
