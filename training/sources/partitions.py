"""Columns that folders say: of carrier=UA/month=2013-09/part-0.parquet every row has carrier UA and month 2013-09, as
Hive, Spark and their like lay tables out. What a folder says that the file says too is the file's."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

# What Hive calls the folder of rows without a value.
MISSING = "__HIVE_DEFAULT_PARTITION__"

DAY = re.compile(r"\d{4}-\d\d-\d\d")
NUMBER = re.compile(r"-?\d+(\.\d+)?")


def values(path: Path) -> dict[str, str | None]:
    """By column, what the folders above a file say of its rows."""
    pairs = [part.partition("=") for part in path.parent.parts]
    return {unquote(key): None if text == MISSING else unquote(text) for key, sign, text in pairs if sign and key}


def all_names(path: Path, columns: Sequence[str]) -> list[str]:
    """The columns of a file and those that its folders say."""
    return [*columns, *(values(path).keys() - set(columns))]


def matches(path: Path, where: Mapping[str, Sequence[object]]) -> bool:
    """Whether the folders leave it open that rows of the file have one of the values for each column of `where`."""
    said = values(path)
    return all(column not in said or _is_one_of(said[column], wanted) for column, wanted in where.items())


def complete(table: pa.Table, path: Path, chosen: Collection[str], texts: set[str]) -> pa.Table:
    """The table with those of the columns `chosen` that only its folders say; `texts` are names, as 00123 is no 123."""
    for name, text in values(path).items():
        if name in chosen and name not in table.column_names:
            table = table.append_column(name, pa.chunked_array([_repeated(text, len(table), name in texts)]))
    return table


def _is_one_of(text: str | None, wanted: Sequence[object]) -> bool:
    return text is not None and any(text == str(value).lower() or typed(text) == value for value in wanted)


def _repeated(text: str | None, rows: int, is_text: bool) -> pa.Array:
    if text is None:
        return pa.nulls(rows)
    return pa.repeat(text if is_text else typed(text), rows)


def typed(text: str) -> str | int | float | date:
    """A day such as 2013-09-01, a number, or the text itself."""
    kinds = (date.fromisoformat,) if DAY.fullmatch(text) else (int, float) if NUMBER.fullmatch(text) else ()
    for kind in kinds:
        try:
            return kind(text)
        except ValueError:
            continue
    return text
