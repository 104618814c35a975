"""POST /feedback of a real service, from the body to what can be trained on."""

import contextlib
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow.csv import read_csv

from hornpipe import main
from service.access import keys
from service.errors import InvalidRequest, NotJSON, TooManyRows, UnsupportedMedia
from service.http.messages import JSON
from service.labels import feedback
from service.labels.joining import JoinedLabels
from tests.conftest import NAME, Serve, Trained
from tests.service.logged import indexed
from tests.service.predictions.test_predictions import ask, lines, written
from tests.service.scraped import parsed, value
from tests.waiting import wait_until

Row = dict[str, object]
LINES = b"application/x-ndjson"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "predictions"


@pytest.fixture
def client(serve: Serve, folder: Path) -> httpx.Client:
    return serve(predictions_dir=folder)


def predicted(client: httpx.Client, folder: Path, *ids: str, rows: list[object]) -> None:
    """Ask, and wait until it is indexed."""
    count = indexed(folder, NAME) + len(ids) * len(rows)
    for each in ids:
        ask(client, *rows, request_id=each)
    wait_until(lambda: indexed(folder, NAME) == count, "it is indexed")


@pytest.mark.parametrize(
    ("body", "media"),
    [
        ({"request_id": "a", "row": 3, "label": "late"}, JSON),
        ([{"request_id": "a", "row": 3, "label": "late"}], JSON),
        ({"feedback": [{"request_id": "a", "row": 3, "label": "late"}]}, JSON),
        ({"request_id": "a", "row": 3, "label": "late"}, LINES),
    ],
)
def test_one_or_many(body: object, media: bytes) -> None:
    (found,) = feedback.read(json.dumps(body).encode(), media)

    assert found[1:] == ("a", 3, "late")


def test_what_a_label_may_be() -> None:
    body = b"\n".join(b'{"request_id": "a", %b}' % each for each in (
        b'"label": "0"', b'"label": 7', b'"value": 2.5', b'"label": true', b'"label": 1e300', b'"label": %d' % 2**70
    ))  # fmt: skip

    found = feedback.read(body, LINES)
    assert [each.label for each in found] == ["0", 7, 2.5, "true", 1e300, float(2**70)]
    assert {each.row for each in found} == {0}


def test_everything_wrong_is_named_at_once() -> None:
    items = [
        {"label": "late"},
        {"request_id": "has space", "label": "late", "row": "0"},
        {"request_id": "a", "row": -1, "label": ["late"]},
        {"request_id": "a", "row": True, "label": None, "time": 3},
        {"request_id": "a", "label": "late", "value": 3},
        {"request_id": "a", "row": 2**40},
        "a",
    ]
    with pytest.raises(InvalidRequest, match="the feedback does not fit: 12 problems") as caught:
        feedback.read(json.dumps({"feedback": items}).encode(), JSON)

    assert [(each.path, each.received) for each in caught.value.problems] == [
        ("feedback[0].request_id", "nothing"),
        ("feedback[1].request_id", '"has space"'),
        ("feedback[1].row", '"0"'),
        ("feedback[2].row", "-1"),
        ("feedback[2].label", "a list of 1"),
        ("feedback[3].time", "3"),
        ("feedback[3].row", "true"),
        ("feedback[3].label", "null"),
        ("feedback[4].label", "both"),
        ("feedback[5].row", str(2**40)),
        ("feedback[5].label", "nothing"),
        ("feedback[6]", '"a"'),
    ]


