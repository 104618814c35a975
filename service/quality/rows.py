"""The logged rows that quality is computed of: by version, in arrays, no more than there is memory and time for."""

from collections import deque
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from contract.manifest import BinaryOutput, RegressionOutput
from contract.quality import Labels
from service.labels.labelled import Joined

# Of one version. A million rows of two classes are computed in about a second; older ones are left out.
MOST_ROWS = 1_000_000
MOST_SCORES = 8_000_000
DAY_SECONDS = 86_400


def collected(chunks: Iterable[Joined]) -> dict[int, tuple[Joined, int]]:
    """The newest rows of each version, the oldest first, and how many older ones were left out.

    Rows whose output is not finite are dropped. Of a version number that was given twice, for a model whose folder was
    made anew, say, those of the later output.
    """
    parts: dict[int, deque[Joined]] = {}
    left_out: dict[int, int] = {}
    for chunk in chunks:
        mine = parts.setdefault(chunk.version, deque())
        if mine and mine[0].output != chunk.output:
            mine.clear()
        mine.append(chunk.take(_finite(chunk)))
        left_out.setdefault(chunk.version, 0)
        while sum(map(len, mine)) - len(mine[0]) >= _most(chunk):
            left_out[chunk.version] += len(mine.popleft())
    return {version: (_joined(list(mine)), left_out[version]) for version, mine in parts.items()}


def days(rows: Joined) -> list[tuple[int, Joined]]:
    """The rows of each day of UTC on which there are any, by days since 1970, the latest first."""
    numbers = (rows.predicted_at // DAY_SECONDS).astype(np.int64)
    return [(int(day), rows.take(numbers == day)) for day in np.unique(numbers)[::-1]]


def known(rows: Joined) -> NDArray[np.bool_]:
    """Which rows have a label that is one of the output's."""
    of_output: NDArray[np.bool_] = rows.labels >= 0
    return rows.known & (np.isfinite(rows.labels) if isinstance(rows.output, RegressionOutput) else of_output)


def truth(rows: Joined) -> Labels:
    """Labels as contract.quality has them, of rows that have one."""
    labels: Labels = rows.labels
    if isinstance(rows.output, BinaryOutput):
        labels = (labels == rows.output.classes.index(rows.output.positive)).astype(np.int64)
    return labels


def _finite(rows: Joined) -> NDArray[np.bool_]:
    finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(rows.scores).reshape(len(rows), -1), axis=1)
    return finite


def _most(chunk: Joined) -> int:
    width = chunk.scores.shape[1] if chunk.scores.ndim > 1 else 1
    return min(MOST_ROWS, max(1, MOST_SCORES // width))


def _joined(parts: list[Joined]) -> Joined:
    first = parts[0]
    columns = [
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("predicted_at", "received_at", "roles", "scores", "labels")
    ]
    return Joined(first.model, first.version, first.output, *columns)
