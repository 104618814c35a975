"""A network of dense layers that tells classes apart: forward, backward, and mini-batches, in NumPy alone."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Integers = NDArray[np.integer]


@dataclass(frozen=True)
class Activation:
    """What bends a layer's sum, and the slope of that bend, told from its output: all three can."""

    value: Callable[[Array], Array]
    slope: Callable[[Array], Array]


ACTIVATIONS = {
    # The sigmoid, 1 / (1 + exp(-z)), in its other form: no large z overflows it.
    "sigmoid": Activation(lambda z: (1 + np.tanh(z / 2)) / 2, lambda a: a * (1 - a)),
    "tanh": Activation(np.tanh, lambda a: 1 - a * a),
    "relu": Activation(lambda z: np.maximum(z, 0), lambda a: (a > 0).astype(a.dtype)),
}


class Network:
    """Layers of `sizes`, inputs first and classes last, with the activation after each layer but the last.

    The k-th layer's weights are (sizes[k], sizes[k + 1]), its biases (sizes[k + 1],).
    """

    def __init__(self, sizes: Iterable[int], activation: str, rng: np.random.Generator) -> None:
        shapes = list(pairwise(sizes))
        self.activation = ACTIVATIONS[activation]
        # Random, so that no two neurons learn the same; this wide, so that signals neither fade nor grow on their way
        # through ReLU layers (He et al. 2015, https://arxiv.org/abs/1502.01852, equation 10).
        self.weights: list[Array] = [rng.normal(0, np.sqrt(2 / shape[0]), shape) for shape in shapes]
        self.biases: list[Array] = [np.zeros(outputs) for _, outputs in shapes]

    def forward(self, x: Array) -> list[Array]:
        """What goes into each layer, first `x` (rows, sizes[0]); then what comes out: a score for each class."""
        values = [x]
        for weights, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            values.append(self.activation.value(values[-1] @ weights + bias))
        return [*values, values[-1] @ self.weights[-1] + self.biases[-1]]

    def backward(self, x: Array, labels: Integers) -> tuple[list[Array], list[Array]]:
        """The slope of the loss along every weight and every bias, shaped as they are: the chain rule, backwards."""
        *inputs, scores = self.forward(x)
        delta = np.exp(log_softmax(scores))
        delta[np.arange(len(x)), labels] -= 1  # what was said, less what is right
        delta /= len(x)  # the loss is a mean over rows
        weights, biases = [], []
        for layer in reversed(range(len(inputs))):
            weights.append(inputs[layer].T @ delta)
            biases.append(delta.sum(axis=0))
            if layer > 0:  # back through the weights, then through the bend, to the layer before
                delta = (delta @ self.weights[layer].T) * self.activation.slope(inputs[layer])
        return weights[::-1], biases[::-1]

    def step(self, x: Array, labels: Integers, rate: float) -> None:
        """Gradient descent: every number in the network goes a little way down its own slope."""
        weights, biases = self.backward(x, labels)
        for layer in range(len(weights)):
            self.weights[layer] -= rate * weights[layer]
            self.biases[layer] -= rate * biases[layer]

    def train(self, x: Array, labels: Integers, batches: Iterable[Integers], rate: float) -> None:
        """One step for each batch of row numbers."""
        for rows in batches:
            self.step(x[rows], labels[rows], rate)

    def loss(self, x: Array, labels: Integers) -> float:
        """Cross-entropy: minus the logarithm of the probability given to what is right, averaged over rows."""
        return float(-log_softmax(self.forward(x)[-1])[np.arange(len(x)), labels].mean())

    def probabilities(self, x: Array) -> Array:
        """Of every class, for every row: (rows, sizes[-1])."""
        return np.exp(log_softmax(self.forward(x)[-1]))

    def accuracy(self, x: Array, labels: Integers) -> float:
        """The share of rows where the class held most probable is the right one."""
        return float((self.probabilities(x).argmax(axis=1) == labels).mean())


def log_softmax(scores: Array) -> Array:
    """Logarithms of probabilities that sum to 1 in each row; taken at once, no exp overflows and no log meets a 0."""
    shifted: Array = scores - scores.max(axis=1, keepdims=True)
    logs: Array = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logs


def mini_batches(rows: int, size: int, rng: np.random.Generator) -> list[Integers]:
    """An epoch: each row number once, in a new random order, in batches of `size` or as few less as makes all equal.

    A last batch of what is left over, often one or two rows, would make as long a step as any, on hardly any evidence.
    """
    return np.array_split(rng.permutation(rows), -(-rows // size))
