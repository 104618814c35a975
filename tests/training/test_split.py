"""Every rule against what it promises: no row twice, none lost, the shares asked for, and the same again."""

from datetime import date, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import kstest

from training import split
from training.sections import GroupSplit, OrderSplit, RandomSplit, Split, TimeSplit
from training.sources.moments import extent

RANDOM = RandomSplit(by="random", validation=0.1, test=0.25)
GROUP = GroupSplit(by="group", validation=0.1, test=0.25, column="customer")
ORDER = OrderSplit(by="order", validation=0.1, test=0.25)
TIME = TimeSplit(by="time", column="day", validation_from=date(2024, 3, 1), test_from=date(2024, 4, 1))


def assigned(rule: Split, rows: int, column: pa.ChunkedArray | None, cuts: list[int], seed: int = 0) -> np.ndarray:
    """The parts of all rows when they stream by in batches that end at `cuts`."""
    ends = [0, *sorted(cut % (rows + 1) for cut in cuts), rows]
    batches = [
        split.assign(rule, seed, a, b - a, rows, None if column is None else column.slice(a, b - a))
        for a, b in pairwise(ends)
    ]
    return np.concatenate(batches)


@given(st.integers(1, 500), st.floats(0.01, 0.5), st.floats(0.01, 0.45), st.integers(0, 2**32), st.integers(1, 5))
def test_a_random_split_gives_each_class_its_share_to_within_two_rows(
    rows: int, validation: float, test: float, seed: int, classes: int
) -> None:
    rule = RandomSplit(by="random", validation=validation, test=test)
    strata = np.random.default_rng(seed).integers(0, classes, rows).astype(np.int32)
    parts = split.parts(rule, seed, rows, None, strata)

    assert sorted(np.concatenate(parts)) == list(range(rows))
    assert len(parts[2]) == int(np.floor(rows * test + 0.5))
    for part, share in zip(parts[1:], (validation, test), strict=True):
        assert abs(len(part) - rows * share) <= 1
        for name in range(classes):
            assert abs((strata[part] == name).sum() - (strata == name).sum() * share) <= 2


def test_a_random_split_is_as_random_as_it_says() -> None:
    """Each row is in the test part a quarter of the time, whatever its place and class."""
    strata = np.repeat([0, 1], [300, 100]).astype(np.int32)
    counts = np.zeros(400)
    for seed in range(2000):
        counts[split.parts(RANDOM, seed, 400, None, strata)[2]] += 1

    # 2,000 draws of a quarter: standard deviation 19.4, and 400 of them stay within 4.5 of these.
    assert np.abs(counts - 500).max() < 4.5 * np.sqrt(2000 * 0.25 * 0.75)


def test_another_seed_splits_otherwise() -> None:
    first, second = (split.parts(RANDOM, seed, 400, None, None)[2] for seed in (0, 1))

    assert not np.array_equal(first, second)


@given(st.integers(1, 60), st.integers(0, 2**32))
def test_a_group_is_in_one_part(groups: int, seed: int) -> None:
    customers = np.random.default_rng(seed).integers(0, groups, 300)
    column = pa.chunked_array([customers[:100], customers[100:]])
    parts = split.parts(GROUP, seed, 300, column, None)

    assert sorted(np.concatenate(parts)) == list(range(300))
    assert sum(len(np.unique(customers[part])) for part in parts) == len(np.unique(customers))
    assert len(parts[2]) - 300 * 0.25 < np.bincount(customers).max()


@given(st.lists(st.integers(0, 1000)), st.integers(0, 2**32))
def test_streamed_groups_stay_together_however_they_are_cut(cuts: list[int], seed: int) -> None:
    customers = pa.chunked_array([[f"c{i % 97}" for i in range(500)]])
    parts = assigned(GROUP, 500, customers, cuts, seed)

    np.testing.assert_array_equal(parts, assigned(GROUP, 500, customers, [], seed))
    assert all(len(set(parts[i::97])) == 1 for i in range(97))


@given(st.lists(st.integers(0, 1000)), st.integers(0, 2**32))
def test_a_streamed_random_split_does_not_depend_on_the_batches(cuts: list[int], seed: int) -> None:
    np.testing.assert_array_equal(assigned(RANDOM, 500, None, cuts, seed), assigned(RANDOM, 500, None, [], seed))


@pytest.mark.parametrize(
    ("rule", "column"), [(RANDOM, None), (GROUP, pa.chunked_array([np.arange(100_000)]))], ids=["random", "group"]
)
def test_streamed_parts_have_their_shares(rule: Split, column: pa.ChunkedArray | None) -> None:
    counts = np.bincount(assigned(rule, 100_000, column, []))

    np.testing.assert_allclose(counts / 100_000, [0.65, 0.1, 0.25], atol=0.006)  # four standard deviations


@pytest.mark.parametrize("seed", [0, 1, 2**63])
def test_hashes_of_places_are_evenly_spread(seed: int) -> None:
    hashes = split.hash_places(10**9, 50_000, seed)
    neighbours = np.corrcoef(hashes[:-1].astype(float), hashes[1:].astype(float))[0, 1]

    assert kstest(hashes / 2.0**64, "uniform").pvalue > 0.001
    assert abs(neighbours) < 0.02


