"""What TensorFlow Serving says of a request that does not fit a signature: its first complaint, in its words.

Only looked at when our own reading has refused a request. The order of the checks is that of its util/json_tensor.cc;
what it would have taken is left to our own words.
"""

import base64
import binascii
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from contract.kinds import Feature, ImageFeature
from contract.signature import Dtype, numpy_dtype
from service.wire import lenient
from service.wire.tfs_request import Row, is_object, type_name

Shape = tuple[int, ...]

_FLOATS: dict[Dtype, type[np.floating[Any]]] = {"float16": np.float16, "float32": np.float32}
_TYPE_NAMES = {"float32": "float", "float64": "double", "float16": "half"}


class _Fault(Exception):
    """The complaint."""


def of_instances(instances: Sequence[Any], features: Sequence[Feature]) -> str | None:
    """The complaint about rows, or None."""
    by_name = {feature.name: feature for feature in features}
    shapes: dict[str, Shape] = {}
    objects = is_object(instances[0])
    try:
        for i, element in enumerate(instances):
            if objects:
                _check_object(i, element, by_name, shapes)
            else:
                _check_value(i, element, features[0], shapes)
    except _Fault as fault:
        return str(fault)
    return None


def of_inputs(value: object, features: Sequence[Feature]) -> str | None:
    """The complaint about columns, or None."""
    named = value if is_object(value) else {features[0].name: value}
    assert isinstance(named, dict)  # noqa: S101  # for the type checker
    try:
        for feature in features:
            if feature.name in named:
                _shape_of_fitting(named[feature.name], feature)
    except _Fault as fault:
        return str(fault)
    return None


def _check_object(i: int, element: object, features: dict[str, Feature], shapes: dict[str, Shape]) -> None:
    if not is_object(element):
        raise _Fault(f"Expecting object but got list at item {i} of input list")
    assert isinstance(element, dict)  # noqa: S101  # for the type checker
    for name, value in element.items():
        try:
            if name not in features:
                raise _Fault(f"JSON object: does not have named input: {name[: lenient.SHOWN]}")
            if value is not None or features[name].required:
                _check_item(value, features[name], shapes)
        except _Fault as fault:
            place = f"Failed to process element: {i} key: {name[: lenient.SHOWN]} of 'instances' list."
            raise _Fault(f"{place} Error: INVALID_ARGUMENT: {fault}") from fault
    if any(feature.required and feature.name not in element for feature in features.values()):
        raise _Fault(_other_keys(i, element, features))


def _other_keys(i: int, element: Row, features: dict[str, Feature]) -> str:
    shown = lenient.show(element)
    return (
        f"Failed to process element: {i} of 'instances' list. JSON object: {shown} keys must be equal to: "
        f"{','.join(sorted(features))}"
    )


def _check_value(i: int, element: object, feature: Feature, shapes: dict[str, Shape]) -> None:
    if is_object(element):
        raise _Fault(f"Expecting value/list but got object at item {i} of input list")
    try:
        _check_item(element, feature, shapes)
    except _Fault as fault:
        place = f"Failed to process element: {i} of 'instances' list."
        raise _Fault(f"{place} Error: INVALID_ARGUMENT: {fault}") from fault


def _check_item(value: object, feature: Feature, shapes: dict[str, Shape]) -> None:
    """One row's tensor, which must have the shape of those before it."""
    shape = _shape_of_fitting(value, feature)
    expected = shapes.setdefault(feature.name, shape)
    if np.prod(shape) != np.prod(expected):
        raise _Fault(f"Expecting tensor size: {int(np.prod(expected))} but got: {int(np.prod(shape))}")
    if shape != expected:
        raise _Fault(f"Expecting shape {_brackets(expected)} but got: {_brackets(shape)}")


def _shape_of_fitting(value: Any, feature: Feature) -> Shape:  # noqa: ANN401  # JSON's
    """The shape of a value whose every part has its place and type."""
    shape: list[int] = []
    first = value
    while isinstance(first, list):
        shape.append(len(first))
        first = first[0] if first else None
    dtype: Dtype = "string" if isinstance(feature, ImageFeature) and isinstance(first, dict) else feature.dtype
    _check(value, 0, tuple(shape), dtype)
    return tuple(shape)


def _check(value: Any, level: int, shape: Shape, dtype: Dtype) -> None:  # noqa: ANN401  # JSON's
    rank = len(shape)
    if not isinstance(value, list):
        if level != rank:
            shown = lenient.show(value)
            raise _Fault(
                f"JSON Value: {shown} found at incorrect level: {level + 1} in the JSON DOM. Expected at level: {rank}"
            )
        _check_leaf(value, dtype)
        return
    if level >= rank:
        raise _Fault(f"Encountered list at unexpected level: {level} expected < {rank}")
    if len(value) != shape[level]:
        raise _Fault(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: {shape[level]}"
        )
    for each in value:
        _check(each, level + 1, shape, dtype)


def _check_leaf(value: object, dtype: Dtype) -> None:
    if dtype == "string":
        if isinstance(value, dict):
            _check_base64(value)
        elif not isinstance(value, str):
            raise _wrong_type(value, dtype)
    elif dtype == "bool":
        if not isinstance(value, bool):
            raise _wrong_type(value, dtype)
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(value, dtype)
    elif numpy_dtype(dtype).kind in "iu":
        limits = np.iinfo(numpy_dtype(dtype))
        if isinstance(value, float) or not limits.min <= value <= limits.max:
            raise _wrong_type(value, dtype)
    elif abs(value) > float(np.finfo(_FLOATS.get(dtype, np.float64)).max) and abs(value) != math.inf:
        name = _TYPE_NAMES.get(dtype, dtype)
        raise _Fault(f"Cannot convert JSON value: {lenient.show(value)} to {name} without loss of precision.")


def _check_base64(value: Row) -> None:
    if is_object(value):
        raise _Fault(f"JSON Value: {lenient.show(value)} not formatted correctly for base64 data")
    try:
        base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _Fault("Unable to base64 decode") from error


def _wrong_type(value: object, dtype: Dtype) -> _Fault:
    expected = _TYPE_NAMES.get(dtype, dtype)
    return _Fault(f"JSON Value: {lenient.show(value)} Type: {type_name(value)} is not of expected type: {expected}")


def _brackets(shape: Shape) -> str:
    return f"[{','.join(map(str, shape))}]"
