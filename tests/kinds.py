"""Real bundles of what the flights are not: pictures with ten classes, texts, and a number to estimate.

Each is a Keras model fitted here on data that scikit-learn ships or on sentences made of words, exported by Keras
itself. The golden answers are Keras' own.
"""

import contextlib
import io
import pickle
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from contract import bundle, histogram, routing
from contract.bundle import SAVED_MODEL, VARIANTS, Bundle
from contract.evidence import Metric
from contract.features import Encoded, Encoder
from contract.images import encode_png
from contract.manifest import (
    BinaryOutput,
    Choice,
    DataFacts,
    DriftBaseline,
    GoldenExample,
    ImageFeature,
    Latency,
    Manifest,
    MulticlassOutput,
    NumberFeature,
    Output,
    RegressionOutput,
    TextFeature,
    Variant,
)
from tests.made import once

Row = dict[str, Any]
DIGITS = tuple("0123456789")
PICKLE = "kind.pickle"


@dataclass(frozen=True)
class Kind:
    """A bundle, rows that it was not fitted to as a client would send them, and Keras' answers to them."""

    bundle: Bundle
    rows: list[Row]
    encoded: Encoded
    answers: np.ndarray
    labels: np.ndarray


def made(folders: pytest.TempPathFactory, *names: str) -> dict[str, Kind]:
    """Some of them by name, each fitted once for all workers of pytest-xdist."""
    return {name: _made(folders, name) for name in names}


def _made(folders: pytest.TempPathFactory, name: str) -> Kind:
    make = {"digits": digits, "diabetes": diabetes, "texts": texts}[name]
    folder = once(folders, name, lambda begun: (begun / PICKLE).write_bytes(pickle.dumps(make(begun))))
    return replace(pickle.loads((folder / PICKLE).read_bytes()), bundle=bundle.read_version(folder, name, 1))


def put(kind: Kind, models: Path) -> Bundle:
    """A copy as version 1 of a folder's, in production."""
    name = kind.bundle.manifest.name
    shutil.copytree(kind.bundle.path, models / name / "1")
    routing.promote(models, name, 1, by="test", why="fixture")
    return bundle.read_version(models, name, 1)


def digits(models: Path) -> Kind:
    """Pictures [8, 8, 1] of uint8; ten classes."""
    import keras
    from sklearn.datasets import load_digits

    keras.utils.set_random_seed(0)
    pictures, labels = load_digits(return_X_y=True)
    pictures = (pictures.reshape(-1, 8, 8, 1) * 15.9).astype(np.uint8)
    encoder = Encoder([ImageFeature(name="picture", shape=(8, 8, 1))])
    entry = keras.Input((8, 8, 1), dtype="uint8", name="image")
    x = keras.layers.Rescaling(1 / 255)(entry)
    x = keras.layers.Conv2D(12, 3, activation="relu")(x)
    x = keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x))
    network = keras.Model({"image": entry}, {"probabilities": x})
    fit(network, {"image": pictures[:1400]}, labels[:1400], "sparse_categorical_crossentropy")
    rows = [{"picture": {"b64": encode_png(picture)}} for picture in pictures[1400:]]
    return publish(models, "digits", network, encoder, rows, labels[1400:], MulticlassOutput(classes=DIGITS))


def diabetes(models: Path) -> Kind:
    """Ten numbers; a number to estimate."""
    import keras
    from sklearn.datasets import load_diabetes

    keras.utils.set_random_seed(0)
    data = load_diabetes()
    values = data.data.astype(np.float32)
    features = [
        NumberFeature(name=name, required=True, minimum=column.min(), maximum=column.max(), example=np.median(column))
        for name, column in zip(data.feature_names, values.T, strict=True)
    ]
    entry = keras.Input((10,), name="numbers")
    x = keras.layers.Dense(16, activation="relu")(keras.layers.Rescaling(20.0)(entry))
    x = keras.layers.Rescaling(80.0, 150.0)(keras.layers.Dense(1)(x))
    network = keras.Model({"numbers": entry}, {"value": keras.layers.Flatten()(x)[:, 0]})
    fit(network, {"numbers": values[:350]}, data.target[:350], "mse")
    rows = [dict(zip(data.feature_names, map(float, row), strict=True)) for row in values[350:]]
    half = np.quantile(np.abs(network({"numbers": values[350:]})["value"] - data.target[350:]), 0.9)
    output = RegressionOutput(minimum=data.target.min(), maximum=data.target.max(), half_width=float(half))
    return publish(models, "diabetes", network, Encoder(features), rows, data.target[350:], output)


