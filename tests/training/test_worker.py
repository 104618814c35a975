"""A real worker with real training processes: what becomes of a job whatever dies, is wrong, or is taken back."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contract.job import Order
from contract.jobs import Jobs, opened
from contract.proof import verify_everywhere
from tests.training.test_tracking import write_config, write_shop
from tests.training.working import SECONDS, ended, trainers, undisturbed, working
from tests.waiting import wait_until
from training.worker import Places


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


@pytest.mark.slow
def test_jobs_that_cannot_be_done_fail_with_a_reason_and_the_next_is_done(
    places: Places, jobs: Jobs, order: Callable[..., Order]
) -> None:
    wrong = jobs.ask(order("wrong", "training.epoks=3"))
    one_class = jobs.ask(order("one_class", "data.path=" + one_class_of(places.jobs.with_name("shop.csv"))))
    missing = jobs.ask(order("missing", "data.path=/nowhere/at/all.csv"))
    sound = jobs.ask(order())
    seen = set()
    with working(places, lease=1.0):  # so that the table is told four times a second
        wait_until(lambda: seen.add(jobs.get(sound.id).progress.stage) or jobs.get(sound.id).ended_at, "done", SECONDS)
    done = jobs.get(sound.id)

    assert ended(jobs, wrong.id).state == "failed"
    assert "training.epoks: unknown key; did you mean 'epochs'?" in (jobs.get(wrong.id).error or "")
    refused = ended(jobs, one_class.id)
    assert (refused.state, refused.refusal, refused.result) == ("refused", "data", None)
    assert "sold: class no has 1 in train, 0 in validation, 0 in test; at least 2" in (refused.error or "")
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


def one_class_of(path: Path) -> str:
    """A table of what was sold alone, but for a row in the end."""
    head, *rows = path.read_text().splitlines()
    sold = [row for row in rows if row.endswith("yes")]
    other = next(row for row in rows if row.endswith("no"))
    path.with_name("sold.csv").write_text("\n".join([head, *sold, other, ""]))
    return str(path.with_name("sold.csv"))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_who_takes_a_job_back_is_obeyed_and_a_killed_process_is_tried_again(
    places: Places, jobs: Jobs, order: Callable[..., Order], monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed(monkeypatch)
    long = jobs.ask(order("long", "training.epochs=100000", "training.patience=100000"))
    with working(places, lease=2.0):
        wait_until(lambda: jobs.get(long.id).progress.epoch, "it trains", seconds=SECONDS)
        [child] = trainers(os.getpid())
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
        wait_until(lambda: not trainers(os.getpid()), "its process has ended")

    assert not (places.models / "other").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_worker_that_is_stopped_gives_its_job_to_the_next(
    places: Places, jobs: Jobs, order: Callable[..., Order]
) -> None:
    asked = jobs.ask(order("shop", "training.epochs=100000", "training.patience=100000", most_attempts=1))
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
