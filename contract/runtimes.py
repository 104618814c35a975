"""LiteRT and SavedModel behind one small interface: load, run.

A runtime takes the packed rows of the signature `encoded` and returns the outputs by name. One that is not
`thread_safe` is for one thread at a time. TensorFlow is imported only when a SavedModel is loaded.
"""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from contract.bundle import Bundle
from contract.errors import RuntimeUnavailable
from contract.features import Encoded
from contract.manifest import Manifest, TextFeature, Variant

SIGNATURE = "encoded"

# A network on pictures holds megabytes of intermediate values a row: they are bounded by how many values go in at once.
# Larger runs are not faster on a CPU.
LITERT_VALUES_AT_ONCE = 2**20
SAVEDMODEL_VALUES_AT_ONCE = 2**22

_HOW_TO_GET_TENSORFLOW = "pip install 'hornpipe[tf]', or use the image service-tf"
_LITERT_ON_GPU = "LiteRT runs on the CPU only: HORNPIPE_DEVICE=gpu needs HORNPIPE_RUNTIME=savedmodel"

RuntimeName = Literal["litert", "savedmodel"]
RuntimeChoice = Literal["auto", "litert", "savedmodel"]
DeviceChoice = Literal["auto", "cpu", "gpu"]

Outputs = dict[str, NDArray[np.float32]]


class Runtime(Protocol):
    """A loaded variant."""

    thread_safe: bool

    def run(self, encoded: Encoded) -> Outputs:
        """Outputs by name, float32 [n] or [n, classes]."""


class LiteRT:
    """A .tflite file in the LiteRT interpreter, on the CPU."""

    thread_safe = False

    def __init__(self, path: Path, threads: int = 1, signature: str = SIGNATURE) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._interpreter = Interpreter(model_path=str(path), num_threads=threads)
        names = self._interpreter.get_signature_list()[signature]
        runner = self._interpreter.get_signature_runner(signature)
        inputs, outputs = runner.get_input_details(), runner.get_output_details()
        self._inputs = [(name, inputs[name]["index"]) for name in names["inputs"]]
        self._outputs = [(name, outputs[name]["index"]) for name in names["outputs"]]
        self._shapes: list[tuple[int, ...]] = []

    def run(self, encoded: Encoded) -> Outputs:
        if encoded.rows > 1 and _values(encoded) > LITERT_VALUES_AT_ONCE:
            return _in_parts(self.run, encoded, LITERT_VALUES_AT_ONCE)
        interpreter, named = self._interpreter, encoded.named()
        shapes = [named[name].shape for name, _ in self._inputs]
        if shapes != self._shapes:
            self._resize(shapes)
        for name, index in self._inputs:
            interpreter.set_tensor(index, named[name])
        interpreter.invoke()
        return {name: interpreter.get_tensor(index) for name, index in self._outputs}

    def _resize(self, shapes: list[tuple[int, ...]]) -> None:
        self._shapes = []  # until the new size stands
        for (_, index), shape in zip(self._inputs, shapes, strict=True):
            self._interpreter.resize_tensor_input(index, shape)
        self._interpreter.allocate_tensors()
        self._shapes = shapes


class SavedModel:
    """A signature of a SavedModel in TensorFlow, on a GPU where there is one and it is not told otherwise."""

    thread_safe = True

    def __init__(self, path: Path, device: DeviceChoice = "auto", signature: str = SIGNATURE) -> None:
        tf = tensorflow()
        gpus = _visible_gpus(tf, device)
        self._device = "/GPU:0" if gpus else "/CPU:0"
        with tf.device(self._device):
            self._model = tf.saved_model.load(str(path))  # held, or its variables are freed
        self._signature = self._model.signatures[signature]
        self._inputs = sorted(self._signature.structured_input_signature[1])
        self._constant: Callable[..., Any] = tf.constant

    def run(self, encoded: Encoded) -> Outputs:
        if encoded.rows > 1 and _values(encoded) > SAVEDMODEL_VALUES_AT_ONCE:
            return _in_parts(self.run, encoded, SAVEDMODEL_VALUES_AT_ONCE)
        named = encoded.named()
        inputs = {name: self._constant(named[name]) for name in self._inputs}
        return {name: output.numpy() for name, output in self._signature(**inputs).items()}


def _values(encoded: Encoded) -> int:
    """How many values of pictures, or of the largest tensor, go in."""
    if encoded.tensors is not None:
        return max(tensor.size for tensor in encoded.tensors.values())
    return 0 if encoded.image is None else encoded.image.size


