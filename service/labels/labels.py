"""The file in which predictions and what turned out to be true meet: SQLite, beside the prediction log.

Feedback and the index of the log come in any order, from any of the processes that share the file; they join by request
id and row. A label of a prediction that is not known is kept as it came until one is, and only then is it seen whether
it fits. What was committed survives the process and the machine.
"""

import math
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from time import time
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from contract.features import MOST_PROBLEMS, Problem, show
from contract.manifest import BinaryOutput, MulticlassOutput, Output, RegressionOutput
from service.counting.instruments import FeedbackResult
from service.errors import InvalidRequest
from service.labels.labelled import LabelsError

NAME = "labels.db"
FORMAT = 1
BUSY_SECONDS = 10.0
# Rows that are removed at once: others write in between.
SLICE = 10_000
# Of the time that is covered, how much goes when the file is too large.
SHARE = 0.05

Label = str | int | float
Counts = Counter[tuple[str, FeedbackResult]]

OUTPUTS: TypeAdapter[Output] = TypeAdapter(Output)

_SCHEMA = """
CREATE TABLE versions (key INTEGER PRIMARY KEY, model TEXT, version INTEGER, sha256 TEXT UNIQUE, output TEXT);
CREATE TABLE segments (name TEXT PRIMARY KEY, place INTEGER) WITHOUT ROWID;
CREATE TABLE predictions (
  id TEXT, row INTEGER, version INTEGER, at REAL, role TEXT, scores BLOB, PRIMARY KEY (id, row)
) WITHOUT ROWID;
CREATE INDEX predictions_at ON predictions (version, at);
CREATE TABLE labels (
  id TEXT, row INTEGER, label, received REAL, known INTEGER, PRIMARY KEY (id, row)
) WITHOUT ROWID;
CREATE INDEX labels_received ON labels (received);
CREATE INDEX labels_unknown ON labels (id) WHERE known = 0;
CREATE TABLE changes (count INTEGER);
INSERT INTO changes VALUES (0);
"""


class Feedback(NamedTuple):
    """The truth about one row of a request. `path` is what stands before its parts in what was sent."""

    path: str
    id: str
    row: int
    label: Label


