"""Tensors as the protocols have them: the names of their types, their raw bytes, and a model's signature.

Raw bytes are row by row, the lowest byte first, without gaps; a bool is one byte; a string is its length as an
unsigned 32-bit number and its bytes (the binary tensor data extension of the Open Inference Protocol).
"""

import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.signature import MOST_DIMENSIONS, Dtype, TensorSpec
from service.errors import InvalidRequest

Tensor = NDArray[Any]

OIP_NAMES: Final[Mapping[Dtype, str]] = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "float16": "FP16",
    "bfloat16": "BF16",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
}
TFS_NAMES: Final[Mapping[Dtype, str]] = {
    "bool": "DT_BOOL",
    "int8": "DT_INT8",
    "int16": "DT_INT16",
    "int32": "DT_INT32",
    "int64": "DT_INT64",
    "uint8": "DT_UINT8",
    "uint16": "DT_UINT16",
    "uint32": "DT_UINT32",
    "uint64": "DT_UINT64",
    "float16": "DT_HALF",
    "bfloat16": "DT_BFLOAT16",
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "string": "DT_STRING",
}
OF_OIP: Final[Mapping[str, Dtype]] = {name: dtype for dtype, name in OIP_NAMES.items()}
OF_TFS: Final[Mapping[str, Dtype]] = {name: dtype for dtype, name in TFS_NAMES.items()}

_WIDTHS: Final[Mapping[Dtype, int]] = {
    dtype: 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize for dtype in OIP_NAMES if dtype != "string"
}
# As raw bytes are; of those that need no more than that.
_RAW: Final[Mapping[Dtype, np.dtype[Any]]] = {
    dtype: np.dtype(dtype).newbyteorder("<") for dtype in _WIDTHS if dtype not in ("bool", "bfloat16")
}
# NumPy makes a dtype's name anew whenever it is asked for it.
_OF_DTYPE: Final[Mapping[np.dtype[Any], Dtype]] = {
    np.dtype(dtype): dtype for dtype in OIP_NAMES if dtype not in ("bfloat16", "string")
}
_LENGTH = struct.Struct("<I")
_LARGEST_SIZE = 2**31
# No body has as many values; NumPy cannot count further, also where one size is 0 and there are none.
_MOST_VALUES = 2**40


def dtype_of(tensor: Tensor) -> Dtype:
    """The type of what a model answered. Raises TypeError for what no signature has."""
    if (known := _OF_DTYPE.get(tensor.dtype)) is not None:
        return known
    if tensor.dtype.kind in "OSU":
        return "string"
    name: Any = tensor.dtype.name
    if name not in OIP_NAMES:
        raise TypeError(f"no protocol has a tensor of {name}")
    found: Dtype = name
    return found


def read_shape(path: str, shape: object) -> tuple[int, ...]:
    """A shape that a client states. Raises InvalidRequest."""
    sizes = tuple(shape) if isinstance(shape, list | tuple) else (None,)
    if len(sizes) > MOST_DIMENSIONS or not all(type(size) is int and 0 <= size < _LARGEST_SIZE for size in sizes):
        raise InvalidRequest(f"{path}: expected a shape of at most {MOST_DIMENSIONS} sizes from 0 on")
    require_countable(path, sizes)
    return sizes


def require_countable(path: str, shape: Sequence[int]) -> None:
    """Raises InvalidRequest for a shape without values that NumPy cannot make; of any other, the values are too few."""
    if 0 in shape and math.prod(size or 1 for size in shape) > _MOST_VALUES:
        raise InvalidRequest(f"{path}: expected sizes beside 0 that multiply to at most {_MOST_VALUES}")


def size_of(dtype: Dtype) -> int:
    """Bytes of a value of any type but a string."""
    return _WIDTHS[dtype]


def from_raw(path: str, content: bytes | memoryview, dtype: Dtype, shape: Sequence[int]) -> Tensor:
    """A tensor from its raw bytes, which it goes on using; a bfloat16 becomes the same number as float32, a string an
    object of bytes. Raises InvalidRequest, beginning with `path`, where the number of bytes is not that of the shape.
    """
    count = math.prod(shape)
    if dtype == "string":
        return _strings(path, memoryview(content), count).reshape(shape)
    if len(content) != count * _WIDTHS[dtype]:
        expected = f"expected {count * _WIDTHS[dtype]} for {OIP_NAMES[dtype]} {list(shape)}"
        raise InvalidRequest(f"{path}: {len(content)} bytes, {expected}")
    if dtype == "bool":
        return np.frombuffer(content, np.uint8).astype(bool).reshape(shape)  # whatever is not 0 is true
    if dtype == "bfloat16":
        widened: Tensor = np.left_shift(np.frombuffer(content, "<u2"), 16, dtype="<u4").view("<f4").reshape(shape)
        return widened
    return np.frombuffer(content, _RAW[dtype]).reshape(shape)


def to_raw(tensor: Tensor) -> bytes:
    """A tensor's raw bytes."""
    if tensor.dtype.kind in "OSU":
        strings = [each if isinstance(each, bytes) else str(each).encode() for each in tensor.ravel().tolist()]
        return b"".join([part for string in strings for part in (_LENGTH.pack(len(string)), string)])
    if dtype_of(tensor) == "bfloat16":
        return np.ascontiguousarray(tensor).view(np.uint16).astype("<u2", copy=False).tobytes()
    return tensor.astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes()


def oip_metadata(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    """Inputs or outputs as the Open Inference Protocol describes them; -1 is any size."""
    return [{"name": spec.name, "datatype": OIP_NAMES[spec.dtype], "shape": list(spec.shape)} for spec in specs]


def _strings(path: str, content: memoryview, count: int) -> Tensor:
    found: list[bytes] = []
    at = 0
    while at + _LENGTH.size <= len(content) and len(found) <= count:
        (size,) = _LENGTH.unpack_from(content, at)
        at += _LENGTH.size + size
        found.append(bytes(content[at - size : at]))
    if at != len(content) or len(found) != count:
        raise InvalidRequest(f"{path}: {len(content)} bytes that are not {count} strings, each behind its length")
    tensor = np.empty(count, object)
    tensor[:] = found
    return tensor
