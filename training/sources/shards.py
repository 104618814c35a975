"""Parquet shards that are too many for memory, streamed twice.

The first time, batch by batch, everything is looked at: what is wrong, what the training rows say of each feature, and
an even sample of each part of the split, which stays in memory. The second time the training rows are encoded and
appended to files in the work directory (row_files.py), from which every epoch reads them. A run that is started again
finds the files, and uses them if they were made from the same shards by the same config.
"""

import hashlib
import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AwareDatetime

from contract.evidence import DataWarning
from contract.features import Encoder
from contract.manifest import CategoryFeature, Feature, Manifest, NumberFeature, TextFeature
from contract.part import Part
from training import split
from training.checking import checks, increment
from training.checking.copies import Copies
from training.checking.increment import Known
from training.errors import DataError
from training.rows import Indices, Prepared, Rows
from training.sections import TimeSplit, TrainingConfig
from training.sources import files, memory, selection
from training.sources.columns import Columns, plain
from training.sources.encoding import encode
from training.sources.files import Files
from training.sources.fingerprint import Fingerprint
from training.sources.moments import Extent, as_datetime, moments
from training.sources.reservoir import Reservoir
from training.sources.row_files import RowFiles, writing
from training.sources.selection import Selection
from training.sources.shard_rows import Shards, extent_of, opened
from training.sources.target import Target, labels
from training.task import TASKS

STREAM_FROM_BYTES = 512_000_000  # encoded; reading and shuffling in memory takes several times as much
MOST_KEPT = 500_000
KEPT_BYTES = 256_000_000
MOST_CHECKED = 200_000
FORMAT = 2


class Facts(Part):
    """What is known of the files of a work directory. `source` is what they were made from."""

    source: str
    fingerprint: str
    classes: tuple[str, ...]
    features: tuple[Feature, ...]
    rows: tuple[int, int, int]
    newest: AwareDatetime | None
    warnings: tuple[DataWarning, ...]


def are_many(config: TrainingConfig, found: Files) -> bool:
    """Whether the rows are to be streamed: by the config, or by what they would take in memory."""
    if found.format != "parquet":
        if config.data.stream is True:
            raise DataError("data.stream", ["only Parquet files can be streamed; these are CSV"])
        return False
    if config.data.stream != "auto":
        return config.data.stream
    chosen = Selection(config).since(selection.known_extent(config, found))
    return sum(_encoded_bytes(config, path, chosen) for path in found.paths) > STREAM_FROM_BYTES


def _encoded_bytes(config: TrainingConfig, path: Path, chosen: Selection) -> int:
    """What the rows of a file take in memory, roughly: four bytes a value, and texts as they are."""
    with files.readable(path):
        metadata = pq.read_metadata(path)
    groups = [metadata.row_group(i) for i in chosen.groups(metadata)]
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    texts = {section.column or name for name, section in config.features.items() if section.kind == "text"}
    text = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in texts)
    return int(sum(group.num_rows for group in groups) * len(config.features) * 4 + text)


def prepare(config: TrainingConfig, found: Files, workdir: Path | None, production: Manifest | None = None) -> Prepared:
    """Raises DataError with everything in which the data is not what the config says, or `production` learnt from."""
    shards = opened(config, found)
    place = workdir or Path(tempfile.mkdtemp(prefix="hornpipe-rows-"))
    folder = place / "rows"
    source = _source(config, found)
    if not _is_made_from(folder, source):
        _make(shards, folder, source, production)
    prepared = _prepared(config, folder)
    if workdir is None:
        weakref.finalize(prepared.train, shutil.rmtree, place, ignore_errors=True)
    return prepared


def _source(config: TrainingConfig, found: Files) -> str:
    """Identifies what files are made from without reading it all: as make does, by size and time."""
    stats = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in found.paths]
    sections = config.model_dump(mode="json", include={"task", "data", "split", "features", "serving"})
    key = json.dumps([FORMAT, stats, sections, config.training.seed], sort_keys=True)
    return hashlib.sha256(key.encode()).hexdigest()


def _is_made_from(folder: Path, source: str) -> bool:
    facts = folder / "facts.json"
    return facts.exists() and Facts.model_validate_json(facts.read_bytes()).source == source


def _make(shards: Shards, folder: Path, source: str, production: Manifest | None) -> None:
    """Whole or absent: the folder gets its name when everything is in it."""
    partial = folder.with_name(f"{folder.name}.partial")
    for old in (partial, folder):
        shutil.rmtree(old, ignore_errors=True)
    partial.mkdir(parents=True)
    facts, kept = _look(shards, source, production)
    for name, table in zip(split.NAMES, kept, strict=True):
        pq.write_table(table, partial / f"{name}.parquet")
    _check_space(partial, facts)
    _encode(shards, facts, partial)
    (partial / "facts.json").write_text(facts.model_dump_json())
    partial.rename(folder)
    pa.default_memory_pool().release_unused()


