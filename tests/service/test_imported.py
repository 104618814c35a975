"""Imported models over HTTP, from `hornpipe import` to an answer, its description and its counts."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from rich.console import Console

from contract import routing
from tests.conftest import Serve
from tests.service.test_metrics import bins, scrape, value
from tests.training import exported
from training.importing import importing
from training.importing import variants as importing_variants
from training.importing.manifest import Import
from training.progress import TrainingProgress

ROWS = [{"a": i / 10, "b": [i % 7], "c": f"w{i}"} for i in range(100)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`scalars` with a sample, for TensorFlow alone, and `types` without, for LiteRT."""
    folder = tmp_path_factory.mktemp("imported")
    (folder / "sample.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    wishes = [
        Import(exported.scalars(folder / "scalars"), "scalars", folder / "sample.jsonl"),
        Import(exported.types(folder / "types"), "types"),
        Import(exported.any_length(folder / "lengths"), "lengths"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(importing_variants, "footprint", lambda *_: None)  # a TensorFlow of its own for each
        for asked in wishes:
            importing.run(asked, folder / "models", TrainingProgress(Console(file=io.StringIO())))
            routing.promote(folder / "models", asked.name, 1, by="test", why="fixture")
    return folder / "models"


@pytest.fixture
def models(made: Path) -> Path:
    """Takes the place of the flights' fixture, on which `serve` stands."""
    return made


@pytest.fixture
def client(serve: Serve) -> httpx.Client:
    return serve(isolate=False)  # TensorFlow is here anyway


def ask(client: httpx.Client, model: str, *instances: Any) -> httpx.Response:
    return client.post("/predict", json={"instances": list(instances), "model": model})


def test_rows_of_named_inputs_get_named_outputs(client: httpx.Client) -> None:
    found = ask(client, "scalars", {"a": 1.5, "b": [3], "c": "you"}, {"a": -2, "b": [0], "c": {"b64": "/w=="}})

    assert found.status_code == 200, found.text
    assert found.json()["predictions"] == [
        {"double": 3.0, "greeting": "hi you"},
        {"double": -4.0, "greeting": {"b64": base64.b64encode(b"hi \xff").decode()}},
    ]


def test_a_model_of_many_types_runs_on_litert(client: httpx.Client) -> None:
    found = ask(client, "types", {"flag": True, "mask": [1, 0, 200], "n": -5, "x": [0.5, 1.5]})
    listed = client.get("/models/types").json()

    assert found.json()["predictions"] == [{"sum": 201, "next": -4, "opposite": False, "square": [0.25, 2.25]}]
    assert listed["serving"]["runtime"] == "litert"
    assert listed["versions"][0]["headline"] is None


def test_the_only_input_stands_alone_and_may_be_bytes(client: httpx.Client) -> None:
    packed = {"b64": base64.b64encode(np.float32([1, 2, 6]).tobytes()).decode()}

    assert ask(client, "lengths", [1, 2, 3]).json()["predictions"] == [2.0]
    assert ask(client, "lengths", packed, {"x": packed}).json()["predictions"] == [3.0, 3.0]


def test_every_problem_is_named(client: httpx.Client) -> None:
    found = ask(client, "types", {"flag": 1, "mask": [1, 2, 256], "n": 0.5, "x": [1], "y": 0}, [1])

    assert found.status_code == 422
    assert {(each["path"], each["problem"]) for each in found.json()["error"]["details"]} == {
        ("instances[0].flag", "is no bool"),
        ("instances[0].mask[2]", "is no uint8"),
        ("instances[0].n", "is no int64"),
        ("instances[0].x", "has another shape"),
        ("instances[0].y", "unknown feature"),
        ("instances[1]", "is not a row"),
    }


def test_rows_of_different_lengths_are_refused_together(client: httpx.Client) -> None:
    found = ask(client, "lengths", [1, 2], [1, 2, 3])

    assert found.status_code == 422
    assert found.json()["error"]["details"][0]["problem"] == "has another shape than the rows before it"


def test_openapi_describes_inputs_and_outputs(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()
    schemas = described["components"]["schemas"]
    examples = described["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["examples"]

    mask = schemas["Instance.types"]["properties"]["mask"]["anyOf"][0]
    assert (mask["minItems"], mask["maxItems"]) == (3, 3)
    assert mask["items"] == {"type": "integer", "minimum": 0, "maximum": 255}
    assert set(schemas["Instance.scalars"]["required"]) == {"a", "b", "c"}
    for example in examples.values():
        assert client.post("/predict", json=example["value"]).status_code == 200


def test_what_is_one_number_a_row_is_counted_by_the_baseline_of_the_sample(client: httpx.Client) -> None:
    ask(client, "scalars", {"a": 5.0, "b": [3], "c": "x"}, {"a": 1000.0, "b": [-1], "c": "x"})
    ask(client, "lengths", [1.0])
    counted = scrape(client)

    assert value(counted, "hornpipe_input_bin_total", model="scalars", version="1", feature="a", bin="above") == 1
    assert value(counted, "hornpipe_input_bin_total", model="scalars", version="1", feature="b", bin="below") == 1
    assert value(counted, "hornpipe_baseline_rows", model="scalars", version="1") == 100
    assert dict(bins(counted, "hornpipe_input_bin_total", model="lengths")) == {}


def test_what_an_imported_model_was_trained_on_is_not_known(client: httpx.Client) -> None:
    row = {"a": 1e9, "b": [3], "c": "you"}
    refused = client.post("/predict", json={"instances": [row], "model": "scalars", "warnings": True})

    (problem,) = refused.json()["error"]["details"]
    assert (refused.status_code, problem["path"], problem["problem"]) == (422, "warnings", "cannot be had")
    assert ask(client, "scalars", row).json()["predictions"][0].keys().isdisjoint({"warnings", "outlier"})


def test_rows_of_a_sample_say_how_strange_others_are(client: httpx.Client) -> None:
    ask(client, "scalars", *ROWS, {"a": 1e9, "b": [3], "c": "you"})

    samples = scrape(client)
    assert value(samples, "hornpipe_outlier_score_count", model="scalars", version="1") == len(ROWS) + 1
    beyond = value(samples, "hornpipe_outlier_score_bucket", model="scalars", version="1", le="0.999")
    assert len(ROWS) - 3 <= beyond <= len(ROWS)
    assert not [
        labels for name, labels in samples if name.startswith("hornpipe_outlier") and ("model", "types") in labels
    ]
