"""What identifies the data of a run: a digest of every value, in the order of the rows, whatever the files are called
and however they are cut."""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from training.sources.columns import as_float32, is_number, plain


class Fingerprint:
    """SHA-256 over the names and values of all columns. Batches of the same rows give the same, cut where they may."""

    def __init__(self) -> None:
        self._digests: dict[str, tuple[hashlib._Hash, hashlib._Hash]] = {}

    def add(self, table: pa.Table) -> None:
        for name in table.column_names:
            lengths, values = self._digests.setdefault(name, (hashlib.sha256(), hashlib.sha256()))
            _add(table[name], lengths, values)

    def add_pixels(self, name: str, pixels: NDArray[Any]) -> None:
        """Pictures [n, ...]; their shape and type go into the name."""
        shape = f"{name} {pixels.dtype.name} {pixels.shape[1:]}"
        _, values = self._digests.setdefault(shape, (hashlib.sha256(), hashlib.sha256()))
        values.update(np.ascontiguousarray(pixels).data)

    def add_times(self, name: str, times: NDArray[np.int64]) -> None:
        """Times to the microsecond, int64 [n], where more than the day of a row matters."""
        _, values = self._digests.setdefault(f"{name} to the microsecond", (hashlib.sha256(), hashlib.sha256()))
        values.update(np.ascontiguousarray(times).data)

    def hexdigest(self) -> str:
        whole = hashlib.sha256()
        for name in sorted(self._digests):
            whole.update(name.encode() + b"\0")
            whole.update(b"".join(digest.digest() for digest in self._digests[name]))
        return whole.hexdigest()


def _add(column: pa.ChunkedArray, lengths: "hashlib._Hash", values: "hashlib._Hash") -> None:
    kind = column.type
    if is_number(kind):
        numbers = as_float32(column)
        values.update(np.where(np.isnan(numbers), np.float32(np.nan), numbers).tobytes())  # NaN has many bit patterns
    elif pa.types.is_temporal(kind):
        values.update(pc.fill_null(column.cast(pa.date32()).cast(pa.int32()), -1).to_numpy().tobytes())
    else:
        for chunk in plain(column).cast(pa.large_string()).chunks:
            filled = pc.fill_null(chunk, "")
            lengths.update(pc.binary_length(filled).to_numpy().tobytes())
            values.update(_text_bytes(filled))


def _text_bytes(texts: pa.LargeStringArray) -> memoryview:
    """All texts end to end, as they lie in memory."""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return memoryview(data)[ends[0] : ends[-1]] if data is not None and len(ends) else memoryview(b"")
