"""Requests of the Open Inference Protocol: JSON, with or without binary tensors behind it, or one raw tensor.

The messages are Triton's where it has one (src/http_server.cc, core/src/infer_request.cc).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
import simdjson
from numpy.typing import NDArray

from contract.lists import flatten
from contract.manifest import Manifest
from contract.signature import UNKNOWN, Dtype, TensorSpec
from service.errors import InvalidRequest, NotJSON
from service.wire import dense, lenient
from service.wire.arrays import of_type
from service.wire.tensors import OF_OIP, OIP_NAMES, from_raw, read_shape, size_of

Tensor = NDArray[Any]
JSON = Any

HEADER = b"inference-header-content-length"

LARGEST_CLASSIFICATION = 10_000


class Wanted(NamedTuple):
    """An output that is asked for; `classes` is how many of its largest values to name, 0 for the values themselves."""

    name: str
    binary: bool
    classes: int


class Asked(NamedTuple):
    """A request. `outputs` is None for all; `binary` says how those are sent for which nothing is said.

    `priority` and `timeout`, in microseconds, are 0 where nothing is said.
    """

    tensors: dict[str, Tensor]
    outputs: list[Wanted] | None
    binary: bool
    id: str | None = None
    priority: int = 0
    timeout: int = 0


def read(body: bytes, header: bytes | None, manifest: Manifest) -> Asked:
    """`header` is what HEADER says. Raises NotJSON or InvalidRequest."""
    if header is None:
        return _read(_parse(body), memoryview(b""), manifest)
    try:
        length = int(header) if len(header) < 20 else -1
    except ValueError as error:
        shown = header[:60].decode("latin-1")
        raise InvalidRequest(f"Unable to parse Inference-Header-Content-Length, got: {shown}") from error
    if length == 0:
        return Asked({**_raw(body, manifest)}, None, binary=True)
    if not 0 < length <= len(body):
        raise InvalidRequest(f"inference header size should be in range (0, {len(body)}), got: {length}")
    return _read(_parse(body[:length]), memoryview(body)[length:], manifest)


def complaint(asked: Asked, manifest: Manifest) -> str | None:
    """What Triton would say of tensors that do not fit the model; None where it would take them."""
    name, specs = manifest.name, {spec.name: spec for spec in manifest.signature.inputs}
    for each in asked.tensors:
        if each not in specs:
            return f"unexpected inference input '{each[:200]}' for model '{name}'"
    missing = [feature.name for feature in manifest.features if feature.required and feature.name not in asked.tensors]
    if missing:
        got, lacks = (", ".join(f"'{one}'" for one in names) for names in (asked.tensors, missing))
        return (
            f"expected {len(specs)} inputs but got {len(asked.tensors)} inputs for model '{name}'. Got input(s) "
            f"[{got}], but missing required input(s) [{lacks}]. Please provide all required input(s)."
        )
    rows = {len(tensor) if tensor.ndim else None for tensor in asked.tensors.values()}
    for each, tensor in asked.tensors.items():
        spec = specs[each]
        if (tensor.dtype.kind == "O") != (spec.dtype == "string") or (tensor.dtype.kind == "b") != (
            spec.dtype == "bool"
        ):
            came = "BYTES" if tensor.dtype.kind == "O" else OIP_NAMES.get(tensor.dtype.name, "BYTES")  # type: ignore[call-overload]
            expects = OIP_NAMES[spec.dtype]
            return f"inference input '{each}' data-type is '{came}', but model '{name}' expects '{expects}'"
        if not _fits(tensor.shape, spec):
            expected, got = (_brackets(shape) for shape in (spec.shape, tensor.shape))
            return f"unexpected shape for input '{each}' for model '{name}'. Expected {expected}, got {got}"
        if len(rows) > 1:
            return f"input '{each}' batch size does not match other inputs for '{name}'"
    return None


def _fits(shape: tuple[int, ...], spec: TensorSpec) -> bool:
    return len(shape) == len(spec.shape) and all(b in (a, UNKNOWN) for a, b in zip(shape, spec.shape, strict=True))


def _brackets(shape: Sequence[int]) -> str:
    return f"[{','.join(map(str, shape))}]"


def _parse(body: bytes) -> dict[str, JSON]:
    document = dense.read(body)
    if document is None:
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            document = _lenient(body)
    if not isinstance(document, dict):
        raise InvalidRequest("expected a JSON object with the key 'inputs'")
    return document


def _lenient(body: bytes) -> JSON:
    """With NaN and infinity, which Triton reads and writes too."""
    try:
        return lenient.loads(body)
    except NotJSON as error:
        said = str(error).removeprefix("JSON Parse error: ").replace("at offset:", "at")
        raise NotJSON(f"failed to parse the request JSON buffer: {said}") from error


def _read(document: dict[str, JSON], binary: memoryview, manifest: Manifest) -> Asked:
    parameters = _parameters(document)
    tensors: dict[str, Tensor] = {}
    at = 0
    for one in _objects(document, "inputs"):
        name, at, tensor = _tensor(one, binary, at)
        if name in tensors:
            raise InvalidRequest(f"input '{name[:200]}' already exists in request")
        tensors[name] = tensor
    if at != len(binary):
        raise InvalidRequest(
            f"unexpected additional input data for model '{manifest.name}': {len(binary) - at} bytes behind the last "
            "binary tensor"
        )
    all_binary = _flag(parameters, "binary_data_output", otherwise=False)
    outputs = None
    if document.get("outputs") is not None:
        outputs = [_wanted(one, all_binary, manifest) for one in _objects(document, "outputs")]
    given = document.get("id")
    if given is not None and not isinstance(given, str):
        raise InvalidRequest("Unable to parse 'id': expected a string")
    priority, timeout = (_number(parameters, key) for key in ("priority", "timeout"))
    return Asked(tensors, outputs or None, all_binary, given, priority, timeout)


def _objects(document: Mapping[str, JSON], key: str) -> list[dict[str, JSON]]:
    """A list of objects. Raises InvalidRequest."""
    if key not in document:
        raise InvalidRequest(f"Unable to parse '{key}': attempt to access non-existing object member '{key}'")
    listed = document[key]
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise InvalidRequest(f"Unable to parse '{key}': expected a list of objects")
    return listed


def _tensor(one: dict[str, JSON], binary: memoryview, at: int) -> tuple[str, int, Tensor]:
    """Name and tensor of an input, and where the binary tensor behind it begins."""
    name = one.get("name")
    if not isinstance(name, str):
        raise InvalidRequest("Unable to parse 'inputs': expected every input to have a 'name', a string")
    path = f"input '{name[:200]}'"
    shape = read_shape(path, one.get("shape"))
    given = one.get("datatype")
    if not isinstance(given, str) or given not in OF_OIP:
        raise InvalidRequest(f"{path}: expected a 'datatype' such as FP32, got {lenient.show(given)[:60]}")
    dtype = OF_OIP[given]
    parameters = _parameters(one)
    if "shared_memory_region" in parameters:
        raise InvalidRequest(f"{path}: shared memory is not supported by this server")
    if "binary_data_size" in parameters:
        size = _number(parameters, "binary_data_size")
        if at + size > len(binary):
            raise InvalidRequest(f"{path}: expects {size} bytes of binary data, got {len(binary) - at}")
        return name, at + size, from_raw(path, binary[at : at + size], dtype, shape)
    if "data" not in one:
        raise InvalidRequest(
            f"{path}: must specify valid 'Infer-Header-Content-Length' in request header and 'binary_data_size' when "
            "passing inputs in binary data format, or else 'data'"
        )
    return name, at, _from_json(path, one["data"], dtype, shape)


def _from_json(path: str, data: JSON, dtype: Dtype, shape: tuple[int, ...]) -> Tensor:
    """Values in nested lists of the shape, or in one list, row by row."""
    count = math.prod(shape)
    if isinstance(data, dense.Numbers):
        array = data.read(dtype, simdjson.Parser())
        if array is not None and (array.shape == shape or array.shape == (count,)):
            return array.reshape(shape)
        data = _lenient(data.text)
    found, values = flatten(data) if isinstance(data, list) else ((), [])
    if found not in (shape, (count,)):
        got = _brackets(found) if found else "no list, or lists of different lengths"
        raise InvalidRequest(f"{path}: expected data of shape {_brackets(shape)}, flat or nested, got {got}")
    tensor = of_type(dtype, values)
    if tensor is None:
        raise InvalidRequest(f"{path}: Unable to parse 'data': a value is no {OIP_NAMES[dtype]}")
    return tensor.reshape(shape)


def _raw(body: bytes, manifest: Manifest) -> dict[str, Tensor]:
    """A request that is nothing but one tensor: one row of the only input."""
    specs = manifest.signature.inputs
    if len(specs) != 1:
        raise InvalidRequest(
            f"Raw request must only have 1 input (found {len(specs)}) to be deduced but got {len(specs)} inputs in "
            f"'{manifest.name}' model configuration"
        )
    spec = specs[0]
    return {spec.name: one_row(body, spec)}


def one_row(content: bytes, spec: TensorSpec) -> Tensor:
    """A row's tensor [1, ...] from its bytes; where one size is not known, it is what the bytes say. A string is its
    bytes, without its length."""
    path = f"input '{spec.name}'"
    if spec.dtype == "string":
        if math.prod(spec.row) != 1:
            raise InvalidRequest(f"{path}: For BYTES datatype raw input, the model must have input shape [1]")
        length = len(content).to_bytes(4, "little")
        return from_raw(path, length + content, "string", (1, *(1 for _ in spec.row)))
    if spec.row.count(UNKNOWN) > 1:
        raise InvalidRequest(f"{path}: the shape of a raw input must have at most one variable dimension")
    known = math.prod(size for size in spec.row if size != UNKNOWN) * size_of(spec.dtype)
    shape = tuple(len(content) // max(known, 1) if size == UNKNOWN else size for size in spec.row)
    return from_raw(path, content, spec.dtype, (1, *shape))


def _wanted(one: dict[str, JSON], all_binary: bool, manifest: Manifest) -> Wanted:
    name = one.get("name")
    if not isinstance(name, str):
        raise InvalidRequest("Unable to parse 'outputs': expected every output to have a 'name', a string")
    if name not in {spec.name for spec in manifest.signature.outputs}:
        raise InvalidRequest(f"unexpected inference output '{name[:200]}' for model '{manifest.name}'")
    parameters = _parameters(one)
    if "shared_memory_region" in parameters:
        raise InvalidRequest(f"output '{name}': shared memory is not supported by this server")
    classes = _number(parameters, "classification")
    if classes > LARGEST_CLASSIFICATION:
        raise InvalidRequest(f"output '{name}': classification of at most {LARGEST_CLASSIFICATION}, got {classes}")
    return Wanted(name, _flag(parameters, "binary_data", otherwise=all_binary), classes)


def _parameters(of: Mapping[str, JSON]) -> dict[str, JSON]:
    parameters = of.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise InvalidRequest("Unable to parse 'parameters': expected an object")
    return parameters


def _flag(parameters: Mapping[str, JSON], key: str, *, otherwise: bool) -> bool:
    value = parameters.get(key, otherwise)
    if not isinstance(value, bool):
        raise InvalidRequest(f"Unable to parse '{key}': expected true or false")
    return value


def _number(parameters: Mapping[str, JSON], key: str) -> int:
    """0 where nothing is said."""
    value = parameters.get(key, 0)
    if type(value) is not int or not 0 <= value < 2**63:
        raise InvalidRequest(f"Unable to parse '{key}': expected a whole number from 0 on")
    return value
