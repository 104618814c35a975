"""POST /predict over real HTTP: right answers, and errors that name what is wrong."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract import routing
from service import errors
from service.errors import ANSWERS
from tests.conftest import NAME, Serve, Trained, add_version

Row = dict[str, Any]


def error(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The error of a response; its body has the one form, and its id is the header's."""
    assert response.status_code == status, response.text
    body = response.json()
    assert set(body) == {"error", "request_id"}
    assert set(body["error"]) == {"code", "message", "details"}
    assert body["error"]["code"] == code
    assert body["request_id"] == response.headers["x-request-id"]
    assert response.headers["content-type"] == "application/json"
    return body["error"]


def details(response: httpx.Response) -> dict[str, str]:
    return {each["path"]: each["problem"] for each in error(response, 422, "invalid_request")["details"]}


def test_an_answer(client: httpx.Client, trained: Trained, row: Row) -> None:
    response = client.post("/predict", json={"instances": [row, row]}, headers={"x-request-id": "mine-1"})
    answer = response.raise_for_status().json()
    golden = trained.bundle.manifest.golden[0].outputs["probability"]
    first, second = answer["predictions"]

    assert (answer["model"], answer["version"], answer["request_id"]) == ("flights", 1, "mine-1")
    assert first == second
    assert set(first["probabilities"]) == {"on_time", "late"}
    assert first["probabilities"]["late"] == pytest.approx(golden, abs=0.05)
    assert sum(first["probabilities"].values()) == pytest.approx(1)
    assert first["probability"] == first["probabilities"][first["label"]]
    assert first["label"] == ("late" if first["probabilities"]["late"] >= 0.5 else "on_time")


def test_missing_optional_features_are_missing_values(client: httpx.Client, trained: Trained, row: Row) -> None:
    optional = {feature.name for feature in trained.bundle.manifest.features if not feature.required}
    absent = {name: value for name, value in row.items() if name not in optional}
    null = row | dict.fromkeys(optional)
    predictions = client.post("/predict", json={"instances": [absent, null, row]}).json()["predictions"]

    assert predictions[0] == predictions[1] != predictions[2]


def test_unseen_categories_and_far_numbers_are_accepted(client: httpx.Client, row: Row) -> None:
    far = row | {"carrier": "ZZ", "distance": 1e9}

    assert client.post("/predict", json={"instances": [far]}).status_code == 200


def test_all_problems_at_once_around_and_in_the_instances(client: httpx.Client, row: Row) -> None:
    rows = [row, row | {"month": "May", "carier": "UA"}, 3, {**row, "dest": None}]

    assert details(client.post("/predict", json={"instances": rows, "verison": 1, "model": 7})) == {
        "verison": "unknown key",
        "model": "wrong type",
        "instances[1].carier": "unknown feature",
        "instances[1].month": "wrong type",
        "instances[2]": "is not a row",
        "instances[3].dest": "required feature is missing",
    }


@pytest.mark.parametrize(
    ("body", "path"),
    [
        ([], ""),
        ("text", ""),
        ({}, "instances"),
        ({"instances": []}, "instances"),
        ({"instances": {"a": 1}}, "instances"),
        ({"instances": [[1, 2]]}, "instances[0]"),
        ({"instances": [None]}, "instances[0]"),
    ],
)
def test_a_body_of_another_form(client: httpx.Client, body: object, path: str) -> None:
    assert path in details(client.post("/predict", json=body))


@pytest.mark.parametrize("body", [b"", b"{", b'{"instances": [{"month": NaN}]}', b"[1e999]", b"\xff", b"[" * 100_000])
def test_what_is_no_json(client: httpx.Client, body: bytes) -> None:
    response = client.post("/predict", content=body, headers={"content-type": "application/json"})

    assert "is not JSON" in error(response, 400, "not_json")["message"]


def test_other_media_types_and_encodings(client: httpx.Client, row: Row) -> None:
    content = json.dumps({"instances": [row]})
    form = client.post("/predict", content=content, headers={"content-type": "application/x-www-form-urlencoded"})
    packed = client.post("/predict", content=content, headers={"content-encoding": "br"})

    assert "application/json, got application/x-www" in error(form, 415, "unsupported_media_type")["message"]
    assert "got br" in error(packed, 415, "unsupported_media_type")["message"]
    for kind in ("application/json; charset=utf-8", "Application/JSON"):
        assert client.post("/predict", content=content, headers={"content-type": kind}).status_code == 200
    assert client.post("/predict", content=content).status_code == 200


