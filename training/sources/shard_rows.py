"""The rows of Parquet shards that are too many for memory, batch by batch: which of them are meant, and their parts."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from training import split
from training.errors import DataError
from training.sections import TimeSplit, TrainingConfig
from training.sources import files, memory, partitions, selection
from training.sources.columns import is_text
from training.sources.files import Files
from training.sources.moments import Extent, extent
from training.sources.selection import WINDOW, Selection

BATCH_ROWS = 65_536


@dataclass(frozen=True)
class Shards:
    """The rows of all files that are meant, in order, with the columns called as in `chosen`. `rows` is how many there
    are in the files, `extent` their times where the split goes by spans of them."""

    config: TrainingConfig
    found: Files
    chosen: Mapping[str, str]
    selected: Selection
    rows: int
    row_bytes: int
    extent: Extent | None = None

    def batches(self) -> Iterator[tuple[int, pa.Table, split.Assignment]]:
        """The number of the first row, the rows, and the part of the split of each."""
        seed, rule = self.config.training.seed, self.config.split
        newest = self.extent.newest if self.extent else None
        first = 0
        for path, table in self.tables():
            column = memory.split_column(self.config, table)
            if gaps := split.gaps(rule, column.null_count if column is not None else 0):
                raise DataError(str(path), gaps)
            yield first, table, split.assign(rule, seed, first, len(table), self.rows, column, newest)
            first += len(table)

    def tables(self, only: Collection[str] = ()) -> Iterator[tuple[Path, pa.Table]]:
        """The rows that are meant, batch by batch, with their file; of the columns `only` some where any are named."""
        for path, table in self.as_they_are(only):
            yield path, files.normal(self.config, self.selected.of(table, path), path.name)

    def as_they_are(self, only: Collection[str] = ()) -> Iterator[tuple[Path, pa.Table]]:
        """All rows but those of row groups before the window, with the columns that choose among them."""
        for path in self.found.paths:
            for table in self._batches_of(path, {*only, *selection.extras(self.config)} if only else set()):
                yield path, table

    def _batches_of(self, path: Path, only: Collection[str]) -> Iterator[pa.Table]:
        chosen = {name: column for name, column in self.chosen.items() if not only or name in only}
        schema, sections = files.schema(path), self.config.features
        texts = [field.name for field in schema if is_text(field.type)]
        names = [name for name in texts if sections.get(name) is None or sections[name].kind != "text"]
        by_folder = files.text_columns(self.config, self.chosen)
        # Without its own buffering Arrow would hold whole row groups, which may be as large as the file.
        whole = pq.ParquetFile(path, read_dictionary=names, pre_buffer=False, buffer_size=1 << 20)
        with files.readable(path), whole as file:
            columns, groups = sorted({*chosen.values()} & {*schema.names}), self.selected.groups(file.metadata)
            for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns):
                table = partitions.complete(pa.Table.from_batches([batch]), path, chosen.values(), by_folder)
                yield table.select(list(chosen.values())).rename_columns(list(chosen))


def opened(config: TrainingConfig, found: Files) -> Shards:
    chosen = files.wanted(config) | selection.extras(config)
    texts = files.text_columns(config, chosen)
    empty = {path: files.schema(path).empty_table() for path in found.paths}
    schemas = {
        found.name(path): partitions.complete(table, path, chosen.values(), texts).schema
        for path, table in empty.items()
    }
    files.check_names(config, chosen, {file: schema.names for file, schema in schemas.items()})
    renamed = {
        file: pa.schema([schema.field(column).with_name(name) for name, column in chosen.items()])
        for file, schema in schemas.items()
    }
    if misfits := files.misfits(config, renamed):
        raise DataError(config.data.source, [f"{name}: {problem}" for name, problem in misfits.items()])
    metadata = [pq.read_metadata(path) for path in found.paths]
    rows = sum(each.num_rows for each in metadata)
    taken = sum(each.row_group(i).total_byte_size for each in metadata for i in range(each.num_row_groups))
    whole = Shards(config, found, chosen, Selection(config), rows, max(8 * len(chosen), taken // max(rows, 1)))
    return _selected(whole)


def _selected(shards: Shards) -> Shards:
    """What is meant of all rows; times are looked up, and rows counted, where the files do not say."""
    config = shards.config
    if config.data.window is not None:
        known = selection.known_extent(config, shards.found) or extent_of(shards, WINDOW)
        shards = replace(shards, selected=shards.selected.since(known))
    if isinstance(config.split, TimeSplit) and config.split.test is not None:
        shards = replace(shards, extent=extent_of(shards, config.split.column))
    if config.data.where:
        rows = sum(len(table) for _, table in shards.tables([str(config.data.target)]))
        selection.require_some(config, rows)
        shards = replace(shards, rows=rows)
    return shards


def extent_of(shards: Shards, name: str) -> Extent | None:
    """The times in a column of the rows that are meant, as far as that is known."""
    found: Extent | None = None
    for path, table in shards.as_they_are([name]):
        selected = shards.selected
        of_batch = selected.extent(table, path) if name == WINDOW else extent(selected.of(table, path)[name])
        found = Extent.of_both(found, of_batch)
    return found
