"""The files of a table: which they are, which of their columns are wanted, and one form for what they hold."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from glob import glob, has_magic
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from training.errors import DataError, did_you_mean
from training.sections import DataSection, GroupSplit, TimeSplit, TrainingConfig
from training.sources import columns, partitions, target
from training.sources.columns import as_text
from training.sources.moments import is_time

Format = Literal["parquet", "csv"]


@dataclass(frozen=True)
class Files:
    """Files of one format, in the order of their names."""

    paths: tuple[Path, ...]
    format: Format

    def name(self, path: Path) -> str:
        """What to call one of them in a message."""
        return path.name if len(self.paths) == 1 else str(path)


def find(data: DataSection) -> Files:
    """The files of all paths, of a folder all below it but hidden ones, without those whose folders say that `where`
    lets no row of them through. Raises DataError where there is no table."""
    paths = sorted({file: None for each in data.paths for file in _below(each)})
    form = _format(data, paths)
    wanted = {column: value if isinstance(value, list) else [value] for column, value in data.where.items()}
    chosen = tuple(path for path in paths if path.suffix == f".{form}" and partitions.matches(path, wanted))
    if not chosen:
        raise DataError("data.where", [f"no folder of {data.source} says what is asked for: {data.where}"])
    return Files(chosen, form)


def _below(asked: str) -> list[Path]:
    """The files of a path, or of all that a glob finds. Raises DataError where there is nothing."""
    exact = Path(asked)
    found = [exact] if exact.exists() else [*map(Path, glob(asked, recursive=True))]  # noqa: PTH207  # may be absolute
    if not found:
        what = "nothing is called like" if has_magic(asked) else "there is no"
        raise DataError("data.path", [f"{asked} does not exist: {what} {asked} (from {Path.cwd()})"])
    return [file for path in found for file in ([path] if path.is_file() else path.rglob("*")) if _is_seen(file, path)]


def _format(data: DataSection, paths: Sequence[Path]) -> Format:
    match sorted({path.suffix for path in paths} & {".parquet", ".csv"}):
        case [".parquet"]:
            return "parquet"
        case [".csv"]:
            return "csv"
        case []:
            found = f"found {paths[0].name}" if paths else "the folder has no files"
            raise DataError("data.path", [f"{data.source}: expected .parquet or .csv files, {found}"])
        case _:
            raise DataError("data.path", [f"{data.source}: both .parquet and .csv files; name the ones that are meant"])


def _is_seen(path: Path, folder: Path) -> bool:
    # What Spark and its like leave beside the data starts with _ or a dot.
    return path.is_file() and not any(part.startswith((".", "_")) for part in path.relative_to(folder).parts)


def schema(path: Path) -> pa.Schema:
    """The columns of a Parquet file. Raises DataError for a file that is none."""
    with readable(path):
        return pq.read_schema(path)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Arrow's errors about a damaged file do not name it."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(str(path), [f"cannot be read: {error}"]) from error


def target_name(config: TrainingConfig) -> str:
    if config.data.target is None:
        raise DataError("data.target", ["a table needs the name of the column that is predicted"])
    return config.data.target


def wanted(config: TrainingConfig) -> dict[str, str]:
    """What is read: the column of the data for each column of the table, which is named for the feature. Raises
    DataError where two would have one name."""
    chosen = {name: section.column or name for name, section in config.features.items() if section.kind != "image"}
    others = {"data.target": target_name(config)}
    if isinstance(config.split, TimeSplit | GroupSplit):
        others["split.column"] = config.split.column
    clashes = [
        f"features.{column}: has the name of {key}, and is another column; call the feature something else"
        for key, column in others.items()
        if chosen.get(column, column) != column
    ]
    if clashes:
        raise DataError(config.data.source, clashes)
    return chosen | {column: column for column in others.values()}


def check_names(config: TrainingConfig, chosen: Mapping[str, str], there: Mapping[str, list[str]]) -> None:
    """`there` are the columns of each file. Raises DataError naming what the config names and a file lacks."""
    lines = []
    for name, column in chosen.items():
        lacking = [file for file, names in there.items() if column not in names]
        if len(lacking) == len(there):
            names = next(iter(there.values()))
            lines.append(f"{_key(config, name)}: no column {column!r}; {did_you_mean(column, names)}")
        elif lacking:
            lines.append(f"{_key(config, name)}: no column {column!r} in {_some(lacking)}")
    if lines:
        raise DataError(config.data.source, lines)


def _key(config: TrainingConfig, name: str) -> str:
    if name in config.features:
        return f"features.{name}"
    if name.startswith("data."):  # it only chooses rows: see selection.py
        return name
    return "data.target" if name == config.data.target else "split.column"


def misfits(config: TrainingConfig, schemas: Mapping[str, pa.Schema]) -> dict[str, str]:
    """By column of the table, why its type does not do, and in which files where it does in others. `schemas` are
    of the files, with the table's column names."""
    found: dict[str, str] = {}
    for name in next(iter(schemas.values())).names:
        files = defaultdict(list)
        for file, schema in schemas.items():
            if problem := _misfit(config, name, schema.field(name).type):
                files[problem].append(file)
        if files:
            problem, named = next(iter(files.items()))
            found[name] = problem if len(named) == len(schemas) else f"{problem} in {_some(named)}"
    return found


def _misfit(config: TrainingConfig, name: str, kind: pa.DataType) -> str | None:
    by_time = isinstance(config.split, TimeSplit) and name == config.split.column
    if (by_time or name == "data.window") and not is_time(kind):
        return f"a date or time is expected, the column is {kind}"
    if name in config.features:
        return columns.misfit(kind, config.features[name])
    return target.misfit(kind, config) if name == config.data.target else None


def normal(config: TrainingConfig, table: pa.Table, file: str) -> pa.Table:
    """The same table with its categories and classes as text. Raises DataError for a fraction among them."""
    problems = []
    for i, name in enumerate(table.column_names):
        try:
            table = table.set_column(i, name, _normal(config, name, table[name]))
        except pa.ArrowInvalid as error:
            problems.append(f"{name}: whole numbers or text are expected in {file}: {error}")
    if problems:
        raise DataError(config.data.source, problems)
    return table


def _normal(config: TrainingConfig, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
    kind = config.features[name].kind if name in config.features else None
    if kind == "text":
        return column.cast(pa.large_string())  # Arrow's smaller string ends at 2 GB a column
    is_class = name == config.data.target and config.task != "regression"
    return as_text(column) if kind == "category" or is_class else column


def text_columns(config: TrainingConfig, chosen: Mapping[str, str]) -> set[str]:
    """Columns of the data whose values are names, whatever they look like: 00123 is not 123."""
    names = {name for name, section in config.features.items() if section.kind in ("category", "text")}
    if config.task != "regression":
        names.add(target_name(config))
    if isinstance(config.split, GroupSplit):
        names.add(config.split.column)
    return {chosen[name] for name in names}


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
