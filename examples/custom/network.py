"""Your own Keras code as the network: wide and deep, as a subclassed model.

The wide half is one weight for each pair of categories (which carrier on which route), hashed into buckets: it learns
by heart what is frequent. The deep half generalises over the numbers. Cheng et al., Wide & Deep Learning for
Recommender Systems, 2016.
"""

from typing import Any

import keras

from training.presets.inputs import ModelInputs

Tensor = Any  # keras has no type information


class WideAndDeep(keras.Model):
    """{"numbers": float32 [n, F], "categories": int32 [n, C]} -> logits [n, 1]."""

    def __init__(self, inputs: ModelInputs, buckets: int, width: int) -> None:
        super().__init__()
        self.buckets = buckets
        self.scale = keras.layers.Normalization()
        self.scale.adapt(_without_missing(inputs.sample.encoded.numbers))
        columns = range(len(inputs.encoder.category_features))
        self.pairs = [(a, b) for a in columns for b in columns if a < b]
        self.wide = [keras.layers.Embedding(buckets, 1, embeddings_initializer="zeros") for _ in self.pairs]
        self.deep = keras.Sequential(
            [keras.layers.Dense(width, activation="relu", kernel_initializer="he_normal") for _ in range(2)]
        )
        self.last = keras.layers.Dense(1)

    def call(self, inputs: dict[str, Tensor], training: bool = False) -> Tensor:
        codes = inputs["categories"]
        # 31 and 17 are as good as any: they only keep most pairs apart.
        crossed = [(codes[:, a] * 31 + codes[:, b] * 17) % self.buckets for a, b in self.pairs]
        wide = sum(layer(bucket) for layer, bucket in zip(self.wide, crossed, strict=True))
        return wide + self.last(self.deep(self.scale(_without_missing(inputs["numbers"])), training=training))


def build(inputs: ModelInputs, *, buckets: int = 2000, width: int = 64) -> keras.Model:
    """What `builder = "examples.custom.network:build"` calls; `options` in the config become its arguments."""
    return WideAndDeep(inputs, buckets, width)


def _without_missing(numbers: Tensor) -> Tensor:
    """Missing numbers (NaN) become 0: it is up to the network what they mean."""
    return keras.ops.where(keras.ops.isnan(numbers), 0.0, numbers)
