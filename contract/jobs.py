"""The job table: one SQLite file on the volume that services and workers share.

Every change is one transaction that takes the file's write lock first, so two workers never get one job. A worker
holds its job by a lease, which it renews; whoever looks for work after a lease has run out takes the job over. A worker
that was thought dead, and comes back, finds that its job is no longer its own: each claim has a token.
What is deleted is added up in `past` by the file itself, whoever deletes it, so that totals never fall.

WAL needs shared memory, so all processes run on one machine (https://www.sqlite.org/wal.html). That machine's steady
clock says when a lease has run out: it does not jump when somebody sets the time, and stands still while a laptop
sleeps (CLOCK_MONOTONIC, clock_gettime(2)). After a restart of the machine no lease holds: its workers are gone.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

from contract.boot import boot_id
from contract.errors import HornpipeError
from contract.job import OPEN, Job, Line, Order, Progress, Refusal, State
from contract.job_row import job_of

BUSY_SECONDS = 30.0
# After a failure that may pass, the first pause; it doubles with every attempt.
FIRST_PAUSE = 30.0
LONGEST_PAUSE = 3600.0
# Of a job's log, so many lines are kept: the newest.
MOST_LINES = 5000
LONGEST_LINE = 2000
# A queued job that no worker here understands may be for a newer one, which is to be started; not for ever.
UNREAD_SECONDS = 3600.0
# Of jobs that have ended, the newest so many are kept, and the logs of fewer.
MOST_ENDED = 2000
MOST_LOGS = 200

# SQLite's numbers end here.
MOST_NUMBERS = 1 << 63

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
    error TEXT,
    refusal TEXT,
    boot TEXT,    -- which start of the machine `steady` is of
    steady REAL   -- by the machine's clock: when a queued job may begin, when a running one's lease has run out
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
CREATE INDEX IF NOT EXISTS jobs_by_outcome ON job (model, state, ended_at, started_at, attempts);
CREATE TABLE IF NOT EXISTS past (
    model TEXT NOT NULL,
    state TEXT NOT NULL,
    jobs INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    milliseconds INTEGER NOT NULL,
    last REAL NOT NULL,
    PRIMARY KEY (model, state)
) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS keep_totals AFTER DELETE ON job WHEN OLD.ended_at IS NOT NULL BEGIN
    INSERT INTO past VALUES (OLD.model, OLD.state, 1, OLD.attempts,
        max(0, CAST(1000 * (OLD.ended_at - coalesce(OLD.started_at, OLD.ended_at)) AS INTEGER)), OLD.ended_at)
    ON CONFLICT DO UPDATE SET jobs = jobs + 1, attempts = attempts + excluded.attempts,
        milliseconds = milliseconds + excluded.milliseconds, last = max(last, excluded.last);
END;
"""


