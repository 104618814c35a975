"""Lists of values from JSON as arrays of a type; nothing is rounded, cut or guessed."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.signature import Dtype, numpy_dtype

Tensor = NDArray[Any]

_NUMBERS = frozenset({int, float})
_B64 = "b64"


def of_type(dtype: Dtype, values: list[Any]) -> Tensor | None:
    """All values as the type; numbers of floats as float64, for the model to narrow."""
    types = set(map(type, values))
    if dtype == "string":
        return objects(values)
    if dtype == "bool":
        return np.array(values, bool) if types == {bool} else None
    if not types <= _NUMBERS:
        return None
    wanted = numpy_dtype(dtype) if dtype not in ("bfloat16", "float16", "float32") else np.dtype(np.float64)
    if wanted.kind in "iu" and float in types:
        return None
    try:
        return np.array(values, wanted)
    except OverflowError:
        return None


def objects(values: Sequence[object]) -> Tensor | None:
    """Strings, and bytes from base64; None where one is neither."""
    array = np.empty(len(values), object)
    try:
        array[:] = [base64.b64decode(value[_B64], validate=True) if type(value) is dict else value for value in values]
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None
    return array if all(type(value) in (str, bytes) for value in array) else None
