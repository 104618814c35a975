"""1,797 handwritten digits of 8 by 8 pixels, that scikit-learn ships: half to learn from, half to be examined on."""

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits

from examples.from_scratch.network import Array, Integers

BRIGHTEST = 16  # what a pixel's value goes up to


@dataclass(frozen=True)
class Digits:
    """Pixels from 0 to 1, (rows, 64), with the digit of each row; the held-out rows are for measuring only."""

    x: Array
    labels: Integers
    held_x: Array
    held_labels: Integers


def load(rng: np.random.Generator | None = None) -> Digits:
    """Split in the order the rows come in, or, with `rng`, at random."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.arange(len(labels)) if rng is None else rng.permutation(len(labels))
    learn, held = np.split(order, [len(order) // 2])
    return Digits(pixels[learn] / BRIGHTEST, labels[learn], pixels[held] / BRIGHTEST, labels[held])
