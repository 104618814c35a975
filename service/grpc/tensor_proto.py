"""TensorFlow's TensorProto as an array and back, without TensorFlow.

The rules are those of tensorflow/core/framework/tensor.proto and of `Tensor::FromProto`: the values are either in
`tensor_content`, as raw bytes, or in the field of their type; of fewer values there than the shape has, the last one
stands for all that are missing.
"""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.signature import Dtype
from service.errors import InvalidRequest
from service.grpc import values
from service.grpc.tfs_pb2 import TensorProto, TensorShapeProto, UnpackedTensorProto
from service.wire import tensors

Tensor = NDArray[Any]

# tensorflow/core/framework/types.proto
NUMBERS: Final[dict[Dtype, int]] = {
    "float32": 1,
    "float64": 2,
    "int32": 3,
    "uint8": 4,
    "int16": 5,
    "int8": 6,
    "string": 7,
    "int64": 9,
    "bool": 10,
    "bfloat16": 14,
    "uint16": 17,
    "float16": 19,
    "uint32": 22,
    "uint64": 23,
}
DTYPES: Final = {number: dtype for dtype, number in NUMBERS.items()}

_FIELDS: Final[dict[Dtype, str]] = {
    "float32": "float_val",
    "float64": "double_val",
    "int32": "int_val",
    "uint8": "int_val",
    "int16": "int_val",
    "int8": "int_val",
    "string": "string_val",
    "int64": "int64_val",
    "bool": "bool_val",
    "bfloat16": "half_val",
    "uint16": "int_val",
    "float16": "half_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
}
# A string stands for as many bytes as NumPy takes for a pointer to it.
_POINTER: Final = 8


def read(name: str, proto: TensorProto, most_bytes: int) -> Tensor:
    """An array; a bfloat16 becomes the same number as float32, a string an object of bytes. `most_bytes` is what one
    value that stands for many may become. Raises InvalidRequest."""
    path = f"inputs {name[:100]!r}"
    dtype = DTYPES.get(proto.dtype)
    if dtype is None:
        known = ", ".join(tensors.TFS_NAMES.values())
        raise InvalidRequest(f"{path}: expected a dtype of {known}, got number {proto.dtype}")
    if proto.tensor_shape.unknown_rank:
        raise InvalidRequest(f"{path}: expected a shape, got an unknown rank")
    shape = tensors.read_shape(path, [dim.size for dim in proto.tensor_shape.dim])
    if proto.tensor_content and dtype != "string":
        return tensors.from_raw(path, proto.tensor_content, dtype, shape)
    return _filled(path, _listed(path, proto, dtype), shape, most_bytes)


def write(tensor: Tensor) -> TensorProto:
    """Values in the field of their type, where TensorFlow Serving puts them and its clients look for them."""
    dtype = tensors.dtype_of(tensor)
    proto = TensorProto(dtype=NUMBERS[dtype], tensor_shape=write_shape(tensor.shape))
    getattr(proto, _FIELDS[dtype]).extend(_written(tensor, dtype))
    return proto


def write_shape(shape: Sequence[int]) -> TensorShapeProto:
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])


def _listed(path: str, proto: TensorProto, dtype: Dtype) -> Tensor:
    """The values that are in the field of their type, [n]."""
    field = _FIELDS[dtype]
    listed = getattr(proto, field)
    match dtype:
        case "float32" | "float64":
            unpacked = () if listed else getattr(UnpackedTensorProto.FromString(proto.SerializeToString()), field)
            return values.of_packed(path, listed, dtype, unpacked)
        case "string":
            return values.of_strings(listed)
        case "bool":
            return np.array(listed, bool)
        case "float16" | "bfloat16":
            bits = values.of_integers(path, listed, "uint16")
            return tensors.from_raw(path, bits.astype("<u2").tobytes(), dtype, bits.shape)
    return values.of_integers(path, listed, dtype)


def _filled(path: str, listed: Tensor, shape: tuple[int, ...], most_bytes: int) -> Tensor:
    count = math.prod(shape)
    if len(listed) == count:
        return listed.reshape(shape)
    if not len(listed) or len(listed) > count:
        raise InvalidRequest(f"{path}: expected {count} values for {list(shape)}, got {len(listed)}")
    if count * max(listed.itemsize, _POINTER if listed.dtype == object else 1) > most_bytes:
        raise InvalidRequest(
            f"{path}: {list(shape)} is more than {most_bytes} bytes, of which {len(listed)} values came"
        )
    last = np.full(count - len(listed), listed[-1], listed.dtype)
    return np.concatenate([listed, last]).reshape(shape)


def _written(tensor: Tensor, dtype: Dtype) -> Any:  # noqa: ANN401  # of the field
    match dtype:
        case "float32" | "float64":
            return values.to_packed(tensor)
        case "string":
            return values.to_strings(tensor)
        case "float16" | "bfloat16":
            return np.ascontiguousarray(tensor).view(np.uint16).ravel().tolist()
    return tensor.ravel().tolist()
