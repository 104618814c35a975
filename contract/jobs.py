"""The job table: one SQLite file on the volume that services and workers share.

Every change is one transaction that takes the file's write lock first, so two workers never get one job. A worker
holds its job by a lease, which it renews; whoever looks for work after a lease has run out takes the job over. A worker
that was thought dead, and comes back, finds that its job is no longer its own: each claim has a token.

WAL needs shared memory, so all processes run on one machine (https://www.sqlite.org/wal.html).
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

from contract.errors import HornpipeError
from contract.job import OPEN, Job, Line, Order, Progress, State

BUSY_SECONDS = 30.0
# After a failure that may pass, the first pause; it doubles with every attempt.
FIRST_PAUSE = 30.0
LONGEST_PAUSE = 3600.0
# Of a job's log, so many lines are kept: the newest.
MOST_LINES = 5000
LONGEST_LINE = 2000

# What a worker is told when it renews its lease.
Told = Literal["go on", "stop", "lost"]

_LAYOUT = """
CREATE TABLE IF NOT EXISTS job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    model TEXT NOT NULL,
    state TEXT NOT NULL,
    wish TEXT NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0,
    asked_at REAL NOT NULL,
    not_before REAL NOT NULL,
    worker TEXT,
    token INTEGER NOT NULL DEFAULT 0,
    lease_until REAL,
    started_at REAL,
    ended_at REAL,
    cancelling INTEGER NOT NULL DEFAULT 0,
    progress TEXT NOT NULL DEFAULT '{}',
    result TEXT,
    error TEXT
);
CREATE UNIQUE INDEX IF NOT EXISTS one_open_job_a_model ON job (model) WHERE state IN ('queued', 'running');
CREATE INDEX IF NOT EXISTS jobs_by_state ON job (state, not_before);
CREATE TABLE IF NOT EXISTS line (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    job INTEGER NOT NULL REFERENCES job (id) ON DELETE CASCADE,
    at REAL NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS lines_by_job ON line (job, number);
"""


_OPEN_OF_MODEL = "SELECT id FROM job WHERE model = ? AND state IN ('queued', 'running')"
_CLAIM = """
UPDATE job SET state = 'running', worker = ?, token = token + 1, lease_until = ?, attempts = attempts + 1,
    started_at = coalesce(started_at, ?) WHERE id = ?
"""
_RENEW = """
UPDATE job SET lease_until = ?, progress = coalesce(?, progress)
WHERE id = ? AND state = 'running' AND token = ? RETURNING cancelling
"""
_BACK = """
UPDATE job SET state = 'queued', worker = NULL, lease_until = NULL, not_before = ?, attempts = ?, error = ? WHERE id = ?
"""
_END = """
UPDATE job SET state = ?, result = ?, error = ?, ended_at = ?, worker = NULL, lease_until = NULL WHERE id = ?
"""
_DROP_OLD_LINES = """
DELETE FROM line WHERE job = ?1
AND number <= (SELECT number FROM line WHERE job = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)
"""


class JobError(HornpipeError):
    """The wish cannot be carried out; nothing was changed."""


class UnknownJob(JobError):
    """There is no job of that number."""


class JobEnded(JobError):
    """Too late, or too early: what is asked for is not for a job in this state."""


class OpenJob(JobError):
    """The model has a job that is queued or running: `job` is its number."""

    def __init__(self, model: str, job: int) -> None:
        super().__init__(f"{model} already has an open job, number {job}")
        self.job = job


class Jobs:
    """The table. An instance is for one thread; the file is for any number of processes. `clock` gives seconds."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        """Raises JobError when the file cannot be opened or is none of ours."""
        self._clock = clock
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            self._file.row_factory = sqlite3.Row
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = FULL")  # what was said to be done is done, whatever loses power
            self._file.execute("PRAGMA foreign_keys = ON")
            self._file.executescript(f"BEGIN IMMEDIATE; {_LAYOUT} COMMIT;")
        except (OSError, sqlite3.Error) as error:
            raise JobError(f"{path}: the job table cannot be opened: {error}") from error

    def close(self) -> None:
        self._file.close()

    # Who asks

    def ask(self, order: Order) -> Job:
        """Queue a job. Raises OpenJob where the model has one already."""
        now = self._clock()
        with self._writing() as file:
            if found := file.execute(_OPEN_OF_MODEL, (order.model,)).fetchone():
                raise OpenJob(order.model, found["id"])
            cursor = file.execute(
                "INSERT INTO job (model, state, wish, asked_at, not_before) VALUES (?, 'queued', ?, ?, ?)",
                (order.model, order.model_dump_json(), now, now),
            )
        return self.get(int(cursor.lastrowid or 0))

    def get(self, number: int) -> Job:
        """Raises UnknownJob."""
        row = self._file.execute("SELECT * FROM job WHERE id = ?", (number,)).fetchone()
        if row is None:
            raise UnknownJob(f"there is no job {number}")
        return _job(row)

    def newest(self, model: str | None = None, state: State | None = None, most: int = 100) -> list[Job]:
        """The newest first."""
        rows = self._file.execute(
            "SELECT * FROM job WHERE (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR state = ?2) "
            "ORDER BY id DESC LIMIT ?3",
            (model, state, most),
        )
        return [_job(row) for row in rows]

    def cancel(self, number: int) -> Job:
        """Take a job out of the queue, or have its worker stop. Raises UnknownJob, or JobEnded."""
        with self._writing() as file:
            job = self.get(number)
            if job.state not in OPEN:
                raise JobEnded(f"job {number} has ended: {job.state}")
            if job.state == "queued":
                self._end(number, "cancelled", None, "cancelled before it began")
            else:
                file.execute("UPDATE job SET cancelling = 1 WHERE id = ?", (number,))
        return self.get(number)

    def retry(self, number: int, asked_by: str) -> Job:
        """Ask for the same once more. Raises UnknownJob, OpenJob, or JobEnded where it has not ended."""
        job = self.get(number)
        if job.state in OPEN:
            raise JobEnded(f"job {number} has not ended: it is {job.state}")
        again = {"cause": "person", "asked_by": asked_by, "why": f"job {number} once more"}
        return self.ask(job.order.model_copy(update=again))

    # Who works

    def claim(self, worker: str, lease: float) -> Job | None:
        """The oldest job that may begin now, or one whose worker's lease has run out; held for `lease` seconds."""
        now = self._clock()
        with self._writing() as file:
            self._take_back(now)
            row = file.execute(
                "SELECT * FROM job WHERE state = 'queued' AND not_before <= ? ORDER BY not_before, id LIMIT 1", (now,)
            ).fetchone()
            if row is None:
                return None
            file.execute(_CLAIM, (worker, now + lease, now, row["id"]))
            return self.get(row["id"])

    def renew(self, job: Job, lease: float, progress: Progress | None = None) -> Told:
        """Hold on to a claimed job for `lease` more seconds from now, and say how far it is."""
        with self._writing() as file:
            said = progress.model_dump_json() if progress else None
            held = file.execute(_RENEW, (self._clock() + lease, said, job.id, job.token)).fetchone()
        if held is None:
            return "lost"
        return "stop" if held["cancelling"] else "go on"

    def end(self, job: Job, state: State, result: dict[str, Any] | None = None, error: str | None = None) -> bool:
        """End a claimed job; False where it is no longer the worker's, and nothing is changed."""
        with self._writing():
            if not self._holds(job):
                return False
            self._end(job.id, state, result, error)
        return True

    def put_back(self, job: Job, error: str, *, at_once: bool = False) -> bool:
        """A claimed job could not go on for a reason that may pass: try again later, or give up after its last attempt.

        `at_once` gives it back without a pause and without an attempt being lost, as a worker does that is told to end.
        False where it is no longer the worker's.
        """
        with self._writing() as file:
            if not self._holds(job):
                return False
            now = self._clock()
            if self.get(job.id).cancelling:
                self._end(job.id, "cancelled", None, error)
            elif at_once:
                file.execute(_BACK, (now, job.attempts - 1, error, job.id))
            elif job.attempts >= job.order.most_attempts:
                self._end(job.id, "failed", None, f"{error} (attempt {job.attempts}, the last)")
            else:
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (job.attempts - 1))
                file.execute(_BACK, (now + pause, job.attempts, error, job.id))
        return True

    # The log

    def write(self, number: int, texts: list[str]) -> None:
        """Add lines to a job's log, whose oldest are dropped when there are many."""
        now = self._clock()
        with self._writing() as file:
            rows = [(number, now, text[:LONGEST_LINE]) for text in texts]
            file.executemany("INSERT INTO line (job, at, text) VALUES (?, ?, ?)", rows)
            file.execute(_DROP_OLD_LINES, (number, MOST_LINES))

    def lines(self, number: int, after: int = 0) -> list[Line]:
        """A job's log behind the line of that number. Raises UnknownJob."""
        self.get(number)
        rows = self._file.execute(
            "SELECT number, at, text FROM line WHERE job = ? AND number > ? ORDER BY number", (number, after)
        )
        return [Line(number=row["number"], at=row["at"], text=row["text"]) for row in rows]

    # Within a transaction

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, which holds the write lock from its beginning: what it reads stays true until it writes."""
        try:
            self._file.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise JobError(f"the job table cannot be written: {error}") from error
        try:
            yield self._file
            self._file.execute("COMMIT")
        except BaseException as error:
            if self._file.in_transaction:
                self._file.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise JobError(f"the job table cannot be written: {error}") from error
            raise

    def _take_back(self, now: float) -> None:
        """Jobs of workers that have not been heard of: to be claimed at once, or given up after the last attempt."""
        rows = self._file.execute("SELECT * FROM job WHERE state = 'running' AND lease_until < ?", (now,)).fetchall()
        for job in map(_job, rows):
            said = f"the worker {job.worker} was not heard of for its lease"
            if job.cancelling:
                self._end(job.id, "cancelled", None, f"cancelled; {said}")
            elif job.attempts >= job.order.most_attempts:
                self._end(job.id, "failed", None, f"{said} (attempt {job.attempts}, the last)")
            else:
                self._file.execute(_BACK, (now, job.attempts, said, job.id))

    def _holds(self, job: Job) -> bool:
        found = self.get(job.id)
        return (found.state, found.token) == ("running", job.token)

    def _end(self, number: int, state: State, result: dict[str, Any] | None, error: str | None) -> None:
        said = None if result is None else json.dumps(result)
        self._file.execute(_END, (state, said, error, self._clock(), number))


@contextmanager
def opened(path: Path) -> Iterator[Jobs]:
    """The table, closed at the end."""
    with closing(Jobs(path)) as jobs:
        yield jobs


def _job(row: sqlite3.Row) -> Job:
    return Job(
        id=row["id"],
        state=row["state"],
        order=Order.model_validate_json(row["wish"]),
        attempts=row["attempts"],
        asked_at=row["asked_at"],
        not_before=row["not_before"],
        worker=row["worker"],
        token=row["token"],
        lease_until=row["lease_until"],
        started_at=row["started_at"],
        ended_at=row["ended_at"],
        cancelling=bool(row["cancelling"]),
        progress=Progress.model_validate_json(row["progress"]),
        result=None if row["result"] is None else json.loads(row["result"]),
        error=row["error"],
    )
