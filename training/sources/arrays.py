"""Arrays of a .npz file, n values or vectors or pictures each, made into a table and pictures.

A number of shape [n] is one feature; [n, d] is d of them, x_0 to x_{d-1}. A picture is [n, height, width] or
[n, height, width, 1 or 3]; uint8 stays uint8, everything else becomes float32 with the range of its training rows.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contract.images import encode_png
from training.errors import DataError
from training.rows import Prepared
from training.sections import FeatureSection, TrainingConfig
from training.sources import files, memory
from training.sources.memory import Pictures

Arrays = dict[str, NDArray[Any]]


def prepare(config: TrainingConfig, path: Path) -> Prepared:
    """Raises DataError with everything in which the arrays are not what the config says."""
    if config.data.stream is True:
        raise DataError("data.stream", ["only Parquet files and pictures can be streamed; these are arrays"])
    arrays = _read(config, path)
    pictures = next((_pictures(config, arrays, name) for name in _of_kind(config, images=True)), None)
    sections, columns = _columns(config, arrays)
    config, table = config.model_copy(update={"features": sections}), pa.table(columns)
    misfits = files.misfits(config, {path.name: table.schema})
    table = files.normal(config, table.drop_columns(list(misfits)), path.name)
    problems = [f"{name}: {problem}" for name, problem in misfits.items()]
    return memory.prepare(config, table, problems, pictures)


def _read(config: TrainingConfig, path: Path) -> Arrays:
    """The arrays that the config names, by the names of the table."""
    chosen = files.wanted(config)
    chosen |= {name: config.features[name].column or name for name in _of_kind(config, images=True)}
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            files.check_names(config, chosen, {path.name: list(archive)})
            arrays = {name: archive[array] for name, array in chosen.items()}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(str(path), [f"cannot be read as a .npz file of plain arrays: {error}"]) from error
    if problems := list(_shape_problems(config, arrays)):
        raise DataError(str(path), problems)
    return arrays


def _of_kind(config: TrainingConfig, *, images: bool) -> list[str]:
    return [name for name, section in config.features.items() if (section.kind == "image") is images]


def _shape_problems(config: TrainingConfig, arrays: Arrays) -> Iterator[str]:
    rows = {name: array.shape[:1] for name, array in arrays.items()}
    if len(set(rows.values())) > 1:
        counts = ", ".join(f"{name} has {'no rows' if not shape else f'{shape[0]:,}'}" for name, shape in rows.items())
        yield f"the arrays must have one value for each row: {counts}"
    for name, array in arrays.items():
        if expected := _wrong_shape(config.features.get(name), array):
            yield f"{name}: {expected} is expected, the array is {array.dtype} {list(array.shape)}"


def _wrong_shape(section: FeatureSection | None, array: NDArray[Any]) -> str | None:
    """The shape that is expected, where the array's is another. No section: the target, or what the split goes by."""
    if section is None or section.kind in ("category", "text"):
        return None if array.ndim == 1 else "[rows]"
    if section.kind == "number":
        return None if array.ndim in (1, 2) else "[rows] or [rows, numbers]"
    channels = array.shape[3] if array.ndim == 4 else 1
    if array.ndim not in (3, 4) or channels not in (1, 3) or array.dtype.kind not in "uif":
        return "pictures [rows, height, width] or [rows, height, width, 1 or 3] of numbers"
    asked = [*(section.size or array.shape[1:3]), section.channels or channels]
    return None if asked == [*array.shape[1:3], channels] else f"[rows, {', '.join(map(str, asked))}] by the config"


def _pictures(config: TrainingConfig, arrays: Arrays, name: str) -> Pictures:
    array = arrays[name]
    pixels = array if array.dtype == np.uint8 else array.astype(np.float32)
    pixels = pixels if pixels.ndim == 4 else pixels[..., np.newaxis]
    if bad := int(np.count_nonzero(~np.isfinite(pixels).all(axis=(1, 2, 3)))) if pixels.dtype != np.uint8 else 0:
        raise DataError(config.data.source, [f"{name}: {bad:,} pictures hold values that are not finite in float32"])
    whole = pixels.dtype == np.uint8  # a PNG holds those exactly, in a tenth of the characters
    return Pictures(name, pixels, raw=lambda row: {"b64": encode_png(pixels[row])} if whole else pixels[row].tolist())


def _columns(config: TrainingConfig, arrays: Arrays) -> tuple[dict[str, FeatureSection], dict[str, pa.Array]]:
    """Sections and columns of the same names, a matrix of numbers with one for each of its columns."""
    sections: dict[str, FeatureSection] = {}
    columns = {name: pa.array(array) for name, array in arrays.items() if name not in config.features}
    for name, section in config.features.items():
        if section.kind == "image":
            sections[name] = section
            continue
        parts = _split(name, arrays[name])
        if twice := parts.keys() & (columns.keys() | sections.keys()):
            raise DataError(config.data.source, [f"{name}: its column is called {min(twice)}, as another is"])
        sections |= dict.fromkeys(parts, section)
        columns |= parts
    return sections, columns


def _split(name: str, array: NDArray[Any]) -> dict[str, pa.Array]:
    if array.ndim == 1:
        return {name: pa.array(array)}
    return {f"{name}_{i}": pa.array(np.ascontiguousarray(column)) for i, column in enumerate(array.T)}