def test_the_order_split_keeps_the_order() -> None:
    parts = split.parts(ORDER, 0, 200, None, None)

    assert [(part[0], part[-1]) for part in parts] == [(0, 129), (130, 149), (150, 199)]
    np.testing.assert_array_equal(assigned(ORDER, 200, None, [3, 140]), np.repeat([0, 1, 2], [130, 20, 50]))


def test_the_time_split_counts_the_first_day_of_a_part_to_it() -> None:
    days = [datetime(2024, 2, 29, 23, 59), datetime(2024, 3, 1), datetime(2024, 3, 31, 23), datetime(2024, 4, 1)]
    parts = split.parts(TIME, 0, 4, pa.chunked_array([days]), None)

    assert [part.tolist() for part in parts] == [[0], [1, 2], [3]]


def test_gaps_matter_where_the_split_goes_by_the_column() -> None:
    assert split.gaps(GROUP, 3) == ["customer: 3 values are missing, and the split goes by it"]
    assert split.gaps(GROUP, 0) == split.gaps(RANDOM, 3) == []


def test_empty_parts_are_named() -> None:
    assert split.empty_parts([5, 0, 1]) == ["split: no rows to validation"]


SPANS = TimeSplit(by="time", column="day", validation="14d", test="28d")
DAYS = st.lists(st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1)), min_size=1, max_size=60)
PIECES = st.sampled_from(["90m", "12h", "1d", "14d", "365d"])


@given(DAYS, PIECES, PIECES, st.sampled_from([pa.timestamp("us"), pa.timestamp("ns", "UTC"), pa.date32()]))
def test_nothing_that_trains_is_newer_than_what_validates_and_nothing_of_that_newer_than_what_tests(
    times: list[datetime], validation: str, test: str, kind: pa.DataType
) -> None:
    rule = TimeSplit(by="time", column="day", validation=validation, test=test)
    column = pa.chunked_array([times[:20], times[20:]], pa.timestamp("us")).cast(kind, safe=False)
    parts = split.parts(rule, 0, len(times), column, None)
    values = column.cast(pa.timestamp("us"), safe=False).to_numpy()

    assert sorted(np.concatenate(parts)) == list(range(len(times)))
    assert len(parts[2]) >= 1
    in_order = [values[part] for part in parts if len(part)]
    assert all(older.max() < newer.min() for older, newer in pairwise(in_order))


@given(DAYS, st.dates(date(2000, 1, 1), date(2029, 1, 1)), st.integers(1, 400))
def test_so_it_is_with_dates(times: list[datetime], validation_from: date, days: int) -> None:
    test_from = validation_from + timedelta(days=days)
    rule = TimeSplit(by="time", column="day", validation_from=validation_from, test_from=test_from)
    parts = split.parts(rule, 0, len(times), pa.chunked_array([times]), None)
    values = np.array(times, "datetime64[us]")

    in_order = [values[part] for part in parts if len(part)]
    assert all(older.max() < newer.min() for older, newer in pairwise(in_order))


@given(DAYS, st.sampled_from(["America/New_York", "Asia/Kolkata"]), st.sampled_from(["us", "ns"]))
@example([datetime(2024, 3, 10, 6, 59), datetime(2024, 3, 10, 7), datetime(2024, 3, 11, 3)], "America/New_York", "us")
def test_the_zone_that_times_are_shown_in_changes_nothing(times: list[datetime], zone: str, unit: str) -> None:
    """Not even where clocks go forward: dates begin at midnight in UTC, as those of data.window do."""
    plain = pa.chunked_array([times], pa.timestamp(unit))
    there = plain.cast(pa.timestamp(unit, "UTC")).cast(pa.timestamp(unit, zone))
    day = times[0].date()
    dates = TimeSplit(by="time", column="day", validation_from=day, test_from=day + timedelta(days=1))

    for rule in (dates, SPANS):
        expected = split.parts(rule, 0, len(times), plain, None)
        for mine, other in zip(split.parts(rule, 0, len(times), there, None), expected, strict=True):
            np.testing.assert_array_equal(mine, other)


def test_spans_of_days_have_so_many_days() -> None:
    days = [date(2024, 1, 1) + timedelta(days=i) for i in range(100)]
    parts = split.parts(SPANS, 0, 100, pa.chunked_array([days]), None)

    assert [(part[0], part[-1]) for part in parts] == [(0, 57), (58, 71), (72, 99)]


@given(st.lists(st.integers(0, 200)))
def test_streamed_spans_go_by_the_newest_of_all_rows(cuts: list[int]) -> None:
    days = pa.chunked_array([[date(2024, 1, 1) + timedelta(days=i) for i in range(100)]])
    newest = 1712620800 * 1_000_000  # 2024-04-09
    ends = [0, *sorted(cut % 101 for cut in cuts), 100]
    batches = [split.assign(SPANS, 0, a, b - a, 100, days.slice(a, b - a), newest) for a, b in pairwise(ends)]

    np.testing.assert_array_equal(np.concatenate(batches), np.repeat([0, 1, 2], [58, 14, 28]))


def test_empty_parts_say_when_the_rows_are() -> None:
    at = [date(2024, 1, 1), date(2024, 1, 20)]
    times = extent(pa.chunked_array([at]))

    assert split.empty_parts([0, 0, 9], SPANS, times)[0] == (
        "split: no rows to train: they are of 2024-01-01 to 2024-01-20, those after 2023-12-09 validate, those"
        " after 2023-12-23 test"
    )
