"""The tensors of imported models: from JSON to arrays, from a client's arrays to the model's, and back to JSON.

In JSON, a row's tensor is nested lists of exactly its shape: true and false, numbers, or strings, one that is no text
as {"b64": its bytes}. One of numbers may also be {"b64": its bytes, row by row, the lowest first}, with "shape" where
more than one size is unknown. Nothing is rounded, cut or guessed: 1.5 is no integer, 300 is no uint8, 1 is not true,
and 1e39 is no float32. What JSON has no word for, NaN and infinity, is taken where a protocol has one.
"""

import base64
import binascii
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.kinds import TensorFeature
from contract.lists import flatten
from contract.problem import Problem, show
from contract.signature import UNKNOWN, Dtype, numpy_dtype

Tensor = NDArray[Any]

# Values of a tensor that are written into a manifest as numbers, for people; more of them are written as bytes.
MOST_READABLE = 64

_BOOLS, _NUMBERS = frozenset({bool}), frozenset({int, float})
_B64, _SHAPE = "b64", "shape"


def read(path: str, feature: TensorFeature, value: object) -> Tensor | Problem:
    """One row's tensor as it comes in a request, or the first thing that is wrong with it; `path` is where it stands
    there."""
    if value is None:
        return Problem(path, "required feature is missing", describe(feature), "nothing")
    if isinstance(value, dict) and feature.dtype != "string":
        return _read_bytes(path, feature, value)
    shape, values = flatten([value])
    fitted = _fitted(shape[1:], feature.shape) if shape else None
    if fitted is None:
        received = f"shape {list(shape[1:])}" if shape else "lists of different lengths"
        return Problem(path, "has another shape", describe(feature), received)
    if (tensor := _of_type(feature.dtype, values)) is not None:
        return tensor.reshape(fitted)
    wrong = _first_wrong(feature.dtype, values)
    place = "".join(f"[{i}]" for i in np.unravel_index(wrong, shape[1:]))
    return Problem(path + place, f"is no {feature.dtype}", _describe_value(feature.dtype), show(values[wrong]))


def read_rows(feature: TensorFeature, values: list[Any]) -> Tensor | None:
    """The tensors of n rows as [n, ...]; None where any of them is wrong or their shapes differ."""
    if feature.dtype != "string" and dict in set(map(type, values)):
        rows = [read("", feature, value) for value in values]
        return stack([row for row in rows if not isinstance(row, Problem)], len(rows))
    shape, flat = flatten(values)
    fitted = _fitted(shape[1:], feature.shape) if shape else None
    tensor = None if fitted is None else _of_type(feature.dtype, flat)
    return None if tensor is None or fitted is None else tensor.reshape(len(values), *fitted)


def stack(rows: Sequence[Tensor], count: int) -> Tensor | None:
    """`count` tensors as [count, ...]; None where some are missing or their shapes differ."""
    if len(rows) != count or len({row.shape for row in rows}) > 1:
        return None
    return np.stack(rows)


def convert(path: str, feature: TensorFeature, array: Tensor) -> Tensor | list[Problem]:
    """A client's array [n, ...] as the model's, or what is wrong with it; the same verdict as `read` has of its rows.

    Not copied where it fits as it is.
    """
    if not _matches(array.shape[1:], feature.shape):
        rows = "n" if array.ndim else "no rows"
        received = f"shape {[rows, *array.shape[1:]]}".replace("'", "")
        return [Problem(path, "has another shape", f"[n], each {describe(feature)}", received)]
    if feature.dtype == "string":
        return _strings(path, array)
    if array.dtype == (wanted := numpy_dtype(feature.dtype)):
        return array
    bad = _misfits(array, feature.dtype)
    if bad is None:
        return [Problem(path, "wrong type", f"an array of {feature.dtype}", f"an array of {array.dtype}")]
    if bad.any():
        return list(_problems(path, feature.dtype, array, bad))
    with np.errstate(over="ignore"):  # what overflows is infinite already
        return array.astype(wanted)


