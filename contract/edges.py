"""Where the bins of a number begin and end, and what they are called."""

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

Edges = tuple[float, ...]

# Of an output, and where nothing else is said.
NUMBER_BINS = 10
# Of an input, of which there are many more: a shift shows as well in eight bins as in ten, and a scrape is a seventh
# smaller. Of what a normal distribution tells of its mean, ten equal bins keep 96% and eight keep 94.5%.
INPUT_BINS = 8
FEWEST_DIGITS = 3
MOST_DIGITS = 9  # which tell any two float32 apart

# Certainty is not told more finely than this: variants of a model differ by less, and nobody acts on it.
CERTAINTY_STEPS = 1000


def quantile_edges(values: NDArray[np.float32], bins: int = NUMBER_BINS) -> Edges:
    """At most `bins` + 1 strictly rising float32 quantiles of the finite `values`; at least two, whatever comes."""
    finite = _finite(values)
    if finite.size == 0:
        return (0.0, 1.0)
    edges = _quantiles(finite, bins)
    if edges.size == 1:
        edges = np.append(edges, _next(edges[0]))
    return tuple(float(edge) for edge in edges)


def spike_edges(values: NDArray[np.float32], bins: int = NUMBER_BINS) -> Edges:
    """The same, but that each value which would fill a bin alone has one alone: rain, which is 0 on nine days of ten,
    has quantiles that are all 0. So has each of few different values: true and false as 1 and 0.

    Made of too many bins, of which the two neighbours with the fewest rows become one until no more than `bins` are
    left. A bin goes up to the next one's least value; if the greatest value is alone, up to the next float32.
    """
    different, counts = np.unique(_finite(values), return_counts=True)
    if different.size == 0:
        return (0.0, 1.0)
    starts = _merged(_starts(different, counts, bins), counts, bins)
    edges = np.append(different[starts], different[-1])
    if starts[-1] == different.size - 1:
        edges[-1] = _next(different[-1])
    return tuple(float(edge) for edge in edges)


def _starts(different: NDArray[np.float32], counts: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    """Which of the values begin a bin: the quantiles of all that are no spikes, the spikes, and what follows them."""
    if different.size <= bins:
        return np.arange(different.size)
    alone = np.flatnonzero(counts * bins >= counts.sum())
    among = np.delete(np.arange(different.size), alone)
    quantiles = _quantiles(np.repeat(among, counts[among]), bins)[:-1] if among.size else among
    starts = np.unique(np.concatenate([[0], quantiles, alone, alone + 1]))
    return starts[starts < different.size].astype(np.int64)


def _merged(starts: NDArray[np.int64], counts: NDArray[np.int64], bins: int) -> NDArray[np.int64]:
    while starts.size > bins:
        rows = np.add.reduceat(counts, starts)
        starts = np.delete(starts, 1 + np.argmin(rows[:-1] + rows[1:]))
    return starts


def _quantiles(values: NDArray[Any], bins: int) -> NDArray[Any]:
    """Each edge is a value that occurs."""
    found: NDArray[Any] = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1), method="lower"))
    return found


def _finite(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest float32 as the one before it: an edge above every value must be finite too."""
    return np.minimum(values[np.isfinite(values)], np.nextafter(np.finfo(np.float32).max, np.float32(0)))


def _next(value: np.float32) -> np.float32:
    following: np.float32 = np.nextafter(value, np.float32(np.inf))
    return following


def coarse(edges: Edges) -> Edges:
    """The same, at least 1 / CERTAINTY_STEPS apart; no value that was between the outer ones is outside.

    A model that is certain of nearly everything has its quantiles at 0.999998 and 0.9999995, and its int8 variant none
    of its answers there: what is a matter of arithmetic would be watched as drift.
    """
    steps = np.array(edges) * CERTAINTY_STEPS
    whole = np.rint(steps)
    whole[0], whole[-1] = np.floor(steps[0]), np.ceil(steps[-1])
    whole = np.unique(whole)
    if whole.size == 1:
        whole = np.array([whole[0], whole[0] + 1])
    return tuple(float(edge) for edge in whole / CERTAINTY_STEPS)


def range_names(edges: Edges) -> list[str]:
    """What the bins between edges are called; a last one that holds a single value, as from that to that."""
    alone = bool(_next(np.float32(edges[-2])) == np.float32(edges[-1]))
    names = edge_names(edges[:-1] if alone else edges)
    return [f"{low}..{high}" for low, high in pairwise([*names, *names[-1:] * alone])]


def edge_names(edges: Edges) -> list[str]:
    """As few digits as tell them apart, three at least. The manifest has them whole."""
    for digits in range(FEWEST_DIGITS, MOST_DIGITS):
        names = [_rounded(edge, digits) for edge in edges]
        if len(set(names)) == len(names):
            return names
    return [_rounded(edge, MOST_DIGITS) for edge in edges]


def _rounded(edge: float, digits: int) -> str:
    """To so many significant digits; of millions the whole number, which reads better than a power of ten."""
    text = f"{edge + 0.0:.{digits}g}"
    if "e+" in text and abs(edge) < 1e7:
        text = f"{edge:.0f}"
    return text.replace("e+0", "e").replace("e+", "e").replace("e-0", "e-")
