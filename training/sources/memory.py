"""Rows that are all in memory: a table, perhaps with a picture for each row, split, fitted and encoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contract.features import Encoder
from contract.manifest import Feature, ImageFeature, Manifest, NumberFeature
from training import split
from training.checking import checks, increment
from training.checking.copies import Copies
from training.errors import DataError
from training.rows import Indices, InMemory, Prepared, RawRow, Rows
from training.sections import GroupSplit, TimeSplit, TrainingConfig
from training.sources import moments
from training.sources.columns import Columns, plain
from training.sources.encoding import encode
from training.sources.fingerprint import Fingerprint
from training.sources.target import Target, labels
from training.task import TASKS


@dataclass(frozen=True)
class Pictures:
    """The pictures of all rows, `pixels` uint8 or float32 [n, height, width, channels]; `raw` is what a client would
    send for one."""

    name: str
    pixels: NDArray[Any]
    raw: Callable[[int], object]

    def feature(self, learnt: Indices) -> ImageFeature:
        """Floats have the range of the rows that train."""
        shape = tuple(self.pixels.shape[1:])
        if self.pixels.dtype == np.uint8:
            return ImageFeature(name=self.name, shape=shape)
        known = self.pixels[learnt]
        low, high = float(known.min()), float(known.max())
        return ImageFeature(name=self.name, dtype="float32", shape=shape, minimum=low, maximum=high)


def prepare(
    config: TrainingConfig,
    table: pa.Table,
    problems: Sequence[str] = (),
    pictures: Pictures | None = None,
    production: Manifest | None = None,
) -> Prepared:
    """Split, fit and encode the rows of a table that has a column for each feature, but for those in `problems`.

    Raises DataError: `problems`, and what else is wrong, also by what `production` learnt from.
    """
    target, columns = Target(config), Columns(config)
    target.add(table)
    parts, split_problems = split_rows(config, table, target)
    learnt = np.zeros(len(table), bool)
    learnt[parts[0]] = True
    columns.add(table, learnt)
    if wrong := [*problems, *target.problems(), *columns.problems(), *split_problems]:
        raise DataError(config.data.source, wrong)
    times = _times(config, table)
    fingerprint = _fingerprint(config, table, pictures, times)
    if times is not None and increment.is_watched(config):
        copies = Copies()
        copies.add(table, times)
        increment.check(config, table, times, increment.Known.of(fingerprint, times, copies), production)
    warnings = checks.warnings(config, table, parts, None if pictures is None else pictures.pixels)
    features = columns.fit(table.take(pa.array(parts[0])))
    if pictures:
        features = tuple(
            sorted((*features, pictures.feature(parts[0])), key=lambda feature: [*config.features].index(feature.name))
        )
    rows = Rows(encode(table, features), labels(table, config, target.classes))
    if pictures:
        rows = Rows(rows.encoded._replace(image=pictures.pixels), rows.labels)
    return Prepared(
        task=TASKS[config.task],
        encoder=Encoder(features),
        classes=target.classes,
        train=InMemory(sample := rows.take(parts[0])),
        sample=sample,
        validation=rows.take(parts[1]),
        test=rows.take(parts[2]),
        raw_test=_raw_test(table.take(pa.array(parts[2])), features, pictures, parts[2]),
        fingerprint=fingerprint,
        newest=None if times is None else moments.as_datetime(int(times.max())),
        all_rows=len(table),
        warnings=warnings,
    )


def split_rows(config: TrainingConfig, table: pa.Table, target: Target) -> tuple[split.Parts, list[str]]:
    """Row numbers of the parts, or all rows as the first of them and what keeps the rows from being split."""
    everything: split.Parts = (np.arange(len(table)), np.empty(0, np.int64), np.empty(0, np.int64))
    column = split_column(config, table)
    if column is None and isinstance(config.split, TimeSplit | GroupSplit):
        return everything, []  # its type does not do, which has been said
    if gaps := split.gaps(config.split, column.null_count if column is not None else 0):
        return everything, gaps
    strata = None if config.task == "regression" else target.codes(table)
    parts = split.parts(config.split, config.training.seed, len(table), column, strata)
    extent = moments.extent(column) if isinstance(config.split, TimeSplit) and column is not None else None
    empty = split.empty_parts([len(part) for part in parts], config.split, extent)
    return (everything, empty) if empty else (parts, [])


def split_column(config: TrainingConfig, table: pa.Table) -> pa.ChunkedArray | None:
    """What a time or group split goes by; None for other splits."""
    if not isinstance(config.split, TimeSplit | GroupSplit) or config.split.column not in table.column_names:
        return None
    return table[config.split.column]


def _times(config: TrainingConfig, table: pa.Table) -> NDArray[np.int64] | None:
    column = split_column(config, table)
    return None if column is None or not isinstance(config.split, TimeSplit) else moments.moments(plain(column))


def raw_rows(table: pa.Table, features: Sequence[Feature]) -> list[RawRow]:
    """Table rows as a client would send them: plain values by feature name, None where missing."""
    columns = {feature.name: _plain_values(table[feature.name], feature) for feature in features}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _plain_values(column: pa.ChunkedArray, feature: Feature) -> list[Any]:
    if isinstance(feature, NumberFeature) and pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    # A NaN in a float column is a missing value, which JSON calls null.
    return [None if value != value else value for value in column.to_pylist()]  # NaN alone


def _raw_test(
    test: pa.Table, features: Sequence[Feature], pictures: Pictures | None, numbers: Indices
) -> Callable[[Sequence[int]], list[RawRow]]:
    columns = [feature for feature in features if not isinstance(feature, ImageFeature)]

    def rows(chosen: Sequence[int]) -> list[RawRow]:
        places = np.asarray(chosen, np.int64)
        plain = raw_rows(test.take(pa.array(places)), columns) if columns else [{} for _ in places]
        if pictures:
            plain = [row | {pictures.name: pictures.raw(int(numbers[i]))} for row, i in zip(plain, places, strict=True)]
        return plain

    return rows


def _fingerprint(
    config: TrainingConfig, table: pa.Table, pictures: Pictures | None, times: NDArray[np.int64] | None
) -> str:
    digest = Fingerprint()
    digest.add(table)
    if times is not None and isinstance(config.split, TimeSplit) and config.split.test is not None:
        digest.add_times(config.split.column, times)
    if pictures:
        digest.add_pixels(pictures.name, pictures.pixels)
    return digest.hexdigest()