def plain(tensor: Tensor, dtype: Dtype) -> Any:  # noqa: ANN401  # whatever JSON has
    """One row's tensor as `read` takes it: for people where it is small, else as bytes."""
    if dtype == "string":
        return _each(tensor.tolist())
    wide = tensor.astype(np.float32) if dtype == "bfloat16" else tensor
    if tensor.size <= MOST_READABLE and (wide.dtype.kind != "f" or np.isfinite(wide).all()):
        # The shortest digits that are this value in its own type, not those of the float64 that Python makes of it.
        flat = [float(str(value)) for value in wide.ravel()] if wide.dtype.kind == "f" else wide.ravel().tolist()
        return np.array(flat, object).reshape(wide.shape).tolist()
    content = np.ascontiguousarray(tensor, numpy_dtype(dtype).newbyteorder("<")).tobytes()
    return {_B64: base64.b64encode(content).decode(), _SHAPE: tuple(tensor.shape)}


def text_of(content: bytes) -> str | dict[str, str]:
    """Bytes as JSON has them: text, or base64 where they are none."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {_B64: base64.b64encode(content).decode()}


def describe(feature: TensorFeature) -> str:
    """What one row's tensor looks like in a request, in a few words."""
    value = _describe_value(feature.dtype)
    if not feature.shape:
        return value
    sizes = " x ".join("any" if size == UNKNOWN else str(size) for size in feature.shape)
    return f"{sizes} as nested lists, each {value}"


def _describe_value(dtype: Dtype) -> str:
    if dtype == "string":
        return 'a string, or {"b64": its bytes}'
    if dtype == "bool":
        return "true or false"
    if dtype in ("bfloat16", "float16", "float32", "float64"):
        return f"a number ({dtype})"
    limits = np.iinfo(dtype)
    return f"a whole number from {limits.min} to {limits.max}"


