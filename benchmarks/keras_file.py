"""python -m benchmarks.keras_file BUNDLE FILE: the model of a bundle as a .keras file, for the server that needs one.

A bundle holds no .keras file, and `keras.layers.TFSMLayer` takes one input where this model has nineteen. So the
network is built again by the code that trained it, and given the SavedModel's weights by name: the very same model,
in the form in which somebody who has just trained it has it.
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from contract import bundle
from contract.features import Encoded, Encoder
from training.presets import tabular
from training.presets.inputs import ModelInputs
from training.rows import Rows
from training.sections import TabularModel
from training.signatures import with_raw_inputs, with_scores
from training.task import TASKS


def rebuild(folder: Path) -> keras.Model:
    """Raises KeyError or ValueError when the code no longer builds the network that the bundle holds."""
    manifest = bundle.read(folder).manifest
    encoder = Encoder(manifest.features)
    section = TabularModel.model_validate(manifest.config["model"])
    task, classes = TASKS[manifest.task], getattr(manifest.output, "classes", ())
    logits = tabular.build(ModelInputs(task, classes, encoder, _two_rows(encoder)), section)
    saved = tf.saved_model.load(str(folder))
    weights = {variable.name.removesuffix(":0"): variable.numpy() for variable in saved.variables}
    for weight in logits.weights:
        weight.assign(weights[weight.path])
    return with_raw_inputs(with_scores(logits, task), encoder)


def _two_rows(encoder: Encoder) -> Rows:
    """Something for the layers to fit themselves to; the bundle's weights replace what comes of it."""
    numbers = np.array([[0.0], [1.0]], np.float32).repeat(len(encoder.number_features), axis=1)
    categories = np.zeros((2, len(encoder.category_features)), np.int32)
    return Rows(Encoded(numbers, categories), np.array([0.0, 1.0], np.float32))


if __name__ == "__main__":
    rebuild(Path(sys.argv[1])).save(sys.argv[2])
