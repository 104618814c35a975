"""Full disks, as small file systems: the reason is said, nothing by halves is seen, and the job goes on with room."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract import bundle
from contract.job import Job, Order
from contract.jobs import Jobs, opened
from contract.proof import verify_everywhere
from tests.training.test_tracking import write_config, write_shop
from tests.training.working import SECONDS, ended, hurry, sound, undisturbed, working
from tests.waiting import wait_until
from training.worker import Places

MEBIBYTE = 1 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str, int], Path]]:
    """Mounts a file system of so many mebibytes. That takes root, which CI has."""
    mounted: list[Path] = []

    def mount(name: str, size: int) -> Path:
        path = tmp_path / name
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", str(path)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode and "CI" not in os.environ:
            pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
        assert done.returncode == 0, done.stderr
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def fill(disk: Path, but: int) -> Path:
    """All but so many bytes."""
    free = os.statvfs(disk)
    filler = disk / "filler"
    with filler.open("wb") as file:
        file.write(bytes(free.f_bavail * free.f_frsize - but))
    return filler


@pytest.fixture
def order(tmp_path: Path) -> Order:
    write_shop(tmp_path / "shop.csv")
    return Order(
        model="shop",
        config=write_config(tmp_path).read_text(),
        overrides=("training.epochs=4", "training.checkpoint_seconds=0.001"),
        cause="person",
        asked_by="ann",
        why="",
        most_attempts=5,
    )


@pytest.fixture(autouse=True)
def no_disturbance(monkeypatch: pytest.MonkeyPatch) -> None:
    undisturbed(monkeypatch)


def put_back(jobs: Jobs, number: int, attempt: int) -> Job:
    def waits() -> bool:
        job = jobs.get(number)
        assert job.state in ("queued", "running"), job.error
        return (job.state, job.attempts) == ("queued", attempt)

    wait_until(waits, f"attempt {attempt} is put back", seconds=SECONDS)
    return jobs.get(number)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_full_disk_of_runs_or_models_is_said_and_waited_for(
    tmp_path: Path, disk: Callable[[str, int], Path], order: Order
) -> None:
    places = Places(tmp_path / "jobs.sqlite", disk("models", 40), disk("runs", 40))
    runs = fill(places.runs, 16 * 1024)
    with opened(places.jobs) as jobs, working(places):
        number = jobs.ask(order).id
        job = put_back(jobs, number, 1)
        assert "the disk is full" in (job.error or "")
        assert str(places.runs) in (job.error or "")
        assert job.not_before - job.asked_at > 20

        models = fill(places.models, 64 * 1024)
        runs.unlink()
        hurry(places)
        job = put_back(jobs, number, 2)
        assert "the disk is full" in (job.error or "")
        assert bundle.versions(places.models, "shop") == []
        assert sorted(path.name for path in (places.models / "shop").iterdir()) == []

        models.unlink()
        hurry(places)
        done = ended(jobs, number)
        assert any("going on from step" in line.text for line in jobs.lines(number))

    assert (done.state, done.attempts) == ("succeeded", 3)
    assert bundle.versions(places.models, "shop") == [1]
    assert list(verify_everywhere(places.models / "shop" / "1"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_outlives_a_full_disk_of_the_table(
    tmp_path: Path, disk: Callable[[str, int], Path], order: Order
) -> None:
    state = disk("state", 1)
    places = Places(state / "jobs.sqlite", tmp_path / "models", tmp_path / "runs")
    with opened(places.jobs) as jobs, working(places):
        number = jobs.ask(order.model_copy(update={"most_attempts": 1})).id
        wait_until(lambda: jobs.get(number).state == "running", "it is claimed", seconds=SECONDS)
        filler = fill(state, 0)
        wait_until(lambda: bundle.versions(places.models, "shop"), "it is published all the same", seconds=SECONDS)
        assert jobs.get(number).state == "running"  # nobody could write down anything else
        filler.unlink()
        done = ended(jobs, number)

    assert (done.state, done.attempts) == ("succeeded", 1)
    assert sound(places)
