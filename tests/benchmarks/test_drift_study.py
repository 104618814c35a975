"""When alarms would have rung, against going through the hours one by one."""

from datetime import date

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.drift_rules import Baseline
from benchmarks.drift_study_data import Stream
from benchmarks.drift_study_replay import Replayed
from benchmarks.drift_study_verdicts import periods, ringing, verdicts
from contract.drift import drift

DAYS, AWAY = 24, (9, 10, 11, 12, 17)
FEATURE = "distance"
NOTHING = np.empty(0, np.float32)
RATIOS = np.r_[0.001, np.full(8, 0.122), 0.001, 0.02, 0.002]
BASELINE = Baseline(RATIOS, 5000)


def stream(name: str = "asked") -> Stream:
    return Stream(name, date(2013, 9, 1), pa.table({"outcome": []}), np.array([24 * DAYS - 1]))


@pytest.fixture
def hourly() -> np.ndarray:
    """Three weeks and more in which the values move up twice, for a while."""
    rng = np.random.default_rng(5)
    moved = RATIOS * np.linspace(0, 3, len(RATIOS)) ** 3
    days = np.arange(24 * DAYS) // 24
    away = np.isin(days, AWAY)
    rows = rng.poisson(25, 24 * DAYS)
    return np.where(away[:, None], rng.multinomial(rows, moved / moved.sum()), rng.multinomial(rows, RATIOS))


def test_alarms_ring_when_going_through_the_hours_says_so(hourly: np.ndarray) -> None:
    expected = []
    for window, hours, known in (("24h", 24, 22), ("7d", 168, 160)):
        held, begins = 0, None
        for hour in range(24 * DAYS):
            counts = hourly[max(0, hour + 1 - hours) : hour + 1].sum(axis=0)
            found = drift(counts, RATIOS.tolist(), BASELINE.rows)
            held = held + 1 if found.drifted and counts.sum() >= 200 and hour + 1 >= known else 0
            if (
                held == 2
            ):  # the condition has been looked at anew after an hour: half an hour later it has lasted 90 minutes
                begins = hour + 1.5
            if not held and begins is not None:
                expected.append((FEATURE, window, begins, hour + 1.0))
                begins = None
        if begins is not None:
            expected.append((FEATURE, window, begins, None))

    rung = [each[1:] for each in ringing(stream(), Replayed(NOTHING, {FEATURE: hourly}, {}), {FEATURE: BASELINE})]

    assert [each for each in rung if each[1] != "1h"] == expected
    assert {each[1] for each in expected} == {"24h", "7d"}
    assert len(expected) >= 3


def test_verdicts_are_of_whole_days_and_weeks(hourly: np.ndarray) -> None:
    found = list(verdicts(stream(), Replayed(NOTHING, {FEATURE: hourly}, {}), {FEATURE: BASELINE}))

    days = [each for each in found if each.period == "day"]
    assert len(days) == DAYS
    assert [each.window for each in days if each.drifted] == list(AWAY)
    assert sum(each.period == "week" for each in found) == DAYS // 7
    assert periods(hourly, 168).sum() == hourly[: 168 * (DAYS // 7)].sum()
