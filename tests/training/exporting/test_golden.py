"""Golden examples: which rows travel, and that both signatures must say the same of them."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from contract.features import Encoded, Encoder
from contract.manifest import CategoryFeature, ImageFeature, NumberFeature, TextFeature
from tests.conftest import Trained
from training import fit
from training.exporting import golden

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
def test_pictures_travel_as_files(scale: float) -> None:
    """What has 256 steps comes back as it was, and everything else as near as that."""
    feature = ImageFeature(name="p", shape=(16, 12, 3), dtype="float32", minimum=0, maximum=255 * scale)
    random, encoder = np.random.default_rng(0), Encoder([feature])
    for pixels, off in ((random.integers(0, 256, feature.shape), 0), (255 * random.random(feature.shape), scale / 2)):
        row = {"p": (pixels.astype(np.float32) * np.float32(scale)).tolist()}
        as_file, as_lists = (encoder.encode([each]) for each in (golden.compact(row, encoder), row))

        assert golden.compact(row, encoder)["p"].keys() == {"b64"}
        np.testing.assert_allclose(as_file.image, as_lists.image, atol=1.001 * off, rtol=0)
    assert golden.compact({"p": {"b64": "a file"}}, encoder) == {"p": {"b64": "a file"}}


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
