"""What is kept of a job on the disk, and for how long."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from contract.job import Job, Order
from contract.jobs import Jobs, opened
from training.places import Places


@pytest.fixture
def places(tmp_path: Path) -> Places:
    return Places(tmp_path / "jobs.sqlite", tmp_path / "models", tmp_path / "runs")


@pytest.fixture
def jobs(places: Places) -> Iterator[Jobs]:
    with opened(places.jobs) as table:
        yield table


@pytest.fixture(autouse=True)
def temporary_files_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())


def claimed(jobs: Jobs, model: str) -> Job:
    jobs.ask(Order(model=model, config="-", cause="person", asked_by="ann", why=""))
    job = jobs.claim("w", 1e9)
    assert job is not None
    return job


def fill(places: Places, number: int) -> Path:
    """As a killed attempt leaves it."""
    run = places.folder(number) / "m" / "20260101T000000.0Z-0"
    for name in ("checkpoints/last.npz", "data/train.npy", "record.json", "tensorboard/events"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text("x")
    (places.folder(number) / "scratch").mkdir(exist_ok=True)
    return run


def test_an_attempt_goes_on_with_what_is_there_and_clears_what_its_libraries_left(places: Places, jobs: Jobs) -> None:
    job = claimed(jobs, "m")
    places.make_ready(job)
    run = fill(places, job.id)
    left = Path(tempfile.mkdtemp())
    places.make_ready(job)

    assert left.parent == places.folder(job.id) / "scratch"
    assert not left.exists()
    assert (run / "checkpoints" / "last.npz").exists()
    assert os.environ["TMPDIR"] == str(places.folder(job.id) / "scratch")


def test_a_job_of_the_same_number_in_another_table_begins_anew(places: Places, jobs: Jobs) -> None:
    job = claimed(jobs, "m")
    places.make_ready(job)
    run = fill(places, job.id)
    places.make_ready(job.model_copy(update={"asked_at": job.asked_at + 1}))

    assert not run.exists()


def test_checkpoints_of_what_has_ended_go_and_the_record_stays(places: Places, jobs: Jobs) -> None:
    ended, running = claimed(jobs, "a"), claimed(jobs, "b")
    runs = [fill(places, job.id) for job in (ended, running)]
    jobs.end(ended, "failed", error="no data")
    places.tidy(jobs)

    assert sorted(path.name for path in runs[0].iterdir()) == ["record.json", "tensorboard"]
    assert sorted(path.name for path in runs[1].iterdir()) == ["checkpoints", "data", "record.json", "tensorboard"]
    assert not (places.folder(ended.id) / "scratch").exists()


def test_only_the_newest_are_kept_and_what_is_open(places: Places, jobs: Jobs) -> None:
    held = claimed(jobs, "held")
    for i in range(5):
        job = claimed(jobs, f"m{i}")
        fill(places, job.id)
        jobs.end(job, "succeeded")
    fill(places, held.id)
    (places.runs / "jobs" / "notes.txt").write_text("somebody's")
    places.tidy(jobs, most=2)

    assert {path.name for path in (places.runs / "jobs").iterdir()} == {"5", "6", str(held.id), "notes.txt"}
