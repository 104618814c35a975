"""What every runtime is: rows in, outputs by name out."""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from contract.encoded import Encoded

SIGNATURE = "encoded"

DeviceChoice = Literal["auto", "cpu", "gpu"]

Outputs = dict[str, NDArray[Any]]


class Runtime(Protocol):
    """A loaded variant. One that is not `thread_safe` is for one thread at a time; `replicas` are the devices that
    it runs on."""

    thread_safe: bool

    @property
    def replicas(self) -> int: ...

    def run(self, encoded: Encoded) -> Outputs:
        """Outputs by name, of the model's own types and shapes, strings as objects of bytes; the arrays are the
        caller's. Raises RunFailed."""

    def close(self) -> None:
        """Give its memory back, as far as it can be. It runs no more after that. Nobody may be running it."""


def values(encoded: Encoded) -> int:
    """How many values of pictures, or of the largest tensor, go in."""
    if encoded.tensors is not None:
        return max(tensor.size for tensor in encoded.tensors.values())
    return 0 if encoded.image is None else encoded.image.size


def in_parts(run: Callable[[Encoded], Outputs], encoded: Encoded, most: int) -> Outputs:
    """Run so many rows at a time that they have at most `most` values, or one by one."""
    rows = max(1, most * encoded.rows // values(encoded))
    parts = [run(encoded.take(slice(i, i + rows))) for i in range(0, encoded.rows, rows)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
