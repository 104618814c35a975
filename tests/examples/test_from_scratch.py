"""The networks in NumPy alone beside finite differences, Keras, SciPy and scikit-learn; their README beside them."""

import doctest
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from scipy.special import log_softmax as scipy_log_softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss
from threadpoolctl import threadpool_limits

from examples.from_scratch import digits, one_layer
from examples.from_scratch.mistakes import MISTAKES, attempt
from examples.from_scratch.network import ACTIVATIONS, Network, log_softmax, mini_batches
from examples.from_scratch.picture import Panel, draw

FOLDER = Path("examples/from_scratch")
XOR = np.array([0, 0, 1, 1])
# A fraction that binary numbers hold exactly: Keras keeps its learning rate in float32 whatever the weights are.
RATE = 0.25


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks this small only wait for a second one."""
    with threadpool_limits(1):
        yield


# One neuron


@pytest.mark.parametrize("seed", range(5))
def test_one_neuron_learns_the_first_feature(seed: int) -> None:
    answers = one_layer.predict(one_layer.X, one_layer.train(one_layer.X, one_layer.Y, seed=seed))

    assert answers[one_layer.Y == 0].max() < 0.02
    assert answers[one_layer.Y == 1].min() > 0.97


@pytest.mark.parametrize("seed", range(5))
def test_one_neuron_cannot_learn_xor_and_eight_before_it_can(seed: int) -> None:
    alone = one_layer.predict(one_layer.X, one_layer.train(one_layer.X, XOR, seed=seed))
    network = Network([3, 8, 2], "tanh", np.random.default_rng(seed))
    for _ in range(1_000):
        network.step(one_layer.X, XOR, rate=0.5)

    np.testing.assert_allclose(alone, 0.5, atol=0.001)
    assert np.abs(network.probabilities(one_layer.X)[:, 1] - XOR).max() < 0.05


def test_one_neuron_steps_down_the_gradient() -> None:
    def error(weights: np.ndarray) -> float:
        return float(((one_layer.predict(one_layer.X, weights) - one_layer.Y) ** 2).sum() / 2)

    for steps in (0, 1, 10, 100):
        before, after = (one_layer.train(one_layer.X, one_layer.Y, steps=count) for count in (steps, steps + 1))

        np.testing.assert_allclose(before - after, central_differences(error, before), rtol=1e-6, atol=1e-10)


def test_one_neuron_trains_as_keras_does() -> None:
    import keras

    neuron = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, "sigmoid", use_bias=False)])
    # Keras' error is the mean of four squares, this one's half their sum: a step of 2 there is a step of 1 here.
    neuron.compile(keras.optimizers.SGD(2.0), "mse", run_eagerly=True)
    neuron.layers[0].set_weights([one_layer.train(one_layer.X, one_layer.Y, steps=0)[:, None]])
    for step in range(1, 51):
        neuron.train_on_batch(one_layer.X, one_layer.Y[:, None])

        ours = one_layer.train(one_layer.X, one_layer.Y, steps=step)
        np.testing.assert_allclose(neuron.get_weights()[0][:, 0], ours, rtol=1e-5, atol=1e-6)


# The network


def some_rows(count: int = 70) -> tuple[np.ndarray, np.ndarray]:
    """Rows of five features, of three classes."""
    rng = np.random.default_rng(7)
    return rng.normal(size=(count, 5)), rng.integers(0, 3, count)


def central_differences(function, at: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """The function's slope along each number of `at`, which is changed in place and put back."""
    slopes = np.empty_like(at)
    for index in np.ndindex(at.shape):
        kept = at[index]
        at[index] = kept + step
        above = function(at)
        at[index] = kept - step
        slopes[index] = (above - function(at)) / (2 * step)
        at[index] = kept
    return slopes


