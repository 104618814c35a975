"""Tabular data: read, check against the config, split, fit the features, encode."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from numpy.typing import NDArray

from contract.features import Encoder
from contract.manifest import CategoryFeature, Feature, NumberFeature
from training.errors import DataError, did_you_mean
from training.rows import Indices, InMemory, Prepared, Rows
from training.sections import FeatureSection, RandomSplit, TimeSplit, TrainingConfig
from training.task import TASKS

Columns = dict[str, NDArray[Any]]


def prepare(config: TrainingConfig) -> Prepared:
    """Everything from path to arrays. Only training rows are looked at to fit anything. Raises DataError."""
    table = read(config)
    check(table, config)
    columns = _columns(table, config)
    labels = pc.equal(table[_target(config)], config.data.positive).to_numpy().astype(np.float32)
    train, validation, test = split(table, config)
    features = fit_features(config, {name: values[train] for name, values in columns.items()})
    encoder = Encoder(features)
    rows = Rows(encoder.encode_columns(columns), labels)
    return Prepared(
        task=TASKS[config.task],
        encoder=encoder,
        classes=_classes(table, config),
        train=InMemory(learnt := rows.take(train)),
        sample=learnt,
        validation=rows.take(validation),
        test=rows.take(test),
        raw_test=lambda chosen: raw_rows(table.take(pa.array(test[np.asarray(chosen)])), encoder),
        fingerprint=fingerprint(columns, labels),
    )


def read(config: TrainingConfig) -> pa.Table:
    """The columns that the config names. Raises DataError for a missing path or column, with the nearest column."""
    path = Path(config.data.path)
    if not path.exists():
        raise DataError("data.path", [f"{path} does not exist (from {Path.cwd()})"])
    source = ds.dataset(path, format=_format(path))
    wanted = _wanted(config)
    there = source.schema.names
    missing = {key: column for key, column in wanted.items() if column not in there}
    if missing:
        lines = [f"{key}: no column {column!r}; {did_you_mean(column, there)}" for key, column in missing.items()]
        raise DataError(str(path), lines)
    return source.to_table(columns=sorted(set(wanted.values())))


def _format(path: Path) -> str:
    first = path if path.is_file() else next((p for p in sorted(path.rglob("*")) if p.is_file()), path)
    formats = {".parquet": "parquet", ".csv": "csv"}
    if first.suffix not in formats:
        raise DataError("data.path", [f"{path}: expected .parquet or .csv files, found {first.name}"])
    return formats[first.suffix]


def _wanted(config: TrainingConfig) -> dict[str, str]:
    """Columns to read, by the key of the config that names them."""
    wanted = {f"features.{name}": name for name in config.features} | {"data.target": _target(config)}
    if isinstance(config.split, TimeSplit):
        wanted["split.column"] = config.split.column
    return wanted


def _target(config: TrainingConfig) -> str:
    if config.data.target is None:
        raise DataError("data.target", ["a table needs the name of the column that is predicted"])
    return config.data.target


def check(table: pa.Table, config: TrainingConfig) -> None:
    """Compare the columns with what the config says of them. Raises DataError with every problem."""
    problems = _target_problems(table[_target(config)], config)
    for name, feature in config.features.items():
        problems += _column_problems(name, table[name], feature)
    if problems:
        raise DataError(config.data.path, problems)


def _target_problems(column: pa.ChunkedArray, config: TrainingConfig) -> list[str]:
    key, positive = _target(config), str(config.data.positive)
    if not _is_text(column.type):
        return [f"{key}: the target must be text, one name a class, got {column.type}"]
    values = sorted(str(value) for value in pc.unique(column).to_pylist() if value is not None)
    problems = [f"{key}: {column.null_count:,} rows have no target"] if column.null_count else []
    if len(values) != 2:
        problems.append(f"{key}: a binary target has two values, got {len(values)}: {', '.join(values[:5])}")
    if positive not in values:
        problems.append(f"{key}: data.positive is {positive!r}; {did_you_mean(positive, values)}")
    return problems


def _column_problems(name: str, column: pa.ChunkedArray, feature: FeatureSection) -> list[str]:
    numeric = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
    if feature.kind == "number" and not numeric:
        return [f"{name}: a number is expected, the column is {column.type}"]
    if feature.kind == "category" and not _is_text(column.type):
        return [f"{name}: a category is text, the column is {column.type}"]
    problems = []
    empty = column.null_count
    if feature.kind == "category":
        empty += pc.sum(pc.equal(column, "")).as_py() or 0
    elif pa.types.is_floating(column.type):
        empty += pc.sum(pc.is_nan(column)).as_py() or 0
        infinite = pc.sum(pc.is_inf(column)).as_py() or 0
        problems += [f"{name}: {infinite:,} values are infinite"] if infinite else []
    if empty == len(column):
        problems.append(f"{name}: every value is missing")
    elif empty and not feature.optional:
        rule = f'{name} = {{ kind = "{feature.kind}", optional = true }}'
        problems.append(f"{name}: {empty:,} of {len(column):,} values are missing; if requests may lack it: {rule}")
    return problems


def _is_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))


def split(table: pa.Table, config: TrainingConfig) -> tuple[Indices, Indices, Indices]:
    """Row numbers of train, validation and test, each ascending. Raises DataError when one of them is empty."""
    match config.split:
        case TimeSplit() as rule:
            parts = _split_by_time(table[rule.column], rule)
        case RandomSplit() as rule:
            parts = _split_at_random(len(table), rule, config.training.seed)
        case rule:
            raise DataError("split.by", [f"{rule.by} is not known for tables"])
    names = ("train", "validation", "test")
    empty = [f"split: no rows to {name}" for name, part in zip(names, parts, strict=True) if part.size == 0]
    if empty:
        raise DataError(config.data.path, empty)
    return parts


def _split_by_time(column: pa.ChunkedArray, rule: TimeSplit) -> tuple[Indices, Indices, Indices]:
    if not pa.types.is_temporal(column.type):
        raise DataError("split.column", [f"{rule.column}: a date or time is expected, the column is {column.type}"])
    if column.null_count:
        raise DataError("split.column", [f"{rule.column}: {column.null_count:,} values are missing"])
    days = pc.cast(column, pa.date32()).to_numpy().astype("datetime64[D]")
    learn, test = days < np.datetime64(rule.validation_from), days >= np.datetime64(rule.test_from)
    return np.flatnonzero(learn), np.flatnonzero(~learn & ~test), np.flatnonzero(test)


def _split_at_random(rows: int, rule: RandomSplit, seed: int) -> tuple[Indices, Indices, Indices]:
    order = np.random.default_rng(seed).permutation(rows)
    test, validation = round(rows * rule.test), round(rows * rule.validation)
    parts = order[test + validation :], order[test : test + validation], order[:test]
    return np.sort(parts[0]), np.sort(parts[1]), np.sort(parts[2])


def fit_features(config: TrainingConfig, train: Mapping[str, NDArray[Any]]) -> tuple[Feature, ...]:
    """What the training rows say of each feature: range and median, or vocabulary."""
    return tuple(_fit_feature(name, section, train[name], config) for name, section in config.features.items())


def _fit_feature(name: str, section: FeatureSection, values: NDArray[Any], config: TrainingConfig) -> Feature:
    required, serving = not section.optional, config.serving
    if section.kind == "number":
        known = values[np.isfinite(values)]
        if known.size == 0:
            raise DataError("features", [f"{name}: every value among the training rows is missing"])
        return NumberFeature(
            name=name,
            required=required,
            minimum=float(known.min()),
            maximum=float(known.max()),
            example=float(np.quantile(known, 0.5, method="lower")),
            on_out_of_range=section.on_out_of_range or serving.on_out_of_range,
        )
    vocabulary = _vocabulary(values, config.data.category_min_count)
    if not vocabulary:
        problem = f"no value is seen {config.data.category_min_count} times (data.category_min_count) in training"
        raise DataError("features", [f"{name}: {problem}"])
    return CategoryFeature(
        name=name,
        required=required,
        vocabulary=vocabulary,
        example=vocabulary[0],
        on_unseen=section.on_unseen or serving.on_unseen,
    )


def _vocabulary(values: NDArray[Any], min_count: int) -> tuple[str, ...]:
    """The most frequent first. What is rarer than `min_count` stays out, so that rare rows train the unseen index."""
    known = np.array([value for value in values if value], dtype=np.str_)
    names, counts = np.unique(known, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return tuple(str(names[i]) for i in order if counts[i] >= min_count)


def fingerprint(columns: Mapping[str, NDArray[Any]], labels: NDArray[np.float32]) -> str:
    """SHA-256 over the names and values of every feature, in order, and the labels."""
    digest = hashlib.sha256()
    for name, values in columns.items():
        digest.update(name.encode() + b"\0")
        text = values.dtype == object
        digest.update("\0".join(value or "" for value in values).encode() if text else values.tobytes())
    digest.update(labels.tobytes())
    return digest.hexdigest()


def raw_rows(table: pa.Table, encoder: Encoder) -> list[dict[str, Any]]:
    """Table rows as a client would send them: plain values by feature name, None where missing."""
    columns = _plain_columns(table.select([feature.name for feature in encoder.features]))
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _plain_columns(table: pa.Table) -> dict[str, list[Any]]:
    # A NaN in a float column is a missing value, which JSON calls null.
    return {
        name: [None if value != value else value for value in table[name].to_pylist()]  # NaN alone
        for name in table.column_names
    }


def _columns(table: pa.Table, config: TrainingConfig) -> Columns:
    columns: Columns = {}
    for name, feature in config.features.items():
        if feature.kind == "number":
            columns[name] = pc.cast(table[name], pa.float32(), safe=False).to_numpy()
        else:
            columns[name] = np.array(pc.cast(table[name], pa.string()).to_pylist(), dtype=object)
    return columns


def _classes(table: pa.Table, config: TrainingConfig) -> tuple[str, str]:
    values = pc.unique(table[_target(config)]).to_pylist()
    negative = next(value for value in values if value != config.data.positive)
    return str(negative), str(config.data.positive)
