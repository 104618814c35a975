"""The executable forms of a model: made, compared with the float32 SavedModel, timed, chosen."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from contract import runtimes
from contract.bundle import VARIANTS
from contract.evidence import improvement
from contract.features import Encoded, Encoder
from contract.manifest import Choice, GoldenExample, Latency, Variant
from contract.proof import largest_difference
from contract.runtimes import LiteRT, Runtime, SavedModel
from training import bootstrap
from training.golden import encode
from training.metrics import metrics
from training.rows import Prepared, Rows
from training.sections import QuantizationSection, TrainingConfig, VariantName
from training.signatures import packed_signature
from training.task import Scores, Task

FLOAT_TOLERANCE = 1e-5
BATCH = 4096
MOST_VALUES = 20_000_000
REPRESENTATIVE_ROWS = 300
TIMED_ROWS: tuple[Literal["1", "32"], ...] = ("1", "32")
TIMED_SECONDS = 0.3

REFERENCE = "savedmodel-float32"
FLOAT = "litert-float32"
NAMES: dict[VariantName, str] = {
    "float16": "litert-float16",
    "dynamic-int8": "litert-dynamic-int8",
    "full-int8": "litert-int8",
    "weight-int8": "savedmodel-int8",
}

Signature = list[tf.TensorSpec]


def tolerance(prepared: Prepared) -> float:
    """By how much two float32 runtimes may differ, in the output's unit."""
    if prepared.task.name != "regression":
        return FLOAT_TOLERANCE
    return FLOAT_TOLERANCE * max(float(np.ptp(prepared.sample.labels)), 1e-30)


def add_endpoint(archive: keras.export.ExportArchive, name: str, model: keras.Model, signature: Signature) -> None:
    """Add a signature to an archive that tracks the model; its inputs are named as the specs are."""

    def call(*tensors: object) -> object:
        return model({spec.name: tensor for spec, tensor in zip(signature, tensors, strict=True)}, training=False)

    archive.add_endpoint(name, call, input_signature=signature)


def convert(
    scores: keras.Model, prepared: Prepared, staging: Path, scratch: Path, section: QuantizationSection
) -> dict[str, str]:
    """Write the variants that are asked for into a staged bundle, and float32 LiteRT beside them.

    Returns why those that could not be made could not, by name: LiteRT has no operations on strings, and Keras cannot
    quantize every layer.
    """
    (staging / VARIANTS).mkdir()
    failed = {}
    wanted = [FLOAT, *(NAMES[name] for name in section.variants)]
    on_strings = bool(prepared.encoder.text_features)
    if not on_strings:
        _archive(scores, prepared.encoder, scratch)
    for name in wanted:
        try:
            if name == NAMES["weight-int8"]:
                _archive(_with_int8_weights(scores), prepared.encoder, staging / VARIANTS / name)
            elif on_strings:
                failed[name] = "LiteRT has no operations on strings"
            else:
                (staging / VARIANTS / f"{name}.tflite").write_bytes(_lite(name, scratch, prepared))
        except (RuntimeError, ValueError, NotImplementedError, TypeError) as error:  # what the converters raise
            failed[name] = str(error).strip().splitlines()[0][:200]
    return failed


def _archive(scores: keras.Model, encoder: Encoder, folder: Path) -> None:
    """A SavedModel with the packed signature alone: the converter fails on one with lookup tables in it."""
    archive = keras.export.ExportArchive()
    archive.track(scores)
    add_endpoint(archive, runtimes.SIGNATURE, scores, packed_signature(encoder))
    archive.write_out(str(folder), verbose=False)


def _with_int8_weights(scores: keras.Model) -> keras.Model:
    """A copy with Keras' own int8 quantization of its dense layers and embeddings."""
    copy = keras.models.clone_model(scores)
    copy.set_weights(scores.get_weights())
    copy.quantize("int8")
    return copy


