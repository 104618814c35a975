"""JSON as TensorFlow Serving reads and writes it, in the words of its parser.

It takes NaN, Infinity and -Infinity for numbers, and whatever stands behind the first value. Its parser is RapidJSON
(rapidjson/error/en.h has its words); what is plain JSON is read by orjson, and Python's own parser reads the rest.
"""

import json
import re
from json.decoder import JSONDecodeError
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from service.errors import InvalidRequest, NotJSON

# Python's parser takes seconds for more, and everybody else would wait.
MOST_BYTES = 4 * 2**20
# What TensorFlow Serving cuts values at that it shows in errors.
SHOWN = 256
MOST_LOOKED_BACK = 100_000

_BLANK: Final = re.compile(r"[ \t\r\n]*")
_WORDS: Final = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
    "Invalid control character at": "Invalid encoding in string.",
}
_STRINGS: Final = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)


def loads(body: bytes) -> Any:  # noqa: ANN401  # JSON's
    """The first value of a body. Raises NotJSON as TensorFlow Serving words it."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        if len(body) > MOST_BYTES:
            raise _no_json("Invalid value.", error.pos) from error
    return _first_value(body)


def empty() -> NotJSON:
    """What is said of no body at all."""
    return NotJSON("JSON Parse error: The document is empty")


def show(value: object) -> str:
    """A value in an error, cut short."""
    shown = ""
    try:
        for part in json.JSONEncoder(indent=4, ensure_ascii=False).iterencode(value):
            shown += part
            if len(shown) > SHOWN:
                return shown[:SHOWN]
    except RecursionError:
        return shown[:SHOWN]
    return shown


def numbers(array: NDArray[Any]) -> bytes:
    """An array of numbers or bools as nested lists: the shortest digits that are this number in its own type, whole
    floats with `.0`, and NaN and Infinity as such."""
    text = orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)
    if array.dtype.kind != "f" or b"null" not in text:
        return text
    flat = array.ravel()
    words = [_word(value) for value in flat[~np.isfinite(flat)].tolist()]
    finite = text.split(b"null")
    return b"".join(part for pair in zip(finite, [*words, b""], strict=True) for part in pair)


def _word(value: float) -> bytes:
    if value != value:
        return b"NaN"
    return b"Infinity" if value > 0 else b"-Infinity"


def _first_value(body: bytes) -> Any:  # noqa: ANN401  # JSON's
    try:
        text = body.decode()
    except UnicodeDecodeError as error:
        raise _no_json("Invalid encoding in string.", error.start) from error
    start = _BLANK.match(text).end()  # type: ignore[union-attr]  # it matches nothing too
    if start == len(text):
        raise _no_json("The document is empty.", start) if text else empty()
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except JSONDecodeError as error:
        words = _WORDS.get(error.msg) or _missing_comma(text[: error.pos])
        raise _no_json(words, len(text[: error.pos].encode())) from error
    except RecursionError as error:
        raise InvalidRequest("JSON Parse error: lists and objects are nested too deeply") from error
    except ValueError as error:  # an integer of thousands of digits
        raise _no_json("Number too big to be stored in double.", 0) from error
    if "\\u" in text:
        _check_surrogates(value)
    return value


def _check_surrogates(value: object) -> None:
    """Half a pair is no character: it can neither be looked up in a model nor be said in an answer."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise _no_json("The surrogate pair in string is invalid.", 0) from error


def _no_json(words: str, offset: int) -> NotJSON:
    return NotJSON(f"JSON Parse error: {words} at offset: {offset}")


def _missing_comma(before: str) -> str:
    """By what the text before the fault is in: a list or an object."""
    depth = 0
    for bracket in reversed(re.findall(r"[\[\]{}]", _STRINGS.sub("", before[-MOST_LOOKED_BACK:]))):
        depth += 1 if bracket in "]}" else -1
        if depth < 0:
            within = "] after an array element" if bracket == "[" else "} after an object member"
            return f"Missing a comma or {within}."
    return "Invalid value."
