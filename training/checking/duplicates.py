"""Rows that are in two parts of the split at once: the network is asked what it has learnt by heart."""

import hashlib
from collections.abc import Iterator, Set
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contract.evidence import DataWarning
from training.checking.quick import category_codes
from training.rows import Indices
from training.sources.columns import is_number

LEAST_SHARE = 0.001  # of the held-out rows
BEYOND_CHANCE = 10.0
MOST_NAMED = 3
ADVICE = (
    'remove the copies, or keep them in one part with split.by = "group"; the test figures are too good as they are'
)

Prints = NDArray[np.uint64]


def warnings(
    table: pa.Table, texts: Set[str], parts: tuple[Indices, Indices, Indices], pixels: NDArray[Any] | None
) -> Iterator[DataWarning]:
    """Of a table with a column for each feature and the target; `pixels` are the rows' pictures, where there are.
    Neither pictures nor `texts` are ever the same by chance."""
    columns = {name: _column_prints(table[name]) for name in table.column_names}
    plain = [] if texts or pixels is not None else [*columns.values()]
    prints = together([*columns.values(), *([] if pixels is None else [_picture_prints(pixels)])])
    known = np.unique(prints[parts[0]])
    for name, rows in zip(("validation", "test"), parts[1:], strict=True):
        copies = rows[np.isin(prints[rows], known)]
        expected = len(rows) * len(parts[0]) * _chance(plain, parts[0])
        if len(copies) > max(BEYOND_CHANCE * expected, LEAST_SHARE * len(rows)):
            twins = ", ".join(_twins(prints, parts[0], copies[:MOST_NAMED]))
            seen = (
                f"{len(copies):,} of {len(rows):,} {name} rows ({len(copies) / len(rows):.1%}) are copies of training"
            )
            yield DataWarning(
                check="duplicates", seen=f"{seen} rows, target included; counted from 0, row {twins}", advice=ADVICE
            )


def _twins(prints: Prints, train: Indices, copies: Indices) -> Iterator[str]:
    for copy in copies:
        yield f"{copy:,} is row {train[np.flatnonzero(prints[train] == prints[copy])[0]]:,}"


def _chance(columns: list[Prints], rows: Indices) -> float:
    """That two rows are the same in every column, were the columns independent: three yes-or-no questions make copies
    of everybody. 0 for no columns."""
    chance = 1.0 if columns else 0.0
    for prints in columns:
        counts = np.unique(prints[rows], return_counts=True)[1]
        chance *= float(np.sum(counts * (counts - 1.0)) / max(1, len(rows) * (len(rows) - 1)))
    return chance


def _column_prints(column: pa.ChunkedArray) -> Prints:
    """A number for each different value."""
    if is_number(column.type) and not pa.types.is_decimal(column.type):
        values: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy()
        return np.where(np.isnan(values), np.nan, values + 0.0).view(np.uint64)  # one NaN, one zero
    return category_codes(column).view(np.uint64)


def _picture_prints(pixels: NDArray[Any]) -> Prints:
    digests = (hashlib.blake2b(picture.tobytes(), digest_size=8).digest() for picture in pixels)
    return np.frombuffer(b"".join(digests), np.uint64)


def together(columns: list[Prints]) -> Prints:
    """A 64-bit hash of each row (multiply and shift, as in splitmix64: Steele et al., 2014, figure 17); of a million
    rows two that differ have the same one with a chance of 3 in a hundred million."""
    mixed = np.full(len(columns[0]), 0x9E3779B97F4A7C15, np.uint64)
    with np.errstate(over="ignore"):
        for prints in columns:
            mixed = (mixed ^ prints) * np.uint64(0xBF58476D1CE4E5B9)
            mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0x94D049BB133111EB)
            mixed ^= mixed >> np.uint64(31)
    return mixed
