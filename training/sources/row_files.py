"""Encoded rows in plain binary files, a row after the other, and their way back into memory block by block.

numbers.f32      float32 [n, F]
categories.i32   int32 [n, C]
labels           float32 or int32 [n], as the task has them
texts.utf8       all texts end to end, and where each ends in text_ends.i64, int64 [n, T]

They are read and not mapped: pages of a mapped file count as this process's memory until somebody else needs it.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contract.features import Encoded
from training.rows import Rows

CHUNK_ROWS = 65_536
BLOCK_BYTES = 96_000_000

_FILES = {"numbers": "numbers.f32", "categories": "categories.i32", "labels": "labels"}


class RowWriter:
    """Appends rows to the files of a folder."""

    def __init__(self, files: dict[str, IO[bytes]]) -> None:
        self._files = files
        self._text_end = 0
        self.rows = 0

    def append(self, rows: Rows) -> None:
        self._files["numbers"].write(rows.encoded.numbers.data)
        self._files["categories"].write(rows.encoded.categories.data)
        self._files["labels"].write(np.ascontiguousarray(rows.labels).data)
        if rows.encoded.texts is not None:
            self._append_texts(rows.encoded.texts)
        self.rows += len(rows)

    def _append_texts(self, texts: NDArray[np.object_]) -> None:
        encoded = [text.encode() for text in texts.ravel()]
        ends = np.cumsum([len(text) for text in encoded], dtype=np.int64) + self._text_end
        self._files["texts"].write(b"".join(encoded))
        self._files["text_ends"].write(ends.data)
        self._text_end = int(ends[-1]) if len(ends) else self._text_end


@contextmanager
def writing(folder: Path) -> Iterator[RowWriter]:
    """New files in `folder`."""
    with ExitStack() as stack:
        names = _FILES | {"texts": "texts.utf8", "text_ends": "text_ends.i64"}
        yield RowWriter({key: stack.enter_context((folder / name).open("wb")) for key, name in names.items()})


@dataclass(frozen=True)
class RowFiles:
    """Training rows on disk as Blocks. Chunks are dealt out anew each epoch, and a block is as many of them as fit
    into `block_bytes`: rows then meet others from all over the data, and are shuffled within the block by the loop."""

    folder: Path
    rows: int
    numbers: int
    categories: int
    texts: int
    label_type: str
    chunk_rows: int = CHUNK_ROWS
    block_bytes: int = BLOCK_BYTES

    def order(self, seed: int, epoch: int) -> list[tuple[int, ...]]:
        """Blocks are named by their chunks, in the order in which these lie in the block."""
        chunks = np.random.default_rng([seed, epoch]).permutation(-(-self.rows // self.chunk_rows)).tolist()
        size = max(1, self.block_bytes // (self.chunk_rows * self._row_bytes()))
        return [tuple(chunks[i : i + size]) for i in range(0, len(chunks), size)]

    def rows_in(self, block: tuple[int, ...]) -> int:
        return sum(self._chunk_length(chunk) for chunk in block)

    def load(self, block: tuple[int, ...]) -> Rows:
        rows = self.rows_in(block)
        encoded = Encoded(
            numbers=np.empty((rows, self.numbers), np.float32),
            categories=np.empty((rows, self.categories), np.int32),
            texts=np.empty((rows, self.texts), object) if self.texts else None,
        )
        labels: NDArray[Any] = np.empty(rows, self.label_type)
        self._fill(block, {"numbers": encoded.numbers, "categories": encoded.categories, "labels": labels})
        if encoded.texts is not None:
            self._fill_texts(block, encoded.texts)
        return Rows(encoded, labels)

    def _row_bytes(self) -> int:
        # A Python string is some 50 bytes and its characters.
        texts = (self.folder / "texts.utf8").stat().st_size // self.rows + 60 * self.texts
        return 4 * (self.numbers + self.categories + 1) + texts

    def _chunk_length(self, chunk: int) -> int:
        return min(self.chunk_rows, self.rows - chunk * self.chunk_rows)

    def _fill(self, block: Sequence[int], arrays: dict[str, NDArray[Any]]) -> None:
        for key, array in arrays.items():
            width = array[:1].nbytes
            with (self.folder / _FILES[key]).open("rb", buffering=0) as file:
                for start, chunk in self._places(block):
                    file.seek(chunk * self.chunk_rows * width)
                    _read_into(file, array[start : start + self._chunk_length(chunk)])

    def _fill_texts(self, block: Sequence[int], texts: NDArray[np.object_]) -> None:
        with (self.folder / "texts.utf8").open("rb") as data, (self.folder / "text_ends.i64").open("rb") as ends:
            for start, chunk in self._places(block):
                length = self._chunk_length(chunk)
                # One more than there are texts: where the one before the first ends.
                first = chunk * self.chunk_rows * self.texts
                offsets = np.zeros(length * self.texts + 1, np.int64)
                ends.seek(8 * max(first - 1, 0))
                _read_into(ends, offsets if first else offsets[1:])
                data.seek(int(offsets[0]))
                whole = pa.py_buffer(data.read(int(offsets[-1] - offsets[0])))
                offsets -= offsets[0]
                array = pa.LargeStringArray.from_buffers(len(offsets) - 1, pa.py_buffer(offsets.tobytes()), whole)
                texts[start : start + length] = np.array(array.to_pylist(), object).reshape(length, self.texts)

    def _places(self, block: Sequence[int]) -> Iterator[tuple[int, int]]:
        """Where in the block each chunk begins."""
        start = 0
        for chunk in block:
            yield start, chunk
            start += self._chunk_length(chunk)


def _read_into(file: IO[bytes], array: NDArray[Any]) -> None:
    """Raises EOFError when the file ends before the array is full: it is not the one that was written."""
    wanted = array.data.cast("B") if array.size else memoryview(b"")
    while len(wanted):
        count = file.readinto(wanted)  # type: ignore[attr-defined]  # a file on disk has it
        if not count:
            raise EOFError(f"{file.name} ends too early")
        wanted = wanted[count:]
