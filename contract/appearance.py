"""What a picture looks like, in a few numbers that its drift is watched by.

    mean        brightness: the mean of the luma (ITU-R 601-2, as contract/images.py makes grey of colours)
    contrast    its standard deviation, RMS contrast (Peli, Contrast in Complex Images, 1990)
    sharpness   the variance of the Laplacian, of four neighbours (Pech-Pacheco et al., Diatom Autofocusing in
                Brightfield Microscopy, 2000); where there are colours, of green, which has most of the luma
    dark        the share of pixels whose luma is the least that there is: under-exposed, or ink, or a black frame
    bright      and the most that there is: over-exposed, or paper, or a white frame
    saturation  of colours, as HSV has it: the mean of (largest - least) / largest channel
    red, green, blue    the means of the channels: a lamp, a sensor, or channels in another order

Values are those that the network gets, in the feature's own range. They are taken at no more than 12 x 12 places,
evenly spread from edge to edge: how much of a picture is dark is seen in 144 pixels as well, and a large picture costs
as little as a small one. The neighbours of each place are the pixels next to it, so that what is blurred shows.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.kinds import ImageFeature
from contract.watched import OF_COLOURS, OF_GREY

Values = NDArray[np.float32]

PLACES_A_SIDE = 12
# Pictures measured at once: what is made of them on the way stays in the processor's cache.
BLOCK = 64

# A place itself, and those around it; of colours the green ones, and then the red and the blue of the place itself.
_AROUND = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))
_RED, _GREEN, _BLUE = range(3)
# From the values at a place to its luma and Laplacian; of colours also to red, green and blue.
_GREY_PLANES = np.array([[1, 0, 0, 0, 0], [4, -1, -1, -1, -1]], np.float32)
_COLOUR_PLANES = np.array(
    [
        [0.587, 0, 0, 0, 0, 0.299, 0.114],
        [4, -1, -1, -1, -1, 0, 0],
        [0, 0, 0, 0, 0, 1, 0],
        [1, 0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0, 1],
    ],
    np.float32,
)


class Appearance:
    """Measures pictures of one feature. `names` are those of the columns."""

    def __init__(self, feature: ImageFeature) -> None:
        self._coloured = feature.shape[2] == 3
        self.names = OF_COLOURS if self._coloured else OF_GREY
        self._planes = _COLOUR_PLANES if self._coloured else _GREY_PLANES
        self._places = _places(feature.shape)
        self._ones = np.ones(self._places.shape[1], np.float32)
        self._count = np.float32(self._places.shape[1])
        self._lowest, half_a_step = np.float32(feature.minimum), (feature.maximum - feature.minimum) / 255 / 2
        self._dark, self._bright = np.float32(feature.minimum + half_a_step), np.float32(feature.maximum - half_a_step)

    def measure(self, pictures: NDArray[Any]) -> Values:
        """Pictures [n, height, width, channels] -> [n, names]."""
        flat = pictures.reshape(len(pictures), -1)
        if len(flat) <= BLOCK:
            return self._measure(flat)
        return np.concatenate([self._measure(flat[i : i + BLOCK]) for i in range(0, len(flat), BLOCK)])

    def _measure(self, flat: NDArray[Any]) -> Values:
        """What is a share or a mean is a sum of what stands at the places, [n, planes, places]; an exact one of whole
        numbers, so that a share of 1 is 1 however many pictures are measured at once."""
        values = flat.take(self._places, axis=1).astype(np.float32)
        first = len(self._planes)
        planes = np.empty((len(flat), len(self.names) - 1, values.shape[2]), np.float32)
        np.matmul(self._planes, values, out=planes[:, :first])
        np.less_equal(planes[:, 0], self._dark, out=planes[:, first])
        np.greater_equal(planes[:, 0], self._bright, out=planes[:, first + 1])
        if self._coloured:
            self._saturation(planes[:, 2:5], planes[:, first + 2])
        means = (planes @ self._ones) / self._count
        rest = planes[:, :2] - means[:, :2, None]
        variances = np.einsum("nkp,nkp->nk", rest, rest) / self._count
        measured = np.empty((len(flat), len(self.names)), np.float32)
        measured[:, 0] = means[:, 0]
        np.sqrt(variances[:, 0], out=measured[:, 1])
        measured[:, 2] = variances[:, 1]
        measured[:, 3:] = means[:, 2:]
        return measured

    def _saturation(self, colours: Values, out: Values) -> None:
        """[n, 3, places] -> [n, places]; 0 for black."""
        largest = colours.max(axis=1)
        np.subtract(largest, colours.min(axis=1), out=out)
        largest -= self._lowest
        np.divide(out, largest, out=out, where=largest > 0)


def _places(shape: tuple[int, int, int]) -> NDArray[np.intp]:
    """Where in a flat picture the places are, [values at a place, places]; beyond an edge lies the place itself."""
    height, width, channels = shape
    y, x = np.meshgrid(_spread(height), _spread(width), indexing="ij")

    def at(down: int, right: int, channel: int) -> NDArray[np.intp]:
        row, column = np.clip(y + down, 0, height - 1), np.clip(x + right, 0, width - 1)
        return ((row * width + column) * channels + channel).ravel()

    if channels == 1:
        return np.stack([at(down, right, 0) for down, right in _AROUND])
    return np.stack([*(at(down, right, _GREEN) for down, right in _AROUND), at(0, 0, _RED), at(0, 0, _BLUE)])


def _spread(size: int) -> NDArray[np.intp]:
    return np.unique(np.linspace(0, size - 1, min(size, PLACES_A_SIDE)).round().astype(np.intp))
