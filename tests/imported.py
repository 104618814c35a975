"""Bundles of models as somebody else exports them: every type of tensor, several inputs and outputs, one input alone.

Each is a tf.Module whose answers NumPy gives too. They are made without `hornpipe import`, which has its own tests.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract import bundle
from contract.bundle import SAVED_MODEL, VARIANTS, Bundle
from contract.kinds import TensorFeature
from contract.manifest import (
    Choice,
    DataFacts,
    DriftBaseline,
    GoldenExample,
    Manifest,
    TensorsOutput,
    Variant,
)
from contract.signature import TensorSpec
from contract.tensors import plain
from tests.kinds import variant
from tests.made import once

SIGNATURE = "serving_default"


def made(folders: pytest.TempPathFactory) -> dict[str, Bundle]:
    """All of them by name, made once for all workers of pytest-xdist."""
    folder = once(folders, "imported", lambda begun: [make(begun) for make in (types, plus, twice, vector)])
    return {name: bundle.read_version(folder, name, 1) for name in bundle.names(folder)}


def types(models: Path) -> Bundle:
    """Many inputs and outputs, in TensorFlow: what goes in as x, n, flag, name, half and wide comes out changed."""
    import tensorflow as tf

    inputs = [
        TensorFeature(name="x", dtype="float32", shape=(2,)),
        TensorFeature(name="n", dtype="int64", shape=()),
        TensorFeature(name="flag", dtype="bool", shape=()),
        TensorFeature(name="name", dtype="string", shape=()),
        TensorFeature(name="half", dtype="float16", shape=(2,)),
        TensorFeature(name="wide", dtype="bfloat16", shape=()),
    ]
    outputs = [
        TensorSpec(name="doubled", dtype="float32", shape=(-1, 2)),
        TensorSpec(name="next", dtype="int64", shape=(-1,)),
        TensorSpec(name="opposite", dtype="bool", shape=(-1,)),
        TensorSpec(name="greeting", dtype="string", shape=(-1,)),
        TensorSpec(name="name_bytes", dtype="string", shape=(-1,)),
        TensorSpec(name="quarter", dtype="float16", shape=(-1, 2)),
        TensorSpec(name="wider", dtype="bfloat16", shape=(-1,)),
    ]

    def change(x: Any, n: Any, flag: Any, name: Any, half: Any, wide: Any) -> dict[str, Any]:
        return {
            "doubled": x * 2,
            "next": n + 1,
            "opposite": tf.logical_not(flag),
            "greeting": tf.strings.join(["hi ", name]),
            "name_bytes": tf.identity(name),
            "quarter": half / 2,
            "wider": wide * 2,
        }

    row = {"x": [1.0, 2.0], "n": 7, "flag": True, "name": "Ada", "half": [0.5, 1.0], "wide": 1.5}
    answer = {
        "doubled": [2.0, 4.0],
        "next": 8,
        "opposite": False,
        "greeting": "hi Ada",
        "name_bytes": "Ada",
        "quarter": [0.25, 0.5],
        "wider": 3.0,
    }
    return publish(models, "types", change, inputs, outputs, row, answer)


def plus(models: Path) -> Bundle:
    """x and y, numbers and vectors; their sum and difference."""
    inputs = [
        TensorFeature(name="x", dtype="float32", shape=(3,)),
        TensorFeature(name="y", dtype="float32", shape=()),
    ]
    outputs = [
        TensorSpec(name="sum", dtype="float32", shape=(-1, 3)),
        TensorSpec(name="first", dtype="float32", shape=(-1,)),
    ]

    def add(x: Any, y: Any) -> dict[str, Any]:
        return {"sum": x + y[:, None], "first": x[:, 0]}

    return publish(
        models,
        "plus",
        add,
        inputs,
        outputs,
        {"x": [1.0, 2.0, 3.0], "y": 1.0},
        {"sum": [2.0, 3.0, 4.0], "first": 1.0},
        litert=True,
    )


def twice(models: Path) -> Bundle:
    """One float32 input [28, 28], doubled."""
    inputs = [TensorFeature(name="x", dtype="float32", shape=(28, 28))]
    outputs = [TensorSpec(name="twice", dtype="float32", shape=(-1, 28, 28))]
    value = (np.arange(784, dtype=np.float32) / 8).reshape(28, 28)
    golden = {"x": plain(value, "float32")}
    return publish(
        models, "twice", _twice, inputs, outputs, golden, {"twice": plain(value * 2, "float32")}, litert=True
    )


def vector(models: Path) -> Bundle:
    """One float32 input [3], doubled: what TensorFlow Serving's own example has."""
    inputs = [TensorFeature(name="x", dtype="float32", shape=(3,))]
    outputs = [TensorSpec(name="twice", dtype="float32", shape=(-1, 3))]
    return publish(
        models, "vector", _twice, inputs, outputs, {"x": [1.0, 2.0, 5.0]}, {"twice": [2.0, 4.0, 10.0]}, litert=True
    )


def _twice(x: Any) -> dict[str, Any]:
    return {"twice": x * 2}


def publish(
    models: Path,
    name: str,
    function: Any,
    inputs: list[TensorFeature],
    outputs: list[TensorSpec],
    row: dict[str, Any],
    answer: dict[str, Any],
    *,
    litert: bool = False,
) -> Bundle:
    """Export under `serving_default`, convert if asked to, write the manifest."""
    import tensorflow as tf

    module = tf.Module()
    types = {"string": tf.string, "bfloat16": tf.bfloat16}
    specs = [tf.TensorSpec((None, *f.shape), types.get(f.dtype, f.dtype), name=f.name) for f in inputs]
    module.answer = tf.function(function, input_signature=specs)
    with bundle.staged(models, name) as staging:
        tf.saved_model.save(module, str(staging), signatures={SIGNATURE: module.answer})
        variants = [_variant("savedmodel-float32", "savedmodel", ".", (staging / SAVED_MODEL).stat().st_size)]
        if litert:
            content = tf.lite.TFLiteConverter.from_saved_model(str(staging), signature_keys=[SIGNATURE]).convert()
            path = staging / VARIANTS / "litert-float32.tflite"
            path.parent.mkdir()
            path.write_bytes(content)
            variants.append(_variant("litert-float32", "litert", f"{VARIANTS}/{path.name}", len(content)))
        return bundle.publish(
            staging,
            lambda version: Manifest(
                name=name,
                version=version,
                created=datetime.now(UTC),
                code_revision=None,
                task="tensors",
                config={},
                data=DataFacts(fingerprint="", source="here", train_rows=0, validation_rows=0, test_rows=1),
                features=tuple(inputs),
                output=TensorsOutput(tensors=tuple(outputs)),
                variants=tuple(variants),
                chosen=Choice(variant=variants[-1].name, why="it is the last"),
                drift=DriftBaseline(rows=0, inputs={}, outputs={}, labels={}),
                golden=(GoldenExample(row=row, tensors=answer),),
            ),
        )


def _variant(name: str, runtime: str, path: str, size: int) -> Variant:
    return variant(name, runtime, path, size).model_copy(update={"signature": SIGNATURE})
