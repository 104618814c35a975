"""What a canary is held to after a gate that saw it answer otherwise: against rows that are really answered so."""

import numpy as np
import pytest
from numpy.typing import NDArray

from contract.evidence import Difference
from contract.promotion import Margins
from service.canary import expected
from service.canary.evidence import Evidence, Pairs, Side
from service.canary.measures import Measure, measures

BINS = 8
# Production's answer i becomes one of these, mostly about half as many bins up.
UP = np.array([[0.0] * BINS] * BINS)
for _i in range(BINS):
    UP[_i, min(BINS - 1, _i + 2)] += 0.7
    UP[_i, min(BINS - 1, _i + 1)] += 0.3
DOWN = UP[::-1, ::-1]
Counts = NDArray[np.int64]


def answers(count: int, of: NDArray[np.float64], seed: int, tilt: float = 0.0) -> Counts:
    """Rows by both answers, [production's bin, the canary's]; `tilt` makes high ones more frequent."""
    random = np.random.default_rng(seed)
    shares = np.exp(tilt * np.arange(BINS))
    before = random.choice(BINS, count, p=shares / shares.sum())
    found = np.zeros((BINS, BINS), np.int64)
    for i in before:
        found[i, random.choice(BINS, p=of[i])] += 1
    return found


def seen(of: NDArray[np.float64] = UP, count: int = 5000, disagreed: float = 0.4) -> Difference:
    table = answers(count, of, seed=1)
    each = tuple(int(disagreed * n) for n in table.sum(axis=1))
    return Difference(bins=tuple(map(tuple, table.tolist())), disagreed=each)


def live(of: NDArray[np.float64], count: int = 1000, tilt: float = 0.0, disagreed: float = 0.4) -> Evidence:
    """Of rows that are others than the gate's where `tilt` says so."""
    table = answers(count, of, seed=2, tilt=tilt)
    sides = [Side(bins=tuple(table.sum(axis=axis).tolist())) for axis in (1, 0)]
    pairs = Pairs(requests=count, disagreed=disagreed * count, production=sides[0], canary=sides[1])
    return Evidence(pairs=pairs)


def found(evidence: Evidence, known: Difference | None) -> dict[str, Measure]:
    return {each.name: each for each in measures(evidence, Margins(), 3, seen=known)}


@pytest.mark.parametrize("tilt", [0.0, 0.4, -0.4])
def test_who_answers_as_the_gate_saw_is_not_worse_however_far_from_production(tilt: float) -> None:
    evidence = live(UP, 4000, tilt)

    assert found(evidence, None)["distribution"].worse
    held = found(evidence, seen())["distribution"]
    assert not held.worse
    assert held.excess == pytest.approx(0, abs=0.05)
    assert "from what the gate makes expect" in held.words


@pytest.mark.parametrize("of", [DOWN, np.eye(BINS), np.full((BINS, BINS), 1 / BINS)])
def test_who_is_as_far_off_elsewhere_is_worse(of: NDArray[np.float64]) -> None:
    assert found(live(of), seen())["distribution"].worse


def test_a_gate_that_saw_few_rows_is_trusted_less() -> None:
    few, many = (found(live(DOWN, 300), seen(count=count))["distribution"] for count in (20, 5000))

    assert few.excess is not None
    assert few.certain is not None
    assert many.excess is not None
    assert many.certain is not None
    assert few.excess - few.certain > 2 * (many.excess - many.certain)


def test_what_the_gate_never_saw_is_expected_as_production_answers() -> None:
    table = np.zeros((BINS, BINS), np.int64)
    table[0, 3] = 1000
    known = expected.as_seen([500, 0, 500, *[0] * (BINS - 3)], table.tolist())

    assert known is not None
    assert known.shares.sum() == pytest.approx(1)
    assert known.shares[[3, 2]] == pytest.approx([0.5, 0.5], abs=0.01)
    assert known.rows < 5  # half of them rest on half a row


def test_of_other_bins_nothing_is_expected_but_what_production_answers() -> None:
    other = Difference(bins=((5, 5), (5, 5)), disagreed=(1, 1))

    assert found(live(UP), other)["distribution"] == found(live(UP), None)["distribution"]
    assert found(live(UP), other)["disagreement"] == found(live(UP), None)["disagreement"]


def test_disagreement_is_judged_beyond_what_the_gate_saw() -> None:
    """40% were expected: 40% are no more, 60% less than the margin more, and 90% are too many."""
    shares = {share: found(live(UP, disagreed=share), seen())["disagreement"] for share in (0.4, 0.6, 0.9)}

    assert {share: each.worse for share, each in shares.items()} == {0.4: False, 0.6: False, 0.9: True}
    assert shares[0.6].excess == pytest.approx(0.2, abs=0.01)
    assert found(live(UP, disagreed=0.4), None)["disagreement"].worse


def test_labels_are_held_to_what_the_gate_saw_of_labels() -> None:
    bins = np.diag([500] * BINS).tolist()
    known = Difference(bins=tuple(map(tuple, bins)), labels=((1000, 1000), (0, 2000)), disagreed=(125,) * BINS)
    even = (125,) * BINS

    def judged(labels: tuple[int, int]) -> Measure:
        sides = [Side(bins=even, labels=each) for each in ((500, 500), labels)]
        return found(Evidence(pairs=Pairs(requests=1000, production=sides[0], canary=sides[1])), known)["distribution"]

    assert not judged((250, 750)).worse
    assert judged((750, 250)).worse
