"""The prediction log as the file of labels has it: scores by request id and row, without the rows themselves.

Segments are read from where they were left, in the same transaction in which that place is kept: whoever is killed, and
however many processes do it, every line is taken once.
"""

import logging
import sqlite3
from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.manifest import Output, TensorsOutput
from service import segments
from service.labels import OUTPUTS, Counts, Labels, changed, fit

log = logging.getLogger("hornpipe.predictions")

# What is read in one transaction: others write in between.
MOST_BYTES = 2**20

Line = dict[str, Any]
Versions = dict[tuple[str, int], int]


def index(labels: Labels, folder: Path) -> Counts:
    """Take whatever the log has got since; what became of labels that were there before. Raises LabelsError."""
    counts: Counts = Counter()
    paths = segments.paths(folder)
    places = dict(labels.connection.execute("SELECT name, place FROM segments").fetchall())
    for path in paths:
        if _size(path) > places.get(path.name, 0):
            while _take_some(labels, path, counts):
                pass
    gone = places.keys() - {path.name for path in paths}
    if gone:
        with labels.writing() as connection:
            connection.executemany("DELETE FROM segments WHERE name = ?", [(name,) for name in gone])
    return counts


def _take_some(labels: Labels, path: Path, counts: Counts) -> bool:
    """Whether there were any whole lines."""
    with labels.writing() as connection:
        found = connection.execute("SELECT place FROM segments WHERE name = ?", (path.name,)).fetchone()
        start = found[0] if found else 0
        end = start
        versions: Versions = {}
        for end, line in _lines(path, start):  # noqa: B007  # where the last one ends is kept
            try:
                _take(labels, line, versions, counts)
            except (KeyError, TypeError, ValueError) as error:  # what somebody else has written there
                log.warning("%s has a line that is not ours: %r", path, error)
        if end > start:
            connection.execute("INSERT OR REPLACE INTO segments VALUES (?, ?)", (path.name, end))
            changed(connection)
    return end > start


def _lines(path: Path, start: int) -> Iterator[tuple[int, Line]]:
    """Some whole lines, each with where it ends; none of a segment that is gone."""
    try:
        near = takewhile(lambda each: each[0] < start + MOST_BYTES, segments.read(path, start))
        yield from ((end, line) for _, end, line in near)
    except FileNotFoundError:
        return


def _version(connection: sqlite3.Connection, about: Line) -> int:
    """The key of a version, which is new or known."""
    output = OUTPUTS.dump_json(OUTPUTS.validate_python(about["output"])).decode()
    facts = (about["model"], about["version"], about["sha256"], output)
    connection.execute("INSERT OR IGNORE INTO versions (model, version, sha256, output) VALUES (?, ?, ?, ?)", facts)
    (key,) = connection.execute("SELECT key FROM versions WHERE sha256 = ?", (about["sha256"],)).fetchone()
    return int(key)


def _take(labels: Labels, line: Line, versions: Versions, counts: Counts) -> None:
    """Raises KeyError, TypeError or ValueError for a line that no prediction log has."""
    connection = labels.connection
    if "about" in line:
        about = line["about"]
        versions[about["model"], about["version"]] = _version(connection, about)
        return
    named = line["model"], line["version"]
    if named not in versions:  # it was told before the place where this began
        query = "SELECT max(key) FROM versions WHERE model = ? AND version = ?"
        versions[named] = connection.execute(query, named).fetchone()[0]
    key = versions[named]
    model, output = labels.output(key)
    facts = (key, line["time"], line["role"])
    rows = [(line["id"], i, *facts, blob) for i, blob in enumerate(_blobs(output, line))]
    connection.executemany("INSERT OR REPLACE INTO predictions VALUES (?, ?, ?, ?, ?, ?)", rows)
    for row, label in connection.execute("SELECT row, label FROM labels WHERE id = ?", (line["id"],)).fetchall():
        at = (line["id"], row)
        fitted = fit(output, label) if row < len(rows) else None
        if fitted is None:
            connection.execute("DELETE FROM labels WHERE id = ? AND row = ?", at)
        else:
            connection.execute("UPDATE labels SET label = ? WHERE id = ? AND row = ?", (fitted, *at))
        counts[model, "misfit" if fitted is None else "joined"] += 1


def _blobs(output: Output, line: Line) -> list[bytes | None]:
    """The scores of each row as float32, the lowest byte first; None of an imported model, and of what is no number."""
    if isinstance(output, TensorsOutput):
        return [None] * len(line["rows"])
    scores: NDArray[np.float32] = np.array(line["outputs"][output.name], "<f4")
    return [row.tobytes() if np.isfinite(row).all() else None for row in scores]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
