"""Columns of a client's tensors, one an input, read as the features of a model that was trained here.

What the rows of `Encoder.encode` are in JSON, whole arrays are here: numbers [n] or [n, 1] of any numeric dtype, NaN
for missing; strings [n] or [n, 1] as str, bytes in UTF-8, or objects, None and "" for missing; pictures
[n, height, width, channels], or [n, height, width] of one channel, or files as bytes [n] or [n, 1]. The rules are the
same, and what is wrong is said in the same words.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import images
from contract.encoded import Encoded
from contract.errors import PictureError
from contract.kinds import CategoryFeature, Feature, ImageFeature, NumberFeature, TextFeature
from contract.problem import Problem
from contract.values import MISSING, REFUSED, Codes, describe, problems_of_value

Array = NDArray[Any]

MOST_PROBLEMS = 100
_STRINGS = frozenset({str, type(None)})


class Columns:
    """Reads the inputs of one model: `bounds` float32 [F, 2] are its numbers', `codes` its categories'."""

    def __init__(self, features: Sequence[Feature], bounds: NDArray[np.float32], codes: Sequence[Codes]) -> None:
        self._numbers = [f for f in features if isinstance(f, NumberFeature)]
        self._categories = [f for f in features if isinstance(f, CategoryFeature)]
        self._texts = [f for f in features if isinstance(f, TextFeature)]
        self._image = next((f for f in features if isinstance(f, ImageFeature)), None)
        self._required = np.array([f.required for f in self._numbers], bool)
        self._bounds, self._codes = bounds, codes
        self._bounded = bool(np.isfinite(bounds).any())

    def read(self, tensors: Mapping[str, Array], rows: int) -> Encoded | list[Problem]:
        """n rows of known inputs, each [n, ...]; those that are absent are missing in every row."""
        problems: list[Problem] = []
        # Reading none takes as long as a small picture.
        numbers = self._read_numbers(tensors, rows, problems) if self._numbers else np.empty((rows, 0), np.float32)
        categories = np.empty((rows, 0), np.int32)
        if self._categories:
            categories = self._read_categories(tensors, rows, problems)
        texts = self._read_texts(tensors, rows, problems)
        image = self._read_image(tensors, problems)
        return problems or Encoded(numbers, categories, image, texts)

    def _read_numbers(self, tensors: Mapping[str, Array], rows: int, problems: list[Problem]) -> NDArray[np.float32]:
        if not self._numbers:
            return np.empty((rows, 0), np.float32)
        columns = [_numbers(feature, tensors.get(feature.name), rows, problems) for feature in self._numbers]
        wide = np.array(columns, np.float64)
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and found so below
            narrow = np.ascontiguousarray(wide.T, np.float32)
        if np.count_nonzero(np.isfinite(narrow)) == narrow.size and not self._bounded:
            return narrow
        bad = np.isinf(narrow) | (np.isnan(narrow) & self._required)
        bad |= (narrow < self._bounds[:, 0]) | (narrow > self._bounds[:, 1])
        if bad.any():
            for i, feature in enumerate(self._numbers):
                if feature.name in tensors and not any(each.path == _path(feature) for each in problems):
                    problems += _problems(feature, np.flatnonzero(bad[:, i]), columns[i])
        return narrow

    def _read_categories(self, tensors: Mapping[str, Array], rows: int, problems: list[Problem]) -> NDArray[np.int32]:
        codes = np.full((rows, len(self._categories)), MISSING, np.int32)
        for i, feature in enumerate(self._categories):
            if feature.name not in tensors:
                continue
            if values := _texts(feature, tensors[feature.name], problems):
                codes[:, i] = column = list(map(self._codes[i].__getitem__, values))
                if REFUSED in column:
                    problems += _problems(feature, np.flatnonzero(codes[:, i] == REFUSED), values)
        return codes

    def _read_texts(
        self, tensors: Mapping[str, Array], rows: int, problems: list[Problem]
    ) -> NDArray[np.object_] | None:
        if not self._texts:
            return None
        packed = np.full((rows, len(self._texts)), "", object)
        for i, feature in enumerate(self._texts):
            if feature.name not in tensors:
                continue
            if values := _texts(feature, tensors[feature.name], problems):
                packed[:, i] = texts = [value or "" for value in values]
                lengths = np.fromiter(map(len, texts), np.int64, rows)
                wrong = (lengths > feature.most_characters) | ((lengths == 0) & feature.required)
                problems += _problems(feature, np.flatnonzero(wrong), values)
        return packed

    def _read_image(self, tensors: Mapping[str, Array], problems: list[Problem]) -> Array | None:
        if self._image is None or self._image.name not in tensors:
            return None
        found = _pictures(_path(self._image), self._image, tensors[self._image.name])
        if isinstance(found, list):
            problems += found
            return None
        return found


def _flat(path: str, feature: Feature, array: Array) -> Array | Problem:
    """[n] or [n, 1] as [n]."""
    if array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1):
        return array.reshape(-1)
    return Problem(path, "has another shape", f"[n] or [n, 1], each {describe(feature)}", f"shape {list(array.shape)}")


def _numbers(feature: NumberFeature, array: Array | None, rows: int, problems: list[Problem]) -> Array:
    """A column of numbers [n], of the dtype that came; NaN where nothing came, or not numbers."""
    if array is None:
        return np.full(rows, np.nan)
    if array.dtype.kind not in "iuf" and array.dtype.name != "bfloat16":
        problems.append(Problem(_path(feature), "wrong type", "an array of numbers", f"an array of {array.dtype}"))
        return np.full(rows, np.nan)
    if array.ndim == 1:
        return array
    column = _flat(_path(feature), feature, array)
    if isinstance(column, Problem):
        problems.append(column)
        return np.full(rows, np.nan)
    return column


def _texts(feature: CategoryFeature | TextFeature, array: Array, problems: list[Problem]) -> list[Any]:
    """A column of strings: str, or None where one is missing; no rows where any of them is none."""
    path = _path(feature)
    if array.dtype.kind not in "OSUT":
        problems.append(Problem(path, "wrong type", "an array of strings", f"an array of {array.dtype}"))
        return []
    column = _flat(path, feature, array)
    if isinstance(column, Problem):
        problems.append(column)
        return []
    values, bad = _decoded(path, column.tolist())
    if not _STRINGS.issuperset(map(type, values)):
        bad = _problems(feature, [i for i, value in enumerate(values) if type(value) not in _STRINGS], values)
    problems += bad
    return [] if bad else values


def _decoded(path: str, values: list[Any]) -> tuple[list[Any], list[Problem]]:
    """Bytes as text, and all else as it is."""
    if bytes not in set(map(type, values)):
        return values, []
    try:
        return [value.decode() if isinstance(value, bytes) else value for value in values], []
    except UnicodeDecodeError:
        return [], list(islice(_not_text(path, values), MOST_PROBLEMS))


def _pictures(path: str, feature: ImageFeature, array: Array) -> Array | list[Problem]:
    """Pictures as the feature has them; not copied where they come so."""
    if array.dtype.kind in "OS":
        return _files(path, feature, array)
    if array.dtype.kind not in "iuf":
        return [Problem(path, "wrong type", describe(feature), f"an array of {array.dtype}")]
    if array.shape[1:] != feature.shape and not (feature.shape[2] == 1 and array.shape[1:] == feature.shape[:2]):
        return [Problem(path, "has another shape", f"[n], each {describe(feature)}", f"shape {list(array.shape)}")]
    shaped = array.reshape(len(array), *feature.shape)
    if array.dtype == np.uint8 and feature.dtype == "uint8":
        return shaped
    if feature.dtype == "float32" and images.all_fit(feature, shaped):
        return shaped.astype(np.float32, copy=False)
    wrong = ~images.fits(feature, shaped)
    if wrong.any():
        places = np.argwhere(wrong.reshape(array.shape))[:MOST_PROBLEMS]
        return [images.misfit(f"{path}{_place(place)}", feature, array[tuple(place)].item()) for place in places]
    return shaped.astype(feature.dtype, copy=False)


def _problems(feature: Feature, rows: Sequence[int] | NDArray[np.intp], values: Sequence[Any] | Array) -> list[Problem]:
    """What is wrong with the values of these rows, in the words of `Encoder.encode`."""
    return [
        each
        for row in rows[:MOST_PROBLEMS]
        for each in problems_of_value(f"{_path(feature)}[{row}]", feature, _plain(values[int(row)]))
    ]


def _path(feature: Feature) -> str:
    return f"inputs.{feature.name}"


def counts(tensors: Mapping[str, Array]) -> tuple[int, list[Problem]]:
    """How many rows all inputs have, and which of them have another number."""
    first, *others = tensors
    if not tensors[first].ndim:
        return 0, [Problem(f"inputs.{first}"[:200], "has no rows", "an array [n, ...]", "a single value")]
    rows = len(tensors[first])
    expected = f"{rows} rows, as inputs.{first} has"[:200]
    wrong = [
        Problem(f"inputs.{name}"[:200], "has another number of rows", expected, f"shape {list(tensors[name].shape)}")
        for name in others
        if tensors[name].shape[:1] != (rows,)
    ]
    if not rows:
        wrong.append(Problem("inputs", "have no rows", "at least one row", "none"))
    return rows, wrong


def _files(path: str, feature: ImageFeature, array: Array) -> Array | list[Problem]:
    column = _flat(path, feature, array)
    if isinstance(column, Problem):
        return [column]
    found: list[Problem] = []
    pixels = np.empty((len(column), *feature.shape), feature.dtype)
    for i, content in enumerate(column.tolist()):
        try:
            if not isinstance(content, bytes):
                raise PictureError(f"a {type(content).__name__}")
            pixels[i] = images.decode(content, feature)
        except PictureError as error:
            expected = "a PNG, JPEG or WebP file"
            found.append(Problem(f"{path}[{i}]", "is not a picture that can be read", expected, str(error)))
    return found[:MOST_PROBLEMS] or pixels


def _not_text(path: str, values: list[Any]) -> Iterator[Problem]:
    for i, value in enumerate(values):
        try:
            value.decode() if isinstance(value, bytes) else None
        except UnicodeDecodeError:
            yield Problem(f"{path}[{i}]", "is not UTF-8", "a text in UTF-8", f"{len(value)} other bytes")


def _plain(value: Any) -> Any:  # noqa: ANN401  # what a row of JSON would have
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and np.isnan(plain) else plain


def _place(place: NDArray[np.intp]) -> str:
    return "".join(f"[{i}]" for i in place)
