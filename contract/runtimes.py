"""Which runtimes there are, which one runs a model here, and loading it.

LiteRT is in contract/litert.py, TensorFlow in contract/savedmodel.py, TensorFlow in a process of its own in
contract/isolated.py. TensorFlow is imported only when a SavedModel is loaded.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from contract.bundle import Bundle
from contract.errors import RuntimeUnavailable
from contract.litert import LiteRT as LiteRT  # whoever runs models has them from here
from contract.manifest import Manifest, TextFeature, Variant
from contract.runtime import SIGNATURE as SIGNATURE
from contract.runtime import DeviceChoice as DeviceChoice
from contract.runtime import Outputs as Outputs
from contract.runtime import Runtime as Runtime
from contract.savedmodel import HOW_TO_GET_TENSORFLOW, visible_gpus
from contract.savedmodel import SavedModel as SavedModel
from contract.savedmodel import tensorflow as tensorflow

_LITERT_ON_GPU = "LiteRT runs on the CPU only: HORNPIPE_DEVICE=gpu needs HORNPIPE_RUNTIME=savedmodel"

# Spreading a shorter run over TensorFlow's threads costs more than it saves, by a tenth to two fifths of its CPU time.
SPREAD_FROM_MICROSECONDS = 10_000.0

RuntimeName = Literal["litert", "savedmodel"]
RuntimeChoice = Literal["auto", "litert", "savedmodel"]


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
        visible_gpus(tensorflow(), device)


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


def load(
    bundle: Bundle,
    variant: Variant,
    device: DeviceChoice = "auto",
    threads: int | None = None,
    *,
    isolated: bool = False,
) -> Runtime:
    """Load one variant of a bundle. One run goes on so many `threads`, by default on one.

    `isolated` SavedModels live in a process of their own. Where a run of one takes long, TensorFlow decides on how many
    threads it goes; it always does in this process. Raises RuntimeUnavailable, or what the runtime raises for a file
    that it cannot read: OSError, RuntimeError or ValueError.
    """
    path = bundle.path / variant.path
    if variant.runtime == "litert":
        return LiteRT(path, threads or 1, variant.signature)
    if isolated:
        from contract.isolated import IsolatedSavedModel  # with all that starts processes: for those who need it

        if threads is None and variant.latency["1"].p50 < SPREAD_FROM_MICROSECONDS:
            threads = 1
        return IsolatedSavedModel(path, device, variant.signature, threads)
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
        text = f"{manifest.name}/{manifest.version} needs TensorFlow{_for_texts(manifest)}: {HOW_TO_GET_TENSORFLOW}"
    return text


def _for_texts(manifest: Manifest) -> str:
    texts = any(isinstance(feature, TextFeature) for feature in manifest.features)
    return ", because it reads texts, which LiteRT cannot" if texts else ""
