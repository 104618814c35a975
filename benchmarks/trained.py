"""The models that are served, made by Hornpipe's own training once and kept in build/bench-models.

Each name has a config in benchmarks/models; its data is scikit-learn's, so nothing is fetched. Flights are the
example's own config and data.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contract import bundle, routing
from contract.bundle import Bundle
from contract.manifest import Choice

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "build" / "bench-models"
DATA = KEPT / "data"
# As many as fit into 8 GB: the first look at a network is at all of them at once.
PICTURES = 100

Arrays = dict[str, NDArray[np.generic]]


class NoModel(Exception):
    """A model could not be made; the text says which, and what to look at."""


def get(name: str) -> Bundle:
    """The newest version of a model, trained now where there is none. Raises NoModel."""
    if routing.read(KEPT, name).production is None:
        print(f"training {name}, once", flush=True)
        _prepare(name)
        _train(name)
    version = routing.read(KEPT, name).production
    if version is None:
        raise NoModel(f"{name} has no production version in {KEPT}")
    return bundle.read_version(KEPT, name, version)


def serve_alone(made: Bundle, folder: Path, variant: str | None = None) -> Bundle:
    """A models folder that has this version alone, so that a promotion meanwhile changes nothing.

    `variant` is the one that serves, whatever training chose. Raises NoModel when the bundle has no such variant.
    """
    name, version = made.manifest.name, made.manifest.version
    shutil.rmtree(folder, ignore_errors=True)
    copy = folder / name / str(version)
    shutil.copytree(made.path, copy)
    if variant is not None:
        _choose(copy, made, variant)
    routing.promote(folder, name, version, by="benchmarks", why="to be measured")
    return bundle.read(copy)


def _choose(copy: Path, made: Bundle, variant: str) -> None:
    """Write the choice into the copy's manifest, which is the one file that has no checksum in it."""
    if variant not in {each.name for each in made.manifest.variants}:
        raise NoModel(f"{made.path} has no variant {variant}")
    each = [one.model_copy(update={"refused": None}) for one in made.manifest.variants]
    choice = Choice(variant=variant, why="the bench asks for it")
    manifest = made.manifest.model_copy(update={"variants": tuple(each), "chosen": choice})
    (copy / bundle.MANIFEST).write_text(manifest.model_dump_json())


def _train(name: str) -> None:
    config = "examples/flights/train.toml" if name == "flights" else f"benchmarks/models/{name}.toml"
    where = ["--models", str(KEPT), "--runs", str(KEPT / "runs"), "--promote"]
    _run("-m", "hornpipe", "train", config, *where)


def _prepare(name: str) -> None:
    if name == "flights":
        if not (ROOT / "build" / "flights").exists():
            _run("-m", "examples.flights.prepare", "build/flights")
        return
    DATA.mkdir(parents=True, exist_ok=True)
    np.savez(DATA / f"{name}.npz", **_ARRAYS[name]())


def _run(*arguments: str) -> None:
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""})
    if done.returncode:
        raise NoModel(f"python {' '.join(arguments)} ended with {done.returncode}")


def _cancer() -> Arrays:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return {"x": data.data.astype(np.float32), "label": np.where(data.target == 1, "benign", "malignant")}


def _digits() -> Arrays:
    from sklearn.datasets import load_digits

    pictures, labels = load_digits(return_X_y=True)
    return {"image": np.stack([_enlarged(each, 28) for each in pictures]), "digit": labels}


def _mobilenet() -> Arrays:
    from sklearn.datasets import load_digits

    pictures, labels = load_digits(return_X_y=True)
    image = np.stack([_enlarged(each, 224) for each in pictures[:PICTURES]])
    return {"image": np.repeat(image[..., None], 3, axis=3), "digit": labels[:PICTURES]}


_ARRAYS: dict[str, Callable[[], Arrays]] = {"cancer": _cancer, "digits": _digits, "mobilenet": _mobilenet}


def _enlarged(digit: NDArray[np.float64], size: int) -> NDArray[np.float32]:
    """A digit of 8 x 8 values up to 16, as [size, size] from 0 to 1."""
    from PIL import Image

    picture = Image.fromarray(np.uint8(digit.reshape(8, 8) * 255 / 16)).resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(picture, np.float32) / np.float32(255)
