"""Jobs in /metrics, from a real table: equal in all workers, whatever becomes of the table, and over restarts."""

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from contract.job import Progress
from contract.job_totals import OpenJob, Outcome, Totals
from contract.jobs import Jobs, opened
from service.counting import jobs as job_metrics
from service.counting.instruments import JOBS, JOBS_TIME
from service.counting.jobs import MOST_MODELS, longest_pause, samples
from tests.conftest import NAME, Serve, add_version
from tests.contract.test_jobs import order
from tests.service.processes.test_workers import workers
from tests.service.scraped import Samples, parsed, total, value
from tests.test_server import Start, start
from tests.waiting import PATIENCE_SECONDS, wait_until

__all__ = ["start"]

LEASE = 3600.0
# A Sunday.
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp()
HOUR, DAY = 3600.0, 86400.0


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_metrics, "LOOK_SECONDS", 0.05)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "jobs.sqlite"


@pytest.fixture
def table(path: Path) -> Iterator[Jobs]:
    with opened(path) as found:
        yield found


def scrape(client: httpx.Client) -> Samples:
    return parsed(client.get("/metrics").raise_for_status().text)


def fresh(client: httpx.Client) -> Samples:
    """As of a look that began after now."""
    asked = time.time()
    found: list[Samples] = []

    def looked() -> bool:
        found[:] = [scrape(client)]
        return value(found[0], "hornpipe_jobs_timestamp_seconds") > asked

    wait_until(looked, "the table has been read")
    return found[0]


def job_series(found: Samples) -> set[str]:
    return {name for name, _ in found if name.startswith("hornpipe_job")}


def test_without_a_table_nothing_is_said_of_jobs(serve: Serve) -> None:
    assert job_series(scrape(serve())) == set()


def test_a_job_from_its_wish_to_its_end(serve: Serve, path: Path, table: Jobs) -> None:
    client = serve(jobs_file=path)
    found = fresh(client)
    assert (value(found, "hornpipe_jobs", state="queued"), value(found, "hornpipe_jobs", state="running")) == (0, 0)
    assert value(found, "hornpipe_job_queued_seconds") == 0

    asked = table.ask(order(NAME))
    found = fresh(client)
    assert value(found, "hornpipe_jobs", state="queued") == 1
    waited = value(found, "hornpipe_jobs_timestamp_seconds") - asked.asked_at
    assert value(found, "hornpipe_job_queued_seconds") == pytest.approx(waited, abs=1e-3)

    job = table.claim("w", LEASE)
    assert job is not None
    assert job.started_at is not None
    table.renew(job, LEASE, Progress(stage="training", at=job.started_at - 100))
    found = fresh(client)
    assert (value(found, "hornpipe_jobs", state="queued"), value(found, "hornpipe_jobs", state="running")) == (0, 1)
    running = value(found, "hornpipe_job_running_seconds", model=NAME)
    assert value(found, "hornpipe_job_progress_age_seconds", model=NAME) == pytest.approx(running + 100, abs=1e-3)

    table.end(job, "succeeded", {"version": 2})
    ended = table.get(job.id).ended_at
    found = fresh(client)
    assert total(found, "hornpipe_job_running_seconds") == 0
    assert value(found, "hornpipe_job_ended_total", model=NAME, state="succeeded") == 1
    assert total(found, "hornpipe_job_ended_total") == 1
    assert value(found, "hornpipe_job_attempts_total", model=NAME, state="succeeded") == 1
    assert value(found, "hornpipe_job_in_a_row", model=NAME, state="succeeded", refusal="") == 1
    assert value(found, "hornpipe_job_in_a_row", model=NAME, state="failed", refusal="") == 0
    assert value(found, "hornpipe_job_last_success_timestamp_seconds", model=NAME) == ended
    assert value(found, "hornpipe_job_seconds_total", model=NAME, state="succeeded") == pytest.approx(
        ended - job.started_at, abs=2e-3
    )


def test_counters_go_on_after_a_restart_and_after_rows_are_gone(serve: Serve, path: Path, table: Jobs) -> None:
    for state in ("failed", "refused"):
        table.ask(order(NAME))
        job = table.claim("w", LEASE)
        assert job is not None
        table.end(job, state, refusal="nothing_new" if state == "refused" else None)
    found = fresh(serve(jobs_file=path))
    for refusal, jobs in (("gate", 0), ("data", 0), ("nothing_new", 1)):
        assert value(found, "hornpipe_job_in_a_row", model=NAME, state="refused", refusal=refusal) == jobs
    before = {key: each for key, each in found.items() if key[0].endswith("_total")}
    file = sqlite3.connect(path)
    with file:
        file.execute("DELETE FROM job")
    file.close()
    after = fresh(serve(jobs_file=path))

    assert total(before, "hornpipe_job_ended_total") == 2
    for key, each in before.items():
        if key[0].startswith("hornpipe_job"):
            assert after[key] == each