def _lite(name: str, saved: Path, prepared: Prepared) -> bytes:
    converter = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=[runtimes.SIGNATURE])
    if name != FLOAT:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if name == NAMES["float16"]:
        converter.target_spec.supported_types = [tf.float16]
    if name == NAMES["full-int8"]:
        converter.representative_dataset = lambda: _representative(prepared)
    content: bytes = converter.convert()
    return content


def _representative(prepared: Prepared) -> Iterator[tuple[str, dict[str, NDArray[np.generic]]]]:
    """Training rows, one at a time, by which the ranges of activations are fixed."""
    names = [spec.name for spec in packed_signature(prepared.encoder)]
    for i in np.linspace(0, len(prepared.sample) - 1, min(REPRESENTATIVE_ROWS, len(prepared.sample))).astype(int):
        row = prepared.sample.encoded.take(slice(i, i + 1))
        yield runtimes.SIGNATURE, {name: getattr(row, name) for name in names}


def measure(
    staging: Path, prepared: Prepared, golden: Sequence[GoldenExample], threshold: float, config: TrainingConfig
) -> list[Variant]:
    """Load every variant of a staged bundle as the service will, run it on test rows, and time it. A quantized one
    whose headline metric may be worse than the tolerance allows is refused, and stays listed with the reason."""
    test = _some(prepared.test)
    encoded = Encoded.join([test.encoded, encode(prepared.encoder, [dict(example.row) for example in golden])])
    trials = [_Trial(name, path, encoded) for name, path in _paths(staging).items()]
    reference = next(trial for trial in trials if trial.name == REFERENCE)
    return [_variant(trial, reference, test, threshold, prepared, config, staging) for trial in trials]


class _Trial:
    """One variant, loaded, with its answers to the test rows and the golden rows."""

    def __init__(self, name: str, path: Path, encoded: Encoded) -> None:
        self.name, self.path, self.encoded = name, path, encoded
        self.runtime: Runtime = SavedModel(path, "cpu") if path.is_dir() else LiteRT(path)
        self.answers = run_in_batches(self.runtime, encoded)


def _paths(staging: Path) -> dict[str, Path]:
    return {REFERENCE: staging} | {path.stem: path for path in sorted((staging / VARIANTS).iterdir())}


def _variant(
    trial: _Trial,
    reference: _Trial,
    test: Rows,
    threshold: float,
    prepared: Prepared,
    config: TrainingConfig,
    staging: Path,
) -> Variant:
    task, scores = prepared.task, trial.answers[: len(test)]
    difference = largest_difference(trial.answers, reference.answers)
    measured = bootstrap.intervals(task, test.labels, scores, threshold, only=[task.headline])
    return Variant(
        name=trial.name,
        runtime="savedmodel" if trial.path.is_dir() else "litert",
        path=trial.path.relative_to(staging).as_posix(),
        size=_size(trial.path),
        largest_difference=difference,
        # Another processor rounds otherwise: twice what was seen on many rows here is still the same model.
        tolerance=max(tolerance(prepared), 2 * difference),
        metrics=metrics(task, test.labels, scores, threshold),
        headline=measured[task.headline],
        latency={rows: _latency(trial.runtime, _head(trial.encoded, int(rows))) for rows in TIMED_ROWS},
        memory=footprint(trial.path, trial.encoded),
        refused=_refusal(trial, reference, test, task, config.quantization.max_metric_drop),
    )


def _refusal(trial: _Trial, reference: _Trial, test: Rows, task: Task, most: float) -> str | None:
    """Why a variant may not serve: non-inferiority by the lower end of a paired bootstrap interval."""
    if not np.isfinite(trial.answers).all():
        return "an answer is not finite"
    scores = [each.answers[: len(test)] for each in (trial, reference)]
    gain = bootstrap.paired(task, task.headline, test.labels, *scores)
    if gain.low >= -most:
        return None
    return f"{task.headline} {gain.value:+.5f} ({gain.low:+.5f} to {gain.high:+.5f}), allowed {-most:g}"


