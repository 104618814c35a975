"""A SavedModel in TensorFlow, in this process. TensorFlow is imported when the first one is loaded."""

import gc
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

from contract import memory
from contract.encoded import Encoded
from contract.errors import RunFailed, RuntimeUnavailable
from contract.runtime import SIGNATURE, DeviceChoice, Outputs, in_parts, values

# As in contract/litert.py; TensorFlow gives back what a run has held.
VALUES_AT_ONCE = 2**22

# In the environment of a process that runs SavedModels and nothing else: TensorFlow then leaves Keras alone, whose
# import (of pandas, scikit-learn and matplotlib too, where they are) takes as long as its own, and 170 MB.
WITHOUT_KERAS = {"TF_USE_LEGACY_KERAS": "1"}

HOW_TO_GET_TENSORFLOW = "pip install 'hornpipe[tf]', or use the image service-tf"


@dataclass(frozen=True)
class Replica:
    """The model on one device. `model` is held, or its variables are freed; `function` takes the inputs in order."""

    device: str
    model: Any
    inputs: Sequence[tuple[str, Any]]
    traced: Any
    function: Callable[..., dict[str, Any]]


class SavedModel:
    """One signature of a SavedModel, a replica on each GPU, or on the CPU where there is none or it is asked for.

    `devices` are TensorFlow's names of others. Runs take the replicas in turn. The function that runs has been traced
    when it was loaded, for any number of rows; it never is again, see `traces`.
    """

    thread_safe = True

    def __init__(
        self,
        path: Path,
        device: DeviceChoice = "auto",
        signature: str = SIGNATURE,
        devices: Sequence[str] | None = None,
    ) -> None:
        tf = tensorflow()
        gpus = len(visible_gpus(tf, device)) if devices is None else 0
        devices = devices or [f"/GPU:{i}" for i in range(gpus)] or ["/CPU:0"]
        self._path, self._tf = path, tf
        self._replicas = [_replica(tf, path, signature, each) for each in devices]
        self._turns = cycle(self._replicas)

    @property
    def replicas(self) -> int:
        return len(self._replicas)

    @property
    def traces(self) -> int:
        """How often TensorFlow has traced what runs: once a replica, when it was loaded."""
        return sum(replica.traced.experimental_get_tracing_count() for replica in self._replicas)

    def run(self, encoded: Encoded) -> Outputs:
        if encoded.rows > 1 and values(encoded) > VALUES_AT_ONCE:
            return in_parts(self.run, encoded, VALUES_AT_ONCE)
        replica = next(self._turns, None)
        if replica is None:
            raise RunFailed(f"{self._path}: is closed")
        tf, named = self._tf, encoded.named()
        try:
            with tf.device(replica.device):
                outputs = replica.function(*[tf.constant(named[name], dtype) for name, dtype in replica.inputs])
                return {name: output.numpy() for name, output in outputs.items()}
        except (tf.errors.OpError, KeyError, TypeError, ValueError) as error:
            raise RunFailed(f"{self._path}: {_first_line(error)}") from error

    def close(self) -> None:
        """Collects garbage, which takes a tenth of a second: what TensorFlow makes refers to itself."""
        self._replicas, self._turns = [], cycle([])
        gc.collect()
        memory.give_back()


def tensorflow() -> Any:  # noqa: ANN401  # a module without type information
    """Import TensorFlow, quietly. Raises RuntimeUnavailable when it is not installed."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    try:
        import tensorflow as tf
    except ImportError as error:
        raise RuntimeUnavailable(f"the runtime savedmodel needs TensorFlow: {HOW_TO_GET_TENSORFLOW}") from error
    return tf


def visible_gpus(tf: Any, device: DeviceChoice) -> list[Any]:  # noqa: ANN401  # a module without type information
    """Those that TensorFlow may use, told to take no more memory than they need. Raises RuntimeUnavailable."""
    gpus: list[Any] = [] if device == "cpu" else tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise RuntimeUnavailable("HORNPIPE_DEVICE=gpu, but TensorFlow sees no GPU; see its driver and CUDA libraries")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    return gpus


def _replica(tf: Any, path: Path, signature: str, device: str) -> Replica:  # noqa: ANN401
    """Load onto one device, and trace the signature there, as one function of its inputs in order."""
    with tf.device(device):
        model = tf.saved_model.load(str(path))
        if signature not in model.signatures:
            known = ", ".join(model.signatures) or "none"
            raise RuntimeUnavailable(f"{path} has no signature {signature!r}; it has: {known}")
        loaded = model.signatures[signature]
        specs = dict(sorted(loaded.structured_input_signature[1].items()))
        ordered = [tf.TensorSpec(spec.shape, spec.dtype) for spec in specs.values()]
        traced = tf.function(lambda *values: loaded(**dict(zip(specs, values, strict=True))), input_signature=ordered)
        # Of no strings at all, NumPy's objects would be taken for floats.
        inputs = [(name, tf.string if spec.dtype == tf.string else None) for name, spec in specs.items()]
        return Replica(device, model, inputs, traced, traced.get_concrete_function())


def _first_line(error: Exception) -> str:
    """Without the trace of the graph that TensorFlow appends."""
    return (getattr(error, "message", None) or str(error)).split("\n", 1)[0]
