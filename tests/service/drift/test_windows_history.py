"""Windows told from totals, held against the rows themselves, added up one by one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from service.drift.history import SPANS, WINDOWS, History, Sample, Window

START = 1_700_000_123.0
# Seconds until the next look, and rows by bin that have come meanwhile.
LOOKS = st.lists(
    st.tuples(st.floats(1, 20_000), st.tuples(st.integers(0, 50), st.integers(0, 50)), st.booleans()), max_size=60
)


def begun() -> History:
    return History.begun(START, 2)


def count(*rows: int) -> np.ndarray:
    return np.array(rows, np.int64)


@settings(max_examples=200)
@given(LOOKS)
def test_a_window_has_the_rows_since_it_began(looks: list[tuple[float, tuple[int, int], bool]]) -> None:
    """Also when the counters begin anew in between, which is seen when they are less than they were."""
    history, now, raw = begun(), START, count(0, 0)
    came: list[Sample] = []
    for seconds, rows, restarts in looks:
        now += seconds
        more = count(*rows)
        came.append(Sample(now, more))
        began_anew = restarts and bool((more < raw).any())
        raw = more if began_anew else raw + more
        history.look(now, raw)

    for window in WINDOWS:
        found = history.rows(window, now, raw)
        expected = sum((each.total for each in came if each.time > found.since), count(0, 0))
        assert found.counts.tolist() == expected.tolist()
        assert found.until == now


@given(st.integers(1, 400), st.floats(1, 299))
def test_a_window_is_as_long_as_it_says_and_a_step_more_at_most(looks: int, every: float) -> None:
    """Where somebody looks at least once a step."""
    history, now = begun(), START
    for _ in range(looks):
        now += every
        history.look(now, count(0, 0))

    for window, span in SPANS.items():
        long = now - history.rows(window, now, count(0, 0)).since
        assert long <= span.seconds + span.step + every
        assert long >= min(span.seconds, now - START)


def test_memory_is_bounded() -> None:
    history = begun()
    for i in range(5000):
        history.look(START + 301.0 * i, count(i, i))

    assert [len(history.samples[window]) for window in WINDOWS] == [14, 26]


def rows(history: History, window: Window, now: float, raw: np.ndarray) -> list[int]:
    return history.rows(window, now, raw).counts.tolist()


def test_what_has_come_since_the_last_look_is_there() -> None:
    history = begun()
    history.look(START + 10, count(3, 0))

    assert rows(history, "1h", START + 12, count(5, 1)) == [5, 1]
    assert history.last.total.tolist() == [3, 0]


def test_rows_of_before_the_machine_was_off_leave_in_time() -> None:
    """Off for two hours: the hour has only what came since, the day has both."""
    history = begun()
    history.look(START + 200, count(7, 0))
    history.began_anew()
    now = START + 2 * 3600
    history.look(now, count(0, 2))

    assert rows(history, "1h", now, count(0, 2)) == [0, 2]
    assert rows(history, "24h", now, count(0, 2)) == [7, 2]


def test_another_run_counts_from_nothing_though_it_has_counted_more_already() -> None:
    history = begun()
    history.look(START + 10, count(3, 3))
    history.began_anew()
    history.look(START + 20, count(5, 5))

    assert history.last.total.tolist() == [8, 8]


def test_a_clock_that_is_set_back_loses_no_rows() -> None:
    history = begun()
    for i in range(1, 5):
        history.look(START + 3600.0 * i, count(i, 0))
    back = START - 7200
    history.look(back, count(9, 0))

    assert rows(history, "24h", back, count(9, 0)) == [9, 0]
    found = history.rows("1h", back + 1, count(9, 0))
    assert found.since <= found.until == back + 1
    for i in range(1, 40):  # they age from here
        history.look(back + 300.0 * i, count(9, 0))
    assert rows(history, "1h", back + 300 * 39, count(9, 0)) == [0, 0]