def choose(task: Task, variants: Sequence[Variant], failed: Mapping[str, str]) -> Choice:
    """The fastest at one row among those that are not refused; `failed` says which could not be made, and why."""
    reference = next(variant for variant in variants if variant.name == REFERENCE)
    good = [variant for variant in variants if variant.refused is None]
    best = min(good, key=lambda variant: variant.latency["1"].p50)
    refused = [variant.name for variant in variants if variant.refused is not None]
    also = f"; refused: {', '.join(refused)}" if refused else ""
    also += "".join(f"; no {name}: {why}" for name, why in failed.items())
    if best is reference:
        return Choice(variant=best.name, why=f"nothing that keeps the {task.headline} is faster{also}")
    speedup = reference.latency["1"].p50 / best.latency["1"].p50
    gain = improvement(task.headline, best.metrics[task.headline], reference.metrics[task.headline])
    why = f"{speedup:.1f} times as fast as {REFERENCE} at one row, {task.headline} better by {gain:+.5f}{also}"
    return Choice(variant=best.name, why=why)


def run_in_batches(runtime: Runtime, encoded: Encoded) -> Scores:
    """The answers to all rows, float32 [n] or [n, classes]."""
    starts = range(0, encoded.rows, BATCH)
    return np.concatenate([next(iter(runtime.run(encoded.take(slice(i, i + BATCH))).values())) for i in starts])


def footprint(path: Path, encoded: Encoded) -> int | None:
    """Bytes of resident memory that loading a variant and running 32 rows adds to a process of its own, beyond the
    runtime's library; None where such a process does not live to tell."""
    parts = {name: part for name, part in _head(encoded, 32)._asdict().items() if part is not None}
    with TemporaryDirectory(prefix="hornpipe-") as folder:
        rows = Path(folder) / "rows.npz"
        np.savez(rows, **parts)
        command = [sys.executable, "-m", "training.footprint", str(path), str(rows)]
        try:
            told = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603  # our own module
        except subprocess.CalledProcessError:
            return None
    return int(json.loads(told.stdout)["bytes"])


def _some(test: Rows) -> Rows:
    """All test rows, or as many as a person wants to wait for, evenly spread."""
    most = max(256, MOST_VALUES // max(_values(test.encoded), 1))
    if len(test) <= most:
        return test
    return test.take(np.linspace(0, len(test) - 1, most).astype(np.int64))


def _values(encoded: Encoded) -> int:
    return sum(int(np.prod(part.shape[1:])) for part in encoded if part is not None)


def _head(encoded: Encoded, rows: int) -> Encoded:
    """The first `rows` rows, repeated where there are fewer."""
    return encoded.take(np.arange(rows) % encoded.rows)


def _latency(runtime: Runtime, encoded: Encoded) -> Latency:
    """Microseconds a call, over as many calls as fit in 0.3 s (at least ten), after a warm-up that does not count."""
    _calls(lambda: runtime.run(encoded), seconds=0.1, least=2)
    times = _calls(lambda: runtime.run(encoded), TIMED_SECONDS, least=10)
    p50, p99 = np.percentile(times, [50, 99]) * 1e6
    return Latency(p50=round(float(p50), 2), p99=round(float(p99), 2))


def _calls(call: Callable[[], object], seconds: float, least: int) -> list[float]:
    times: list[float] = []
    ends = time.perf_counter() + seconds
    while (started := time.perf_counter()) < ends or len(times) < least:
        call()
        times.append(time.perf_counter() - started)
    return times


def _size(path: Path) -> int:
    """Bytes of a file, or of the SavedModel in a folder."""
    if path.is_file():
        return path.stat().st_size
    variables = (path / "variables").rglob("*")
    return sum(file.stat().st_size for file in [path / "saved_model.pb", *variables] if file.is_file())
