"""PNG and JPEG files as rows: decoded on all cores by the service's own code, all at once or block by block."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import PictureError
from contract.features import Encoded
from contract.images import decode
from contract.manifest import ImageFeature
from training.errors import DataError
from training.rows import Indices, Rows
from training.task import Labels

BLOCK_BYTES = 256_000_000


@dataclass(frozen=True)
class Picture:
    """A file and the class of its folder."""

    path: Path
    label: str


@dataclass(frozen=True)
class PictureFiles:
    """Training rows as Blocks of files, decoded anew each time: `chosen` are their numbers, `labels` of all pictures.
    Every epoch puts all of them in another order, so that any may meet any other."""

    pictures: Sequence[Picture]
    feature: ImageFeature
    chosen: Indices
    labels: Labels
    block_bytes: int = BLOCK_BYTES

    @property
    def rows(self) -> int:
        return len(self.chosen)

    def order(self, seed: int, epoch: int) -> list[tuple[int, ...]]:
        """Blocks are named by their pictures."""
        numbers = np.random.default_rng([seed, epoch]).permutation(self.chosen).tolist()
        size = max(1, self.block_bytes // int(np.prod(self.feature.shape)))
        return [tuple(numbers[i : i + size]) for i in range(0, len(numbers), size)]

    def rows_in(self, block: tuple[int, ...]) -> int:
        return len(block)

    def load(self, block: tuple[int, ...]) -> Rows:
        """Raises DataError when a file can no longer be read."""
        pixels, broken = decoded([self.pictures[number] for number in block], self.feature)
        if broken:
            raise DataError("pictures", broken)
        return Rows(rows_of(pixels), self.labels[list(block)])


def rows_of(pixels: NDArray[Any]) -> Encoded:
    """Pictures [n, height, width, channels] without any other feature."""
    return Encoded(np.empty((len(pixels), 0), np.float32), np.empty((len(pixels), 0), np.int32), image=pixels)


def decoded(pictures: Sequence[Picture], feature: ImageFeature) -> tuple[NDArray[np.uint8], list[str]]:
    """uint8 [n, height, width, channels], and "class/file: what is wrong" for each that cannot be read."""
    pixels = np.zeros((len(pictures), *feature.shape), np.uint8)

    def read(row: int) -> str | None:
        path = pictures[row].path
        try:
            pixels[row] = decode(path.read_bytes(), feature)
        except (PictureError, OSError) as error:
            return f"{path.parent.name}/{path.name}: {error}"
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding leaves the interpreter's lock alone
        return pixels, [problem for problem in pool.map(read, range(len(pictures))) if problem]
