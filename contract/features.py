"""From raw rows to the arrays a network takes; the same code in training, in proofs and in the service.

`numbers` is float32 [n, F] with NaN for missing; `categories` is int32 [n, C] with 0 for unseen and 1 for missing;
`image` is [n, height, width, channels]; `texts` is [n, T] of str, a missing text being an empty one. A row is an object
of feature names; a feature that is absent, null or an empty string is missing. A picture comes as nested lists of
numbers or as {"b64": a PNG, JPEG or WebP file} (contract/images.py). An imported model has `tensors`, named and typed
as its signature has them (contract/tensors.py).

There are two readings of a row. The quick one works on whole lists and only notices that something is wrong; the
careful one then looks at each value and names every problem. A property test holds their verdicts equal.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import columns, images, tensors
from contract.encoded import Encoded as Encoded  # whoever encodes has it from here
from contract.manifest import CategoryFeature, Feature, ImageFeature, NumberFeature, TensorFeature, TextFeature
from contract.problem import Problem as Problem  # whoever handles problems has them from here
from contract.problem import show as show
from contract.values import FIRST_KNOWN as FIRST_KNOWN
from contract.values import MISSING as MISSING
from contract.values import REFUSED, Codes, bounds, nearest, problems_of_value
from contract.values import UNSEEN as UNSEEN
from contract.values import describe as describe

MOST_PROBLEMS = 100

# From so many rows on, columns are quicker than rows.
MANY_ROWS = 24

_NUMBER_TYPES = frozenset({int, float, type(None)})
_STRING_TYPES = frozenset({str, type(None)})
_ROW_TYPES = frozenset({dict})


class Encoder:
    """Encodes rows by the features of one manifest; one of them at most is an image."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = tuple(features)
        self.number_features = tuple(f for f in features if isinstance(f, NumberFeature))
        self.category_features = tuple(f for f in features if isinstance(f, CategoryFeature))
        self.text_features = tuple(f for f in features if isinstance(f, TextFeature))
        self.tensor_features = tuple(f for f in features if isinstance(f, TensorFeature))
        self.image_feature = _only_image(features)
        self._numbers_and_categories_alone = not self.text_features and self.image_feature is None
        self._names = frozenset(feature.name for feature in features)
        self._number_names = [feature.name for feature in self.number_features]
        self._category_names = [feature.name for feature in self.category_features]
        self._optional = np.array([not feature.required for feature in self.number_features], dtype=bool)
        self._bounds = np.array([bounds(feature) for feature in self.number_features], dtype=np.float32).reshape(-1, 2)
        self._bounded = bool(np.isfinite(self._bounds).any())
        self._codes = [Codes(feature) for feature in self.category_features]
        self._columns = columns.Columns(self.features, self._bounds, self._codes)

    def encode(self, rows: object) -> Encoded | list[Problem]:
        """Rows as parsed from JSON: the arrays, or every problem (the first 100). Any value at all is taken."""
        encoded = self._encode_quickly(rows)
        return self._explain(rows) if encoded is None else encoded

    def encode_tensors(self, inputs: Mapping[str, NDArray[Any]]) -> Encoded | list[Problem]:
        """Columns of untrusted data by the names of the inputs, n rows each: the arrays, or every problem (the first
        100); the same verdicts as `encode` has of such rows. contract.columns and contract.tensors say what may come.
        """
        known = {name: inputs[name] for name in inputs if name in self._names}
        problems = list(self._unfit_names(inputs))
        if not known:
            return problems[:MOST_PROBLEMS]
        rows, uneven = columns.counts(known)
        if uneven:
            return [*problems, *uneven][:MOST_PROBLEMS]
        encoded = self._convert(known) if self.tensor_features else self._columns.read(known, rows)
        if isinstance(encoded, list) or problems:
            return [*problems, *(encoded if isinstance(encoded, list) else ())][:MOST_PROBLEMS]
        return encoded

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

    def _unfit_names(self, inputs: Mapping[str, NDArray[Any]]) -> Iterator[Problem]:
        for name in inputs:
            if name not in self._names:
                received = f"an array of {inputs[name].dtype}"
                yield Problem(f"inputs.{name}"[:200], "unknown input", nearest(name, self._names), received)
        for feature in self.features:
            if feature.required and feature.name not in inputs:
                yield Problem(f"inputs.{feature.name}", "required input is missing", describe(feature), "nothing")

    def _convert(self, inputs: Mapping[str, NDArray[Any]]) -> Encoded | list[Problem]:
        """The inputs of an imported model."""
        converted: dict[str, NDArray[Any]] = {}
        problems: list[Problem] = []
        for feature in self.tensor_features:
            if feature.name in inputs:
                found = tensors.convert(f"inputs.{feature.name}", feature, inputs[feature.name])
                if isinstance(found, list):
                    problems += found
                else:
                    converted[feature.name] = found
        return problems or Encoded.of_tensors(converted)

    def _encode_quickly(self, rows: object) -> Encoded | None:
        if self.tensor_features:
            return self._tensors_of(rows)
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

    def _tensors_of(self, rows: object) -> Encoded | None:
        """Rows of an imported model."""
        if type(rows) is not list or not rows:
            return None
        objects = [self._as_object(row) for row in rows]
        if not all(type(row) is dict and row.keys() == self._names for row in objects):
            return None
        found: dict[str, NDArray[Any]] = {}
        for feature in self.tensor_features:
            tensor = tensors.read_rows(feature, [row[feature.name] for row in objects])
            if tensor is None:
                return None
            found[feature.name] = tensor
        return Encoded.of_tensors(found)

    def _as_object(self, row: Any) -> Any:  # noqa: ANN401  # whatever JSON has
        """A row as an object of its inputs; where there is only one, its value may stand alone."""
        if len(self.tensor_features) != 1:
            return row
        name = self.tensor_features[0].name
        bare = type(row) is not dict or (name not in row and row.keys() <= {"b64", "shape"} and row)
        return {name: row} if bare else row

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
        if len(rows) >= MANY_ROWS:
            return self._many_categories(rows)
        values = [value for row in rows for value in map(row.get, self._category_names)]
        if not _STRING_TYPES.issuperset(map(type, values)):
            return None
        codes = [table[value] for value, table in zip(values, cycle(self._codes), strict=False)]
        if codes and min(codes) == REFUSED:
            return None
        return np.array(codes, np.int32).reshape(len(rows), -1)

    def _many_categories(self, rows: list[dict[str, Any]]) -> NDArray[np.int32] | None:
        """The same, a column at a time: half the time of a thousand rows, and twice that of one."""
        codes = np.empty((len(rows), len(self._codes)), np.int32)
        for i, (name, table) in enumerate(zip(self._category_names, self._codes, strict=True)):
            values = [row.get(name) for row in rows]
            if not _STRING_TYPES.issuperset(map(type, values)):
                return None
            codes[:, i] = list(map(table.__getitem__, values))
        return None if (codes == REFUSED).any() else codes

    def _explain(self, rows: object) -> list[Problem]:
        problems = list(_first(MOST_PROBLEMS, self._problems(rows)))
        if not problems:
            raise AssertionError("the quick reading refused rows in which the careful one finds no problem")
        return problems

    def _problems(self, rows: object) -> Iterator[Problem]:
        if not isinstance(rows, list) or not rows:
            yield Problem("instances", "is not a list of rows", "a list of at least one object", show(rows))
            return
        for i, row in enumerate(map(self._as_object, rows)):
            path = f"instances[{i}]"
            if not isinstance(row, dict):
                yield Problem(path, "is not a row", "an object of feature names and values", show(row))
                continue
            for name in row:
                if name not in self._names:
                    yield Problem(
                        f"{path}.{name}"[:200], "unknown feature", nearest(name, self._names), show(row[name])
                    )
            for feature in self.features:
                yield from problems_of_value(f"{path}.{feature.name}", feature, row.get(feature.name))
        yield from self._uneven(rows)

    def _uneven(self, rows: list[Any]) -> Iterator[Problem]:
        """Tensors that are sound each, but not of one shape: an unknown size must be the same in all rows."""
        for feature in self.tensor_features:
            shapes: dict[int, tuple[int, ...]] = {}
            for i, row in enumerate(map(self._as_object, rows)):
                tensor = tensors.read("", feature, row.get(feature.name)) if isinstance(row, dict) else None
                if isinstance(tensor, np.ndarray):
                    shapes[i] = tensor.shape
            first = next(iter(shapes.values()), ())
            for i, shape in shapes.items():
                if shape != first:
                    path = f"instances[{i}].{feature.name}"
                    yield Problem(path, "has another shape than the rows before it", f"{list(first)}", f"{list(shape)}")


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


def _first(count: int, problems: Iterator[Problem]) -> Iterator[Problem]:
    for _, problem in zip(range(count), problems, strict=False):
        yield problem
