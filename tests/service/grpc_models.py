"""Models for the protocols: one with every type of input and output, and one that a gate can hold."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from contract import bundle, routing
from contract.bundle import SAVED_MODEL
from contract.kinds import TensorFeature
from contract.manifest import (
    Choice,
    DataFacts,
    DriftBaseline,
    GoldenExample,
    Latency,
    Manifest,
    TensorsOutput,
    Variant,
)
from contract.signature import UNKNOWN, TensorSpec
from contract.tensors import plain
from tests.contract.networks import save

Tensors = dict[str, NDArray[Any]]

MIXED, HELD = "mixed", "held"
WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 8


class Mixed(tf.Module):
    """Five inputs of five types to five outputs of five types."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(WEIGHTS)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, "word"),
            tf.TensorSpec([None, 4], tf.float32, "x"),
            tf.TensorSpec([None, 2], tf.float16, "h"),
            tf.TensorSpec([None], tf.int64, "n"),
            tf.TensorSpec([None], tf.bool, "flag"),
        ]
    )
    def serve(self, word: Any, x: Any, h: Any, n: Any, flag: Any) -> dict[str, Any]:
        return {
            "upper": tf.strings.upper(word),
            "product": x @ self.weights,
            "half": h + tf.cast(1, tf.float16),
            "next": tf.where(flag, n, -n),
            "not": tf.logical_not(flag),
        }


class Held(tf.Module):
    """`next` [n] is `n` [n] and one."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "n")])
    def serve(self, n: Any) -> dict[str, Any]:
        return {"next": n + 1}


def inputs_of_mixed(count: int) -> Tensors:
    random = np.random.default_rng(count)
    return {
        "word": np.array([("red", "gréen", "")[i % 3].encode() for i in range(count)], object),
        "x": random.normal(size=(count, 4)).astype(np.float32),
        "h": random.normal(size=(count, 2)).astype(np.float16),
        "n": random.integers(-(2**62), 2**62, count),
        "flag": np.arange(count) % 2 == 0,
    }


def answers_of_mixed(inputs: Tensors) -> Tensors:
    """By NumPy."""
    return {
        "upper": np.array([each.upper() for each in inputs["word"]], object),
        "product": inputs["x"] @ WEIGHTS,
        "half": inputs["h"] + np.float16(1),
        "next": np.where(inputs["flag"], inputs["n"], -inputs["n"]),
        "not": ~inputs["flag"],
    }


def held(models: Path) -> None:
    """In LiteRT, which is there at once; on threads, since it is said to be slow."""
    numbers = np.array([1, 2, 3])
    with bundle.staged(models, HELD) as staging:
        save(Held(), staging, "serving_default")
        converter = tf.lite.TFLiteConverter.from_saved_model(str(staging), signature_keys=["serving_default"])
        file = staging / "held.tflite"
        file.write_bytes(converter.convert())
        _publish(HELD, models, staging, _variant("litert", file), {"n": numbers}, {"next": numbers + 1})


def mixed(models: Path) -> None:
    inputs = inputs_of_mixed(3)
    with bundle.staged(models, MIXED) as staging:
        save(Mixed(), staging, "serving_default")
        variant = _variant("savedmodel", staging / SAVED_MODEL)
        _publish(MIXED, models, staging, variant, inputs, answers_of_mixed(inputs))


def _publish(name: str, models: Path, staging: Path, variant: Variant, inputs: Tensors, answers: Tensors) -> None:
    """As importing would, which takes longer; in production."""
    known = _facts(name, variant, inputs, answers)
    bundle.publish(staging, lambda version: Manifest(version=version, **known))
    routing.promote(models, name, 1, by="test", why="fixture")


def _variant(runtime: Any, file: Path) -> Variant:
    return Variant(
        name=f"{runtime}-original",
        runtime=runtime,
        path="." if runtime == "savedmodel" else file.name,
        signature="serving_default",
        size=file.stat().st_size,
        largest_difference=0,
        tolerance=1e-3,
        metrics={},
        latency={rows: Latency(p50=500, p99=900) for rows in ("1", "32")},
    )


def _facts(name: str, variant: Variant, inputs: Tensors, answers: Tensors) -> dict[str, Any]:
    features = tuple(TensorFeature(name=key, dtype=dtype(each), shape=each.shape[1:]) for key, each in inputs.items())
    outputs = tuple(TensorSpec(name=key, dtype=dtype(a), shape=(UNKNOWN, *a.shape[1:])) for key, a in answers.items())
    golden = [
        GoldenExample(
            row={key: plain(each[i, ...], dtype(each)) for key, each in inputs.items()},
            tensors={key: plain(each[i, ...], dtype(each)) for key, each in answers.items()},
        )
        for i in range(len(next(iter(inputs.values()))))
    ]
    return {
        "name": name,
        "created": datetime.now(UTC),
        "code_revision": None,
        "task": "tensors",
        "config": {},
        "data": DataFacts(fingerprint="", source="here", train_rows=0, validation_rows=0, test_rows=0),
        "features": features,
        "output": TensorsOutput(tensors=outputs),
        "variants": (variant,),
        "chosen": Choice(variant=variant.name, why="it is the only one"),
        "drift": DriftBaseline(rows=0, inputs={}, outputs={}, labels={}),
        "golden": tuple(golden),
    }


def dtype(tensor: NDArray[Any]) -> Any:
    return "string" if tensor.dtype == object else tensor.dtype.name
