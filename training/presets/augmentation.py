"""Random shifts, turns, shears, zooms, flips and noise on training pictures."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training.presets.inputs import Tensor

# Pictures with a shorter side are read between their pixels with cubic curves, through an enlargement by a factor of
# three: straight lines would blur them so much that the network trains on other pictures than it is asked about.
# (Digits of 8 x 8 pixels: 0.973 of held-out rows right with straight lines, 0.982 with cubic ones.)
SMALL_SIDE = 32
ENLARGEMENT = 3


@keras.saving.register_keras_serializable(package="hornpipe")
class Augmentation(keras.layers.Layer):  # type: ignore[misc]  # keras has no type information
    """Pictures [n, height, width, channels] of any dtype -> float32 of the same shape, each moved in its own way while
    training and otherwise as it was.

    Every picture is shifted by up to `shift` of its size, turned by up to `rotate` of a full turn, sheared by up to
    `shear` of its height, each side scaled by a factor of 1 - `zoom` to 1 + `zoom`, and with `flip` mirrored half the
    time: all in one resampling, which blurs less than one layer for each would. What comes in from outside repeats the
    edge. `noise` is the standard deviation of normal noise on every value then, in the pictures' own unit. Adversarial
    training perturbs what leaves this layer (training/evaluation/adversarial.py).
    """

    def __init__(
        self,
        *,
        shift: float = 0.0,
        rotate: float = 0.0,
        shear: float = 0.0,
        zoom: float = 0.0,
        flip: bool = False,
        noise: float = 0.0,
        seed: int | None = None,
        **options: Any,  # noqa: ANN401  # Keras' own options
    ) -> None:
        super().__init__(**{"dtype": "float32"} | options)
        self.shift, self.rotate, self.shear, self.zoom = shift, rotate, shear, zoom
        self.flip, self.noise = flip, noise
        self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, pictures: Tensor, training: bool = False) -> Tensor:
        pictures = keras.ops.cast(pictures, "float32")
        if not training:
            return pictures
        height, width = pictures.shape[1:3]
        factor = ENLARGEMENT if min(height, width) < SMALL_SIDE else 1
        enlarged = pictures
        if factor > 1:
            enlarged = tf.image.resize(pictures, (height * factor, width * factor), method="bicubic")
        moved = tf.raw_ops.ImageProjectiveTransformV3(
            images=enlarged,
            transforms=self._transforms(pictures, factor),
            output_shape=(height, width),
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="NEAREST",
        )
        noise = keras.random.normal(keras.ops.shape(pictures), stddev=self.noise, seed=self.seed_generator)
        return tf.ensure_shape(moved + noise, pictures.shape)

    def _transforms(self, pictures: Tensor, factor: int) -> Tensor:
        """[n, 8]: for every picture the affine map from a pixel of the result to where it comes from, about the
        middle. (x, y) of the result is taken from (a0 x + a1 y + a2, b0 x + b1 y + b2) of the enlarged picture."""
        rows = keras.ops.shape(pictures)[0]
        height, width = (float(size) for size in pictures.shape[1:3])
        angle, shear = self._uniform(rows, 2 * np.pi * self.rotate), self._uniform(rows, self.shear)
        across, down = 1 / (1 + self._uniform(rows, self.zoom)), 1 / (1 + self._uniform(rows, self.zoom))
        if self.flip:
            across *= keras.ops.sign(self._uniform(rows, 1.0))
        cosine, sine = keras.ops.cos(angle), keras.ops.sin(angle)
        a0, a1, b0, b1 = across * cosine, across * (shear - sine), down * sine, down * cosine
        x, y = (width - 1) / 2, (height - 1) / 2
        a2 = x - a0 * x - a1 * y + self._uniform(rows, self.shift * width)
        b2 = y - b0 * x - b1 * y + self._uniform(rows, self.shift * height)
        none = keras.ops.zeros_like(a0)
        # Pixel i of the picture lies in the middle of the `factor` pixels that it has become.
        a2, b2 = a2 + (factor - 1) / (2 * factor), b2 + (factor - 1) / (2 * factor)
        return keras.ops.stack([*(factor * part for part in (a0, a1, a2, b0, b1, b2)), none, none], axis=1)

    def _uniform(self, rows: Tensor, most: float) -> Tensor:
        return keras.random.uniform((rows,), -most, most, seed=self.seed_generator)

    def get_config(self) -> dict[str, Any]:
        own = {key: getattr(self, key) for key in ("shift", "rotate", "shear", "zoom", "flip", "noise")}
        return {**super().get_config(), **own, "seed": self.seed_generator.get_config()["seed"]}
