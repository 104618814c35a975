"""What the job table says as a whole, held against a list kept by hand; nothing that was counted is ever less."""

import dataclasses
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from contract.job import Progress, Refusal
from contract.job_totals import OpenJob, Totals, read
from contract.jobs import JobError, Jobs
from tests.contract.test_jobs import LEASE, Clock, order

STATES = ("succeeded", "refused", "failed", "cancelled")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jobs?#.sqlite"  # a name that an address has to quote


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(path: Path, clock: Clock) -> Iterator[Jobs]:
    table = Jobs(path, clock)
    yield table
    table.close()


def do(jobs: Jobs, clock: Clock, model: str, state: str, seconds: float = 10.0, attempts: int = 1) -> None:
    """One job from its wish to its end."""
    jobs.ask(order(model, most_attempts=9))
    for attempt in range(attempts):
        job = jobs.claim("w", LEASE)
        assert job is not None
        if attempt < attempts - 1:
            jobs.put_back(job, "once more")
            clock.now += 4000
    clock.now += seconds
    assert jobs.end(job, state)
    clock.now += 1


def deleted(path: Path, where: str) -> None:
    file = sqlite3.connect(path)
    with file:
        file.execute(f"DELETE FROM job WHERE {where}")
    file.close()


def test_there_is_nothing_without_a_table_nor_in_an_empty_one(path: Path, clock: Clock) -> None:
    assert read(path) == Totals()
    assert not path.exists()
    Jobs(path, clock).close()
    assert read(path) == Totals()


def test_what_is_open_is_told_with_its_times(path: Path, jobs: Jobs, clock: Clock) -> None:
    jobs.ask(order("a"))
    clock.now += 7
    first = jobs.claim("w", LEASE)
    jobs.ask(order("b"))
    assert first is not None

    assert set(read(path).open) == {
        OpenJob("a", "running", clock.now, None),
        OpenJob("b", "queued", clock.now, None),
    }
    jobs.renew(first, LEASE, Progress(stage="training", at=123.5))
    assert OpenJob("a", "running", clock.now, 123.5) in read(path).open
    jobs.put_back(first, "no room on the disk")
    paused = jobs.get(first.id).not_before
    assert paused > clock.now
    assert OpenJob("a", "queued", paused, None) in read(path).open


def test_what_has_ended_is_added_up_by_model_and_state(path: Path, jobs: Jobs, clock: Clock) -> None:
    random = np.random.default_rng(7)
    counted: Counter[tuple[str, str, str]] = Counter()
    last = {}
    for _ in range(60):
        model, state = str(random.choice(["a", "b", "c"])), str(random.choice(STATES))
        seconds, attempts = float(random.integers(1, 100)), int(random.integers(1, 4))
        do(jobs, clock, model, state, seconds, attempts)
        counted[model, state, "jobs"] += 1
        counted[model, state, "attempts"] += attempts
        counted[model, state, "seconds"] += seconds + 4000 * (attempts - 1)
        last[model, state] = clock.now - 1

    found = read(path).ended

    assert {(each.model, each.state) for each in found} == set(last)
    for each in found:
        of = each.model, each.state
        assert (each.jobs, each.attempts) == (counted[*of, "jobs"], counted[*of, "attempts"])
        assert each.seconds == pytest.approx(counted[*of, "seconds"])
        assert each.last == last[of]


def test_totals_stay_when_rows_are_deleted_by_anybody(path: Path, jobs: Jobs, clock: Clock) -> None:
    for i in range(40):
        do(jobs, clock, "ab"[i % 2], STATES[i % 3], seconds=0.1 * i + 1 / 3)
    before = {(each.model, each.state): each for each in read(path).ended}

    for where in ("id % 3 = 0", "id < 20", "model = 'a'"):
        deleted(path, where)
        for each in read(path).ended:
            was = before[each.model, each.state]
            # Not even a rounding error less: Prometheus would take it for a restart, and count everything twice.
            assert dataclasses.replace(each, in_a_row=0) == dataclasses.replace(was, in_a_row=0)
    do(jobs, clock, "a", "failed")
    now = {(each.model, each.state): each for each in read(path).ended}
    assert now["a", "failed"].jobs == before["a", "failed"].jobs + 1


