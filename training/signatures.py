"""From logits to what clients see: named scores, and the two signatures that every exported model has."""

from typing import Any

import keras
import tensorflow as tf

from contract.features import Encoder
from contract.manifest import CategoryFeature, Feature, ImageFeature, NumberFeature, TextFeature
from training.presets.inputs import Tensor
from training.task import Task

Signature = list[tf.TensorSpec]


def with_scores(logits: keras.Model, task: Task, temperature: float = 1.0) -> keras.Model:
    """Packed inputs -> {"probability": [n]}, {"probabilities": [n, classes]} or {"value": [n]}, float32.

    `temperature` divides the logits first (Guo et al.: On Calibration of Modern Neural Networks, 2017, section 4.2).
    Raises ValueError for one on a regression, which has nothing to calibrate.
    """
    if task.name == "regression" and temperature != 1.0:
        raise ValueError(f"a regression has no temperature, got {temperature}")
    output = logits.output if temperature == 1.0 else logits.output / temperature
    return keras.Model(logits.input, {task.output: task.activation(output)}, name="encoded")


def with_raw_inputs(scores: keras.Model, encoder: Encoder) -> keras.Model:
    """The same network on named raw features: float32 [n] with NaN, string [n] with "" for missing, pictures."""
    inputs = {feature.name: _raw_input(feature) for feature in encoder.features}
    columns: dict[str, list[Tensor]] = {"numbers": [], "categories": [], "image": [], "texts": []}
    for feature in encoder.features:
        tensor = inputs[feature.name]
        match feature:
            case NumberFeature():
                columns["numbers"].append(tensor)
            case CategoryFeature():
                columns["categories"].append(keras.ops.cast(_lookup(feature)(tensor), "int32"))
            case TextFeature():
                columns["texts"].append(tensor)
            case ImageFeature():
                columns["image"].append(tensor)
    packed = {name: _packed(name, tensors) for name, tensors in columns.items() if tensors}
    return keras.Model(inputs, scores(packed), name="raw")


def packed_signature(encoder: Encoder) -> Signature:
    """The inputs of the signature `encoded`, in order: named like the fields of contract.features.Encoded."""
    specs = []
    if encoder.number_features:
        specs.append(tf.TensorSpec((None, len(encoder.number_features)), tf.float32, name="numbers"))
    if encoder.category_features:
        specs.append(tf.TensorSpec((None, len(encoder.category_features)), tf.int32, name="categories"))
    image = next((feature for feature in encoder.features if isinstance(feature, ImageFeature)), None)
    if image is not None:
        specs.append(tf.TensorSpec((None, *image.shape), image.dtype, name="image"))
    texts = sum(isinstance(feature, TextFeature) for feature in encoder.features)
    if texts:
        specs.append(tf.TensorSpec((None, texts), tf.string, name="texts"))
    return specs


def raw_signature(encoder: Encoder) -> Signature:
    """The inputs of the signature `serving_default`: one a feature, in the manifest's order."""
    return [tf.TensorSpec((None, *each.shape), each.dtype, name=each.name) for each in encoder.features]


def _raw_input(feature: Feature) -> Tensor:
    return keras.Input(feature.shape, dtype=feature.dtype, name=feature.name)


def _packed(name: str, tensors: list[Tensor]) -> Any:  # noqa: ANN401  # a Keras tensor
    """Columns side by side; there is only one image."""
    return tensors[0] if name == "image" else keras.ops.stack(tensors, axis=-1)


def _lookup(feature: CategoryFeature) -> keras.layers.StringLookup:
    """String -> code as in contract.features: 0 unseen, 1 for "" (missing), then the vocabulary."""
    vocabulary = ["", *feature.vocabulary]
    return keras.layers.StringLookup(
        vocabulary=vocabulary, num_oov_indices=1, mask_token=None, name=f"{feature.name}_code"
    )
