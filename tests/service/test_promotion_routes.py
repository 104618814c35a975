"""POST /models/{name}/promote and /rollback: the same rules as `hornpipe promote` and `rollback`."""

from pathlib import Path

import httpx
import pytest

from contract import bundle, routing
from service.access import keys
from tests.conftest import Serve
from tests.contract.published import NAME, publish


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """Version 1 in production. Takes the place of the flights' fixture: nothing here need be loaded."""
    publish(tmp_path / "models")
    routing.promote(tmp_path / "models", NAME, 1, by="test", why="")
    return tmp_path / "models"


@pytest.fixture
def client(serve: Serve) -> httpx.Client:
    return serve(ready=False)


def promote(client: httpx.Client, **body: object) -> httpx.Response:
    return client.post(f"/models/{NAME}/promote", json=body)


def rollback(client: httpx.Client, **body: object) -> httpx.Response:
    return client.post(f"/models/{NAME}/rollback", json=body or None)


def error(answer: httpx.Response, status: int) -> dict[str, object]:
    assert answer.status_code == status, answer.text
    found: dict[str, object] = answer.json()["error"]
    return found


def test_there_and_back(client: httpx.Client, models: Path) -> None:
    publish(models)

    assert promote(client, version=2, why="better").raise_for_status().json()["production"] == 2
    assert rollback(client).raise_for_status().json()["production"] == 1

    told = [(e.action, e.to_version, e.by, e.why) for e in routing.history(models, NAME)[1:]]
    assert told == [("promote", 2, "api", "better"), ("rollback", 1, "api", "by hand")]


def test_what_the_gate_refused_needs_force(client: httpx.Client, models: Path) -> None:
    publish(models, passed=False)

    said = error(promote(client, version=2), 409)
    assert said["code"] == "gate_refused"
    assert said["details"] == [
        {"path": "headline", "problem": "failed", "expected": "a check that is passed", "received": "worse by far"}
    ]
    assert routing.read(models, NAME).production == 1
    assert promote(client, version=2, force=True).raise_for_status().json()["production"] == 2


def test_what_cannot_be(client: httpx.Client, models: Path) -> None:
    publish(models)
    (models / NAME / "2" / "a").write_bytes(b"altered")

    assert error(promote(client, version=9), 404)["message"] == "flights has no version 9; versions: 1, 2"
    assert error(client.post("/models/fligths/promote", json={"version": 1}), 404)["code"] == "unknown_model"
    assert error(client.post("/models/fligths/rollback"), 404)["code"] == "unknown_model"
    assert error(promote(client, version=2), 409)["code"] == "routing_conflict"
    assert error(rollback(client), 409)["message"] == "flights has no earlier production version to go back to"
    assert routing.read(models, NAME).production == 1


@pytest.mark.parametrize(
    ("content", "status", "paths"),
    [
        (b"{", 400, []),
        (b'{"version": "2", "by": "me"}', 422, ["version", "by"]),
        (b'{"version": 0}', 422, ["version"]),
        (b"{}", 422, ["version"]),
    ],
)
def test_a_body_that_is_wrong(client: httpx.Client, content: bytes, status: int, paths: list[str]) -> None:
    said = error(client.post(f"/models/{NAME}/promote", content=content), status)

    assert [each["path"] for each in said["details"]] == paths  # type: ignore[index, attr-defined]


def test_a_history_that_cannot_be_read_is_told_to_the_log_alone(
    client: httpx.Client, models: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (models / NAME / routing.HISTORY).open("a") as file:
        file.write("{}\n")
    refused = client.post(f"/models/{NAME}/rollback")

    assert refused.status_code == 409
    assert refused.json()["error"]["code"] == "routing_conflict"
    assert str(models) not in refused.text
    assert "history.jsonl, line 2 is no event" in caplog.text


def test_it_needs_the_scope_admin(serve: Serve, models: Path, tmp_path: Path) -> None:
    publish(models)
    file = tmp_path / "keys.json"
    secrets = {scope: keys.add(file, scope, (scope,)) for scope in ("predict", "admin")}
    client = serve(keys_file=file, ready=False)

    def ask(scope: str) -> httpx.Response:
        headers = {"x-api-key": secrets[scope]}
        return client.post(f"/models/{NAME}/promote", json={"version": 2}, headers=headers)

    assert error(ask("predict"), 403)["code"] == "forbidden"
    assert client.post(f"/models/{NAME}/rollback").status_code == 401
    assert ask("admin").status_code == 200
    assert routing.history(models, NAME)[-1].by == "admin"


def test_a_folder_that_cannot_be_written(client: httpx.Client, models: Path) -> None:
    publish(models)
    (models / NAME / ".lock").unlink()
    (models / NAME / ".lock").mkdir()  # as a read-only folder: to open it for writing fails

    assert error(promote(client, version=2), 503)["code"] == "models_read_only"


def test_old_versions_go_by_the_policy_of_what_is_promoted(client: httpx.Client, models: Path) -> None:
    for _ in range(4):
        publish(models, keep=2)

    promote(client, version=5).raise_for_status()

    assert bundle.versions(models, NAME) == [1, 4, 5]
