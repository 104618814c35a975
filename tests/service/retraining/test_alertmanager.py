"""Debian's Alertmanager, with deploy/'s own routes and a key, delivers to a real service what Prometheus would tell."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
import yaml

from contract.jobs import Jobs, opened
from service.access import keys
from tests.conftest import NAME
from tests.deploy.promtool import needs
from tests.deploy.test_alertmanager import CONFIG, answers, check
from tests.ports import free_port
from tests.service.retraining.test_alerts import Retrained, decisions, path, put_in_the_way, retrained, table
from tests.service.scraped import parsed, total
from tests.waiting import PATIENCE_SECONDS, wait_until

__all__ = ["path", "retrained", "table"]

pytestmark = needs("prometheus-alertmanager", "amtool")

KEY = "/etc/alertmanager/hornpipe-key"


def configured(folder: Path, jobs: str, key: str) -> Path:
    """deploy/'s own config with the key that its comment tells of, without its waiting, and with no people."""
    commented = "# http_config:"
    text = CONFIG.read_text()
    assert text.count(commented) == 1
    (folder / "key").write_text(key)
    config = yaml.safe_load(text.replace(commented, "http_config:").replace(KEY, str(folder / "key")))
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "0s", "group_interval": "1s", "repeat_interval": "1s"}
    receivers = {receiver["name"]: receiver for receiver in config["receivers"]}
    receivers["jobs"]["webhook_configs"][0]["url"] = jobs
    made = folder / "alertmanager.yml"
    made.write_text(yaml.safe_dump(config))
    check(made)
    return made


@contextmanager
def alertmanager(folder: Path, jobs: str, key: str) -> Iterator[httpx.Client]:
    port = free_port()
    options = [f"--config.file={configured(folder, jobs, key)}", f"--storage.path={folder}/alertmanager"]
    options += ["--cluster.listen-address=", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "alertmanager.log").open("wb") as log:
        process = subprocess.Popen(["prometheus-alertmanager", *options], stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:
            wait_until(lambda: answers(client), "Alertmanager is ready")
            yield client
    finally:
        process.terminate()
        process.wait()


def ring(manager: httpx.Client, **labels: str) -> None:
    """As Prometheus tells of an alert that has just begun."""
    about = {"alertname": "HornpipeInputDrift", "model": NAME, "version": "2", "window": "24h", "feature": "distance"}
    alert = {"labels": about | labels, "annotations": {}, "startsAt": datetime.now(UTC).isoformat()}
    manager.post("/api/v2/alerts", json=[alert]).raise_for_status()


def delivered(manager: httpx.Client, what: str = "alertmanager_notifications_total") -> float:
    return total(parsed(manager.get("/metrics").text), what, integration="webhook")


def until_more(count: Callable[[], float], more: int, what: str) -> None:
    before = count()
    wait_until(lambda: count() >= before + more, what)


@pytest.fixture
def secret(tmp_path: Path) -> str:
    return keys.add(tmp_path / "keys.json", "alertmanager", ("admin",))


def test_what_rings_asks_for_one_job_however_often_it_is_delivered(
    retrained: Retrained, table: Jobs, tmp_path: Path, models: Path, secret: str
) -> None:
    client = retrained({"keys_file": tmp_path / "keys.json"}, on_drift=True, cooldown="0m", most_a_day=9)
    with alertmanager(tmp_path, f"{client.base_url}/jobs/alerts", secret) as manager:
        ring(manager)
        wait_until(lambda: table.newest(), "a job is asked for")
        until_more(lambda: delivered(manager), 2, "it rings again and again")
        job = table.claim("worker", 3600.0)
        assert job is not None
        table.end(job, "succeeded", {"version": 3})
        until_more(lambda: delivered(manager), 2, "it still rings")

        assert [each.order.asked_by for each in table.newest()] == ["alertmanager"]
        assert delivered(manager, "alertmanager_notifications_failed_total") == 0
        first, *others = decisions(models)
        assert first[0] == "asked"
        assert {action for action, *_ in others} == {"not_asked"}
        assert len(set(others)) == len(others) <= 3  # that it was queued, that it ran if it rang just then, and its end
        assert "job 1 has answered it" in decisions(models)[-1][2]


def test_an_alert_is_delivered_once_more_until_the_job_table_can_be_written(
    retrained: Retrained, path: Path, tmp_path: Path, secret: str
) -> None:
    client = retrained({"keys_file": tmp_path / "keys.json"}, on_drift=True)
    put_in_the_way(path)
    with alertmanager(tmp_path, f"{client.base_url}/jobs/alerts", secret) as manager:
        ring(manager)

        def tried() -> float:
            return delivered(manager, "alertmanager_notification_requests_failed_total")

        wait_until(lambda: tried() >= 2, "Alertmanager has tried more than once")
        path.rmdir()
        with opened(path) as jobs:
            wait_until(lambda: jobs.newest(), "the job is asked for after all")
            [job] = jobs.newest()

    assert (job.order.model, job.order.asked_by, job.state) == (NAME, "alertmanager", "queued")
