"""Counts that a killed process leaves whole, and that other processes read while it counts.

What comes is noted as it is and counted later, many notes at once. Notes and totals lie in one block of memory, which
may be shared: two sides, of which the epoch, one word, says which holds. To count is to write the totals with the notes
in them to the other side, with no notes left to count, and then to change the epoch. So a process that is killed, at
whatever instruction, has either counted its notes or still has them, and who takes the block over goes on from there.

A reader in another process copies the side that holds, and takes it if the epoch is still the same afterwards: a
sequence lock (Boehm, Can Seqlocks Get Along with Programming Language Memory Models?, 2012).
"""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

Counts = NDArray[np.int64]
Sums = NDArray[np.float64]
Block = NDArray[np.void]
Copy = TypeVar("Copy")

# What the words of `state` are, in every block.
STATE, VARIANT, QUEUED, PROCESS = range(4)
# A version that is kept for its counts alone, and one that is loaded. Zero: its counts are not exported any more.
KEPT, LOADED = 1, 2


def block_type(
    counts: int, sums: int, notes: tuple[int, ...], more: list[tuple[str, DTypeLike, tuple[int, ...]]]
) -> np.dtype[np.void]:
    """The layout of a block: totals of so many counts and sums. `notes` is the shape of a side's words for notes, and
    `more` what both sides share."""
    side = [("counts", "<i8", (counts,)), ("sums", "<f8", (sums,)), ("notes", "<u8", notes)]
    head = [("layout", "<u8"), ("epoch", "<u8"), ("state", "<i8", (4,))]
    return np.dtype([*head, ("sides", np.dtype(side), (2,)), *more])


class Ledger:
    """The totals of one block. One thread of one process writes; any may read."""

    def __init__(self, block: Block, *, shared: bool) -> None:
        self.state: NDArray[np.int64] = block["state"][0]
        sides = block["sides"][0]
        self.notes: NDArray[np.uint64] = sides["notes"]
        self._epoch: NDArray[np.uint64] = block["epoch"]
        self._counts: Counts = sides["counts"]
        self._sums: Sums = sides["sums"]
        self._lock = threading.Lock() if shared else None

    @property
    def side(self) -> int:
        """The one that holds, 0 or 1."""
        return int(self._epoch[0]) & 1

    def add(self, counts: Counts, sums: Sums) -> None:
        """Count all notes of the side that holds, which come to so much; the other side holds afterwards."""
        side = self.side
        np.add(self._counts[side], counts, out=self._counts[1 - side])
        np.add(self._sums[side], sums, out=self._sums[1 - side])
        self.notes[1 - side] = 0
        self.fence()
        self._epoch[0] += np.uint64(1)
        self.fence()

    def read(self, copy_notes: Callable[[int], Copy]) -> tuple[Counts, Sums, Copy]:
        """Totals, and a copy of what is noted on a side beside them; all of the same moment."""
        while True:
            epoch = int(self._epoch[0])
            self.fence()
            side = epoch & 1
            copies = self._counts[side].copy(), self._sums[side].copy(), copy_notes(side)
            self.fence()
            if int(self._epoch[0]) == epoch:
                return copies

    def fence(self) -> None:
        """What was written before is seen by other processes before what is written afterwards, and read likewise.

        x86 keeps stores in order; ARM does so across a release of a lock and its next acquisition.
        """
        if self._lock is not None:
            with self._lock:
                pass
            with self._lock:
                pass


def zeros(layout: np.dtype[Any]) -> Block:
    """A block in memory of this process's own."""
    return np.zeros(1, layout)
