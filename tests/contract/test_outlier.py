"""What is written down to score rows by, and what is refused."""

import numpy as np
import pytest
from pydantic import ValidationError

from contract.outlier import BOUNDS, OutlierBaseline, OutlierScorer, buckets

UNIFORM = {"low": 0.0, "high": 4.0, "shares": [0.0, 0.25, 0.25, 0.25, 0.25, 0.0, 0.0]}
KNOWN = {
    "rows": 100,
    "numbers": {"x": UNIFORM, "y": UNIFORM | {"shares": [0.0, 0.7, 0.1, 0.1, 0.0, 0.0, 0.1]}},
    "categories": {"c": {"shares": [0.0, 0.1, 0.6, 0.3], "shifts": [[0.5, -0.5]]}},
    "means": [0.0, 0.1],
    "whitening": [[1.0, 0.0], [0.0, 1.0]],
    "scores": [0.0, 5.0, 10.0],
    "shares": [0.0, 0.9, 1.0],
}


def baseline(**changes: object) -> OutlierBaseline:
    return OutlierBaseline.model_validate(KNOWN | changes)


def scorer(**changes: object) -> OutlierScorer:
    return OutlierScorer(baseline(**changes), ("x", "y"), ("c",))


def rows(*numbers: tuple[float, float], code: int = 2) -> tuple[np.ndarray, np.ndarray]:
    return np.array(numbers, np.float32), np.full((len(numbers), 1), code, np.int32)


def test_a_histogram_alone_surprises_by_the_logarithm_of_its_smoothed_shares() -> None:
    alone = scorer(means=[], whitening=[], categories={})

    scores = alone.scores(*rows((0.5, 0.5), (0.5, 1.5), (0.5, 3.5), (9.0, 0.5)))

    of_x, of_y = np.array([25.5, 25.5, 25.5, 0.5]) / 103.5, np.array([70.5, 10.5, 0.5, 70.5]) / 103.5
    assert scores == pytest.approx(-np.log(of_x) - np.log(of_y), rel=1e-5)


def test_a_category_surprises_by_the_logarithm_of_its_smoothed_share() -> None:
    alone = scorer(numbers={}, means=[], whitening=[], categories={"c": {"shares": [0.0, 0.1, 0.6, 0.3]}})

    scores = [float(alone.scores(np.empty((1, 2), np.float32), np.full((1, 1), code))[0]) for code in range(4)]

    assert scores == pytest.approx(-np.log(np.array([0.5, 10.5, 60.5, 30.5]) / 102), rel=1e-5)


def test_columns_are_found_by_name_among_others() -> None:
    wide = OutlierScorer(baseline(), ("z", "y", "x"), ("b", "c"))
    numbers, codes = rows((0.5, 1.5), (3.0, np.nan))

    others = np.stack([np.full(2, 7.0, np.float32), numbers[:, 1], numbers[:, 0]], axis=1)

    assert (wide.scores(others, np.hstack([codes + 40, codes])) == scorer().scores(numbers, codes)).all()


def test_a_row_alone_is_as_strange_as_among_others() -> None:
    random = np.random.default_rng(0)
    numbers, codes = random.uniform(-9, 9, (300, 2)).astype(np.float32), random.integers(0, 4, (300, 1), np.int32)
    numbers[random.random((300, 2)) < 0.1] = np.nan

    alone = np.concatenate([scorer().scores(numbers[i : i + 1], codes[i : i + 1]) for i in range(300)])

    np.testing.assert_allclose(scorer().scores(numbers, codes), alone, rtol=1e-5)


def test_shares_are_between_those_of_the_scores_beside() -> None:
    one = scorer(numbers={}, means=[], whitening=[], scores=[0.0, 1.0, 2.0], categories={"c": {"shares": [1, 0, 0]}})
    (score,) = one.scores(np.empty((1, 0), np.float32), np.zeros((1, 1), np.int32))

    assert 0 < score < 1
    assert one.shares(np.empty((1, 0), np.float32), np.zeros((1, 1), np.int32)) == pytest.approx([0.9 * score])
    assert one.shares(np.empty((1, 0), np.float32), np.ones((1, 1), np.int32)) == [1.0]


@pytest.mark.parametrize("far", [1e30, 3.4e38, np.inf, -np.inf, -3e38])
def test_what_is_infinitely_far_away_is_as_strange_as_can_be(far: float) -> None:
    numbers, codes = rows((far, 0.5))

    assert np.isfinite(scorer().scores(numbers, codes)).all()
    assert scorer().shares(numbers, codes) == [1.0]


def test_buckets_hold_what_does_not_exceed_their_bound() -> None:
    shares = np.array([0.0, 0.5, 0.50001, 0.9, 0.96, 0.99, 0.995, 0.999, 0.9991, 1.0, 1.0])

    assert dict(zip(BOUNDS, buckets(shares).tolist(), strict=True)) == {
        0.5: 2,
        0.9: 2,
        0.95: 0,
        0.99: 2,
        0.999: 2,
        1.0: 3,
    }
    assert buckets(np.empty(0)).tolist() == [0] * len(BOUNDS)


def test_it_scores_the_same_after_a_round_trip() -> None:
    again = OutlierScorer(OutlierBaseline.model_validate_json(baseline().model_dump_json()), ("x", "y"), ("c",))
    numbers, codes = rows((0.5, 1.5), (7.0, np.nan), (-1.0, 2.0))

    assert (again.scores(numbers, codes) == scorer().scores(numbers, codes)).all()


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"numbers": {}, "categories": {}, "means": [], "whitening": []}, "nothing to score"),
        ({"numbers": {"x": UNIFORM, "y": UNIFORM | {"shares": [0.1] * 5}}}, "as many bins"),
        ({"numbers": {"x": UNIFORM, "y": UNIFORM | {"low": 4.0}}}, "high must be above low"),
        ({"numbers": {"x": UNIFORM, "y": UNIFORM | {"shares": [2.0] * 7}}}, "less than or equal to 1"),
        ({"means": [0.0]}, "of all numbers, or of none"),
        ({"whitening": []}, "of all numbers, or of none"),
        ({"whitening": [[1.0, 0.0], [1.0]]}, "a value a number"),
        ({"whitening": [[1.0, 0.0], [1.0, "nan"]]}, "finite"),
        ({"categories": {"c": {"shares": [0.5, 0.5, 0.0], "shifts": [[0.0, 0.0]] * 2}}}, "more shifts than values"),
        ({"categories": {"c": {"shares": [0.5, 0.5, 0.0], "shifts": [[0.0]]}}}, "a value a number"),
        ({"scores": [0.0, 5.0, 5.0]}, "rise strictly"),
        ({"shares": [0.0, 1.0]}, "as many"),
        ({"shares": [0.0, 0.9, 0.9]}, "rise strictly"),
        ({"rows": 0}, "greater than 0"),
        ({"colour": 1}, "Extra inputs"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        baseline(**changes)
