"""Pictures, texts, values and imported models in the prediction log: rows that are answered the same, and labels."""

import base64
import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from contract import routing
from contract.bundle import Bundle
from hornpipe import main
from service.labels.joining import JoinedLabels
from service.labels.labelled import LabelsError
from service.predictions import segments
from tests import imported, kinds
from tests.conftest import serving
from tests.kinds import Kind
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kind]:
    return kinds.made(tmp_path_factory, "digits", "diabetes")


@pytest.fixture(scope="module")
def vector(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return imported.made(tmp_path_factory)["vector"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "predictions"


@pytest.fixture
def client(every_kind: dict[str, Kind], vector: Bundle, folder: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    models = tmp_path / "models"
    for kind in every_kind.values():
        kinds.put(kind, models)
    shutil.copytree(vector.path, models / "vector" / "1")
    routing.promote(models, "vector", 1, by="test", why="fixture")
    with serving(models, predictions_dir=folder) as running:
        yield running.client


def pixels(row: dict[str, Any]) -> np.ndarray:
    """[8, 8, 1] of a file or of lists."""
    kept = row["picture"]
    if isinstance(kept, dict):
        kept = Image.open(io.BytesIO(base64.b64decode(kept["b64"])))
    return np.array(kept, np.uint8).reshape(8, 8, 1)


def logged(folder: Path, count: int) -> list[dict[str, Any]]:
    def lines() -> list[dict[str, Any]]:
        return [each for path in segments.paths(folder) for _, _, each in segments.read(path) if "id" in each]

    wait_until(lambda: len(lines()) == count, f"{count} requests are logged")
    return lines()


def answered_the_same(client: httpx.Client, line: dict[str, Any], name: str) -> None:
    """By the row as the log has it."""
    again = client.post("/predict", json={"model": line["model"], "instances": line["rows"]}).raise_for_status()
    for row, outputs in zip(again.json()["predictions"], line["outputs"][name], strict=True):
        values = row["value"] if name == "value" else list(row["probabilities"].values())
        np.testing.assert_array_equal(np.float32(values), np.float32(outputs))


def test_pictures_however_they_came(client: httpx.Client, every_kind: dict[str, Kind], folder: Path) -> None:
    kind = every_kind["digits"]
    file, shown = base64.b64decode(kind.rows[0]["picture"]["b64"]), pixels(kind.rows[0])
    as_lists = {"instances": [{"picture": shown.tolist()}] * 2, "model": "digits"}
    array = io.BytesIO()
    np.save(array, shown[None])
    tensor = {"name": "picture", "shape": [1, 8, 8, 1], "datatype": "UINT8", "data": shown.ravel().tolist()}
    sent = [
        client.post("/predict", json={"instances": kind.rows[:1], "model": "digits"}),
        client.post("/predict", json=as_lists),
        client.post("/predict?model=digits", content=file, headers={"content-type": "image/png"}),
        client.post("/predict?model=digits", content=array.getvalue(), headers={"content-type": "application/x-npy"}),
        client.post("/v2/models/digits/infer", json={"inputs": [tensor]}),
    ]
    assert [each.status_code for each in sent] == [200] * 5

    lines = logged(folder, 5)
    assert lines[0]["rows"] == kind.rows[:1]
    for line in lines:
        for row in line["rows"]:
            np.testing.assert_array_equal(pixels(row), shown)
        answered_the_same(client, line, "probabilities")


def test_labelled_pictures_become_a_folder_that_trains(
    client: httpx.Client, every_kind: dict[str, Kind], folder: Path, tmp_path: Path
) -> None:
    kind = every_kind["digits"]
    for start in (0, 100):
        rows = kind.rows[start : start + 100]
        if start:  # which come as lists
            rows = [{"picture": pixels(row).tolist()} for row in rows]
        body = {"instances": rows, "model": "digits"}
        client.post("/predict", json=body, headers={"x-request-id": f"at-{start}"}).raise_for_status()
    logged(folder, 2)
    sent = [{"request_id": f"at-{i // 100 * 100}", "row": i % 100, "label": int(kind.labels[i])} for i in range(200)]
    client.post("/feedback", json=sent).raise_for_status()

    target = tmp_path / "pictures"
    assert main(["labels", "digits", "-o", str(target), "--folder", str(folder), "--models", str(tmp_path)]) == 0

    from training import config
    from training.data import prepare

    written = tmp_path / "train.toml"
    written.write_text(
        f'name = "digits"\ntask = "multiclass"\n[data]\npath = "{target}"\n[split]\nby = "random"\n'
        'validation = 0.2\ntest = 0.2\n[model]\npreset = "image"\n'
        '[features]\npicture = { kind = "image", size = [8, 8], channels = 1 }\n'
    )
    prepared = prepare(config.load(written, []))
    assert prepared.train.rows + len(prepared.validation) + len(prepared.test) == 200
    found = {(path.parent.name, np.array(Image.open(path)).tobytes()) for path in target.rglob("*.png")}
    labels = map(str, kind.labels[:200].tolist())
    assert found == {(label, pixels(row).tobytes()) for row, label in zip(kind.rows[:200], labels, strict=True)}


def test_values(client: httpx.Client, every_kind: dict[str, Kind], folder: Path) -> None:
    kind = every_kind["diabetes"]
    headers = {"x-request-id": "v"}
    client.post("/predict", json={"instances": kind.rows[:3], "model": "diabetes"}, headers=headers).raise_for_status()
    (line,) = logged(folder, 1)
    answered_the_same(client, line, "value")
    joined = JoinedLabels(folder)

    def indexed() -> int:
        try:
            return joined.counts("diabetes", 0).get(1, (0, 0))[0]
        except LabelsError:  # there is no file yet
            return 0

    wait_until(lambda: indexed() >= 3, "it is indexed")

    sent = [{"request_id": "v", "row": i, "value": float(kind.labels[i])} for i in range(2)]
    assert client.post("/feedback", json=sent).json()["new"] == 2
    refused = client.post("/feedback", json={"request_id": "v", "row": 2, "label": "much"})
    assert refused.json()["error"]["details"][0]["expected"] == "a number"

    (found,) = joined.joined("diabetes", 0, labelled=True)
    np.testing.assert_array_equal(found.labels, kind.labels[:2].astype(np.float64))
    np.testing.assert_allclose(found.scores, kind.answers[:2].ravel(), rtol=1e-5)


def test_imported_models_are_logged_and_labelled_and_have_no_quality(client: httpx.Client, folder: Path) -> None:
    feature = client.get("/models/vector/versions/1").json()["features"][0]
    size = abs(feature["shape"][0])
    bare = {"model": "vector", "instances": [[0.5] * size]}
    client.post("/predict", json=bare, headers={"x-request-id": "i"}).raise_for_status()
    (line,) = logged(folder, 1)

    again = client.post("/predict", json={"model": "vector", "instances": line["rows"]}).raise_for_status().json()
    (name,) = line["outputs"]
    assert again["predictions"] == line["outputs"][name]
    assert client.post("/feedback", json={"request_id": "i", "label": "anything"}).json()["received"] == 1
    assert list(JoinedLabels(folder).joined("vector", 0)) == []
