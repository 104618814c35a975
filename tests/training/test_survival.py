"""Kills at random moments and at the worst ones: one whole version comes of a job, the same as of one left alone."""

import fcntl
import json
import os
import random
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract import bundle, routing
from contract.job import Job, Order
from contract.jobs import opened
from contract.proof import verify_everywhere
from tests.training.test_tracking import write_config, write_shop
from tests.training.working import (
    LEASE,
    SECONDS,
    children,
    cut_power,
    ended,
    kill_at_random,
    kill_workers_of,
    send,
    sound,
    start_worker,
    stop,
)
from tests.waiting import wait_until
from training.worker import Places

# What is of the hour, or of how busy the machine is; no two runs have it in common, killed or not.
BY_THE_CLOCK = {"created", "latency", "memory", "fit_seconds", "predict_ms", "training_seconds", "input_wait"}
# Sentences name seconds, and the size is that of the SavedModel too, whose objects are numbered by chance.
BY_THE_CLOCK |= {"why", "simpler", "size"}
# TensorFlow numbers the objects of a SavedModel by where they lie in memory, and gives it a random name; the report is
# drawn from evaluation.json. Of these the contents are compared.
WITH_CHANCE = ("saved_model.pb", "fingerprint.pb", "report.html", "variables/")
OBJECTS = "_CHECKPOINTABLE_OBJECT_GRAPH"


@pytest.fixture(autouse=True)
def no_worker_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    kill_workers_of(tmp_path)


@pytest.fixture
def order(tmp_path: Path) -> Callable[..., Order]:
    write_shop(tmp_path / "shop.csv")
    text = write_config(tmp_path).read_text()

    def make(*overrides: str) -> Order:
        return Order(
            model="shop", config=text, overrides=overrides, cause="person", asked_by="ann", why="", most_attempts=100
        )

    return make


def places_in(folder: Path) -> Places:
    return Places(folder / "jobs.sqlite", folder / "models", folder / "runs")


def left_alone(folder: Path, order: Order) -> Places:
    places = places_in(folder)
    with opened(places.jobs) as jobs:
        number = jobs.ask(order).id
        worker = start_worker(places)
        assert ended(jobs, number).state == "succeeded"
        stop(worker)
    return places


def without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_clock(each) for key, each in value.items() if key not in BY_THE_CLOCK}
    return [without_clock(each) for each in value if not waited(each)] if isinstance(value, list) else value


def waited(value: Any) -> bool:
    """Whether it is what the doctor says of how long a run has waited for its data."""
    return isinstance(value, dict) and value.get("rule") == "input_bound"


def assert_same(first: Path, second: Path) -> None:
    """Two versions: byte for byte where the format allows, else by what is in them."""
    names, others = (sorted(bundle.read(path).manifest.files) for path in (first, second))
    assert names == others
    exact = [name for name in names if not name.startswith(WITH_CHANCE) and not name.endswith(".json")]
    assert {"model.weights.h5", "variants/litert-float32.tflite"} <= set(exact)
    for name in exact:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name
    for name in ("manifest.json", "evaluation.json"):
        assert what_it_says(first / name) == what_it_says(second / name), name
    assert_same_variables(first, second)


def what_it_says(path: Path) -> Any:
    found = without_clock(json.loads(path.read_bytes()))
    found.pop("files", None)  # checksums and sizes, of what is compared itself
    return found


def assert_same_variables(first: Path, second: Path) -> None:
    """Whatever number TensorFlow gave each."""
    assert variables(first) == variables(second)


def variables(version: Path) -> list[tuple[tuple[int, ...], bytes]]:
    import tensorflow as tf

    reader = tf.train.load_checkpoint(str(version / "variables" / "variables"))
    names = set(reader.get_variable_to_shape_map()) - {OBJECTS}
    arrays = [np.asarray(reader.get_tensor(name)) for name in names]
    return sorted((array.shape, array.tobytes()) for array in arrays)


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(3, marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
        pytest.param(20, marks=[pytest.mark.soak, pytest.mark.timeout(3000)]),
    ],
)
def test_random_kills_end_in_the_same_version(tmp_path: Path, order: Callable[..., Order], kills: int) -> None:
    asked = order("training.epochs=300", "training.patience=300", "training.checkpoint_seconds=0.2")
    calm = left_alone(tmp_path / "calm", asked)
    places = places_in(tmp_path / "killed")
    with opened(places.jobs) as jobs:
        number = jobs.ask(asked).id
        kill_at_random(places, jobs, number, kills, random.Random(7))
        done = jobs.get(number)

    assert done.state == "succeeded"
    assert kills / 2 < done.attempts <= kills + 1  # a worker that is killed while it starts has claimed nothing
    assert bundle.versions(places.models, "shop") == [1]
    assert_same(calm.models / "shop" / "1", places.models / "shop" / "1")
    assert sound(places)