@pytest.mark.parametrize("hidden", [[], [4], [6, 4, 5]], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_backward_agrees_with_finite_differences(activation: str, hidden: list[int]) -> None:
    x, labels = some_rows()
    rng = np.random.default_rng(3)
    network = Network([5, *hidden, 3], activation, rng)
    # Not zero: where all of a ReLU's inputs are 0, its sum would lie on the kink, and differences see half a slope.
    network.biases = [rng.normal(size=len(biases)) for biases in network.biases]
    gradients = network.backward(x, labels)

    for values, slopes in zip((network.weights, network.biases), gradients, strict=True):
        for value, slope in zip(values, slopes, strict=True):
            expected = central_differences(lambda _: network.loss(x, labels), value)
            assert np.abs(expected).max() > 1e-4
            np.testing.assert_allclose(slope, expected, rtol=1e-5, atol=1e-8)


def keras_twin(network: Network, activation: str, dtype: str) -> tuple[object, object]:
    """The same layers with the same weights in Keras, and its loss on (labels, scores)."""
    import keras

    sizes = [len(network.weights[0]), *(len(bias) for bias in network.biases)]
    bends = [activation] * (len(sizes) - 2) + ["linear"]
    layers = [keras.layers.Dense(size, bend, dtype=dtype) for size, bend in zip(sizes[1:], bends, strict=True)]
    twin = keras.Sequential([keras.Input((sizes[0],), dtype=dtype), *layers])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype=dtype)
    twin.compile(keras.optimizers.SGD(RATE), loss, run_eagerly=True)
    twin.set_weights(list(interleaved(network)))
    return twin, loss


def interleaved(network: Network) -> Iterator[np.ndarray]:
    for weights, biases in zip(network.weights, network.biases, strict=True):
        yield from (weights, biases)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-12), ("float32", 2e-5)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_training_agrees_with_keras_after_every_step(activation: str, dtype: str, tolerance: float) -> None:
    x, labels = some_rows()
    x = x.astype(dtype)
    rng = np.random.default_rng(11)
    network = Network([5, 8, 6, 3], activation, rng)
    network.weights = [weights.astype(dtype) for weights in network.weights]
    network.biases = [biases.astype(dtype) for biases in network.biases]
    twin, loss = keras_twin(network, activation, dtype)
    first = network.loss(x, labels)

    for _ in range(4):
        for rows in mini_batches(len(x), 16, rng):
            network.train(x, labels, [rows], RATE)
            twin.train_on_batch(x[rows], labels[rows])

            for ours, theirs in zip(interleaved(network), twin.get_weights(), strict=True):
                assert ours.dtype == theirs.dtype == dtype
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)
    assert network.loss(x, labels) == pytest.approx(float(loss(labels, twin(x))), abs=tolerance)
    assert network.loss(x, labels) < first - 0.05


def test_loss_accuracy_and_probabilities_agree_with_scikit_learn() -> None:
    x, labels = some_rows()
    network = Network([5, 4, 3], "tanh", np.random.default_rng(0))
    probabilities = network.probabilities(x)

    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert network.loss(x, labels) == pytest.approx(log_loss(labels, probabilities))
    assert network.accuracy(x, labels) == pytest.approx(accuracy_score(labels, probabilities.argmax(axis=1)))


def test_log_softmax_agrees_with_scipy_and_nothing_overflows() -> None:
    scores = np.array([[1.0, 2.0, 3.0], [1e4, 0.0, -1e4], [-1e300, -1e300, 0.0]])

    np.testing.assert_allclose(log_softmax(scores), scipy_log_softmax(scores, axis=1))


def test_no_activation_overflows() -> None:
    extremes = np.array([-1e4, 0.0, 1e4])

    values = {name: activation.value(extremes).tolist() for name, activation in ACTIVATIONS.items()}

    assert values == {"sigmoid": [0, 0.5, 1], "tanh": [-1, 0, 1], "relu": [0, 0, 1e4]}


@pytest.mark.parametrize(("rows", "size"), [(70, 16), (64, 16), (5, 16), (1, 1), (899, 32)])
def test_an_epoch_has_every_row_once_in_batches_of_like_size(rows: int, size: int) -> None:
    rng = np.random.default_rng(0)
    first, second = (mini_batches(rows, size, rng) for _ in range(2))

    lengths = {len(batch) for batch in first}
    assert sorted(np.concatenate(first)) == list(range(rows))
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    assert rows < 5 or np.concatenate(first).tolist() != np.concatenate(second).tolist()


# Digits


@pytest.fixture(scope="module")
def split() -> digits.Digits:
    return digits.load()


@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)], ids=["in order", "at random"])
def test_the_halves_are_the_digits(rng: np.random.Generator | None) -> None:
    split = digits.load(rng)
    pixels, labels = load_digits(return_X_y=True)

    def rows(x: np.ndarray, digit: np.ndarray) -> list[tuple[float, ...]]:
        return sorted(map(tuple, np.column_stack([x, digit])))

    assert len(split.x) == len(pixels) // 2
    assert (split.x.min(), split.x.max()) == (0, 1)
    together = np.vstack([split.x, split.held_x]), np.concatenate([split.labels, split.held_labels])
    assert rows(*together) == rows(pixels / 16, labels)
    assert np.array_equal(together[1], labels) == (rng is None)


