"""Alertmanager's webhook: what each alert leads to, in a real service with a real job table."""

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from contract import bundle, routing
from contract.jobs import Jobs, opened
from contract.retrain import Retrain
from service.access import keys
from service.retraining.alerts import DRIFT, MOST_ALERTS
from tests.conftest import NAME, Serve, add_version
from tests.service.test_predict import details, error
from training import config

NOW = datetime.now(UTC)
RULES = Path("deploy/prometheus/rules/alerts.yml")
Retrained = Callable[..., httpx.Client]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs.sqlite"


@pytest.fixture
def table(path: Path) -> Iterator[Jobs]:
    with opened(path) as found:
        yield found


@pytest.fixture
def retrained(serve: Serve, models: Path, path: Path) -> Retrained:
    """A service whose production, version 2, has this in [retrain]."""

    def begin(settings: dict[str, Any] | None = None, **section: Any) -> httpx.Client:
        promote(models, **section)
        return serve(jobs_file=path, **(settings or {}))

    return begin


def promote(models: Path, name: str = NAME, **section: Any) -> int:
    first = bundle.read_version(models, NAME, 1).manifest.config
    version = add_version(models, name, config={**first, "retrain": section}).manifest.version
    routing.promote(models, name, version, by="test", why="test")
    return version


def alert(name: str = "HornpipeInputDrift", minutes: float = 10.0, status: str = "firing", **labels: str) -> Any:
    """One that began so many minutes ago, as Alertmanager 0.25 writes it."""
    began = (NOW - timedelta(minutes=minutes)).isoformat().replace("+00:00", "Z")
    about = {"alertname": name, "model": NAME, "severity": "warning", "window": "24h", "feature": "distance"}
    return {
        "status": status,
        "labels": {key: each for key, each in (about | labels).items() if each},
        "annotations": {"summary": "other than it has learned"},
        "startsAt": began,
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus:9090/graph",
        "fingerprint": "c6eadffa33fcdf37",
    }


def body(*alerts: Any, **given: Any) -> dict[str, Any]:
    return {
        "receiver": "jobs",
        "status": "firing",
        "alerts": alerts,
        "groupLabels": {"model": NAME},
        "commonLabels": {},
        "commonAnnotations": {},
        "externalURL": "http://alertmanager:9093",
        "version": "4",
        "groupKey": f'{{}}:{{model="{NAME}"}}',
        "truncatedAlerts": 0,
        **given,
    }


def told(client: httpx.Client, *alerts: Any, **given: Any) -> list[dict[str, Any]]:
    answer = client.post("/jobs/alerts", json=body(*alerts, **given))
    assert answer.status_code == 200, answer.text
    return list(answer.json()["alerts"])


def put_in_the_way(path: Path) -> None:
    """A folder where the table should be, though the service may make a table there at any moment."""
    while not path.is_dir():
        path.unlink(missing_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir()


def decisions(models: Path) -> list[tuple[str, str, str]]:
    events = routing.history(models, NAME)
    return [(each.action, each.by, each.why) for each in events if each.action in routing.DECISIONS]


def test_a_drift_alert_asks_for_a_job_as_production_was_trained(
    retrained: Retrained, table: Jobs, models: Path
) -> None:
    client = retrained(on_drift=True)
    others = alert("HornpipePredictionDrift", 9.0, feature="", output="probability")
    first, second = told(client, alert(version="2"), others)
    job = table.get(1)

    assert (first["decision"], first["job"], second["job"]) == ("asked", 1, 1)
    assert (job.order.cause, job.order.asked_by) == ("drift", "POST /jobs/alerts")
    assert job.order.why.startswith(
        "HornpipeInputDrift (distance, 24h), HornpipePredictionDrift (probability, 24h) rings"
    )
    assert config.read(job.order.config, "it").retrain == Retrain(on_drift=True)
    assert decisions(models) == [("asked", "drift", f"job 1: {job.order.why}")]
    history = client.get(f"/models/{NAME}").json()["history"]
    assert (history[0]["action"], history[0]["why"]) == ("asked", first["why"])


def test_the_same_alert_again_and_again_asks_for_one_job(retrained: Retrained, table: Jobs, models: Path) -> None:
    """As Alertmanager repeats it: while the job is open, after it has ended, and from a second Alertmanager."""
    client = retrained(on_drift=True, cooldown="0m", most_a_day=9)
    for _ in range(3):
        told(client, alert())
    job = table.claim("worker", 3600.0)
    assert job is not None
    table.end(job, "refused")
    for _ in range(3):
        (answer,) = told(client, alert())
        assert answer["decision"] == "not_asked"
        assert answer["why"].startswith("job 1 has answered it")

    assert len(table.newest()) == 1
    assert [action for action, *_ in decisions(models)] == ["asked", "not_asked", "not_asked"]
    # What begins to ring after that is another matter.
    later = {**alert(feature="carrier"), "startsAt": datetime.now(UTC).isoformat()}
    assert [each["job"] for each in told(client, alert(), later)] == [2, 2]


def test_a_job_that_failed_has_answered_nothing(retrained: Retrained, table: Jobs) -> None:
    client = retrained(on_drift=True, cooldown="0m")
    told(client, alert())
    job = table.claim("worker", 3600.0)
    assert job is not None
    table.end(job, "failed", error="no data")

    assert told(client, alert())[0]["job"] == 2


def test_what_nothing_follows_from_is_said_alert_by_alert_and_is_no_failure(
    retrained: Retrained, table: Jobs, models: Path
) -> None:
    add_version(models, "unscheduled")
    routing.promote(models, "unscheduled", 1, by="test", why="test")
    add_version(models, "idle")
    client = retrained(on_drift=["HornpipeSlow", "HornpipeInputDrift"])
    found = told(
        client,
        alert("HornpipePredictionDrift"),
        alert(status="resolved"),
        alert(model="nobody"),
        alert(model=""),
        alert(model="unscheduled"),
        alert(model="idle"),
        alert(model="../" + NAME),
        alert(version="1"),
        alert(""),
    )

    assert {each["decision"] for each in found} == {"ignored"}
    assert [each["why"] for each in found] == [
        f"on_drift of {NAME}/2 is for HornpipeSlow, HornpipeInputDrift, and not for HornpipePredictionDrift",
        "it rings no more",
        f"no model 'nobody' serves here; models: {NAME}, unscheduled",
        "it has no label model",
        "the config of unscheduled/1 has no [retrain]",
        "idle has no version in production that is loaded",
        f"no model '../{NAME}' serves here; models: {NAME}, unscheduled",
        "it is about version 1, and 2 is in production",
        f"on_drift of {NAME}/2 is for HornpipeSlow, HornpipeInputDrift, and not for ",
    ]
    assert table.newest() == []
    assert decisions(models) == []
    assert told(client, alert("HornpipeSlow", feature=""))[0]["decision"] == "asked"


def test_a_config_without_on_drift_waits_for_no_alert(retrained: Retrained) -> None:
    (answer,) = told(retrained(on_labels=5), alert())
    assert answer["why"] == f"on_drift of {NAME}/2 is for nothing, and not for HornpipeInputDrift"


def test_alerts_of_several_models_are_decided_one_by_one(retrained: Retrained, table: Jobs, models: Path) -> None:
    promote(models, "other", on_drift=True)
    client = retrained(on_drift=True)
    told(client, alert(model="other"))
    found = told(client, alert(), alert(model="other"), alert(status="resolved"), status="resolved", truncatedAlerts=7)

    assert [(each["model"], each["decision"], each["job"]) for each in found] == [
        (NAME, "asked", 2),
        ("other", "not_asked", None),
        (NAME, "ignored", None),
    ]
    assert found[1]["why"].startswith("job 1 is queued")
    assert client.post("/jobs/alerts", json=body(truncatedAlerts=7)).json() == {"alerts": [], "truncated": 7}


def test_true_means_the_drift_alerts_of_our_rules() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}

    assert {each for each in alerts if each.endswith("Drift")} == set(DRIFT)