def test_other_models_versions_methods_and_paths(client: httpx.Client, row: Row) -> None:
    body = {"instances": [row]}

    assert client.post("/predict", json=body | {"model": "flights", "version": 1}).status_code == 200
    message = error(client.post("/predict", json=body | {"model": "trains"}), 404, "unknown_model")["message"]
    assert message == "no model 'trains' serves here; models: flights"
    message = error(client.post("/predict", json=body | {"version": 2}), 404, "unknown_version")["message"]
    assert message == "flights/2 does not serve; serving: 1"
    wrong = client.get("/predict")
    error(wrong, 405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"
    error(client.get("/nowhere"), 404, "not_found")
    error(client.delete("/models"), 405, "method_not_allowed")


def test_limits(serve: Serve, row: Row) -> None:
    client = serve(max_body_bytes=20_000, max_rows=3, max_queue_rows=2)

    assert client.post("/predict", json={"instances": [row] * 2}).status_code == 200
    error(client.post("/predict", json={"instances": [row] * 4}), 422, "too_many_rows")
    busy = client.post("/predict", json={"instances": [row] * 3})
    error(busy, 503, "overloaded")
    assert busy.headers["retry-after"] == "1"
    large = b" " * 20_001
    error(client.post("/predict", content=large), 413, "body_too_large")
    in_pieces = client.post("/predict", content=(large[i : i + 999] for i in range(0, len(large), 999)))
    error(in_pieces, 413, "body_too_large")


def test_policies_of_the_config_make_errors(serve: Serve, models: Path, trained: Trained, row: Row) -> None:
    """`reject` for numbers outside the range and for unseen categories, as training writes it into the manifest."""
    manifest = trained.bundle.manifest
    reject = {"carrier": {"on_unseen": "reject"}, "distance": {"on_out_of_range": "reject"}}
    strict = tuple(feature.model_copy(update=reject.get(feature.name, {})) for feature in manifest.features)
    add_version(models, features=strict, golden=manifest.golden[:2])
    routing.promote(models, NAME, 2, by="test", why="strict")
    client = serve()

    assert client.post("/predict", json={"instances": [row]}).status_code == 200
    assert details(client.post("/predict", json={"instances": [row | {"carrier": "ZZ", "distance": 1e9}]})) == {
        "instances[0].carrier": "was never seen in training",
        "instances[0].distance": "is outside the range seen in training",
    }


def test_a_defect_of_ours_tells_nothing_but_the_id(
    client: httpx.Client, row: Row, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("/secret/path")

    monkeypatch.setattr("service.inference.work.Result.predictions", fail)
    monkeypatch.setattr("service.routes.models._summary", fail)
    hot = client.post("/predict", json={"instances": [row]})
    cold = client.get("/models")

    for response in (hot, cold):
        assert error(response, 500, "internal_error") == {
            "code": "internal_error",
            "message": "internal error",
            "details": [],
        }
    assert "/secret/path" in caplog.text
    assert hot.headers["x-request-id"] in caplog.text


def test_a_request_id_that_is_none_is_replaced(client: httpx.Client, row: Row) -> None:
    for given in ("", "a b", "x" * 129, '"'):
        answer = client.post("/predict", json={"instances": [row]}, headers={"x-request-id": given})
        assert answer.json()["request_id"] not in ("", given)


def test_every_error_has_its_row_in_the_table() -> None:
    def below(kind: type) -> list[type]:
        return [kind, *(each for child in kind.__subclasses__() for each in below(child))]

    leaves = [kind for kind in below(errors.RequestError) if kind is not errors.RequestError]

    assert {kind.__name__ for kind in leaves} - {"_"} == {
        kind.__name__ for kind in ANSWERS if not issubclass(kind, errors.NotReady)
    }
    assert all(400 <= ANSWERS[kind].status < 600 for kind in leaves)
    assert len({answer.code for answer in ANSWERS.values()}) == len(ANSWERS)


def test_a_score_on_the_threshold_has_one_label_everywhere(trained: Trained) -> None:
    """0.7 is less in float32 than in float64: one compared so and one so would count another label than was given."""
    import numpy as np

    from contract.features import Encoder
    from contract.manifest import BinaryOutput
    from service.inference.answers import predictions
    from service.monitor import Monitor

    manifest = trained.bundle.manifest
    output = BinaryOutput(**manifest.output.model_dump() | {"threshold": 0.7})
    at_threshold = manifest.model_copy(update={"output": output})
    encoder = Encoder(manifest.features)
    monitor = Monitor(at_threshold, encoder)
    scores = np.array([np.nextafter(np.float32(0.7), np.float32(0)), 0.7], np.float32)
    encoded = encoder.encode([dict(manifest.golden[0].row)] * 2)
    monitor.observe(encoded, {"probability": scores}, 2)

    assert [p["label"] for p in predictions(at_threshold.output, {"probability": scores})] == ["on_time", "late"]
    assert monitor.labels() == {"on_time": 1, "late": 1}
