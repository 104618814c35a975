"""Scoring a file: rows in, predictions out, through the encoder, runtime and wording of the service.

CSV and JSON lines need nothing more; Parquet needs pyarrow, which the training extra brings.
"""

import csv
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import orjson

from contract import routing
from contract.errors import HornpipeError
from contract.features import Encoder
from contract.manifest import BinaryOutput
from service.errors import InvalidRequest
from service.predictor import Prediction, encode, predictions
from service.registry import LoadedModel, load
from service.settings import from_environment

BATCH = 1024
FORMATS = (".csv", ".jsonl", ".parquet")

Row = dict[str, Any]


class ScoringError(HornpipeError):
    """The file cannot be read or scored; nothing was written. Rows are counted from 0, as in the service's errors."""


def score_file(models: Path, name: str, source: Path, target: Path | None) -> int:
    """Write one prediction a row of `source`, in order; the number of rows.

    `target` appears whole or not at all. Without one, CSV goes to standard output as it comes. Columns that are no
    features are left out of the encoding. Raises ScoringError, RoutingError or BundleError.
    """
    production = routing.read(models, name).production
    if production is None:
        raise ScoringError(f"{name} has no production version in {models}; see hornpipe models")
    model = load(models, name, production, from_environment(os.environ))
    try:
        return _write(_score(model, read_rows(source, model.encoder)), model.manifest.output, target)
    finally:
        model.retire()


def read_rows(path: Path, encoder: Encoder) -> Iterator[Row]:
    """Rows with the features' columns alone. Raises ScoringError."""
    readers = dict(zip(FORMATS, (_read_csv, _read_jsonl, _read_parquet), strict=True))
    if path.suffix not in readers:
        raise ScoringError(f"{path}: expected {', '.join(FORMATS)}, got {path.suffix or 'no suffix'}")
    try:
        yield from readers[path.suffix](path, encoder)
    except OSError as error:
        raise ScoringError(f"{path}: {error.strerror or error}") from error


def _read_csv(path: Path, encoder: Encoder) -> Iterator[Row]:
    """Empty cells and NA are missing; what is not a number stays text, for the encoder to complain of."""
    numbers = {feature.name for feature in encoder.number_features}
    names = {feature.name for feature in encoder.features}
    with path.open(newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            yield {name: _cell(row[name], name in numbers) for name in names & row.keys()}


def _cell(text: str | None, is_number: bool) -> float | str | None:
    if text is None or text in ("", "NA"):
        return None
    if not is_number:
        return text
    try:
        return float(text)
    except ValueError:
        return text


def _read_jsonl(path: Path, encoder: Encoder) -> Iterator[Row]:
    """Unlike elsewhere, an unknown key is an error: whoever writes JSON for us means what is in it."""
    del encoder
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise ScoringError(f"{path}, line {number}: is not JSON: {error}") from error


def _read_parquet(path: Path, encoder: Encoder) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ScoringError(f"{path}: reading Parquet needs pyarrow: pip install 'hornpipe[train]'") from error
    names = {feature.name for feature in encoder.features}
    try:
        file = pq.ParquetFile(path)
        columns = [name for name in file.schema_arrow.names if name in names]
        for batch in file.iter_batches(BATCH, columns=columns):
            yield from ({k: None if v != v else v for k, v in row.items()} for row in batch.to_pylist())
    except pa.ArrowInvalid as error:
        raise ScoringError(f"{path}: is not Parquet: {error}") from error


def _score(model: LoadedModel, rows: Iterable[Row]) -> Iterator[Prediction]:
    rows, start = iter(rows), 0
    while batch := list(islice(rows, BATCH)):
        try:
            encoded = encode(model, batch)
        except InvalidRequest as error:
            lines = [f"  {p.path}: {p.problem}, expected {p.expected}, got {p.received}" for p in error.problems]
            raise ScoringError("\n".join([f"rows from {start} on, counted from there:", *lines])) from error
        outputs, _ = model.run(encoded)
        yield from predictions(model.manifest.output, outputs[model.manifest.output.name])
        start += len(batch)
    if start == 0:
        raise ScoringError("there are no rows")


def _write(scored: Iterable[Prediction], output: BinaryOutput, target: Path | None) -> int:
    if target is None:
        return _write_csv(scored, output, sys.stdout)
    if target.suffix not in FORMATS:
        raise ScoringError(f"{target}: expected {', '.join(FORMATS)}, got {target.suffix or 'no suffix'}")
    with _whole_or_absent(target) as beside:
        if target.suffix == ".parquet":
            return _write_parquet(scored, output, beside)
        with beside.open("w", newline="", encoding="utf-8") as file:
            return _write_csv(scored, output, file) if target.suffix == ".csv" else _write_jsonl(scored, file)


def _write_csv(scored: Iterable[Prediction], output: BinaryOutput, file: TextIO) -> int:
    writer = csv.writer(file)
    writer.writerow(_columns(output))
    count = 0
    for count, prediction in enumerate(scored, 1):  # noqa: B007  # the number of rows is the answer
        writer.writerow(_flat(prediction, output))
    return count


def _write_jsonl(scored: Iterable[Prediction], file: TextIO) -> int:
    count = 0
    for count, prediction in enumerate(scored, 1):  # noqa: B007  # the number of rows is the answer
        file.write(orjson.dumps(prediction, option=orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
    return count


def _write_parquet(scored: Iterable[Prediction], output: BinaryOutput, path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = [pa.string(), *[pa.float32()] * (1 + len(output.classes))]
    schema = pa.schema(list(zip(_columns(output), types, strict=True)))
    rows, count = iter(scored), 0
    with pq.ParquetWriter(path, schema) as writer:
        while batch := [_flat(prediction, output) for prediction in islice(rows, 64 * BATCH)]:
            arrays = [pa.array(column, kind) for column, kind in zip(zip(*batch, strict=True), types, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema))
            count += len(batch)
    return count


def _columns(output: BinaryOutput) -> list[str]:
    return ["label", "probability", *(f"probability_{name}" for name in output.classes)]


def _flat(prediction: Prediction, output: BinaryOutput) -> list[Any]:
    probabilities = prediction["probabilities"]
    return [prediction["label"], prediction["probability"], *(probabilities[name] for name in output.classes)]


@contextmanager
def _whole_or_absent(target: Path) -> Iterator[Path]:
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield beside
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
