"""Where the bins of a number begin and end, and what they are called."""

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
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return (0.0, 1.0)
    # Each edge is a value that occurs, so a number with few different values gets a bin for each of them.
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, bins + 1), method="lower"))
    if edges.size == 1:
        edges = np.array([edges[0], np.nextafter(edges[0], np.float32(np.inf))])
    return tuple(float(edge) for edge in edges)


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