class Labels:
    """A connection of one thread. Raises LabelsError when the file cannot be opened or is of another release."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._outputs: dict[int, tuple[str, Output]] = {}
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.touch(0o600)
            self.connection = sqlite3.connect(self.path, BUSY_SECONDS, isolation_level=None)
            self._prepare()
        except (sqlite3.Error, OSError) as error:
            raise LabelsError(f"{self.path}: {error}") from error

    def _prepare(self) -> None:
        for pragma in ("auto_vacuum = INCREMENTAL", "journal_mode = WAL", "synchronous = FULL", "secure_delete = ON"):
            self.connection.execute(f"PRAGMA {pragma}")
        self.connection.execute(f"PRAGMA journal_size_limit = {16 * 2**20}")
        with self.writing():
            (found,) = self.connection.execute("PRAGMA user_version").fetchone()
            if found == 0:
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    self.connection.execute(statement)
                self.connection.execute(f"PRAGMA user_version = {FORMAT}")
        if found not in (0, FORMAT):
            raise LabelsError(f"{self.path}: is of format {found}, this Hornpipe reads {FORMAT}")

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: all of it, or nothing. No other connection writes meanwhile. Raises LabelsError."""
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # some errors of the disk have ended it already
                    self.connection.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise LabelsError(f"{self.path}: {error}") from error

    def close(self) -> None:
        self.connection.close()

    def output(self, key: int) -> tuple[str, Output]:
        """The model and what it answers, of a version by its key in the file."""
        if key not in self._outputs:
            found = self.connection.execute("SELECT model, output FROM versions WHERE key = ?", (key,)).fetchone()
            self._outputs[key] = found[0], OUTPUTS.validate_json(found[1])
        return self._outputs[key]

    def store(self, items: Sequence[Feedback]) -> Counts:
        """Take feedback; what became of it, by model (none where the prediction is not known) and result.

        Raises InvalidRequest with everything that does not fit what was predicted, and then nothing was stored; or
        LabelsError.
        """
        counts: Counts = Counter()
        problems: list[Problem] = []
        with self.writing() as connection:
            for item in items:
                found = self._store(item, time())
                if isinstance(found, Problem):
                    problems.append(found)
                else:
                    counts[found] += 1
            if problems:
                raise InvalidRequest("the feedback does not fit what was predicted", problems[:MOST_PROBLEMS])
            if any(result != "same" for _, result in counts):
                changed(connection)
        return counts

    def _store(self, item: Feedback, now: float) -> tuple[str, FeedbackResult] | Problem:
        at = (item.id, item.row)
        connection = self.connection
        known = connection.execute("SELECT version FROM predictions WHERE id = ? AND row = ?", at).fetchone()
        model, label = "", item.label
        if known is not None:
            model, output = self.output(known[0])
            fitted = fit(output, item.label)
            if fitted is None:
                return Problem(f"{item.path}label", "does not fit the model", expected(output), show(item.label))
            label = fitted
        elif (rows := self._rows(item.id)) is not None:
            return Problem(f"{item.path}row", "is no row of the request", f"0 to {rows}", str(item.row))
        before = connection.execute("SELECT label FROM labels WHERE id = ? AND row = ?", at).fetchone()
        if before is None or before[0] != label:
            values = (*at, label, now, known is not None)
            connection.execute("INSERT OR REPLACE INTO labels VALUES (?, ?, ?, ?, ?)", values)
        if known is None:
            return model, "unknown"
        return model, "new" if before is None else "same" if before[0] == label else "corrected"

    def _rows(self, request_id: str) -> int | None:
        """The last row of a request; None of one that is not known."""
        found = self.connection.execute("SELECT max(row) FROM predictions WHERE id = ?", (request_id,)).fetchone()
        return None if found is None else found[0]

    def forget(self, request_id: str) -> int:
        """Remove everything of a request from the file; how many rows that was. Raises LabelsError."""
        with self.writing() as connection:
            rows = connection.execute("DELETE FROM predictions WHERE id = ?", (request_id,)).rowcount
            rows = max(rows, connection.execute("DELETE FROM labels WHERE id = ?", (request_id,)).rowcount)
            if rows:
                changed(connection)
        self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # which the log of changes would still have
        return rows

    def limit(self, most_bytes: int, most_seconds: float) -> None:
        """Remove what is too old, and the oldest while the file is too large. Raises LabelsError."""
        self._expire(time() - most_seconds)
        while self._bytes() > most_bytes and (span := self._span()) is not None:
            first, last = span
            self._expire(max(math.nextafter(first, math.inf), first + SHARE * (last - first)))

    def _expire(self, before: float) -> None:
        """Remove predictions of an earlier time with their labels, and labels that have come before it."""
        for (key,) in self.connection.execute("SELECT key FROM versions").fetchall():
            while self._remove("SELECT id, row FROM predictions WHERE version = ? AND at < ? LIMIT ?", (key, before)):
                pass
        while self._remove("SELECT id, row FROM labels WHERE received < ? LIMIT ?", (before,)):
            pass
        self.connection.executescript("PRAGMA incremental_vacuum")  # which `execute` would do to one page alone

    def _remove(self, chosen: str, parameters: tuple[Any, ...]) -> bool:
        """Whether there was anything."""
        with self.writing() as connection:
            rows = connection.execute(chosen, (*parameters, SLICE)).fetchall()
            connection.executemany("DELETE FROM predictions WHERE id = ? AND row = ?", rows)
            connection.executemany("DELETE FROM labels WHERE id = ? AND row = ?", rows)
            if rows:
                changed(connection)
        return bool(rows)

    def _bytes(self) -> int:
        pages, free, size = (
            self.connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    def _span(self) -> tuple[float, float] | None:
        """From the oldest to the newest that is there."""
        found = self.connection.execute(
            "SELECT min(a), max(b) FROM (SELECT min(at) AS a, max(at) AS b FROM predictions GROUP BY version"
            " UNION ALL SELECT min(received), max(received) FROM labels)"
        ).fetchone()
        return None if found[0] is None else (found[0], found[1])


def changed(connection: sqlite3.Connection) -> None:
    """Tell who has read before that there is something else now."""
    connection.execute("UPDATE changes SET count = count + 1")


@contextmanager
def reading(folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection that changes nothing, and sees the file as it is at its first query. Raises LabelsError."""
    path = folder / NAME
    uri = f"{path.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, BUSY_SECONDS, isolation_level=None, uri=True)) as connection:
            connection.execute("BEGIN")
            yield connection
    except sqlite3.Error as error:
        raise LabelsError(f"{path}: {error}") from error


def fit(output: Output, label: Label) -> Label | None:
    """A label as the model has it: a class by its name, also where that is a number, or a finite number. None where it
    is neither. Of an imported model any label is as good as another."""
    match output:
        case BinaryOutput() | MulticlassOutput():
            whole = isinstance(label, float) and label.is_integer()
            name = str(int(label) if whole else label)
            return name if name in output.classes else None
        case RegressionOutput():
            return float(label) if not isinstance(label, str) and math.isfinite(label) else None
    return label


def expected(output: Output) -> str:
    """What a label should be, in a few words."""
    if isinstance(output, BinaryOutput | MulticlassOutput):
        several = len(output.classes) > 10
        return f"one of {', '.join(output.classes[:10])}{', ...' if several else ''}"
    return "a number"
