"""Few points of a curve of many, for a picture."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from training.exporting.results import Points

MOST_POINTS = 200


def thinned(x: ArrayLike, y: ArrayLike, most: int = MOST_POINTS) -> Points:
    """At most `most` of the points [n], first and last among them, evenly spread along the curve's length."""
    points = np.stack([np.asarray(x, np.float64), np.asarray(y, np.float64)], axis=1)
    if len(points) > most:
        length = np.r_[0, np.cumsum(np.abs(np.diff(points, axis=0) / _size(points)).sum(axis=1))]
        points = points[np.unique(np.searchsorted(length, np.linspace(0, length[-1], most)))]
    return tuple((round(float(a), 6), round(float(b), 6)) for a, b in points)


def _size(points: NDArray[np.float64]) -> NDArray[np.float64]:
    size = np.ptp(points, axis=0)
    return np.where(size > 0, size, 1)