def test_a_job_that_is_deleted_before_it_ended_is_nothing(path: Path, jobs: Jobs) -> None:
    jobs.ask(order())
    deleted(path, "1")
    assert read(path) == Totals()


def test_how_many_in_a_row(path: Path, jobs: Jobs, clock: Clock) -> None:
    def in_a_row() -> dict[str, int]:
        return {each.state: each.in_a_row for each in read(path).ended if each.model == "a" and each.in_a_row}

    do(jobs, clock, "a", "succeeded")
    assert in_a_row() == {"succeeded": 1}
    do(jobs, clock, "a", "failed")
    do(jobs, clock, "b", "succeeded")
    do(jobs, clock, "a", "cancelled")
    do(jobs, clock, "a", "failed")
    assert in_a_row() == {"failed": 2}
    do(jobs, clock, "a", "refused")
    assert in_a_row() == {"refused": 1}
    deleted(path, "state = 'succeeded'")
    assert in_a_row() == {"refused": 1}


def test_who_has_refused_how_many_in_a_row(path: Path, jobs: Jobs, clock: Clock) -> None:
    def do(refusal: Refusal | None) -> None:
        jobs.ask(order("a"))
        job = jobs.claim("w", LEASE)
        assert job is not None
        clock.now += 1
        assert jobs.end(job, "refused", refusal=refusal)

    def refused() -> tuple[int, int, Refusal | None]:
        (found,) = [each for each in read(path).ended if each.state == "refused"]
        return found.jobs, found.in_a_row, found.refusal

    do(None)  # as an older Hornpipe writes it
    do("gate")
    assert refused() == (2, 2, "gate")
    do("nothing_new")
    do("nothing_new")
    assert refused() == (4, 2, "nothing_new")
    do("data")
    assert refused() == (5, 1, "data")
    do("gate")
    assert refused() == (6, 1, "gate")
    assert [each.refusal for each in jobs.newest("a")] == ["gate", "data", "nothing_new", "nothing_new", "gate", "gate"]


def test_a_table_of_before_anybody_but_the_gate_refused_is_read_and_gets_its_column(path: Path, clock: Clock) -> None:
    with closing(Jobs(path, clock)) as jobs:
        for _ in range(2):
            do(jobs, clock, "a", "refused")
    file = sqlite3.connect(path)
    with file:
        file.execute("ALTER TABLE job DROP COLUMN refusal")
    file.close()

    (found,) = read(path).ended
    assert (found.in_a_row, found.refusal) == (2, "gate")
    with closing(Jobs(path, clock)) as jobs:
        assert [each.refusal for each in jobs.newest()] == ["gate", "gate"]
    assert read(path).ended == (found,)


def test_a_broken_table_is_an_error_of_ours(path: Path, jobs: Jobs) -> None:
    jobs.ask(order())
    jobs.close()
    for each in (path, path.with_name(path.name + "-wal")):
        each.write_bytes(b"no database\n" * 1000)
    with pytest.raises(JobError, match="cannot be read"):
        read(path)


def test_progress_of_another_hornpipe_is_no_obstacle(path: Path, jobs: Jobs, clock: Clock) -> None:
    jobs.ask(order())
    jobs.claim("w", LEASE)
    file = sqlite3.connect(path)
    for words in ("", "[]", '{"at": "noon"}', '{"at": null}', '{"at": NaN}'):
        with file:
            file.execute("UPDATE job SET progress = ?", (words,))
        assert read(path).open == (OpenJob("flights", "running", clock.now, None),)
    file.close()
