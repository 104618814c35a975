"""Bodies of POST /predict that are not JSON: arrays, pictures, tables and lines.

A reader gives rows as JSON would have them, or what is to be encoded on the model's thread.
"""

import csv
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from contract.kinds import Feature, ImageFeature, NumberFeature, TensorFeature
from contract.signature import MOST_DIMENSIONS, UNKNOWN, Dtype
from service.errors import InvalidRequest, NotJSON, TooManyRows, UnsupportedMedia
from service.http.messages import Request
from service.inference.work import Make
from service.versions.loaded import LoadedModel
from service.wire.tensors import OIP_NAMES, from_raw, require_countable, size_of

NPY, OCTETS = b"application/x-npy", b"application/octet-stream"
PICTURES = (b"image/jpeg", b"image/png", b"image/webp")
CSV = b"text/csv"
LINES = (b"application/jsonl", b"application/x-ndjson", b"application/jsonlines", b"application/x-jsonlines")
SHAPE = b"x-tensor-shape"

_HEADER = re.compile(
    rb"\{'descr': '(?P<type>[<>|](?:b1|[iu][1248]|f[248]|[SU][1-9][0-9]{0,5}))', "
    rb"'fortran_order': (?P<fortran>True|False), 'shape': \((?P<shape>(?:[0-9]{1,10}, ?)*(?:[0-9]{1,10})?)\), ?\} *\n?"
)
_SHAPE = re.compile(r"\s*[0-9]{1,10}\s*(?:,\s*[0-9]{1,10}\s*){0,15}")
_WHOLE = re.compile(r"\s*[-+]?[0-9]{1,30}\s*")  # Python's own reader takes 1_0 as well
_NUMBER = re.compile(r"\s*[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\s*")


class Read(NamedTuple):
    """So many rows: as JSON has them, or to be made."""

    size: int
    rows: list[Any] | None
    make: Make | None


Reader = Callable[[Request, LoadedModel, int], Read]


def read(request: Request, model: LoadedModel, most_rows: int) -> Read:
    """What the body says, by its content type. Raises UnsupportedMedia, NotJSON, TooManyRows or InvalidRequest."""
    return READERS[request.media](request, model, most_rows)


def check_media(request: Request) -> None:
    """Raises UnsupportedMedia, with what is taken."""
    if request.media not in READERS:
        received = request.headers[b"content-type"].decode("latin-1")[:100]
        taken = ", ".join(["application/json", *(media.decode() for media in READERS)])
        raise UnsupportedMedia(f"expected the header content-type: application/json, got {received}; taken: {taken}")


def _npy(request: Request, model: LoadedModel, most_rows: int) -> Read:
    del most_rows
    array = load_npy(request.body)
    return _tensors(model, array)


def _octets(request: Request, model: LoadedModel, most_rows: int) -> Read:
    """The type is the signature's; so is the shape, as far as it is known there."""
    del most_rows
    dtype, row = _only_input(model)
    if dtype == "string":
        raise UnsupportedMedia(f"{model.name} takes strings: send JSON, or binary tensors to /v2/models/{model.name}")
    stated = request.headers.get(SHAPE)
    shape = _deduced(request.body, dtype, row) if stated is None else _stated(stated)
    return _tensors(model, from_raw("body", request.body, dtype, shape))


def _picture(request: Request, model: LoadedModel, most_rows: int) -> Read:
    del most_rows
    feature = model.encoder.image_feature
    others = [each.name for each in model.encoder.features if each.required and each is not feature]
    if feature is None or others:
        needs = f"also needs {', '.join(others[:5])}" if feature else "takes no picture"
        raise UnsupportedMedia(f"{model.name} {needs}: send JSON")
    files = np.empty(1, object)
    files[0] = request.body
    tensors = {feature.name: files}
    return Read(1, None, lambda: model.encoder.encode_tensors(tensors))


def _table(request: Request, model: LoadedModel, most_rows: int) -> Read:
    """Rows under a header that names the features, in any order; an empty cell is a missing value."""
    rows = list(read_csv(request.body, model.encoder.features, most_rows))
    return Read(len(rows), rows, None)


