"""From a trained model to a published bundle: SavedModel, variants, proof, manifest."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from contract import bundle, histogram, proof, runtimes
from contract.bundle import Bundle
from contract.errors import HornpipeError
from contract.evidence import Metric
from contract.features import Encoder
from contract.manifest import (
    Baseline,
    BinaryOutput,
    CategoryFeature,
    DataFacts,
    DriftBaseline,
    Feature,
    GoldenExample,
    Manifest,
    NumberFeature,
)
from contract.proof import largest_difference
from training import fit, variants
from training.evaluate import HEADLINE
from training.rows import Prepared
from training.sections import TrainingConfig
from training.signatures import packed_signature, raw_signature, with_raw_inputs, with_scores
from training.variants import OUTPUT

GOLDEN_ROWS = 12
PARITY_ROWS = 2000

Row = dict[str, Any]


class ParityError(HornpipeError):
    """The exported signatures disagree: what the service would answer is not what the model says."""


def export(
    logits: keras.Model,
    prepared: Prepared,
    config: TrainingConfig,
    models: Path,
    metrics: dict[str, Metric],
    baselines: tuple[Baseline, ...],
    threshold: float,
) -> Bundle:
    """Write, prove and publish the next version. Raises ParityError; then nothing is published."""
    encoded = with_scores(logits, prepared.task)
    with bundle.staged(models, config.name) as staging, TemporaryDirectory(prefix="hornpipe-") as scratch:
        with quiet():
            save(encoded, prepared.encoder, staging)
            variants.convert(encoded, prepared.encoder, staging, Path(scratch), config.quantization)
        golden = golden_examples(staging, prepared)
        measured = variants.measure(staging, prepared.encoder, prepared.test, golden, threshold)
        drift = drift_baseline(encoded, prepared, threshold)

        def manifest_of(version: int) -> Manifest:
            manifest = Manifest(
                name=config.name,
                version=version,
                created=datetime.now(UTC),
                code_revision=code_revision(),
                task=config.task,
                config=config.model_dump(mode="json", exclude_none=True),
                data=data_facts(prepared, config),
                features=prepared.encoder.features,
                output=output(prepared, threshold),
                headline=HEADLINE,
                metrics=metrics,
                baselines=baselines,
                variants=tuple(measured),
                chosen=variants.choose(measured, config.quantization),
                drift=drift,
                golden=golden,
            )
            prove_all(Bundle(staging, manifest))
            return manifest

        return bundle.publish(staging, manifest_of)


def prove_all(staged: Bundle) -> None:
    """What every service does on load, done here before anybody can see the bundle. Raises ProofFailed."""
    for variant in staged.manifest.variants:
        proof.prove(staged, variant, runtimes.load(staged, variant, "cpu"))


def save(encoded: keras.Model, encoder: Encoder, folder: Path) -> None:
    """Write the SavedModel with the signatures `serving_default` (raw and named) and `encoded` (packed)."""
    raw = with_raw_inputs(encoded, encoder)
    archive = keras.export.ExportArchive()
    archive.track(raw)
    variants.add_endpoint(archive, "serving_default", raw, raw_signature(encoder))
    variants.add_endpoint(archive, runtimes.SIGNATURE, encoded, packed_signature(encoder))
    archive.write_out(str(folder), verbose=False)


def golden_examples(staging: Path, prepared: Prepared) -> tuple[GoldenExample, ...]:
    """Raw rows and the raw signature's answers, after proof on many rows that the packed signature gives the same."""
    signatures = runtimes.tensorflow().saved_model.load(str(staging))
    held_out = prepared.raw_test(_spread(len(prepared.test), PARITY_ROWS))
    golden = [held_out[i] for i in _spread(len(held_out), GOLDEN_ROWS)]
    golden += edge_rows(golden[0], prepared.encoder.features)
    # The config's policies may refuse some of them.
    golden, held_out = (list(filter(prepared.encoder.accepts, rows)) for rows in (golden, held_out))
    rows = golden + held_out
    answers = run_raw(signatures, prepared.encoder, rows)
    encoded = prepared.encoder.encode(rows)
    if isinstance(encoded, list):
        raise ParityError(f"the encoder refuses held-out rows: {encoded[0]}")
    packed = {name: tf.constant(getattr(encoded, name)) for name in _packed_inputs(signatures)}
    difference = largest_difference(signatures.signatures[runtimes.SIGNATURE](**packed)[OUTPUT].numpy(), answers)
    if not difference <= variants.FLOAT_TOLERANCE:
        raise ParityError(f"serving_default and encoded differ by {difference:.3g} on {len(rows)} held-out rows")
    pairs = zip(golden, answers, strict=False)
    return tuple(GoldenExample(row=row, outputs={OUTPUT: float(answer)}) for row, answer in pairs)