def _look(shards: Shards, source: str, production: Manifest | None) -> tuple[Facts, list[pa.Table]]:
    """The first time through: the facts, and an even sample of each part."""
    config, seed = shards.config, shards.config.training.seed
    columns, target, digest, copies = Columns(config), Target(config), Fingerprint(), Copies()
    times: Extent | None = None
    capacity = min(MOST_KEPT, max(1000, KEPT_BYTES // shards.row_bytes))
    kept = [Reservoir(capacity) for _ in split.NAMES]
    for first, table, parts in shards.batches():
        columns.add(table, parts == split.TRAIN)
        target.add(table)
        digest.add(table)
        if isinstance(config.split, TimeSplit) and len(table):
            when = moments(plain(table[config.split.column]))
            times = Extent.of_both(times, Extent(int(when.min()), int(when.max())))
            if config.split.test is not None:
                digest.add_times(config.split.column, when)
            if increment.is_watched(config):
                copies.add(table, when)
        # Another seed than the split's: a draw must not depend on it.
        keys = split.hash_places(first, len(table), seed + 1)
        for part, reservoir in enumerate(kept):
            reservoir.add(table, np.flatnonzero(parts == part), keys, first)
    counts = tuple(reservoir.seen for reservoir in kept)
    if problems := [*target.problems(), *columns.problems(), *_empty_parts(shards, counts)]:
        raise DataError(config.data.source, problems)
    samples = [reservoir.rows() for reservoir in kept]
    if times is not None and increment.is_watched(config):
        known = Known(sum(counts), times, digest.hexdigest(), *copies.repeated())
        _check_increment(config, samples, known, production)
    tables = [table for table, _ in samples]
    facts = Facts(
        source=source,
        fingerprint=digest.hexdigest(),
        classes=target.classes,
        features=columns.fit(tables[split.TRAIN]),
        rows=counts,
        newest=None if times is None else as_datetime(times.newest),
        warnings=(*drawn(counts, [len(table) for table in tables]), *_checked(config, samples, sum(counts))),
    )
    return facts, tables


def _empty_parts(shards: Shards, counts: Sequence[int]) -> list[str]:
    rule, times = shards.config.split, shards.extent
    if isinstance(rule, TimeSplit) and not all(counts):
        times = times or extent_of(shards, rule.column)
    return split.empty_parts(counts, rule, times)


def _checked(config: TrainingConfig, samples: list[tuple[pa.Table, Indices]], rows: int) -> tuple[DataWarning, ...]:
    """The checks look at the rows of all parts together, in the order in which they came, but not at all of them."""
    samples = [_thinned(table, places) for table, places in samples]
    table, order = _in_order(samples)
    part = np.repeat(np.arange(len(samples)), [len(places) for _, places in samples])[order]
    parts = (np.flatnonzero(part == 0), np.flatnonzero(part == 1), np.flatnonzero(part == 2))
    return checks.warnings(config, table, parts, whole=len(table) == rows)


def _check_increment(
    config: TrainingConfig, samples: list[tuple[pa.Table, Indices]], known: Known, production: Manifest | None
) -> None:
    table, _ = _in_order([_thinned(table, places) for table, places in samples])
    times = moments(plain(table[str(getattr(config.split, "column", ""))]))
    increment.check(config, table, times, known, production)


def _in_order(samples: list[tuple[pa.Table, Indices]]) -> tuple[pa.Table, Indices]:
    """The rows of all parts in the order in which they came, and which that is."""
    places = np.concatenate([places for _, places in samples])
    order = np.argsort(places)
    return pa.concat_tables([table for table, _ in samples]).take(pa.array(order)), order


def _thinned(table: pa.Table, places: Indices) -> tuple[pa.Table, Indices]:
    rows = np.arange(0, len(table), -(-len(table) // MOST_CHECKED))
    return table.take(pa.array(rows)), places[rows]


def _encode(shards: Shards, facts: Facts, folder: Path) -> None:
    """The second time through: the training rows."""
    with writing(folder) as writer:
        for _, table, parts in shards.batches():
            rows = Rows(encode(table, facts.features), labels(table, shards.config, facts.classes))
            writer.append(rows.take(np.flatnonzero(parts == split.TRAIN)))


def _check_space(folder: Path, facts: Facts) -> None:
    needed, free = facts.rows[split.TRAIN] * 4 * (len(facts.features) + 1), shutil.disk_usage(folder).free
    if needed > free:
        raise DataError("data.path", [f"{needed / 1e9:.1f} GB are needed in {folder}, {free / 1e9:.1f} GB are free"])


def _prepared(config: TrainingConfig, folder: Path) -> Prepared:
    """A run's data, from what is in the folder alone."""
    facts = Facts.model_validate_json((folder / "facts.json").read_bytes())
    tables = [pq.read_table(folder / f"{name}.parquet") for name in split.NAMES]
    parts = [Rows(encode(table, facts.features), labels(table, config, facts.classes)) for table in tables]
    kinds = [type(feature) for feature in facts.features]
    return Prepared(
        task=TASKS[config.task],
        encoder=Encoder(facts.features),
        classes=facts.classes,
        train=RowFiles(
            folder=folder,
            rows=facts.rows[split.TRAIN],
            numbers=kinds.count(NumberFeature),
            categories=kinds.count(CategoryFeature),
            texts=kinds.count(TextFeature),
            label_type=parts[split.TRAIN].labels.dtype.name,
        ),
        sample=parts[split.TRAIN],
        validation=parts[split.VALIDATION],
        test=parts[split.TEST],
        raw_test=lambda chosen: memory.raw_rows(tables[split.TEST].take(pa.array(np.asarray(chosen))), facts.features),
        fingerprint=facts.fingerprint,
        newest=facts.newest,
        all_rows=sum(facts.rows),
        warnings=facts.warnings,
    )


def drawn(rows: Sequence[int], kept: Sequence[int]) -> Iterator[DataWarning]:
    """Says which parts of the split are but a sample of their rows."""
    for name, there, count in zip(split.NAMES[1:], rows[1:], kept[1:], strict=True):
        if count < there:
            yield DataWarning(
                check="sample",
                seen=f"{there:,} rows {name}; {count:,} of them, drawn evenly, are used",
                advice="nothing needs to be done: so many measure well enough, and the rest would not fit into memory",
            )
