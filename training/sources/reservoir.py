"""An even sample of rows that stream by."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.rows import Indices


class Reservoir:
    """Keeps the `capacity` rows with the smallest keys. Keys that are hashes of the rows' places make it an even draw
    without replacement, the same however the rows are cut into batches (Cohen and Kaplan, Summarizing Data Using
    Bottom-k Sketches, 2007)."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._kept: list[tuple[pa.Table, NDArray[np.uint64], Indices]] = []
        self._limit: np.uint64 = np.uint64(2**64 - 1)
        self.seen = self._held = 0

    def add(self, table: pa.Table, rows: Indices, keys: NDArray[np.uint64], first: int) -> None:
        """Some `rows` of a table whose first row is number `first` of all; `keys` uint64 [n] are of the whole table."""
        self.seen += len(rows)
        chosen = rows[keys[rows] <= self._limit]
        if not chosen.size:
            return
        self._kept.append((_plain(table.take(pa.array(chosen))), keys[chosen], chosen + first))
        self._held += len(chosen)
        if self._held > 2 * self._capacity:
            self._prune()

    def rows(self) -> tuple[pa.Table, Indices]:
        """The rows kept, in the order in which they came, and their row numbers. Some must have come."""
        self._prune()
        table, _, places = self._kept[0]
        order = np.argsort(places)
        return table.take(pa.array(order)), places[order]

    def _prune(self) -> None:
        keys = np.concatenate([keys for _, keys, _ in self._kept])
        places = np.concatenate([places for _, _, places in self._kept])
        best = np.sort(np.argsort(keys, kind="stable")[: self._capacity])
        table = pa.concat_tables([table for table, _, _ in self._kept]).take(pa.array(best))
        self._kept = [(table, keys[best], places[best])]
        self._held = len(best)
        if self._held == self._capacity:
            self._limit = keys[best].max()


def _plain(table: pa.Table) -> pa.Table:
    """Without dictionaries, of which every batch has its own."""
    fields = [
        pa.field(field.name, field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))
