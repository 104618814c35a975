"""A folder with a subfolder of PNG, JPEG or WebP files for each class. They are decoded by the service's own code, once
where they fit into memory, and again in each epoch where they do not."""

import base64
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contract.features import Encoder
from contract.images import FORMATS
from contract.manifest import ImageFeature
from training.checking import checks
from training.errors import DataError
from training.rows import Indices, Prepared, Rows
from training.sections import FeatureSection, GroupSplit, TimeSplit, TrainingConfig
from training.sources import memory, shards
from training.sources.fingerprint import Fingerprint
from training.sources.memory import Pictures
from training.sources.picture_files import Picture, PictureFiles, decoded, rows_of
from training.sources.target import Target, labels
from training.task import TASKS

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp"})
MOST_NAMED = 20
FEWEST = 3  # one to train, one to validate and one to test
TARGET = "class"
STREAM_FROM_BYTES = 1_000_000_000
KEPT_BYTES = 512_000_000  # of each part of the split
CHUNK = 1024
ORIENTATION = 0x0112  # the EXIF tag
GREY = frozenset({"1", "L", "LA", "I", "I;16"})  # of Pillow's modes


def is_folder_of_pictures(path: Path) -> bool:
    return path.is_dir() and any(p.suffix.lower() in SUFFIXES for p in path.rglob("*"))


def prepare(config: TrainingConfig, folder: Path) -> Prepared:
    """Raises DataError with everything in which the pictures are not what the config says."""
    pictures = _find(folder)
    if problems := [*_config_problems(config), *_class_problems(folder, pictures)]:
        raise DataError(config.data.source, problems)
    name, section = next(iter(config.features.items()))
    feature = _feature(name, section, pictures)
    labelled = config.model_copy(update={"data": config.data.model_copy(update={"target": TARGET})})
    table = pa.table({TARGET: [picture.label for picture in pictures]})
    size = len(pictures) * int(np.prod(feature.shape))
    stream = size > STREAM_FROM_BYTES if config.data.stream == "auto" else config.data.stream
    return (_streamed if stream else _in_memory)(labelled, pictures, table, feature)


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


def _in_memory(config: TrainingConfig, pictures: list[Picture], table: pa.Table, feature: ImageFeature) -> Prepared:
    pixels, broken = decoded(pictures, feature)
    _refuse(config, broken)
    column = Pictures(feature.name, pixels, raw=lambda row: _as_sent(pictures[row].path))
    return memory.prepare(config, table, (), column)


def _streamed(config: TrainingConfig, pictures: list[Picture], table: pa.Table, feature: ImageFeature) -> Prepared:
    """Every picture is decoded once to see that it can be, and those that validate and test are kept."""
    target = Target(config)
    target.add(table)
    parts, problems = memory.split_rows(config, table, target)
    if problems := [*target.problems(), *problems]:
        raise DataError(config.data.source, problems)
    most = KEPT_BYTES // int(np.prod(feature.shape))
    kept = [_drawn(part, most, config.training.seed) for part in parts]
    digest = Fingerprint()
    digest.add(table)
    pixels = _read_once(config, pictures, feature, kept, digest)
    known = labels(table, config, target.classes)
    sample, validation, test = (Rows(rows_of(pixels[i]), known[rows]) for i, rows in enumerate(kept))
    return Prepared(
        task=TASKS[config.task],
        encoder=Encoder((feature,)),
        classes=target.classes,
        train=PictureFiles(pictures, feature, parts[0], known),
        sample=sample,
        validation=validation,
        test=test,
        raw_test=lambda chosen: [{feature.name: _as_sent(pictures[kept[2][row]].path)} for row in chosen],
        fingerprint=digest.hexdigest(),
        warnings=(
            *shards.drawn([len(part) for part in parts], [len(rows) for rows in kept]),
            *checks.warnings(config, table, parts),
        ),
    )


def _drawn(rows: Indices, most: int, seed: int) -> Indices:
    """All of them, or as many drawn evenly, ascending."""
    return rows if len(rows) <= most else np.sort(np.random.default_rng(seed).choice(rows, most, replace=False))


def _read_once(
    config: TrainingConfig, pictures: list[Picture], feature: ImageFeature, kept: list[Indices], digest: Fingerprint
) -> list[NDArray[np.uint8]]:
    """The pictures of each of `kept`, from one reading of all."""
    parts = [np.empty((len(rows), *feature.shape), np.uint8) for rows in kept]
    broken: list[str] = []
    for start in range(0, len(pictures), CHUNK):
        pixels, problems = decoded(pictures[start : start + CHUNK], feature)
        broken += problems
        digest.add_pixels(feature.name, pixels)
        for rows, part in zip(kept, parts, strict=True):
            first, last = np.searchsorted(rows, [start, start + CHUNK])
            part[first:last] = pixels[rows[first:last] - start]
    _refuse(config, broken)
    return parts


def _refuse(config: TrainingConfig, broken: list[str]) -> None:
    if broken:
        more = [f"and {len(broken) - MOST_NAMED:,} more"] if len(broken) > MOST_NAMED else []
        raise DataError(config.data.source, [*broken[:MOST_NAMED], *more])


def _as_sent(path: Path) -> dict[str, str]:
    return {"b64": base64.b64encode(path.read_bytes()).decode()}


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3:,} more" if len(names) > 3 else "")
