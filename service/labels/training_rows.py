"""Tables that training reads, written from rows that come one by one: CSV, Parquet, and for others JSON lines."""

import csv
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from service.labels.labelled import LabelsError
from service.labels.labels import Label
from service.scoring import FORMATS, whole_or_absent

BATCH = 10_000

Flat = dict[str, Any]
# The types of the values in each column but for None; all numbers are float.
Kinds = dict[str, set[type]]
# Gives all rows, from the first on, each time that it is called.
Again = Callable[[], Iterable[Flat]]


class Row(NamedTuple):
    """A row that was predicted, and what turned out to be true of it."""

    id: str
    row: int
    time: float
    version: int
    given: Any
    label: Label


class Columns:
    """What the columns are called: `renamed` are features that the data call otherwise, `target` is the label's."""

    def __init__(self, target: str, renamed: dict[str, str]) -> None:
        self._target = target
        self._renamed = renamed

    def flat(self, row: Row) -> Flat:
        """One row. What is known of the request gives way to a feature of the same name."""
        given = row.given if isinstance(row.given, dict) else {"input": row.given}
        when = datetime.fromtimestamp(row.time, UTC).replace(tzinfo=None)
        about = {"request_id": row.id, "row": row.row, "predicted_at": when, "version": row.version}
        features = {self._renamed.get(name, name): value for name, value in given.items()}
        return about | features | {self._target: row.label}


def write(rows: Again, target: Path) -> int:
    """How many rows there were; the file appears whole or not at all. Raises LabelsError."""
    if target.suffix not in FORMATS:
        raise LabelsError(f"{target}: expected {', '.join(FORMATS)}, got {target.suffix}")
    try:
        with whole_or_absent(target) as beside:
            if target.suffix == ".jsonl":
                return _write_jsonl(rows(), beside)
            kinds = _kinds(rows())
            if nested := [name for name, kind in kinds.items() if not kind <= {str, float, datetime}]:
                raise LabelsError(f"{target}: only .jsonl has room for lists and objects: {', '.join(nested)}")
            return (_write_csv if target.suffix == ".csv" else _write_parquet)(rows(), kinds, beside)
    except OSError as error:
        raise LabelsError(f"{target}: {error.strerror or error}") from error


def _kinds(rows: Iterable[Flat]) -> Kinds:
    """Column by column, in the order in which they are met."""
    kinds: Kinds = {}
    for row in rows:
        for name, value in row.items():
            kind = kinds.setdefault(name, set())
            if value is not None:
                kind.add(float if isinstance(value, int | float) else type(value))
    return kinds


def _write_jsonl(rows: Iterable[Flat], path: Path) -> int:
    count = 0
    with path.open("wb") as file:
        for count, row in enumerate(rows, 1):  # noqa: B007  # the number of rows is the answer
            file.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return count


def _write_csv(rows: Iterable[Flat], kinds: Kinds, path: Path) -> int:
    count = 0
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(kinds))
        writer.writeheader()
        for count, row in enumerate(rows, 1):  # noqa: B007  # the number of rows is the answer
            writer.writerow(row)
    return count


def _write_parquet(rows: Iterable[Flat], kinds: Kinds, path: Path) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise LabelsError(f"{path.suffix}: writing Parquet needs pyarrow: pip install 'hornpipe[train]'") from error
    types = {frozenset({float}): pa.float64(), frozenset({datetime}): pa.timestamp("us")}
    schema = pa.schema([(name, types.get(frozenset(kind), pa.string())) for name, kind in kinds.items()])
    left, count = iter(rows), 0
    with pq.ParquetWriter(path, schema) as writer:
        while batch := list(islice(left, BATCH)):
            columns = {field.name: _values(batch, field.name, is_text=field.type == pa.string()) for field in schema}
            writer.write_table(pa.table(columns, schema=schema))
            count += len(batch)
    return count


def _values(batch: list[Flat], name: str, *, is_text: bool) -> list[Any]:
    values = [row.get(name) for row in batch]
    return [value if value is None else str(value) for value in values] if is_text else values
