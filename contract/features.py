"""From raw rows to the arrays a network takes; the same code in training, in proofs and in the service.

`numbers` is float32 [n, F] with NaN for missing; `categories` is int32 [n, C] with 0 for unseen and 1 for missing;
`image` is [n, height, width, channels]; `texts` is [n, T] of str, a missing text being an empty one. A row is an object
of feature names; a feature that is absent, null or an empty string is missing. A picture comes as nested lists of
numbers or as {"b64": a PNG or JPEG file} (contract/images.py).

There are two readings of a row. The quick one works on whole lists and only notices that something is wrong; the
careful one then looks at each value and names every problem. A property test holds their verdicts equal.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract import images
from contract.manifest import CategoryFeature, Feature, ImageFeature, NumberFeature, TextFeature
from contract.problem import Problem as Problem  # whoever handles problems has them from here
from contract.problem import show as show

UNSEEN, MISSING, FIRST_KNOWN = 0, 1, 2
MOST_PROBLEMS = 100
_REFUSED = -1

_NUMBER_TYPES = frozenset({int, float, type(None)})
_STRING_TYPES = frozenset({str, type(None)})
_ROW_TYPES = frozenset({dict})


class Encoded(NamedTuple):
    """Packed rows, n of them: the inputs of the signature `encoded`.

    `numbers` float32 [n, F] and `categories` int32 [n, C] are always there, if need be with no columns; `image`
    [n, height, width, channels] and `texts` (str objects) [n, T] where the model has such features.
    """

    numbers: NDArray[np.float32]
    categories: NDArray[np.int32]
    image: NDArray[np.uint8] | NDArray[np.float32] | None = None
    texts: NDArray[np.object_] | None = None

    @property
    def rows(self) -> int:
        return int(self.numbers.shape[0])

    def take(self, rows: slice | NDArray[np.int64] | NDArray[np.bool_]) -> "Encoded":
        """Some of the rows."""
        parts: list[Any] = [None if part is None else part[rows] for part in self]
        return Encoded(*parts)

    @staticmethod
    def join(parts: "Sequence[Encoded]") -> "Encoded":
        """All rows of all parts, in order; the parts are of the same features."""
        columns = zip(*parts, strict=True)
        joined: list[Any] = [None if column[0] is None else np.concatenate(column) for column in columns]
        return Encoded(*joined)


class Encoder:
    """Encodes rows by the features of one manifest; one of them at most is an image."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        self.number_features = tuple(f for f in features if isinstance(f, NumberFeature))
        self.category_features = tuple(f for f in features if isinstance(f, CategoryFeature))
        self.text_features = tuple(f for f in features if isinstance(f, TextFeature))
        self.image_feature = _only_image(features)
        self._numbers_and_categories_alone = not self.text_features and self.image_feature is None
        self._names = frozenset(feature.name for feature in features)
        self._number_names = [feature.name for feature in self.number_features]
        self._category_names = [feature.name for feature in self.category_features]
        self._optional = np.array([not feature.required for feature in self.number_features], dtype=bool)
        self._bounds = np.array([_bounds(feature) for feature in self.number_features], dtype=np.float32).reshape(-1, 2)
        self._bounded = bool(np.isfinite(self._bounds).any())
        self._codes = [_codes(feature) for feature in self.category_features]
        self._code_of_unknown = [_REFUSED if f.on_unseen == "reject" else UNSEEN for f in self.category_features]

    def encode(self, rows: object) -> Encoded | list[Problem]:
        """Rows as parsed from JSON: the arrays, or every problem (the first 100). Any value at all is taken."""
        encoded = self._encode_quickly(rows)
        return self._explain(rows) if encoded is None else encoded

    def accepts(self, row: object) -> bool:
        """Whether a single row has no problem."""
        return self._encode_quickly([row]) is not None

    def encode_columns(self, columns: Mapping[str, NDArray[Any]]) -> Encoded:
        """Columns of trusted data, n values each: floats with NaN, and objects with None, for missing; arrays
        [n, height, width, channels] or [n, height, width] for an image.

        Used where rows come by the hundred thousand. Ranges and vocabularies are not enforced: what lies outside
        becomes what it would become in training, an unusual number or `UNSEEN`.
        """
        rows = len(next(iter(columns.values())))
        numbers = np.empty((rows, len(self._number_names)), np.float32)
        categories = np.empty((rows, len(self._category_names)), np.int32)
        for i, name in enumerate(self._number_names):
            numbers[:, i] = columns[name]
        for i, (name, codes) in enumerate(zip(self._category_names, self._codes, strict=True)):
            categories[:, i] = [codes.get(value, UNSEEN) for value in columns[name]]
        image = None
        if self.image_feature is not None:
            image = np.asarray(columns[self.image_feature.name], self.image_feature.dtype)
            image = image.reshape(rows, *self.image_feature.shape)
        texts = [[value or "" for value in columns[feature.name]] for feature in self.text_features]
        return Encoded(numbers, np.maximum(categories, UNSEEN), image, _pack(texts, rows))

    def _encode_quickly(self, rows: object) -> Encoded | None:
        if type(rows) is not list or not rows or not _ROW_TYPES.issuperset(map(type, rows)):
            return None
        if not all(map(self._names.issuperset, rows)):
            return None
        numbers = self._numbers(rows)
        categories = self._categories(rows)
        if numbers is None or categories is None:
            return None
        if self._numbers_and_categories_alone:
            return Encoded(numbers, categories)
        texts = list(map(_texts, self.text_features, [rows] * len(self.text_features)))
        if None in texts:
            return None
        image = None
        if self.image_feature is not None and (image := _images(self.image_feature, rows)) is None:
            return None
        return Encoded(numbers, categories, image, _pack(texts, len(rows)))

    def _numbers(self, rows: list[dict[str, Any]]) -> NDArray[np.float32] | None:
        values = [value for row in rows for value in map(row.get, self._number_names)]
        if not _NUMBER_TYPES.issuperset(map(type, values)):
            return None
        try:
            wide = np.array(values, np.float64)  # None becomes NaN
        except OverflowError:  # an integer beyond float64
            return None
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and found so below
            numbers = wide.astype(np.float32).reshape(len(rows), -1)
        # `count_nonzero` is several times as fast as `all` on as few values as a row has.
        finite, nulls = np.isfinite(numbers), values.count(None)
        if np.count_nonzero(finite) != len(values) - nulls:
            return None
        if nulls and np.count_nonzero(finite | self._optional) != len(values):
            return None
        if self._bounded and ((numbers < self._bounds[:, 0]) | (numbers > self._bounds[:, 1])).any():
            return None
        return numbers

    def _categories(self, rows: list[dict[str, Any]]) -> NDArray[np.int32] | None:
        values = [value for row in rows for value in map(row.get, self._category_names)]
        if not _STRING_TYPES.issuperset(map(type, values)):
            return None
        columns = zip(values, cycle(self._codes), cycle(self._code_of_unknown), strict=False)
        codes = [table.get(value, unknown) for value, table, unknown in columns]
        if codes and min(codes) == _REFUSED:
            return None
        return np.array(codes, np.int32).reshape(len(rows), -1)

    def _explain(self, rows: object) -> list[Problem]:
        problems = list(_first(MOST_PROBLEMS, self._problems(rows)))
        if not problems:
            raise AssertionError("the quick reading refused rows in which the careful one finds no problem")
        return problems

    def _problems(self, rows: object) -> Iterator[Problem]:
        if not isinstance(rows, list) or not rows:
            yield Problem("instances", "is not a list of rows", "a list of at least one object", show(rows))
            return
        for i, row in enumerate(rows):
            path = f"instances[{i}]"
            if not isinstance(row, dict):
                yield Problem(path, "is not a row", "an object of feature names and values", show(row))
                continue
            for name in row:
                if name not in self._names:
                    yield Problem(
                        f"{path}.{name}"[:200], "unknown feature", _nearest(name, self._names), show(row[name])
                    )
            for feature in self.features:
                yield from _problems_of_value(f"{path}.{feature.name}", feature, row.get(feature.name))


