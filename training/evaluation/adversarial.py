"""Small changes of the inputs that make a network's loss as large as they can: FGSM and PGD, in the maximum norm.

Images are changed by up to epsilon of their range and stay in it; numbers by up to epsilon standard deviations.
Categories and texts stay as they are, and so does a missing number. All of it is TensorFlow, for the inside of a
compiled function; the random start is a function of its seed alone, so that a resumed run takes the same one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from contract.features import Encoder
from contract.manifest import ImageFeature
from training.errors import ConfigError
from training.presets.augmentation import Augmentation
from training.rows import Rows
from training.sections import AdversarialSection

Tensor = Any  # tf.Tensor has no type information
Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Scales:
    """The unit of epsilon for each kind of input that can be perturbed: the range of the image, the standard deviation
    of each number (0 for one that is constant, which is then left alone)."""

    image: tuple[float, float] | None
    deviations: NDArray[np.float32]

    @staticmethod
    def of(encoder: Encoder, sample: Rows) -> "Scales":
        """From training rows."""
        image = next((feature for feature in encoder.features if isinstance(feature, ImageFeature)), None)
        return Scales(
            None if image is None else (image.minimum, image.maximum),
            np.nanstd(sample.encoded.numbers, axis=0, dtype=np.float64).astype(np.float32),
        )

    @property
    def attackable(self) -> bool:
        """Whether there is anything to perturb."""
        return self.image is not None or bool((self.deviations > 0).any())


@dataclass(frozen=True)
class Attackable:
    """A model in the two parts between which perturbations go; they share its layers and weights.

    `prepare(inputs, training)` casts the image to float32 and augments it: what is perturbed must be what the network
    then sees, since an augmentation afterwards would smooth the perturbation away. `network` takes that, where the
    model itself would cast an image back to integers, and gives the logits.
    """

    prepare: Callable[[Inputs, bool], Inputs]
    network: keras.Model


def attackable(model: keras.Model) -> Attackable:
    """Split a functional model of packed inputs -> logits."""
    augmentations = [layer for layer in model.layers if isinstance(layer, Augmentation)]

    def prepare(inputs: Inputs, training: bool) -> Inputs:
        if "image" not in inputs:
            return inputs
        image = tf.cast(inputs["image"], tf.float32)
        for augmentation in augmentations:
            image = augmentation(image, training=training)
        return inputs | {"image": image}

    floats = {
        name: keras.Input(tensor.shape[1:], dtype="float32" if name == "image" else tensor.dtype, name=name)
        for name, tensor in model.input.items()
    }
    network = keras.models.clone_model(
        model,
        input_tensors=floats,
        # The very same layers, and so the same weights.
        clone_function=lambda layer: keras.layers.Identity() if layer in augmentations else layer,
    )
    return Attackable(prepare, network)


def perturb(
    logits_of: Callable[[Inputs], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    inputs: Inputs,
    labels: Tensor,
    section: AdversarialSection,
    scales: Scales,
    seed: Tensor,
    epsilon: Tensor | None = None,
) -> Inputs:
    """`inputs` changed by at most epsilon so that `loss(labels, logits)`, a value a row or their mean, is large.

    fgsm: x + epsilon * sign(gradient) (Goodfellow, Shlens, Szegedy: Explaining and Harnessing Adversarial Examples,
    2015, section 4). pgd: `steps` such steps of 2.5 * epsilon / steps from a uniformly random point of the ball, back
    into it after each (Madry et al.: Towards Deep Learning Models Resistant to Adversarial Attacks, 2018, section 2.1;
    that step reaches every point of the ball from every start). `image` is float32 (Attackable); `seed` is int32 [2].
    `epsilon` replaces the section's, for one compiled function of many. Raises ConfigError when no gradient comes
    through to an input.
    """
    bounds = _bounds(inputs, section.epsilon if epsilon is None else epsilon, scales)
    started = {name: inputs[name] for name in bounds}
    if section.attack == "fgsm":
        return inputs | _step(logits_of, loss, inputs, started, labels, bounds, 1.0)
    length = 2.5 / section.steps
    # A loop of the graph: unrolled, twenty steps through a deep network take a minute to trace.
    moved: Inputs
    (moved,) = tf.while_loop(
        lambda _: True,
        lambda moved: (_step(logits_of, loss, inputs, moved, labels, bounds, length),),
        (_random_start(started, bounds, seed),),
        maximum_iterations=section.steps,
    )
    return inputs | moved


@dataclass(frozen=True)
class _Bounds:
    """What an input may become: `low` to `high`; `radius` is epsilon in its own unit."""

    low: Tensor
    high: Tensor
    radius: Tensor

    def clip(self, values: Tensor) -> Tensor:
        # Where the bounds are NaN the number is missing, and stays so.
        return tf.where(tf.math.is_nan(self.low), self.low, tf.clip_by_value(values, self.low, self.high))


def _bounds(inputs: Inputs, epsilon: Tensor, scales: Scales) -> dict[str, _Bounds]:
    bounds = {}
    if "image" in inputs and scales.image is not None:
        low, high = scales.image
        radius, image = tf.cast(epsilon * (high - low), tf.float32), inputs["image"]
        # A pixel that is outside the range already may stay where it is.
        floor, ceiling = tf.minimum(image, low), tf.maximum(image, high)
        bounds["image"] = _Bounds(tf.maximum(image - radius, floor), tf.minimum(image + radius, ceiling), radius)
    if "numbers" in inputs:
        radius, numbers = tf.cast(epsilon * scales.deviations, tf.float32), inputs["numbers"]
        bounds["numbers"] = _Bounds(numbers - radius, numbers + radius, radius)
    return bounds


def _random_start(started: Inputs, bounds: dict[str, _Bounds], seed: Tensor) -> Inputs:
    return {
        name: bounds[name].clip(value + bounds[name].radius * tf.random.stateless_uniform(tf.shape(value), seed, -1, 1))
        for name, value in started.items()
    }


def _step(
    logits_of: Callable[[Inputs], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    inputs: Inputs,
    moved: Inputs,
    labels: Tensor,
    bounds: dict[str, _Bounds],
    length: float,
) -> Inputs:
    """One step of `length` radii in the direction of the gradient's sign."""
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(moved)
        # The sum: a mean over many rows may be too small for half precision, and the sign is the same.
        total = tf.reduce_sum(loss(labels, logits_of(inputs | moved)))
    gradients = tape.gradient(total, moved)
    lost = [f"adversarial: no gradient comes through to {name}" for name in moved if gradients[name] is None]
    if lost:
        raise ConfigError("model", [f"{line}: some layer casts it to integers" for line in lost])
    return {
        name: bounds[name].clip(value + length * bounds[name].radius * _sign(gradients[name]))
        for name, value in moved.items()
    }


def _sign(gradient: Tensor) -> Tensor:
    """A gradient of NaN (that of a missing number, in networks that divide by it) is none."""
    return tf.sign(tf.where(tf.math.is_nan(gradient), tf.zeros_like(gradient), gradient))
