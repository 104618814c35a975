"""The rows of the drift study: what is learned from, and the streams that are replayed, each row with its hour.

Everything before September 2013 is known when the model is made: it learns from January to July, and chooses and is
tested in August. Three rows in ten of January to mid-August are taken away before that, so that there are rows that
nobody has learned from and that nevertheless come from the same months: the control, where nothing has drifted.
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from examples.flights.prepare import prepare

PREPARED = Path("build/flights")
FOLDER = Path("build/drift-study")
LEARN = FOLDER / "learn.parquet"

YEAR, VALIDATION, TEST, AUTUMN = date(2013, 1, 1), date(2013, 8, 1), date(2013, 8, 16), date(2013, 9, 1)
HELD_OUT = 0.3
SEED = 2013
# The control has the volume of September and October, hour by hour: windows as large as those it is compared with.
CONTROL_DAYS = 61
SECONDS_AN_HOUR = 3600

TARGET, POSITIVE, DATE = "outcome", "late", "date"


@dataclass(frozen=True)
class Stream:
    """Rows in the order in which they are asked, and when: hours since midnight of `begins`, rising, [n]."""

    name: str
    begins: date
    rows: pa.Table
    hours: NDArray[np.int64]

    @property
    def days(self) -> int:
        return int(self.hours[-1]) // 24 + 1

    @property
    def labels(self) -> NDArray[np.int64]:
        """1 where the flight was late, [n]."""
        return np.array(pc.equal(self.rows[TARGET], POSITIVE), np.int64)

    @property
    def features(self) -> pa.Table:
        return self.rows.drop_columns([DATE, TARGET])

    def times(self) -> list[datetime]:
        """The hour of each row, for tools that want a moment."""
        begins = datetime.combine(self.begins, datetime.min.time())
        return [begins + timedelta(hours=hour) for hour in self.hours.tolist()]


@dataclass(frozen=True)
class Rows:
    """`train` is what the baseline of the inputs is of, `validation` what that of the outputs is of. `control` are
    rows like the former, in a random order, and `in_order` the same rows at their own hours, from January to July;
    `control_outputs` are rows like the latter, drawn again and again, because they are few."""

    train: Stream
    validation: Stream
    control: Stream
    in_order: Stream
    control_outputs: Stream
    autumn: Stream

    @property
    def asked(self) -> tuple[Stream, ...]:
        """What goes through the service, in this order."""
        return self.validation, self.control, self.in_order, self.control_outputs, self.autumn


def divide() -> Rows:
    """All streams; LEARN is written where it is not there, the same every time."""
    if not PREPARED.exists():
        prepare(PREPARED)
    rows = pq.read_table(PREPARED)
    rng = np.random.default_rng(SEED)
    held_out = pa.array(rng.random(len(rows)) < HELD_OUT)
    held_out = pc.and_(held_out, _between(rows, date.min, TEST))
    autumn = _in_time("autumn", rows.filter(_between(rows, AUTUMN, date.max)), AUTUMN)
    learned = rows.filter(pc.invert(held_out))
    _write(learned.filter(_between(learned, date.min, AUTUMN)))
    spare = rows.filter(held_out)
    like_train = spare.filter(_between(spare, date.min, VALIDATION))
    like_validation = spare.filter(_between(spare, VALIDATION, TEST))
    hours = autumn.hours[autumn.hours < 24 * CONTROL_DAYS]
    again = rng.integers(len(like_validation), size=len(hours))
    return Rows(
        train=_in_time("train", learned.filter(_between(learned, date.min, VALIDATION)), YEAR),
        validation=_in_time("validation", learned.filter(_between(learned, VALIDATION, TEST)), VALIDATION),
        control=_at("control", like_train.take(pa.array(rng.permutation(len(like_train)))), hours),
        in_order=_in_time("in_order", like_train, YEAR),
        control_outputs=_at("control_outputs", like_validation.take(pa.array(again)), hours),
        autumn=autumn,
    )


def _between(rows: pa.Table, since: date, until: date) -> pa.ChunkedArray:
    """Which rows are from `since` on and before `until`."""
    day = pc.cast(rows[DATE], pa.date32())
    return pc.and_(pc.greater_equal(day, pa.scalar(since)), pc.less(day, pa.scalar(until)))


def _in_time(name: str, rows: pa.Table, begins: date) -> Stream:
    """At the hour of the scheduled departure."""
    ordered = rows.sort_by([(DATE, "ascending"), ("departure_minute", "ascending")])
    since = np.array(ordered[DATE].cast(pa.timestamp("s")), "datetime64[s]") - np.datetime64(begins, "s")
    minutes = np.array(ordered["departure_minute"], np.int64)
    return Stream(name, begins, ordered, since.astype(np.int64) // SECONDS_AN_HOUR + minutes // 60)


def _at(name: str, rows: pa.Table, hours: NDArray[np.int64]) -> Stream:
    """One row for each of the hours, whole days, as far as there are rows."""
    if len(rows) < len(hours):
        hours = hours[hours < hours[len(rows)] // 24 * 24]
    return Stream(name, AUTUMN, rows.slice(0, len(hours)), hours)


def _write(rows: pa.Table) -> None:
    if not LEARN.exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows, LEARN)
