"""What is seen in the columns of a table while it goes by, batch by batch: what is wrong with them, and what the
training rows say a feature is. One batch or three hundred, the outcome is the same."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from contract.manifest import CategoryFeature, Feature, NumberFeature, TextFeature
from training.errors import DataError
from training.sections import FeatureSection, TrainingConfig

# Counting more different values than this takes gigabytes, and no embedding learns from them.
MOST_VALUES = 1_000_000

Mask = NDArray[np.bool_]


def is_text(kind: pa.DataType) -> bool:
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(value) or pa.types.is_large_string(value))


def is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def misfit(kind: pa.DataType, section: FeatureSection) -> str | None:
    """Why a column of this type cannot be such a feature."""
    if pa.types.is_null(kind):
        return None  # no value at all, which is said when the values are looked at
    if section.kind == "number":
        return None if is_number(kind) else f"a number is expected, the column is {kind}"
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    names = is_text(kind) or pa.types.is_boolean(value) or (is_number(value) and not pa.types.is_decimal(value))
    if section.kind == "category":
        return None if names else f"a category is text or whole numbers, the column is {kind}"
    return None if is_text(kind) else f"a text is expected, the column is {kind}"


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text as it is; whole numbers and booleans by their names: "12", "true". Raises ArrowInvalid for a fraction."""
    if is_text(column.type):
        return column
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_floating(column.type):  # how pandas writes whole numbers of which some are missing
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column).cast(pa.int64())
    return column.cast(pa.string())


