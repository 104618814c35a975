"""Networks in NumPy alone, trained before your eyes: python -m examples.from_scratch [FOLDER]

FOLDER (build/from_scratch) gets the picture of the curves. README.md beside this file explains every line.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from examples.from_scratch import digits, one_layer
from examples.from_scratch.digits import Digits
from examples.from_scratch.mistakes import MISTAKES, attempt
from examples.from_scratch.network import ACTIVATIONS, Array, Integers, Network, mini_batches
from examples.from_scratch.picture import Panel, draw

EPOCHS = 30
BATCH = 32
RATE = 0.25  # of 0.1, 0.25 and 0.5 a good one on the last quarter of the rows learnt from, when fitted to the others
SHALLOW = (64, 32, 10)
DEEP = (64, 32, 32, 32, 32, 10)
XOR = np.logical_xor(one_layer.X[:, 0], one_layer.X[:, 1]).astype(int)


def main(folder: Path) -> None:
    one_neuron()
    xor()
    split = digits.load()
    panels = [learn_digits(split)]
    compare_with_a_linear_model()
    panels += [compare_activations(split, sizes) for sizes in (SHALLOW, DEEP)]
    show_mistakes(split)
    folder.mkdir(parents=True, exist_ok=True)
    draw(panels, folder / "curves.svg")
    say(f"The curves are in {folder / 'curves.svg'}")


def one_neuron() -> None:
    say("One neuron, 10,000 steps. The answer is the first feature.")
    weights = one_layer.train(one_layer.X, one_layer.Y)
    show_answers(one_layer.predict(one_layer.X, weights), one_layer.Y)
    print(f"  weights {weights.round(2)}")


def xor() -> None:
    say("The same neuron. The answer is whether the first two features differ (XOR).")
    show_answers(one_layer.predict(one_layer.X, one_layer.train(one_layer.X, XOR)), XOR)
    say("A layer of eight tanh neurons before it, 1,000 steps.")
    network = Network([3, 8, 2], "tanh", np.random.default_rng(0))
    for _ in range(1_000):
        network.step(one_layer.X, XOR, rate=0.5)
    show_answers(network.probabilities(one_layer.X)[:, 1], XOR)


def learn_digits(split: Digits) -> Panel:
    say(f"Digits, 64-32-10, ReLU, softmax: {len(split.x)} rows to learn from, {len(split.held_x)} held out.")
    rng = np.random.default_rng(0)
    network = Network(SHALLOW, "relu", rng)
    learnt, held = [], []
    for epoch, loss in enumerate(train(network, split, rng)):
        learnt.append(loss)
        held.append(network.loss(split.held_x, split.held_labels))
        if epoch % 5 == 0:
            accuracy = network.accuracy(split.held_x, split.held_labels)
            print(
                f"  epoch {epoch:2}   loss {loss:.3f}   held out: loss {held[-1]:.3f}, accuracy {accuracy:.3f}",
                flush=True,
            )
    return Panel("64-32-10, ReLU", {"rows learnt from": learnt, "rows held out": held})


def train(network: Network, split: Digits, rng: np.random.Generator) -> Iterator[float]:
    """The loss on the rows learnt from, before the first epoch and after each."""
    yield network.loss(split.x, split.labels)
    for _ in range(EPOCHS):
        network.train(split.x, split.labels, mini_batches(len(split.x), BATCH, rng), RATE)
        yield network.loss(split.x, split.labels)


def compare_activations(split: Digits, sizes: Sequence[int]) -> Panel:
    """The same first weights and the same batches for each: only the bend differs."""
    name = "-".join(map(str, sizes))
    say(f"{name}: the gradient's length by layer before the first step, then the loss after {EPOCHS} epochs.")
    curves = {}
    for activation in ACTIVATIONS:
        rng = np.random.default_rng(0)
        network = Network(sizes, activation, rng)
        gradients, _ = network.backward(split.x, split.labels)
        curves[activation] = list(train(network, split, rng))
        lengths = " ".join(f"{np.linalg.norm(gradient):.3f}" for gradient in gradients)
        print(f"  {activation:7}   {lengths}   loss {curves[activation][-1]:.3f}")
    return Panel(name, curves)


def compare_with_a_linear_model() -> None:
    say("Accuracy on held-out digits: logistic regression, and five networks 64-32-10 that differ in their seed.")
    for name, split in {"in order": digits.load(), "at random": digits.load(np.random.default_rng(0))}.items():
        linear = LogisticRegression(max_iter=1_000).fit(split.x, split.labels).score(split.held_x, split.held_labels)
        networks = " ".join(f"{accuracy:.3f}" for accuracy in (accuracy_of(split, seed) for seed in range(5)))
        print(f"  halves {name:9}   {linear:.3f}   {networks}")


def accuracy_of(split: Digits, seed: int) -> float:
    rng = np.random.default_rng(seed)
    network = Network(SHALLOW, "relu", rng)
    for _ in train(network, split, rng):
        pass
    return network.accuracy(split.held_x, split.held_labels)


def show_mistakes(split: Digits) -> None:
    say("One thing wrong at a time: loss, accuracy on held-out digits, mean slope of the hidden neurons.")
    for name, recipe in MISTAKES.items():
        outcome = attempt(recipe, split)
        print(f"  {name:38}   {outcome.loss:9.3g}   {outcome.accuracy:.3f}   {outcome.slope:.3f}")


def show_answers(answers: Array, wanted: Array | Integers) -> None:
    for sample, answer, right in zip(one_layer.X.astype(int), answers, wanted, strict=True):
        print(f"  {sample} -> {answer:.4f}   wanted {right:.0f}")


def say(sentence: str) -> None:
    """At once, for what comes next may take seconds."""
    print(f"\n{sentence}", flush=True)


if __name__ == "__main__":
    with threadpool_limits(1):  # matrices this small only wait for a second: 5 s with one, 28 with two on busy cores
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/from_scratch"))