def _in_parts(run: Callable[[Encoded], Outputs], encoded: Encoded, most: int) -> Outputs:
    """Run so many rows at a time that they have at most `most` values, or one by one."""
    rows = max(1, most * encoded.rows // _values(encoded))
    parts = [run(encoded.take(slice(i, i + rows))) for i in range(0, encoded.rows, rows)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def tensorflow() -> Any:  # noqa: ANN401  # a module without type information
    """Import TensorFlow, quietly. Raises RuntimeUnavailable when it is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow as tf
    except ImportError as error:
        raise RuntimeUnavailable(f"the runtime savedmodel needs TensorFlow: {_HOW_TO_GET_TENSORFLOW}") from error
    return tf


def installed() -> list[RuntimeName]:
    """The runtimes that can be used here. Looks for packages; imports none."""
    packages: dict[RuntimeName, str] = {"litert": "ai_edge_litert", "savedmodel": "tensorflow"}
    return [name for name, package in packages.items() if find_spec(package) is not None]


def require(runtime: RuntimeChoice, device: DeviceChoice) -> None:
    """Raises RuntimeUnavailable when what is asked for explicitly cannot be had here, whatever the model.

    Only a GPU that is asked for costs an import of TensorFlow.
    """
    if runtime != "auto" and runtime not in installed():
        raise RuntimeUnavailable(f"HORNPIPE_RUNTIME={runtime}: {runtime} is not installed; here: {_here()}")
    if device == "gpu":
        if runtime == "litert":
            raise RuntimeUnavailable(_LITERT_ON_GPU)
        _visible_gpus(tensorflow(), device)


def choose(
    manifest: Manifest,
    runtime: RuntimeChoice = "auto",
    device: DeviceChoice = "auto",
    *,
    available: list[RuntimeName] | None = None,
    gpu_here: bool | None = None,
) -> tuple[Variant, str]:
    """Which variant to run here, and why in one sentence.

    What is asked for explicitly is taken or raises RuntimeUnavailable. `auto` takes the SavedModel where a GPU and
    TensorFlow are, else the variant that the manifest chose, else whichever of its variants can run. A variant that
    the manifest refuses is never taken.
    """
    available = installed() if available is None else available
    if device == "gpu" and runtime == "litert":
        raise RuntimeUnavailable(_LITERT_ON_GPU)
    if runtime != "auto":
        return _explicit(manifest, runtime, available), f"HORNPIPE_RUNTIME={runtime}"
    if device == "gpu":
        return _explicit(manifest, "savedmodel", available), "HORNPIPE_DEVICE=gpu, and only a SavedModel runs on a GPU"
    gpu = gpu_present() if gpu_here is None else gpu_here
    if device == "auto" and gpu and "savedmodel" in available and _first(manifest, "savedmodel"):
        return _explicit(manifest, "savedmodel", available), "a GPU and TensorFlow are here"
    chosen = manifest.variant(manifest.chosen.variant)
    if chosen.runtime in available:
        return chosen, manifest.chosen.why
    for variant in _allowed(manifest):
        if variant.runtime in available:
            return variant, f"the chosen {chosen.name} needs the runtime {chosen.runtime}, which is not installed"
    raise RuntimeUnavailable(_nothing_here(manifest))


def load(bundle: Bundle, variant: Variant, device: DeviceChoice = "auto") -> Runtime:
    """Load one variant of a bundle. Raises RuntimeUnavailable."""
    path = bundle.path / variant.path
    if variant.runtime == "litert":
        return LiteRT(path, signature=variant.signature)
    return SavedModel(path, device, variant.signature)


def gpu_present() -> bool:
    """Whether this machine has an NVIDIA GPU that its driver shows. TensorFlow may still be unable to use it."""
    return Path("/proc/driver/nvidia/version").exists()


def _here() -> str:
    return ", ".join(installed()) or "none"


def _explicit(manifest: Manifest, runtime: RuntimeName, available: list[RuntimeName]) -> Variant:
    if runtime not in available:
        raise RuntimeUnavailable(f"the runtime {runtime} is asked for, but not installed; here: {', '.join(available)}")
    chosen = manifest.variant(manifest.chosen.variant)
    variant = chosen if chosen.runtime == runtime else _first(manifest, runtime)
    if variant is None:
        raise RuntimeUnavailable(_no_variant(manifest, runtime))
    return variant


def _allowed(manifest: Manifest) -> list[Variant]:
    return [variant for variant in manifest.variants if variant.refused is None]


def _first(manifest: Manifest, runtime: RuntimeName) -> Variant | None:
    return next((variant for variant in _allowed(manifest) if variant.runtime == runtime), None)


def _no_variant(manifest: Manifest, runtime: RuntimeName) -> str:
    refused = [f"{each.name} is refused: {each.refused}" for each in manifest.variants if each.runtime == runtime]
    reason = f" ({'; '.join(refused)})" if refused else _for_texts(manifest)
    return f"{manifest.name}/{manifest.version} has no variant for the runtime {runtime}{reason}"


def _nothing_here(manifest: Manifest) -> str:
    needed = sorted({variant.runtime for variant in _allowed(manifest)})
    text = f"{manifest.name}/{manifest.version} needs one of the runtimes {', '.join(needed)}"
    if needed == ["savedmodel"]:
        text = f"{manifest.name}/{manifest.version} needs TensorFlow{_for_texts(manifest)}: {_HOW_TO_GET_TENSORFLOW}"
    return text


def _for_texts(manifest: Manifest) -> str:
    texts = any(isinstance(feature, TextFeature) for feature in manifest.features)
    return ", because it reads texts, which LiteRT cannot" if texts else ""


def _visible_gpus(tf: Any, device: DeviceChoice) -> list[Any]:  # noqa: ANN401  # a module without type information
    gpus: list[Any] = [] if device == "cpu" else tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise RuntimeUnavailable("HORNPIPE_DEVICE=gpu, but TensorFlow sees no GPU; see its driver and CUDA libraries")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return gpus
