"""Models as people have exported them, good and bad. Each function writes one and returns its folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from contract.bundle import SAVED_MODEL

DEFAULT = "serving_default"

CLASS_OF_ITS_OWN = """
import sys, keras
class Mine(keras.layers.Layer):
    def call(self, x):
        return x + 1
keras.Sequential([keras.Input((2,)), Mine()]).save(sys.argv[1])
"""


def saved(path: Path, call: Callable[..., dict[str, Any]], *specs: tf.TensorSpec, name: str = DEFAULT) -> Path:
    """A module with one function of named tensors."""
    module = tf.Module()
    module.call = tf.function(call, input_signature=specs)
    tf.saved_model.save(module, str(path), signatures={name: module.call})
    return path


def spec(name: str, dtype: Any = tf.float32, *shape: int | None) -> tf.TensorSpec:
    return tf.TensorSpec((None, *shape), dtype, name=name)


def dictionaries(path: Path) -> Path:
    """A Keras model of dictionaries, exported by Keras."""
    left, right = keras.Input((2,), name="left"), keras.Input((2,), name="right")
    model = keras.Model({"left": left, "right": right}, {"sum": left + right, "product": left * right})
    model.export(path, verbose=False)
    return path


def colours(path: Path) -> Path:
    """A table of strings, three inputs and four outputs."""
    module = tf.Module()
    words = tf.lookup.KeyValueTensorInitializer(["red", "green"], [1, 2], tf.string, tf.int64)
    module.table = tf.lookup.StaticHashTable(words, 0)

    def call(colour: Any, n: Any, x: Any) -> dict[str, Any]:
        return {
            "code": module.table.lookup(colour),
            "name": tf.strings.join([colour, "!"]),
            "total": tf.reduce_sum(n, axis=1),
            "half": x / 2,
        }

    specs = spec("colour", tf.string), spec("n", tf.int64, 2), spec("x", tf.float64, 2)
    module.call = tf.function(call, input_signature=specs)
    tf.saved_model.save(module, str(path), signatures={DEFAULT: module.call})
    return path


def types(path: Path) -> Path:
    """bool, uint8, int64 and float32, all of which LiteRT has."""

    def call(flag: Any, mask: Any, n: Any, x: Any) -> dict[str, Any]:
        total = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        return {"sum": total, "next": n + 1, "opposite": tf.logical_not(flag), "square": x * x}

    return saved(
        path, call, spec("flag", tf.bool), spec("mask", tf.uint8, 3), spec("n", tf.int64), spec("x", tf.float32, 2)
    )


def doubles(path: Path) -> Path:
    """A product of float64, which LiteRT does not have."""
    weights = tf.constant(np.eye(2))
    return saved(path, lambda x: {"y": tf.matmul(x, weights)}, spec("x", tf.float64, 2))


class Subclassed(keras.Model):
    """A model in the style of Keras' own guides."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.last = keras.layers.Dense(8, activation="relu"), keras.layers.Dense(2)

    def call(self, x: Any) -> Any:
        return self.last(self.hidden(x))


def subclassed(path: Path) -> tuple[keras.Model, Path]:
    model = Subclassed()
    model(np.zeros((1, 6), np.float32))
    call = tf.function(lambda x: {"scores": model(x)}, input_signature=[spec("x", tf.float32, 6)])
    tf.saved_model.save(model, str(path), signatures={DEFAULT: call})
    return model, path


def tensorflow_1(path: Path) -> tuple[np.ndarray[Any, Any], Path]:
    """With a session, placeholders and the names that estimators gave: inputs and outputs."""
    v1, weights = tf.compat.v1, np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3])
        w = v1.get_variable("w", initializer=weights)
        session.run(v1.global_variables_initializer())
        v1.saved_model.simple_save(session, str(path), {"inputs": x}, {"outputs": tf.matmul(x, w)})
    return weights, path


