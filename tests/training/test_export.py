"""The exported network, rebuilt in plain NumPy from its raw weights, against everything that runs it."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from contract import proof
from contract.bundle import SAVED_MODEL
from contract.features import Encoded
from contract.manifest import CategoryFeature, NumberFeature
from contract.runtimes import LiteRT, SavedModel
from tests.conftest import Trained
from training import export, fit
from training.exporting import golden

Row = dict[str, Any]


def weights(folder: Path) -> dict[str, np.ndarray]:
    """Raw tensors of the SavedModel's checkpoint, by the end of their name in the object graph."""
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(folder / "variables" / "variables"))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "VALUE" in name}


def by_hand(
    features: tuple[NumberFeature | CategoryFeature, ...],
    named: dict[str, np.ndarray],
    temperature: float,
    rows: list[Row],
) -> Any:
    """The tabular network by the book: nothing of Keras, TensorFlow, the encoder or the runtimes."""
    numbers = [feature for feature in features if isinstance(feature, NumberFeature)]
    categories = [feature for feature in features if isinstance(feature, CategoryFeature)]
    raw = np.array([[np.nan if row[f.name] is None else row[f.name] for f in numbers] for row in rows], np.float64)
    missing = np.isnan(raw)
    known = np.where(missing, named["median"], raw.astype(np.float32))
    parts = [(known - named["mean"]) * named["scale"], missing.astype(float)]
    within = (known[:, named["number_of_bin"]] - named["low"]) * named["inverse_width"]
    parts.append(np.minimum(np.maximum(within, 0), 1))
    for i, feature in enumerate(categories):
        order = {value: 2 + k for k, value in enumerate(feature.vocabulary)} | {None: 1, "": 1}
        parts.append(np.stack([named[f"embed_{i}"][order.get(row[feature.name], 0)] for row in rows]))
    encoded = np.concatenate(parts, axis=1)
    mean = np.mean([sigmoid(member(encoded, named, f"_{m}")) for m in range(2)], axis=0)
    return sigmoid(np.log(mean / (1 - mean)) / temperature).astype(np.float32)


def member(hidden: np.ndarray, named: dict[str, np.ndarray], suffix: str) -> np.ndarray:
    """The logits of one of the networks that vote."""
    for i in range(2):
        sums = hidden @ named[f"hidden_{i}{suffix}/kernel"] + named[f"hidden_{i}{suffix}/bias"]
        hidden = sums * sigmoid(sums)
    return (hidden @ named[f"logits{suffix}/kernel"] + named[f"logits{suffix}/bias"])[:, 0]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def named_weights(trained: Trained) -> dict[str, np.ndarray]:
    """The tensors of the exported checkpoint, by layer. The checkpoint's own names are Keras' business, so each is
    recognised as the stored tensor that equals the trained layer's variable; what is computed with is the stored one.
    """
    stored = list(weights(trained.bundle.path).values())
    named = {}
    for variable in trained.logits.variables:
        layer, name = variable.path.split("/")[-2:]
        if layer.startswith("seed_generator"):
            continue
        key = name if layer == "number_encoding" else layer if layer.startswith("embed") else f"{layer}/{name}"
        value = np.asarray(variable)
        named[key] = next(tensor for tensor in stored if np.array_equal(tensor, value))
    return named


@pytest.fixture(scope="module")
def rows(trained: Trained) -> list[Row]:
    """Every held-out row, and the edges: all missing, unseen, far outside."""
    encoder = trained.prepared.encoder
    held_out = trained.prepared.raw_test(range(len(trained.prepared.test)))
    return [*held_out, *golden.edge_rows(held_out[0], encoder.features)]


@pytest.fixture(scope="module")
def expected(trained: Trained, rows: list[Row]) -> np.ndarray:
    manifest = trained.bundle.manifest
    return by_hand(manifest.features, named_weights(trained), manifest.temperature, rows)


@pytest.fixture(scope="module")
def encoded(trained: Trained, rows: list[Row]) -> Encoded:
    result = trained.prepared.encoder.encode(rows)
    assert isinstance(result, Encoded)
    return result


