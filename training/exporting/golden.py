"""Golden examples: raw held-out rows with the SavedModel's answers, and the proof that its two signatures agree."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from contract import images, runtimes
from contract.errors import HornpipeError
from contract.features import Encoded, Encoder
from contract.manifest import CategoryFeature, Feature, GoldenExample, ImageFeature, NumberFeature, TextFeature
from contract.proof import largest_difference
from training.rows import Prepared, RawRow
from training.task import Scores

GOLDEN_ROWS = 12
PARITY_ROWS = 2000
# Golden pictures travel in the manifest, so fewer of them do where they are large.
MOST_PIXELS = 200_000


class ParityError(HornpipeError):
    """The exported signatures disagree: what the service would answer is not what the model says."""


def golden_examples(saved: Path, prepared: Prepared, tolerance: float) -> tuple[GoldenExample, ...]:
    """Raw rows and the raw signature's answers, after proof on many rows that the packed signature gives the same.

    `saved` holds the SavedModel; `tolerance` is in the output's unit. Raises ParityError.
    """
    model = runtimes.tensorflow().saved_model.load(str(saved))
    output, encoder = prepared.task.output, prepared.encoder
    held_out = prepared.raw_test(_spread(len(prepared.test), min(PARITY_ROWS, 4 * _most(encoder))))
    golden = [held_out[i] for i in _spread(len(held_out), min(GOLDEN_ROWS, _most(encoder)))]
    golden += edge_rows(golden[0], encoder.features)
    # The config's policies may refuse some of them.
    golden, held_out = (list(filter(encoder.accepts, rows)) for rows in (golden, held_out))
    golden = [compact(row, encoder) for row in golden]
    rows = golden + held_out
    answers = run_raw(model, encoder, rows)[output]
    difference = largest_difference(_run_packed(model, encoder, rows)[output], answers)
    if not difference <= tolerance:
        raise ParityError(f"serving_default and encoded differ by {difference:.3g} on {len(rows)} held-out rows")
    pairs = zip(golden, answers, strict=False)
    return tuple(GoldenExample(row=row, outputs={output: _plain(answer)}) for row, answer in pairs)


def edge_rows(row: RawRow, features: tuple[Feature, ...]) -> Iterator[RawRow]:
    """Variations of a row that serving will meet: all optional features missing, an unseen category, far numbers."""
    if any(not feature.required for feature in features):
        yield {feature.name: row[feature.name] if feature.required else None for feature in features}
    if any(isinstance(feature, CategoryFeature | TextFeature) for feature in features):
        strange = "\u2205 never seen"
        yield row | {f.name: strange for f in features if isinstance(f, CategoryFeature | TextFeature)}
    if any(isinstance(feature, NumberFeature) for feature in features):
        for far in (-1.0, 2.0):
            yield row | {f.name: _beyond(f, far) for f in features if isinstance(f, NumberFeature)}


def compact(row: RawRow, encoder: Encoder) -> RawRow:
    """Its pictures as files, rounded to what those hold: written out as numbers, 224 x 224 x 3 are 4 MB, and a service
    that reads such a manifest stands still meanwhile."""
    feature = encoder.image_feature
    if feature is None or isinstance(row[feature.name], dict):
        return row
    pixels = encode(encoder, [row]).image
    assert pixels is not None  # noqa: S101  # for the type checker: there is such a feature
    return row | {feature.name: {"b64": images.encode_png(pixels[0], feature)}}


def run_raw(saved_model: Any, encoder: Encoder, rows: list[RawRow]) -> dict[str, Scores]:  # noqa: ANN401
    """The signature `serving_default` of a loaded SavedModel on raw rows; outputs by name."""
    inputs = {}
    for feature in encoder.features:
        values = [row[feature.name] for row in rows]
        match feature:
            case NumberFeature():
                inputs[feature.name] = tf.constant([np.nan if v is None else v for v in values], tf.float32)
            case CategoryFeature() | TextFeature():
                inputs[feature.name] = tf.constant([value or "" for value in values], tf.string)
            case ImageFeature():
                inputs[feature.name] = tf.constant(encode(encoder, rows).image)
    return {name: value.numpy() for name, value in saved_model.signatures["serving_default"](**inputs).items()}


def encode(encoder: Encoder, rows: list[RawRow]) -> Encoded:
    """Rows that the encoder takes. Raises ParityError for others: they are the model's own held-out rows."""
    encoded = encoder.encode(rows)
    if isinstance(encoded, list):
        raise ParityError(f"the encoder refuses held-out rows: {encoded[0]}")
    return encoded


def _run_packed(saved_model: Any, encoder: Encoder, rows: list[RawRow]) -> dict[str, Scores]:  # noqa: ANN401
    signature = saved_model.signatures[runtimes.SIGNATURE]
    encoded = encode(encoder, rows)
    packed = {name: tf.constant(getattr(encoded, name)) for name in signature.structured_input_signature[1]}
    return {name: value.numpy() for name, value in signature(**packed).items()}


def _most(encoder: Encoder) -> int:
    """How many rows are few enough for a manifest."""
    pixels = [int(np.prod(feature.shape)) for feature in encoder.features if isinstance(feature, ImageFeature)]
    return max(2, MOST_PIXELS // max(pixels, default=1))


def _plain(answer: Any) -> float | tuple[float, ...]:  # noqa: ANN401  # a float32 or a vector of them
    return tuple(map(float, answer)) if np.ndim(answer) else float(answer)


def _beyond(feature: NumberFeature, far: float) -> float:
    return feature.minimum + far * (feature.maximum - feature.minimum)


def _spread(rows: int, count: int) -> list[int]:
    """At most `count` row numbers, evenly spread."""
    return [int(i) for i in np.unique(np.linspace(0, rows - 1, count).astype(int))]