@pytest.mark.parametrize(
    ("body", "media", "error"),
    [
        (b"{", JSON, NotJSON),
        (b'{"request_id": "a"}\n{', LINES, NotJSON),
        (b"[]", JSON, InvalidRequest),
        (b"null", JSON, InvalidRequest),
        (b'{"feedback": {}}', JSON, InvalidRequest),
        (b"", LINES, InvalidRequest),
        (b'{"request_id": "a", "label": "b"}', b"", UnsupportedMedia),
        (b'{"request_id": "a", "label": "b"}', b"text/plain", UnsupportedMedia),
        (b"[" + b"1," * feedback.MOST_ITEMS + b"1]", JSON, TooManyRows),
    ],
)
def test_what_is_no_feedback(body: bytes, media: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        feedback.read(body, media)


def test_labels_come_by_request_id_and_row(client: httpx.Client, row: Row, folder: Path) -> None:
    predicted(client, folder, "a", "b", rows=[row, row])
    sent = [{"request_id": "a", "row": 1, "label": "late"}, {"request_id": "b", "label": "on_time"}]

    first = client.post("/feedback", json=sent)
    assert first.status_code == 200
    assert first.json() == {
        "received": 2, "new": 2, "same": 0, "corrected": 0, "unknown": 0, "request_id": first.headers["x-request-id"]
    }  # fmt: skip
    again = client.post("/feedback", json=[*sent, {"request_id": "c", "label": "on_time"}]).json()
    assert (again["new"], again["same"], again["corrected"], again["unknown"]) == (0, 2, 0, 1)
    corrected = client.post("/feedback", json=sent[0] | {"label": "on_time"}).json()
    assert (corrected["received"], corrected["corrected"]) == (1, 1)
    wrong = client.post("/feedback", json={"feedback": [sent[0], sent[0] | {"row": 2}, sent[0] | {"label": "early"}]})
    assert wrong.status_code == 422
    assert [each["path"] for each in wrong.json()["error"]["details"]] == ["feedback[1].row", "feedback[2].label"]

    (found,) = JoinedLabels(folder).joined(NAME, 0, labelled=True)
    assert found.labels.tolist() == [0, 0]
    logged = {line["id"]: line["outputs"]["probability"] for line in lines(folder)}
    np.testing.assert_array_equal(found.scores, np.float32([logged["a"][1], logged["b"][0]]))

    ask(client, row, request_id="c")
    counts = {"new": 2, "same": 2, "corrected": 1, "joined": 1, "misfit": 0}

    def counted() -> bool:
        samples = parsed(client.get("/metrics").text)
        by_result = {each: value(samples, "hornpipe_feedback_total", model=NAME, result=each) for each in counts}
        return by_result == counts and value(samples, "hornpipe_feedback_total", model="", result="unknown") == 1

    wait_until(counted, "all of it is counted, the label that came before its prediction too")


def test_without_a_log_there_is_nothing_that_feedback_could_be_of(serve: Serve) -> None:
    answer = serve().post("/feedback", json={"request_id": "a", "label": "late"})

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "feedback_off")
    assert "HORNPIPE_PREDICTIONS_DIR" in answer.json()["error"]["message"]


def test_feedback_needs_its_own_scope(serve: Serve, row: Row, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    asks, tells = keys.add(file, "asks", ("predict",)), keys.add(file, "tells", ("feedback",))
    client = serve(predictions_dir=folder, keys_file=file)
    item = {"request_id": "a", "label": "late"}

    def status(path: str, key: str, body: object) -> int:
        return client.post(path, json=body, headers={"x-api-key": key}).status_code

    assert status("/predict", asks, {"instances": [row]}) == 200
    assert status("/feedback", asks, item) == 403
    assert status("/feedback", tells, item) == 200
    assert status("/predict", tells, {"instances": [row]}) == 403
    assert client.post("/feedback", json=item).status_code == 401


def test_a_browser_cannot_be_made_to_tell_lies(client: httpx.Client) -> None:
    """A page of somebody else can send these types without asking first; all others need CORS."""
    item = json.dumps({"request_id": "a", "label": "late"})
    for media in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None):
        headers = {"origin": "https://evil.example"} | ({"content-type": media} if media else {})
        assert client.post("/feedback", content=item, headers=headers).status_code == 415


