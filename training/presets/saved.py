"""A .keras file as the starting point."""

from pathlib import Path

import keras

from training.errors import ConfigError
from training.presets import augmentation, tabular, text  # noqa: F401  # a file may hold their layers: they register them
from training.presets.foreign import adopt
from training.presets.inputs import ModelInputs
from training.sections import SavedKerasModel


def build(inputs: ModelInputs, section: SavedKerasModel) -> keras.Model:
    """The network of the file with its weights, on the packed inputs.

    Lambda layers are refused: they are Python code in a file of data. Raises ConfigError, also where the file's inputs
    and outputs are not those of the data and the task.
    """
    path = Path(section.start)
    if not path.is_file():
        raise ConfigError("model.start", [f"{path}: no such file (from {Path.cwd()})"])
    if path.suffix != ".keras":
        raise ConfigError("model.start", [f"{path}: expected a .keras file, as model.save makes it"])
    return adopt(_load(path), inputs, "model.start", str(path))


def _load(path: Path) -> keras.Model:
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises all kinds for a file that it cannot read
        text = str(error).strip()
        reason = "holds a Lambda layer, which is code: make it a layer of Keras" if "ambda" in text else text
        raise ConfigError("model.start", [f"{path}: {reason.partition(chr(10))[0]}"]) from error
