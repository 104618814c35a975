"""What one column holds, in the few numbers by which a person would judge it."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training.sources.columns import is_number, is_text, plain, value_counts

Kind = Literal["whole", "fraction", "text", "truth", "date", "empty", "other"]

BLANKS = frozenset({"NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", "?", "-"})
MOST_TEXTS = 2_000  # are read to judge how long they are


@dataclass(frozen=True)
class Profile:
    """One column of `rows` rows. `missing` includes NaN and empty text. `distinct` are different values that are there,
    `frequent` is the one seen most, `most` times. `lowest` and `highest` are over finite numbers. `trend` is 1 where
    the values never fall from row to row, -1 where they never rise, else 0. `words` is the mean number a text has, and
    `dated` whether texts are dates in a form of their own."""

    name: str
    kind: Kind
    rows: int
    missing: int
    distinct: int
    frequent: str
    most: int
    infinite: int = 0
    lowest: float = 0.0
    highest: float = 0.0
    trend: int = 0
    words: float = 0.0
    dated: bool = False
    blanks: tuple[str, ...] = ()

    @property
    def known(self) -> int:
        return self.rows - self.missing

    @property
    def distinct_share(self) -> float:
        """Of the values that are there, 0 to 1."""
        return self.distinct / self.known if self.known else 0.0

    @property
    def missing_share(self) -> float:
        return self.missing / self.rows if self.rows else 0.0


def profile(name: str, column: pa.ChunkedArray) -> Profile:
    """Of a column of any type."""
    column = plain(column)
    if pa.types.is_null(column.type) or not len(column):
        return Profile(name, "empty", len(column), len(column), 0, "", 0)
    if is_number(column.type):
        return _number(name, column)
    if is_text(column.type) or pa.types.is_boolean(column.type):
        return _named(name, column)
    kind: Kind = "date" if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type) else "other"
    distinct = pc.count_distinct(column).as_py() if kind == "date" else 0
    return Profile(name, kind, len(column), column.null_count, distinct, "", 0, trend=_trend(column, kind))


def _number(name: str, column: pa.ChunkedArray) -> Profile:
    values: NDArray[np.float64] = pc.cast(column, pa.float64(), safe=False).to_numpy()
    known = values[~np.isnan(values)]
    finite = known[np.isfinite(known)]
    different, counts = np.unique(known, return_counts=True)
    place = int(counts.argmax()) if counts.size else 0
    whole = bool(finite.size) and bool((finite == np.floor(finite)).all())
    return Profile(
        name=name,
        kind="empty" if not known.size else "whole" if whole else "fraction",
        rows=len(values),
        missing=len(values) - len(known),
        distinct=len(different),
        frequent=f"{different[place]:g}" if counts.size else "",
        most=int(counts[place]) if counts.size else 0,
        infinite=len(known) - len(finite),
        lowest=float(finite.min()) if finite.size else 0.0,
        highest=float(finite.max()) if finite.size else 0.0,
        trend=_direction(known),
    )


def _named(name: str, column: pa.ChunkedArray) -> Profile:
    counts = value_counts(column.cast(pa.string()))
    known = sum(counts.values())
    frequent = max(counts, key=counts.__getitem__, default="")
    texts = list(counts)[:MOST_TEXTS]
    dated = sum(_is_dated(text) for text in texts)
    return Profile(
        name=name,
        kind="empty" if not known else "truth" if pa.types.is_boolean(column.type) else "text",
        rows=len(column),
        missing=len(column) - known,
        distinct=len(counts),
        frequent=frequent,
        most=counts.get(frequent, 0),
        words=sum(len(text.split()) for text in texts) / max(1, len(texts)),
        dated=dated > 0.9 * len(texts),
        blanks=tuple(sorted(BLANKS & counts.keys())),
    )


def _is_dated(text: str) -> bool:
    """12/31/2013, 31.12.13 10:15, 2013-12-31T10:15 and their like."""
    parts = text.split(maxsplit=1)[0] if text.strip() else ""
    for separator in "/.-":
        numbers = parts.split("T")[0].split(separator)
        if len(numbers) == 3 and all(number.isdigit() and len(number) <= 4 for number in numbers):
            return True
    return False


def _trend(column: pa.ChunkedArray, kind: Kind) -> int:
    if kind != "date":
        return 0
    moments = pc.cast(column.drop_null(), pa.timestamp("us"), safe=False).to_numpy().astype(np.int64)
    return _direction(moments)


def _direction(values: NDArray[np.float64] | NDArray[np.int64]) -> int:
    steps = np.diff(values)
    if not steps.any():
        return 0
    return 1 if (steps >= 0).all() else -1 if (steps <= 0).all() else 0
