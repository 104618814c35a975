"""How certain a classification is, in three numbers that its drift is watched by.

    confidence  the largest probability (Hendrycks and Gimpel, A Baseline for Detecting Misclassified and Out-of-
                Distribution Examples, 2017)
    entropy     of all probabilities, in nats (Shannon, 1948)
    margin      the largest probability less the second (Scheffer et al., Active Hidden Markov Models, 2001)

Of two classes each is a function of the others; of many, confidence falls when a second class comes close, margin says
that one did, and entropy that all of them have.
"""

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32]

NAMES = ("confidence", "entropy", "margin")
OF_MANY = len(NAMES) + 1

_LEAST = np.finfo(np.float32).tiny  # has a logarithm; times it, nothing


def of_two(positive: Values) -> Values:
    """Probabilities of the positive class, [n] -> confidence, entropy and margin, [n, 3]."""
    largest = np.maximum(positive, 1 - positive)
    second = 1 - largest
    entropy = -(largest * _logarithm(largest) + second * _logarithm(second))
    return np.stack([largest, entropy, largest - second], axis=1)


def of_many(probabilities: Values) -> Values:
    """[n, classes] -> confidence, entropy, margin, and the number of the most probable class, [n, OF_MANY]."""
    rows = np.arange(len(probabilities))
    label = probabilities.argmax(axis=1)
    largest = probabilities[rows, label]
    entropy = -np.einsum("ij,ij->i", probabilities, _logarithm(probabilities))
    others = probabilities.copy()
    others[rows, label] = -np.inf
    return np.stack([largest, entropy, largest - others.max(axis=1), label.astype(np.float32)], axis=1)


def _logarithm(probabilities: Values) -> Values:
    logarithm: Values = np.maximum(probabilities, _LEAST)
    return np.log(logarithm, out=logarithm)