def _lines(request: Request, model: LoadedModel, most_rows: int) -> Read:
    """A row of JSON a line."""
    del model
    rows = list(read_lines(request.body, most_rows))
    return Read(len(rows), rows, None)


READERS: Mapping[bytes, Reader] = {
    NPY: _npy,
    OCTETS: _octets,
    **dict.fromkeys(PICTURES, _picture),
    CSV: _table,
    **dict.fromkeys(LINES, _lines),
}


def load_npy(body: bytes) -> NDArray[Any]:
    """The array of a .npy file of numbers, bools or strings, without copying it. Raises InvalidRequest.

    Nothing is trusted: no pickles, no Python in the header, and no memory for a shape that is not there. The format is
    that of NumPy Enhancement Proposal 1; NumPy's own reader evaluates the header, and raises anything at all.
    """
    width = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4, b"\x93NUMPY\x03\x00": 4}.get(body[:8], 0)
    start = 8 + width
    ends = start + int.from_bytes(body[8:start], "little")
    header = _HEADER.fullmatch(body, start, ends) if width and ends <= len(body) else None
    if header is None:
        raise InvalidRequest("the body is no .npy file of numbers, bools or strings")
    dtype = np.dtype(header["type"].decode())
    shape = tuple(int(size) for size in header["shape"].split(b",") if size.strip())
    require_countable("the .npy file", shape)
    content = memoryview(body)[ends:]
    if math.prod(shape) * dtype.itemsize != len(content) or len(shape) > MOST_DIMENSIONS:
        raise InvalidRequest(f"the .npy file has {len(content)} bytes of values, its header says {str(shape)[:60]}")
    array = np.frombuffer(content, dtype)
    return array.reshape(shape[::-1]).T if header["fortran"] == b"True" else array.reshape(shape)


def read_csv(body: bytes, features: tuple[Feature, ...], most_rows: int) -> Iterator[dict[str, Any]]:
    """Rows of a table with a header. Raises InvalidRequest or TooManyRows."""
    by_name = {feature.name: feature for feature in features}
    lines = cells(body)
    names = next(lines, [])
    if len(set(names)) != len(names):
        raise InvalidRequest("line 1: a column's name comes twice")
    yield from _rows(lines, names, by_name, most_rows)


def read_headless_csv(body: bytes, features: tuple[Feature, ...], most_rows: int) -> Iterator[dict[str, Any]]:
    """Rows of a table whose first line may be a header; without one, the columns are in the order of the features."""
    by_name = {feature.name: feature for feature in features}
    lines = cells(body)
    first = next(lines, [])
    if set(first) <= by_name.keys() and first:
        yield from _rows(lines, first, by_name, most_rows)
    else:
        yield from _rows(_after(first, lines), list(by_name), by_name, most_rows)


def read_lines(body: bytes, most_rows: int) -> Iterator[Any]:
    """The values of JSON lines. Raises NotJSON or TooManyRows."""
    if body.count(b"\n") > most_rows:
        lines = [line for line in body.split(b"\n") if line.strip()]
        if len(lines) > most_rows:
            raise TooManyRows(f"{len(lines)} lines in one request, the limit is {most_rows}")
    empty = True
    for number, line in enumerate(body.split(b"\n"), 1):
        if line.strip():
            empty = False
            try:
                yield orjson.loads(line)
            except orjson.JSONDecodeError as error:
                raise NotJSON(f"line {number} is not JSON: {error}") from error
    if empty:
        raise InvalidRequest("the request has no rows")


def cells(body: bytes) -> Iterator[list[str]]:
    """Lines that are not empty. Raises InvalidRequest."""
    try:
        text = body.decode("utf-8-sig")
        for line in csv.reader(io.StringIO(text, newline=""), strict=True):
            if line:
                yield line
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the table is not UTF-8 at byte {error.start}") from error
    except csv.Error as error:
        raise InvalidRequest(f"the table is no CSV: {error}") from error


def number(cell: str) -> float | str:
    """A number; what is none stays text."""
    return float(cell) if _NUMBER.fullmatch(cell) else cell


