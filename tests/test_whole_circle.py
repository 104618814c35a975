"""Drift, a job, fresh months, the gate, a canary, production: every process real, while clients ask without a pause.

Two things are not as they are in deploy/: alerts ring at once and not after half an hour (tests/deploy/prometheus.py),
and Alertmanager does not wait for more to ring together (tests/deploy/test_alertmanager.py). An hour's window is an
hour: the replay of months takes less.
"""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from contract import bundle, routing
from contract.routing import Event
from tests.circle import config, shards
from tests.circle.processes import Circle, Places, circle, hornpipe
from tests.circle.stages import Stages, logs_shown
from tests.circle.traffic import Traffic
from tests.deploy.promtool import needs
from tests.service.scraped import parsed, total
from tests.waiting import wait_until

pytestmark = [needs("prometheus", "prometheus-alertmanager", "amtool"), pytest.mark.slow, pytest.mark.timeout(3600)]

NAME = "flights"
# What version 1 learns from, validates and tests on; what comes in afterwards; and of that what version 3 learns from.
KNOWN, FRESH, MIXED_UP = range(1, 9), range(9, 12), range(3, 11)
LEARNED = range(1, 7)
JOB_SECONDS = 600


@pytest.fixture
def stages() -> Stages:
    return Stages()


@pytest.fixture
def places(flights: Path, tmp_path: Path, stages: Stages) -> Iterator[Places]:
    """At the end of August: a first version serves, of all that is known."""
    found = Places(tmp_path)
    shards.deliver(flights, found.shards, KNOWN)
    with logs_shown(tmp_path):
        text = config.write(tmp_path, found.shards)
        hornpipe(found, "train", text, "--models", found.models, "--runs", found.runs, "--promote")
        stages.reached("version 1 is trained by hand and promoted")
        yield found


@pytest.fixture
def whole(places: Places, stages: Stages) -> Iterator[Circle]:
    with circle(places) as running:
        stages.reached("service, Prometheus, Alertmanager and worker run")
        yield running


def test_drift_ends_in_a_new_version_and_no_request_fails(whole: Circle, flights: Path, stages: Stages) -> None:
    features = [each.name for each in bundle.read_version(whole.places.models, NAME, 1).manifest.features]
    usual = shards.requests(shards.paths(whole.places.shards, LEARNED), features, in_order=False)
    autumn = shards.requests(shards.deliver(flights, whole.places.shards, FRESH), features)
    # What a counter has when it is first scraped is no increase: it shall be nothing.
    counted = f'sum(hornpipe_input_bin_total{{model="{NAME}"}}) == 0'
    stages.wait(lambda: whole.scraped.query(counted), "Prometheus has seen that nobody has asked yet", 60)
    with Traffic(whole.service.port, usual) as traffic:
        nothing_happens_while_nothing_changes(whole, traffic, stages)
        traffic.ask_for(autumn)
        drift_rings_and_files_a_job(whole, stages)
        the_job_trains_on_the_fresh_months_and_passes(whole, stages)
        the_canary_becomes_production(whole, traffic, stages)
        of_shuffled_labels_nothing_serves(whole, stages)
    assert traffic.failures() == []
    assert traffic.versions().keys() == {1, 2}
    what_was_done_is_written_down(routing.history(whole.places.models, NAME))
    stages.reached(f"{len(traffic.answers)} requests, none of them failed")


def nothing_happens_while_nothing_changes(whole: Circle, traffic: Traffic, stages: Stages) -> None:
    """To inputs. Outputs are judged by a fortnight of July, which had more late flights than winter and spring."""
    stages.wait(lambda: len(traffic.answers) > 400, "four thousand flights as in training", 120)
    traffic.ask_for([])  # of so many that others will be seen among them, however late they are scraped
    rows = f'min(model_version_feature:hornpipe_input_rows:increase1h{{model="{NAME}"}}) >= 3000'
    stages.wait(lambda: whole.scraped.query(rows), "Prometheus has judged them", 60)

    assert "HornpipeInputDrift" not in whole.ringing()
    assert whole.jobs() == []


def drift_rings_and_files_a_job(whole: Circle, stages: Stages) -> None:
    stages.wait(whole.jobs, "September: drift has rung, and a job is filed", 60)
    (job,) = whole.jobs()

    assert (job["order"]["model"], job["order"]["cause"]) == (NAME, "drift")
    assert job["order"]["asked_by"] == "POST /jobs/alerts"
    assert "HornpipeInputDrift (temp, 1h)" in job["order"]["why"]
    wait_until(lambda: any(each["labels"].get("feature") == "temp" for each in whole.people.alerts()), "people know")


