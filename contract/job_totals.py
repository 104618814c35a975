"""The job table as a whole: what waits, what runs, and what came of every job that ever ended.

Read only, from one moment of the file, and by an index alone: orders and logs are not looked at. What has ended only
grows, also when rows are deleted (contract/jobs.py adds them up), so it can be shown as counters.
"""

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from urllib.parse import quote

from contract.job import Refusal, State
from contract.job_row import refusal_of
from contract.jobs import JobError

# Whoever writes does so for milliseconds; who only looks does not wait for more.
BUSY_SECONDS = 1.0

_OPEN = "SELECT model, state, asked_at, not_before, started_at, progress FROM job WHERE state IN ('queued', 'running')"
_ENDED = """
SELECT model, state, sum(jobs), sum(attempts), sum(milliseconds), max(last) FROM (
    SELECT model, state, count(*) AS jobs, sum(attempts) AS attempts, max(ended_at) AS last,
        sum(max(0, CAST(1000 * (ended_at - coalesce(started_at, ended_at)) AS INTEGER))) AS milliseconds
    FROM job INDEXED BY jobs_by_outcome WHERE ended_at IS NOT NULL GROUP BY model, state
    UNION ALL SELECT model, state, jobs, attempts, last, milliseconds FROM past
) GROUP BY model, state
"""
_SINCE = "SELECT count(*) FROM job WHERE model = ? AND state = ? AND ended_at > ?"
_REFUSED_SINCE = """
SELECT {} FROM job WHERE model = ? AND state = 'refused' AND ended_at > ? ORDER BY ended_at DESC, id DESC
"""


@dataclass(frozen=True)
class OpenJob:
    """One that waits or runs. Times in seconds since 1970: `since` is from when on it could have begun, or when its
    first attempt did; `progress_at` when it last got on, None where it has not said so yet."""

    model: str
    state: State
    since: float
    progress_at: float | None


@dataclass(frozen=True)
class Outcome:
    """The jobs of a model that ended alike: their number, attempts, seconds from the first attempt to the end, and when
    the last of them ended. `in_a_row` is how many of the newest ended so, cancelled ones aside; of refused ones, how
    many were refused by whom the newest was, which is `refusal`."""

    model: str
    state: State
    jobs: int
    attempts: int
    seconds: float
    last: float
    in_a_row: int
    refusal: Refusal | None = None


@dataclass(frozen=True)
class Totals:
    """Of the whole table."""

    open: tuple[OpenJob, ...] = ()
    ended: tuple[Outcome, ...] = ()


def read(path: Path) -> Totals:
    """Nothing where there is no table yet. Raises JobError where it cannot be read now."""
    if not path.exists():
        return Totals()
    try:
        with closing(sqlite3.connect(_address(path), uri=True, timeout=BUSY_SECONDS, isolation_level=None)) as file:
            file.execute("BEGIN")  # one moment for all that is read
            return Totals(tuple(_open(row) for row in file.execute(_OPEN)), _ended(file))
    except sqlite3.Error as error:
        raise JobError(f"{path}: the job table cannot be read: {error}") from error


def _address(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}?mode=ro"


def _open(row: tuple[str, State, float, float, float | None, str]) -> OpenJob:
    model, state, asked_at, not_before, started_at, progress = row
    if state == "queued":
        return OpenJob(model, state, max(asked_at, not_before), None)
    return OpenJob(model, state, started_at or asked_at, _progress_at(progress))


def _progress_at(progress: str) -> float | None:
    try:
        at = json.loads(progress).get("at")
    except (ValueError, AttributeError):  # another Hornpipe's words
        return None
    return at if isinstance(at, float) and math.isfinite(at) else None


def _ended(file: sqlite3.Connection) -> tuple[Outcome, ...]:
    rows = file.execute(_ENDED).fetchall()
    last = {(model, state): at for model, state, *_, at in rows}
    return tuple(
        Outcome(model, state, jobs, attempts, milliseconds / 1000, at, *_in_a_row(file, model, state, last))
        for model, state, jobs, attempts, milliseconds, at in rows
    )


def _in_a_row(
    file: sqlite3.Connection, model: str, state: str, last: Mapping[tuple[str, str], float]
) -> tuple[int, Refusal | None]:
    """Of rows that are kept, since one of the model ended otherwise."""
    others = _last(at for (of, how), at in last.items() if of == model and how not in (state, "cancelled"))
    if state == "cancelled" or last[model, state] <= others:
        return 0, None
    if state == "refused":
        return _refused_in_a_row(file, model, others)
    (found,) = file.execute(_SINCE, (model, state, others)).fetchone()
    return int(found), None


def _refused_in_a_row(file: sqlite3.Connection, model: str, since: float) -> tuple[int, Refusal | None]:
    """In a file that nobody has written to since only the gate refused, there is no such column yet."""
    there = any(name == "refusal" for _, name, *_ in file.execute("PRAGMA table_info(job)"))
    rows = file.execute(_REFUSED_SINCE.format("refusal" if there else "NULL"), (model, since)).fetchall()
    refusals = [refusal_of(said) for (said,) in rows]
    if not refusals:
        return 0, None
    return len(list(takewhile(lambda each: each == refusals[0], refusals))), refusals[0]


def _last(times: Iterable[float]) -> float:
    return max(times, default=0.0)