def _only_image(features: Sequence[Feature]) -> ImageFeature | None:
    found = [feature for feature in features if isinstance(feature, ImageFeature)]
    if len(found) > 1:
        raise ValueError(f"one image feature at most, got {', '.join(feature.name for feature in found)}")
    return found[0] if found else None


def _texts(feature: TextFeature, rows: list[dict[str, Any]]) -> list[str] | None:
    values: list[Any] = [row.get(feature.name) for row in rows]
    if not _STRING_TYPES.issuperset(map(type, values)) or (feature.required and not all(values)):
        return None
    texts = [value or "" for value in values]
    return None if max(map(len, texts)) > feature.most_characters else texts


def _pack(texts: Sequence[Sequence[str] | None], rows: int) -> NDArray[np.object_] | None:
    """Columns of texts as [n, T]; None where there are none."""
    if not texts:
        return None
    packed = np.empty((rows, len(texts)), object)
    for i, column in enumerate(texts):
        packed[:, i] = column
    return packed


def _images(feature: ImageFeature, rows: list[dict[str, Any]]) -> NDArray[Any] | None:
    pictures = np.empty((len(rows), *feature.shape), feature.dtype)
    for i, row in enumerate(rows):
        picture = images.read("", feature, row.get(feature.name))
        if isinstance(picture, Problem):
            return None
        pictures[i] = picture
    return pictures


