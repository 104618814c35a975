"""Canaries in a real service, under traffic: the good one comes to serve, each bad one goes back, and nobody waits."""

import itertools
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random

import httpx
import numpy as np
import pytest

from contract import introduction, routing
from contract.bundle import Bundle
from service.canary import files, watch, watched
from tests import sums
from tests.conftest import Running, Serve, serving
from tests.service.canary import trials
from tests.service.canary.trials import NAME
from tests.service.logged import indexed
from tests.service.test_metrics import scrape, value
from tests.waiting import PATIENCE_SECONDS, wait_until

RESULTS = ("stepped_up", "promoted", "rolled_back")
# So many do not come: a step does not end for their sake, however slowly something is found out.
NEVER = 10**6
HALF = routing.Canary(version=2, percent=50, watched=True)


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
        self._client = httpx.Client(base_url=client.base_url, timeout=PATIENCE_SECONDS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self) -> None:
        for row in many_rows():
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


def many_rows() -> Iterator[dict[str, float]]:
    """Without end, and none of a sum that one and 300 less it are both near enough to."""
    return itertools.cycle(row for row in sums.rows(500, seed=3) if abs(sum(row.values()) - 150) > 1)


def ask_until(client: httpx.Client, version: int, count: int) -> None:
    """One request after another, and none after it, until so many were answered by a version."""
    rows, answered = many_rows(), 0
    while answered < count:
        answer = client.post("/predict", json={"instances": [next(rows)]}).raise_for_status()
        answered += answer.json()["version"] == version


def counts(running: Running) -> bool:
    """Whether what the canary answers from now on is counted."""
    canary = running.server.state.registry.slot(NAME).loaded.get(2)
    return canary is not None and canary.arm is not None


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
        wait_until(lambda: routing.read(models, NAME).production == 2, "it serves")
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
    margins = {} if kind == "slow" else trials.PATIENT
    trials.put(made[kind], models, steps=[40.0, 100.0], min_requests=NEVER, margins=margins)
    introduce(models, 2)
    client = serve()

    with Traffic(client) as traffic:
        wait_until(lambda: routing.read(models, NAME).canary is None, "it has gone back")

    assert trials.events(models) == [("promote", 1, None), ("canary", 2, 40.0), ("canary_off", 2, None)]
    last = trials.history(models)[-1]
    assert last.by == watch.BY
    assert measure in last.why
    assert bool(traffic.failures) == (kind == "failing")
    assert routing.read(models, NAME).production == 1


@pytest.mark.parametrize(("kind", "against", "serves"), [("half", 1, True), ("half", 7, False), ("wrong", 1, False)])
def test_one_that_answers_as_the_gate_has_seen_comes_to_serve_and_no_other(
    serve: Serve, models: Path, made: dict[str, Bundle], kind: str, against: int, serves: bool
) -> None:
    """The gate has judged half of each sum beside version 1, or beside another version."""
    verdict = trials.halves(made["production"], against)
    trials.put(made[kind], models, verdict, steps=[50.0, 100.0], min_requests=300 if serves else NEVER)
    introduce(models, 2)
    client = serve()

    with Traffic(client) as traffic:
        wait_until(lambda: routing.read(models, NAME).canary is None, "it serves, or has gone back")

    assert traffic.failures == []
    assert (routing.read(models, NAME).production == 2) == serves
    last = trials.history(models)[-1]
    assert last.why.startswith("no worse than version 1" if serves else ("distribution: ", "disagreement: "))


