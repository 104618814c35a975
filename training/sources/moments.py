"""Times of rows: whatever a column of days or times holds, as microseconds since 1970 in UTC."""

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from contract.retrain import seconds_of

MICROSECONDS = 1_000_000


class Extent(NamedTuple):
    """When the oldest and the newest of some rows are."""

    oldest: int
    newest: int

    def __str__(self) -> str:
        return f"{said(self.oldest)} to {said(self.newest)}"

    @staticmethod
    def of_both(one: "Extent | None", other: "Extent | None") -> "Extent | None":
        if one is None or other is None:
            return one or other
        return Extent(min(one.oldest, other.oldest), max(one.newest, other.newest))


def is_time(kind: pa.DataType) -> bool:
    return bool(pa.types.is_date(kind) or pa.types.is_timestamp(kind))


def moments(column: pa.ChunkedArray) -> NDArray[np.int64]:
    """int64 [n] of a column without gaps; a day is its midnight, a time without a zone is taken for UTC."""
    times = pc.cast(column, pa.timestamp("us"), safe=False)
    values: NDArray[np.int64] = times.cast(pa.int64()).to_numpy()
    return values


def extent(column: pa.ChunkedArray) -> Extent | None:
    """None where no row has a time."""
    known = moments(column.drop_null())
    return Extent(int(known.min()), int(known.max())) if known.size else None


def moment(value: date) -> int:
    """Of a day or a time."""
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    elif value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    since = value - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * MICROSECONDS + since.microseconds


def as_datetime(when: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=when)


def length(span: str) -> int:
    """Microseconds of 14d, 12h or 90m."""
    return round(seconds_of(span) * MICROSECONDS)


def said(when: int) -> str:
    """For people: 2013-09-01, or 2013-09-01 14:30."""
    time = str(np.datetime64(when, "us").astype("datetime64[m]")).replace("T", " ")
    return time.removesuffix(" 00:00")
