"""The rows on which the forms of an imported model are compared: a sample of real ones, or random ones that fit.

A sample is what clients send, in one of these files; columns and keys that are no inputs are left out.

- `.jsonl`: a line a row: an object of the inputs, or the bare value of the only input.
- `.json`: a list of such rows, or a TensorFlow Serving request, {"instances": [...]}.
- `.npz`: an array [n, ...] for each input; `.npy`: that of the only input.
- `.csv`: as contract.cells has it.
"""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from contract import cells
from contract.encoded import Tensors
from contract.errors import RunFailed
from contract.features import Encoded, Encoder, Problem
from contract.manifest import TensorFeature
from contract.runtimes import Outputs, Runtime
from contract.signature import UNKNOWN, numpy_dtype
from training.errors import DataError
from training.exporting.conversion import why

MOST_ROWS = 10_000
RANDOM_ROWS = 64
MOST_VALUES = 20_000_000

# Unknown sizes of random rows, and from where on random whole numbers are too large: an index into a vocabulary or a
# sequence may be anything below what nobody tells, so they are tried until the model takes them.
_SIZES = (32, 8, 1, 224)
_TOPS = (256, 10, 2, 1)

_WORDS = (b"a", b"the model", b"", b"42", "Übung".encode(), b"a sentence of some more words than one")


@dataclass(frozen=True)
class Rows:
    """n rows, n > 0, as a runtime takes them; `sampled` where they are real. `note` says what a person should know."""

    encoded: Encoded
    sampled: bool
    note: str = ""


def sample(path: Path, features: Sequence[TensorFeature]) -> Rows:
    """The rows of a file, evenly spread where they are very many. Raises DataError with every problem."""
    readers: dict[str, Callable[[Path, Sequence[TensorFeature]], Any]] = {
        ".jsonl": _jsonl,
        ".json": _json,
        ".csv": _csv,
        ".npz": _arrays,
        ".npy": _arrays,
    }
    if path.suffix not in readers:
        raise DataError(str(path), [f"expected one of {', '.join(readers)}"])
    try:
        content = readers[path.suffix](path, features)
    except (OSError, ValueError, EOFError, csv.Error, BadZipFile) as error:  # what is no such file has many names
        raise DataError(str(path), [f"cannot be read: {why(error)}"]) from error
    encoder = Encoder(features)
    if isinstance(content, Mapping):
        return Rows(_spread(_sound(path, encoder.encode_tensors(content))), sampled=True)
    rows, note = _of_one_shape(encoder, _known(content, features))
    return Rows(_spread(_sound(path, encoder.encode(rows))), sampled=True, note=note)


def random(features: Sequence[TensorFeature], runtime: Runtime) -> Rows:
    """Random rows that the model takes, by trial. Raises DataError where it takes none of them."""
    problem = ""
    sizes = _SIZES if any(UNKNOWN in feature.shape for feature in features) else _SIZES[:1]
    for size in sizes:
        for top in _TOPS if any(numpy_dtype(f.dtype).kind in "iu" for f in features) else _TOPS[:1]:
            encoded = Encoded.of_tensors(_drawn(features, size, top))
            try:
                runtime.run(encoded)
            except RunFailed as error:
                problem = said(error)
            else:
                return Rows(encoded, sampled=False)
    raise DataError("random rows", [f"the model takes none: {problem}", "give it real ones with --sample FILE"])


