"""Real bundles that answer by a rule written here, so that what a gate should find in them is known."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tensorflow as tf

from contract import bundle
from contract.bundle import VARIANTS, Bundle
from contract.features import Encoded, Encoder
from contract.manifest import BinaryOutput, CategoryFeature, Feature, Manifest, NumberFeature, Output
from tests.kinds import facts, variant
from training import gate
from training.exporting.silence import quiet
from training.gate import HeldOut
from training.judging.answers import Answers
from training.task import TASKS

NAME = "ruled"
X = NumberFeature(name="x", required=True, minimum=-4, maximum=4, example=0)
Z = NumberFeature(name="z", required=False, minimum=-4, maximum=4, example=0)
C = CategoryFeature(name="c", required=True, vocabulary=("a", "b", "rare"), example="a")
FEATURES: tuple[Feature, ...] = (X, Z, C)
RARE = 4  # its code
YES_OR_NO = BinaryOutput(classes=("no", "yes"), positive="yes", threshold=0.5)
TASK_OF = {"probability": "binary", "probabilities": "multiclass", "value": "regression"}

Row = dict[str, Any]
# Numbers [n, 2] and codes [n, 1] to scores.
Rule = Callable[[Any, Any], Any]


def right(numbers: Any, codes: Any) -> Any:
    """The probability by which `held_out` draws its labels."""
    return tf.sigmoid(2 * numbers[:, 0])


def rows(count: int, seed: int = 0) -> list[Row]:
    """One in twenty is rare."""
    random = np.random.default_rng(seed)
    x, z = random.normal(size=(2, count)).round(3)
    x = np.where(x == 0, 0.001, x)  # rows at 0.5, where a processor's rounding decides the label
    kinds = random.choice(["a", "b", "rare"], count, p=[0.5, 0.45, 0.05]).tolist()
    return [{"x": x, "z": z, "c": c} for x, z, c in zip(x.tolist(), z.tolist(), kinds, strict=True)]


def held_out(count: int = 3000, features: tuple[Feature, ...] = FEATURES, fewest: int = 100) -> HeldOut:
    raw, encoder = rows(count), Encoder(features)
    encoded = encoder.encode(raw)
    assert isinstance(encoded, Encoded)
    x, random = encoded.numbers[:, 0], np.random.default_rng(1)
    labels = (random.random(count) < 1 / (1 + np.exp(-2 * x))).astype(np.float32)
    return HeldOut(TASKS["binary"], raw, labels, gate.slice_rows(encoder, encoded, fewest), seed=0)


def publish(
    models: Path,
    rule: Rule = right,
    features: tuple[Feature, ...] = FEATURES,
    output: Output = YES_OR_NO,
    golden: list[Row] | None = None,
    **changes: Any,
) -> Bundle:
    """The next version of `ruled`, on LiteRT alone; `changes` are to its manifest."""
    encoder, raw = Encoder(features), golden or rows(40, seed=2)
    encoded = encoder.encode(raw)
    assert isinstance(encoded, Encoded), encoded
    answers = np.asarray(rule(encoded.numbers, encoded.categories))
    with bundle.staged(models, NAME) as staging:
        (staging / VARIANTS).mkdir()
        content = _convert(rule, output, encoder)
        (staging / VARIANTS / "litert-float32.tflite").write_bytes(content)
        only = variant("litert-float32", "litert", f"{VARIANTS}/litert-float32.tflite", len(content))
        known = facts(NAME, encoder, encoded, raw, answers, output, [only]) | {"task": TASK_OF[output.name]}
        return bundle.publish(staging, lambda version: Manifest(version=version, **known).model_copy(update=changes))


def answers(*arguments: Any, **changes: Any) -> Answers:
    return Answers(publish(*arguments, **changes))


def _convert(rule: Rule, output: Output, encoder: Encoder) -> bytes:
    numbers = tf.TensorSpec((None, len(encoder.number_features)), tf.float32, name="numbers")
    categories = tf.TensorSpec((None, len(encoder.category_features)), tf.int32, name="categories")
    module = tf.Module()
    module.answer = tf.function(lambda numbers, categories: {output.name: rule(numbers, categories)})
    with TemporaryDirectory() as scratch, quiet():
        concrete = module.answer.get_concrete_function(numbers=numbers, categories=categories)
        tf.saved_model.save(module, scratch, signatures={"encoded": concrete})
        return tf.lite.TFLiteConverter.from_saved_model(scratch, signature_keys=["encoded"]).convert()
