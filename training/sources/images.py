"""A folder with a subfolder of PNG or JPEG files for each class. They are decoded by the service's own code."""

import base64
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contract.errors import PictureError
from contract.images import FORMATS, decode
from contract.manifest import ImageFeature
from training.errors import DataError
from training.rows import Prepared
from training.sections import FeatureSection, GroupSplit, TimeSplit, TrainingConfig
from training.sources import memory
from training.sources.memory import Pictures

SUFFIXES = frozenset({".png", ".jpg", ".jpeg"})
MOST_NAMED = 20
FEWEST = 3  # one to train, one to validate and one to test
TARGET = "class"
ORIENTATION = 0x0112  # the EXIF tag
GREY = frozenset({"1", "L", "LA", "I", "I;16"})  # of Pillow's modes


@dataclass(frozen=True)
class Picture:
    """A file and the class of its folder."""

    path: Path
    label: str


def is_folder_of_pictures(path: Path) -> bool:
    return path.is_dir() and any(p.suffix.lower() in SUFFIXES for p in path.rglob("*"))


def prepare(config: TrainingConfig, folder: Path) -> Prepared:
    """Raises DataError with everything in which the pictures are not what the config says."""
    pictures = _find(folder)
    if problems := [*_config_problems(config), *_class_problems(folder, pictures)]:
        raise DataError(config.data.path, problems)
    name, section = next(iter(config.features.items()))
    feature = _feature(name, section, pictures)
    pixels = _decode(config, folder, pictures, feature)
    labelled = config.model_copy(update={"data": config.data.model_copy(update={"target": TARGET})})
    table = pa.table({TARGET: [picture.label for picture in pictures]})
    column = Pictures(name, pixels, raw=lambda row: _as_sent(pictures[row].path))
    return memory.prepare(labelled, config.features, table, (), column)


def _find(folder: Path) -> list[Picture]:
    """In the order of their names, whatever their class: what an order split goes by."""
    found = [
        Picture(path, path.relative_to(folder).parts[0]) for path in folder.rglob("*") if _is_picture(path, folder)
    ]
    return sorted(found, key=lambda picture: (picture.path.name, picture.label))


def _is_picture(path: Path, folder: Path) -> bool:
    inside = path.relative_to(folder).parts
    return path.suffix.lower() in SUFFIXES and path.is_file() and not any(part.startswith(".") for part in inside)


def _config_problems(config: TrainingConfig) -> Iterable[str]:
    if config.data.target is not None:
        yield "data.target: the class of a picture is the subfolder it is in; leave this out"
    if config.task == "regression":
        yield "task: a folder of pictures has classes; for numbers give arrays in a .npz file"
    if isinstance(config.split, TimeSplit | GroupSplit):
        yield f'split.by: pictures have no columns to split by {config.split.by}; use "random" or "order"'
    if [section.kind for section in config.features.values()] != ["image"]:
        yield "features: a folder of pictures has one feature, of the kind image"


def _class_problems(folder: Path, pictures: list[Picture]) -> Iterable[str]:
    outside = [picture.path.name for picture in pictures if picture.path.parent == folder]
    if outside:
        yield f"{len(outside):,} pictures are in no class's subfolder: {_some(outside)}"
    counts = {path.name: 0 for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")}
    counts |= Counter(picture.label for picture in pictures if picture.path.parent != folder)
    for label, count in counts.items():
        if count < FEWEST:
            yield f"class {label}: {count} pictures; at least {FEWEST} are needed, one for each part of the split"
    if len(counts) < 2:
        yield f"a subfolder for each of at least two classes is expected, found {_some(list(counts)) or 'none'}"


def _feature(name: str, section: FeatureSection, pictures: list[Picture]) -> ImageFeature:
    """In the size and channels that the config says, or else those of the first picture that can be read."""
    height, width, channels = _first_shape(pictures) if section.size is None or section.channels is None else (0, 0, 0)
    if section.size is not None:
        height, width = section.size
    return ImageFeature(name=name, shape=(height, width, section.channels or channels))


def _first_shape(pictures: list[Picture]) -> tuple[int, int, int]:
    """Height, width and channels of the first picture that can be read; the others are named when all are decoded."""
    from PIL import Image

    for picture in pictures:
        try:
            with Image.open(picture.path, formats=FORMATS) as image:
                width, height = image.size
                lying = image.getexif().get(ORIENTATION, 1) >= 5  # to be shown turned by a quarter
                return *((width, height) if lying else (height, width)), 1 if image.mode in GREY else 3
        except (OSError, Image.DecompressionBombError):
            continue
    return 1, 1, 1


def _decode(config: TrainingConfig, folder: Path, pictures: list[Picture], feature: ImageFeature) -> NDArray[np.uint8]:
    """All of them, uint8 [n, height, width, channels]. Raises DataError naming those that cannot be read."""
    pixels = np.empty((len(pictures), *feature.shape), np.uint8)

    def read(row: int) -> str | None:
        try:
            pixels[row] = decode(pictures[row].path.read_bytes(), feature)
        except (PictureError, OSError) as error:
            return f"{pictures[row].path.relative_to(folder)}: {error}"
        return None

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # decoding leaves the interpreter's lock alone
        broken = [problem for problem in pool.map(read, range(len(pictures))) if problem]
    if broken:
        more = [f"and {len(broken) - MOST_NAMED:,} more"] if len(broken) > MOST_NAMED else []
        raise DataError(config.data.path, [*broken[:MOST_NAMED], *more])
    return pixels


def _as_sent(path: Path) -> dict[str, str]:
    return {"b64": base64.b64encode(path.read_bytes()).decode()}


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