def _problems_of_value(path: str, feature: Feature, value: object) -> Iterator[Problem]:
    expected = describe(feature)
    if isinstance(feature, ImageFeature):
        picture = images.read(path, feature, value)
        if isinstance(picture, Problem):
            yield picture
    elif value is None or (value == "" and not isinstance(feature, NumberFeature)):
        if feature.required:
            yield Problem(path, "required feature is missing", expected, "nothing" if value is None else show(value))
    elif isinstance(feature, NumberFeature):
        yield from _problems_of_number(path, feature, value)
    elif not isinstance(value, str):
        yield Problem(path, "wrong type", expected, show(value))
    elif isinstance(feature, TextFeature):
        if len(value) > feature.most_characters:
            yield Problem(path, "is too long", f"at most {feature.most_characters} characters", show(value))
    elif feature.on_unseen == "reject" and value not in feature.vocabulary:
        yield Problem(path, "was never seen in training", _nearest(value, feature.vocabulary), show(value))


def _problems_of_number(path: str, feature: NumberFeature, value: object) -> Iterator[Problem]:
    if type(value) not in (int, float):
        yield Problem(path, "wrong type", describe(feature), show(value))
    elif not np.isfinite(number := _float32(value)):  # type: ignore[arg-type]  # int or float by the test above
        yield Problem(path, "is not finite in float32", describe(feature), show(value))
    elif not _bounds(feature)[0] <= number <= _bounds(feature)[1]:
        yield Problem(path, "is outside the range seen in training", describe(feature), show(value))


def describe(feature: Feature) -> str:
    """What a value of this feature looks like, in a few words."""
    optional = "" if feature.required else ", or null"
    match feature:
        case CategoryFeature():
            return f"a string such as {', '.join(feature.vocabulary[:3])}{optional}"
        case TextFeature():
            return f"a text{optional}"
        case ImageFeature():
            return images.describe(feature)
    if feature.on_out_of_range == "reject":
        return f"a number from {feature.minimum:g} to {feature.maximum:g}{optional}"
    return f"a number{optional}"


def _bounds(feature: NumberFeature) -> tuple[np.float32, np.float32]:
    if feature.on_out_of_range == "reject":
        return np.float32(feature.minimum), np.float32(feature.maximum)
    return np.float32(-np.inf), np.float32(np.inf)


def _codes(feature: CategoryFeature) -> dict[str | None, int]:
    codes: dict[str | None, int] = {value: FIRST_KNOWN + i for i, value in enumerate(feature.vocabulary)}
    missing = _REFUSED if feature.required else MISSING
    return codes | {None: missing, "": missing}


def _float32(value: float) -> np.float32:
    with np.errstate(over="ignore"):
        try:
            return np.float32(value)
        except OverflowError:
            return np.float32(np.inf)


def _nearest(name: str, valid: Sequence[str] | frozenset[str]) -> str:
    from difflib import get_close_matches  # 2 ms to import, and only for an error

    close = get_close_matches(name[:100], sorted(valid), n=1)
    if close:
        return f"perhaps {close[0]}"
    some = ", ".join(sorted(valid)[:8])
    return f"one of {some}" + (", ..." if len(valid) > 8 else "")


def _first(count: int, problems: Iterator[Problem]) -> Iterator[Problem]:
    for _, problem in zip(range(count), problems, strict=False):
        yield problem
