"""A first look at data of which nothing is known yet: enough rows to judge it by, however much there is."""

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from training.errors import DataError
from training.sections import DataSection
from training.sources import csv_file, files
from training.sources.columns import is_number
from training.sources.images import SUFFIXES

MOST_CELLS = 10_000_000
CSV_BYTES = 200_000_000
FIRST_BYTES = 1 << 20
MOST_PICTURES = 200


@dataclass(frozen=True)
class Survey:
    """`sample` has a column for each column or one-dimensional array, in the order of the rows; it is all `rows` of
    them where `whole`. `missing` counts nulls over all rows where the format knows them. `shapes` are those of pictures
    and matrices in arrays, `zeros` the columns of whole numbers that are written with leading zeros."""

    sample: pa.Table
    rows: int
    missing: dict[str, int] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    zeros: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        return len(self.sample) == self.rows


@dataclass(frozen=True)
class Pictures:
    """Files by class, and the (height, width) of some of them."""

    classes: dict[str, int]
    sizes: tuple[tuple[int, int], ...]


def table(path: Path) -> Survey:
    """Of CSV or Parquet, a file or a folder of them. Raises DataError for files that cannot be read."""
    found = files.find(DataSection(path=str(path)))
    survey = _csv(found.paths) if found.format == "csv" else _parquet(found.paths)
    if not survey.rows:
        raise DataError(str(path), ["there are no rows"])
    return survey


def _parquet(paths: Sequence[Path]) -> Survey:
    try:
        shards = [pq.ParquetFile(path) for path in paths]
        rows = sum(shard.metadata.num_rows for shard in shards)
        most = MOST_CELLS // max(1, len(shards[0].schema_arrow))
        parts = list(_parts(shards, rows, most))
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(", ".join(map(str, paths[:3])), [f"cannot be read as Parquet: {error}"]) from error
    return Survey(_joined(parts or [shards[0].schema_arrow.empty_table()]), rows, _nulls(shards))