def test_what_cannot_be_read_stays_as_it_was_and_breaks_nothing(
    serve: Serve, path: Path, table: Jobs, caplog: pytest.LogCaptureFixture
) -> None:
    table.ask(order(NAME))
    client = serve(jobs_file=path)
    before = fresh(client)
    saved = sorted(path.parent.iterdir())

    locker = sqlite3.connect(path, isolation_level=None)
    locker.execute("BEGIN EXCLUSIVE")  # one that writes, however long, is in nobody's way in WAL
    assert value(fresh(client), "hornpipe_jobs", state="queued") == 1
    locker.execute("ROLLBACK")
    locker.close()
    table.close()
    beside = path.with_name("beside")
    for each in saved:  # by others of that name: what a connection has mapped must not become shorter
        beside.write_bytes(b"no database\n" * 1000)
        beside.replace(each)
    path.with_name(path.name + "-wal").unlink(missing_ok=True)
    broken_at = time.time()
    wait_until(lambda: "what /metrics says of jobs stays as it was" in caplog.text, "it has been looked at")
    found = scrape(client)
    assert value(found, "hornpipe_jobs", state="queued") == 1
    assert value(found, "hornpipe_jobs_timestamp_seconds") <= broken_at
    assert job_series(found) == job_series(before)

    for each in path.parent.iterdir():
        each.unlink(missing_ok=True)
    assert value(fresh(client), "hornpipe_jobs", state="queued") == 0  # gone is empty
    with opened(path) as again:
        again.ask(order("digits"))
        assert value(fresh(client), "hornpipe_jobs", state="queued") == 1


def test_the_schedule_of_production_is_told(serve: Serve, path: Path, models: Path, trained: Any) -> None:
    from contract import routing

    config = trained.bundle.manifest.config | {"retrain": {"schedule": "0 3 * * 1-5", "timezone": "Europe/Vienna"}}
    add_version(models, config=config)
    client = serve(jobs_file=path)
    assert "hornpipe_job_schedule_seconds" not in job_series(fresh(client))
    routing.promote(models, NAME, 2, by="test", why="it has a schedule")
    wait_until(lambda: "hornpipe_job_schedule_seconds" in job_series(fresh(client)), "it serves")

    assert value(fresh(client), "hornpipe_job_schedule_seconds", model=NAME) == 3 * DAY + HOUR  # summer time ends


@pytest.mark.parametrize(
    ("schedule", "seconds"),
    [
        ("0 3 * * *", DAY),
        ("*/10 * * * *", 600),
        ("*/5 8-17 * * 1-5", 2 * DAY + 14 * HOUR + 300),  # from Friday 17:55 to Monday 8:00
        ("0 0 1 * *", 31 * DAY),
        ("0 0 1 1 *", 365 * DAY),
    ],
)
def test_the_longest_time_between_two_jobs_of_a_schedule(schedule: str, seconds: float) -> None:
    assert longest_pause({"schedule": schedule}, NOON) == seconds


def test_no_schedule_has_none() -> None:
    assert longest_pause(None, NOON) is None
    assert longest_pause({"on_labels": 5000}, NOON) is None
    assert longest_pause({"schedule": "every full moon"}, NOON) is None
    assert longest_pause({"schedule": "0 3 * * *", "of_tomorrow": True}, NOON) is None


def test_models_are_bounded_to_those_that_were_busy_last() -> None:
    ended = tuple(Outcome(f"m{i:03}", "failed", 1, 1, 1.0, NOON + i, 1) for i in range(200))
    totals = Totals((OpenJob("m000", "running", NOON, None), OpenJob("new", "queued", NOON + 5, None)), ended)

    found = list(samples(totals, NOON + 9))

    shown = {each.labels[0] for each in found if each.instrument == "hornpipe_job_ended_total"}
    assert shown == {"m000", "new", *(f"m{i:03}" for i in range(200 - MOST_MODELS + 2, 200))}
    assert len(shown) == MOST_MODELS
    assert [each.value for each in found if each.instrument == "hornpipe_job_queued_seconds"] == [4.0]


def test_what_may_not_begin_yet_does_not_wait() -> None:
    later = NOON + timedelta(hours=1).total_seconds()
    totals = Totals((OpenJob("a", "queued", later, None),))
    assert [each.value for each in samples(totals, NOON) if each.instrument == "hornpipe_job_queued_seconds"] == [0.0]


def test_every_worker_tells_the_same_and_one_takes_over(start: Start, path: Path, table: Jobs) -> None:
    table.ask(order(NAME))
    service = start(WORKERS=2, JOBS_FILE=path)
    url = f"http://127.0.0.1:{service.port}"
    wait_until(lambda: service.status("/readyz") == 200, "it serves")

    def one_told() -> dict[str, float]:
        """On a connection of its own, by whichever worker; nothing by one that has just been killed."""
        try:
            with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
                found = scrape(client)
        except httpx.TransportError:
            found = {}
        return {each.name: total(found, each.name) for each in (JOBS, JOBS_TIME)}

    def all_told() -> list[dict[str, float]]:
        return [one_told() for _ in range(6)]

    wait_until(lambda: all(each[JOBS.name] == 1 for each in all_told()), "all have it")
    wait_until(lambda: len(workers(service)) == 2, "both are there")
    first = set(workers(service).values())
    for worker in first:
        os.kill(worker, signal.SIGKILL)
        killed = time.time()
        wait_until(
            lambda: all(each[JOBS_TIME.name] > killed for each in all_told()),  # noqa: B023
            "another one reads",
        )
    wait_until(lambda: len(set(workers(service).values()) - first) == 2, "both are there again")

    assert {each[JOBS.name] for each in all_told()} == {1}
