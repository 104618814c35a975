"""When a job is asked for: against rules written out anew here, and cron's own times one by one."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from contract.job import Cause, Job, Order, Refusal, State
from contract.retrain import METRICS, Retrain
from contract.trigger import Decision, Evidence, decide, due, learned, quiet_until, upcoming

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
LABELS = Evidence("labels", "on_labels = 5 is reached", "5 rows have got their label since job 1")
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
VIENNA = ZoneInfo("Europe/Vienna")
# Clocks there go forward at 2:00 on 29 March 2026, and back at 3:00 on 25 October.
FORWARD, BACK = datetime(2026, 3, 29, 1, 0, tzinfo=UTC), datetime(2026, 10, 25, 1, 0, tzinfo=UTC)


def retrain(**given: object) -> Retrain:
    return Retrain.model_validate({"on_labels": 5, **given})


def job(
    number: int,
    asked: datetime,
    state: State = "succeeded",
    hours: float = 1.0,
    cause: Cause = "labels",
    refusal: Refusal | None = None,
) -> Job:
    order = Order(model="m", config="{}", cause=cause, asked_by="test", why="test")
    ended = None if state in ("queued", "running") else asked.timestamp() + 3600 * hours
    return Job(
        id=number,
        state=state,
        order=order,
        attempts=1,
        asked_at=asked.timestamp(),
        not_before=asked.timestamp(),
        started_at=asked.timestamp(),
        ended_at=ended,
        refusal=refusal,
    )


def decided(*jobs: Job, at: datetime = NOW, evidence: Evidence = LABELS, **given: object) -> Decision:
    return decide(retrain(**given), sorted(jobs, key=lambda each: -each.id), at, evidence)


# What holds a job back


def test_where_nothing_holds_it_back_a_job_is_asked_for_at_once() -> None:
    assert decided() == Decision(asks=True, why="")


@pytest.mark.parametrize("state", ["queued", "running"])
def test_one_open_job(state: State) -> None:
    assert decided(job(1, NOW - 9 * HOUR), job(2, NOW, state)) == Decision(False, f"job 2 is {state}")


def test_a_cool_down_is_told_with_its_end_in_the_time_zone_of_the_config() -> None:
    held = decided(job(7, NOW - 3 * HOUR), cooldown="6h", timezone="Europe/Vienna")
    assert held == Decision(False, "cool-down after job 7, until 2026-11-22 17:00 CET")
    assert decided(job(7, NOW - 3 * HOUR), at=NOW + 4 * HOUR).asks


@pytest.mark.parametrize("state", ["succeeded", "refused", "failed", "cancelled"])
def test_every_end_of_a_job_begins_a_cool_down(state: State) -> None:
    assert decided(job(1, NOW - 2 * HOUR, state)).why.startswith("cool-down after job 1")


def test_the_jobs_of_a_day_are_counted_and_those_of_people_are_not() -> None:
    of_today = [job(i, NOW - (20 - 4 * i) * HOUR) for i in (1, 2)]
    held = decided(*of_today, cooldown="1h", most_a_day=2)
    assert held.why == "2 of 2 jobs a day are asked for, until 2026-11-22 20:00 UTC"
    assert decided(*of_today, cooldown="1h", most_a_day=3).asks
    assert decided(of_today[0], job(2, NOW - 9 * HOUR, cause="person"), cooldown="1h", most_a_day=2).asks


def test_what_began_before_a_job_ended_is_answered_by_it_unless_it_failed() -> None:
    ring = Evidence("drift", "HornpipeInputDrift rings", "it rings", NOW - 20 * HOUR)
    done = job(3, NOW - 19 * HOUR)
    assert decided(done, evidence=ring).why == "job 3 has answered it: it ended at 2026-11-21 18:00 UTC"
    assert decided(job(3, NOW - 22 * HOUR), evidence=ring).asks
    assert decided(job(3, NOW - 22 * HOUR, "running"), evidence=ring).why == "job 3 is running"
    assert decided(job(3, NOW - 19 * HOUR, "failed"), evidence=ring).asks
    assert decided(done, job(4, NOW - 10 * HOUR, "failed"), evidence=ring).why.startswith("job 3 has answered it")


def test_a_job_that_could_learn_nothing_from_its_data_has_answered_nothing_and_still_counts() -> None:
    """Drift may ring before the rows are there that tell what to do about it, and labels come for poisoned ones."""
    ring = Evidence("drift", "HornpipeInputDrift rings", "it rings", NOW - 20 * HOUR)
    for refusal in ("data", "nothing_new"):
        empty = job(3, NOW - 19 * HOUR, "refused", refusal=refusal)
        assert decided(empty, evidence=ring).asks
        assert decided(empty, evidence=ring, cooldown="24h").why.startswith("cool-down after job 3")
        assert decided(empty, evidence=ring, most_a_day=1).why.startswith("1 of 1 jobs a day")
        assert learned([empty]) is None
    judged = job(3, NOW - 19 * HOUR, "refused", refusal="gate")
    assert decided(judged, evidence=ring).why.startswith("job 3 has answered it")
    assert learned([judged]) == judged


jobs_of_two_days = st.lists(
    st.tuples(
        st.integers(0, 48 * 60),
        st.sampled_from(["succeeded", "refused", "failed", "cancelled"]),
        st.sampled_from(["labels", "schedule", "drift", "person"]),
        st.floats(0, 5),
    ),
    max_size=8,
)


@given(jobs_of_two_days, st.integers(0, 12), st.integers(1, 5))
def test_a_job_is_asked_for_exactly_where_neither_cool_down_nor_budget_forbids(
    told: list[tuple[int, State, Cause, float]], cooldown: int, most: int
) -> None:
    ordered = sorted(told, key=lambda each: -each[0])
    jobs = [job(i, NOW - ago * MINUTE, state, hours, cause) for i, (ago, state, cause, hours) in enumerate(ordered)]
    found = decided(*jobs, cooldown=f"{cooldown}h", most_a_day=most)
    cool = all(NOW.timestamp() >= (each.ended_at or 0) + cooldown * 3600 for each in jobs)
    today = [ago for ago, _, cause, _ in told if ago < 24 * 60 and cause != "person"]

    assert found.asks == (cool and len(today) < most)
    assert found.asks != bool(found.why)


@given(jobs_of_two_days, st.integers(0, 12), st.integers(1, 5))
def test_what_is_asked_for_whenever_it_may_be_never_breaks_the_rules(
    told: list[tuple[int, State, Cause, float]], cooldown: int, most: int
) -> None:
    """Two days, looked at every quarter of an hour, each job done in one."""
    config = retrain(cooldown=f"{cooldown}h", most_a_day=most)
    jobs: list[Job] = []
    for quarter in range(2 * 96):
        now = NOW + quarter * 15 * MINUTE
        if decide(config, jobs, now, LABELS).asks:
            jobs.insert(0, job(quarter, now, hours=0.25))
    times = [each.asked_at for each in reversed(jobs)]

    assert times
    assert all(after - before >= cooldown * 3600 + 900 for before, after in pairwise(times))
    assert all(after - before >= 86400 for before, after in zip(times, times[most:], strict=False))


# Quiet hours


def test_a_job_asked_for_in_quiet_hours_begins_after_them() -> None:
    found = decided(quiet_hours="08:00-18:00", timezone="Europe/Vienna")
    assert found == Decision(
        True, "it begins at 2026-11-22 18:00 CET, after the quiet hours", datetime(2026, 11, 22, 17, 0, tzinfo=UTC)
    )
    assert decided(quiet_hours="08:00-13:00", timezone="Europe/Vienna").not_before is None


def test_quiet_hours_over_midnight() -> None:
    config = retrain(quiet_hours="22:30-06:00")
    assert quiet_until(config, NOW) is None
    assert quiet_until(config, NOW + 11 * HOUR) == datetime(2026, 11, 23, 6, 0, tzinfo=UTC)
    assert quiet_until(config, NOW - 7 * HOUR) == datetime(2026, 11, 22, 6, 0, tzinfo=UTC)
    assert quiet_until(config, NOW - 6 * HOUR) is None  # as they end


def test_quiet_hours_that_end_while_clocks_are_turned() -> None:
    """On the night they go forward, 2:30 does not come: the first time that is not quiet is 3:00."""
    config = retrain(quiet_hours="23:00-02:30", timezone="Europe/Vienna")
    assert quiet_until(config, FORWARD - HOUR) == FORWARD
    # When they go back it comes twice, and between the two it is quiet again.
    assert quiet_until(config, BACK - HOUR) == BACK - 30 * MINUTE
    assert quiet_until(config, BACK) == BACK + 30 * MINUTE


@given(
    st.tuples(st.integers(0, 23), st.integers(0, 59)),
    st.tuples(st.integers(0, 23), st.integers(0, 59)),
    st.sampled_from([NOW, FORWARD, BACK]),
    st.integers(-2000, 2000),
)
def test_a_job_waits_for_the_first_minute_that_is_not_quiet(
    begins: tuple[int, int], ends: tuple[int, int], around: datetime, minutes: int
) -> None:
    if begins == ends:
        return
    hours = f"{begins[0]:02}:{begins[1]:02}-{ends[0]:02}:{ends[1]:02}"
    config, now = retrain(quiet_hours=hours, timezone="Europe/Vienna"), around + minutes * MINUTE

    def quiet(at: datetime) -> bool:
        wall = (at.astimezone(VIENNA).hour, at.astimezone(VIENNA).minute)
        return begins <= wall < ends if begins < ends else not ends <= wall < begins

    found = quiet_until(config, now)
    if found is None:
        assert not quiet(now)
    else:
        waited = int((found - now) / MINUTE)
        assert 0 < waited < 26 * 60
        assert all(quiet(now + i * MINUTE) for i in range(waited))
        assert not quiet(found)


# The schedule


def test_a_schedule_is_due_once_however_much_was_missed() -> None:
    nightly = retrain(schedule="0 3 * * *")
    assert due(nightly, NOW - 8 * HOUR, NOW) is None
    assert due(nightly, NOW - 10 * HOUR, NOW) == datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
    assert due(nightly, NOW - 300 * 24 * HOUR, NOW) == datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
    assert due(nightly, datetime(2026, 11, 22, 3, 0, tzinfo=UTC), NOW) is None
    assert due(retrain(), NOW - 10 * HOUR, NOW) is None
    assert due(nightly, NOW + HOUR, NOW) is None  # the clock was set back


def test_a_schedule_keeps_to_the_clocks_on_the_wall() -> None:
    monday = retrain(schedule="0 3 * * 1", timezone="Europe/Vienna")
    assert upcoming(monday, datetime(2026, 3, 25, tzinfo=UTC)) == datetime(2026, 3, 30, 1, 0, tzinfo=UTC)
    assert upcoming(monday, datetime(2026, 10, 24, tzinfo=UTC)) == datetime(2026, 10, 26, 2, 0, tzinfo=UTC)
    assert upcoming(retrain(), NOW) is None


def looks(config: Retrain, first: datetime, minutes: Sequence[int]) -> list[datetime]:
    """What a schedule was due for, to one who looks after so many minutes each."""
    found, last, now = [], first, first
    for pause in minutes:
        now += pause * MINUTE
        if (at := due(config, last, now)) is not None:
            found.append(at)
            last = at
    return found


def test_a_time_that_is_skipped_comes_after_the_gap_and_one_that_comes_twice_counts_once() -> None:
    half_past_two = retrain(schedule="30 2 * * *", timezone="Europe/Vienna")
    assert looks(half_past_two, FORWARD - 4 * HOUR, [1] * 600) == [FORWARD]
    assert looks(half_past_two, BACK - 4 * HOUR, [1] * 600) == [BACK - 30 * MINUTE]
    assert looks(half_past_two, BACK, [1] * 600) == []  # the second time has been seen the first


def cron_field(most: int) -> st.SearchStrategy[str]:
    number = st.integers(0, most)
    return st.one_of(st.just("*"), number.map(str), st.sampled_from(["*/5", "*/3"]))


@given(
    st.tuples(cron_field(59), cron_field(23)),
    st.sampled_from(["Europe/Vienna", "America/New_York", "UTC"]),
    st.sampled_from([NOW, FORWARD, BACK, datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)]),
    st.lists(st.integers(1, 400), min_size=1, max_size=12),
)
def test_no_time_of_a_schedule_is_missed_and_none_comes_twice(
    fields: tuple[str, str], zone: str, around: datetime, minutes: list[int]
) -> None:
    """As crond would find them one by one, from days before; of those between two looks the last."""
    config = retrain(schedule=f"{fields[0]} {fields[1]} * * *", timezone=zone)
    first = around - 12 * HOUR
    ends, times = first + sum(minutes) * MINUTE, []
    for each in CronSim(config.schedule or "", (first - 72 * HOUR).astimezone(ZoneInfo(zone))):
        if (at := each.astimezone(UTC)) > ends:
            break
        times.append(at)
    expected, now = [], first
    for pause in minutes:
        between = [at for at in times if now < at <= now + pause * MINUTE]
        expected += between[-1:]
        now += pause * MINUTE

    assert looks(config, first, minutes) == expected


# The section itself


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"schedule": "0 3 * * 1 5"}, "a cron expression of five fields"),
        ({"schedule": "0 30 * * *"}, "Bad hour"),
        ({"schedule": "0 0 30 2 *"}, "a cron expression"),
        ({"timezone": "Mars/Olympus"}, "a time zone such as Europe/Vienna"),
        ({"quiet_hours": "08:00-08:00"}, "two different times of day"),
        ({"quiet_hours": "8-18"}, "two different times of day"),
        ({"cooldown": "6 hours"}, "a number with m, h or d"),
        ({"most_a_day": 0}, "greater than or equal to 1"),
        ({"on_quality": {"metric": "auc", "bound": 0.7}}, "expected one of roc_auc"),
        ({"on_labels": None}, "at least one of schedule, on_drift, on_labels, on_quality"),
        ({"on_drfit": True}, "Extra inputs"),
    ],
)
def test_what_is_wrong_with_a_section_is_said(given: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        retrain(**given)


def test_every_metric_of_labels_may_be_asked_for() -> None:
    for metric in METRICS:
        assert retrain(on_quality={"metric": metric, "bound": 1}).on_quality
