"""What goes round, each a process of its own: service, Prometheus, Alertmanager, worker; and whoever trains by hand."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import httpx

from tests.deploy import prometheus
from tests.deploy.prometheus import Prometheus
from tests.deploy.test_alertmanager import Receiver, alertmanager
from tests.test_server import Process
from tests.waiting import wait_until

# Two, as anybody with two processors has them: one watches for all.
WORKERS = 2
POLL_SECONDS = 0.25
HORNPIPE = (sys.executable, "-m", "hornpipe")
# Gradient boosting's threads spin while they wait for each other: ten times slower beside others on two processors.
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Places:
    """Everything is under one folder, logs too."""

    folder: Path

    @property
    def shards(self) -> Path:
        return self.folder / "shards"

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    @property
    def jobs(self) -> Path:
        return self.folder / "jobs.sqlite"

    @property
    def state(self) -> Path:
        return self.folder / "state"


@dataclass(frozen=True)
class Circle:
    """All of it runs."""

    places: Places
    service: Process
    scraped: Prometheus
    alerts: httpx.Client
    people: Receiver

    def get(self, path: str) -> Any:
        return self.service.client.get(path).raise_for_status().json()

    def jobs(self) -> list[dict[str, Any]]:
        """The newest first."""
        return self.get("/jobs")

    def ringing(self) -> set[str]:
        """The names of the alerts that Alertmanager has now."""
        return {each["labels"]["alertname"] for each in self.alerts.get("/api/v2/alerts").raise_for_status().json()}


def hornpipe(places: Places, *arguments: object) -> None:
    """A command that a person types, until it has ended well."""
    with (places.folder / "hornpipe.log").open("ab") as log:
        subprocess.run([*HORNPIPE, *map(str, arguments)], stdout=log, stderr=log, check=True, env=os.environ | QUIET)


@contextmanager
def serving(places: Places, **settings: object) -> Iterator[Process]:
    """`hornpipe serve`, ready."""
    given = {"WORKERS": WORKERS, "POLL_SECONDS": POLL_SECONDS, "JOBS_FILE": places.jobs, "STATE_DIR": places.state}
    service = Process(places.models, places.folder / "service.log", **given, **settings)
    try:
        wait_until(service.ready, "the service is ready")
        yield service
    finally:
        service.client.close()
        ended(service.process)


@contextmanager
def working(places: Places) -> Iterator[None]:
    """`hornpipe worker`; a job that it has dies with it."""
    where = ["--jobs", places.jobs, "--models", places.models, "--runs", places.runs]
    with (places.folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [*HORNPIPE, "worker", *map(str, where)], stdout=log, stderr=log, env=os.environ | QUIET
        )
    try:
        yield
    finally:
        ended(worker)


@contextmanager
def telling() -> Iterator[Receiver]:
    """Where people are told of alerts."""
    people = Receiver()
    thread = Thread(target=people.server.serve_forever)
    thread.start()
    try:
        yield people
    finally:
        people.server.shutdown()
        thread.join()
        people.server.server_close()


@contextmanager
def circle(places: Places) -> Iterator[Circle]:
    """deploy/'s own rules and routes: only nothing waits, for minutes to have passed or for more to ring together."""
    with ExitStack() as running:
        service = running.enter_context(serving(places))
        address = f"127.0.0.1:{service.port}"
        people = running.enter_context(telling())
        alerts = running.enter_context(alertmanager(places.folder, people.url, f"http://{address}/jobs/alerts"))
        told = f"127.0.0.1:{alerts.base_url.port}"
        scraped = running.enter_context(prometheus.running(places.folder, address, alertmanager=told))
        running.enter_context(working(places))
        yield Circle(places, service, scraped, alerts, people)


def ended(process: "subprocess.Popen[bytes]") -> None:
    """Asked to, or killed."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
