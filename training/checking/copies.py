"""Rows that are there more than once, with their time: a file that was delivered twice, or a month under two names."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training.checking.duplicates import Prints, together
from training.sources.columns import is_number, plain
from training.sources.moments import is_time, moments

MOST_ROWS = 4_000_000


class Copies:
    """Rows that stream by, as a 64-bit number of each. Of very many rows a share is kept that is chosen by that number,
    so that of a row's copies either all are kept or none."""

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most, self._every = most, np.uint64(1)
        self._prints: list[Prints] = []
        self._times: list[NDArray[np.int64]] = []
        self._kept = 0

    def add(self, table: pa.Table, times: NDArray[np.int64]) -> None:
        """Rows with all that tells one from another, and when they are: microseconds since 1970, int64 [n]."""
        self._keep(prints(table), times)
        while self._kept > self._most:
            self._every *= np.uint64(2)
            seen, self._kept = zip(self._prints, self._times, strict=True), 0
            self._prints, self._times = [], []
            for one, when in [*seen]:
                self._keep(one, when)

    def repeated(self) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
        """Of the rows kept, in the order of their times: whether the same row came before, and when it is."""
        if not self._prints:
            return np.empty(0, bool), np.empty(0, np.int64)
        found, times = np.concatenate(self._prints), np.concatenate(self._times)
        order = np.argsort(times, kind="stable")
        found, times = found[order], times[order]
        again = np.ones(len(found), bool)
        again[np.unique(found, return_index=True)[1]] = False
        return again, times

    def _keep(self, found: Prints, times: NDArray[np.int64]) -> None:
        chosen = found % self._every == 0
        self._prints.append(found[chosen])
        self._times.append(times[chosen])
        self._kept += int(chosen.sum())


def prints(table: pa.Table) -> Prints:
    """A number for each row, uint64 [n], the same for the same values whatever table they are in."""
    return together([_of_column(table[name]) for name in sorted(table.column_names)])


def _of_column(column: pa.ChunkedArray) -> Prints:
    column = plain(column)
    if is_time(column.type):
        return moments(column.fill_null(0) if column.null_count else column).view(np.uint64)
    if is_number(column.type):
        values: NDArray[np.float64] = pc.cast(column, pa.float64(), safe=False).to_numpy()
        return np.where(np.isnan(values), np.nan, values + 0.0).view(np.uint64)  # one NaN, one zero
    coded = pa.chunked_array([column.cast(pa.large_string()).combine_chunks()]).dictionary_encode().combine_chunks()
    hashes = [0, *map(_hash, coded.dictionary.to_pylist())]
    codes: NDArray[np.int64] = coded.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False)
    return np.array(hashes, np.uint64)[codes + 1]


def _hash(value: str) -> int:
    return int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little") if value else 0
