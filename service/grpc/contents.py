"""The tensors of the Open Inference Protocol in a message: as raw bytes beside it, or typed values within."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.signature import MOST_DIMENSIONS, Dtype
from service.errors import InvalidRequest
from service.grpc import values
from service.grpc.oip_pb2 import InferTensorContents, ModelInferRequest, UnpackedContents
from service.wire import tensors

Tensor = NDArray[Any]

# The field of InferTensorContents for each type; those that have none come as raw bytes only.
FIELDS: Final[dict[Dtype, str]] = {
    "bool": "bool_contents",
    "int8": "int_contents",
    "int16": "int_contents",
    "int32": "int_contents",
    "int64": "int64_contents",
    "uint8": "uint_contents",
    "uint16": "uint_contents",
    "uint32": "uint_contents",
    "uint64": "uint64_contents",
    "float32": "fp32_contents",
    "float64": "fp64_contents",
    "string": "bytes_contents",
}

_SHARED: Final = "shared_memory_region"
_NUMBERS: Final[dict[str, np.dtype[Any]]] = {
    tensors.OIP_NAMES[dtype]: np.dtype(dtype).newbyteorder("<") for dtype in FIELDS if dtype not in ("bool", "string")
}


def read_inputs(request: ModelInferRequest) -> dict[str, Tensor]:
    """A request's tensors by name. Raises InvalidRequest."""
    inputs, raw = request.inputs, request.raw_input_contents
    if shared := [each.name for each in inputs if _SHARED in each.parameters]:
        raise InvalidRequest(f"input '{shared[0][:200]}': shared memory is not supported by this server")
    if raw and len(raw) != len(inputs):
        raise InvalidRequest(f"expected as many raw_input_contents as inputs, {len(inputs)}, got {len(raw)}")
    found: dict[str, Tensor] = {}
    for i, each in enumerate(inputs):
        content = raw[i] if raw else None
        tensor = None if content is None else _quickly(each, content)
        if tensor is None:
            tensor = _carefully(f"input '{each.name[:200]}'", each, content)
        if each.name in found:
            raise InvalidRequest(f"input '{each.name[:200]}' already exists in request")
        found[each.name] = tensor
    return found


def write(tensor: Tensor, dtype: Dtype) -> InferTensorContents:
    """Typed values, of a type that has a field in `FIELDS`."""
    contents = InferTensorContents()
    if dtype in ("float32", "float64"):
        listed: list[Any] = values.to_packed(tensor)
    elif dtype == "string":
        listed = values.to_strings(tensor)
    else:
        listed = tensor.ravel().tolist()
    getattr(contents, FIELDS[dtype]).extend(listed)
    return contents


def _quickly(sent: ModelInferRequest.InferInputTensor, content: bytes) -> Tensor | None:
    """A tensor of numbers from raw bytes that are as many as they should be; None for any other."""
    dtype, shape = _NUMBERS.get(sent.datatype), tuple(sent.shape)
    if dtype is None or len(shape) > MOST_DIMENSIONS or min(shape, default=0) < 0:
        return None
    if len(content) != math.prod(shape) * dtype.itemsize or not content or sent.HasField("contents"):
        return None
    return np.frombuffer(content, dtype).reshape(shape)


def _carefully(path: str, sent: ModelInferRequest.InferInputTensor, content: bytes | None) -> Tensor:
    dtype = tensors.OF_OIP.get(sent.datatype)
    if dtype is None:
        known = ", ".join(tensors.OF_OIP)
        raise InvalidRequest(f"{path}: expected a datatype of {known}, got {sent.datatype[:100]!r}")
    shape = tensors.read_shape(path, list(sent.shape))
    if content is None:
        return _of_contents(path, sent.contents, dtype, shape)
    if sent.HasField("contents"):
        raise InvalidRequest(f"{path}: expected no contents beside raw_input_contents")
    return tensors.from_raw(path, content, dtype, shape)


def _of_contents(path: str, contents: InferTensorContents, dtype: Dtype, shape: Sequence[int]) -> Tensor:
    if dtype not in FIELDS:
        raise InvalidRequest(f"{path}: {tensors.OIP_NAMES[dtype]} comes in raw_input_contents only")
    flat = _values(path, contents, dtype)
    if len(flat) != math.prod(shape):
        raise InvalidRequest(f"{path}: expected {math.prod(shape)} values in {FIELDS[dtype]}, got {len(flat)}")
    return flat.reshape(shape)


def _values(path: str, contents: InferTensorContents, dtype: Dtype) -> Tensor:
    listed = getattr(contents, FIELDS[dtype])
    if dtype in ("float32", "float64"):
        unpacked = () if listed else getattr(UnpackedContents.FromString(contents.SerializeToString()), FIELDS[dtype])
        return values.of_packed(path, listed, dtype, unpacked)
    if dtype == "string":
        return values.of_strings(listed)
    if dtype == "bool":
        return np.array(listed, bool)
    return values.of_integers(path, listed, dtype)
