"""Jobs that harm: they end with a reason after a bounded number of attempts, and the worker and the queue go on."""

import os
import random
import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from contract import bundle
from contract.job import Job, Order
from contract.jobs import MOST_LINES, Jobs, opened
from tests.training.test_tracking import write_config, write_shop
from tests.training.working import (
    SECONDS,
    ended,
    hurry,
    kill_workers_of,
    start_worker,
    stop,
    trainers,
    undisturbed,
    working,
)
from tests.waiting import wait_until
from training.worker import Places

# Under a limit that TensorFlow alone goes beyond; so that libraries of numbers do not, they begin no threads.
LITTLE_MEMORY = ("env", "OPENBLAS_NUM_THREADS=1", "sh", "-c", 'ulimit -v 600000 && exec "$@"', "sh")

EVIL = """
import os, signal, subprocess, sys, time
from pathlib import Path
import numpy as np

def abort(inputs):
    subprocess.Popen(["tail", "-f", __file__])  # holds our pipes, and our memory
    for _ in range(20_000):
        print("x" * 5000)
    os.abort()

def hog(inputs):
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * os.cpu_count())]
    print("busy")
    while not Path(__file__).with_name("enough").exists():
        time.sleep(0.1)
    for each in busy:
        each.kill()
    raise ValueError("had enough")

def devour(inputs):
    np.ones(1 << 50)
"""


@pytest.fixture(autouse=True)
def no_disturbance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    undisturbed(monkeypatch)
    yield
    kill_workers_of(tmp_path)


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

    def make(model: str, *overrides: str, builder: str | None = None, most_attempts: int = 3) -> Order:
        network = "model = { members = 1, hidden = [8], number_bins = 4 }"
        assert network in text
        config = text if builder is None else text.replace(network, f'model = {{ builder = "evil:{builder}" }}')
        given = {"model": model, "config": config, "cause": "person", "asked_by": "ann", "why": "a test"}
        return Order(**given, overrides=overrides, most_attempts=most_attempts)

    return make