def test_one_that_only_labels_can_tell_goes_back_once_they_come(
    models: Path, made: dict[str, Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers lie within production's intervals, and are twice as far from what turned out to be true."""
    monkeypatch.setattr(watched, "LABELS_SECONDS", 0.1)
    monkeypatch.setattr("service.versions.splitting.random", Random(0))
    folder = tmp_path / "kept"
    trials.put(made["off"], models, steps=[50.0, 100.0], min_requests=NEVER)
    introduce(models, 2)
    with serving(models, predictions_dir=folder) as running:
        client = running.client
        wait_until(lambda: counts(running), "what it answers is counted")

        feedback, errors = answered(client, sums.rows(1000, seed=6))
        wait_until(lambda: asked(client) == len(errors) / 10, "all of it is")
        wait_until(lambda: measures_of(client)["disagreement"]["rows"], "it is compared")
        wait_until(lambda: indexed(folder, NAME) == 1000, "all that was answered is known to those who join labels")
        before = measures_of(client)
        client.post("/feedback", json=feedback).raise_for_status()
        wait_until(lambda: routing.read(models, NAME).canary is None, "it has gone back")

    assert [name for name, each in before.items() if each["worse"]] == []
    assert before["quality"]["certain"] is None
    assert before["disagreement"]["excess"] == 0
    last = trials.history(models)[-1]
    assert (last.action, last.by) == ("canary_off", watch.BY)
    (rmse, rows) = re.match(r"quality: rmse is ([\d.]+) over (\d+) labelled rows", last.why).groups()
    assert float(rmse) == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-3)
    assert int(rows) == len(errors)


def answered(client: httpx.Client, rows: list[dict[str, float]]) -> tuple[list[dict[str, object]], list[float]]:
    """Ten rows a request; then what was true of them, which is their sum and some chance, and how far from it the
    canary was."""
    chance = np.random.default_rng(7).normal(0, 0.5, len(rows))
    found: list[dict[str, object]] = []
    errors: list[float] = []
    for first in range(0, len(rows), 10):
        some = rows[first : first + 10]
        told = client.post("/predict", json={"instances": some}).raise_for_status().json()
        for i, row in enumerate(some):
            truth = sum(row.values()) + chance[first + i]
            found.append({"request_id": told["request_id"], "row": i, "label": truth})
            if told["version"] == 2:
                errors.append(told["predictions"][i]["value"] - truth)
    return found, errors


def measures_of(client: httpx.Client) -> dict[str, dict[str, object]]:
    told = client.get(f"/models/{NAME}").raise_for_status().json()["trial"]
    return {each["name"]: each for each in told["measures"]}


def test_a_restart_in_the_middle_goes_on_where_it_was(models: Path, made: dict[str, Bundle]) -> None:
    """What was counted before counts: a step of 300 requests ends although neither service sees as many."""
    trials.put(made["production"], models, steps=[50.0, 100.0], min_requests=300)
    introduce(models, 2)
    with serving(models) as running:
        wait_until(lambda: counts(running), "what it answers is counted")
        ask_until(running.client, 2, 150)
        wait_until(lambda: asked(running.client) == 150, "half of them have come")
    (begun,) = [event for event in trials.history(models) if event.action == "canary"]

    with serving(models) as running:
        wait_until(lambda: trial_of(running.client) is not None, "it is looked at")
        there = trial_of(running.client)
        assert there is not None
        assert there["step_since"] == begun.model_dump(mode="json")["at"]
        assert there["requests"] == 150
        wait_until(lambda: counts(running), "what it answers is counted")
        ask_until(running.client, 2, 200)
        wait_until(lambda: ("canary", 2, 100.0) in trials.events(models), "it goes on")


def asked(client: httpx.Client) -> int:
    return int((trial_of(client) or {}).get("requests", 0))


def test_what_a_person_has_set_up_is_compared_and_left_alone(
    serve: Serve, models: Path, made: dict[str, Bundle]
) -> None:
    trials.put(made["wrong"], models)
    routing.canary(models, NAME, 2, 40, by="ada", why="a look")
    client = serve()

    with Traffic(client):
        wait_until(lambda: "it is worse, and stays" in str((trial_of(client) or {}).get("verdict")), "it is known")

    said = trial_of(client)
    assert said is not None
    assert "disagreement: the two disagree on 100.0% of the rows" in said["verdict"]
    assert routing.read(models, NAME).canary == routing.Canary(version=2, percent=40)

    routing.canary(models, NAME, 2, 40, by="ada", why="may it go", watched=True)
    with Traffic(client):
        wait_until(lambda: routing.read(models, NAME).canary is None, "now it goes back")


def test_without_traffic_it_stays_and_says_what_is_missing(serve: Serve, models: Path, made: dict[str, Bundle]) -> None:
    trials.put(made["production"], models, min_requests=30, min_minutes=0.0)
    introduce(models, 2)
    client = serve()
    wait_until(lambda: trial_of(client) is not None, "it is looked at")

    said = trial_of(client)
    assert said is not None
    assert said["missing"] == ["no request has come to it in this step; 30 are needed"]
    assert (said["percent"], said["next_percent"], said["acts"]) == (5.0, 25.0, "here")


def test_one_that_does_not_load_goes_back(serve: Serve, models: Path, made: dict[str, Bundle]) -> None:
    broken = trials.put(made["production"], models)
    introduce(models, 2)
    for variant in broken.path.glob("variants/*"):
        variant.write_bytes(b"no network")
    serve()

    wait_until(lambda: routing.read(models, NAME).canary is None, "it has gone back")
    assert trials.history(models)[-1].why.startswith("it does not load: ")


def test_of_two_services_on_a_folder_one_acts_by_what_both_see(models: Path, made: dict[str, Bundle]) -> None:
    """Each of them sees 120 requests, and the step is of 200."""
    trials.put(made["production"], models, steps=[50.0, 100.0], min_requests=200)
    introduce(models, 2)
    with serving(models) as first, serving(models) as second:
        both = first.client, second.client
        wait_until(lambda: all(trial_of(each) is not None for each in both), "both look")
        assert sorted(str((trial_of(each) or {})["acts"]) for each in both) == ["elsewhere", "here"]
        wait_until(lambda: counts(first) and counts(second), "what it answers is counted by both")
        for each in both:
            ask_until(each, 2, 120)
        wait_until(lambda: routing.read(models, NAME).canary != HALF, "it goes on")
    assert [event for event in trials.events(models) if event[2] == 100.0] == [("canary", 2, 100.0)]
    assert routing.read(models, NAME).canary == routing.Canary(version=2, percent=100, watched=True)


def test_where_nothing_can_be_written_it_is_told_and_goes_on(
    serve: Serve, models: Path, made: dict[str, Bundle], caplog: pytest.LogCaptureFixture
) -> None:
    trials.put(made["wrong"], models, steps=[50.0, 100.0])
    introduce(models, 2)
    (models / NAME / files.FOLDER).write_text("in the way, as a folder that is read-only would be")
    client = serve()

    with Traffic(client):
        wait_until(lambda: asked(client) > 50, "it is compared all the same")

    said = trial_of(client)
    assert said is not None
    assert said["acts"] == "nobody"
    assert str(said["note"]).startswith("the models folder cannot be written here: ")
    assert routing.read(models, NAME).canary == HALF
    assert sum("nobody here can act" in record.message for record in caplog.records) == 1


def decisions(client: httpx.Client) -> dict[str, float]:
    samples = scrape(client)
    return {each: value(samples, "hornpipe_canary_decisions_total", model=NAME, result=each) for each in RESULTS}


def test_metrics_tell_how_it_stands(serve: Serve, models: Path, made: dict[str, Bundle]) -> None:
    trials.put(made["wrong"], models, min_requests=NEVER)
    introduce(models, 2)
    client = serve()
    with Traffic(client):
        wait_until(lambda: routing.read(models, NAME).canary is None, "it has gone back")
    wait_until(lambda: decisions(client) == {"stepped_up": 0, "promoted": 0, "rolled_back": 1}, "it is counted")

    routing.canary(models, NAME, 2, 50, by="ada", why="")
    with Traffic(client):
        wait_until(lambda: asked(client) > 0, "it is looked at")
    samples = scrape(client)
    assert value(samples, "hornpipe_canary_percent", model=NAME, version="2") == 50
    assert value(samples, "hornpipe_canary_requests", model=NAME, side="canary", outcome="ok") > 0
    assert value(samples, "hornpipe_canary_margin", model=NAME, measure="disagreement") == 0.3
