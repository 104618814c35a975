"""Dense numbers in JSON, read straight into arrays: no Python object a number.

A large body is mostly nested lists of numbers. They are cut out of it, what is left is read by orjson, and each piece
by simdjson, which flattens it. Its shape is what its brackets and commas say: without digits, signs and spaces, lists
of equal lengths are one pattern repeated, and anything else is another text. As `[]` and `[1]` leave the same text, the
numbers are counted as well.

Whatever is unusual is not read here but left to the careful reading, which says what is wrong with it.
"""

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Literal

import numpy as np
import orjson
import simdjson
from numpy.typing import NDArray

from contract.features import Encoder
from contract.kinds import ImageFeature, TensorFeature
from contract.signature import MOST_DIMENSIONS, Dtype

# Shorter bodies and lists are read by orjson as fast.
LEAST_BYTES = 1500
LEAST_PIECE = 200
MOST_PIECES = 1000
# How many brackets are looked behind: a body of small lists is not worth more.
MOST_LOOKS = 5000
# Bytes of a list's pattern, of which some are kept.
MOST_REMEMBERED = 2**16
# Deeper in what is left, nothing that a protocol knows can be.
DEPTH = 5

_PARTS_OF_NUMBERS: Final = b"0123456789+-.eE \t\r\n"
_BRACKETS = re.compile(rb"\[[\[ \t\r\n]*+([-0-9])?")
_BLANK_OR_COMMA: Final = b", \t\r\n"

# What stands for a piece is a number: a body that has one of these is not read here.
_MARK: Final = b"-88776655443322"
_FIRST_MARK: Final = -887766554433220000

_READ_AS: Final[Mapping[str, tuple[Literal["d", "i", "u"], str]]] = {
    "f": ("d", "f8"),
    "i": ("i", "i8"),
    "u": ("u", "u8"),
}


