"""The runtimes of one model on one thread.

Interpreters are for one thread at a time, and giving one another number of rows costs as much as running dozens of
them. So a lane has one for each of a few batch sizes, made when it is first needed; rows are filled up to the next
size with copies of the last, whose outputs are dropped, and what is more than the largest is run in parts. TensorFlow
sees the same few sizes.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from contract.features import Encoded
from contract.manifest import Variant
from contract.runtimes import Outputs, Runtime

LITERT_SIZES = (1, 2, 4, 8, 16, 24, 32)
SAVEDMODEL_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
ALONE = (1,)

# Batching must save at least so much of the time of a row: it makes the first row of a batch wait for the last.
WORTH_SAVING = 0.2


def batch_sizes(variant: Variant) -> Sequence[int]:
    """How many rows run at once: one for a LiteRT variant whose measured latencies do not gain from more."""
    if variant.runtime == "savedmodel":
        return SAVEDMODEL_SIZES
    one, each_of_many = variant.latency["1"].p50, variant.latency["32"].p50 / 32
    return LITERT_SIZES if each_of_many < (1 - WORTH_SAVING) * one else ALONE


class Lane:
    """Runs rows, as many as come. `make` loads another runtime of the variant; `first` is one that is there."""

    def __init__(self, make: Callable[[], Runtime], sizes: Sequence[int], first: Runtime | None = None) -> None:
        self._make = make
        self._sizes = sizes
        self._runtimes: dict[int, Runtime] = {sizes[0]: first} if first is not None else {}

    def warm(self, row: Encoded) -> None:
        """Make and run every size, with copies of one row."""
        for size in self._sizes:
            self._exactly(row.take(np.zeros(size, np.int64)))

    def run(self, encoded: Encoded) -> Outputs:
        """Outputs by name, the first dimension being rows."""
        rows = encoded.rows
        if rows in self._sizes:
            return self._exactly(encoded)
        parts = [self._padded(encoded, start, count, size) for start, count, size in _plan(rows, self._sizes)]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _padded(self, encoded: Encoded, start: int, count: int, size: int) -> Outputs:
        if count == size:
            return self._exactly(encoded.take(slice(start, start + count)))
        filled = np.minimum(np.arange(start, start + size), start + count - 1)
        return {name: output[:count] for name, output in self._exactly(encoded.take(filled)).items()}

    def _exactly(self, encoded: Encoded) -> Outputs:
        runtime = self._runtimes.get(encoded.rows)
        if runtime is None:
            runtime = self._runtimes[encoded.rows] = self._make()
        return runtime.run(encoded)


def _plan(rows: int, sizes: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Start, rows and size of each part."""
    largest = sizes[-1]
    for start in range(0, rows, largest):
        count = min(largest, rows - start)
        yield start, count, sizes[bisect_left(sizes, count)]
