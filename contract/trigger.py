"""Whether a job is asked for: a model's `[retrain]`, its jobs so far and the time, weighed against what was seen.

Nothing here reads a file or a clock. Times are aware; they are compared in UTC, for two times of one zone that has
daylight saving compare by what the clocks on the wall show.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim

from contract.job import OPEN, Cause, Job
from contract.retrain import Retrain

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
# How far back a schedule is first looked at, and how many times as far after that.
FIRST_REACH = timedelta(hours=1)
FARTHER = 4


class Evidence(NamedTuple):
    """What speaks for training again. `what` is the wish of the config that is met, in the same words at every look;
    `why` has the numbers of now. `since` is when it came about: a job that has ended later has answered it."""

    cause: Cause
    what: str
    why: str
    since: datetime | None = None


class Decision(NamedTuple):
    """Whether a job is asked for; `why` says what holds it back or off. `not_before` is when it may begin, in UTC; None
    for at once."""

    asks: bool
    why: str
    not_before: datetime | None = None


def decide(retrain: Retrain, jobs: Sequence[Job], now: datetime, evidence: Evidence) -> Decision:
    """`jobs` are the model's newest, the newest first: all of the last 24 hours, and the last that has ended."""
    now = now.astimezone(UTC)
    held = (
        _open(jobs) or _answered(retrain, jobs, evidence) or _cooling(retrain, jobs, now) or _spent(retrain, jobs, now)
    )
    if held is not None:
        return Decision(asks=False, why=held)
    begins = quiet_until(retrain, now)
    if begins is None:
        return Decision(asks=True, why="")
    return Decision(True, f"it begins at {retrain.said(begins)}, after the quiet hours", begins)


def due(retrain: Retrain, last: datetime, now: datetime) -> datetime | None:
    """The latest time of the schedule after `last` and until `now`, in UTC; None where there is none. However many have
    passed, this is one.

    Daylight saving as of Debian's cron: a time of day that is skipped comes right after the gap, one that comes twice
    counts once (cronsim, "DST handling").
    """
    last, now, reach = last.astimezone(UTC), now.astimezone(UTC), FIRST_REACH
    while last < now:
        start = max(last, now - reach)
        if (found := _latest(retrain, start, now)) is not None or start == last:
            return found
        reach *= FARTHER
    return None


def upcoming(retrain: Retrain, now: datetime) -> datetime | None:
    """When the schedule is due next, in UTC; None where there is no schedule."""
    if retrain.schedule is None:
        return None
    now = now.astimezone(UTC)
    times = (each.astimezone(UTC) for each in CronSim(retrain.schedule, now.astimezone(ZoneInfo(retrain.timezone))))
    return next((each for each in times if each > now), None)


def quiet_until(retrain: Retrain, now: datetime) -> datetime | None:
    """When the quiet hours that it is in are over, in UTC; None where it is in none.

    Minute by minute, for the clocks on the wall may be turned in the meantime.
    """
    if not retrain.quiet_at(now):
        return None
    at = now.astimezone(UTC).replace(second=0, microsecond=0)
    while retrain.quiet_at(at):
        at += MINUTE
    return at


def learned(jobs: Sequence[Job]) -> Job | None:
    """The newest job that has not failed, nor was refused its data: what has come before it has had its turn."""
    return next((job for job in jobs if job.state != "failed" and job.refusal not in ("data", "nothing_new")), None)


def _latest(retrain: Retrain, start: datetime, now: datetime) -> datetime | None:
    if retrain.schedule is None:
        return None
    found = None
    for each in CronSim(retrain.schedule, start.astimezone(ZoneInfo(retrain.timezone))):
        at = each.astimezone(UTC)
        if at > now:
            return found
        if at > start:  # in an hour that comes twice, cronsim goes by the first
            found = at
    return found


def _open(jobs: Sequence[Job]) -> str | None:
    return next((f"job {job.id} is {job.state}" for job in jobs if job.state in OPEN), None)


def _answered(retrain: Retrain, jobs: Sequence[Job], evidence: Evidence) -> str | None:
    job = learned(jobs)
    if job is None or job.ended_at is None or evidence.since is None or job.ended_at < evidence.since.timestamp():
        return None
    return f"job {job.id} has answered it: it ended at {retrain.said(_time(job.ended_at))}"


def _cooling(retrain: Retrain, jobs: Sequence[Job], now: datetime) -> str | None:
    """After whatever job, and however it ended."""
    ended = [(job.ended_at, job.id) for job in jobs if job.ended_at is not None]
    if not ended:
        return None
    last, number = max(ended)
    until = _time(last) + retrain.cooldown_time
    return f"cool-down after job {number}, until {retrain.said(until)}" if now < until else None


def _spent(retrain: Retrain, jobs: Sequence[Job], now: datetime) -> str | None:
    """What people ask for is theirs to count."""
    asked = sorted((_time(job.asked_at) for job in jobs if job.order.cause != "person"), reverse=True)
    recent = [at for at in asked if now - at < DAY]
    if len(recent) < retrain.most_a_day:
        return None
    until = recent[retrain.most_a_day - 1] + DAY
    return f"{len(recent)} of {retrain.most_a_day} jobs a day are asked for, until {retrain.said(until)}"


def _time(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