def as_float32(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """float32 [n], NaN where missing. By way of float64, as the service reads numbers: of an integer beyond 2^53 one
    step may come out otherwise than two."""
    if not pa.types.is_floating(column.type):
        column = pc.cast(column, pa.float64(), safe=False)
    values: NDArray[np.float32] = pc.cast(column, pa.float32(), safe=False).to_numpy()
    return values


def as_texts(column: pa.ChunkedArray) -> NDArray[np.object_]:
    """str objects [n], empty where missing."""
    return np.array(pc.fill_null(column.cast(pa.large_string()), "").to_pylist(), dtype=object)


class NumberColumn:
    """Gaps and infinities of all rows; the range of the training rows."""

    def __init__(self) -> None:
        self.rows = self.missing = self.infinite = 0
        self._minimum, self._maximum = np.inf, -np.inf

    def add(self, column: pa.ChunkedArray, learnt: Mask) -> None:
        values = as_float32(column)
        known = np.isfinite(values)
        self.rows += len(values)
        missing = int(np.count_nonzero(np.isnan(values)))
        self.missing += missing
        self.infinite += len(values) - int(np.count_nonzero(known)) - missing
        if (taken := values[known & learnt]).size:
            self._minimum = min(self._minimum, float(taken.min()))
            self._maximum = max(self._maximum, float(taken.max()))

    def problems(self) -> list[str]:
        return [f"{self.infinite:,} values are infinite in float32"] if self.infinite else []

    def feature(self, name: str, section: FeatureSection, config: TrainingConfig, sample: pa.ChunkedArray) -> Feature:
        """`sample` are training rows, of which the example is the median."""
        values = as_float32(sample)
        known = values[np.isfinite(values)]
        if known.size == 0:
            raise DataError("features", [f"{name}: every value among the training rows is missing"])
        return NumberFeature(
            name=name,
            required=not section.optional,
            minimum=self._minimum,
            maximum=self._maximum,
            example=float(np.quantile(known, 0.5, method="lower")),
            on_out_of_range=section.on_out_of_range or config.serving.on_out_of_range,
        )


class CategoryColumn:
    """Gaps of all rows; how often each value is in the training rows."""

    def __init__(self) -> None:
        self.rows = self.missing = 0
        self._counts: Counter[str] = Counter()
        self._overflow = False

    def add(self, column: pa.ChunkedArray, learnt: Mask) -> None:
        coded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
        self.rows += len(column)
        self.missing += len(column) - sum(value_counts(coded).values())
        self._overflow = self._overflow or len(self._counts) > MOST_VALUES
        if not self._overflow:
            self._counts.update(value_counts(coded.filter(pa.array(learnt))))

    def problems(self) -> list[str]:
        many = f"more than {MOST_VALUES:,} different values, which looks like an identifier: nothing is learnt from it"
        return [many] if self._overflow else []

    def feature(self, name: str, section: FeatureSection, config: TrainingConfig, sample: pa.ChunkedArray) -> Feature:
        """The most frequent value first. What is rarer than data.category_min_count trains the unseen index."""
        del sample
        enough = config.data.category_min_count
        frequent = sorted((-count, value) for value, count in self._counts.items() if count >= enough)
        if not frequent:
            problem = f"no value is seen {enough} times (data.category_min_count) in training"
            raise DataError("features", [f"{name}: {problem}"])
        return CategoryFeature(
            name=name,
            required=not section.optional,
            vocabulary=tuple(value for _, value in frequent),
            example=frequent[0][1],
            on_unseen=section.on_unseen or config.serving.on_unseen,
        )


class TextColumn:
    """Gaps and the longest text of all rows."""

    def __init__(self) -> None:
        self.rows = self.missing = self._longest = 0

    def add(self, column: pa.ChunkedArray, learnt: Mask) -> None:
        del learnt
        self.rows += len(column)
        self.missing += column.null_count + (pc.sum(pc.equal(plain(column), "")).as_py() or 0)
        self._longest = max(self._longest, pc.max(pc.utf8_length(plain(column))).as_py() or 0)

    def problems(self) -> list[str]:
        return []

    def feature(self, name: str, section: FeatureSection, config: TrainingConfig, sample: pa.ChunkedArray) -> Feature:
        """The example is the first text of the training rows, or as much of it as is easily read."""
        del config
        example = next((value for value in as_texts(sample.slice(0, 1000)) if value), "")
        most = TextFeature.model_fields["most_characters"].default
        return TextFeature(
            name=name, required=not section.optional, example=example[:200], most_characters=max(most, self._longest)
        )


Column = NumberColumn | CategoryColumn | TextColumn

_KINDS: dict[str, type[Column]] = {"number": NumberColumn, "category": CategoryColumn, "text": TextColumn}


class Columns:
    """The columns of all features but the image. `fit` ends it; what was added before says what each feature is."""

    def __init__(self, config: TrainingConfig) -> None:
        self._config = config
        self._sections = {name: section for name, section in config.features.items() if section.kind != "image"}
        self._columns = {name: _KINDS[section.kind]() for name, section in self._sections.items()}

    def add(self, table: pa.Table, learnt: Mask) -> None:
        """Rows of a table with a column for each feature; `learnt` says which of them train. A column that is not
        there has been complained about already."""
        for name in self._columns.keys() & set(table.column_names):
            self._columns[name].add(table[name], learnt)

    def problems(self) -> list[str]:
        """Lines "feature: what is wrong"."""
        lines: list[str] = []
        for name, column in self._columns.items():
            lines += [f"{name}: {problem}" for problem in column.problems()]
            lines += _gaps(name, self._sections[name], column.missing, column.rows)
        return lines

    def fit(self, sample: pa.Table) -> tuple[Feature, ...]:
        """Raises DataError with every feature of which the training rows say too little."""
        features, problems = [], []
        for name, column in self._columns.items():
            try:
                features.append(column.feature(name, self._sections[name], self._config, sample[name]))
            except DataError as error:
                problems += error.problems
        if problems:
            raise DataError("features", problems)
        return tuple(features)


def _gaps(name: str, section: FeatureSection, missing: int, rows: int) -> list[str]:
    if missing and missing == rows:
        return [f"{name}: every value is missing"]
    if missing and not section.optional:
        rule = f'{name} = {{ kind = "{section.kind}", optional = true }}'
        return [f"{name}: {missing:,} of {rows:,} values are missing; if requests may lack it: {rule}"]
    return []


def plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text without its dictionary."""
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    """How often each text is there; missing ones are left out."""
    counts: Counter[str] = Counter()
    for chunk in column.chunks:
        coded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
        values: list[Any] = coded.dictionary.to_pylist()
        seen = np.bincount(coded.indices.drop_null().to_numpy(), minlength=len(values))
        counts.update({value: int(seen[i]) for i, value in enumerate(values) if value and seen[i]})
    return counts
