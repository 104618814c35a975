"""The simulation of drift alarms, where its arithmetic is not the rules' own: tests/deploy holds that."""

import numpy as np
import pytest

from benchmarks.drift_alarms import DAY, WEEK, Feature, delays, delta_of, model, quiet, shifted, traffic
from benchmarks.drift_rules import WINDOWS, Baseline, alarms, drift, runs, sliding


def test_windows_are_sums() -> None:
    counts = np.random.default_rng(0).integers(0, 9, (50, 3))

    for i, row in enumerate(sliding(counts, 7)):
        assert row.tolist() == counts[max(0, i - 6) : i + 1].sum(axis=0).tolist()


@pytest.mark.parametrize(("moments", "starts"), [(0, [1, 6]), (1, [1, 6]), (2, [1]), (3, [])])
def test_a_condition_must_go_on_to_hold(moments: int, starts: list[int]) -> None:
    holds = np.array([False, True, True, True, False, False, True, True])

    assert runs(holds, moments).tolist() == starts


def test_an_alarm_rings_when_it_has_held_long_enough() -> None:
    """Nothing comes but one bin of four from the second hour on, 600 rows an hour."""
    counts = np.zeros((3 * DAY, 4), np.int64)
    counts[:60] = 3
    counts[60:, 0] = 10
    baseline = Baseline(np.full(4, 0.25), 10_000)
    rung = {window.name: alarms(drift(counts, baseline, window), window).tolist() for window in WINDOWS}

    hour = drift(counts, baseline, WINDOWS[0])
    first = int(np.flatnonzero(hour.holds(0.25))[0])
    assert rung["1h"] == [(first + 1 + 30) / 60]
    assert rung["24h"] == [22 + 1.5]  # it must know 22 hours
    assert rung["7d"] == []


def test_the_model_is_what_the_budget_is_for() -> None:
    features = model()

    assert len([each for each in features if not each.name.startswith("output")]) == 20
    assert all(each.probabilities.sum() == pytest.approx(1) for each in features)


def test_traffic_has_the_volume_and_the_cycles_that_are_said() -> None:
    rows = traffic(np.random.default_rng(0), 1000, 4 * WEEK)
    by_day = rows.reshape(-1, 7, 24, 60).sum(axis=3).mean(axis=0)

    assert rows.sum() / (4 * WEEK) * 60 == pytest.approx(1000, rel=0.01)
    assert by_day[:5].sum() / 5 == pytest.approx(2.5 * by_day[5:].sum() / 2, rel=0.02)
    assert by_day[:5, 12].sum() == pytest.approx(10 * by_day[:5, 0].sum(), rel=0.1)


@pytest.mark.parametrize("size", [0.1, 1.0])
def test_shifts_have_the_size_that_is_said(size: float) -> None:
    now, then = shifted(delta_of(size))[:-2], shifted(0)[:-2]

    assert np.sum((now - then) * np.log(now / then)) == pytest.approx(size)


@pytest.mark.parametrize("rows_an_hour", [30, 300])
def test_four_weeks_without_drift_are_quiet(rows_an_hour: int) -> None:
    found = quiet(np.random.default_rng(1), rows_an_hour, 4 * WEEK)

    assert [found[window.name] for window in WINDOWS] == [0, 0, 0]
    assert found["bare 1h"] > 1000  # it is the rule that is good, not the traffic that is easy


def test_a_large_shift_is_found_within_hours() -> None:
    assert delays(np.random.default_rng(2), 5000, 1.0, 3).max() < 3
    assert Feature("x", shifted(0)).probabilities[:-2].min() > 0
