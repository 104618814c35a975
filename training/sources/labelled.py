"""Rows that a service has logged and whose labels have come, as one more file beside the others.

Whoever may look into a service's log writes them to a file (`Exporter`), with the columns called as the data call them;
here they become a shard that is read as every other: the columns that the config names, in the shards' types.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from contract.evidence import DataWarning
from training.errors import DataError, did_you_mean
from training.sections import FeatureSection, TrainingConfig
from training.sources import csv_file, files, partitions, selection
from training.sources.columns import as_text, is_text
from training.sources.files import Files
from training.sources.moments import is_time

# Writes the logged rows of the config's model with their labels to a Parquet file; how many. Raises HornpipeError.
Exporter = Callable[[TrainingConfig, Path], int]

NAME = "labelled"
# What a logged row says of its request, beside its features.
REQUEST, ROW, TIME = "request_id", "row", "predicted_at"
HASH = r"^[0-9a-f]{32}$"
MOST_NAMED = 3

Warnings = tuple[DataWarning, ...]


def added(config: TrainingConfig, found: Files, exported: Path, folder: Path) -> tuple[Files, Warnings]:
    """The files with one more of them in `folder`, which has the rows of `exported`; the same ones where it has none.

    Raises DataError for rows that are not what the config says.
    """
    logged = pq.read_table(exported)
    if not len(logged):
        advice = "labels come with POST /feedback; without any, training goes by the data alone"
        return found, (DataWarning(check="labelled", seen="no logged row has a label yet", advice=advice),)
    rows, seen = _new(logged, found)
    rows, others = _of_known_classes(config, rows, found)
    if not len(rows):
        return found, (*seen, *others)
    path = folder / f"{NAME}.{found.format}"
    folder.mkdir(parents=True, exist_ok=True)
    _write(_as_shard(config, rows, found), path)
    return replace(found, paths=(*found.paths, path)), (*_told(len(rows)), *seen, *others)


def _told(count: int) -> Iterator[DataWarning]:
    yield DataWarning(
        check="labelled", seen=f"{count:,} logged rows with their labels are among the data", advice="this is as asked"
    )


def _new(logged: pa.Table, found: Files) -> tuple[pa.Table, Warnings]:
    """The rows that are in no shard, by the request that they are of, where the shards say that."""
    shared = [name for name in (REQUEST, ROW) if all(name in _columns(path, found) for path in found.paths)]
    if REQUEST not in shared:
        seen = f"the data have no column {REQUEST}, so a logged row that is among them counts twice"
        advice = f"leave logged rows out of the data, or keep their {REQUEST}, as hornpipe labels writes it"
        return logged, (DataWarning(check="labelled", seen=seen, advice=advice),)
    there = {key for path in found.paths for key in _keys(_read(path, found, shared), shared)}
    fresh = [key not in there for key in _keys(logged, shared)]
    rows = logged.filter(pa.array(fresh, pa.bool_()))
    if len(rows) == len(logged):
        return rows, ()
    seen = f"{len(logged) - len(rows):,} of {len(logged):,} logged rows are in the data already"
    return rows, (DataWarning(check="labelled", seen=seen, advice="they count once; nothing needs to be done"),)


def _keys(table: pa.Table, names: list[str]) -> Iterator[tuple[str, ...]]:
    """The request id, and which of its rows where that is known: 1 and 1.0 are one."""
    columns = [as_text(table[name]).to_pylist() for name in names]
    return zip(*columns, strict=True)


def _of_known_classes(config: TrainingConfig, rows: pa.Table, found: Files) -> tuple[pa.Table, Warnings]:
    """Without rows whose class the data do not have: who answers what nobody asked has made a slip of the pen."""
    target = files.target_name(config)
    if config.task == "regression":
        return rows, ()
    labels = as_text(rows[target])
    known = {name for path in found.paths for name in _values(path, found, target)}
    strange = set(labels.unique().to_pylist()) - known
    if not strange:
        return rows, ()
    named = ", ".join(f"{name!r} ({did_you_mean(str(name), known)})" for name in sorted(map(str, strange))[:MOST_NAMED])
    kept = rows.filter(pc.is_in(labels, value_set=pa.array(sorted(known), labels.type)))
    seen = f"{len(rows) - len(kept):,} logged rows have a class that the data do not have and are left out: {named}"
    return kept, (DataWarning(check="labelled", column=target, seen=seen, advice="mend the feedback"),)


def _as_shard(config: TrainingConfig, rows: pa.Table, found: Files) -> pa.Table:
    """The columns that will be read, in the types of the first shard. Raises DataError with all that are not there."""
    like = _empty(found.paths[0], found, config).schema
    columns, problems = {}, []
    for name, column in (files.wanted(config) | selection.extras(config)).items():
        try:
            columns[column] = _column(config, rows, column, like.field(column).type if column in like.names else None)
        except ValueError as error:
            problems.append(f"{name}: {error}")
    if problems:
        raise DataError("data.labelled", problems)
    return pa.table(columns)


def _column(config: TrainingConfig, rows: pa.Table, column: str, kind: pa.DataType | None) -> pa.ChunkedArray:
    """Raises ValueError saying why the logged rows do not have it."""
    section = _feature(config, column)
    if column in rows.column_names and rows[column].null_count < len(rows):
        return _like(_not_hashed(rows[column], section), kind)
    if section is not None and not section.optional:
        raise ValueError(f"no logged row has a value of {column!r}; is it kept out by HORNPIPE_PREDICTIONS_REDACT?")
    if section is not None:
        return pa.chunked_array([pa.nulls(len(rows), kind or pa.float64())])
    if kind is not None and is_time(kind):
        return _like(rows[TIME], kind)
    raise ValueError(f"logged rows have no column {column!r}; what is asked for by it cannot be told of them")


def _feature(config: TrainingConfig, column: str) -> FeatureSection | None:
    return next((each for name, each in config.features.items() if (each.column or name) == column), None)


def _not_hashed(column: pa.ChunkedArray, section: FeatureSection | None) -> pa.ChunkedArray:
    if section is not None and is_text(column.type):
        known = column.drop_null()
        if pc.all(pc.match_substring_regex(known, HASH)).as_py():
            raise ValueError("the log has hashes of it (HORNPIPE_PREDICTIONS_HASH), which no row of the data has")
    return column


def _like(column: pa.ChunkedArray, kind: pa.DataType | None) -> pa.ChunkedArray:
    """In the type of the shards where it is one for times or names; numbers go together as they are."""
    if kind is None:
        return column
    if is_time(kind) and is_time(column.type):
        zone = "UTC" if getattr(kind, "tz", None) else None
        return column.cast(pa.timestamp("us", zone)).cast(kind, safe=False)
    return column.dictionary_encode() if pa.types.is_dictionary(kind) else column


def _columns(path: Path, found: Files) -> list[str]:
    names = csv_file.names(path) if found.format == "csv" else files.schema(path).names
    return partitions.all_names(path, names)


def _read(path: Path, found: Files, names: list[str]) -> pa.Table:
    if found.format == "csv":
        table = csv_file.read(path, {name: name for name in names if name in csv_file.names(path)}, set(names))
    else:
        there = [name for name in names if name in files.schema(path).names]
        with files.readable(path), pq.ParquetFile(path) as file:
            table = file.read(columns=there)
    return partitions.complete(table, path, names, set(names))


def _values(path: Path, found: Files, column: str) -> list[str]:
    """The different values of a column, as text."""
    if column not in _columns(path, found):
        return []  # which is said when the file is read
    values: list[str] = as_text(_read(path, found, [column])[column]).unique().to_pylist()
    return values


def _empty(path: Path, found: Files, config: TrainingConfig) -> pa.Table:
    chosen = files.wanted(config) | selection.extras(config)
    there = [column for column in chosen.values() if column in _columns(path, found)]
    if found.format == "csv":
        texts = files.text_columns(config, chosen)
        return csv_file.read(path, {name: name for name in there if name in csv_file.names(path)}, texts).slice(0, 0)
    return partitions.complete(files.schema(path).empty_table(), path, there, files.text_columns(config, chosen))


def _write(table: pa.Table, path: Path) -> None:
    """Whole or not at all; a file that is the same already stays, with the time of its writing."""
    beside = path.with_name(path.name + ".partial")
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, beside)
    else:
        pq.write_table(table, beside)
    if path.exists() and path.read_bytes() == beside.read_bytes():
        beside.unlink()
    else:
        beside.replace(path)
