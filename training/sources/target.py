"""The column that is predicted: its classes, or its range; and its labels as the task wants them."""

from collections import Counter

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.errors import did_you_mean
from training.sections import TrainingConfig
from training.sources.columns import as_float32, is_number, is_text, value_counts
from training.sources.encoding import look_up
from training.task import Labels


def misfit(kind: pa.DataType, config: TrainingConfig) -> str | None:
    """Why a column of this type cannot be the target."""
    value = kind.value_type if pa.types.is_dictionary(kind) else kind
    if pa.types.is_null(kind):
        return None
    if config.task == "regression":
        return None if is_number(kind) else f"a number is expected for regression, the column is {kind}"
    named = is_text(kind) or pa.types.is_boolean(value) or pa.types.is_integer(value) or pa.types.is_floating(value)
    return None if named else f"a class is text, a whole number or true and false, the column is {kind}"


class Target:
    """What is seen in the target while its batches go by."""

    def __init__(self, config: TrainingConfig) -> None:
        self._name, self._config = str(config.data.target), config
        self._there, self._missing, self._infinite = True, 0, 0
        self._counts: Counter[str] = Counter()

    def add(self, table: pa.Table) -> None:
        """Rows of a table with the target among its columns. A column of the wrong type is not there."""
        self._there = self._name in table.column_names
        if not self._there:
            return
        column = table[self._name]
        if self._config.task == "regression":
            values = as_float32(column)
            self._missing += int(np.count_nonzero(np.isnan(values)))
            self._infinite += int(np.count_nonzero(np.isinf(values)))
        else:
            counts = value_counts(column)
            self._missing += len(column) - sum(counts.values())
            self._counts.update(counts)

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the labels: (negative, positive), or all of them sorted; none for regression."""
        names = sort_classes(self._counts)
        if self._config.task == "binary":
            names.sort(key=lambda name: name == self._config.data.positive)
        return tuple(names)

    def codes(self, table: pa.Table) -> NDArray[np.int32]:
        """The class of each row, int32 [n]."""
        if not self._there:
            return np.zeros(len(table), np.int32)
        codes = {name: i for i, name in enumerate(self.classes)}
        return look_up(table[self._name], codes, unknown=-1, missing=-1)

    def problems(self) -> list[str]:
        """Lines "target: what is wrong"."""
        if not self._there:
            return []
        lines = [f"{self._missing:,} rows have no target"] if self._missing else []
        lines += [f"{self._infinite:,} rows have an infinite target"] if self._infinite else []
        lines += {"binary": self._binary_problems, "multiclass": self._multiclass_problems}.get(
            self._config.task, list
        )()
        return [f"{self._name}: {line}" for line in lines]

    def _binary_problems(self) -> list[str]:
        names, positive = sort_classes(self._counts), str(self._config.data.positive)
        lines = []
        if len(names) != 2:
            lines.append(f"a binary target has two values, got {len(names)}: {', '.join(names[:5])}")
        if positive not in names:
            lines.append(f"data.positive is {positive!r}; {did_you_mean(positive, names[:20])}")
        return lines

    def _multiclass_problems(self) -> list[str]:
        if len(self._counts) >= 2:
            return []
        return [f"a multiclass target has at least two values, got {len(self._counts)}: {', '.join(self._counts)}"]


def labels(table: pa.Table, config: TrainingConfig, classes: tuple[str, ...]) -> Labels:
    """Labels as training/task.py has them. `classes` are all that there are."""
    column = table[str(config.data.target)]
    if config.task == "regression":
        return as_float32(column)
    codes = look_up(column, {name: i for i, name in enumerate(classes)}, unknown=-1, missing=-1)
    return codes.astype(np.float32) if config.task == "binary" else codes


def sort_classes(names: "Counter[str] | list[str]") -> list[str]:
    """By number where every name is one, so that 10 comes after 9."""
    try:
        return sorted(names, key=lambda name: (float(name), name))
    except ValueError:
        return sorted(names)
