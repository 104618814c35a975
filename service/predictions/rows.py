"""Rows as `POST /predict` takes them, made of what came as arrays or was decoded already: for the prediction log.

What came as JSON is kept as it came. All else is written so that it would be answered the same: values as they are,
picture files as they came, pictures of whole numbers as PNG files. NumPy's values stay what they are, for orjson writes
them with the digits of their own type, and null for NaN, which is missing.
"""

import base64
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import images, tensors
from contract.encoded import Encoded
from contract.features import Encoder
from contract.kinds import CategoryFeature, Feature, ImageFeature, NumberFeature, TensorFeature
from contract.values import FIRST_KNOWN

Row = dict[str, Any]
Values = Iterator[Any]


def of_tensors(encoder: Encoder, columns: Mapping[str, NDArray[Any]]) -> list[Row]:
    """Of n rows by the names of the inputs, as `Encoder.encode_tensors` takes them."""
    return _rows({f.name: _column(f, columns[f.name]) for f in encoder.features if f.name in columns})


def of_encoded(encoder: Encoder, encoded: Encoded) -> list[Row]:
    """Of rows as they ran. Which string an unseen category was is not known any more: it is null, as a missing one."""
    found: dict[str, Values] = {}
    for i, number in enumerate(encoder.number_features):
        found[number.name] = _column(number, encoded.numbers[:, i])
    for i, category in enumerate(encoder.category_features):
        found[category.name] = _names(category, encoded.categories[:, i])
    if encoder.image_feature is not None and encoded.image is not None:
        found[encoder.image_feature.name] = _column(encoder.image_feature, encoded.image)
    if encoded.texts is not None:
        for i, text in enumerate(encoder.text_features):
            found[text.name] = iter(encoded.texts[:, i].tolist())
    for tensor in encoder.tensor_features:
        found[tensor.name] = _column(tensor, (encoded.tensors or {})[tensor.name])
    return _rows(found)


def _rows(columns: Mapping[str, Values]) -> list[Row]:
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _column(feature: Feature, values: NDArray[Any]) -> Values:
    """Each value of [n, ...]."""
    if isinstance(feature, TensorFeature):
        return (tensors.plain(row, feature.dtype) for row in values)
    if isinstance(feature, ImageFeature):
        return _pictures(feature, values)
    flat = values.reshape(-1)
    if isinstance(feature, NumberFeature):
        return iter(flat.astype(np.float32) if flat.dtype.name not in ("float64", "float32") else flat)
    return (value.decode() if isinstance(value, bytes) else value for value in flat.tolist())


def _names(feature: CategoryFeature, codes: NDArray[np.int32]) -> Values:
    return (feature.vocabulary[code - FIRST_KNOWN] if code >= FIRST_KNOWN else None for code in codes.tolist())


def _pictures(feature: ImageFeature, values: NDArray[Any]) -> Values:
    if values.dtype.kind in "OS":
        return ({"b64": base64.b64encode(file).decode()} for file in values.ravel().tolist())
    shaped = values.reshape(len(values), *feature.shape)
    if feature.dtype == "uint8":
        return ({"b64": images.encode_png(picture)} for picture in shaped.astype(np.uint8, copy=False))
    return (np.ascontiguousarray(picture, np.float32) for picture in shaped)
