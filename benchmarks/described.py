"""A model as the bench sees it: what to tell a rival's server about it, a row to ask for, and the answer to it.

The row is real data: a flight of the bundle's golden examples, a tumour, a digit, a photograph. What the SavedModel
says to it in TensorFlow, in a process of its own, is what every server has to say too.
"""

import io
import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import trained
from contract.bundle import Bundle
from contract.manifest import BinaryOutput, CategoryFeature, ImageFeature, Manifest, MulticlassOutput, NumberFeature

ROOT = trained.ROOT
BATCH = 32
# TensorFlow takes 27 ms for one of MobileNetV2's pictures on a CPU and 43 ms each for 32: rivals are told not to batch.
MOST_VALUES_TO_BATCH = 50_000


@dataclass(frozen=True)
class Sample:
    """One row in every form that a case asks for; `file` is a PNG or JPEG file of exactly `values`."""

    row: dict[str, Any]
    values: NDArray[np.float32] | None = None
    file: bytes = b""


@dataclass(frozen=True)
class Described:
    """A model that is ready to be served, by Hornpipe from `models` and by others from what `description` names."""

    bundle: Bundle
    models: Path
    description: Path
    sample: Sample
    expected: tuple[float, ...]

    @property
    def name(self) -> str:
        return self.bundle.manifest.name

    @property
    def input(self) -> str:
        """The only input of the SavedModel's signature, where there is only one."""
        read: dict[str, str] = json.loads(self.description.read_text())
        return read["input"]

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels whose probabilities are expected, in order."""
        match self.bundle.manifest.output:
            case BinaryOutput() as output:
                return (output.positive,)
            case MulticlassOutput() as output:
                return output.classes
        return ()


def describe(name: str, variant: str | None, work: Path) -> Described:
    """Copy the model to where it is served from, write its description, and ask TensorFlow. Raises NoModel."""
    folder = work / (f"{name}-{variant}" if variant else name)
    served = trained.serve_alone(trained.get(name), folder / "models", variant)
    description = folder / "description.json"
    sample = _sample(served)
    description.write_text(json.dumps(_description(served)))
    return Described(served, folder / "models", description, sample, _expected(served, description, sample))


def _description(served: Bundle) -> dict[str, Any]:
    manifest = served.manifest
    image = next((each for each in manifest.features if isinstance(each, ImageFeature)), None)
    rows = any(isinstance(each, CategoryFeature) for each in manifest.features)
    chosen = manifest.variant(manifest.chosen.variant)
    lite = chosen if chosen.runtime == "litert" else manifest.variant("litert-float32")
    return {
        "kind": "rows" if rows else "image" if image else "numbers",
        "input": "image" if image else "numbers",
        "shape": image.shape if image else [len(manifest.features)],
        "signature": "serving_default" if rows else "encoded",
        "features": [_column(each) for each in manifest.features] if rows else [],
        "folder": str(served.path),
        "lite": str(served.path / lite.path),
        "batch": 1 if image and math.prod(image.shape) > MOST_VALUES_TO_BATCH else BATCH,
        "variant": lite.name,
    }


def _column(feature: object) -> dict[str, Any]:
    match feature:
        case CategoryFeature(name=name, vocabulary=vocabulary):
            return {"name": name, "kind": "category", "vocabulary": vocabulary}
        case NumberFeature(name=name):
            return {"name": name, "kind": "number"}
    raise TypeError(f"no rival is told how to read {feature!r}")


def _sample(served: Bundle) -> Sample:
    manifest = served.manifest
    row = dict(manifest.golden[0].row)
    image = next((each for each in manifest.features if isinstance(each, ImageFeature)), None)
    if image is None:
        numbers = [row[each.name] for each in manifest.features if isinstance(each, NumberFeature)]
        return Sample(row, np.array([np.nan if each is None else each for each in numbers], np.float32))
    file = _photograph(image.shape[:2]) if image.shape[2] == 3 else _digit(image.shape[:2])
    values = np.asarray(Image.open(io.BytesIO(file)), np.float32).reshape(image.shape) / np.float32(255)
    return Sample({}, values, file)


def _photograph(size: tuple[int, ...]) -> bytes:
    """The middle of scikit-learn's photograph of a temple, as a JPEG file."""
    from sklearn.datasets import load_sample_image

    whole = Image.fromarray(load_sample_image("china.jpg"))
    left = (whole.width - whole.height) // 2
    file = io.BytesIO()
    square = whole.crop((left, 0, left + whole.height, whole.height))
    square.resize((size[1], size[0]), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def _digit(size: tuple[int, ...]) -> bytes:
    """The last of scikit-learn's digits, as a PNG file."""
    from sklearn.datasets import load_digits

    digit = Image.fromarray(np.uint8(load_digits().images[-1] * 255 / 16))
    file = io.BytesIO()
    digit.resize((size[1], size[0]), Image.Resampling.BICUBIC).save(file, "PNG")
    return file.getvalue()


def _expected(served: Bundle, description: Path, sample: Sample) -> tuple[float, ...]:
    """What TensorFlow says; a bundle's own record where the row is a golden example."""
    manifest: Manifest = served.manifest
    if sample.row:
        said = manifest.golden[0].outputs[manifest.output.name]
        return tuple(said) if isinstance(said, tuple) else (said,)
    rows = description.with_name("sample.npy")
    np.save(rows, sample.values)
    environment = os.environ | {
        "BENCH_MODEL": str(description),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "benchmarks.reference", str(rows)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise trained.NoModel(f"{served.path} does not run in TensorFlow: {done.stderr[-2000:]}")
    return tuple(json.loads(done.stdout.splitlines()[-1]))