def _parts(shards: Sequence[pq.ParquetFile], rows: int, most: int) -> Iterator[pa.Table]:
    """All rows, or the first ones of every so many row groups, from the first file to the last."""
    groups = [(shard, i) for shard in shards for i in range(shard.metadata.num_row_groups)]
    if rows <= most:
        yield from (shard.read_row_group(i) for shard, i in groups)
        return
    chosen = [groups[i] for i in np.unique(np.linspace(0, len(groups) - 1, min(len(groups), 20)).astype(int))]
    for shard, i in chosen:
        batch = next(shard.iter_batches(batch_size=max(1, most // len(chosen)), row_groups=[i]), None)
        if batch is not None:
            yield pa.Table.from_batches([batch])


def _nulls(shards: Sequence[pq.ParquetFile]) -> dict[str, int]:
    """By column, where every row group says it."""
    counts: Counter[str] = Counter()
    unknown = set()
    for shard in shards:
        for i in range(shard.metadata.num_row_groups):
            group = shard.metadata.row_group(i)
            for k in range(group.num_columns):
                column = group.column(k)
                if column.statistics is None or not column.statistics.has_null_count:
                    unknown.add(column.path_in_schema)
                else:
                    counts[column.path_in_schema] += column.statistics.null_count
    return {name: count for name, count in counts.items() if name not in unknown}


def _csv(paths: Sequence[Path]) -> Survey:
    size = sum(path.stat().st_size for path in paths)
    zeros = frozenset(_leading_zeros(paths[0]))
    if size <= CSV_BYTES:
        parts = [csv_file.read(path, {name: name for name in csv_file.names(path)}, set()) for path in paths]
        whole = _joined(parts)
        return Survey(whole, len(whole), zeros=zeros)
    beginnings = [_beginning(path, CSV_BYTES // (4 * len(paths))) for path in paths]
    parts = [part for part, _ in beginnings]
    seen = max(1, sum(read for _, read in beginnings))
    sample = _joined(parts)
    return Survey(sample, max(len(sample), round(len(sample) * size / seen)), zeros=zeros)


def _beginning(path: Path, most: int) -> tuple[pa.Table, int]:
    """The first rows of a file, and about how many bytes they are."""
    batches, block = [], FIRST_BYTES
    with pyarrow.csv.open_csv(path, read_options=pyarrow.csv.ReadOptions(block_size=block)) as reader:
        for batch in reader:
            batches.append(batch)
            if len(batches) * block >= most:
                break
        return pa.Table.from_batches(batches, reader.schema), min(len(batches) * block, path.stat().st_size)


def _leading_zeros(path: Path) -> Iterator[str]:
    """Columns of the first rows that have 007 in them, which is a code and no number."""
    names = csv_file.names(path)
    options = pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.string()))
    with pyarrow.csv.open_csv(path, convert_options=options) as reader:
        first = next(iter(reader), None)
    for name in names:
        if first is not None and pc.any(pc.match_substring_regex(first[name], r"^0\d+$")).as_py():
            yield name


def _joined(parts: Sequence[pa.Table]) -> pa.Table:
    """One table. A column that is text in one file and numbers in another is text."""
    kinds: dict[str, set[pa.DataType]] = {}
    for part in parts:
        for each in part.schema:
            kinds.setdefault(each.name, set()).add(each.type)
    mixed = {name for name, types in kinds.items() if len({_family(kind) for kind in types} - {"null"}) > 1}
    for i in range(len(parts)):
        for name in mixed & set(parts[i].column_names):
            place = parts[i].column_names.index(name)
            parts = [*parts[:i], parts[i].set_column(place, name, parts[i][name].cast(pa.string())), *parts[i + 1 :]]
    return pa.concat_tables(parts, promote_options="permissive")


def _family(kind: pa.DataType) -> str:
    if pa.types.is_null(kind):
        return "null"
    return "number" if is_number(kind) else "moment" if pa.types.is_temporal(kind) else str(kind).replace("large_", "")


def days(path: Path, column: str) -> tuple[list[date], list[int]]:
    """The days of a column of dates or times over all rows, in order, with how many rows each has."""
    counts: Counter[date] = Counter()
    for values in _every(path, column):
        for each in pc.value_counts(pc.cast(values, pa.date32())).to_pylist():
            counts[each["values"]] += each["counts"]
    known = sorted((day, count) for day, count in counts.items() if day is not None)
    return [day for day, _ in known], [count for _, count in known]


def _every(path: Path, column: str) -> Iterator[pa.Array]:
    found = files.find(DataSection(path=str(path)))
    for each in found.paths:
        if found.format == "csv":
            yield csv_file.read(each, {column: column}, set())[column].combine_chunks()
        else:
            yield from (batch.column(0) for batch in pq.ParquetFile(each).iter_batches(1 << 20, columns=[column]))


def arrays(path: Path, target: str | None) -> Survey:
    """Of a .npz file: what has as many rows as the target. Raises DataError where it cannot be read."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            held = {name: archive[name] for name in archive}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(str(path), [f"cannot be read as a .npz file of plain arrays: {error}"]) from error
    sizes = Counter(len(array) for array in held.values() if array.ndim)
    if not sizes:
        raise DataError(str(path), ["there are no arrays with rows"])
    rows = len(held[target]) if target in held and held[target].ndim else sizes.most_common(1)[0][0]
    fit = {name: array for name, array in held.items() if array.ndim and len(array) == rows}
    flat = pa.table({name: pa.array(array) for name, array in fit.items() if array.ndim == 1})
    shapes = {name: array.shape for name, array in fit.items() if array.ndim > 1}
    others = [f"{name}: left out, {list(array.shape)} is not {rows:,} rows" for name, array in held.items()
              if name not in fit]  # fmt: skip
    if not flat.num_columns:
        raise DataError(
            str(path), [f"no array has one value for each of {rows:,} rows, so there is nothing to predict"]
        )
    return Survey(flat, rows, shapes=shapes, notes=tuple(others))


def pictures(folder: Path) -> Pictures:
    """Of a folder with a subfolder of pictures for each class."""
    from PIL import Image

    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    inside = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    classes = Counter(path.relative_to(folder).parts[0] for path in inside if path.parent != folder)
    if len(classes) < 2:
        there = ", ".join(classes) or "none"
        raise DataError(str(folder), [f"a subfolder of pictures for each of two classes or more is expected: {there}"])
    sizes = []
    for path in inside[:: max(1, len(inside) // MOST_PICTURES)]:
        try:
            with Image.open(path) as image:
                sizes.append((image.height, image.width))
        except OSError:  # training names every file that it cannot read
            continue
    return Pictures(dict(sorted(classes.items(), key=lambda item: (-item[1], item[0]))), tuple(sizes))
