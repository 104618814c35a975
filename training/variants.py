"""The executable forms of a model: made, compared with the float32 SavedModel, timed, chosen."""

import contextlib
import io
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from contract import runtimes
from contract.bundle import VARIANTS
from contract.features import Encoded, Encoder, Problem
from contract.manifest import Choice, GoldenExample, Latency, Variant
from contract.proof import largest_difference
from contract.runtimes import LiteRT, Runtime, SavedModel
from training.evaluate import HEADLINE, metrics
from training.rows import Rows
from training.sections import QuantizationSection
from training.signatures import packed_signature
from training.task import TASKS

FLOAT_TOLERANCE = 1e-5
BATCH = 4096
TIMED_ROWS: tuple[Literal["1", "32"], ...] = ("1", "32")
TIMED_SECONDS = 0.3

REFERENCE = "savedmodel-float32"
OUTPUT = TASKS["binary"].output


def add_endpoint(
    archive: keras.export.ExportArchive, name: str, model: keras.Model, signature: list[tf.TensorSpec]
) -> None:
    """Add a signature to an archive that tracks the model; its inputs are named as the specs are."""

    def call(*tensors: object) -> object:
        return model({spec.name: tensor for spec, tensor in zip(signature, tensors, strict=True)}, training=False)

    archive.add_endpoint(name, call, input_signature=signature)


def convert(encoded: keras.Model, encoder: Encoder, staging: Path, scratch: Path, section: QuantizationSection) -> None:
    """Write variants/litert-float32.tflite, and litert-int8.tflite if asked for, into a staged bundle.

    int8 is post-training: int8 weights, activations quantized row by row as they come. On these networks it is faster
    than fixed activation ranges, and needs no representative rows.
    """
    folder = staging / VARIANTS
    folder.mkdir()
    # From an archive that holds this endpoint alone: the converter fails on one with lookup tables in it.
    archive = keras.export.ExportArchive()
    archive.track(encoded)
    add_endpoint(archive, runtimes.SIGNATURE, encoded, packed_signature(encoder))
    archive.write_out(str(scratch), verbose=False)
    for name, optimizations in {"litert-float32": [], "litert-int8": [tf.lite.Optimize.DEFAULT]}.items():
        if name == "litert-int8" and "dynamic-int8" not in section.variants:
            continue
        converter = tf.lite.TFLiteConverter.from_saved_model(str(scratch), signature_keys=[runtimes.SIGNATURE])
        converter.optimizations = optimizations
        with contextlib.redirect_stderr(io.StringIO()):  # the converter's own log of its ranges
            content = converter.convert()
        (folder / f"{name}.tflite").write_bytes(content)


def measure(
    staging: Path, encoder: Encoder, test: Rows, golden: Sequence[GoldenExample], threshold: float
) -> list[Variant]:
    """Load every variant of a staged bundle as the service will, run it on the test rows, and time it."""
    paths = {REFERENCE: staging} | {path.stem: path for path in sorted((staging / VARIANTS).glob("*.tflite"))}
    encoded = _join(test.encoded, encoder.encode([example.row for example in golden]))
    runtimes_of = {name: _load(path) for name, path in paths.items()}
    outputs = {name: run_in_batches(runtime, encoded) for name, runtime in runtimes_of.items()}
    return [
        Variant(
            name=name,
            runtime="savedmodel" if name == REFERENCE else "litert",
            path=path.relative_to(staging).as_posix(),
            size=_size(path),
            largest_difference=(difference := largest_difference(outputs[name], outputs[REFERENCE])),
            # Another processor rounds otherwise: twice what was seen on many rows here is still the same model.
            tolerance=max(FLOAT_TOLERANCE, 2 * difference),
            metrics=metrics(test.labels, outputs[name][: len(test)], threshold),
            latency={rows: _latency(runtimes_of[name], _head(encoded, int(rows))) for rows in TIMED_ROWS},
        )
        for name, path in paths.items()
    ]


def _load(path: Path) -> Runtime:
    return SavedModel(path, "cpu") if path.is_dir() else LiteRT(path)


def _join(test: Encoded, golden: Encoded | list[Problem]) -> Encoded:
    assert isinstance(golden, Encoded)  # noqa: S101  # for the type checker: golden rows are those the encoder takes
    return Encoded.join([test, golden])


def choose(variants: list[Variant], section: QuantizationSection) -> Choice:
    """The fastest at one row among those whose headline metric stays within the tolerance of float32's."""
    reference = next(variant for variant in variants if variant.name == REFERENCE)
    floor = reference.metrics[HEADLINE] - section.max_metric_drop
    good = [variant for variant in variants if variant.metrics[HEADLINE] >= floor]
    best = min(good, key=lambda variant: variant.latency["1"].p50)
    speedup = reference.latency["1"].p50 / best.latency["1"].p50
    drop = reference.metrics[HEADLINE] - best.metrics[HEADLINE]
    why = f"{speedup:.0f} times as fast as {REFERENCE} at one row, {HEADLINE} {-drop:+.5f}"
    refused = [variant.name for variant in variants if variant not in good]
    if refused:
        why += f"; refused for a drop of more than {section.max_metric_drop:g}: {', '.join(refused)}"
    return Choice(variant=best.name, why=why)


def run_in_batches(runtime: Runtime, encoded: Encoded) -> NDArray[np.float32]:
    """The output of every row, float32 [n]."""
    return np.concatenate([runtime.run(batch)[OUTPUT] for batch in _batches(encoded)])


def _batches(encoded: Encoded) -> Iterator[Encoded]:
    for start in range(0, encoded.rows, BATCH):
        yield encoded.take(slice(start, start + BATCH))


def _head(encoded: Encoded, rows: int) -> Encoded:
    """The first `rows` rows, repeated where there are fewer."""
    index = np.arange(rows) % encoded.rows
    return encoded.take(index)


def _latency(runtime: Runtime, encoded: Encoded) -> Latency:
    """Microseconds a call, over as many calls as fit in 0.3 s, after 20 that do not count."""
    for _ in range(20):
        runtime.run(encoded)
    times: list[float] = []
    ends = time.perf_counter() + TIMED_SECONDS
    while (started := time.perf_counter()) < ends:
        runtime.run(encoded)
        times.append(time.perf_counter() - started)
    p50, p99 = np.percentile(times, [50, 99]) * 1e6
    return Latency(p50=round(float(p50), 2), p99=round(float(p99), 2))


def _size(path: Path) -> int:
    """Bytes of a file, or of the SavedModel in a folder."""
    if path.is_file():
        return path.stat().st_size
    variables = (path / "variables").rglob("*")
    return sum(file.stat().st_size for file in [path / "saved_model.pb", *variables] if file.is_file())