def test_the_network_is_as_good_as_logistic_regression(split: digits.Digits) -> None:
    linear = LogisticRegression(max_iter=1_000).fit(split.x, split.labels).score(split.held_x, split.held_labels)
    rng = np.random.default_rng(0)
    network = Network([64, 32, 10], "relu", rng)
    for _ in range(30):
        network.train(split.x, split.labels, mini_batches(len(split.x), 32, rng), RATE)

    # Twice the standard error of a share of 899 is 0.016.
    assert network.accuracy(split.held_x, split.held_labels) > linear - 0.016
    assert network.loss(split.x, split.labels) < 0.05


def rises(split: digits.Digits, seed: int, even: bool) -> int:
    """How many of 30 epochs end with a loss higher by 0.02 than the one before."""
    rng = np.random.default_rng(seed)
    network = Network([64, 32, 10], "relu", rng)
    losses = []
    for _ in range(30):
        order = rng.permutation(len(split.x))
        plain = [order[start : start + 32] for start in range(0, len(order), 32)]
        network.train(split.x, split.labels, np.array_split(order, len(plain)) if even else plain, RATE)
        losses.append(network.loss(split.x, split.labels))
    return int((np.diff(losses) > 0.02).sum())


def test_a_last_batch_of_two_rows_makes_training_jump(split: digits.Digits) -> None:
    even, plain = (sum(rises(split, seed, even) for seed in range(10)) for even in (True, False))

    # 2 and 61 when the README was written.
    assert even < 10
    assert plain > 30


@pytest.mark.parametrize("mistake", [name for name in MISTAKES if name != "nothing wrong"])
def test_a_mistake_is_one(mistake: str, split: digits.Digits) -> None:
    sound, spoiled = (attempt(MISTAKES[name], split) for name in ("nothing wrong", mistake))

    assert sound.accuracy > 0.9
    assert spoiled.accuracy < sound.accuracy - 0.15
    assert not spoiled.loss < 10 * sound.loss


# The picture and the README


def test_the_same_curves_make_the_same_picture(tmp_path: Path) -> None:
    panels = [Panel("a & b", {"learnt <from>": [2.0, 1.0, 0.1], "held out": [2.0, 1.5, 1.0]})]
    for name in ("one.svg", "two.svg", "one.png"):
        draw(panels, tmp_path / name)

    picture = (tmp_path / "one.svg").read_text()
    assert picture == (tmp_path / "two.svg").read_text()
    assert "learnt &lt;from&gt;" in picture
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """All that the command prints, and the folder it writes to."""
    folder = tmp_path_factory.mktemp("from_scratch") / "new"
    command = [sys.executable, "-W", "error", "-m", "examples.from_scratch", str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout, folder


@pytest.mark.slow
def test_the_command_draws_all_curves(output: tuple[str, Path]) -> None:
    text, folder = output
    names = set(re.findall(r">([a-z ]+)</text>", (folder / "curves.svg").read_text()))

    assert {"rows learnt from", "rows held out", *ACTIVATIONS, "epoch"} <= names
    assert str(folder / "curves.svg") in text


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (FOLDER / "README.md").read_text(), flags=re.DOTALL)


def test_the_readme_quotes_the_code_as_it_is() -> None:
    sources = "\n".join(path.read_text() for path in FOLDER.glob("*.py"))
    quoted = blocks("python")

    assert quoted
    assert [block for block in quoted if block not in sources] == []


def test_the_readme_quotes_the_output(output: tuple[str, Path]) -> None:
    """To the digit for one neuron; for the others, where rounding differs by machine, in form."""

    def form(text: str) -> str:
        return re.sub(r"[ .\d]*\d(e\+\d+)?| +(inf|nan)\b", "#", text)

    quoted = [line for block in blocks("text") for line in block.splitlines() if line]
    printed = [line for line in output[0].splitlines() if line]

    assert [line for line in quoted if "->" in line] == [line for line in printed if "->" in line]
    assert [form(line) for line in quoted] == [form(line) for line in printed[:-1]]


def test_the_readme_answers_as_it_says() -> None:
    failed, attempted = doctest.testfile(str((FOLDER / "README.md").resolve()), module_relative=False)

    assert attempted > 10
    assert failed == 0
