"""Tables that fit into memory: CSV and Parquet, one file or many."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from contract.manifest import Manifest
from training.rows import Prepared
from training.sections import TimeSplit, TrainingConfig
from training.sources import csv_file, files, memory, partitions, selection
from training.sources.files import Files
from training.sources.moments import Extent
from training.sources.selection import WINDOW, Selection


def prepare(
    config: TrainingConfig, found: Files, workdir: Path | None = None, production: Manifest | None = None
) -> Prepared:
    """Raises DataError with everything in which the data is not what the config says, or `production` learnt from."""
    del workdir
    chosen = files.wanted(config) | selection.extras(config)
    tables = _read(config, found, chosen)
    named = {found.name(path): table for path, table in tables.items()}
    misfits = files.misfits(config, {file: table.schema for file, table in named.items()})
    if found.format == "csv":
        misfits |= _lines(config, found, chosen, misfits)
    if WINDOW not in misfits:
        tables = _selected(config, tables)
    normal = [
        files.normal(config, table.drop_columns([*misfits.keys() & {*table.column_names}]), found.name(path))
        for path, table in tables.items()
    ]
    table = pa.concat_tables(normal, promote_options="permissive")
    return memory.prepare(
        config, table, [f"{name}: {problem}" for name, problem in misfits.items()], production=production
    )


def _read(config: TrainingConfig, found: Files, chosen: Mapping[str, str]) -> dict[Path, pa.Table]:
    """A table for each file, with the columns called as in `chosen`; rows that lie before the window may be missing."""
    names = csv_file.names if found.format == "csv" else lambda path: files.schema(path).names
    there = {path: names(path) for path in found.paths}
    files.check_names(config, chosen, {found.name(path): partitions.all_names(path, there[path]) for path in there})
    texts = files.text_columns(config, chosen)
    roughly = Selection(config).since(selection.known_extent(config, found))
    tables = {}
    for path, columns in there.items():
        wanted = sorted({*chosen.values()} & {*columns})
        if found.format == "csv":
            table = csv_file.read(path, {column: column for column in wanted}, texts)
        else:
            table = _read_parquet(path, wanted, roughly)
        table = partitions.complete(table, path, chosen.values(), texts)
        tables[path] = table.select(list(chosen.values())).rename_columns(list(chosen))
    return tables


def _read_parquet(path: Path, columns: list[str], chosen: Selection) -> pa.Table:
    with files.readable(path), pq.ParquetFile(path) as file:
        return file.read_row_groups(chosen.groups(file.metadata), columns=columns)


def _selected(config: TrainingConfig, tables: Mapping[Path, pa.Table]) -> dict[Path, pa.Table]:
    """Each with the rows that `data.where` and `data.window` mean. Raises DataError where there are none."""
    chosen = Selection(config)
    if config.data.window is not None:
        whole: Extent | None = None
        for path, table in tables.items():
            whole = Extent.of_both(whole, chosen.extent(table, path))
        chosen = chosen.since(whole)
    found = {path: chosen.of(table, path) for path, table in tables.items()}
    selection.require_some(config, sum(len(table) for table in found.values()))
    return found


def _lines(
    config: TrainingConfig, found: Files, chosen: Mapping[str, str], misfits: Mapping[str, str]
) -> dict[str, str]:
    """For what ought to be numbers or dates in CSV files: which line says otherwise."""
    lines = {}
    for name in misfits:
        dates = name == WINDOW or (isinstance(config.split, TimeSplit) and name == config.split.column)
        find = csv_file.bad_dates if dates else csv_file.bad_numbers
        wrong = [(path, bad) for path in found.paths if (bad := find(path, chosen[name]))]
        if wrong:
            path, bad = wrong[0]
            lines[name] = f"a {'date or time' if dates else 'number'} is expected, {path.name} {bad}"
    return lines