def texts(models: Path) -> Kind:
    """A title that may be missing, and a body; two classes. TextVectorization is in the graph."""
    import keras

    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    words = {0: ["storm", "rain", "cloud", "wind", "snow"], 1: ["goal", "match", "team", "score", "league"]}
    both = ["the", "a", "today", "on", "Sunday,", "in", "Genève", "—", "and"]

    def sentence(label: int) -> str:
        return " ".join(random.choice([*words[label], *both], 6)) + f" {random.choice(words[label])}."

    labels = random.integers(0, 2, 500)
    bodies = [sentence(label) for label in labels]
    titles = [sentence(label) if random.random() < 0.5 else "" for label in labels]
    features = [
        TextFeature(name="title", required=False, example=titles[0]),
        TextFeature(name="body", required=True, example=bodies[0], most_characters=200),
    ]
    entry = keras.Input((2,), dtype="string", name="texts")
    tokens = keras.layers.TextVectorization(max_tokens=200, output_sequence_length=20)
    tokens.adapt([*bodies, *titles])
    embedded = keras.layers.Embedding(200, 8)
    x = keras.ops.concatenate(
        [keras.layers.GlobalAveragePooling1D()(embedded(tokens(entry[:, i]))) for i in (0, 1)], axis=-1
    )
    x = keras.layers.Dense(1, activation="sigmoid")(x)
    network = keras.Model({"texts": entry}, {"probability": keras.layers.Flatten()(x)[:, 0]})
    columns = np.array([titles, bodies], object).T
    fit(network, {"texts": columns[:400]}, labels[:400], "binary_crossentropy")
    rows = [{"title": title or None, "body": body} for title, body in columns[400:]]
    output = BinaryOutput(classes=("weather", "sport"), positive="sport", threshold=0.5)
    return publish(models, "texts", network, Encoder(features), rows, labels[400:], output)


def fit(network: Any, inputs: dict[str, np.ndarray], labels: np.ndarray, loss: str) -> None:
    """A plain loop: Keras' fit takes no objects, and its steps cost more than these networks."""
    import keras
    import tensorflow as tf

    (name,) = network.output
    of, optimizer = keras.losses.get(loss), keras.optimizers.Adam(0.02)
    inputs = {key: tf.constant(value) for key, value in inputs.items()}
    target = tf.constant(labels.astype(np.int32 if loss.startswith("sparse") else np.float32))

    @tf.function
    def step(rows: tf.Tensor) -> None:
        with tf.GradientTape() as tape:
            answers = network({key: tf.gather(value, rows) for key, value in inputs.items()}, training=True)[name]
            error = tf.reduce_mean(of(tf.gather(target, rows), answers))
        optimizer.apply(tape.gradient(error, network.trainable_variables), network.trainable_variables)

    random = np.random.default_rng(0)
    for _ in range(250):
        step(tf.constant(random.integers(0, len(labels), 64)))


def publish(
    models: Path, name: str, network: Any, encoder: Encoder, rows: list[Row], labels: np.ndarray, output: Output
) -> Kind:
    """Export with both signatures, convert where LiteRT can, and write the manifest."""
    encoded = encoder.encode(rows)
    assert isinstance(encoded, Encoded)
    answers = network(packed(encoded, encoder))[output.name].numpy()
    with bundle.staged(models, name) as staging:
        export(network, encoder, staging)
        variants = [variant("savedmodel-float32", "savedmodel", ".", (staging / SAVED_MODEL).stat().st_size)]
        if not encoder.text_features:
            variants.append(convert(network, encoder, staging))
        known = facts(name, encoder, encoded, rows, answers, output, variants)
        made = bundle.publish(staging, lambda version: Manifest(version=version, **known))
    return Kind(made, rows, encoded, answers, labels)


