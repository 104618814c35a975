"""What is imported: anyone's SavedModel folder or Keras file, brought into a bundle's folder as a SavedModel."""

import hashlib
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from contract.bundle import SAVED_MODEL
from contract.manifest import TensorFeature
from contract.signature import DTYPES, MOST_TENSORS, UNKNOWN, Dtype
from training.errors import DataError
from training.exporting.conversion import why
from training.exporting.silence import quiet

SERVING_DEFAULT = "serving_default"
KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")

# What a SavedModel consists of; whatever else lies in its folder is not taken along.
_FILES = (SAVED_MODEL, "fingerprint.pb", "keras_metadata.pb")
_FOLDERS = ("variables", "assets", "assets.extra")

# What TensorFlow and Keras raise for what they cannot read.
_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    AttributeError,
    KeyError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    tf.errors.OpError,
)


@dataclass(frozen=True)
class Answer:
    """An output as the signature declares it; `shape` is None where not even the number of its dimensions is known."""

    name: str
    dtype: Dtype
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Original:
    """A SavedModel in `folder`: what its signature of that name takes and answers. `fingerprint` is the SHA-256 of the
    files it came in."""

    folder: Path
    signature: str
    inputs: tuple[TensorFeature, ...]
    outputs: tuple[Answer, ...]
    fingerprint: str


def bring(source: Path, folder: Path, signature: str | None, *, unsafe: bool) -> Original:
    """Copy a SavedModel, or export a Keras model, into `folder`, and read the signature that is asked for.

    `unsafe` runs the Python code that a Keras file may have in it, in Lambda layers. Raises DataError.
    """
    if not source.exists():
        raise DataError(str(source), ["there is no such file or folder"])
    with quiet():
        if source.is_dir():
            _copy(source, folder)
        else:
            _export(source, folder, unsafe)
        loaded = _load(source, folder)
        name = _signature_name(source, loaded, signature)
        inputs, outputs = _inputs(source, loaded.signatures[name]), _outputs(source, loaded.signatures[name])
    return Original(folder, name, inputs, outputs, fingerprint(source))


def _copy(source: Path, folder: Path) -> None:
    if not (source / SAVED_MODEL).is_file():
        raise DataError(str(source), [_no_saved_model(source)])
    for name in _FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    for name in _FOLDERS:
        if (source / name).is_dir():
            shutil.copytree(source / name, folder / name)
    try:
        _forget_optimizer(folder)
    except DecodeError as error:
        raise DataError(str(source), [f"its {SAVED_MODEL} is damaged, or none"]) from error


def _forget_optimizer(folder: Path) -> None:
    """Leave of a model that was saved with its optimizer what TensorFlow Serving reads: the graph and its signatures.

    Keras 2, up to TensorFlow 2.15, saved the optimizer along as an object that TensorFlow restores only where Keras 2
    is: elsewhere "'_UserObject' object has no attribute 'add_slot'". Without its objects, it is read as one of
    TensorFlow 1 is.
    """
    content = SavedModel()
    content.ParseFromString((folder / SAVED_MODEL).read_bytes())
    trained = [each for each in content.meta_graphs if any(node.slot_variables for node in each.object_graph_def.nodes)]
    if trained:
        for graph in trained:
            graph.ClearField("object_graph_def")
        (folder / SAVED_MODEL).write_bytes(content.SerializeToString())
        (folder / "fingerprint.pb").unlink(missing_ok=True)  # of another file now


def _no_saved_model(source: Path) -> str:
    """What is wrong with a folder, and what may be meant."""
    if (source / "saved_model.pbtxt").is_file():
        return f"its SavedModel is text; one with {SAVED_MODEL} is needed"
    inner = sorted(path.parent for path in source.glob(f"*/{SAVED_MODEL}"))
    if inner:
        return f"is no SavedModel itself, but holds {', '.join(path.name for path in inner[:5])}: try {inner[-1]}"
    files = sorted(path for path in source.iterdir() if path.suffix in KERAS_SUFFIXES)
    return f"has no {SAVED_MODEL}" + (f": try {files[0]}" if files else "")


def _export(source: Path, folder: Path, unsafe: bool) -> None:
    """A Keras model as a SavedModel, with the names that the model has for its inputs and outputs."""
    if source.suffix not in KERAS_SUFFIXES:
        raise DataError(str(source), [f"expected a SavedModel folder or a {', '.join(KERAS_SUFFIXES)} file"])
    try:
        model = keras.models.load_model(source, compile=False, safe_mode=not unsafe)
    except _UNREADABLE as error:
        raise DataError(str(source), [_unloadable(error)]) from error
    if not getattr(model, "inputs", None):
        raise DataError(str(source), ["says nothing of its inputs: call it once before it is saved, or export it"])
    structure = model.inputs[0] if isinstance(model, keras.Sequential) else model.input
    names = _names_of_inputs(model, structure)
    specs = [tf.TensorSpec(t.shape, t.dtype, name=name) for t, name in zip(model.inputs, names, strict=True)]

    def call(*tensors: Any) -> dict[str, Any]:  # noqa: ANN401  # TensorFlow's
        return _named(model, model(keras.tree.pack_sequence_as(structure, list(tensors)), training=False))

    archive = keras.export.ExportArchive()
    archive.track(model)
    try:
        archive.add_endpoint(SERVING_DEFAULT, call, input_signature=specs)
        archive.write_out(str(folder), verbose=False)
    except _UNREADABLE as error:
        raise DataError(str(source), [f"cannot be exported: {why(error)}"]) from error


