"""Lists in lists, as JSON has tensors."""

from itertools import chain
from typing import Any

_LIST_TYPES = frozenset({list})


def flatten(value: list[Any]) -> tuple[tuple[int, ...], list[Any]]:
    """The shape of lists in lists, and what is in them in order; no shape where their lengths differ."""
    shape, values = [len(value)], value
    while values and _LIST_TYPES.issuperset(map(type, values)):
        lengths = set(map(len, values))
        if len(lengths) > 1:
            return (), []
        shape.append(lengths.pop())
        values = list(chain.from_iterable(values))
    return tuple(shape), values
