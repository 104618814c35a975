"""SageMaker's, Vertex AI's and MLflow's ways of asking a container."""

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.app import create_app
from service.server import server
from service.settings import Settings, SettingsError, from_environment
from tests.kinds import Kind
from tests.service.protocols.conftest import put, running, serving

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def invoke(client: httpx.Client, model: str, body: Any, media: str = "application/json", more: str = "") -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {ATTRIBUTES: f"tfs-model-name={model}{more}", "content-type": media}
    return client.post("/invocations", content=content, headers=headers)


def predictions(response: httpx.Response, key: str = "predictions") -> Any:
    assert response.status_code == 200, response.text
    return response.json()[key]


def told(response: httpx.Response, status: int = 400) -> str:
    """SageMaker's clients look for `error`, MLflow's for `error_code` and `message`."""
    assert response.status_code == status, response.text
    said = response.json()
    assert said.keys() == {"error", "error_code", "message"}
    assert said["error"] == said["message"]
    return said["error"]


def test_ping(client: httpx.Client) -> None:
    response = client.get("/ping")

    assert (response.status_code, response.content) == (200, b"")


def test_ping_before_anything_serves(tmp_path: Path) -> None:
    settings = Settings(models_dir=tmp_path, port=0)
    with running(server(create_app(settings), settings)) as empty:
        assert empty.get("/ping").status_code == 503
        assert told(empty.post("/invocations", json={"instances": [1]}), 503)


def test_instances_inputs_and_examples(client: httpx.Client, every_kind: dict[str, Kind]) -> None:
    rows = {"instances": [{"x": [1, 2, 3], "y": 1}]}
    columns = invoke(client, "plus", {"inputs": {"x": [[1, 2, 3]], "y": [1]}}).json()

    assert predictions(invoke(client, "plus", rows)) == [{"sum": [2, 3, 4], "first": 1}]
    assert columns == {"outputs": {"sum": [[2, 3, 4]], "first": [1]}, "predictions": {"sum": [[2, 3, 4]], "first": [1]}}
    diabetes = every_kind["diabetes"]
    regressed = invoke(client, "diabetes", {"examples": diabetes.rows[:2]}, more=",tfs-method=regress")
    np.testing.assert_allclose(predictions(regressed, "results"), diabetes.answers[:2], rtol=1e-4)


def test_json_that_does_not_say_what_it_is(client: httpx.Client) -> None:
    """As SageMaker's TensorFlow container takes it."""
    assert predictions(invoke(client, "vector", [[1, 2, 5], [0, 0, 1]])) == [[2, 4, 10], [0, 0, 2]]
    assert predictions(invoke(client, "vector", [1, 2, 5])) == [[2, 4, 10]]
    assert predictions(invoke(client, "plus", {"x": [1, 2, 3], "y": 1})) == [{"sum": [2, 3, 4], "first": 1}]
    large = np.arange(784, dtype=np.float32).reshape(1, 28, 28)
    assert predictions(invoke(client, "twice", large.tolist())) == (large * 2).tolist()


@pytest.mark.parametrize("media", ["application/jsonlines", "application/jsonl", "application/jsons"])
def test_json_lines(client: httpx.Client, media: str) -> None:
    lines = b"[1, 2, 5]\n\n[0, 0, 1]\r\n"

    assert predictions(invoke(client, "vector", lines, media)) == [[2, 4, 10], [0, 0, 2]]
    assert told(invoke(client, "vector", b"[1, 2, 5]\n[", media)).startswith("line 2 is not JSON")


def test_csv(client: httpx.Client, every_kind: dict[str, Kind]) -> None:
    """With a header, without one, and of vectors."""
    diabetes = every_kind["diabetes"]
    names = list(diabetes.rows[0])
    lines = [",".join(str(row[name]) for name in names) for row in diabetes.rows[:3]]
    backwards = [",".join(reversed(line.split(","))) for line in lines]
    header = ",".join(reversed(names))

    for text in ("\n".join(lines), "\n".join([header, *backwards, ""])):
        answers = predictions(invoke(client, "diabetes", text.encode(), "text/csv"))
        np.testing.assert_allclose(answers, diabetes.answers[:3], rtol=1e-4)
    assert predictions(invoke(client, "vector", b"1.0,2.0,5.0\n0,0,1\n", "text/csv; charset=utf-8")) == [
        [2, 4, 10],
        [0, 0, 2],
    ]
    assert "expected 10 cells, got 2" in told(invoke(client, "diabetes", b"1,2", "text/csv"))


