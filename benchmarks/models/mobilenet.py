"""MobileNetV2 as Keras has it, but for one thing: it settles within the few steps that it is trained for here."""

import keras

from training.presets.inputs import ModelInputs

MOMENTUM = 0.5  # of batch normalisation; with Keras' 0.999 its averages would still be where they began


def build(inputs: ModelInputs) -> keras.Model:
    """float32 [224, 224, 3] from 0 to 1, to logits [10]."""
    packed = inputs.packed()
    body = keras.applications.MobileNetV2((224, 224, 3), include_top=False, weights=None, pooling="avg")
    for layer in body.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = MOMENTUM
    scaled = keras.layers.Rescaling(2.0, -1.0)(packed["image"])
    return keras.Model(packed, inputs.logits(body(scaled)))
