"""Canaries in a real service, under traffic: the good one comes to serve, each bad one goes back, and nobody waits."""

import threading
from pathlib import Path

import httpx
import pytest

from contract import introduction, routing
from contract.bundle import Bundle
from service.canary import watch
from tests import sums
from tests.conftest import Serve
from tests.service.canary import trials
from tests.service.canary.trials import NAME
from tests.waiting import wait_until


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    return trials.make(tmp_path_factory.mktemp("trials"))


@pytest.fixture
def models(made: dict[str, Bundle], tmp_path: Path) -> Path:
    """Version 1 in production. Takes the place of the flights' fixture."""
    folder = tmp_path / "models"
    trials.put(made["production"], folder)
    routing.promote(folder, NAME, 1, by="test", why="")
    return folder


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "LOOK_SECONDS", 0.05)


class Traffic:
    """Requests of one row each, one after the other, while it is open: `answers` by version, and `failures`."""

    def __init__(self, client: httpx.Client) -> None:
        self.answers: dict[int, int] = {}
        self.failures: list[str] = []
        self._client = httpx.Client(base_url=client.base_url, timeout=30)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        rows = sums.rows(500, seed=3)
        while not self._stop.is_set():
            for row in rows:
                if self._stop.is_set():
                    return
                answer = self._client.post("/predict", json={"instances": [row]})
                if answer.status_code != 200:
                    self.failures.append(answer.text)
                    continue
                version = answer.json()["version"]
                self.answers[version] = self.answers.get(version, 0) + 1

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stop.set()
        self._thread.join()
        self._client.close()


def introduce(models: Path, version: int) -> None:
    assert introduction.introduce(models, NAME, version, by="job 1").did == "canary"


def trial_of(client: httpx.Client) -> dict[str, object] | None:
    found: dict[str, object] | None = client.get(f"/models/{NAME}").raise_for_status().json()["trial"]
    return found


def test_one_that_is_no_worse_comes_to_serve_step_by_step(serve: Serve, models: Path, made: dict[str, Bundle]) -> None:
    trials.put(made["production"], models, steps=[20.0, 60.0, 100.0])
    introduce(models, 2)
    client = serve()

    with Traffic(client) as traffic:
        wait_until(lambda: routing.read(models, NAME).production == 2, "it serves", 60)
        wait_until(lambda: traffic.answers.get(2, 0) > 150, "it answers")

    assert traffic.failures == []
    assert trials.events(models) == [
        ("promote", 1, None),
        ("canary", 2, 20.0),
        ("canary", 2, 60.0),
        ("canary", 2, 100.0),
        ("promote", 2, None),
    ]
    assert routing.read(models, NAME).canary is None
    last = trials.history(models)[-1]
    assert last.by == watch.BY
    assert "no worse than version 1" in last.why
    assert "errors: 0 of" in last.why


@pytest.mark.parametrize(("kind", "measure"), [("wrong", "disagreement"), ("failing", "errors"), ("slow", "latency")])
def test_each_that_is_worse_goes_back_with_the_evidence(
    serve: Serve, models: Path, made: dict[str, Bundle], kind: str, measure: str
) -> None:
    trials.put(made[kind], models, steps=[40.0, 100.0], min_requests=2000)
    introduce(models, 2)
    client = serve()

    with Traffic(client) as traffic:
        wait_until(lambda: routing.read(models, NAME).canary is None, "it has gone back", 60)

    assert trials.events(models) == [("promote", 1, None), ("canary", 2, 40.0), ("canary_off", 2, None)]
    last = trials.history(models)[-1]
    assert last.by == watch.BY
    assert measure in last.why
    assert bool(traffic.failures) == (kind == "failing")
    assert routing.read(models, NAME).production == 1
