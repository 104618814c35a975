"""Scoring a file: rows in, predictions out, through the encoder, runtime and wording of the service.

CSV and JSON lines need nothing more; Parquet needs pyarrow, which the training extra brings. Of a model on pictures, a
folder of them can be scored: a row is a file. In a CSV file, a picture is the path of its file, from the CSV's folder.
"""

import base64
import csv
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import orjson

from contract import cells, routing
from contract.errors import HornpipeError
from contract.features import Encoder, Problem
from contract.manifest import Output, RegressionOutput, TensorsOutput
from contract.signature import TensorSpec, is_number
from service.inference.answers import predictions
from service.settings import from_environment
from service.versions.loaded import LoadedModel, load

BATCH = 1024
FORMATS = (".csv", ".jsonl", ".parquet")
PICTURES = (".png", ".jpg", ".jpeg", ".webp")

Row = dict[str, Any]
Prediction = dict[str, Any]


class ScoringError(HornpipeError):
    """The file cannot be read or scored; nothing was written. Rows are counted from 0, as in the service's errors."""


@dataclass(frozen=True)
class Source:
    """Rows, and the files that they are, relative to their folder; no files where all rows are in one."""

    rows: Iterator[Row]
    files: list[str]


@dataclass(frozen=True)
class Wanted:
    """What a row is made of; `columns` says what the data of training called a feature, where it was another name."""

    encoder: Encoder
    columns: dict[str, str]

    def places(self, there: Collection[str], path: Path) -> dict[str, str]:
        """The column of a file that holds each feature: that of its name, or as in training. Raises ScoringError that
        names every required feature without one."""
        names = [feature.name for feature in self.encoder.features]
        either = {name: (name, self.columns.get(name, name)) for name in names}
        found = {name: column for name in names for column in reversed(either[name]) if column in there}
        lacking = [feature.name for feature in self.encoder.features if feature.required and feature.name not in found]
        if lacking:
            called = [" or ".join(dict.fromkeys(either[name])) for name in lacking]
            raise ScoringError(f"{path}: has no column {', no '.join(called)}; its columns: {', '.join(there)}")
        return found


def score_file(models: Path, name: str, source: Path, target: Path | None) -> int:
    """Write one prediction a row of `source`, in order; the number of rows.

    `target` appears whole or not at all. Without one, CSV goes to standard output as it comes. Columns that are no
    features are left out of the encoding. Raises ScoringError, RoutingError or BundleError.
    """
    production = routing.read(models, name).production
    if production is None:
        raise ScoringError(f"{name} has no production version in {models}; see hornpipe models")
    settings = from_environment(os.environ).model_copy(update={"isolate": False})  # nobody waits meanwhile
    model = load(models, name, production, settings)
    sections = model.manifest.config.get("features", {})
    columns = {feature: section["column"] for feature, section in sections.items() if section.get("column")}
    opened = open_source(source, Wanted(model.encoder, columns))
    layout = Layout(model.manifest.output, bool(opened.files))
    return _write(_score(model, opened), layout, target)


def open_source(path: Path, wanted: Wanted) -> Source:
    """Rows with the features' columns alone, read as they are asked for. Raises ScoringError."""
    if not path.is_dir():
        return Source(_read_file(path, wanted), [])
    encoder = wanted.encoder
    names = [feature.name for feature in encoder.features]
    if encoder.image_feature is None or len(names) > 1:
        raise ScoringError(f"{path}: is a folder, but the model's features are not one picture: {', '.join(names)}")
    files = [file for file in sorted(path.rglob("*")) if file.suffix.lower() in PICTURES]
    rows = ({names[0]: _picture(file)} for file in files)
    return Source(rows, [file.relative_to(path).as_posix() for file in files])


def _read_file(path: Path, wanted: Wanted) -> Iterator[Row]:
    readers = dict(zip(FORMATS, (_read_csv, _read_jsonl, _read_parquet), strict=True))
    if path.suffix not in readers:
        raise ScoringError(f"{path}: expected {', '.join(FORMATS)}, got {path.suffix or 'no suffix'}")
    try:
        yield from readers[path.suffix](path, wanted)
    except OSError as error:
        raise ScoringError(f"{error.filename or path}: {error.strerror or error}") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise ScoringError(f"{path}: {error}") from error


def _picture(path: Path) -> dict[str, str]:
    """A file as a request has it."""
    try:
        return {"b64": base64.b64encode(path.read_bytes()).decode()}
    except OSError as error:
        raise ScoringError(f"{path}: {error.strerror}") from error


def _read_csv(path: Path, wanted: Wanted) -> Iterator[Row]:
    """Empty cells and NA are missing; what is not a number stays text, for the encoder to complain of."""
    encoder = wanted.encoder
    kinds = {feature.name: feature.kind for feature in encoder.features}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.DictReader(file)
        places = wanted.places(rows.fieldnames or [], path)
        for row in rows:
            if encoder.tensor_features:
                yield cells.row(encoder.tensor_features, row)
            else:
                yield {name: _cell(row[place], kinds[name], path.parent) for name, place in places.items()}


def _cell(text: str | None, kind: str, folder: Path) -> float | str | dict[str, str] | None:
    if kind == "text":
        return text
    if text is None or text in ("", "NA"):
        return None
    if kind == "image":
        return _picture(folder / text)
    try:
        return float(text) if kind == "number" else text
    except ValueError:
        return text


def _read_jsonl(path: Path, wanted: Wanted) -> Iterator[Row]:
    """Unlike elsewhere, an unknown key is an error: whoever writes JSON for us means what is in it."""
    del wanted
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield orjson.loads(line)
                except orjson.JSONDecodeError as error:
                    raise ScoringError(f"{path}, line {number}: is not JSON: {error}") from error


