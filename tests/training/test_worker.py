"""A real worker with real training processes: what becomes of a job whatever dies, is wrong, or is taken back."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from contract import bundle
from contract.job import Job, Order
from contract.jobs import Jobs, opened
from contract.proof import verify_everywhere
from tests.training.test_tracking import write_config, write_shop
from tests.waiting import wait_until
from training.worker import Places, Worker

SECONDS = 180


@pytest.fixture
def places(tmp_path: Path) -> Places:
    write_shop(tmp_path / "shop.csv")
    return Places(tmp_path / "jobs.sqlite", tmp_path / "models", tmp_path / "runs")


@pytest.fixture
def jobs(places: Places) -> Iterator[Jobs]:
    with opened(places.jobs) as table:
        yield table


@pytest.fixture
def order(tmp_path: Path) -> Callable[..., Order]:
    text = write_config(tmp_path).read_text()

    def make(model: str = "shop", *overrides: str, **changes: object) -> Order:
        given = {"model": model, "config": text, "cause": "person", "asked_by": "ann", "why": "a test"}
        return Order(**given | {"overrides": ("training.epochs=4", *overrides)} | changes)

    return make


@contextmanager
def working(places: Places, lease: float = 60.0) -> Iterator[Worker]:
    worker = Worker(places, Console(quiet=True), lease=lease, poll=0.05)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join()


def ended(jobs: Jobs, number: int) -> Job:
    wait_until(lambda: jobs.get(number).ended_at is not None, f"job {number} ends", seconds=SECONDS)
    return jobs.get(number)


def children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(child) for child in (task / "children").read_text().split()]
    return found


def test_jobs_that_cannot_be_done_fail_with_a_reason_and_the_next_is_done(
    places: Places, jobs: Jobs, order: Callable[..., Order]
) -> None:
    wrong = jobs.ask(order("wrong", "training.epoks=3"))
    missing = jobs.ask(order("missing", "data.path=/nowhere/at/all.csv"))
    sound = jobs.ask(order())
    seen = set()
    with working(places):
        wait_until(lambda: seen.add(jobs.get(sound.id).progress.stage) or jobs.get(sound.id).ended_at, "done", SECONDS)
    done = jobs.get(sound.id)

    assert ended(jobs, wrong.id).state == "failed"
    assert "training.epoks: unknown key; did you mean 'epochs'?" in (jobs.get(wrong.id).error or "")
    assert ended(jobs, missing.id).state == "failed"
    assert "/nowhere/at/all.csv" in (jobs.get(missing.id).error or "")
    assert (done.state, done.attempts) == ("succeeded", 1)
    assert done.result is not None
    assert (done.result["version"], done.result["passed"]) == (1, True)
    assert done.result["headline"]["metric"] == "roc_auc"
    assert all("golden" in line for line in list(verify_everywhere(places.models / "shop" / "1"))[1:])
    log = [line.text for line in jobs.lines(sound.id)]
    assert sum("epoch" in line for line in log) == 4
    assert {"starting TensorFlow", "exporting, quantizing, proving and timing"} & seen


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_who_takes_a_job_back_is_obeyed_and_a_killed_process_is_tried_again(
    places: Places, jobs: Jobs, order: Callable[..., Order]
) -> None:
    long = jobs.ask(order("long", "training.epochs=100000", "training.patience=100000"))
    with working(places, lease=2.0):
        wait_until(lambda: jobs.get(long.id).progress.epoch, "it trains", seconds=SECONDS)
        [child] = children(os.getpid())
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: jobs.get(long.id).state == "queued", "it is put back", seconds=SECONDS)
        again = jobs.get(long.id)
        assert again.error == "the training process was killed; most likely there was no memory left"
        assert again.not_before > again.asked_at + 20
        assert jobs.cancel(long.id).state == "cancelled"

        other = jobs.ask(order("other", "training.epochs=100000", "training.patience=100000"))
        wait_until(lambda: jobs.get(other.id).progress.epoch, "the next one trains", seconds=SECONDS)
        jobs.cancel(other.id)
        assert ended(jobs, other.id).state == "cancelled"
        wait_until(lambda: not children(os.getpid()), "its process has ended")

    assert not (places.models / "other").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_is_stopped_gives_its_job_to_the_next(
    places: Places, jobs: Jobs, order: Callable[..., Order]
) -> None:
    asked = jobs.ask(order("shop", "training.epochs=3000", "training.patience=3000", most_attempts=1))
    with working(places):
        wait_until(lambda: (jobs.get(asked.id).progress.epoch or 0) > 1, "it trains", seconds=SECONDS)
    back = jobs.get(asked.id)
    assert (back.state, back.attempts) == ("queued", 0)
    with working(places) as second:
        wait_until(lambda: jobs.get(asked.id).worker == second.name, "the next one has it")
        wait_until(
            lambda: any("going on from step" in line.text for line in jobs.lines(asked.id)),
            "it goes on",
            seconds=SECONDS,
        )
        jobs.cancel(asked.id)
        assert ended(jobs, asked.id).state == "cancelled"


def start_worker(places: Places) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "hornpipe", "worker", "--lease", "2", "--jobs", str(places.jobs)]
    command += ["--models", str(places.models), "--runs", str(places.runs)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_twenty_kills_of_the_worker_end_in_the_same_version(
    places: Places, jobs: Jobs, order: Callable[..., Order]
) -> None:
    epochs = "training.epochs=300", "training.patience=300"
    unkilled = jobs.ask(order("unkilled", *epochs))
    killed = jobs.ask(order("killed", *epochs, most_attempts=100))
    worker, dice, kills = start_worker(places), random.Random(7), 0
    wait_until(lambda: jobs.get(unkilled.id).state == "succeeded", "one is done", seconds=300)
    while jobs.get(killed.id).ended_at is None:
        if kills < 20 and jobs.get(killed.id).state == "running":
            moment = threading.Event()
            moment.wait(dice.uniform(0.5, 12.0))  # a random moment is what is to be met
            worker.kill()
            worker.wait()
            worker, kills = start_worker(places), kills + 1
        else:
            threading.Event().wait(0.2)
    worker.terminate()
    worker.wait()

    assert jobs.get(killed.id).state == "succeeded"
    assert kills >= 10
    assert bundle.versions(places.models, "killed") == [1]
    first, second = (bundle.read_version(places.models, name, 1) for name in ("unkilled", "killed"))
    assert _weights(first.path) == _weights(second.path)
    np.testing.assert_equal(
        [each.outputs for each in first.manifest.golden], [each.outputs for each in second.manifest.golden]
    )


def _weights(path: Path) -> bytes:
    return (path / "variables" / "variables.data-00000-of-00001").read_bytes()
