"""What a call costs, by what plain Python takes in the same moments: a bound that holds on any processor."""

from collections.abc import Callable
from timeit import timeit

ROUNDS = 30


def cost(call: Callable[[], object], number: int) -> float:
    """Of one call, in hundreds of calls of a function that does nothing, which take a few microseconds. Of each
    the fastest of 30 rounds of so many calls, that take turns."""
    both = [(timeit(call, number=number), timeit(_hundred, number=number)) for _ in range(ROUNDS)]
    ours, plain = map(min, zip(*both, strict=True))
    return ours / plain


def _hundred() -> None:
    for _ in range(100):
        _nothing()


def _nothing() -> None:
    """As it says."""
