"""Columns that are the target under another name."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.checking.quick import category_codes
from training.init.profile import profile
from training.sources.columns import as_float32, is_number
from training.task import TaskName

# With fewer rows, or values, a column may match by chance; so may a small separable set of real measurements.
FEWEST_ROWS = 200
FEWEST_OF_A_CLASS = 20
FEWEST_VALUES = 20


def is_target(column: pa.ChunkedArray, target: pa.ChunkedArray, task: TaskName) -> bool:
    """Whether the column says the same as the target in each row, in other words or in another unit."""
    if len(column) < FEWEST_ROWS or column.null_count or target.null_count:
        return False
    return _is_unit(column, target) if task == "regression" else _is_renamed(column, target)


def _is_renamed(column: pa.ChunkedArray, target: pa.ChunkedArray) -> bool:
    """One value for each class, and one class for each value."""
    a, b = category_codes(column), category_codes(target)
    values, classes = int(a.max()) + 1, int(b.max()) + 1
    if values != classes or values < 2 or a.min() < 0 or b.min() < 0 or np.bincount(b).min() < FEWEST_OF_A_CLASS:
        return False
    return len(np.unique(a * classes + b)) == classes


def _is_unit(column: pa.ChunkedArray, target: pa.ChunkedArray) -> bool:
    """A straight line through all points but for float32's rounding: the same quantity, perhaps in another unit."""
    if not is_number(column.type) or not is_number(target.type):
        return False
    x, y = _standard(as_float32(column)), _standard(as_float32(target))
    if x is None or y is None or profile("", target).distinct < FEWEST_VALUES:
        return False
    return bool(min(np.abs(x - y).max(), np.abs(x + y).max()) < 1e-4)


def _standard(values: NDArray[np.float32]) -> NDArray[np.float64] | None:
    wide = values.astype(np.float64)
    deviation = wide.std() if np.isfinite(wide).all() else 0.0
    return (wide - wide.mean()) / deviation if deviation > 0 else None
