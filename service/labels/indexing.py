"""The prediction log as the file of labels has it: scores by request id and row, without the rows themselves.

Segments are read from where they were left, in the same transaction in which that place is kept: whoever is killed, and
however many processes do it, every line is taken once.
"""

import logging
import sqlite3
import struct
from collections import Counter
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from contract.manifest import MulticlassOutput, Output, TensorsOutput
from service.labels.labels import OUTPUTS, Counts, Labels, changed, fit
from service.predictions import segments

log = logging.getLogger("hornpipe.predictions")

# What is read in one transaction: others write in between.
MOST_BYTES = 2**20

Line = dict[str, Any]

_FLOAT = struct.Struct("<f")
# What comes of lines that somebody else has written there.
_NOT_OURS = (KeyError, TypeError, ValueError, ArithmeticError, struct.error)


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
        taken = Taken(labels)
        for end, line in _lines(path, start):  # noqa: B007  # where the last one ends is kept
            try:
                taken.add(line)
            except _NOT_OURS as error:
                log.warning("%s has a line that is not ours: %r", path, error)
        if end > start:
            counts.update(taken.store())
            connection.execute("INSERT OR REPLACE INTO segments VALUES (?, ?)", (path.name, end))
            changed(connection)
    return end > start


class Taken:
    """Some lines of one segment."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._versions: dict[tuple[str, int], int] = {}
        self._rows: list[tuple[Any, ...]] = []
        self._keys: dict[str, int] = {}

    def add(self, line: Line) -> None:
        """Raises an error of Python's own for a line that no prediction log has."""
        if "about" in line:
            about = line["about"]
            self._versions[about["model"], about["version"]] = _version(self._labels.connection, about)
            return
        key = self._key(line["model"], line["version"])
        _, output = self._labels.output(key)
        request_id, at, role = line["id"], line["time"], line["role"]
        blobs = _blobs(output, line)
        self._rows += [(request_id, row, key, at, role, blob) for row, blob in enumerate(blobs)]
        self._keys[request_id] = key

    def store(self) -> Counts:
        """What became of labels that were there before."""
        connection = self._labels.connection
        connection.executemany("INSERT OR REPLACE INTO predictions VALUES (?, ?, ?, ?, ?, ?)", self._rows)
        counts: Counts = Counter()
        if connection.execute("SELECT 1 FROM labels WHERE known = 0 LIMIT 1").fetchone() is None:
            return counts
        for request_id, key in self._keys.items():
            counts.update(self._join(request_id, key))
        return counts

    def _join(self, request_id: str, key: int) -> Counts:
        connection, counts = self._labels.connection, Counts()
        model, output = self._labels.output(key)
        query = (
            "SELECT l.row, l.label, p.id FROM labels l LEFT JOIN predictions p ON p.id = l.id AND p.row = l.row"
            " WHERE l.id = ? AND l.known = 0"
        )
        for row, label, there in connection.execute(query, (request_id,)).fetchall():
            fitted = None if there is None else fit(output, label)
            if fitted is None:
                connection.execute("DELETE FROM labels WHERE id = ? AND row = ?", (request_id, row))
            else:
                change = "UPDATE labels SET label = ?, known = 1 WHERE id = ? AND row = ?"
                connection.execute(change, (fitted, request_id, row))
            counts[model, "misfit" if fitted is None else "joined"] += 1
        return counts

    def _key(self, model: str, version: int) -> int:
        """Of a version that these lines are about, or those before them."""
        key = self._versions.get((model, version))
        if key is None:
            query = "SELECT max(key) FROM versions WHERE model = ? AND version = ?"
            (key,) = self._labels.connection.execute(query, (model, version)).fetchone()
            self._versions[model, version] = key
        return key


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


def _blobs(output: Output, line: Line) -> list[bytes | None]:
    """The scores of each row as float32, the lowest byte first; None of an imported model, and of what is no number."""
    if isinstance(output, TensorsOutput):
        return [None] * len(line["rows"])
    scores = line["outputs"][output.name]
    if isinstance(output, MulticlassOutput):
        return [None if None in row else np.array(row, "<f4").tobytes() for row in scores]
    return [None if score is None else _FLOAT.pack(score) for score in scores]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
