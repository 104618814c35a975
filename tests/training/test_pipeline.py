"""From a config to a served answer, for features of one kind alone."""

from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from contract import proof, routing
from tests.conftest import Serve
from training import config, pipeline
from training.progress import TrainingProgress


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A shop that sells what is red, or large."""
    random = np.random.default_rng(0)
    color, size = random.choice(["red", "blue", "gold"], 900), random.normal(size=900)
    sold = np.where((color == "red") | (size > 1), "yes", "no")
    pq.write_table(pa.table({"color": color, "size": size, "sold": sold}), tmp_path / "shop.parquet")
    return tmp_path / "shop.parquet"


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
    made = pipeline.run(config.parse(raw), models, TrainingProgress(Console(quiet=True)))
    routing.promote(models, "shop", 1, by="test", why="")
    client: httpx.Client = serve()
    answer = client.post("/predict", json={"instances": [row] * 3, "model": "shop"}).raise_for_status().json()

    assert len(list(proof.verify_everywhere(made.path))) == 4
    assert [prediction["label"] for prediction in answer["predictions"]] == ["yes"] * 3
    assert 'hornpipe_predictions_total{label="yes",model="shop",version="1"} 3.0' in client.get("/metrics").text
    assert made.manifest.metrics["roc_auc"].value > 0.55