_OPEN_OF_MODEL = "SELECT id FROM job WHERE model = ? AND state IN ('queued', 'running')"
# Whichever clock says first that it is time: one that was set back does not make a job wait for longer.
_MAY_BEGIN = """
SELECT * FROM job WHERE state = 'queued' AND (not_before <= ? OR (boot = ? AND steady <= ?)) ORDER BY not_before, id
"""
_UNHEARD = "SELECT * FROM job WHERE state = 'running' AND (boot IS NOT ? OR steady < ?)"
_CLAIM = """
UPDATE job SET state = 'running', worker = ?, token = token + 1, lease_until = ?, boot = ?, steady = ?,
    attempts = attempts + 1, started_at = coalesce(started_at, ?) WHERE id = ?
"""
_RENEW = """
UPDATE job SET lease_until = ?, boot = ?, steady = ?, progress = coalesce(?, progress)
WHERE id = ? AND state = 'running' AND token = ? RETURNING cancelling
"""
_BACK = """
UPDATE job SET state = 'queued', worker = NULL, lease_until = NULL, not_before = ?, boot = ?, steady = ?, attempts = ?,
    error = ? WHERE id = ?
"""
_END = """
UPDATE job SET state = ?, result = ?, error = ?, refusal = ?, ended_at = ?, worker = NULL, lease_until = NULL
WHERE id = ?
"""
_DROP_OLD_LINES = """
DELETE FROM line WHERE job = ?1
AND number <= (SELECT number FROM line WHERE job = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)
"""
_DROP_OLD_JOBS = """
DELETE FROM job WHERE id IN
    (SELECT id FROM job WHERE state NOT IN ('queued', 'running') ORDER BY id DESC LIMIT -1 OFFSET ?)
"""
_DROP_OLD_LOGS = """
DELETE FROM line WHERE job IN
    (SELECT id FROM job WHERE state NOT IN ('queued', 'running') ORDER BY id DESC LIMIT -1 OFFSET ?)
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
    """The table. An instance is for one thread; the file is for any number of processes.

    `clock` gives seconds since 1970, `steady` those of the machine since the start that `boot` names. Every method
    raises JobError where the file cannot be read, or written: of a full disk nothing is changed.
    """

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
        boot: Callable[[], str] = boot_id,
    ) -> None:
        """Raises JobError when the file cannot be opened or is none of ours."""
        self._clock, self._steady, self._boot = clock, steady, boot
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        except (OSError, sqlite3.Error) as error:
            raise JobError(f"{path}: the job table cannot be opened: {error}") from error
        try:
            self._file.row_factory = sqlite3.Row
            self._file.execute("PRAGMA journal_mode = WAL")
            self._file.execute("PRAGMA synchronous = FULL")  # what was said to be done is done, whatever loses power
            self._file.execute("PRAGMA foreign_keys = ON")
            self._lay_out()
        except sqlite3.Error as error:
            self._file.close()  # and with it a transaction that others would wait for
            raise JobError(f"{path}: the job table cannot be opened: {error}") from error

    def close(self) -> None:
        self._file.close()

    # Who asks

    def ask(self, order: Order, not_before: float | None = None) -> Job:
        """Queue a job, to begin at once or not before a time. Raises OpenJob where the model has one already."""
        now = self._clock()
        begin = now if not_before is None else not_before
        with self._writing() as file:
            if found := file.execute(_OPEN_OF_MODEL, (order.model,)).fetchone():
                raise OpenJob(order.model, found["id"])
            cursor = file.execute(
                "INSERT INTO job (model, state, wish, asked_at, not_before, boot, steady) "
                "VALUES (?, 'queued', ?, ?, ?, ?, ?)",
                (order.model, order.model_dump_json(), now, begin, *self._in(begin - now)),
            )
        return self.get(int(cursor.lastrowid or 0))

    def get(self, number: int) -> Job:
        """Raises UnknownJob."""
        if not 0 < number < MOST_NUMBERS:
            raise UnknownJob(f"there is no job {number}")
        rows = self._read("SELECT * FROM job WHERE id = ?", number)
        if not rows:
            raise UnknownJob(f"there is no job {number}")
        return job_of(rows[0])

    def newest(self, model: str | None = None, state: State | None = None, most: int = 100) -> list[Job]:
        """The newest first."""
        rows = self._read(
            "SELECT * FROM job WHERE (?1 IS NULL OR model = ?1) AND (?2 IS NULL OR state = ?2) "
            "ORDER BY id DESC LIMIT ?3",
            model,
            state,
            most,
        )
        return [job_of(row) for row in rows]

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
        """Ask for the same once more. Raises UnknownJob, OpenJob, or JobEnded where it has not ended; JobError where it
        is not known what was asked for."""
        job = self.get(number)
        if job.unread:
            raise JobError(f"job {number} was asked for by another Hornpipe, and is not understood here: {job.unread}")
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
            for job in map(job_of, file.execute(_MAY_BEGIN, (now, *self._in(0))).fetchall()):
                if job.unread is None:
                    file.execute(_CLAIM, (worker, now + lease, *self._in(lease), now, job.id))
                    return self.get(job.id)
                self._leave(job, now)
        return None

    def renew(self, job: Job, lease: float, progress: Progress | None = None) -> Told:
        """Hold on to a claimed job for `lease` more seconds from now, and say how far it is."""
        with self._writing() as file:
            said = progress.model_dump_json() if progress else None
            until = self._clock() + lease
            held = file.execute(_RENEW, (until, *self._in(lease), said, job.id, job.token)).fetchone()
        if held is None:
            return "lost"
        return "stop" if held["cancelling"] else "go on"

    def end(
        self,
        job: Job,
        state: State,
        result: dict[str, Any] | None = None,
        error: str | None = None,
        refusal: Refusal | None = None,
    ) -> bool:
        """End a claimed job; False where it is no longer the worker's, and nothing is changed."""
        with self._writing():
            if not self.holds(job):
                return False
            self._end(job.id, state, result, error, refusal)
        return True

    def holds(self, job: Job) -> bool:
        """Whether a claimed job is still whose claim it was."""
        rows = self._read("SELECT 1 FROM job WHERE id = ? AND state = 'running' AND token = ?", job.id, job.token)
        return bool(rows)

    def put_back(self, job: Job, error: str, *, at_once: bool = False) -> bool:
        """A claimed job could not go on for a reason that may pass: try again later, or give up after its last attempt.

        `at_once` gives it back without a pause and without an attempt being lost, as a worker does that is told to end.
        False where it is no longer the worker's.
        """
        with self._writing() as file:
            if not self.holds(job):
                return False
            now = self._clock()
            if self.get(job.id).cancelling:
                self._end(job.id, "cancelled", None, error)
            elif at_once:
                file.execute(_BACK, (now, *self._in(0), job.attempts - 1, error, job.id))
            elif job.attempts >= job.order.most_attempts:
                self._end(job.id, "failed", None, _last(error, job))
            else:
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (job.attempts - 1))
                file.execute(_BACK, (now + pause, *self._in(pause), job.attempts, error, job.id))
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
        rows = self._read(
            "SELECT number, at, text FROM line WHERE job = ? AND number > ? ORDER BY number", number, after
        )
        return [Line(number=row["number"], at=row["at"], text=row["text"]) for row in rows]

    def forget_old(self, ended: int = MOST_ENDED, logs: int = MOST_LOGS) -> None:
        """Drop all but the newest `ended` jobs that have ended, and the logs of all but the newest `logs` of them."""
        with self._writing() as file:
            file.execute(_DROP_OLD_JOBS, (ended,))
            file.execute(_DROP_OLD_LOGS, (logs,))

    # Reading, and within a transaction

    def _lay_out(self) -> None:
        """Tables as they are now, also in a file of before there were all of these columns. In one transaction: many
        may be the first to open it."""
        self._file.executescript(f"BEGIN IMMEDIATE; {_LAYOUT}")
        there = {row["name"] for row in self._file.execute("PRAGMA table_info(job)")}
        for name, kind in (("boot", "TEXT"), ("steady", "REAL"), ("refusal", "TEXT")):
            if name not in there:
                self._file.execute(f"ALTER TABLE job ADD COLUMN {name} {kind}")
        self._file.execute("COMMIT")

    def _read(self, sql: str, *values: object) -> list[sqlite3.Row]:
        try:
            return self._file.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise JobError(f"the job table cannot be read: {error}") from error

    def _in(self, seconds: float) -> tuple[str, float]:
        """That moment, by the machine's clock."""
        return self._boot(), self._steady() + seconds

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
        for job in map(job_of, self._file.execute(_UNHEARD, self._in(0)).fetchall()):
            said = f"the worker {job.worker} was not heard of for its lease"
            if job.cancelling:
                self._end(job.id, "cancelled", None, f"cancelled; {said}")
            elif job.attempts >= job.order.most_attempts:
                self._end(job.id, "failed", None, _last(said, job))
            else:
                self._file.execute(_BACK, (now, *self._in(0), job.attempts, said, job.id))

    def _leave(self, job: Job, now: float) -> None:
        """What is not understood here is left to a worker of another version, for a while."""
        waited = now - max(job.asked_at, job.not_before)
        if waited > UNREAD_SECONDS:
            said = f"no worker understood it within {UNREAD_SECONDS / 60:.0f} minutes: {job.unread}"
            self._end(job.id, "failed", None, f"{said}; ask for it again with this Hornpipe")

    def _end(
        self,
        number: int,
        state: State,
        result: dict[str, Any] | None,
        error: str | None,
        refusal: Refusal | None = None,
    ) -> None:
        said = None if result is None else json.dumps(result)
        self._file.execute(_END, (state, said, error, refusal, self._clock(), number))


@contextmanager
def opened(path: Path) -> Iterator[Jobs]:
    """The table, closed at the end."""
    with closing(Jobs(path)) as jobs:
        yield jobs


def _last(error: str, job: Job) -> str:
    return f"{error} (attempt {job.attempts}, the last)"
