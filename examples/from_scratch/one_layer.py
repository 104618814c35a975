"""The shortest honest neural network: one sigmoid neuron learns four samples of three features."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

X = np.array([[0, 0, 1], [1, 1, 1], [1, 0, 1], [0, 1, 1]], dtype=float)
Y = np.array([0, 1, 1, 0], dtype=float)


def predict(x: Array, weights: Array) -> Array:
    """Sigmoid squeezes a weighted sum, of any size, to between 0 and 1."""
    return 1 / (1 + np.exp(-(x @ weights)))


def train(x: Array, y: Array, steps: int = 10_000, seed: int = 1) -> Array:
    """Start anywhere; then, again and again, take a step down the slope of half the summed squared error."""
    weights = np.random.default_rng(seed).uniform(-1, 1, size=x.shape[1:])
    for _ in range(steps):
        p = predict(x, weights)
        delta = (p - y) * p * (1 - p)  # how the error changes with each sample's weighted sum
        weights -= x.T @ delta  # each weight answers for what came in through it
    return weights


if __name__ == "__main__":
    print(predict(X, train(X, Y)).round(3))
