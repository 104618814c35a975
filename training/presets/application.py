"""A network of keras.applications under a new head, from a local file of weights or from nothing."""

import sys
from pathlib import Path
from typing import Any

import keras

from training.errors import ConfigError, did_you_mean
from training.presets.augmentation import Augmentation
from training.presets.inputs import ModelInputs, Tensor
from training.sections import ApplicationModel

SHIFT, ROTATE, ZOOM = 0.1, 0.03, 0.1


def build(inputs: ModelInputs, section: ApplicationModel) -> keras.Model:
    """Packed image -> logits. Raises ConfigError for an unknown application, pictures too small for it, or a file that
    is no weights of it."""
    packed = inputs.packed()
    hidden = packed["image"]
    if section.augment:
        hidden = Augmentation(shift=SHIFT, rotate=ROTATE, zoom=ZOOM, flip=True, name="augmentation")(hidden)
    application = _application(section.application)
    backbone = _backbone(application, _preprocessed(hidden, inputs, application), section)
    hidden = keras.layers.GlobalAveragePooling2D(name="pool")(backbone.output)
    hidden = keras.layers.Dropout(section.dropout, name="dropout")(hidden)
    return keras.Model(packed, inputs.logits(hidden), name=section.application.lower())


def applications() -> list[str]:
    """The names that `application` may have."""
    names = vars(keras.applications)
    return sorted(name for name, value in names.items() if name[:1].isupper() and callable(value))


def _application(name: str) -> Any:  # noqa: ANN401  # keras has no type information
    if name not in applications():
        raise ConfigError("model.application", [f"{name}: is not known; {did_you_mean(name, applications())}"])
    return getattr(keras.applications, name)


def _preprocessed(pictures: Tensor, inputs: ModelInputs, application: Any) -> Tensor:  # noqa: ANN401
    """As the application has been trained: 3 channels, 0 to 255, then its own preprocess_input."""
    feature = inputs.image
    assert feature is not None  # noqa: S101  # for the type checker: the config has this preset for images alone
    scale = 255 / ((feature.maximum - feature.minimum) or 1)
    pictures = keras.layers.Rescaling(scale, -feature.minimum * scale, dtype="float32", name="bytes")(pictures)
    if feature.shape[2] == 1:
        pictures = keras.layers.Concatenate(name="channels")([pictures, pictures, pictures])
    return sys.modules[application.__module__].preprocess_input(pictures)


def _backbone(application: Any, pictures: Tensor, section: ApplicationModel) -> keras.Model:  # noqa: ANN401
    try:
        # The shape as well, which alone it checks against the smallest that it can take.
        backbone = application(
            include_top=False, weights=None, input_tensor=pictures, input_shape=tuple(pictures.shape[1:])
        )
    except ValueError as error:
        height, width = pictures.shape[1:3]
        problem = f"{section.application}: cannot take pictures of {height} x {width}: {_first_line(error)}"
        raise ConfigError("model.application", [problem]) from error
    if section.weights is not None:
        _load(backbone, Path(section.weights), section.application)
    if section.frozen:
        for layer in backbone.layers:
            layer.trainable = False
    return backbone


def _load(backbone: keras.Model, path: Path, name: str) -> None:
    """`path` are the weights that keras.applications knows as "notop", in either of Keras' formats."""
    if not path.is_file():
        raise ConfigError("model.weights", [f"{path}: no such file (from {Path.cwd()})"])
    try:
        backbone.load_weights(path)
    except Exception as error:  # Keras and h5py raise all kinds for a file that does not fit
        expected = f"expected weights of {name} without its top (include_top = False), as .weights.h5 or .h5"
        raise ConfigError("model.weights", [f"{path}: {expected}; {_first_line(error)}"]) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
