"""What goes wrong if: the same network on the same digits, each time with one thing spoiled."""

from dataclasses import dataclass, replace

import numpy as np

from examples.from_scratch.digits import BRIGHTEST, Digits
from examples.from_scratch.network import Array, Integers, Network, mini_batches


@dataclass(frozen=True)
class Recipe:
    """How to train; as it stands, nothing is wrong with it."""

    activation: str = "relu"
    rate: float = 0.25
    batch: int = 32
    brightest: float = 1.0
    initial: float = 1.0  # times the weights that Network starts with
    sorted: bool = False
    epochs: int = 20


@dataclass(frozen=True)
class Outcome:
    """Cross-entropy on the rows learnt from, accuracy on the others, and the mean slope of the hidden neurons' bend.

    The layer below hears of the error through that slope (network.py, backward): where it is 0, nothing is learnt.
    """

    loss: float
    accuracy: float
    slope: float


SOUND = Recipe()
MISTAKES = {
    "nothing wrong": SOUND,
    "every weight starts at zero": replace(SOUND, initial=0),
    "weights start 100 times too large": replace(SOUND, initial=100),
    "the same, with sigmoid": replace(SOUND, initial=100, activation="sigmoid"),
    "steps 1,000 times too short": replace(SOUND, rate=SOUND.rate / 1000),
    "steps 20 times too long": replace(SOUND, rate=SOUND.rate * 20),
    "up the slope, not down": replace(SOUND, rate=-SOUND.rate),
    "pixels from 0 to 16, not 0 to 1": replace(SOUND, brightest=BRIGHTEST),
    "steps on one row each, as long": replace(SOUND, batch=1),
    "one step an epoch, on all rows": replace(SOUND, batch=1_000_000),
    "rows in order of digit, not shuffled": replace(SOUND, sorted=True),
}


def attempt(recipe: Recipe, digits: Digits, seed: int = 0) -> Outcome:
    """Train 64-32-10 by the recipe. A loss that is not finite is an answer here, so NumPy need not warn of it."""
    rng = np.random.default_rng(seed)
    network = Network([64, 32, 10], recipe.activation, rng)
    network.weights = [weights * recipe.initial for weights in network.weights]
    x, held_x = digits.x * recipe.brightest, digits.held_x * recipe.brightest
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(recipe.epochs):
            network.train(x, digits.labels, _batches(recipe, digits.labels, rng), recipe.rate)
        return Outcome(network.loss(x, digits.labels), network.accuracy(held_x, digits.held_labels), _slope(network, x))


def _batches(recipe: Recipe, labels: Integers, rng: np.random.Generator) -> list[Integers]:
    batches = mini_batches(len(labels), recipe.batch, rng)
    return np.array_split(np.argsort(labels, kind="stable"), len(batches)) if recipe.sorted else batches


def _slope(network: Network, x: Array) -> float:
    return float(network.activation.slope(network.forward(x)[1]).mean())
