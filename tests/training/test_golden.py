"""Golden examples: which rows travel, and that both signatures must say the same of them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from contract.features import Encoded, Encoder
from contract.manifest import CategoryFeature, ImageFeature, NumberFeature, TextFeature
from tests.conftest import Trained
from training import fit, golden

Row = dict[str, Any]

X = NumberFeature(name="x", required=True, minimum=10, maximum=20, example=15)
Y = NumberFeature(name="y", required=False, minimum=0, maximum=1, example=0.5)
C = CategoryFeature(name="c", required=False, vocabulary=("a", "b"), example="a")
T = TextFeature(name="t", required=True, example="some words")


def test_edges_are_what_serving_will_meet() -> None:
    row = {"x": 12.0, "y": 0.2, "c": "a", "t": "words"}
    missing, unseen, below, above = golden.edge_rows(row, (X, Y, C, T))

    assert missing == row | {"y": None, "c": None}
    assert unseen == row | {"c": "∅ never seen", "t": "∅ never seen"}
    assert below == row | {"x": 0.0, "y": -1.0}
    assert above == row | {"x": 30.0, "y": 2.0}
    assert list(golden.edge_rows({"p": 0}, (ImageFeature(name="p", shape=(8, 8, 1)),))) == []


@pytest.mark.parametrize("scale", [1.0, 1 / 255, 2.0])
def test_pictures_travel_as_files_that_are_read_as_the_same_numbers(scale: float) -> None:
    feature = ImageFeature(name="p", shape=(16, 12, 3), dtype="float32", minimum=0, maximum=255 * scale)
    pixels = np.random.default_rng(0).integers(0, 256, feature.shape).astype(np.float32) * np.float32(scale)
    row = golden.compact({"p": pixels.tolist()}, (feature,))
    (as_file, as_lists) = (Encoder([feature]).encode([each]) for each in (row, {"p": pixels.tolist()}))

    assert row["p"].keys() == {"b64"}
    np.testing.assert_array_equal(as_file.image, as_lists.image)


def test_pictures_that_no_file_can_hold_travel_as_numbers() -> None:
    feature = ImageFeature(name="p", shape=(4, 4, 1), dtype="float32", minimum=0, maximum=1)
    row = {"p": np.random.default_rng(0).random(feature.shape, np.float32).tolist()}

    assert golden.compact(row, (feature,)) == row


def test_the_answers_are_those_of_keras(trained: Trained) -> None:
    prepared, manifest = trained.prepared, trained.bundle.manifest
    encoded = golden.encode(prepared.encoder, [dict(example.row) for example in manifest.golden])
    logits = fit.predict(trained.logits, encoded) / np.float32(manifest.temperature)

    assert len(manifest.golden) == golden.GOLDEN_ROWS + 4
    recorded = [example.outputs["probability"] for example in manifest.golden]
    np.testing.assert_allclose(recorded, 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_rows_that_the_config_refuses_do_not_travel(trained: Trained) -> None:
    """Of the edges, the unseen category and the far numbers; of the others, perhaps some."""
    policies = {"carrier": {"on_unseen": "reject"}, "distance": {"on_out_of_range": "reject"}}
    features = [f.model_copy(update=policies.get(f.name, {})) for f in trained.prepared.encoder.features]
    strict = replace(trained.prepared, encoder=Encoder(features))
    examples = golden.golden_examples(trained.bundle.path, strict, tolerance=1e-5)
    all_of_them = trained.bundle.manifest.golden

    assert 0 < len(examples) < len(all_of_them)
    assert all(strict.encoder.accepts(dict(example.row)) for example in examples)
    assert {str(e.row) for e in examples} < {str(e.row) for e in all_of_them}


def test_signatures_that_differ_are_an_error(trained: Trained) -> None:
    """The encoder packs two columns in each other's place."""
    numbers = trained.prepared.encoder.number_features
    swapped = {numbers[0].name: numbers[1].name, numbers[1].name: numbers[0].name}

    class Swapping(Encoder):
        def encode(self, rows: Any) -> Any:
            return super().encode([{swapped.get(name, name): value for name, value in row.items()} for row in rows])

    skewed = replace(trained.prepared, encoder=Swapping(trained.prepared.encoder.features))
    with pytest.raises(golden.ParityError, match=r"serving_default and encoded differ by .* on \d+ held-out rows"):
        golden.golden_examples(trained.bundle.path, skewed, tolerance=1e-5)


def test_rows_that_the_encoder_refuses_are_an_error() -> None:
    assert isinstance(golden.encode(Encoder([X]), [{"x": 1}]), Encoded)
    with pytest.raises(golden.ParityError, match="the encoder refuses held-out rows"):
        golden.encode(Encoder([X]), [{"x": "one"}])


@pytest.mark.parametrize(("shape", "most"), [((28, 28, 1), 255), ((96, 96, 3), 7), ((512, 512, 3), 2)])
def test_of_large_pictures_few_travel(shape: tuple[int, int, int], most: int) -> None:
    assert golden._most(Encoder([ImageFeature(name="p", shape=shape)])) == most
