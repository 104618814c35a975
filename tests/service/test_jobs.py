"""Jobs over HTTP, in a real table; a real worker does one in tests/test_circle.py."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from contract import routing
from contract.job import Progress
from contract.jobs import Jobs, opened
from service.access import keys
from tests.conftest import NAME, Serve, add_version
from tests.service.test_predict import details, error
from tests.waiting import PATIENCE_SECONDS
from training import config

LEASE = 3600.0  # seconds


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


@pytest.fixture
def table(path: Path) -> Iterator[Jobs]:
    with opened(path) as found:
        yield found


@pytest.fixture
def client(serve: Serve, path: Path) -> httpx.Client:
    return serve(jobs_file=path)


def test_what_is_asked_for_is_queued_with_the_config_of_production(client: httpx.Client, table: Jobs) -> None:
    answer = client.post("/jobs", json={"model": NAME, "overrides": ["training.epochs=3"], "why": "a new month"})
    assert answer.status_code == 202
    asked = table.get(answer.json()["id"])

    assert (asked.state, asked.order.model, asked.order.cause, asked.order.why) == (
        "queued",
        NAME,
        "person",
        "a new month",
    )
    again = config.read(asked.order.config, "it", asked.order.overrides, NAME)
    assert again.training.epochs == 3
    assert config.read(asked.order.config, "it").training.epochs == 6
    assert client.get(f"/jobs/{asked.id}").json() == json.loads(asked.model_dump_json())
    assert error(client.post("/jobs", json={"model": NAME}), 409, "job_conflict")["message"].endswith("number 1")


def test_what_does_not_fit_is_named(client: httpx.Client) -> None:
    assert error(client.post("/jobs", content=b"{"), 400, "not_json")
    assert error(client.post("/jobs", json={"model": "nobody"}), 404, "unknown_model")
    wrong = client.post("/jobs", json={"model": 3, "whi": "x", "overrides": "a"})
    assert error(wrong, 422, "invalid_request")
    assert set(details(wrong)) == {"model", "whi", "overrides"}
    code = client.post(
        "/jobs", json={"model": NAME, "overrides": ["training.epochs=3", "model.builder=evil.py", "split"]}
    )
    assert list(details(code)) == ["overrides[1]", "overrides[2]"]
    assert error(client.get("/jobs/7"), 404, "unknown_job")
    assert error(client.post("/jobs/7/cancel"), 404, "unknown_job")
    assert error(client.get("/jobs?state=lost"), 422, "invalid_request")


def test_a_model_without_production_has_no_config_to_take(client: httpx.Client, models: Path) -> None:
    add_version(models, "idle")
    assert error(client.post("/jobs", json={"model": "idle"}), 404, "unknown_model")


def test_jobs_are_off_without_a_table_and_unavailable_with_a_broken_one(serve: Serve, tmp_path: Path) -> None:
    assert error(serve().get("/jobs"), 404, "jobs_off")
    broken = tmp_path / "broken.sqlite"
    broken.write_text("no database\n" * 100)
    answer = serve(jobs_file=broken).get("/jobs")
    assert error(answer, 503, "jobs_unavailable")
    assert str(tmp_path) not in answer.text


def test_progress_cancelling_and_lists(client: httpx.Client, table: Jobs, models: Path) -> None:
    add_version(models, "other")
    routing.promote(models, "other", 1, by="test", why="test")
    for name in (NAME, "other"):
        assert client.post("/jobs", json={"model": name}).status_code == 202
    job = table.claim("w", LEASE)
    assert job is not None
    table.renew(job, LEASE, Progress(stage="training", epoch=2, epochs=6, loss=0.5, eta=12.0))

    assert client.get("/jobs/1").json()["progress"] == {
        "stage": "training",
        "epoch": 2,
        "epochs": 6,
        "loss": 0.5,
        "eta": 12.0,
        "metric": "",
        "best": None,
        "at": None,
    }
    assert [each["id"] for each in client.get("/jobs").json()] == [2, 1]
    assert [each["id"] for each in client.get("/jobs", params={"model": "other"}).json()] == [2]
    assert [each["id"] for each in client.get("/jobs", params={"state": "running"}).json()] == [1]
    assert client.post("/jobs/2/cancel").json()["state"] == "cancelled"
    assert client.post("/jobs/1/cancel").json()["cancelling"] is True
    assert table.renew(job, LEASE) == "stop"
    assert error(client.post("/jobs/2/cancel"), 409, "job_conflict")


def test_the_log_is_streamed_to_its_end_and_gone_on_with(client: httpx.Client, table: Jobs) -> None:
    client.post("/jobs", json={"model": NAME})
    job = table.claim("w", LEASE)
    assert job is not None
    table.write(job.id, ["one", "two\rthree"])
    seen: list[str] = []

    def read() -> None:
        with client.stream("GET", "/jobs/1/log") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            seen.extend(line for line in stream.iter_lines() if line)

    reader = threading.Thread(target=read)
    reader.start()
    table.write(job.id, ["four"])
    table.end(job, "succeeded", {"version": 2})
    reader.join(PATIENCE_SECONDS)

    assert seen == [
        "id: 1",
        "data: one",
        "id: 2",
        "data: two three",
        "id: 3",
        "data: four",
        "event: end",
        "data: succeeded",
    ]
    rest = client.get("/jobs/1/log", headers={"last-event-id": "2"}).text
    assert rest == "id: 3\ndata: four\n\nevent: end\ndata: succeeded\n\n"
    assert error(client.get("/jobs/9/log"), 404, "unknown_job")


def test_only_admins_may_ask_and_it_is_written_down_who_did(
    serve: Serve, path: Path, table: Jobs, tmp_path: Path
) -> None:
    file = tmp_path / "keys.json"
    secrets = {name: keys.add(file, name, (scope,)) for name, scope in (("ann", "admin"), ("bob", "predict"))}
    client = serve(jobs_file=path, keys_file=file)

    def ask(name: str) -> httpx.Response:
        return client.post("/jobs", json={"model": NAME}, headers={"x-api-key": secrets[name]})

    assert error(ask("bob"), 403, "forbidden")
    assert ask("ann").status_code == 202
    assert table.get(1).order.asked_by == "ann"
