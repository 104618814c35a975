"""Encoded rows with their labels, and how the training loop gets at them: block by block."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from contract.evidence import DataWarning
from contract.features import Encoded, Encoder
from training.task import Labels, Task

Indices = NDArray[np.int64]
RawRow = dict[str, Any]


@dataclass(frozen=True)
class Rows:
    """Encoded rows and their labels (training/task.py says in which form)."""

    encoded: Encoded
    labels: Labels

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def take(self, rows: slice | Indices) -> "Rows":
        return Rows(self.encoded.take(rows), self.labels[rows])


class Blocks(Protocol):
    """Training rows in blocks that fit into memory. An epoch goes through `order`, loads each block and shuffles within
    it. Both are functions of their arguments alone, so that a resumed run sees the very same rows."""

    @property
    def rows(self) -> int:
        """Of all blocks."""

    def order(self, seed: int, epoch: int) -> list[tuple[int, ...]]:
        """The blocks of an epoch; what a block's name means is the source's own matter."""

    def load(self, block: tuple[int, ...]) -> Rows:
        """Called on another thread, while the block before trains."""

    def rows_in(self, block: tuple[int, ...]) -> int:
        """Known without loading it."""


@dataclass(frozen=True)
class InMemory:
    """All training rows as one block."""

    all: Rows

    @property
    def rows(self) -> int:
        return len(self.all)

    def order(self, seed: int, epoch: int) -> list[tuple[int, ...]]:
        del seed, epoch
        return [(0,)]

    def load(self, block: tuple[int, ...]) -> Rows:
        del block
        return self.all

    def rows_in(self, block: tuple[int, ...]) -> int:
        del block
        return len(self.all)


@dataclass(frozen=True)
class Prepared:
    """The data of a run.

    `classes` are in the order of the labels: (negative, positive), all classes, or none for regression. `sample` are
    training rows that are in memory: all of them, or as many drawn evenly where they are streamed; whatever is fitted
    outside the loop is fitted to them. `raw_test` gives test rows, by number, as a client would send them. `newest` is
    when the newest of all rows is, where they have a time, and `all_rows` how many there are.
    """

    task: Task
    encoder: Encoder
    classes: tuple[str, ...]
    train: Blocks
    sample: Rows
    validation: Rows
    test: Rows
    raw_test: Callable[[Sequence[int]], list[RawRow]]
    fingerprint: str
    newest: datetime | None = None
    all_rows: int | None = None
    warnings: tuple[DataWarning, ...] = ()
