"""What the service says of its models, and the documentation that it gives of itself."""

import json
from pathlib import Path

import httpx
import pytest

from contract import routing
from contract.manifest import Manifest
from tests.conftest import NAME, Serve, Trained, add_version
from tests.waiting import wait_until


def test_models_and_manifests(client: httpx.Client, trained: Trained, models: Path) -> None:
    (summary,) = client.get("/models").json()["models"]
    detail = client.get("/models/flights").json()
    manifest = client.get("/models/flights/versions/1")

    assert summary["state"] == "ready"
    assert summary["serving"]["version"] == summary["production"] == 1
    assert [version["version"] for version in detail["versions"]] == [1]
    assert detail["history"][0]["action"] == "promote"
    assert Manifest.model_validate_json(manifest.text) == trained.bundle.manifest


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/models/trains", 404, "unknown_model"),
        ("/models/..%2f..%2fetc", 404, "not_found"),
        ("/models/flights/versions/2", 404, "unknown_version"),
        ("/models/trains/versions/1", 404, "unknown_version"),
        ("/models/flights/versions/one", 422, "invalid_request"),
    ],
)
def test_what_is_not_there(client: httpx.Client, path: str, status: int, code: str) -> None:
    response = client.get(path)

    assert (response.status_code, response.json()["error"]["code"]) == (status, code)


def test_a_broken_version_does_not_hide_the_others(client: httpx.Client, models: Path) -> None:
    (add_version(models).path / "manifest.json").write_text("{}")

    assert [each["version"] for each in client.get("/models/flights").json()["versions"]] == [1]
    assert client.get("/models/flights/versions/2").status_code == 404


def test_openapi_describes_predict_with_the_models_own_features(client: httpx.Client, trained: Trained) -> None:
    schema = client.get("/openapi.json").json()
    predict = schema["paths"]["/predict"]["post"]
    instance = schema["components"]["schemas"]["Instance.flights"]
    example = predict["requestBody"]["content"]["application/json"]["examples"]["flights"]["value"]

    assert set(instance["properties"]) == {feature.name for feature in trained.bundle.manifest.features}
    assert "carrier" in instance["required"]
    assert "wind_gust" not in instance["required"]
    assert client.post("/predict", json=example).status_code == 200
    assert {"200", "400", "404", "405", "413", "415", "422", "500", "503"} <= set(predict["responses"])
    assert {"/healthz", "/readyz", "/metrics", "/models", "/predict"} <= set(schema["paths"])
    unresolved = [
        reference
        for reference in json.dumps(schema).split('"#/components/schemas/')[1:]
        if reference.split('"')[0] not in schema["components"]["schemas"]
    ]
    assert unresolved == []


def test_openapi_follows_a_promotion(client: httpx.Client, models: Path) -> None:
    add_version(models)
    routing.promote(models, NAME, 2, by="test", why="")
    wait_until(lambda: client.get("/models").json()["models"][0]["serving"]["version"] == 2, "version 2 serves")

    assert "Instance.flights" in client.get("/openapi.json").json()["components"]["schemas"]
    assert client.get("/docs").status_code == 200


def test_alive_before_ready(serve: Serve, models: Path) -> None:
    (models / NAME / routing.ROUTING).unlink()
    client = serve(ready=False)

    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").status_code == 503
    unready = client.post("/predict", json={"instances": [{}]})
    assert (unready.status_code, unready.json()["error"]["code"]) == (503, "not_ready")
    assert unready.headers["retry-after"] == "1"
    assert client.get("/openapi.json").status_code == 200

    routing.promote(models, NAME, 1, by="test", why="")
    wait_until(lambda: client.get("/readyz").status_code == 200, "the bundle has arrived")


def test_several_models_must_be_named(serve: Serve, models: Path, row: dict[str, object]) -> None:
    add_version(models, name="other")
    routing.promote(models, "other", 1, by="test", why="")
    client = serve()
    body = {"instances": [row]}

    assert client.post("/predict", json=body).json()["error"]["message"] == (
        'several models serve here: say which with "model"; models: flights, other'
    )
    assert client.post("/predict", json=body | {"model": "other"}).json()["model"] == "other"
