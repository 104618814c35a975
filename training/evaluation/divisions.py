"""How each feature divides rows: by category, by quartile of a number, by length of a text, by brightness of a picture.

Ranges name the smallest and the largest value in them, both inclusive, so that the name alone finds the rows again.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.features import FIRST_KNOWN, MISSING, UNSEEN, Encoded, Encoder
from contract.manifest import CategoryFeature

NOWHERE = -1
_MOST_SINGLE_VALUES = 12
_QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True)
class Division:
    """`codes` int32 [rows] number the part that each row is in, NOWHERE for parts that are too small; `names` are
    theirs."""

    feature: str
    codes: NDArray[np.int32]
    names: tuple[str, ...]


def divisions(encoder: Encoder, encoded: Encoded, fewest: int) -> list[Division]:
    """The divisions of the rows that have at least two parts of at least `fewest` rows."""
    found = [_of_number(name, numbers(), fewest) for name, numbers in _numbers(encoder, encoded).items()]
    for i, feature in enumerate(encoder.category_features):
        found.append(_of_category(feature, encoded.categories[:, i], fewest))
    return [division for division in found if len(division.names) > 1]


def rows_where(where: Mapping[str, str], encoder: Encoder, encoded: Encoded) -> NDArray[np.bool_]:
    """Which rows a slice of a manifest means, of the same rows or of others; [rows].

    Raises KeyError for a feature that the encoder does not have.
    """
    numbers = _numbers(encoder, encoded)
    categories = {feature.name: i for i, feature in enumerate(encoder.category_features)}
    chosen = np.ones(encoded.rows, bool)
    for feature, name in where.items():
        if feature in categories:
            i = categories[feature]
            chosen &= encoded.categories[:, i] == _code(encoder.category_features[i], name)
        else:
            chosen &= _in_range(numbers[feature](), name)
    return chosen


def _numbers(encoder: Encoder, encoded: Encoded) -> Mapping[str, Callable[[], NDArray[np.float32]]]:
    """Numbers, and what can be told of texts and pictures by a number, on demand: of many pictures it takes a while."""
    texts, image = encoded.texts, encoded.image
    found = {feature.name: partial(_column, encoded.numbers, i) for i, feature in enumerate(encoder.number_features)}
    if texts is not None:
        found |= {feature.name: partial(_lengths, texts, i) for i, feature in enumerate(encoder.text_features)}
    if image is not None and encoder.image_feature is not None:
        found[encoder.image_feature.name] = partial(_brightness, image)
    return found


def _column(numbers: NDArray[np.float32], column: int) -> NDArray[np.float32]:
    return numbers[:, column]


def _lengths(texts: NDArray[np.object_], column: int) -> NDArray[np.float32]:
    return np.fromiter(map(len, texts[:, column]), np.float32, len(texts))


def _brightness(image: NDArray[Any]) -> NDArray[np.float32]:
    means: NDArray[np.float32] = image.mean(axis=(1, 2, 3), dtype=np.float32)
    return means


def _of_number(feature: str, values: NDArray[np.float32], fewest: int) -> Division:
    missing = np.isnan(values)
    known = values[~missing]
    codes = np.full(len(values), NOWHERE, np.int32)
    codes[~missing] = np.searchsorted(_inner_edges(known), known, side="right")
    count = int(codes.max(initial=NOWHERE)) + 1
    names = [_range(values[codes == code]) if (codes == code).any() else "" for code in range(count)]
    codes[missing] = count
    return _without_small(feature, codes, [*names, "missing"], fewest)


def _inner_edges(known: NDArray[np.float32]) -> NDArray[np.float32]:
    """Where a new part begins: each value where there are few, else each quartile."""
    distinct = np.unique(known)
    if len(distinct) <= _MOST_SINGLE_VALUES:
        return distinct[1:]
    return np.unique(np.quantile(known, _QUARTILES, method="higher").astype(np.float32))


def _of_category(feature: CategoryFeature, codes: NDArray[np.int32], fewest: int) -> Division:
    names = [_unless_known("unseen", feature), _unless_known("missing", feature), *feature.vocabulary]
    return _without_small(feature.name, codes, names, fewest)


def _without_small(feature: str, codes: NDArray[np.int32], names: list[str], fewest: int) -> Division:
    kept = np.flatnonzero(np.bincount(codes, minlength=len(names)) >= fewest)
    renumbered = np.full(len(names), NOWHERE, np.int32)
    renumbered[kept] = np.arange(len(kept))
    return Division(feature, renumbered[codes], tuple(names[i] for i in kept))


def _unless_known(name: str, feature: CategoryFeature) -> str:
    """A category may itself be called "missing"."""
    return f"({name})" if name in feature.vocabulary else name


def _code(feature: CategoryFeature, name: str) -> int:
    for code, special in ((UNSEEN, "unseen"), (MISSING, "missing")):
        if name == _unless_known(special, feature):
            return code
    return FIRST_KNOWN + feature.vocabulary.index(name) if name in feature.vocabulary else NOWHERE


def _range(values: NDArray[np.float32]) -> str:
    low, high = _number(values.min()), _number(values.max())
    return low if low == high else f"{low}..{high}"


def _number(value: np.float32) -> str:
    """The shortest decimal that is this float32."""
    return str(value).removesuffix(".0")


def _in_range(values: NDArray[np.float32], name: str) -> NDArray[np.bool_]:
    if name == "missing":
        return np.isnan(values)
    low, _, high = name.partition("..")
    return (values >= np.float32(low)) & (values <= np.float32(high or low))