def answers(runtime: Runtime, encoded: Encoded) -> Outputs:
    """The outputs of all rows by name, some hundred rows at a time."""
    batch = max(1, min(256, MOST_VALUES // (10 * values_a_row(encoded))))
    parts = [runtime.run(encoded.take(slice(i, i + batch))) for i in range(0, encoded.rows, batch)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def said(error: RunFailed) -> str:
    """What TensorFlow said, without where the model lies meanwhile and in which of its functions it was."""
    return re.sub(r"^.*?\.staging-[^:]*: |\{\{.*?\}\} ?", "", str(error))[:300]


def values_a_row(encoded: Encoded) -> int:
    """How many values the largest input has in a row, at least one."""
    return max(1, *(math.prod(tensor.shape[1:]) for tensor in encoded.named().values()))


def _drawn(features: Sequence[TensorFeature], size: int, top: int) -> Tensors:
    draw = np.random.default_rng(0)
    shapes = {feature.name: [size if each == UNKNOWN else each for each in feature.shape] for feature in features}
    rows = max(2, min(RANDOM_ROWS, MOST_VALUES // max(1, *map(math.prod, shapes.values()))))
    return {feature.name: _random(draw, feature, (rows, *shapes[feature.name]), top) for feature in features}


def _random(draw: np.random.Generator, feature: TensorFeature, shape: tuple[int, ...], top: int) -> NDArray[Any]:
    if feature.dtype == "string":
        return np.array(_WORDS, object)[draw.integers(len(_WORDS), size=shape)]
    if feature.dtype == "bool":
        return draw.integers(2, size=shape).astype(bool)
    wanted = numpy_dtype(feature.dtype)
    if wanted.kind in "iu":
        return draw.integers(min(top, np.iinfo(wanted).max + 1), size=shape).astype(wanted)
    values = draw.uniform(size=shape)
    values[1::2] = draw.normal(size=values[1::2].shape)  # every other row is not of pixels
    return values.astype(wanted)


def _sound(path: Path, encoded: Encoded | list[Problem]) -> Encoded:
    if isinstance(encoded, Encoded):
        return encoded
    lines = [f"{p.path}: {p.problem}, expected {p.expected}, got {p.received}" for p in encoded]
    raise DataError(str(path), lines)


def _spread(encoded: Encoded) -> Encoded:
    """At most so many rows as a person wants to wait for, evenly spread."""
    most = max(2, min(MOST_ROWS, MOST_VALUES // values_a_row(encoded)))
    if encoded.rows <= most:
        return encoded
    return encoded.take(np.linspace(0, encoded.rows - 1, most).astype(np.int64))


def _known(rows: object, features: Sequence[TensorFeature]) -> object:
    """Rows without the keys that are no inputs, where they are objects of inputs."""
    names = {feature.name for feature in features}
    if not isinstance(rows, list):
        return rows
    known = [{k: v for k, v in row.items() if k in names} if isinstance(row, dict) else row for row in rows]
    return [row if kept == {} else kept for row, kept in zip(rows, known, strict=True)]


def _of_one_shape(encoder: Encoder, rows: object) -> tuple[object, str]:
    """Those rows that are of the most frequent shape, where sizes are unknown: only they can be run together."""
    if not isinstance(rows, list) or not any(UNKNOWN in feature.shape for feature in encoder.tensor_features):
        return rows, ""
    shapes = [_shapes(encoder.encode([row])) for row in rows]
    (most, count), *others = Counter(shapes).most_common()
    if not others or not most:
        return rows, ""
    kept = [row for row, shape in zip(rows, shapes, strict=True) if shape == most]
    return kept, f"{count} of {len(rows)} rows are of one shape and were compared"


def _shapes(encoded: Encoded | list[Problem]) -> tuple[tuple[int, ...], ...]:
    return () if isinstance(encoded, list) else tuple(tensor.shape[1:] for tensor in encoded.named().values())


def _jsonl(path: Path, features: Sequence[TensorFeature]) -> list[Any]:
    del features
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def _json(path: Path, features: Sequence[TensorFeature]) -> Any:  # noqa: ANN401  # whatever JSON has
    del features
    content = json.loads(path.read_text(encoding="utf-8"))
    return content["instances"] if isinstance(content, dict) and "instances" in content else content


def _arrays(path: Path, features: Sequence[TensorFeature]) -> Mapping[str, NDArray[Any]]:
    stored = np.load(path, allow_pickle=False)
    if isinstance(stored, np.ndarray):
        return {features[0].name: stored}
    names = [feature.name for feature in features]
    with stored:
        if len(stored.files) == len(names) == 1:
            return {names[0]: stored[stored.files[0]]}
        return {name: stored[name] for name in stored.files if name in names}


def _csv(path: Path, features: Sequence[TensorFeature]) -> list[Any]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return [cells.row(features, row) for row in csv.DictReader(file)]
