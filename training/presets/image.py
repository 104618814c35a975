"""The preset `image`: a small residual network, with augmentation and scaling in the graph."""

import keras
import numpy as np

from training.presets.augmentation import Augmentation
from training.presets.inputs import ModelInputs, Tensor
from training.sections import ImageModel

# A stage is half the size of the one before down to this many pixels a side: there is nothing left to halve below.
SMALLEST_SIDE = 4
# Larger pictures are halved at the stem, once or twice: most of the work would be there, and least of the meaning.
HALVED_FROM = 64
# A step's own statistics weigh 0.1: with Keras' 0.01 short trainings end before the averages have arrived.
MOMENTUM = 0.9
FITTED_PICTURES = 5_000


def build(inputs: ModelInputs, section: ImageModel) -> keras.Model:
    """Packed image -> logits."""
    packed = inputs.packed()
    hidden = packed["image"]
    if section.augment:
        hidden = _augmented(hidden, inputs, section)
    hidden = _stem(standardised(hidden, inputs), section.widths[0])
    for stage, width in enumerate(section.widths):
        for block in range(section.blocks):
            halve = stage > 0 and block == 0 and min(hidden.shape[1:3]) >= 2 * SMALLEST_SIDE
            hidden = _residual(hidden, width, 2 if halve else 1, f"stage_{stage}_block_{block}")
    hidden = keras.layers.GlobalAveragePooling2D(name="pool")(hidden)
    hidden = keras.layers.Dropout(section.dropout, name="dropout")(hidden)
    return keras.Model(packed, inputs.logits(hidden), name="image")


def _augmented(pictures: Tensor, inputs: ModelInputs, section: ImageModel) -> Tensor:
    feature = inputs.image
    assert feature is not None  # noqa: S101  # for the type checker: the config has this preset for images alone
    movements = section.model_dump(include={"shift", "rotate", "shear", "zoom", "flip"})
    noise = section.noise * (feature.maximum - feature.minimum)
    return Augmentation(**movements, noise=noise, name="augmentation")(pictures)


def standardised(pictures: Tensor, inputs: ModelInputs) -> Tensor:
    """float32 of mean 0 and deviation 1 in every channel, by the training pictures."""
    sample = inputs.sample.encoded.image
    assert sample is not None  # noqa: S101  # for the type checker: the config has this preset for images alone
    sample = sample[:: max(1, len(sample) // FITTED_PICTURES)]
    mean, deviation = sample.mean((0, 1, 2), np.float64), sample.std((0, 1, 2), np.float64)
    scale = 1 / np.where(deviation > 0, deviation, 1)
    offset = -mean * scale
    return keras.layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32", name="standardised")(pictures)


def _stem(hidden: Tensor, width: int) -> Tensor:
    side = min(hidden.shape[1:3])
    hidden = _convolution(hidden, width, 2 if side >= HALVED_FROM else 1, "stem", relu=True)
    if side >= 2 * HALVED_FROM:
        hidden = keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(hidden)
    return hidden


def _residual(hidden: Tensor, width: int, stride: int, name: str) -> Tensor:
    """A basic block of He et al., Deep Residual Learning for Image Recognition, 2016, figure 2."""
    shortcut = hidden
    if stride > 1 or hidden.shape[-1] != width:
        shortcut = _convolution(hidden, width, stride, f"{name}_shortcut", size=1)
    hidden = _convolution(hidden, width, stride, f"{name}_a", relu=True)
    hidden = _convolution(hidden, width, 1, f"{name}_b")
    return keras.layers.ReLU(name=f"{name}_relu")(keras.layers.Add(name=f"{name}_add")([shortcut, hidden]))


def _convolution(hidden: Tensor, width: int, stride: int, name: str, *, size: int = 3, relu: bool = False) -> Tensor:
    """A convolution without bias (the normalisation has one), batch normalisation, and perhaps ReLU."""
    hidden = keras.layers.Conv2D(
        width, size, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
    )(hidden)
    hidden = keras.layers.BatchNormalization(momentum=MOMENTUM, name=f"{name}_normalisation")(hidden)
    return keras.layers.ReLU(name=f"{name}_relu")(hidden) if relu else hidden
