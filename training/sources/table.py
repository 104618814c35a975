"""Tables that fit into memory: CSV and Parquet, a file or a folder of them."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from training.rows import Prepared
from training.sections import TimeSplit, TrainingConfig
from training.sources import csv_file, files, memory
from training.sources.files import Files


def prepare(config: TrainingConfig, found: Files) -> Prepared:
    """Raises DataError with everything in which the data is not what the config says."""
    chosen = files.wanted(config)
    tables = _read(config, found, chosen)
    misfits = files.misfits(config, {file: table.schema for file, table in tables.items()})
    fitting = [name for name in chosen if name not in misfits]
    normal = [files.normal(config, each.select(fitting), file) for file, each in tables.items()]
    table = pa.concat_tables(normal, promote_options="permissive")
    if found.format == "csv":
        misfits |= _lines(config, found, chosen, misfits)
    return memory.prepare(config, table, [f"{name}: {problem}" for name, problem in misfits.items()])


def _read(config: TrainingConfig, found: Files, chosen: Mapping[str, str]) -> dict[str, pa.Table]:
    """A table for each file, by its name, with the columns called as in `chosen`."""
    named = {path.name if len(found.paths) == 1 else str(path): path for path in found.paths}
    if found.format == "csv":
        files.check_names(config, chosen, {name: csv_file.names(path) for name, path in named.items()})
        texts = files.text_columns(config, chosen)
        return {name: csv_file.read(path, dict(chosen), texts) for name, path in named.items()}
    files.check_names(config, chosen, {name: files.schema(path).names for name, path in named.items()})
    columns = sorted(set(chosen.values()))
    return {name: _read_parquet(path, columns, chosen) for name, path in named.items()}


def _read_parquet(path: Path, columns: list[str], chosen: Mapping[str, str]) -> pa.Table:
    with files.readable(path), pq.ParquetFile(path) as file:
        table = file.read(columns=columns)
    return table.select(list(chosen.values())).rename_columns(list(chosen))


def _lines(
    config: TrainingConfig, found: Files, chosen: Mapping[str, str], misfits: Mapping[str, str]
) -> dict[str, str]:
    """For what ought to be numbers or dates in CSV files: which line says otherwise."""
    lines = {}
    for name in misfits:
        dates = isinstance(config.split, TimeSplit) and name == config.split.column
        find = csv_file.bad_dates if dates else csv_file.bad_numbers
        wrong = [(path, bad) for path in found.paths if (bad := find(path, chosen[name]))]
        if wrong:
            path, bad = wrong[0]
            lines[name] = f"a {'date or time' if dates else 'number'} is expected, {path.name} {bad}"
    return lines
