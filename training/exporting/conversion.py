"""The executable forms of a model beside its float32 SavedModel, made by TensorFlow's converter and by Keras."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from contract import runtimes
from contract.bundle import VARIANTS
from contract.features import Encoder
from training.rows import Prepared
from training.sections import QuantizationSection, VariantName
from training.signatures import Signature, packed_signature

REPRESENTATIVE_ROWS = 300

FLOAT = "litert-float32"
NAMES: dict[VariantName, str] = {
    "float16": "litert-float16",
    "dynamic-int8": "litert-dynamic-int8",
    "full-int8": "litert-int8",
    "weight-int8": "savedmodel-int8",
}


def wanted(section: QuantizationSection, encoder: Encoder) -> Sequence[VariantName]:
    """Which variants to make. `auto` leaves full int8 to pictures, whose values are all of one size: the numbers of a
    table share one tensor, and so one scale of 256 steps, and next to a distance of 2,000 a rainfall of 0.1 is none."""
    if section.variants != "auto":
        return section.variants
    if encoder.text_features:
        return ()
    return ("dynamic-int8",) if encoder.image_feature is None else ("full-int8", "dynamic-int8")


def convert(
    scores: keras.Model, prepared: Prepared, staging: Path, scratch: Path, section: QuantizationSection
) -> dict[str, str]:
    """Write the variants that are wanted into a staged bundle, and float32 LiteRT beside them.

    Returns why those that could not be made could not, by name: LiteRT has no operations on strings, and neither
    converter takes every layer.
    """
    folder = staging / VARIANTS
    folder.mkdir()
    failed = {}
    on_strings = bool(prepared.encoder.text_features)
    if not on_strings:
        _archive(scores, prepared.encoder, scratch)
    for name in (FLOAT, *(NAMES[each] for each in wanted(section, prepared.encoder))):
        try:
            if name == NAMES["weight-int8"]:
                _archive(_with_int8_weights(scores), prepared.encoder, folder / name)
            elif on_strings:
                failed[name] = "LiteRT has no operations on strings"
            else:
                (folder / f"{name}.tflite").write_bytes(_lite(name, scratch, prepared))
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:  # what the converters raise
            failed[name] = why(error)
    return failed


def why(error: Exception) -> str:
    """The first line of what a library has to say, which may be pages."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def add_endpoint(archive: keras.export.ExportArchive, name: str, model: keras.Model, signature: Signature) -> None:
    """Add a signature to an archive that tracks the model; its inputs are named as the specs are."""

    def call(*tensors: object) -> object:
        return model({spec.name: tensor for spec, tensor in zip(signature, tensors, strict=True)}, training=False)

    archive.add_endpoint(name, call, input_signature=signature)


def _archive(scores: keras.Model, encoder: Encoder, folder: Path) -> None:
    """A SavedModel with the packed signature alone: the converter fails on one with lookup tables in it."""
    archive = keras.export.ExportArchive()
    archive.track(scores)
    add_endpoint(archive, runtimes.SIGNATURE, scores, packed_signature(encoder))
    archive.write_out(str(folder), verbose=False)


def _with_int8_weights(scores: keras.Model) -> keras.Model:
    """A copy with Keras' own int8 quantization of its dense layers and embeddings."""
    copy = keras.models.clone_model(scores)
    for old, new in zip(_layers(scores), _layers(copy), strict=True):
        if isinstance(old, keras.layers.TextVectorization):
            new.set_vocabulary(old.get_vocabulary())  # no weight, so it is not copied as one
        if not new.weights:
            new.built = True  # or Keras takes no layer within a layer, such as that of a vocabulary
    copy.set_weights(scores.get_weights())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have a `quantize` method")  # layers without weights
        copy.quantize("int8")
    return copy


def _layers(model: keras.Model) -> list[keras.layers.Layer]:
    """All of them, those of models within models too."""
    return list(model._flatten_layers(include_self=False))  # Keras has no public way


def _lite(name: str, saved: Path, prepared: Prepared) -> bytes:
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=[runtimes.SIGNATURE])
    if name != FLOAT:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if name == NAMES["float16"]:
        converter.target_spec.supported_types = [tf.float16]
    if name == NAMES["full-int8"]:
        converter.representative_dataset = lambda: _representative(prepared)
    content: bytes = converter.convert()
    return content


def _representative(prepared: Prepared) -> Iterator[tuple[str, dict[str, NDArray[np.generic]]]]:
    """Training rows, one at a time, by which the ranges of activations are fixed."""
    names = [spec.name for spec in packed_signature(prepared.encoder)]
    for i in np.linspace(0, len(prepared.sample) - 1, min(REPRESENTATIVE_ROWS, len(prepared.sample))).astype(int):
        row = prepared.sample.encoded.take(slice(i, i + 1))
        yield runtimes.SIGNATURE, {name: getattr(row, name) for name in names}
