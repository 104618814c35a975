"""What `hornpipe labels` does: logged rows with their labels as data to train on, and forgetting a request.

Both work beside services that run, on the same machine: they read and write what those do.
"""

import argparse
import math
import os
import sys
from base64 import b64decode
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from contract import bundle
from contract.errors import BundleError
from contract.images import encode_png
from service.labels.indexing import index
from service.labels.labelled import LabelsError
from service.labels.labels import NAME, Labels, reading
from service.labels.training_rows import Columns, Row, write
from service.predictions import segments

IMAGES = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"RIFF": ".webp"}


class Wanted(NamedTuple):
    """Which rows: of a model, of one of its versions, predicted from `since` to before `until`, in Unix seconds."""

    model: str
    version: int | None
    since: float
    until: float


def labels(options: argparse.Namespace) -> int:
    """Exit code 0; raises LabelsError."""
    folder = options.folder or Path(os.environ.get("HORNPIPE_PREDICTIONS_DIR", ""))
    if folder == Path() or not (folder / NAME).exists():
        raise LabelsError(f"no predictions are kept in {folder}: say where, with --folder or HORNPIPE_PREDICTIONS_DIR")
    if options.forget is not None:
        print(f"rows forgotten: {forget(folder, options.forget):,}", file=sys.stderr)  # noqa: T201  # a command's
        return 0
    if options.name is None or options.output is None:
        raise LabelsError("say of which model, and where to: hornpipe labels NAME -o FILE")
    wanted = Wanted(options.name, options.version, _time(options.since, -math.inf), _time(options.until, math.inf))
    count = export(folder, wanted, options.output, _columns(options.models, wanted, options.target))
    print(f"{count:,} labelled rows in {options.output}", file=sys.stderr)  # noqa: T201  # a command's
    return 0


def export(folder: Path, wanted: Wanted, target: Path, columns: Columns) -> int:
    """Write every row with a known label; how many. `target` is a file, or a folder of pictures. Raises LabelsError."""
    with closing(Labels(folder)) as file:
        index(file, folder)
    if target.suffix:
        return write(lambda: (columns.flat(row) for row in rows(folder, wanted)), target)
    return _write_pictures(rows(folder, wanted), target)


def rows(folder: Path, wanted: Wanted) -> Iterator[Row]:
    """Of the segments that are there, in their order; a request that was logged twice is what it was last."""
    query = (
        "SELECT l.row, l.label FROM predictions p JOIN labels l ON l.id = p.id AND l.row = p.row"
        " WHERE p.id = ? AND p.at = ? ORDER BY l.row"
    )
    with reading(folder) as connection:
        for line in _lines(folder, wanted):
            for row, label in connection.execute(query, (line["id"], line["time"])).fetchall():
                yield Row(line["id"], row, line["time"], line["version"], line["rows"][row], label)


def forget(folder: Path, request_id: str) -> int:
    """Remove a request from the log, its labels and whatever else there is of it; how many rows. Raises LabelsError."""
    found = 0
    try:
        for path in segments.paths(folder):
            for start, end, line in segments.read(path):
                if line.get("id") == request_id:
                    segments.erase(path, start, end)
                    found += len(line["rows"])
    except OSError as error:
        raise LabelsError(f"{folder}: {error}") from error
    with closing(Labels(folder)) as file:
        return max(found, file.forget(request_id))


def _lines(folder: Path, wanted: Wanted) -> Iterator[dict[str, Any]]:
    for path in segments.paths(folder):
        try:
            for _, _, line in segments.read(path):
                if (
                    line.get("model") == wanted.model
                    and wanted.version in (None, line["version"])
                    and wanted.since <= line["time"] < wanted.until
                ):
                    yield line
        except FileNotFoundError:  # it was the oldest, and had to make room
            continue


def _write_pictures(found: Iterator[Row], target: Path) -> int:
    """As training reads them: a folder for each class. Raises LabelsError for rows that are more than a picture."""
    count = 0
    for count, row in enumerate(found, 1):  # noqa: B007  # the number of rows is the answer
        content = _picture(row.given)
        if content is None:
            raise LabelsError(f"{target}: a folder is for pictures; these rows go to a file: .csv, .jsonl or .parquet")
        name = str(row.label)
        if "/" in name or name.startswith("."):
            raise LabelsError(f"{target}: the class {name!r} cannot be the name of a folder")
        suffix = next((suffix for start, suffix in IMAGES.items() if content.startswith(start)), ".png")
        path = target / name / f"{row.row}-{row.id}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return count


def _picture(given: Any) -> bytes | None:  # noqa: ANN401  # whatever JSON has
    """The file of a row that is a picture, and made of whole numbers where it came as lists; else None."""
    values = list(given.values()) if isinstance(given, dict) else []
    match values:
        case [{"b64": str(content)}]:
            return b64decode(content)
        case [list(lists)]:
            pixels = np.array(lists)
            if pixels.dtype.kind in "iu" and pixels.ndim in (2, 3):
                shaped = pixels.astype(np.uint8).reshape(*pixels.shape[:2], -1)
                return b64decode(encode_png(shaped))
    return None


def _columns(models: Path, wanted: Wanted, target: str | None) -> Columns:
    """As the version's own config calls them, so that it trains on them; where it is gone, as the rows do."""
    try:
        versions = bundle.versions(models, wanted.model)
        version = wanted.version if wanted.version is not None else max(versions, default=0)
        config = bundle.read_version(models, wanted.model, version).manifest.config
    except BundleError:
        config = {}
    features = config.get("features") or {}
    renamed = {name: section["column"] for name, section in features.items() if section.get("column")}
    return Columns(target or (config.get("data") or {}).get("target") or "label", renamed)


def _time(text: str | None, default: float) -> float:
    """Unix seconds of a date or time; UTC where it does not say otherwise."""
    if text is None:
        return default
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        raise LabelsError(f"expected a date or time such as 2026-11-22 or 2026-11-22T08:00, got {text!r}") from error
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
