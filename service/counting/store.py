"""Where blocks of counts lie: here, in the memory of a process that serves alone; in shared.py, of several."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Protocol
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from service.counting.ledger import KEPT, STATE, Block, zeros

Kind = Literal["model", "version"]

HEAD = np.dtype([("layout", "<u8"), ("epoch", "<u8"), ("state", "<i8", (4,))])


class Key(NamedTuple):
    """Which block: what has happened to a model, or the rows of one version, by the SHA-256 of its manifest."""

    kind: Kind
    model: str
    sha256: str = ""


class Found(NamedTuple):
    """A block of some worker, as it lies in memory; `alive` says whether the worker lives."""

    key: Key
    memory: memoryview
    alive: bool

    def block(self, layout: np.dtype[np.void], digest: int) -> Block | None:
        """None where another release of this program has made it, whose blocks are laid out otherwise."""
        if self.memory.nbytes != layout.itemsize or int(self._head["layout"][0]) != digest:
            return None
        return np.frombuffer(self.memory, layout)

    @property
    def state(self) -> NDArray[np.int64]:
        words: NDArray[np.int64] = self._head["state"][0]
        return words

    @property
    def _head(self) -> Block:
        return np.frombuffer(self.memory, HEAD, 1)


class Life(NamedTuple):
    """How many workers live, and how many have taken a dead one's place. `processes` are the ids of all that have
    been seen last; some may be gone. `supervisor` is the one that has started them, where there is one."""

    workers: int
    restarts: int
    processes: tuple[int, ...]
    supervisor: int | None


class Store(Protocol):
    """The blocks of this process, and a view of those of all that serve beside it. Counts of the same `run` go on from
    one another; `folder` is where all that serve have files, until the last of them ends."""

    @property
    def shared(self) -> bool: ...
    @property
    def run(self) -> str: ...
    @property
    def folder(self) -> Path | None: ...

    def open(self, key: Key, layout: np.dtype[np.void], digest: int, text: bytes = b"") -> Block:
        """This process's block; one that is there is taken over. Others can read the `text`. Raises OSError."""

    def retire(self, key: Key) -> None:
        """Export this process's block no more; when no other process does either, it goes."""

    def own(self) -> list[Key]:
        """Of blocks that this process has, or has taken over from a dead one."""

    def found(self) -> Iterator[Found]:
        """Every block of every process."""

    def text(self, key: Key) -> bytes:
        """Raises OSError when it is gone."""

    def life(self) -> Life: ...


class OwnMemory:
    """The blocks of a process that serves alone."""

    shared = False
    folder = None

    def __init__(self) -> None:
        self.run = uuid4().hex
        self._blocks: dict[Key, tuple[Block, bytes]] = {}

    def open(self, key: Key, layout: np.dtype[np.void], digest: int, text: bytes = b"") -> Block:
        block = zeros(layout)
        block["layout"], block["state"][0, STATE] = digest, KEPT
        self._blocks[key] = block, text
        return block

    def retire(self, key: Key) -> None:
        del self._blocks[key]

    def own(self) -> list[Key]:
        return list(self._blocks)

    def found(self) -> Iterator[Found]:
        for key, (block, _) in self._blocks.items():
            yield Found(key, block.view(np.uint8).data, alive=True)

    def text(self, key: Key) -> bytes:
        return self._blocks[key][1]

    def life(self) -> Life:
        return Life(1, 0, (os.getpid(),), None)