def test_numpy_agrees_with_the_raw_signature(trained: Trained, rows: list[Row], expected: np.ndarray) -> None:
    import tensorflow as tf

    saved = tf.saved_model.load(str(trained.bundle.path))
    answers = golden.run_raw(saved, trained.prepared.encoder, rows)["probability"]

    assert np.ptp(expected) > 0.1  # a network that always says the same would pass
    np.testing.assert_allclose(answers, expected, atol=2e-6)


def test_numpy_agrees_with_the_packed_signature(trained: Trained, encoded: Encoded, expected: np.ndarray) -> None:
    answers = SavedModel(trained.bundle.path, "cpu").run(encoded)["probability"]

    np.testing.assert_allclose(answers, expected, atol=2e-6)


@pytest.mark.parametrize("variant", ["litert-float32", "litert-dynamic-int8", "litert-int8"])
def test_numpy_agrees_with_litert(trained: Trained, encoded: Encoded, expected: np.ndarray, variant: str) -> None:
    answers = LiteRT(trained.bundle.variant_path(variant)).run(encoded)["probability"]

    np.testing.assert_allclose(answers, expected, atol=trained.bundle.manifest.variant(variant).tolerance)


def test_numpy_agrees_with_the_answer_over_http(
    trained: Trained, client: httpx.Client, rows: list[Row], expected: np.ndarray
) -> None:
    answer = client.post("/predict", json={"instances": rows}).raise_for_status().json()
    late = [prediction["probabilities"]["late"] for prediction in answer["predictions"]]
    served = client.get("/models").json()["models"][0]["serving"]["variant"]

    np.testing.assert_allclose(late, expected, atol=trained.bundle.manifest.variant(served).tolerance)


def test_keras_and_http_say_the_same(trained: Trained, serve: Any, rows: list[Row]) -> None:
    client = serve(runtime="savedmodel")
    answer = client.post("/predict", json={"instances": rows[: len(trained.prepared.test)]}).raise_for_status().json()
    late = [prediction["probabilities"]["late"] for prediction in answer["predictions"]]

    logits = fit.predict(trained.logits, trained.prepared.test.encoded) / trained.bundle.manifest.temperature
    np.testing.assert_allclose(late, sigmoid(logits), atol=2e-6)


def test_golden_examples_cover_what_serving_will_meet(trained: Trained) -> None:
    golden = [example.row for example in trained.bundle.manifest.golden]
    optional = {feature.name for feature in trained.bundle.manifest.features if not feature.required}

    assert any(all(row[name] is None for name in optional) for row in golden)
    assert any("never seen" in str(row["carrier"]) for row in golden)
    assert any(row["distance"] < 0 for row in golden)
    assert len({example.outputs["probability"] for example in trained.bundle.manifest.golden}) > 8


def test_variants_are_measured_and_the_choice_follows_the_numbers(trained: Trained) -> None:
    manifest = trained.bundle.manifest
    good = [v for v in manifest.variants if v.refused is None]
    names = ["litert-dynamic-int8", "litert-float32", "litert-int8", "savedmodel-float32"]

    assert sorted(v.name for v in manifest.variants) == names
    assert manifest.chosen.variant == min(good, key=lambda v: v.latency["1"].p50).name
    assert manifest.variant("litert-dynamic-int8").size < manifest.variant("litert-float32").size
    assert manifest.variant("litert-float32").largest_difference < 1e-5


def test_a_network_that_lost_its_preprocessing_is_not_published(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder of another vocabulary is the skew that the parity check is there for."""
    prepared = trained.prepared
    carrier = prepared.encoder.features[0]
    swapped = carrier.model_copy(update={"vocabulary": carrier.vocabulary[::-1]})
    skewed = type(prepared.encoder)((swapped, *prepared.encoder.features[1:]))
    raw_inputs = export.with_raw_inputs
    monkeypatch.setattr(export, "with_raw_inputs", lambda encoded, _: raw_inputs(encoded, skewed))
    with pytest.raises(golden.ParityError, match="serving_default and encoded differ"):
        export.export(trained.logits, prepared, trained.config, trained.assessment, tmp_path, trained.judge)

    assert not list((tmp_path / "flights").glob("[0-9]*"))
    assert not list((tmp_path / "flights").rglob(SAVED_MODEL))


def test_the_proof_that_the_service_runs_passes(trained: Trained) -> None:
    lines = list(proof.verify_everywhere(trained.bundle.path))

    assert len(lines) == 1 + len(trained.bundle.manifest.variants)