class Numbers:
    """Nested lists of numbers, as text."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text

    def read(self, dtype: Dtype, parser: simdjson.Parser) -> NDArray[Any] | None:
        """As float64, int64 or uint64, by the kind of the dtype; None for lists of different lengths, for numbers that
        are not of that kind, and for what is no JSON."""
        shape = _shape(self.text.translate(None, _PARTS_OF_NUMBERS))
        if shape is None or dtype in ("bool", "string"):
            return None
        kind, as_read = _READ_AS["f" if dtype == "bfloat16" else np.dtype(dtype).kind]
        try:
            flat = np.frombuffer(parser.parse(self.text).as_buffer(of_type=kind), as_read)  # type: ignore[union-attr]
        except (ValueError, TypeError, RuntimeError):  # what simdjson raises, by its kind of error
            return None
        return flat.reshape(shape) if flat.size == math.prod(shape) else None


def read(body: bytes) -> Any:  # noqa: ANN401  # JSON's
    """The JSON of a body, in which dense lists are Numbers; None where it has none worth it, or is no JSON."""
    if len(body) < LEAST_BYTES:
        return None
    cut = _cut(body)
    if cut is None:
        return None
    rest, pieces = cut
    try:
        value = orjson.loads(rest)
    except orjson.JSONDecodeError:
        return None
    found: list[int] = []
    value = _filled(value, pieces, found, 0)
    # A mark in a string, or too deep, is a piece that is missing.
    return value if sorted(found) == list(range(len(pieces))) else None


def rows(instances: object, encoder: Encoder) -> dict[str, NDArray[Any]] | None:
    """Instances that are all dense, as the encoder's tensors by name; None where any of them is not.

    They are lists, for a model of one input, or objects of lists; of pictures and of imported models' inputs, because
    only there is a list a value.
    """
    dense = {f.name: f.dtype for f in encoder.features if isinstance(f, ImageFeature | TensorFeature)}
    parser = simdjson.Parser()
    if isinstance(instances, Numbers):
        if len(encoder.features) != 1 or not dense:
            return None
        ((name, dtype),) = dense.items()
        array = instances.read(dtype, parser)
        return None if array is None else {name: array}
    if not isinstance(instances, list) or not all(type(row) is dict for row in instances):
        return None
    names = instances[0].keys()
    if not names or not names <= dense.keys() or any(row.keys() != names for row in instances):
        return None
    found = {}
    for name in names:
        column = _stacked([row[name] for row in instances], dense[name], parser)
        if column is None:
            return None
        found[name] = column
    return found


def _stacked(values: Sequence[object], dtype: Dtype, parser: simdjson.Parser) -> NDArray[Any] | None:
    arrays: list[NDArray[Any]] = []
    for value in values:
        array = value.read(dtype, parser) if isinstance(value, Numbers) else None
        if array is None or (arrays and arrays[0].shape != array.shape):
            return None
        arrays.append(array)
    return arrays[0][np.newaxis] if len(arrays) == 1 else np.stack(arrays)


def _cut(body: bytes) -> tuple[bytes, list[Numbers]] | None:
    """The body with marks in the places of its dense lists, and those."""
    rest: list[bytes] = []
    pieces: list[Numbers] = []
    at = done = 0
    brace = -1
    for _ in range(MOST_LOOKS):
        if (brackets := _BRACKETS.search(body, at)) is None:
            break
        start, at = brackets.span()
        if brackets[1] is None:
            continue
        # Lists of numbers end before the next string, and before the end of the object that they are in.
        if brace < start:
            brace = body.find(b"}", start)
            brace = len(body) if brace < 0 else brace
        quote = body.find(b'"', start, brace)
        text = body[start : brace if quote < 0 else quote].rstrip(_BLANK_OR_COMMA)
        at = start + len(text)
        if len(text) >= LEAST_PIECE:
            rest += [body[done:start], b"%b%04d" % (_MARK, len(pieces))]
            pieces.append(Numbers(text))
            done = at
    rest.append(body[done:])
    if not 1 <= len(pieces) <= MOST_PIECES or any(_MARK in each for each in rest[::2]):
        return None
    return b"".join(rest), pieces


def _shape(pattern: bytes) -> tuple[int, ...] | None:
    """The shape of lists that have left this pattern; None where their lengths differ.

    Requests to a model leave few patterns, which are remembered unless they are long.
    """
    return _remembered(pattern) if len(pattern) <= MOST_REMEMBERED else _work_out(pattern)


@lru_cache(maxsize=32)
def _remembered(pattern: bytes) -> tuple[int, ...] | None:
    return _work_out(pattern)


def _work_out(pattern: bytes) -> tuple[int, ...] | None:
    depth = len(pattern) - len(pattern.lstrip(b"["))
    if not 1 <= depth <= MOST_DIMENSIONS:
        return None
    close = pattern.find(b"]")
    unit = pattern[depth - 1 : close + 1]
    sizes = [len(unit) - 1]
    for level in range(depth - 2, -1, -1):
        # A list of units: as many as there are until its bracket closes.
        end = pattern.find(unit + b"]", level)
        if end < 0:
            return None
        size = (end - level - 1) // (len(unit) + 1) + 1
        unit = b"[" + (unit + b",") * (size - 1) + unit + b"]"
        sizes.append(size)
    return tuple(reversed(sizes)) if unit == pattern else None


def _filled(value: Any, pieces: Sequence[Numbers], found: list[int], depth: int) -> Any:  # noqa: ANN401  # JSON's
    """The value with Numbers in the places of their marks, whose indices are noted."""
    if type(value) is int and 0 <= (index := _FIRST_MARK - value) < len(pieces):
        found.append(index)
        return pieces[index]
    if depth > DEPTH:
        return value
    if type(value) is dict:
        return {name: _filled(each, pieces, found, depth + 1) for name, each in value.items()}
    if type(value) is list:
        return [_filled(each, pieces, found, depth + 1) for each in value]
    return value