def _after(first: list[str], lines: Iterator[list[str]]) -> Iterator[list[str]]:
    yield first
    yield from lines


def _rows(
    lines: Iterator[list[str]], names: list[str], features: Mapping[str, Feature], most_rows: int
) -> Iterator[dict[str, Any]]:
    count = 0
    for count, line in enumerate(lines, 1):
        if count > most_rows:
            raise TooManyRows(f"more than {most_rows} rows in one request")
        if len(line) != len(names):
            raise InvalidRequest(f"row {count} of the table: expected {len(names)} cells, got {len(line)}")
        yield {name: _value(cell, features.get(name)) for name, cell in zip(names, line, strict=True)}
    if not count:
        raise InvalidRequest("the request has no rows: expected a header and at least one row")


def _value(cell: str, feature: Feature | None) -> object:
    """A cell as JSON has it; what is no number stays text, for the encoder to complain of."""
    if isinstance(feature, ImageFeature):
        return {"b64": cell}
    if not cell:
        return None
    if isinstance(feature, NumberFeature):
        return number(cell)
    if isinstance(feature, TensorFeature) and feature.dtype != "string":
        return _tensor_value(cell, feature)
    return cell


def _tensor_value(cell: str, feature: TensorFeature) -> object:
    if feature.dtype == "bool":
        value: object = {"true": True, "false": False}.get(cell.lower(), cell)
    else:
        value = int(cell) if _WHOLE.fullmatch(cell) else number(cell)
    return [value] if feature.shape == (1,) else value


def _only_input(model: LoadedModel) -> tuple[Dtype, tuple[int, ...]]:
    """The type and the row of what one array can be: the only input, or all numbers. Raises UnsupportedMedia."""
    features = model.encoder.features
    if len(features) == 1:
        return features[0].dtype, features[0].shape
    if all(isinstance(feature, NumberFeature) for feature in features):
        return "float32", (len(features),)
    raise UnsupportedMedia(f"{model.name} takes more than one array: send JSON, CSV, or tensors to /v2")


def _tensors(model: LoadedModel, array: NDArray[Any]) -> Read:
    """Of an array [n, ...], or of one row."""
    dtype, row = _only_input(model)
    features, encoder = model.encoder.features, model.encoder
    if _is_row(array.shape, row) or (model.encoder.image_feature and row[2:] == (1,) and array.shape == row[:2]):
        array = array[np.newaxis]
    if len(features) == 1:
        tensors = {features[0].name: array}
    elif array.ndim == 2 and array.shape[1] == len(features):
        tensors = {feature.name: array[:, i] for i, feature in enumerate(features)}
    else:
        raise InvalidRequest(f"expected {OIP_NAMES[dtype]} [n, {row[0]}], got shape {list(array.shape)}")
    count = len(array) if array.ndim else 1
    return Read(count, None, lambda: encoder.encode_tensors(tensors))


def _is_row(shape: tuple[int, ...], row: tuple[int, ...]) -> bool:
    return len(shape) == len(row) and all(b in (a, UNKNOWN) for a, b in zip(shape, row, strict=True))


def _deduced(body: bytes, dtype: Dtype, row: tuple[int, ...]) -> tuple[int, ...]:
    """Rows and what is not known of them, from the number of bytes."""
    if UNKNOWN in row:
        raise InvalidRequest(f"expected the header X-Tensor-Shape: a row is {list(row)}, -1 being any size")
    size = math.prod(row) * size_of(dtype)
    if not size or not body or len(body) % size:
        raise InvalidRequest(f"expected rows of {size} bytes, {OIP_NAMES[dtype]} {list(row)} each, got {len(body)}")
    return (len(body) // size, *row)


def _stated(header: bytes) -> tuple[int, ...]:
    text = header.decode("latin-1")
    if not _SHAPE.fullmatch(text):
        raise InvalidRequest(f"expected the header X-Tensor-Shape: sizes such as 2, 28, 28, got {text[:60]}")
    shape = tuple(map(int, text.split(",")))
    require_countable("the header X-Tensor-Shape", shape)
    return shape