def test_a_body_that_is_none_of_alertmanager_s_is_refused_with_every_problem(retrained: Retrained) -> None:
    client = retrained(on_drift=True)
    assert error(client.post("/jobs/alerts", content=b"{"), 400, "not_json")
    wrong = body({**alert(), "status": "loud"}, {**alert(), "labels": {"a": 1}}, {"labels": {}}, version="5")
    answer = client.post("/jobs/alerts", json=wrong)
    assert error(answer, 422, "invalid_request")
    assert set(details(answer)) == {
        "version",
        "alerts.0.status",
        "alerts.1.labels.a",
        "alerts.2.status",
        "alerts.2.startsAt",
    }
    assert error(client.post("/jobs/alerts", json=[]), 422, "invalid_request")
    many = client.post("/jobs/alerts", json=body(*[{}] * 200))
    assert len(error(many, 422, "invalid_request")["details"]) == 100
    assert error(client.post("/jobs/alerts", json=body(*[alert()] * (MOST_ALERTS + 1))), 422, "invalid_request")


def test_what_coming_again_would_mend_is_5xx_and_what_it_would_not_is_4xx(
    retrained: Retrained, serve: Serve, models: Path, path: Path
) -> None:
    client = retrained(on_drift=True)
    assert told(client, alert(status="resolved"))
    put_in_the_way(path)
    answer = client.post("/jobs/alerts", json=body(alert()))
    assert error(answer, 503, "jobs_unavailable")
    assert str(path.parent) not in answer.text
    assert error(serve().post("/jobs/alerts", json=body(alert())), 404, "jobs_off")


def test_a_config_of_another_hornpipe_is_left_alone(retrained: Retrained) -> None:
    (answer,) = told(retrained(on_drift=True, on_full_moon=True), alert())
    assert answer["decision"] == "ignored"
    assert answer["why"].startswith(f"[retrain] of {NAME}/2 is not understood here; retrain.on_full_moon")


def test_only_admins_may_ring_and_it_is_written_down_who_did(retrained: Retrained, table: Jobs, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    secrets = {name: keys.add(file, name, (scope,)) for name, scope in (("ring", "admin"), ("bob", "predict"))}
    client = retrained({"keys_file": file}, on_drift=True)

    def ring(key: str) -> httpx.Response:
        return client.post("/jobs/alerts", json=body(alert()), headers={"authorization": f"Bearer {secrets[key]}"})

    assert error(client.post("/jobs/alerts", json=body(alert())), 401, "unauthenticated")
    assert error(ring("bob"), 403, "forbidden")
    assert ring("ring").json()["alerts"][0]["decision"] == "asked"
    assert table.get(1).order.asked_by == "ring"


def test_a_models_folder_that_cannot_be_written_holds_up_no_job(
    retrained: Retrained, table: Jobs, models: Path
) -> None:
    client = retrained(on_drift=True)
    lock = models / NAME / ".lock"
    lock.unlink()
    lock.mkdir()  # also for who may do everything, it cannot be opened
    assert told(client, alert())[0]["job"] == 1
    assert decisions(models) == []


def test_the_schema_of_the_body_is_whole(retrained: Retrained) -> None:
    api = retrained(on_drift=True).get("/openapi.json").json()
    schema = api["paths"]["/jobs/alerts"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["alerts"]["items"]["required"] == ["status", "labels", "startsAt"]
    assert "$defs" not in json.dumps(schema)