def _matches(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(b in (a, UNKNOWN) for a, b in zip(shape, wanted, strict=True))


def _fitted(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...] | None:
    """The shape, where it is one that is wanted. An empty list says nothing of the sizes within it."""
    if shape[-1:] == (0,):
        shape += tuple(max(size, 0) for size in wanted[len(shape) :])
    return shape if _matches(shape, wanted) else None


def _of_type(dtype: Dtype, values: list[Any]) -> Tensor | None:
    """All values at once, as the dtype; None where any of them does not fit."""
    if dtype == "string":
        return _bytes_of(values)
    types = set(map(type, values))
    if dtype == "bool":
        return np.array(values, bool) if types <= _BOOLS else None
    if not types <= _NUMBERS:
        return None
    wanted = numpy_dtype(dtype)
    try:
        if wanted.kind in "iu":
            return np.array([_whole(value) for value in values] if float in types else values, wanted)
        wide = np.array(values, np.float64)
    except (OverflowError, ValueError):  # beyond the type, or no whole number
        return None
    with np.errstate(over="ignore"):
        narrow = wide.astype(wanted)
    return None if _overflowed(wide, narrow).any() else narrow


def _whole(value: float) -> int:
    if not (type(value) is int or value.is_integer()):
        raise ValueError
    return int(value)


def _overflowed(wide: Tensor, narrow: Tensor) -> NDArray[np.bool_]:
    """Which finite numbers are infinite in the narrower type."""
    return np.isfinite(wide) & ~np.isfinite(narrow)


def _bytes_of(values: list[Any]) -> Tensor | None:
    strings = [_bytes(value) for value in values]
    return None if None in strings else _objects(strings)


def _bytes(value: object) -> bytes | None:
    try:
        match value:
            case str():
                return value.encode()
            case {"b64": str(text), **others} if not others:
                return base64.b64decode(text, validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):  # half a surrogate pair, or no base64
        return None
    return None


def _objects(values: Sequence[object]) -> Tensor:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _first_wrong(dtype: Dtype, values: list[Any]) -> int:
    """The place of the first value that does not fit, found by halving: values come by the hundred thousand."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if _of_type(dtype, values[low:middle]) is None else (middle, high)
    return low


def _read_bytes(path: str, feature: TensorFeature, value: dict[Any, Any]) -> Tensor | Problem:
    expected = f'{describe(feature)}, or {{"b64": its bytes}}'
    if not {_B64} <= value.keys() <= {_B64, _SHAPE} or not isinstance(value[_B64], str):
        return Problem(path, "wrong type", expected, show(value))
    try:
        content = base64.b64decode(value[_B64], validate=True)
    except (binascii.Error, ValueError):  # the latter for what is not ASCII
        return Problem(f"{path}.b64", "is not base64", expected, show(value[_B64]))
    dtype = numpy_dtype(feature.dtype)
    shape = _stated_shape(feature, value.get(_SHAPE), len(content) // dtype.itemsize)
    if shape is None or math.prod(shape) * dtype.itemsize != len(content):
        return Problem(path, "has another shape", expected, f"{len(content)} bytes, shape {value.get(_SHAPE)}"[:200])
    if feature.dtype == "bool" and content.strip(b"\0\1"):
        return Problem(path, "is no bool", "bytes that are 0 or 1", "others")
    return np.frombuffer(content, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def _stated_shape(feature: TensorFeature, stated: object, count: int) -> tuple[int, ...] | None:
    """The shape that is stated, or the only one that so many values can have."""
    if isinstance(stated, list | tuple):
        sizes = tuple(stated)
        whole = all(type(size) is int and size >= 0 for size in sizes)
        return sizes if whole and _matches(sizes, feature.shape) else None
    if stated is not None or feature.shape.count(UNKNOWN) > 1:
        return None
    known = math.prod(size for size in feature.shape if size != UNKNOWN)
    return tuple(count // max(known, 1) if size == UNKNOWN else size for size in feature.shape)


def _misfits(array: Tensor, dtype: Dtype) -> NDArray[np.bool_] | None:
    """Which values of an array of another type do not fit this one; None where none of its type can."""
    kind = "f" if array.dtype.name == "bfloat16" else array.dtype.kind
    if dtype == "bool" or kind not in "iuf":
        return None
    wanted = numpy_dtype(dtype)
    if wanted.kind in "iu":
        limits = np.iinfo(wanted)
        if kind == "f":
            wide = array.astype(np.float64)  # which has both ends exactly, the upper one only as the number after it
            whole: NDArray[np.bool_] = wide == np.floor(wide)
            return ~(whole & (wide >= float(limits.min)) & (wide < float(limits.max + 1)))
        return (array < limits.min) | (array > limits.max)
    with np.errstate(over="ignore"):
        return _overflowed(array.astype(np.float64), array.astype(wanted))


def _problems(path: str, dtype: Dtype, array: Tensor, bad: NDArray[np.bool_]) -> Iterator[Problem]:
    for place in np.argwhere(bad)[:100]:
        where, value = "".join(f"[{i}]" for i in place), array[tuple(place)]
        yield Problem(path + where, f"is no {dtype}", _describe_value(dtype), show(value.item()))


def _strings(path: str, array: Tensor) -> Tensor | list[Problem]:
    if array.dtype.kind not in "OSUT":
        return [Problem(path, "wrong type", "an array of strings", f"an array of {array.dtype}")]
    flat = array.ravel().tolist()
    if set(map(type, flat)) == {bytes}:
        return array if array.dtype == object else _objects(flat).reshape(array.shape)
    strings = [value if isinstance(value, bytes) else _bytes(value) for value in flat]
    if None not in strings:
        return _objects(strings).reshape(array.shape)
    wrong = [i for i, value in enumerate(strings) if value is None][:100]
    places = ("".join(f"[{j}]" for j in np.unravel_index(i, array.shape)) for i in wrong)
    expected = _describe_value("string")
    return [
        Problem(path + place, "is no string", expected, show(flat[i])) for i, place in zip(wrong, places, strict=True)
    ]


def _each(value: object) -> object:
    """Bytes within lists as text, or as base64 where they are none."""
    if isinstance(value, list):
        return [_each(one) for one in value]
    return text_of(value) if isinstance(value, bytes) else str(value)
