"""The preset `text`: words into embeddings, a convolution over them, and what of it is strongest and usual."""

from typing import Any

import keras
import numpy as np

from training.presets.inputs import ModelInputs, Tensor
from training.sections import TextModel

# Words that a filter of the convolution sees at once.
WINDOW = 3
PADDING = 0


@keras.saving.register_keras_serializable(package="hornpipe")
class PooledWords(keras.layers.Layer):  # type: ignore[misc]  # keras has no type information
    """(values [n, words, width] that are not negative, words int [n, words]) -> [n, 2 * width]: the largest and the
    mean of each filter over the words that are there, 0 for an empty text."""

    def call(self, values: Tensor, words: Tensor) -> Tensor:
        there = keras.ops.expand_dims(keras.ops.cast(keras.ops.not_equal(words, PADDING), values.dtype), -1)
        values = values * there
        count = keras.ops.maximum(keras.ops.sum(there, axis=1), 1)
        return keras.ops.concatenate([keras.ops.max(values, axis=1), keras.ops.sum(values, axis=1) / count], axis=-1)


def build(inputs: ModelInputs, section: TextModel) -> keras.Model:
    """Packed texts -> logits. Each text feature has a vocabulary, embeddings and filters of its own."""
    packed = inputs.packed()
    texts = inputs.sample.encoded.texts
    assert texts is not None  # noqa: S101  # for the type checker: the config has this preset for texts alone
    parts = [_feature(packed["texts"][:, i], texts[:, i], section, i) for i in range(len(inputs.texts))]
    hidden = keras.layers.Concatenate(name="inputs")(parts) if len(parts) > 1 else parts[0]
    hidden = keras.layers.Dropout(section.dropout, name="dropout_words")(hidden)
    hidden = keras.layers.Dense(section.hidden, activation="relu", kernel_initializer="he_normal", name="hidden")(
        hidden
    )
    hidden = keras.layers.Dropout(section.dropout, name="dropout")(hidden)
    return keras.Model(packed, inputs.logits(hidden), name="text")


def _feature(text: Tensor, sample: np.ndarray[Any, Any], section: TextModel, i: int) -> Tensor:
    """string [n] -> float32 [n, 2 * width]."""
    vectorization = keras.layers.TextVectorization(
        section.vocabulary_size, output_sequence_length=section.words, name=f"words_{i}"
    )
    vectorization.adapt([str(value) for value in sample])
    words = vectorization(text)
    embedding = keras.layers.Embedding(vectorization.vocabulary_size(), section.width, name=f"embed_{i}")
    filters = keras.layers.Conv1D(
        section.width, WINDOW, padding="same", activation="relu", kernel_initializer="he_normal", name=f"filters_{i}"
    )
    return PooledWords(name=f"pool_{i}")(filters(embedding(words)), words)
