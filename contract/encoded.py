"""Rows as the arrays that a runtime takes."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Tensors = Mapping[str, NDArray[Any]]


class Encoded(NamedTuple):
    """n rows: the inputs of the signature `encoded` of a model trained here, or those of an imported one, in `tensors`.

    `numbers` float32 [n, F] and `categories` int32 [n, C] are always there, if need be with no columns; `image`
    [n, height, width, channels] and `texts` (str objects) [n, T] where the model has such features; `tensors` [n, ...]
    by name where it is an imported one, strings as objects of bytes.
    """

    numbers: NDArray[np.float32]
    categories: NDArray[np.int32]
    image: NDArray[np.uint8] | NDArray[np.float32] | None = None
    texts: NDArray[np.object_] | None = None
    tensors: Tensors | None = None

    @classmethod
    def of_tensors(cls, tensors: Tensors) -> "Encoded":
        """The inputs of an imported model, each [n, ...]; at least one."""
        rows = len(next(iter(tensors.values())))
        return cls(np.empty((rows, 0), np.float32), np.empty((rows, 0), np.int32), tensors=tensors)

    @property
    def rows(self) -> int:
        return int(self.numbers.shape[0])

    def named(self) -> dict[str, NDArray[Any]]:
        """What a runtime feeds to the variant's signature, by input name."""
        if self.tensors is not None:
            return dict(self.tensors)
        named: dict[str, NDArray[Any]] = {}
        if self.numbers.shape[1]:
            named["numbers"] = self.numbers
        if self.categories.shape[1]:
            named["categories"] = self.categories
        if self.image is not None:
            named["image"] = self.image
        if self.texts is not None:
            named["texts"] = self.texts
        return named

    def take(self, rows: slice | NDArray[np.int64] | NDArray[np.bool_]) -> "Encoded":
        """Some of the rows."""
        *packed, tensors = self
        parts: list[Any] = [None if part is None else part[rows] for part in packed]
        parts.append(tensors and {name: tensor[rows] for name, tensor in tensors.items()})
        return Encoded(*parts)

    @staticmethod
    def join(parts: "Sequence[Encoded]") -> "Encoded":
        """All rows of all parts, in order; the parts are of the same features, and of the same unknown sizes."""
        *packed, tensors = zip(*parts, strict=True)
        joined: list[Any] = [None if column[0] is None else np.concatenate(column) for column in packed]
        joined.append(tensors[0] and _join(tensors))
        return Encoded(*joined)


def _join(parts: Sequence[Tensors]) -> Tensors:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
