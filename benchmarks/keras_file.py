"""python -m benchmarks.keras_file BUNDLE FILE: the model of a bundle as a .keras file, for the server that needs one.

A bundle holds no .keras file, and `keras.layers.TFSMLayer` takes one input where this model has nineteen. So the
network is built again, by its config and data, and given the weights that the bundle keeps: the very same model, in the
form in which somebody who has just trained it has it.
"""

import json
import sys
from pathlib import Path

import keras

from contract import bundle
from training import pipeline
from training.data import prepare
from training.export import WEIGHTS
from training.sections import TrainingConfig
from training.signatures import with_raw_inputs, with_scores


def rebuild(folder: Path) -> keras.Model:
    """Raises ValueError when the code no longer builds the network that the bundle holds."""
    manifest = bundle.read(folder).manifest
    config = TrainingConfig.model_validate_json(json.dumps(manifest.config))
    prepared = prepare(config)
    logits = pipeline.build(prepared, config)
    logits.load_weights(folder / WEIGHTS)
    return with_raw_inputs(with_scores(logits, prepared.task, manifest.temperature), prepared.encoder)


if __name__ == "__main__":
    rebuild(Path(sys.argv[1])).save(sys.argv[2])