def test_data_frames(client: httpx.Client, every_kind: dict[str, Kind]) -> None:
    """As MLflow's clients send them."""
    diabetes = every_kind["diabetes"]
    rows = diabetes.rows[:3]
    split = {"columns": list(rows[0]), "index": [0, 1, 2], "data": [list(row.values()) for row in rows]}
    for body in ({"dataframe_records": rows}, {"dataframe_split": split, "params": {}}):
        np.testing.assert_allclose(predictions(invoke(client, "diabetes", body)), diabetes.answers[:3], rtol=1e-4)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"dataframe_records": []}, "dataframe_records: expected a list of at least one object"),
        ({"dataframe_split": []}, "dataframe_split: expected columns, a list of names"),
        ({"dataframe_split": {"columns": ["a"]}}, "dataframe_split: expected data, a list of at least one row"),
        (
            {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}},
            "dataframe_split: row 0: expected a list of 1 values",
        ),
        ({"dataframe_records": [{"q": 1}]}, "instances[0].q: unknown feature"),
        ({"instances": []}, "No values in 'instances' array"),
        (b"{", "JSON Parse error: Missing a name for object member. at offset: 1"),
        (b"", "JSON Parse error: The document is empty"),
    ],
)
def test_what_is_wrong(client: httpx.Client, body: Any, expected: str) -> None:
    assert expected in told(invoke(client, "diabetes", body))


def test_attributes_and_media(client: httpx.Client) -> None:
    body = {"instances": [[1, 2, 5]]}

    assert predictions(invoke(client, "vector", body, more=", tfs-model-version=1,other=2")) == [[2, 4, 10]]
    wrong = invoke(client, "vector", body, more=",tfs-model-version=7")
    assert told(wrong, 404) == "Servable not found for request: Specific(vector, 7)"
    assert told(invoke(client, "nobody", body), 404) == "Servable not found for request: Latest(nobody)"
    assert "not found in signature def" in told(invoke(client, "vector", body, more=",tfs-signature-name=x"))
    assert "tfs-method: expected one of" in told(invoke(client, "vector", body, more=",tfs-method=x"))
    assert "tfs-model-version: expected a number" in told(invoke(client, "vector", body, more=",tfs-model-version=x"))
    assert told(invoke(client, "vector", b"", "text/plain"), 415) == "Unsupported Media Type: text/plain"
    assert told(client.get("/invocations"), 405)
    assert "several models serve here" in told(client.post("/invocations", json=body), 404)


def test_the_only_model_needs_no_name(every_import: dict[str, Any], tmp_path: Path) -> None:
    """And Vertex AI's routes, as it tells them to a container."""
    put(every_import["vector"], tmp_path, "vector")
    told_by_host = {"AIP_HTTP_PORT": "0", "AIP_HEALTH_ROUTE": "/health", "AIP_PREDICT_ROUTE": "/v1/endpoints/1:predict"}
    settings = from_environment(told_by_host)
    routes = {"health_route": settings.health_route, "predict_route": settings.predict_route}
    with serving(tmp_path, **routes) as client:
        body = {"instances": [[1, 2, 5]], "parameters": {"ignored": 1}}
        assert client.get("/health").status_code == 200
        for path in ("/v1/endpoints/1:predict", "/invocations"):
            assert client.post(path, json=body).json() == {"predictions": [[2, 4, 10]]}


def test_settings_from_hosts() -> None:
    assert from_environment({"AIP_HTTP_PORT": "8080"}).port == 8080
    assert from_environment({"SAGEMAKER_BIND_TO_PORT": "8081"}).port == 8081
    assert from_environment({"AIP_HTTP_PORT": "8080", "HORNPIPE_PORT": "1"}).port == 1
    default = from_environment({"AIP_ENDPOINT_ID": "7", "AIP_DEPLOYED_MODEL_ID": "8"})
    assert default.health_route == "/v1/endpoints/7/deployedModels/8"
    assert default.predict_route == "/v1/endpoints/7/deployedModels/8:predict"
    assert from_environment({}).predict_route == ""
    with pytest.raises(SettingsError, match="PREDICT_ROUTE"):
        from_environment({"AIP_PREDICT_ROUTE": "no slash"})


ANY = st.recursive(
    st.none() | st.integers(-5, 5) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["instances", "inputs", "dataframe_split", "dataframe_records", "columns", "data", "x"]),
            inner,
        )
    ),
    max_leaves=10,
)


@given(body=ANY, raw=st.binary(max_size=30))
def test_anything_is_answered_as_a_clients_fault_or_rightly(client: httpx.Client, body: Any, raw: bytes) -> None:
    asked = [(body, "application/json"), (raw, "text/csv"), (raw, "application/jsonlines"), (raw, "application/json")]
    for content, media in asked:
        for model in ("vector", "diabetes"):
            response = invoke(client, model, content, media)
            assert response.status_code in (200, 400), response.text
