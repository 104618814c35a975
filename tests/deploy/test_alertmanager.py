"""From drifted rows to a message: a real service, Prometheus, Alertmanager and a receiver."""

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest
import yaml

from tests.conftest import NAME, Trained
from tests.deploy import prometheus
from tests.deploy.promtool import GROUPS, needs
from tests.ports import free_port
from tests.waiting import PATIENCE_SECONDS, wait_until

pytestmark = needs("prometheus", "prometheus-alertmanager", "amtool")

CONFIG = Path("deploy/alertmanager/alertmanager.yml")


def check(path: Path) -> None:
    subprocess.run(["amtool", "check-config", str(path)], check=True, capture_output=True)


def routed(**labels: str) -> str:
    """The receivers an alert would reach."""
    command = ["amtool", "config", "routes", "test", f"--config.file={CONFIG}"]
    found = subprocess.run(
        [*command, *(f"{k}={v}" for k, v in labels.items())], check=True, capture_output=True, text=True
    )
    return found.stdout.strip()


def test_the_config_is_valid() -> None:
    check(CONFIG)


def test_what_is_commented_out_is_valid_too(tmp_path: Path) -> None:
    """People will uncomment it."""
    text = re.sub(r"^( +)# ((?:  |- |[a-z_]+_configs?:).*)$", r"\1\2", CONFIG.read_text(), flags=re.MULTILINE)
    config = tmp_path / "alertmanager.yml"
    config.write_text(text)
    check(config)
    people, jobs = yaml.safe_load(text)["receivers"]

    assert people.keys() == {"name", "slack_configs", "email_configs", "pagerduty_configs", "webhook_configs"}
    assert "http_config" in jobs["webhook_configs"][0]


def test_who_is_told() -> None:
    assert routed(alertname="HornpipeInputDrift", model="m", severity="warning") == "jobs,people"
    assert routed(alertname="HornpipeErrors", model="m", severity="critical") == "jobs,people"
    assert routed(alertname="HornpipeDown", severity="critical") == "people"
    # A job that fails must not be what asks for the next.
    assert routed(alertname="HornpipeJobsFailing", model="m", severity="warning") == "people"
    assert routed(alertname="HornpipeJobsRefused", model="m", severity="info") == "people"


def test_what_is_inhibited_exists() -> None:
    alerts = {rule["alert"] for rules in GROUPS.values() for rule in rules if "alert" in rule}
    rules = yaml.safe_load(CONFIG.read_text())["inhibit_rules"]
    named = set(re.findall(r"Hornpipe\w+", json.dumps(rules)))

    assert named
    assert named <= alerts


class Receiver:
    """What is posted to a port of this machine."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        got = self.got

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                got.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Not into the test's output."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def alerts(self, status: str = "firing") -> list[dict[str, Any]]:
        return [alert for message in self.got for alert in message["alerts"] if alert["status"] == status]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    thread = Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


@contextmanager
def alertmanager(folder: Path, people: str, jobs: str) -> Iterator[httpx.Client]:
    """deploy/'s own config without its waiting, told where people and jobs are."""
    config = yaml.safe_load(CONFIG.read_text())
    for route in (config["route"], *config["route"]["routes"]):
        route |= {"group_wait": "0s", "group_interval": "1s"}
    config["receivers"][0]["webhook_configs"] = [{"url": people}]
    config["receivers"][1]["webhook_configs"][0]["url"] = jobs
    path = folder / "alertmanager.yml"
    path.write_text(yaml.safe_dump(config))
    check(path)
    port = free_port()
    options = [f"--config.file={path}", f"--storage.path={folder}/alertmanager", "--cluster.listen-address="]
    with (folder / "alertmanager.log").open("wb") as log:
        command = ["prometheus-alertmanager", *options, f"--web.listen-address=127.0.0.1:{port}"]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_SECONDS) as client:
            wait_until(lambda: answers(client), "Alertmanager is ready")
            yield client
    finally:
        process.terminate()
        process.wait()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/-/ready").status_code == 200
    except httpx.TransportError:
        return False


def test_drifted_rows_reach_people(tmp_path: Path, trained: Trained, client: httpx.Client, receiver: Receiver) -> None:
    """Every flight goes as far as the farthest that training has seen."""
    service = f"{client.base_url.host}:{client.base_url.port}"
    farthest = trained.bundle.manifest.drift.inputs["distance"].edges[-1]
    rows = [{**example.row, "distance": farthest} for example in trained.bundle.manifest.golden]
    jobs = f"http://{service}/jobs/alerts"
    with (
        alertmanager(tmp_path, receiver.url, jobs) as manager,
        prometheus.running(tmp_path, service, alertmanager=f"127.0.0.1:{manager.base_url.port}") as scraped,
    ):
        counted = f'hornpipe_input_bin_total{{model="{NAME}",feature="distance"}}'
        wait_until(lambda: scraped.query(counted), "the service has been scraped before anybody asks")
        for _ in range(400 // len(rows) + 1):
            assert client.post("/predict", json={"instances": rows}).status_code == 200

        def distance() -> list[dict[str, Any]]:
            return [alert for alert in receiver.alerts() if alert["labels"].get("feature") == "distance"]

        wait_until(distance, "somebody is told that distances have drifted")
        psi = f'model_version_feature:hornpipe_input:psi1h{{model="{NAME}",feature="distance"}}'
        wait_until(lambda: scraped.value(psi) > 1, "so it is recorded")
    alert = distance()[0]

    assert {key: alert["labels"][key] for key in ("alertname", "model", "version", "window", "severity")} == {
        "alertname": "HornpipeInputDrift",
        "model": NAME,
        "version": "1",
        "window": "1h",
        "severity": "warning",
    }
    assert alert["annotations"]["summary"] == f"{NAME} is asked about other distance than it has learned"
    for message in receiver.got:
        assert {each["labels"].get("model") for each in message["alerts"]} == {message["groupLabels"].get("model")}
    assert client.get("/readyz").status_code == 200  # whatever /jobs/alerts has answered
