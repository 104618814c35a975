"""Whole columns to the arrays a network takes. The same answer as contract.features.Encoder, which reads requests, but
looks up each different value once instead of each row: a test holds the two equal."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contract.features import FIRST_KNOWN, MISSING, UNSEEN, Encoded
from contract.manifest import CategoryFeature, Feature, NumberFeature, TextFeature
from training.sources.columns import as_float32, as_texts


def encode(table: pa.Table, features: tuple[Feature, ...]) -> Encoded:
    """Rows of a table that has a column for each number, category and text. The image is not looked at."""
    numbers = [f.name for f in features if isinstance(f, NumberFeature)]
    categories = [f for f in features if isinstance(f, CategoryFeature)]
    texts = [f.name for f in features if isinstance(f, TextFeature)]
    encoded = Encoded(
        numbers=np.empty((len(table), len(numbers)), np.float32),
        categories=np.empty((len(table), len(categories)), np.int32),
        texts=np.empty((len(table), len(texts)), object) if texts else None,
    )
    for i, name in enumerate(numbers):
        encoded.numbers[:, i] = as_float32(table[name])
    for i, feature in enumerate(categories):
        missing = UNSEEN if feature.required else MISSING
        codes = {value: FIRST_KNOWN + k for k, value in enumerate(feature.vocabulary)} | {"": missing}
        encoded.categories[:, i] = look_up(table[feature.name], codes, unknown=UNSEEN, missing=missing)
    for i, name in enumerate(texts):
        encoded.texts[:, i] = as_texts(table[name])  # type: ignore[index]  # there are texts, so there is an array
    return encoded


def look_up(column: pa.ChunkedArray, codes: dict[str, int], unknown: int, missing: int) -> NDArray[np.int32]:
    """The code of each text, int32 [n]."""
    parts = [_look_up(chunk, codes, unknown, missing) for chunk in column.chunks]
    return np.concatenate(parts) if parts else np.empty(0, np.int32)


def _look_up(chunk: pa.Array, codes: dict[str, int], unknown: int, missing: int) -> NDArray[np.int32]:
    coded = chunk if pa.types.is_dictionary(chunk.type) else chunk.dictionary_encode()
    values = coded.dictionary.to_pylist()
    of_values = [missing if value is None else codes.get(value, unknown) for value in values]
    # An index that is null points past the values, at the code of what is missing.
    indices = coded.indices.cast(pa.int32()).fill_null(len(values)).to_numpy()
    found: NDArray[np.int32] = np.array([*of_values, missing], np.int32)[indices]
    return found
