"""Numbers of a message's repeated fields as arrays and back, for both protocols.

Packed floats are read as the bytes that they are; oip.proto says why those fields are bytes to us.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.signature import Dtype
from service.errors import InvalidRequest

Tensor = NDArray[Any]


def of_packed(path: str, parts: Sequence[bytes], dtype: Dtype, unpacked: Sequence[float]) -> Tensor:
    """Floats [n] as a proto3 writer packs them, in one part or several; `unpacked` are those that came one by one.

    Raises InvalidRequest, beginning with `path`.
    """
    if unpacked:
        return np.array(unpacked, dtype)
    content = parts[0] if len(parts) == 1 else b"".join(parts)
    little = np.dtype(dtype).newbyteorder("<")
    if len(content) % little.itemsize:
        raise InvalidRequest(f"{path}: {len(content)} bytes are no list of {dtype}")
    return np.frombuffer(content, little)


def to_packed(tensor: Tensor) -> list[bytes]:
    """The one part of a field of packed floats; none for none."""
    little = np.ascontiguousarray(tensor).astype(tensor.dtype.newbyteorder("<"), copy=False)
    return [little.tobytes()] if tensor.size else []


def of_integers(path: str, values: Sequence[int], dtype: Dtype) -> Tensor:
    """Integers [n]. Raises InvalidRequest, beginning with `path`, where one does not fit into the dtype."""
    wide = np.array(values, np.uint64 if dtype == "uint64" else np.int64)
    limits = np.iinfo(dtype)
    if wide.size and not (limits.min <= int(wide.min()) and int(wide.max()) <= limits.max):
        wrong = next(value for value in values if not limits.min <= value <= limits.max)
        raise InvalidRequest(f"{path}: {wrong} is no {dtype}")
    return wide.astype(dtype)


def of_strings(values: Sequence[bytes]) -> Tensor:
    """Bytes [n], as objects: NumPy's own strings would drop zeros at their ends."""
    tensor = np.empty(len(values), object)
    tensor[:] = values
    return tensor


def to_strings(tensor: Tensor) -> list[bytes]:
    return [each if isinstance(each, bytes) else str(each).encode() for each in tensor.ravel().tolist()]
