"""The convolutional network of Keras' own first example (https://keras.io/examples/vision/mnist_convnet)."""

import keras

from training.presets.inputs import ModelInputs


def build(inputs: ModelInputs) -> keras.Model:
    """float32 [28, 28, 1] to logits [10]; 34,826 weights."""
    packed = inputs.packed()
    hidden = packed["image"]
    for filters in (32, 64):
        hidden = keras.layers.Conv2D(filters, 3, activation="relu")(hidden)
        hidden = keras.layers.MaxPooling2D(2)(hidden)
    hidden = keras.layers.Dropout(0.5)(keras.layers.Flatten()(hidden))
    return keras.Model(packed, inputs.logits(hidden))