def parses_examples(path: Path) -> Path:
    """Strings that are serialized tf.Examples, as estimators have them."""
    v1, path = tf.compat.v1, path / "examples"
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.string, [None])
        age = v1.io.parse_example(x, {"age": tf.io.FixedLenFeature([1], tf.float32)})["age"]
        v1.saved_model.simple_save(session, str(path), {"examples": x}, {"double": age * 2})
    return path


def with_slots(path: Path) -> tuple[np.ndarray[Any, Any], Path]:
    """As Keras 2 saved a compiled model: a variable of the optimizer's, hung onto one of the model's.

    The object graph is edited to be what Keras 2 wrote; Keras 2 itself is not here.
    """
    weights = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    module = tf.Module()
    module.weights, module.optimizer = tf.Variable(weights), tf.Module()
    module.optimizer.momentum = tf.Variable(np.zeros_like(weights))
    specs = [spec("x", tf.float32, 3)]
    module.call = tf.function(lambda x: {"y": tf.matmul(x, module.weights)}, input_signature=specs)
    tf.saved_model.save(module, str(path), signatures={DEFAULT: module.call})
    content = SavedModel()
    content.ParseFromString((path / SAVED_MODEL).read_bytes())
    nodes = content.meta_graphs[0].object_graph_def.nodes
    children = {child.local_name: child.node_id for child in nodes[0].children}
    optimizer = nodes[children["optimizer"]]
    (momentum,) = (child.node_id for child in optimizer.children if child.local_name == "momentum")
    slot = optimizer.slot_variables.add()
    slot.original_variable_node_id, slot.slot_variable_node_id = children["weights"], momentum
    slot.slot_name = "momentum"
    (path / SAVED_MODEL).write_bytes(content.SerializeToString())
    return weights, path


def any_length(path: Path) -> Path:
    return saved(path, lambda x: {"mean": tf.reduce_mean(x, axis=1)}, spec("x", tf.float32, None))


def scalars(path: Path) -> Path:
    """One number a row, a number in a list, and a string; of the answers, one is a number."""
    module = tf.Module()
    module.two = tf.Variable(2.0)

    def call(a: Any, b: Any, c: Any) -> dict[str, Any]:
        return {"double": a * module.two, "greeting": tf.strings.join(["hi ", c]) if b is not None else c}

    module.call = tf.function(call, input_signature=[spec("a"), spec("b", tf.int64, 1), spec("c", tf.string)])
    tf.saved_model.save(module, str(path), signatures={DEFAULT: module.call})
    return path


def chooser(path: Path) -> Path:
    """Answers with the place of a class, a whole number."""
    return saved(path, lambda x: {"place": tf.cast(x > 1, tf.int64)}, tf.TensorSpec((None,), tf.float32, name="x"))


def unsigned(path: Path) -> Path:
    tf.saved_model.save(tf.Module(), str(path))
    return path


def fixed(path: Path) -> Path:
    return saved(path, lambda x: {"y": x}, tf.TensorSpec((1, 4), tf.float32, name="x"))


def complex_numbers(path: Path) -> Path:
    return saved(path, lambda x: {"y": x}, spec("x", tf.complex64))


def mixing(path: Path) -> Path:
    """Each row's answer depends on the others."""
    return saved(path, lambda x: {"y": x - tf.reduce_mean(x)}, spec("x", tf.float32, 4))


def random(path: Path) -> Path:
    return saved(path, lambda x: {"y": x + tf.random.normal([])}, spec("x", tf.float32, 4))


def scalar_answer(path: Path) -> Path:
    return saved(path, lambda x: {"y": tf.reduce_sum(x)}, spec("x", tf.float32, 4))


def several_signatures(path: Path) -> Path:
    module = tf.Module()
    module.one = tf.function(lambda x: {"y": x}, input_signature=[spec("x", tf.float32, 2)])
    module.two = tf.function(lambda x: {"y": x * 2}, input_signature=[spec("x", tf.float32, 2)])
    tf.saved_model.save(module, str(path), signatures={"one": module.one, "two": module.two})
    return path


def without_variables(path: Path) -> Path:
    scalars(path)
    for file in (path / "variables").iterdir():
        file.unlink()
    return path
