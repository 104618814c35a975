"""SavedModels of a few operations each, without Keras: what they answer can be said in NumPy."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from contract.encoded import Encoded

WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 10


class Everything(tf.Module):
    """Strings, numbers and truth values in; every type out, one row's tensors of rank 0 to 2. `serving_default`."""

    def __init__(self) -> None:
        super().__init__()
        words = tf.lookup.KeyValueTensorInitializer(tf.constant(["red", "blue"]), tf.constant([7, 11], tf.int64))
        self.table = tf.lookup.StaticHashTable(words, -1)
        self.weights = tf.Variable(WEIGHTS)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "word"),
            tf.TensorSpec([None, 4], tf.float32, "x"),
            tf.TensorSpec([None], tf.bool, "flag"),
        ]
    )
    def serve(self, word: Any, x: Any, flag: Any) -> dict[str, Any]:
        product = x @ self.weights
        return {
            "upper": tf.strings.upper(word),
            "number": self.table.lookup(word),
            "product": product,
            "double": tf.cast(product, tf.float64),
            "half": tf.cast(product, tf.float16),
            "brain": tf.cast(product, tf.bfloat16),
            "byte": tf.cast(x * 10, tf.uint8),
            "not": tf.logical_not(flag),
            "outer": x[:, :, tf.newaxis] * x[:, tf.newaxis, :],
        }


def rows_of_everything(count: int) -> Encoded:
    words = np.array([("red", "blue", "gréen")[i % 3].encode() for i in range(count)] or [], object)
    x = np.random.default_rng(count).uniform(0, 9, (count, 4)).astype(np.float32)
    return Encoded.of_tensors({"word": words, "x": x, "flag": np.arange(count) % 2 == 0})


def answers_of_everything(encoded: Encoded) -> dict[str, NDArray[Any]]:
    """By NumPy."""
    word, x, flag = encoded.named()["word"], encoded.named()["x"], encoded.named()["flag"]
    product = x @ WEIGHTS
    numbers = {b"red": 7, b"blue": 11}
    brain: Any = tf.bfloat16.as_numpy_dtype
    return {
        "upper": np.array([each.upper() for each in word], object),
        "number": np.array([numbers.get(each, -1) for each in word], np.int64),
        "product": product,
        "double": product.astype(np.float64),
        "half": product.astype(np.float16),
        "brain": product.astype(brain),
        "byte": (x * 10).astype(np.uint8),
        "not": ~flag,
        "outer": x[:, :, None] * x[:, None, :],
    }


def assert_same(answers: dict[str, NDArray[Any]], expected: dict[str, NDArray[Any]]) -> None:
    assert answers.keys() == expected.keys()
    for name, wanted in expected.items():
        got = answers[name]
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape), name
        if wanted.dtype in (object, bool, np.int64, np.uint8):
            np.testing.assert_array_equal(got, wanted, err_msg=name)
        else:
            tolerance = 0.02 if name in ("half", "brain") else 1e-5
            np.testing.assert_allclose(got.astype(np.float64), wanted.astype(np.float64), tolerance, err_msg=name)


class Scaled(tf.Module):
    """`encoded`: numbers [n, 4] to `value` [n], their sum times `factor`; `weight` floats are carried along."""

    def __init__(self, factor: float, weight: int = 1) -> None:
        super().__init__()
        self.factor = tf.Variable(factor)
        self.ballast = tf.Variable(np.ones((4, weight), np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "numbers")])
    def serve(self, numbers: Any) -> dict[str, Any]:
        return {"value": self.factor * tf.reduce_mean(tf.reduce_sum(numbers[:, :, None] * self.ballast, 1), -1)}


class Endless(tf.Module):
    """`encoded`: numbers [n, 4] to `value` [n] after so many steps as the first number says."""

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "numbers")])
    def serve(self, numbers: Any) -> dict[str, Any]:
        steps = tf.cast(numbers[0, 0], tf.int64)
        done = tf.while_loop(lambda i: i < steps, lambda i: (i + 1,), (tf.constant(0, tf.int64),))[0]
        return {"value": numbers[:, 1] + tf.cast(done * 0, tf.float32)}


def save(module: Any, path: Path, signature: str = "encoded") -> Path:
    tf.saved_model.save(module, str(path), {signature: module.serve})
    return path


def numbers(values: NDArray[np.float32]) -> Encoded:
    return Encoded(values, np.zeros((len(values), 0), np.int32))