def the_job_trains_on_the_fresh_months_and_passes(whole: Circle, stages: Stages) -> None:
    job = ended(whole, 1, stages)
    data = bundle.read_version(whole.places.models, NAME, 2).manifest.data

    assert (job["state"], job["error"]) == ("succeeded", None)
    assert (job["result"]["version"], job["result"]["passed"]) == (2, True)
    assert {"roc_auc", "accuracy", "calibration"} <= {each["check"] for each in job["result"]["reasons"]}
    shard = whole.places.shards
    assert data.train_rows == shards.count(shard, date(2013, 3, 6), date(2013, 10, 17))
    assert data.test_rows == shards.count(shard, date(2013, 11, 1), date(2013, 11, 30))


def the_canary_becomes_production(whole: Circle, traffic: Traffic, stages: Stages) -> None:
    """Until then both answer, and from then on the new one alone."""
    for percent in (5, 25, 100):
        step = f"the canary has had {percent}% of the traffic"
        stages.wait(lambda share=percent: (2, share) in canaries(whole) and traffic.came(2), step, 120)
    production = stages.wait(lambda: shown(whole)[0] == 2, "version 2 is production", 120)
    wait_until(lambda: traffic.versions(max(production, traffic.came(1)[-1]))[2] >= 200, "it answers, and alone")

    assert traffic.came(2)[0] < traffic.came(1)[-1]  # both have answered for a while
    wait_until(lambda: shown(whole) == (2, None, 2), "GET /models says so")
    wait_until(lambda: ended_jobs(whole, "succeeded") == 1, "the metrics have the job")


def of_shuffled_labels_nothing_serves(whole: Circle, stages: Stages) -> None:
    """Of the month that tests the labels are right: it is what shows that those before it are not."""
    shards.shuffle_labels(shards.paths(whole.places.shards, MIXED_UP))
    asked = whole.service.client.post("/jobs", json={"model": NAME, "why": "a month later"})
    assert asked.status_code == 202, asked.text
    job = ended(whole, asked.json()["id"], stages)
    failed = {each["check"]: each["detail"] for each in job["result"]["reasons"] if not each["passed"]}

    assert (job["state"], job["result"]["version"], job["result"]["passed"]) == ("refused", 3, False)
    assert "against flights/2" in failed["roc_auc"]
    assert routing.read(whole.places.models, NAME) == routing.Routing(production=2)
    wait_until(lambda: ended_jobs(whole, "refused") == 1, "the metrics have that job too")


def what_was_done_is_written_down(events: list[Event]) -> None:
    """By whom, and why; and that drift, which goes on, has not been answered twice."""
    done = [(event.action, event.to_version, event.percent) for event in events if event.action != "not_asked"]
    why = {event.action: event.why for event in events}

    assert done == [
        ("passed", 1, None),
        ("promote", 1, None),
        ("asked", None, None),
        ("passed", 2, None),
        ("canary", 2, 5),
        ("canary", 2, 25),
        ("canary", 2, 100),
        ("promote", 2, None),
        ("refused", 3, None),
    ]
    assert all(event.why and event.by for event in events)
    assert [event.by for event in events if event.to_version == 2 and event.action != "passed"] == [
        "job 1",
        *["canary watch"] * 3,
    ]
    assert "HornpipeInputDrift (temp, 1h)" in why["asked"]
    assert "no worse than version 1" in why["promote"]
    assert "roc_auc" in why["refused"]


def ended(whole: Circle, number: int, stages: Stages) -> dict[str, Any]:
    def has_ended() -> bool:
        return whole.get(f"/jobs/{number}")["ended_at"] is not None

    stages.wait(has_ended, f"job {number} has ended", JOB_SECONDS)
    job: dict[str, Any] = whole.get(f"/jobs/{number}")
    print(f"job {number}: {job['state']}, {job['error'] or job['result']}")
    return job


def canaries(whole: Circle) -> set[tuple[int | None, float | None]]:
    """Versions, and the shares that they have had."""
    events = routing.history(whole.places.models, NAME)
    return {(event.to_version, event.percent) for event in events if event.action == "canary"}


def shown(whole: Circle) -> tuple[int, dict[str, Any] | None, int]:
    """Production, canary and what answers, as one process of the service has it: each follows the routing by itself."""
    model = whole.get(f"/models/{NAME}")
    return model["production"], model["canary"], model["serving"]["version"]


def ended_jobs(whole: Circle, state: str) -> float:
    page = whole.service.client.get("/metrics").text
    return total(parsed(page), "hornpipe_job_ended_total", model=NAME, state=state)