@contextmanager
def model_held(places: Places) -> Iterator[None]:
    """Nobody can publish a version, or write a line of history."""
    with (places.models / "shop" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def table_held(places: Places) -> Iterator[None]:
    with closing(sqlite3.connect(places.jobs, timeout=30, isolation_level=None)) as file:
        file.execute("BEGIN IMMEDIATE")
        yield
        file.execute("ROLLBACK")


def waits_for_a_lock(pid: int) -> bool:
    """As the kernel lists it: a line with an arrow is of one that waits."""
    return any("->" in line and f" {pid} " in line for line in Path("/proc/locks").read_text().splitlines())


def at_the_door(places: Places, worker_pid: int) -> int:
    """Wait until the training process has all but published; returns its id."""
    staged = f"{bundle.STAGING_PREFIX}*/model.weights.h5"
    wait_until(lambda: list((places.models / "shop").glob(staged)), "it exports", seconds=SECONDS)
    wait_until(lambda: any(map(waits_for_a_lock, children(worker_pid))), "it waits to publish", seconds=SECONDS)
    return next(filter(waits_for_a_lock, children(worker_pid)))


def verdicts(places: Places) -> list[int | None]:
    events = routing.history(places.models, "shop")
    return [event.to_version for event in events if event.action in ("passed", "refused")]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_power_that_is_cut_around_publishing_leaves_one_whole_version(
    tmp_path: Path, order: Callable[..., Order]
) -> None:
    places = places_in(tmp_path)
    folder = places.models / "shop"
    folder.mkdir(parents=True)
    with opened(places.jobs) as jobs:
        number = jobs.ask(order("training.epochs=4")).id
        with model_held(places):  # all is written, and not yet published
            worker = start_worker(places)
            at_the_door(places, worker.pid)
            cut_power(worker)
        assert bundle.versions(places.models, "shop") == []
        assert bundle.names(places.models) == []

        history = folder / routing.HISTORY
        os.mkfifo(history)  # who looks at the history waits: published, and not yet noted
        worker = start_worker(places)
        wait_until(lambda: bundle.versions(places.models, "shop"), "it publishes", seconds=SECONDS)
        cut_power(worker)
        history.unlink()
        list(verify_everywhere(folder / "1"))

        worker = start_worker(places)
        wait_until(lambda: verdicts(places) == [1], "the verdict is noted", seconds=SECONDS)
        with table_held(places):  # all is done, and nobody could write it down
            wait_until(lambda: not children(worker.pid), "its process has ended", seconds=SECONDS)
            cut_power(worker)
        worker = start_worker(places)
        done = ended(jobs, number)
        stop(worker)

    assert done.state == "succeeded"
    assert done.result is not None
    assert done.result["version"] == 1
    assert bundle.versions(places.models, "shop") == [1]
    assert verdicts(places) == [1]
    assert sound(places)
    assert {each.name for each in (places.runs / "jobs" / "1").iterdir()} == {"asked.json", "shop"}
    assert not list((places.runs / "jobs" / "1").rglob("checkpoints"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_process_that_stood_still_while_its_job_was_taken_over_publishes_nothing(
    tmp_path: Path, order: Callable[..., Order]
) -> None:
    places = places_in(tmp_path)
    (places.models / "shop").mkdir(parents=True)
    with opened(places.jobs) as jobs:
        number = jobs.ask(order("training.epochs=4")).id
        with model_held(places):
            first = start_worker(places)
            child = at_the_door(places, first.pid)
            for pid in (first.pid, child):
                os.kill(pid, signal.SIGSTOP)
            second = start_worker(places)
            wait_until(lambda: jobs.get(number).attempts == 2, "it is taken over", seconds=SECONDS)
            send(second.pid, signal.SIGSTOP)  # it is to publish, but not before we have looked
        os.kill(child, signal.SIGCONT)  # the lock is free now: it would publish at once
        wait_until(lambda: Path(f"/proc/{child}/stat").read_text().split()[2] not in "RSDT", "it ends", seconds=SECONDS)
        assert bundle.versions(places.models, "shop") == []
        send(second.pid, signal.SIGCONT)

        done: Job = ended(jobs, number)
        os.kill(first.pid, signal.SIGCONT)
        wait_until(lambda: not children(first.pid), "the first minds nothing any more", seconds=10 * LEASE)
        stop(first)
        stop(second)

    assert (done.state, done.attempts) == ("succeeded", 2)
    assert bundle.versions(places.models, "shop") == [1]
    assert verdicts(places) == [1]
