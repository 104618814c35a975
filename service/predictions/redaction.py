"""What of a row is kept: values that nobody needs are left out, and some become hashes that only tell equal from other.

A hash is the first 32 hexadecimal digits of HMAC-SHA256 (RFC 2104) under HORNPIPE_PREDICTIONS_SALT, of the feature's
name, a zero byte, and the value: a string in UTF-8, a whole number in its digits, another number in the fewest digits
that are the same float32, all else as JSON. So equal values of a feature have equal hashes, those of another feature
have not, and who does not know the salt cannot try values. What is missing stays missing.
"""

import hmac
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

DIGITS = 32


class Redaction:
    """Which features' values are left out, and which are hashed; one that is named in both is left out."""

    def __init__(self, redacted: Sequence[str], hashed: Sequence[str], salt: str) -> None:
        self._redacted = frozenset(redacted)
        self._named = self._redacted | frozenset(hashed)
        self._salt = salt.encode()

    def apply(self, rows: Sequence[Any], only: str | None) -> Sequence[Any]:
        """Rows as `POST /predict` takes them, which are not changed. `only` is the name of the only feature, whose
        value may stand for the row."""
        return [self._row(row, only) for row in rows] if self._named else rows

    def _row(self, row: Any, only: str | None) -> Any:  # noqa: ANN401  # whatever JSON has
        if isinstance(row, dict) and (only is None or only in row):
            return {name: self._value(name, value) if name in self._named else value for name, value in row.items()}
        return self._value(only, row) if only in self._named else row

    def _value(self, name: str, value: Any) -> str | None:  # noqa: ANN401  # whatever JSON has
        if name in self._redacted or _is_missing(value):
            return None
        return hmac.digest(self._salt, name.encode() + b"\0" + _content(value), "sha256").hex()[:DIGITS]


def _is_missing(value: object) -> bool:
    return value is None or (isinstance(value, str | float | np.floating) and (value == "" or value != value))


def _content(value: Any) -> bytes:  # noqa: ANN401  # whatever JSON has
    """The same for the same value, whichever protocol it came by."""
    match value:
        case str():
            return value.encode()
        case bool():
            return b"true" if value else b"false"
        case int() | float() | np.number():
            return str(int(value) if float(value).is_integer() else np.float32(value)).encode()
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
