"""A CSV file into a table, and where it is wrong, the line: Arrow reads fast, but does not always say where it stopped.

Types are what the values say, with three exceptions: what the config calls a category, a text or a class is text as it
stands in the file. An empty field is missing; so is NA, NaN, null and their like, but not in text.
"""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from training.errors import DataError

OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def names(path: Path) -> list[str]:
    """The columns. Raises DataError for a file without any."""
    return list(_peek(path).names)


def read(path: Path, chosen: dict[str, str], texts: set[str]) -> pa.Table:
    """The columns of `chosen` under their new names; `texts` are columns of the file that are read as text.

    Raises DataError with the file and line when a row has too many fields or too few, or is not UTF-8.
    """
    kinds = {field.name: pa.string() for field in _peek(path) if field.name in texts and field.type != pa.bool_()}
    options = pyarrow.csv.ConvertOptions(column_types=kinds, include_columns=sorted(set(chosen.values())))
    try:
        table = pyarrow.csv.read_csv(path, convert_options=options)
    except pa.ArrowInvalid as error:
        raise DataError(str(path), [_broken_line(path) or str(error)]) from error
    return table.select(list(chosen.values())).rename_columns(list(chosen))


@dataclass(frozen=True)
class BadValues:
    """Values that do not parse: the line and value of the first, and how many there are."""

    line: int
    value: str
    count: int

    def __str__(self) -> str:
        more = f" (and {self.count - 1:,} more like it)" if self.count > 1 else ""
        return f"line {self.line:,} has {self.value[:40]!r}{more}"


def bad_numbers(path: Path, column: str) -> BadValues | None:
    """What keeps a column from being one of numbers."""
    return _bad(path, column, _is_number)


def bad_dates(path: Path, column: str) -> BadValues | None:
    """What keeps a column from being one of dates or times."""
    return _bad(path, column, _is_date)


def _peek(path: Path) -> pa.Schema:
    """Names and likely types, from the beginning of the file."""
    try:
        with pyarrow.csv.open_csv(path) as reader:
            schema = reader.schema
    except pa.ArrowInvalid as error:
        raise DataError(str(path), [_broken_line(path) or str(error)]) from error
    if problem := _other_separator(schema.names):
        raise DataError(str(path), [problem])
    return schema


def _bad(path: Path, column: str, is_good: Callable[[str], bool]) -> BadValues | None:
    place: int | None = None
    first, count = None, 0
    for line, fields in _lines(path):
        if place is None:
            place = fields.index(column)
        elif place < len(fields) and not is_good(fields[place]):
            first, count = first or (line, fields[place]), count + 1
    return None if first is None else BadValues(*first, count)


def _other_separator(names: list[str]) -> str | None:
    """Where the first line is a single name that looks like many."""
    for separator, called in OTHER_SEPARATORS.items():
        if len(names) == 1 and separator in names[0]:
            return f"{called} separate the fields; save it with commas, and numbers with a decimal point"
    return None


def _broken_line(path: Path) -> str | None:
    width = None
    for line, fields in _lines(path):
        if width is None and (problem := _other_separator(fields)):
            return problem
        width = width or len(fields)
        if len(fields) != width:
            return f"line {line:,} has {len(fields)} fields, the first line has {width}"
        # The error handler that reads on past bytes that are no UTF-8 leaves these in their place.
        if any("\udc80" <= character <= "\udcff" for field in fields for character in field):
            shown = ", ".join(fields)[:60].encode("ascii", "replace").decode()
            return f"line {line:,} is not UTF-8: {shown}; save it as UTF-8 (iconv -f latin1 -t utf8, if it is Latin-1)"
    return None


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row with its line number; empty lines are no rows."""
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(file)
        for fields in reader:
            if fields:
                yield reader.line_num, fields


def _is_number(text: str) -> bool:
    if text in pyarrow.csv.ConvertOptions().null_values:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text  # which Python allows


def _is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return text in pyarrow.csv.ConvertOptions().null_values
    return True