def _names_of_inputs(model: keras.Model, structure: Any) -> list[str]:  # noqa: ANN401  # any structure of tensors
    """The keys of a dictionary of inputs, else the names of the inputs."""
    if isinstance(structure, dict):
        place = {id(tensor): key for key, tensor in structure.items()}
        return [place.get(id(tensor), tensor.name) for tensor in model.inputs]
    return [tensor.name for tensor in model.inputs]


def _named(model: keras.Model, answer: Any) -> dict[str, Any]:  # noqa: ANN401  # any structure of tensors
    """The outputs by their keys where there are some, else by the layers that they come from."""
    if isinstance(answer, dict) and not any(isinstance(value, dict | list | tuple) for value in answer.values()):
        return answer
    tensors = keras.tree.flatten(answer)
    sequential = isinstance(model, keras.Sequential)
    names = [model.layers[-1].name] if sequential else list(getattr(model, "output_names", ()))
    if len(names) != len(tensors) or len(set(names)) != len(names):
        names = [f"output_{i}" for i in range(len(tensors))]
    return dict(zip(names, tensors, strict=True))


def _unloadable(error: Exception) -> str:
    """Keras says it at length; what a person needs is which of the few reasons it is, and what to do."""
    text = str(error)
    if "Lambda" in text and "safe_mode" in text:
        return "has a Lambda layer, which is Python code from the file: --unsafe runs it, if you trust the file"
    if "Could not locate" in text or "Unknown layer" in text or "Unknown object" in text:
        line = next(line for line in text.splitlines() if "Could not locate" in line or "Unknown" in line)
        advice = "export it where that class is, with model.export(FOLDER), and import the folder"
        return f"has a class of its own ({line[:120]}): {advice}"
    return f"cannot be loaded by Keras {keras.__version__}: {why(error)}"


def _load(source: Path, folder: Path) -> Any:  # noqa: ANN401  # TensorFlow's
    try:
        return tf.saved_model.load(str(folder))
    except _UNREADABLE as error:
        raise DataError(str(source), [f"cannot be loaded by TensorFlow {tf.__version__}: {why(error)}"]) from error


def _signature_name(source: Path, loaded: Any, wanted: str | None) -> str:  # noqa: ANN401  # TensorFlow's
    names = sorted(loaded.signatures)
    if not names:
        problem = "has no signature: save it with tf.saved_model.save(model, FOLDER, signatures=...) or model.export"
        raise DataError(str(source), [problem])
    if wanted is None and (SERVING_DEFAULT in names or len(names) == 1):
        return SERVING_DEFAULT if SERVING_DEFAULT in names else names[0]
    if wanted is None or wanted not in names:
        said = f"has no signature {wanted!r}" if wanted else "has several signatures: say which with --signature"
        raise DataError(str(source), [f"{said}; there: {', '.join(names)}"])
    return wanted


def _inputs(source: Path, signature: Any) -> tuple[TensorFeature, ...]:  # noqa: ANN401  # TensorFlow's
    specs = signature.structured_input_signature[1]
    problems, found = [], []
    for name in sorted(specs):
        problem = _input_problem(specs[name])
        if problem is None:
            found.append(TensorFeature(name=name, dtype=_dtype(specs[name]), shape=_sizes(specs[name].shape[1:])))
        else:
            problems.append(f"input {name}: {problem}")
    if not specs:
        problems.append("its signature takes no input")
    if problems:
        raise DataError(str(source), problems)
    return tuple(found)


def _input_problem(spec: Any) -> str | None:  # noqa: ANN401  # TensorFlow's
    if not isinstance(spec, tf.TensorSpec):
        return f"is a {type(spec).__name__}, only plain tensors can be served"
    if spec.dtype.name not in DTYPES:
        return f"is of {spec.dtype.name}, which cannot be served"
    if spec.shape.rank is None:
        return "has no known number of dimensions"
    if spec.shape.rank == 0 or spec.shape[0] is not None:
        return f"has the fixed shape {list(spec.shape)}; export it with None as its first dimension, the rows"
    return None


def _outputs(source: Path, signature: Any) -> tuple[Answer, ...]:  # noqa: ANN401  # TensorFlow's
    specs = signature.structured_outputs
    unfit = [
        f"output {name}: is of {specs[name].dtype.name}, which cannot be served"
        for name in sorted(specs)
        if specs[name].dtype.name not in DTYPES
    ]
    if not specs or len(specs) > MOST_TENSORS:
        unfit.append(f"its signature has {len(specs)} outputs")
    if unfit:
        raise DataError(str(source), unfit)
    return tuple(Answer(name, _dtype(specs[name]), _shape(specs[name].shape)) for name in sorted(specs))


def _dtype(spec: Any) -> Dtype:  # noqa: ANN401  # TensorFlow's
    return next(dtype for dtype in DTYPES if dtype == spec.dtype.name)


def _shape(shape: tf.TensorShape) -> tuple[int, ...] | None:
    return None if shape.rank is None else _sizes(shape)


def _sizes(shape: Iterable[int | None]) -> tuple[int, ...]:
    return tuple(UNKNOWN if size is None else int(size) for size in shape)


def fingerprint(source: Path) -> str:
    """Of the file that was given, or of the files in the folder that a SavedModel has."""
    digest = hashlib.sha256()
    folders = [path for name in _FOLDERS for path in (source / name).rglob("*")]
    files = [source] if source.is_file() else [*(source / name for name in _FILES), *folders]
    for path in sorted(path for path in files if path.is_file()):
        with path.open("rb") as file:
            digest.update(f"{path.relative_to(source).as_posix()}\0".encode())
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()
