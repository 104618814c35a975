"""Predictions with their labels, read from the file of labels: what labelled.py promises."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.manifest import MulticlassOutput, Output, RegressionOutput, TensorsOutput
from service.labels.labelled import CHUNK_ROWS, Joined
from service.labels.labels import OUTPUTS, reading

_ROWS = """
SELECT p.at, l.received, p.role, p.scores, l.label
FROM predictions p {join} JOIN labels l ON l.id = p.id AND l.row = p.row
WHERE p.version = ? AND p.at >= ? AND p.at < ? AND p.scores IS NOT NULL ORDER BY p.at
"""
_ALL, _LABELLED = _ROWS.format(join="LEFT"), _ROWS.format(join="CROSS")
_COUNTS = """
SELECT v.version, count(*), count(l.id)
FROM versions v JOIN predictions p ON p.version = v.key LEFT JOIN labels l ON l.id = p.id AND l.row = p.row
WHERE v.model = ? AND p.at >= ? AND p.at < ? GROUP BY v.key
"""
_RECEIVED = """
SELECT count(*) FROM (
  SELECT 1 FROM labels l CROSS JOIN predictions p ON p.id = l.id AND p.row = l.row
  WHERE l.received > ? AND p.version IN (SELECT key FROM versions WHERE model = ?) LIMIT ?
)
"""


class JoinedLabels:
    """Implements `labelled.Labelled` on the file in a folder. Every call opens it anew, on whatever thread."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def joined(
        self, model: str, since: float, until: float = np.inf, version: int | None = None, *, labelled: bool = False
    ) -> Iterator[Joined]:
        """As `Labelled` says."""
        with reading(self._folder) as connection:
            query = "SELECT key, version, output FROM versions WHERE model = ? ORDER BY version, key"
            for key, number, text in connection.execute(query, (model,)).fetchall():
                output = OUTPUTS.validate_json(text)
                if version not in (None, number) or isinstance(output, TensorsOutput):
                    continue
                rows = connection.execute(_LABELLED if labelled else _ALL, (key, since, until))
                while chunk := rows.fetchmany(CHUNK_ROWS):
                    yield _joined(model, number, output, chunk)

    def counts(self, model: str, since: float, until: float = np.inf) -> dict[int, tuple[int, int]]:
        """As `Labelled` says."""
        predicted: Counter[int] = Counter()
        known: Counter[int] = Counter()
        with reading(self._folder) as connection:
            for version, rows, labels in connection.execute(_COUNTS, (model, since, until)):
                predicted[version] += rows
                known[version] += labels
        return {version: (predicted[version], known[version]) for version in sorted(predicted)}

    def received(self, model: str, since: float, most: int) -> int:
        """As `Labelled` says."""
        with reading(self._folder) as connection:
            (count,) = connection.execute(_RECEIVED, (since, model, most)).fetchone()
            return int(count)

    def changes(self) -> int:
        """As `Labelled` says."""
        with reading(self._folder) as connection:
            (count,) = connection.execute("SELECT count FROM changes").fetchone()
            return int(count)


def _joined(model: str, version: int, output: Output, rows: list[tuple[Any, ...]]) -> Joined:
    at, received, roles, blobs, given = zip(*rows, strict=True)
    labels = _labels(output, given)
    # A class of another version, whose request came again and was answered by this one, is none here.
    known = np.isfinite(labels) if labels.dtype.kind == "f" else labels >= 0
    scores: NDArray[np.float32] = np.frombuffer(b"".join(blobs), "<f4").astype(np.float32)
    if isinstance(output, MulticlassOutput):
        scores = scores.reshape(len(rows), len(output.classes))
    return Joined(
        model,
        version,
        output,
        predicted_at=np.array(at, np.float64),
        received_at=np.where(known, np.array(received, np.float64), np.nan),  # None becomes NaN
        roles=np.array(roles, object),
        scores=scores,
        labels=labels,
    )


def _labels(output: Output, labels: tuple[Any, ...]) -> NDArray[Any]:
    if isinstance(output, RegressionOutput | TensorsOutput):
        return np.array(labels, np.float64)
    numbers = {name: i for i, name in enumerate(output.classes)}
    return np.fromiter((numbers.get(label, -1) for label in labels), np.int64, len(labels))