def _read_parquet(path: Path, wanted: Wanted) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise ScoringError(f"{path}: reading Parquet needs pyarrow: pip install 'hornpipe[train]'") from error
    try:
        file = pq.ParquetFile(path)
        places = wanted.places(file.schema_arrow.names, path)
        for batch in file.iter_batches(BATCH, columns=[*dict.fromkeys(places.values())]):
            for row in batch.to_pylist():
                yield {name: None if row[place] != row[place] else row[place] for name, place in places.items()}
    except pa.ArrowInvalid as error:
        raise ScoringError(f"{path}: is not Parquet: {error}") from error


def _score(model: LoadedModel, source: Source) -> Iterator[Prediction]:
    start, output = 0, model.manifest.output
    while batch := list(islice(source.rows, min(BATCH, model.most_rows))):
        encoded = model.encoder.encode(batch)
        if isinstance(encoded, list):
            raise ScoringError(_explain(encoded, start, source.files))
        predicted = predictions(output, model.run(encoded))
        files = source.files[start : start + len(batch)]
        yield from ({"file": file} | each for file, each in zip(files, predicted, strict=True)) if files else predicted
        start += len(batch)
    if start == 0:
        raise ScoringError("there are no rows")


def _explain(problems: list[Problem], start: int, files: list[str]) -> str:
    """Every problem, with the file's name for its number where rows are files."""
    lines = [f"  {p.path}: {p.problem}, expected {p.expected}, got {p.received}" for p in problems]
    if not files:
        return "\n".join([f"rows from {start} on, counted from there:", *lines])
    named = [
        re.sub(r"^  instances\[(\d+)\]", lambda found: f"  {files[start + int(found[1])]}", line) for line in lines
    ]
    return "\n".join(["pictures that cannot be scored:", *named])


@dataclass(frozen=True)
class Layout:
    """The columns of a table of predictions."""

    output: Output
    with_files: bool

    @property
    def texts(self) -> list[str]:
        """The columns that hold strings; they come first, but for those of an imported model."""
        if isinstance(self.output, TensorsOutput):
            return [spec.name for spec in self.output.tensors if not is_number(spec.dtype, spec.row)]
        label = [] if isinstance(self.output, RegressionOutput) else ["label"]
        return [*(["file"] if self.with_files else []), *label]

    @property
    def columns(self) -> list[str]:
        if isinstance(self.output, TensorsOutput):
            return [spec.name for spec in self.output.tensors]
        if isinstance(self.output, RegressionOutput):
            return [*self.texts, "value", "low", "high"]
        return [*self.texts, "probability", *(f"probability_{name}" for name in self.output.classes)]

    def flat(self, prediction: Prediction) -> list[Any]:
        """A prediction's values, in the order of the columns; of an imported model, what is no number as JSON."""
        if isinstance(self.output, TensorsOutput):
            named = prediction if len(self.output.tensors) > 1 else {self.output.tensors[0].name: prediction}
            return [_cell_of(spec, named[spec.name]) for spec in self.output.tensors]
        values = [value for key, value in prediction.items() if key != "probabilities"]
        if isinstance(self.output, RegressionOutput):
            return values
        return values + [prediction["probabilities"][name] for name in self.output.classes]


def _cell_of(spec: TensorSpec, answer: Any) -> float | str:  # noqa: ANN401  # whatever JSON has
    if is_number(spec.dtype, spec.row):
        number: float = answer[0] if spec.row else answer
        return number
    return answer if isinstance(answer, str) else orjson.dumps(answer).decode()


def _write(scored: Iterable[Prediction], layout: Layout, target: Path | None) -> int:
    if target is None:
        return _write_csv(scored, layout, sys.stdout)
    if target.suffix not in FORMATS:
        raise ScoringError(f"{target}: expected {', '.join(FORMATS)}, got {target.suffix or 'no suffix'}")
    with whole_or_absent(target) as beside:
        if target.suffix == ".parquet":
            return _write_parquet(scored, layout, beside)
        with beside.open("w", newline="", encoding="utf-8") as file:
            return _write_csv(scored, layout, file) if target.suffix == ".csv" else _write_jsonl(scored, file)


def _write_csv(scored: Iterable[Prediction], layout: Layout, file: TextIO) -> int:
    writer = csv.writer(file)
    writer.writerow(layout.columns)
    count = 0
    for count, prediction in enumerate(scored, 1):  # noqa: B007  # the number of rows is the answer
        writer.writerow(layout.flat(prediction))
    return count


def _write_jsonl(scored: Iterable[Prediction], file: TextIO) -> int:
    count = 0
    for count, prediction in enumerate(scored, 1):  # noqa: B007  # the number of rows is the answer
        file.write(orjson.dumps(prediction, option=orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
    return count


def _write_parquet(scored: Iterable[Prediction], layout: Layout, path: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = pa.float64() if isinstance(layout.output, TensorsOutput) else pa.float32()
    types = [pa.string() if name in layout.texts else number for name in layout.columns]
    schema = pa.schema(list(zip(layout.columns, types, strict=True)))
    rows, count = iter(scored), 0
    with pq.ParquetWriter(path, schema) as writer:
        while batch := [layout.flat(prediction) for prediction in islice(rows, 64 * BATCH)]:
            arrays = [pa.array(column, kind) for column, kind in zip(zip(*batch, strict=True), types, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema))
            count += len(batch)
    return count


@contextmanager
def whole_or_absent(target: Path) -> Iterator[Path]:
    """Where to write what is to be there once it is whole."""
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield beside
        beside.replace(target)
    finally:
        beside.unlink(missing_ok=True)