def edge_rows(row: Row, features: tuple[Feature, ...]) -> Iterator[Row]:
    """Variations of a row that serving will meet: all optional features missing, an unseen category, far numbers."""
    yield {feature.name: row[feature.name] if feature.required else None for feature in features}
    yield row | {f.name: "\u2205 never seen" for f in features if isinstance(f, CategoryFeature)}
    for far in (-1.0, 2.0):
        yield row | {f.name: _beyond(f, far) for f in features if isinstance(f, NumberFeature)}


def _beyond(feature: NumberFeature, far: float) -> float:
    return feature.minimum + far * (feature.maximum - feature.minimum)


def run_raw(saved_model: Any, encoder: Encoder, rows: list[Row]) -> NDArray[np.float32]:  # noqa: ANN401
    """The signature `serving_default` of a loaded SavedModel on raw rows, float32 [n]."""
    inputs = {}
    for feature in encoder.features:
        values = [row[feature.name] for row in rows]
        if isinstance(feature, CategoryFeature):
            inputs[feature.name] = tf.constant([value or "" for value in values], tf.string)
        else:
            inputs[feature.name] = tf.constant([np.nan if value is None else value for value in values], tf.float32)
    answers: NDArray[np.float32] = saved_model.signatures["serving_default"](**inputs)[OUTPUT].numpy()
    return answers


def drift_baseline(encoded: keras.Model, prepared: Prepared, threshold: float) -> DriftBaseline:
    """Input bins on training rows; output bins on validation rows, which the weights have not been fitted to."""
    scores = fit.predict(keras.Model(encoded.input, encoded.output[OUTPUT]), prepared.validation.encoded)
    positive = float((scores >= threshold).mean())
    negative_class, positive_class = prepared.classes
    return DriftBaseline(
        rows=len(prepared.sample),
        inputs=histogram.fit_inputs(prepared.encoder, prepared.sample.encoded),
        outputs={OUTPUT: histogram.fit_output(scores)},
        labels={negative_class: 1 - positive, positive_class: positive},
    )


def output(prepared: Prepared, threshold: float) -> BinaryOutput:
    negative, positive = prepared.classes
    return BinaryOutput(classes=(negative, positive), positive=positive, threshold=threshold)


def data_facts(prepared: Prepared, config: TrainingConfig) -> DataFacts:
    return DataFacts(
        fingerprint=prepared.fingerprint,
        source=config.data.path,
        train_rows=prepared.train.rows,
        validation_rows=len(prepared.validation),
        test_rows=len(prepared.test),
    )


def code_revision() -> str | None:
    """The commit of the working directory, with a plus if it is changed; HORNPIPE_REVISION where there is no git."""
    try:
        described = subprocess.run(  # a fixed command
            ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"],  # noqa: S607  # git from PATH
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return os.environ.get("HORNPIPE_REVISION") or None
    return described.stdout.strip()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what TensorFlow's exporter and converter print to the terminal from C++; errors come as exceptions."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  # a descriptor is wanted
        os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _spread(rows: int, count: int) -> list[int]:
    """At most `count` row numbers, evenly spread."""
    return [int(i) for i in np.unique(np.linspace(0, rows - 1, count).astype(int))]


def _packed_inputs(saved_model: Any) -> list[str]:  # noqa: ANN401  # a SavedModel has no type information
    return sorted(saved_model.signatures[runtimes.SIGNATURE].structured_input_signature[1])