def packed(encoded: Encoded, encoder: Encoder) -> dict[str, Any]:
    import tensorflow as tf

    return {spec.name: tf.constant(getattr(encoded, spec.name)) for spec in signature(encoder)}


def signature(encoder: Encoder) -> list[Any]:
    import tensorflow as tf

    if encoder.image_feature is not None:
        return [tf.TensorSpec((None, *encoder.image_feature.shape), encoder.image_feature.dtype, name="image")]
    if encoder.text_features:
        return [tf.TensorSpec((None, len(encoder.text_features)), tf.string, name="texts")]
    return [tf.TensorSpec((None, len(encoder.number_features)), tf.float32, name="numbers")]


def export(network: Any, encoder: Encoder, folder: Path, *, raw: bool = True) -> None:
    import keras
    import tensorflow as tf

    (spec,) = signature(encoder)
    specs = [tf.TensorSpec((None, *f.shape), f.dtype, name=f.name) for f in encoder.features]
    archive = keras.export.ExportArchive()
    archive.track(network)
    archive.add_endpoint("encoded", lambda one: network({spec.name: one}, training=False), [spec])
    if raw:
        pack: Callable[..., Any] = lambda *all: all[0] if spec.name == "image" else tf.stack(all, axis=1)  # noqa: E731
        archive.add_endpoint("serving_default", lambda *all: network({spec.name: pack(*all)}, training=False), specs)
    archive.write_out(str(folder), verbose=False)


def convert(network: Any, encoder: Encoder, staging: Path) -> Variant:
    import tensorflow as tf

    with TemporaryDirectory() as scratch, contextlib.redirect_stderr(io.StringIO()):
        export(network, encoder, Path(scratch), raw=False)
        content = tf.lite.TFLiteConverter.from_saved_model(scratch, signature_keys=["encoded"]).convert()
    path = staging / VARIANTS / "litert-float32.tflite"
    path.parent.mkdir()
    path.write_bytes(content)
    return variant("litert-float32", "litert", f"{VARIANTS}/{path.name}", len(content))


def variant(name: str, runtime: str, path: str, size: int) -> Variant:
    latency = {rows: Latency(p50=20, p99=40) for rows in ("1", "32")}
    return Variant(
        name=name,
        runtime=runtime,
        path=path,
        size=size,
        largest_difference=0,
        tolerance=1e-3,
        metrics={},
        latency=latency,
    )


def facts(
    name: str,
    encoder: Encoder,
    encoded: Encoded,
    rows: list[Row],
    answers: np.ndarray,
    output: Output,
    variants: list[Variant],
) -> dict[str, Any]:
    headline = {"probability": "roc_auc", "probabilities": "accuracy", "value": "rmse"}[output.name]
    words = histogram.fit_words(encoder, encoded)
    golden = tuple(
        GoldenExample(row=row, outputs={output.name: a.tolist()}) for row, a in zip(rows[:5], answers, strict=False)
    )
    return {
        "name": name,
        "created": datetime.now(UTC),
        "code_revision": None,
        "task": {"roc_auc": "binary", "accuracy": "multiclass", "rmse": "regression"}[headline],
        "config": {},
        "data": DataFacts(fingerprint="", source="here", train_rows=1, validation_rows=1, test_rows=1),
        "features": encoder.features,
        "output": output,
        "headline": headline,
        "metrics": {headline: Metric(value=0.9, low=0.8, high=1.0)},
        "baselines": (),
        "variants": tuple(variants),
        "chosen": Choice(variant=variants[-1].name, why="it is the last"),
        "drift": DriftBaseline(
            rows=len(rows),
            inputs=histogram.fit_inputs(encoder, encoded) | histogram.fit_statistics(encoder, encoded, words),
            outputs=histogram.fit_outputs(output, answers),
            labels={},
            words=words,
        ),
        "golden": golden,
    }
