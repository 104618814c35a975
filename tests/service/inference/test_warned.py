"""Warnings in predictions, of a real service: nobody gets any who does not ask, and who asks learns what is strange."""

import copy
from pathlib import Path

import httpx
import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest

from contract import routing
from service.inference.warned import MOST_WARNINGS
from tests.conftest import NAME, Serve, Trained, add_version

PLAIN = {"label", "probability", "probabilities"}


@pytest.fixture
def rows(trained: Trained, some_flights: Path) -> list[dict]:
    """Some that the model has learned from."""
    names = [each.name for each in trained.bundle.manifest.features]
    found = pq.read_table(some_flights / "2013-06.parquet", columns=names).to_pylist()
    known = trained.bundle.manifest.features[names.index("dest")].vocabulary
    return [each for each in found if each["dest"] in known]


@pytest.fixture
def row(rows: list[dict]) -> dict:
    return rows[0]


def ask(client: httpx.Client, rows: list, **more: object) -> list[dict]:
    answer = client.post("/predict", json={"instances": rows, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def problems(client: httpx.Client, rows: list, query: str = "", **more: object) -> list[tuple[str, str]]:
    answer = client.post(f"/predict{query}", json={"instances": rows, **more})
    assert answer.status_code == 422, answer.text
    return [(each["path"], each["received"]) for each in answer.json()["error"]["details"]]


def test_nobody_gets_any_who_does_not_ask(client: httpx.Client, row: dict) -> None:
    for more in ({}, {"warnings": False}, {"warnings": None}):
        assert [each.keys() for each in ask(client, [row], **more)] == [PLAIN]


def test_who_asks_gets_the_same_prediction_and_warnings(client: httpx.Client, trained: Trained) -> None:
    rows = [dict(each.row) for each in trained.bundle.manifest.golden]
    plain = ask(client, rows)

    by_body, by_query = (
        ask(client, rows, warnings=True),
        client.post("/predict?warnings=true", json={"instances": rows}),
    )

    assert by_query.json()["predictions"] == by_body
    assert [{key: each[key] for key in PLAIN} for each in by_body] == plain
    assert all(each.keys() == PLAIN | {"outlier", "warnings"} and 0 <= each["outlier"] <= 1 for each in by_body)


def test_a_warning_says_where_what_came_and_what_training_knows(
    client: httpx.Client, row: dict, trained: Trained
) -> None:
    features = {each.name: each for each in trained.bundle.manifest.features}
    strange = row | {"distance": 12000, "temp": -400.5, "dest": "XYZ"}

    usual, found = ask(client, [row, strange], warnings=True)

    distance, temp = features["distance"], features["temp"]
    assert found["warnings"] == [
        {
            "path": "instances[1].distance",
            "problem": "is outside the range seen in training",
            "expected": f"a number from {distance.minimum:g} to {distance.maximum:g}",
            "received": "12000",
        },
        {
            "path": "instances[1].temp",
            "problem": "is outside the range seen in training",
            "expected": f"a number from {temp.minimum:g} to {temp.maximum:g}",
            "received": "-400.5",
        },
        {
            "path": "instances[1].dest",
            "problem": "was never seen in training",
            "expected": f"a string such as {', '.join(features['dest'].vocabulary[:3])}",
            "received": '"XYZ"',
        },
    ]
    assert found["outlier"] == 1.0
    assert usual["outlier"] < 1.0
    assert usual["warnings"] == []


def test_what_is_usual_by_itself_is_strange_beside_the_rest(client: httpx.Client, rows: list[dict]) -> None:
    """Kilometres for miles: training has seen such distances, but not to this place."""
    near = [each for each in rows if each["distance"] < 2000]

    usual = ask(client, near, warnings=True)
    strange = ask(client, [each | {"distance": each["distance"] * 1.609} for each in near], warnings=True)

    assert not [each for answers in (usual, strange) for each in answers if each["warnings"]]
    assert np.mean([b["outlier"] - a["outlier"] for a, b in zip(usual, strange, strict=True)]) > 0.05


def test_the_same_row_is_as_strange_alone_as_in_a_crowd(client: httpx.Client, row: dict) -> None:
    (alone,) = ask(client, [row], warnings=True)

    crowd = ask(client, [row | {"distance": 9e9}, row], warnings=True)

    assert crowd[1]["outlier"] == pytest.approx(alone["outlier"], abs=1e-5)  # sums of floats, in whatever order


@pytest.mark.parametrize(
    ("query", "more", "expected"),
    [
        ("", {"warnings": 1}, ("warnings", "1")),
        ("", {"warnings": "yes"}, ("warnings", '"yes"')),
        ("?warnings=1", {}, ("query warnings", '"1"')),
        ("?warning=true", {}, ("query warning", '"true"')),
        ("", {"warning": True}, ("warning", "true")),
    ],
    ids=str,
)
def test_what_is_no_yes_or_no_is_refused(
    client: httpx.Client, row: dict, query: str, more: dict, expected: tuple[str, str]
) -> None:
    assert problems(client, [row], query, **more) == [expected]


def test_tables_and_lines_are_warned_of_too(client: httpx.Client, row: dict) -> None:
    strange = row | {"distance": 12000, "dest": "XYZ"}
    table = "\n".join([",".join(strange), ",".join("" if each is None else str(each) for each in strange.values())])
    bodies = {"text/csv": table.encode(), "application/jsonl": orjson.dumps(strange)}
    (expected,) = ask(client, [strange], warnings=True)
    for media, body in bodies.items():
        answer = client.post("/predict?warnings=true", content=body, headers={"content-type": media})
        (found,) = answer.json()["predictions"]
        assert [each["path"] for each in found["warnings"]] == [each["path"] for each in expected["warnings"]]
        assert found["outlier"] == expected["outlier"]


def test_answers_as_lines_carry_them_and_arrays_cannot(client: httpx.Client, row: dict) -> None:
    def answered(media: str, path: str = "/predict?warnings=true") -> httpx.Response:
        return client.post(path, json={"instances": [row, row]}, headers={"accept": media})

    lines = [orjson.loads(line) for line in answered("application/jsonl").content.splitlines()]
    assert lines == ask(client, [row, row], warnings=True)
    assert answered("application/x-npy").status_code == 422
    assert answered("application/x-npy", "/predict").status_code == 200


def test_a_service_may_always_warn(serve: Serve, row: dict) -> None:
    client = serve(warnings=True)

    assert [each.keys() for each in ask(client, [row])] == [PLAIN | {"outlier", "warnings"}]
    assert (
        client.post("/predict", json={"instances": [row]}, headers={"accept": "application/x-npy"}).status_code == 200
    )
    assert ask(client, [row], warnings=False)[0].keys() > PLAIN


def test_there_is_an_end_to_what_is_listed(client: httpx.Client, row: dict, trained: Trained) -> None:
    """Sixty rows of sixteen warnings are told; whether those after that have any is not looked at."""
    numbers = [each.name for each in trained.bundle.manifest.features if each.kind == "number"]
    strange = row | dict.fromkeys(numbers, 1e9)
    rows = [row, *[copy.copy(strange) for _ in range(200)], row]

    found = [each["warnings"] for each in ask(client, rows, warnings=True)]

    told = MOST_WARNINGS // len(numbers)
    assert [each if each is None else len(each) for each in found] == [0] + [len(numbers)] * told + [None] * (
        201 - told
    )


def test_a_version_of_before_knows_ranges_alone(models: Path, serve: Serve, row: dict) -> None:
    add_version(models, outlier=None)
    routing.promote(models, NAME, 2, by="test", why="older")
    client = serve()

    (found,) = ask(client, [row | {"distance": 12000}], warnings=True)

    assert found["outlier"] is None
    assert "instances[0].distance" in [each["path"] for each in found["warnings"]]
    assert "hornpipe_outlier_score_bucket" not in client.get("/metrics").text


def test_the_histogram_has_every_row_whoever_asked(client: httpx.Client, row: dict) -> None:
    ask(client, [row, row | {"distance": 1e9}])
    ask(client, [row | {"distance": 1e9}], warnings=True)

    lines = [each for each in client.get("/metrics").text.splitlines() if each.startswith("hornpipe_outlier_score")]
    counts = {line.split("{")[0] + line.split('"')[-2]: float(line.split()[-1]) for line in lines if "_sum" not in line}
    assert counts["hornpipe_outlier_score_bucket+Inf"] == 3
    assert counts["hornpipe_outlier_score_bucket0.999"] <= 1


def test_it_is_described_and_shown(client: httpx.Client) -> None:
    (summary,) = client.get("/models").json()["models"]
    schema = client.get("/openapi.json").json()

    asked = schema["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    answered = schema["components"]["schemas"]["Prediction"]["properties"]
    assert summary["serving"]["outliers"] is True
    assert asked["properties"]["warnings"]["type"] == "boolean"
    assert answered["warnings"]["items"] == {"$ref": "#/components/schemas/Problem"}
    assert answered["outlier"]["maximum"] == 1