def test_openapi_describes_it_and_its_words_hold(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()["paths"]["/feedback"]["post"]

    item = described["requestBody"]["content"]["application/json"]["schema"]["anyOf"][0]
    assert set(item["properties"]) == {"request_id", "row", "label", "value"}
    assert "422" not in described["responses"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_labelled_rows_train_a_new_version(
    client: httpx.Client, trained: Trained, some_flights: Path, models: Path, folder: Path, tmp_path: Path, suffix: str
) -> None:
    """The config that the version was trained with, on what was asked of it and turned out to be true."""
    from training import config
    from training.data import prepare

    names = [feature.name for feature in trained.bundle.manifest.features]
    table = pq.read_table(some_flights).slice(0, 300)
    rows = table.select(names).to_pylist()
    truth = table["outcome"].to_pylist()
    for start in range(0, 300, 50):
        ask(client, *rows[start : start + 50], request_id=f"part-{start}")
    written(folder, 6)
    sent = [{"request_id": f"part-{i // 50 * 50}", "row": i % 50, "label": truth[i]} for i in range(300) if i % 10]
    client.post("/feedback", json=sent).raise_for_status()

    target = tmp_path / f"labelled{suffix}"
    told = ["labels", NAME, "-o", str(target), "--folder", str(folder), "--models", str(models)]
    assert main(told) == 0
    checked = config.load(
        Path("examples/flights/train.toml"),
        [f"data.path={target}", "data.category_min_count=1", 'split={by="random", validation=0.2, test=0.2}'],
    )
    prepared = prepare(checked)

    assert prepared.train.rows + len(prepared.validation) + len(prepared.test) == len(sent)
    exported = pq.read_table(target) if suffix == ".parquet" else read_csv(target)
    chosen = table.take([i for i in range(300) if i % 10])
    for name in (*names, "outcome"):
        values, expected = exported[name].to_pylist(), chosen[name].to_pylist()
        assert values == [float(each) if isinstance(each, int) else each for each in expected], name


def test_what_is_exported_can_be_chosen_and_is_what_was_logged(
    client: httpx.Client, row: Row, models: Path, folder: Path, tmp_path: Path
) -> None:
    predicted(client, folder, "a", rows=[row, row | {"distance": 1.0}])
    predicted(client, folder, "b", rows=[row | {"distance": 2.0}])
    client.post("/feedback", json=[{"request_id": "a", "row": 1, "label": "late"},
                                   {"request_id": "b", "label": "on_time"}]).raise_for_status()  # fmt: skip

    def export(*options: str) -> list[dict[str, Any]]:
        target = tmp_path / "out.jsonl"
        assert (
            main(["labels", NAME, "-o", str(target), "--folder", str(folder), "--models", str(models), *options]) == 0
        )
        return [json.loads(line) for line in target.read_text().splitlines()]

    first, second = export()
    assert {name: first[name] for name in row} == row | {"distance": 1.0}
    assert (first["request_id"], first["row"], first["version"], first["outcome"]) == ("a", 1, 1, "late")
    assert (second["distance"], second["outcome"]) == (2.0, "on_time")
    assert export("--version", "2") == []
    assert [each["request_id"] for each in export("--since", "2020-01-01", "--until", "2030-01-01T00:00")] == ["a", "b"]
    assert export("--until", "2020-01-01") == []
    assert export("--target", "arrived")[0]["arrived"] == "late"
    assert first["predicted_at"] < second["predicted_at"]


def test_a_request_can_be_forgotten_while_the_service_runs(
    client: httpx.Client, row: Row, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predicted(client, folder, "secret-id", "b", rows=[row])
    client.post("/feedback", json={"request_id": "secret-id", "label": "late"}).raise_for_status()

    assert main(["labels", "--forget", "secret-id", "--folder", str(folder)]) == 0

    assert "rows forgotten: 1" in capsys.readouterr().err
    assert [line["id"] for line in lines(folder)] == ["b"]
    for path in folder.iterdir():
        assert b"secret-id" not in path.read_bytes(), path
    ask(client, row, request_id="c")
    assert [line["id"] for line in written(folder, 2)] == ["b", "c"]


def test_the_command_says_what_it_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["labels", NAME, "-o", "x.csv", "--folder", str(tmp_path)]) != 0
    assert "no predictions are kept in" in capsys.readouterr().err


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
ITEMS = st.fixed_dictionaries(
    {}, optional={"request_id": JSON_VALUES, "row": JSON_VALUES, "label": JSON_VALUES, "value": JSON_VALUES}
)


@given(JSON_VALUES | ITEMS | st.lists(ITEMS | JSON_VALUES, max_size=3).map(lambda items: {"feedback": items}))
def test_whatever_comes_is_read_or_refused(document: object) -> None:
    body = json.dumps(document).encode()
    for media in (JSON, LINES):
        with contextlib.suppress(InvalidRequest, NotJSON):
            found = feedback.read(body, media)
            assert all(isinstance(each.label, str | int | float) and each.row >= 0 for each in found)
