"""From a config to a served answer: features of one kind alone, pictures, texts, values; refusals; rehearsals."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from sklearn.datasets import load_digits

from contract import proof, routing
from contract.bundle import Bundle
from contract.images import encode_png
from tests.conftest import Serve, Trained
from tests.service.scraped import parsed, value
from training import config, pipeline
from training.loop import rehearsal
from training.progress import TrainingProgress
from training.report import results_of


def run(raw: dict[str, Any], models: Path) -> Bundle:
    quick = {"evaluation": {"resamples": 20, "robustness": False}, "quantization": {"variants": ["dynamic-int8"]}}
    return pipeline.run(
        config.parse(quick | raw), models, models.parent / "runs", TrainingProgress(Console(quiet=True))
    )


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A shop that sells what is red, or large."""
    random = np.random.default_rng(0)
    color, size = random.choice(["red", "blue", "gold"], 900), random.normal(size=900)
    sold = np.where((color == "red") | (size > 1), "yes", "no")
    pq.write_table(pa.table({"color": color, "size": size, "sold": sold}), tmp_path / "shop.parquet")
    return tmp_path / "shop.parquet"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind", "row"), [("size", "number", {"size": 2.5}), ("color", "category", {"color": "red"})]
)
def test_features_of_one_kind_alone(
    shop: Path, models: Path, serve: Serve, name: str, kind: str, row: dict[str, object]
) -> None:
    raw = {
        "name": "shop",
        "data": {"path": str(shop), "target": "sold", "positive": "yes"},
        "split": {"by": "random"},
        "features": {name: kind},
        "model": {"hidden": [16]},
        "training": {"epochs": 8, "batch_size": 64, "learning_rate": 0.01},
    }
    made = run(raw, models)
    routing.promote(models, "shop", 1, by="test", why="")
    client: httpx.Client = serve()
    answer = client.post("/predict", json={"instances": [row] * 3, "model": "shop"}).raise_for_status().json()

    assert len(list(proof.verify_everywhere(made.path))) == 1 + len(made.manifest.variants)
    assert [prediction["label"] for prediction in answer["predictions"]] == ["yes"] * 3
    samples = parsed(client.get("/metrics").text)
    assert value(samples, "hornpipe_predictions_total", model="shop", version="1", label="yes") == 3
    assert made.manifest.metrics["roc_auc"].value > 0.55


def ask(client: httpx.Client, name: str, row: dict[str, object]) -> dict[str, Any]:
    body = {"instances": [row], "model": name}
    return client.post("/predict", json=body).raise_for_status().json()["predictions"][0]


@pytest.mark.slow
def test_a_number_to_estimate(models: Path, serve: Serve, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rooms, area = random.integers(1, 6, 800), random.uniform(20, 200, 800)
    price = 50_000 + 3_000 * area + 10_000 * rooms + random.normal(0, 5_000, 800)
    pq.write_table(pa.table({"rooms": rooms, "area": area, "price": price}), tmp_path / "flats.parquet")
    made = run(
        {
            "name": "flats",
            "task": "regression",
            "data": {"path": str(tmp_path / "flats.parquet"), "target": "price"},
            "split": {"by": "random"},
            "features": {"rooms": "number", "area": "number"},
            "model": {"hidden": [32], "dropout": 0.0},
            "training": {"epochs": 40, "batch_size": 32, "learning_rate": 0.01},
        },
        models,
    )
    routing.promote(models, "flats", 1, by="test", why="")
    answer = ask(serve(), "flats", {"rooms": 3, "area": 100})
    results = results_of(made)

    assert made.manifest.metrics["r2"].value > 0.95
    assert answer["low"] < 380_000 < answer["high"]
    assert answer["value"] == pytest.approx(380_000, rel=0.1)
    assert results.residuals is not None
    assert results.residuals.coverage.value == pytest.approx(0.9, abs=0.07)


@pytest.mark.slow
def test_pictures(models: Path, serve: Serve, tmp_path: Path) -> None:
    digits = load_digits()
    np.savez(tmp_path / "digits.npz", image=digits.images.astype(np.uint8) * 15, digit=digits.target)
    made = run(
        {
            "name": "digits",
            "task": "multiclass",
            "data": {"path": str(tmp_path / "digits.npz"), "target": "digit"},
            "split": {"by": "random"},
            "features": {"image": "image"},
            "model": {"preset": "image", "widths": [16, 32]},
            "training": {"epochs": 8, "batch_size": 64, "learning_rate": 0.01, "averaging": 0.9},
        },
        models,
    )
    routing.promote(models, "digits", 1, by="test", why="")
    client = serve()
    zero = digits.images[0].astype(np.uint8) * 15
    as_lists, as_file = (
        ask(client, "digits", {"image": image}) for image in (zero.tolist(), {"b64": encode_png(zero[..., np.newaxis])})
    )

    assert made.manifest.metrics["accuracy"].value > 0.9
    assert made.manifest.chosen.variant.startswith("litert")
    assert as_lists["label"] == as_file["label"] == "0"
    assert as_lists["probability"] == pytest.approx(as_file["probability"], abs=1e-5)


@pytest.mark.slow
def test_texts(models: Path, serve: Serve, tmp_path: Path) -> None:
    from examples.text.prepare import docstrings

    rows = [row for library in ("numpy", "matplotlib") for row in list(docstrings(library))[:700]]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "texts.parquet")
    made = run(
        {
            "name": "texts",
            "data": {"path": str(tmp_path / "texts.parquet"), "target": "library", "positive": "numpy"},
            "split": {"by": "group", "column": "module"},
            "features": {"text": "text"},
            "model": {"preset": "text", "width": 16, "hidden": 16},
            "training": {"epochs": 8, "batch_size": 32, "learning_rate": 0.01},
        },
        models,
    )
    routing.promote(models, "texts", 1, by="test", why="")
    client = serve()
    of_numpy = ask(client, "texts", {"text": "Return a copy of the array, with its elements sorted along an axis."})
    of_matplotlib = ask(client, "texts", {"text": "Set the color of the line and draw it on the figure's axes."})

    assert made.manifest.metrics["roc_auc"].value > 0.8
    assert of_numpy["probabilities"]["numpy"] > of_matplotlib["probabilities"]["numpy"] + 0.2
    assert [variant.name for variant in made.manifest.variants] == ["savedmodel-float32"]


@pytest.mark.slow
def test_a_rehearsal_goes_through_everything_and_publishes_nothing(
    trained: Trained, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    progress = TrainingProgress(Console(width=200))
    made = rehearsal.fast(trained.config, progress)

    assert made.manifest.verdict is not None
    assert not made.path.exists()
    assert "exporting, quantizing, proving and timing" in capsys.readouterr().out


def test_a_network_that_cannot_learn_a_batch_by_heart_is_told_why(trained: Trained, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(
        "import keras\n"
        "def build(inputs):\n"
        "    packed = inputs.packed()\n"
        "    hidden = keras.layers.Dense(16, activation='relu', bias_initializer=keras.initializers.Constant(-1e6))\n"
        "    numbers = keras.ops.nan_to_num(packed['numbers'])\n"
        "    return keras.Model(packed, keras.layers.Dense(1)(hidden(numbers)))\n"
    )
    model = {"builder": "broken:build"}
    broken = trained.config.model_validate(trained.config.model_dump(mode="python") | {"model": model})
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(tmp_path))
        learnt, finding = rehearsal.overfit(broken, TrainingProgress(Console(quiet=True)))

    assert not learnt.learnt
    assert finding is not None
    assert finding.rule in ("dead_relu", "unnormalised_inputs")
