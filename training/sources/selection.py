"""Which rows of the files are read: those that `data.where` lets through, and that lie in `data.window`.

A window of the last days is measured back from the newest row, so the newest row is found first: from the statistics
that Parquet files keep of each row group, or by reading the column. Row groups that lie before the window are not read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from training.errors import DataError
from training.sections import TimeSplit, TrainingConfig
from training.sources import partitions
from training.sources.columns import plain
from training.sources.files import Files, readable
from training.sources.moments import Extent, extent, length, moment, moments, said

# What the columns are called that are read only to choose rows by. No feature can have such a name.
WHERE, WINDOW = "data.where.", "data.window"


def extras(config: TrainingConfig) -> dict[str, str]:
    """What is read beside the table's own columns: the column of the data by its name here."""
    chosen = {WHERE + column: column for column in config.data.where}
    return chosen | ({WINDOW: time_column(config)} if config.data.window is not None else {})


def time_column(config: TrainingConfig) -> str:
    """By which rows are older or newer. Empty where the config names none."""
    if config.data.window is not None and config.data.window.column is not None:
        return config.data.window.column
    return config.split.column if isinstance(config.split, TimeSplit) else ""


@dataclass(frozen=True)
class Selection:
    """`start` is the first moment of the window, in microseconds since 1970; None without a window, or before it is
    known."""

    config: TrainingConfig
    start: int | None = None

    def since(self, extent: Extent | None) -> "Selection":
        """The same where the window is of rows with this extent. Raises DataError for a window without any."""
        window = self.config.data.window
        if window is None or extent is None:
            return self
        start = moment(window.since) if window.since else extent.newest - length(str(window.last)) + 1
        if start > extent.newest:
            raise DataError("data.window", [f"no row is of {said(start)} or later: they are of {extent}"])
        return Selection(self.config, start)

    def of(self, table: pa.Table, path: Path) -> pa.Table:
        """The rows of a table from a file that are meant, without the columns that only choose. Raises DataError."""
        keep = self._let_through(table, path)
        if self.start is not None:
            if gaps := table[WINDOW].null_count:
                column = time_column(self.config)
                raise DataError(str(path), [f"{column}: {gaps:,} values are missing, and the window goes by it"])
            keep &= moments(table[WINDOW]) >= self.start
        table = table.drop_columns([name for name in extras(self.config) if name in table.column_names])
        return table if keep.all() else table.filter(pa.array(keep))

    def extent(self, table: pa.Table, path: Path) -> Extent | None:
        """The times, as the window sees them, of the rows that `where` lets through."""
        return extent(table[WINDOW].filter(pa.array(self._let_through(table, path))))

    def groups(self, metadata: pq.FileMetaData) -> list[int]:
        """The row groups of a file that may hold rows of the window."""
        numbers = [*range(metadata.num_row_groups)]
        if self.start is None:
            return numbers
        known = [_extent_of(metadata, i, time_column(self.config)) for i in numbers]
        return [i for i, each in zip(numbers, known, strict=True) if each is None or each.newest >= self.start]

    def _let_through(self, table: pa.Table, path: Path) -> NDArray[np.bool_]:
        keep = np.ones(len(table), bool)
        for column, wanted in self.config.data.where.items():
            if column not in partitions.values(path):  # else the file would not be here
                values = plain(table[WHERE + column])
                among = pc.is_in(values, value_set=_as(values.type, column, wanted, path))
                keep &= among.to_numpy().astype(bool)
        return keep


def require_some(config: TrainingConfig, rows: int) -> None:
    """Raises DataError where `where` lets no row through; a window always has the newest."""
    if not rows and config.data.where:
        raise DataError("data.where", [f"no row of {config.data.source} is what is asked for: {config.data.where}"])


def known_extent(config: TrainingConfig, found: Files, column: str | None = None) -> Extent | None:
    """The times of all rows that are meant, in `column` or else that of the window, from what Parquet files say of
    themselves; None where they do not say."""
    said_by_folders = set[str].intersection(*({*partitions.values(path)} for path in found.paths))
    column = column or (time_column(config) if config.data.window is not None else None)
    if column is None or found.format != "parquet" or config.data.where.keys() - said_by_folders:
        return None
    whole: Extent | None = None
    for path in found.paths:
        for known in _extents(path, column):
            if known is None:
                return None
            whole = Extent.of_both(whole, known)
    return whole


def _extents(path: Path, column: str) -> Iterator[Extent | None]:
    with readable(path):
        metadata = pq.read_metadata(path)
    if column not in metadata.schema.to_arrow_schema().names:
        day = partitions.typed(partitions.values(path).get(column) or "")
        yield Extent(moment(day), moment(day)) if isinstance(day, date) else None
        return
    for i in range(metadata.num_row_groups):
        if metadata.row_group(i).num_rows:
            yield _extent_of(metadata, i, column)


def _extent_of(metadata: pq.FileMetaData, group: int, column: str) -> Extent | None:
    row_group = metadata.row_group(group)
    for i in range(row_group.num_columns):
        chunk = row_group.column(i)
        if chunk.path_in_schema == column:
            kept = chunk.statistics
            if kept is None or not kept.has_min_max or not hasattr(kept.min, "year"):
                return None
            return Extent(moment(kept.min), moment(kept.max))
    return None


def _as(kind: pa.DataType, column: str, wanted: object, path: Path) -> pa.Array:
    """The values of `data.where` as a column has them."""
    values: Sequence[object] = wanted if isinstance(wanted, list) else [wanted]
    try:
        return pa.array([pa.scalar(value).cast(kind).as_py() for value in values], kind)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError("data.where", [f"{column}: {wanted!r} is asked for, and in {path} it is {kind}"]) from error
