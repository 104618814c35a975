"""The tensors of the Open Inference Protocol in a message: as raw bytes beside it, or typed values within."""

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from contract.signature import Dtype
from service import tensors
from service.errors import InvalidRequest
from service.grpc import values
from service.grpc.oip_pb2 import InferTensorContents, ModelInferRequest, UnpackedContents

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


def read_inputs(request: ModelInferRequest) -> dict[str, Tensor]:
    """A request's tensors by name. Raises InvalidRequest."""
    inputs, raw = request.inputs, request.raw_input_contents
    if raw and len(raw) != len(inputs):
        raise InvalidRequest(f"expected as many raw_input_contents as inputs, {len(inputs)}, got {len(raw)}")
    found: dict[str, Tensor] = {}
    for i, each in enumerate(inputs):
        path = f"inputs[{i}] {each.name[:100]!r}"
        if each.name in found:
            raise InvalidRequest(f"{path}: this input came twice")
        dtype = tensors.OF_OIP.get(each.datatype)
        if dtype is None:
            raise InvalidRequest(f"{path}: expected a datatype of {', '.join(tensors.OF_OIP)}, got {each.datatype!r}")
        shape = tensors.read_shape(path, list(each.shape))
        if not raw:
            found[each.name] = _of_contents(path, each.contents, dtype, shape)
        elif each.HasField("contents"):
            raise InvalidRequest(f"{path}: expected no contents beside raw_input_contents")
        else:
            found[each.name] = tensors.from_raw(path, raw[i], dtype, shape)
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
