"""Random shifts, turns, zooms and flips of training pictures."""

from typing import Any

import keras
import numpy as np

from training.presets.inputs import Tensor


@keras.saving.register_keras_serializable(package="hornpipe")
class Augmentation(keras.layers.Layer):  # type: ignore[misc]  # keras has no type information
    """Pictures [n, height, width, channels] of any dtype -> float32 of the same shape, each moved in its own way while
    training and otherwise as it was.

    Every picture is shifted by up to `shift` of its size, turned by up to `rotate` of a full turn, scaled by a factor
    of 1 - `zoom` to 1 + `zoom`, and with `flip` mirrored half the time: all in one resampling, which blurs small
    pictures less than one layer for each would. What comes in from outside repeats the edge. Adversarial training
    perturbs what leaves this layer (training/adversarial.py).
    """

    def __init__(
        self,
        *,
        shift: float = 0.0,
        rotate: float = 0.0,
        zoom: float = 0.0,
        flip: bool = False,
        seed: int | None = None,
        **options: Any,  # noqa: ANN401  # Keras' own options
    ) -> None:
        super().__init__(**{"dtype": "float32"} | options)
        self.shift, self.rotate, self.zoom, self.flip = shift, rotate, zoom, flip
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.supports_masking = True

    def call(self, pictures: Tensor, training: bool = False) -> Tensor:
        pictures = keras.ops.cast(pictures, "float32")
        if not training:
            return pictures
        return keras.ops.image.affine_transform(
            pictures, self._transforms(pictures), interpolation="bilinear", fill_mode="nearest"
        )

    def _transforms(self, pictures: Tensor) -> Tensor:
        """[n, 8]: for every picture the affine map from a pixel of the result to where it comes from, about the
        middle. (x, y) of the result is taken from (a0 x + a1 y + a2, b0 x + b1 y + b2)."""
        rows = keras.ops.shape(pictures)[0]
        height, width = (float(size) for size in pictures.shape[1:3])
        angle = self._uniform(rows, 2 * np.pi * self.rotate)
        scale = 1 / (1 + self._uniform(rows, self.zoom))
        mirror = keras.ops.sign(self._uniform(rows, 1.0)) if self.flip else keras.ops.ones((rows,))
        cosine, sine = keras.ops.cos(angle) * scale, keras.ops.sin(angle) * scale
        a0, a1, b0, b1 = mirror * cosine, -mirror * sine, sine, cosine
        x, y = (width - 1) / 2, (height - 1) / 2
        a2 = x - a0 * x - a1 * y + self._uniform(rows, self.shift * width)
        b2 = y - b0 * x - b1 * y + self._uniform(rows, self.shift * height)
        none = keras.ops.zeros_like(a0)
        return keras.ops.stack([a0, a1, a2, b0, b1, b2, none, none], axis=1)

    def _uniform(self, rows: Tensor, most: float) -> Tensor:
        return keras.random.uniform((rows,), -most, most, seed=self.seed_generator)

    def get_config(self) -> dict[str, Any]:
        own = {"shift": self.shift, "rotate": self.rotate, "zoom": self.zoom, "flip": self.flip}
        return {**super().get_config(), **own, "seed": self.seed_generator.get_config()["seed"]}