@pytest.fixture
def evil(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil.py").write_text(EVIL)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def training_process(jobs: Jobs, number: int, attempt: int) -> int:
    """The process of this attempt of a job that a worker of this process minds."""

    found: list[int] = []

    def there() -> list[int]:
        job = jobs.get(number)
        found[:] = trainers(os.getpid()) if (job.state, job.attempts) == ("running", attempt) else []
        return found

    wait_until(there, f"attempt {attempt} of job {number} runs", seconds=SECONDS)
    return found[0]


def at_rest(jobs: Jobs, number: int, attempt: int) -> Job:
    wait_until(
        lambda: (jobs.get(number).state, jobs.get(number).attempts) == ("queued", attempt),
        f"attempt {attempt} of job {number} is over",
        seconds=SECONDS,
    )
    return jobs.get(number)


def test_a_job_that_dies_at_every_attempt_lets_the_others_pass_and_ends(
    places: Places, jobs: Jobs, order: Callable[..., Order]
) -> None:
    strange = jobs.ask(order("strange"))
    with closing(sqlite3.connect(places.jobs)) as file, file:  # as a newer Hornpipe asks
        file.execute("UPDATE job SET wish = json_insert(wish, '$.gpus', 8)")
    poisoned = jobs.ask(order("poisoned", "training.epochs=100000", "training.patience=100000"))
    with working(places):
        for attempt in (1, 2):
            os.kill(training_process(jobs, poisoned.id, attempt), signal.SIGKILL)
            rests = at_rest(jobs, poisoned.id, attempt)
            assert rests.error is not None
            assert "was killed" in rests.error
            other = jobs.ask(order(f"other{attempt}", "training.epoks=1"))  # quickly done: it is wrong
            assert ended(jobs, other.id).state == "failed"
            assert jobs.get(poisoned.id).state == "queued"
            hurry(places)
        os.kill(training_process(jobs, poisoned.id, 3), signal.SIGKILL)
        failed = ended(jobs, poisoned.id)

    assert (failed.state, failed.attempts) == ("failed", 3)
    assert (failed.error or "").endswith("(attempt 3, the last)")
    assert (jobs.get(strange.id).state, jobs.get(strange.id).attempts) == ("queued", 0)


def test_a_process_that_may_have_no_memory_says_so_and_its_worker_lives(
    places: Places, jobs: Jobs, order: Callable[..., Order]
) -> None:
    hungry = jobs.ask(order("hungry", most_attempts=2))
    worker = start_worker(places, *LITTLE_MEMORY)
    wait_until(lambda: jobs.get(hungry.id).error, "the first attempt is over", seconds=SECONDS)
    assert "there was not enough memory" in (jobs.get(hungry.id).error or "")
    hurry(places)
    failed = ended(jobs, hungry.id)
    other = jobs.ask(order("other", "training.epoks=1"))
    assert ended(jobs, other.id).state == "failed"
    assert worker.poll() is None
    stop(worker)

    assert (failed.state, failed.attempts) == ("failed", 2)
    assert "there was not enough memory" in (failed.error or "")
    assert "attempt 2, the last" in (failed.error or "")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("evil")
def test_what_a_job_starts_prints_or_takes_does_not_stop_its_worker(
    places: Places, jobs: Jobs, order: Callable[..., Order], tmp_path: Path
) -> None:
    with working(places) as first, working(places) as second:
        aborts = jobs.ask(order("aborts", builder="abort", most_attempts=1))
        crashed = ended(jobs, aborts.id)
        assert (crashed.state, crashed.attempts) == ("failed", 1)
        assert "the training process crashed (SIGABRT)" in (crashed.error or "")
        assert 1000 < len(jobs.lines(aborts.id)) <= MOST_LINES
        wait_until(lambda: not tails_of(tmp_path / "evil.py"), "what it has started is gone too")

        devours = jobs.ask(order("devours", builder="devour", most_attempts=1))
        assert (ended(jobs, devours.id).error or "").startswith("there was not enough memory")

        hogs = jobs.ask(order("hogs", builder="hog"))
        wait_until(lambda: any(line.text == "busy" for line in jobs.lines(hogs.id)), "all processors are taken")
        for _ in range(3):
            until = jobs.get(hogs.id).lease_until
            wait_until(lambda until=until: jobs.get(hogs.id).lease_until > until, "its worker is heard of")
        (tmp_path / "enough").touch()
        hogged = ended(jobs, hogs.id)
        assert (hogged.state, hogged.attempts) == ("failed", 1)  # nobody took it over meanwhile
        assert "had enough" in (hogged.error or "")
        assert first.name != second.name


def tails_of(path: Path) -> list[bytes]:
    """The commands of all processes that read on and on in a file."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(process.read_bytes())
    return [command for command in found if command.startswith(b"tail") and os.fsencode(path) in command]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_data_that_cannot_be_read_end_a_job_at_once_with_their_name(
    places: Places, jobs: Jobs, order: Callable[..., Order], tmp_path: Path
) -> None:
    broken, locked = tmp_path / "broken.parquet", tmp_path / "locked.csv"
    broken.write_bytes(b"PAR1" + bytes(1000) + b"PAR1")
    shutil.copy(tmp_path / "shop.csv", locked)
    locked.chmod(0)
    asked = {
        name: jobs.ask(order(name, f"data.path={path}"))
        for name, path in (("broken", broken), ("locked", locked), ("gone", tmp_path / "gone.csv"))
    }
    # Root may read everything unless it is taken from it.
    powers = "-dac_override,-dac_read_search"
    without = ["setpriv", f"--bounding-set={powers}"] if os.getuid() == 0 else []
    if without and subprocess.run([*without, "true"], check=False).returncode:
        pytest.skip("root may read everything here, and it cannot be taken from it")
    worker = start_worker(places, *without)
    for name, said in (("broken", "broken.parquet"), ("locked", "locked.csv"), ("gone", "gone.csv")):
        failed = ended(jobs, asked[name].id)
        assert (failed.state, failed.attempts) == ("failed", 1)
        assert said in (failed.error or "")
    assert "ermission denied" in (jobs.get(asked["locked"].id).error or "")

    vanishing = jobs.ask(order("vanishing", "training.epochs=100000", "training.patience=100000"))
    wait_until(lambda: jobs.get(vanishing.id).progress.epoch, "it trains", seconds=SECONDS)
    places.folder(vanishing.id).rename(tmp_path / "vanished")  # at once: it writes there all the time
    failed = ended(jobs, vanishing.id)
    stop(worker)
    assert (failed.state, failed.attempts) == ("failed", 1)
    assert "No such file or directory" in (failed.error or "")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_data_that_are_not_to_be_learnt_from_end_a_job_refused(places: Places, jobs: Jobs, tmp_path: Path) -> None:
    """A nightly job, of a model that serves: a night without rows, a night with broken ones, and a night when nothing
    can be read."""
    spans = '{ by = "time", column = "day", validation = "10d", test = "10d" }'
    text = write_config(tmp_path).read_text().replace('{ by = "random" }', spans)
    text += '[promotion]\npolicy = "direct"\n[retrain]\nschedule = "0 3 * * *"\n'
    write_days(tmp_path / "shop.csv", days=60)

    def night() -> Job:
        order = Order(
            model="shop", config=text, overrides=("training.epochs=4",), cause="schedule", asked_by="", why=""
        )
        return ended(jobs, jobs.ask(order).id)

    with working(places):
        first = night()
        quiet = night()
        write_days(tmp_path / "shop.csv", days=80, still_from=60)
        poisoned = night()
        (tmp_path / "shop.csv").unlink()
        unread = night()

    assert (first.state, first.error) == ("succeeded", None)
    assert (quiet.state, quiet.refusal, quiet.attempts, quiet.result) == ("refused", "nothing_new", 1, None)
    assert "nothing new to learn: no row is newer than 2026-03-01, the newest that shop/1 has seen" in (
        quiet.error or ""
    )
    assert (poisoned.state, poisoned.refusal, poisoned.attempts) == ("refused", "data", 1)
    assert "the 200 rows after 2026-03-01 cannot be true, by what shop/1 learnt from" in (poisoned.error or "")
    assert "size: all of 200 values are the same (0)" in (poisoned.error or "")
    assert (unread.state, unread.refusal) == ("failed", None)
    assert bundle.versions(places.models, "shop") == [1]


def write_days(path: Path, days: int, still_from: int | None = None) -> None:
    """Ten sales a day from 1 January 2026 on; from `still_from` on a sensor has stopped."""
    chance = random.Random(0)
    with path.open("w") as file:
        file.write("day,color,size,sold\n")
        for day in range(days):
            for _ in range(10):
                color, size = chance.choice(["red", "blue", "gold"]), round(chance.gauss(0, 1), 3)
                size = 0.0 if still_from is not None and day >= still_from else size
                date = datetime(2026, 1, 1) + timedelta(days=day)
                file.write(f"{date:%Y-%m-%d},{color},{size},{'yes' if color == 'red' or size > 1 else 'no'}\n")
