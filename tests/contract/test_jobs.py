"""The job table: one job for one worker, whoever asks, dies or comes back."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from contract.job import Order, Progress
from contract.jobs import MOST_LINES, JobError, Jobs, OpenJob, UnknownJob
from tests.waiting import PATIENCE_SECONDS, wait_until

LEASE = 60.0
FOR_GOOD = 1e9  # a lease by a clock of the machine, which may stand still


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "jobs.sqlite"


@pytest.fixture
def jobs(path: Path, clock: Clock) -> Iterator[Jobs]:
    table = Jobs(path, clock, clock)
    yield table
    table.close()


def order(model: str = "flights", **changes: object) -> Order:
    given = {"model": model, "config": "[data]", "cause": "person", "asked_by": "ann", "why": "a new month"}
    return Order(**given | changes)


def test_a_job_goes_its_way(jobs: Jobs, clock: Clock) -> None:
    asked = jobs.ask(order(overrides=("training.epochs=3",)))
    assert (asked.state, asked.attempts, asked.asked_at) == ("queued", 0, clock.now)

    clock.now += 5
    claimed = jobs.claim("w1", LEASE)
    assert claimed is not None
    assert (claimed.id, claimed.state, claimed.worker, claimed.attempts) == (asked.id, "running", "w1", 1)
    assert claimed.lease_until == clock.now + LEASE
    assert claimed.order == asked.order

    clock.now += 50
    assert jobs.renew(claimed, LEASE, Progress(stage="fit", epoch=2, epochs=10, loss=0.5, eta=40.0)) == "go on"
    assert jobs.get(asked.id).progress.epoch == 2
    assert jobs.renew(claimed, LEASE) == "go on"
    assert jobs.get(asked.id).progress.epoch == 2

    clock.now += 50
    assert jobs.end(claimed, "succeeded", {"version": 7})
    ended = jobs.get(asked.id)
    assert (ended.state, ended.result, ended.worker, ended.ended_at) == ("succeeded", {"version": 7}, None, clock.now)
    assert jobs.claim("w1", LEASE) is None


def test_a_model_has_one_open_job(jobs: Jobs) -> None:
    first = jobs.ask(order())
    with pytest.raises(OpenJob, match=f"flights already has an open job, number {first.id}"):
        jobs.ask(order())
    jobs.ask(order("digits"))
    claimed = jobs.claim("w", LEASE)
    assert claimed is not None
    with pytest.raises(OpenJob):
        jobs.ask(order())
    jobs.end(claimed, "refused", {"version": 2}, "worse than production")
    assert jobs.ask(order()).id > first.id


def test_the_oldest_is_claimed_first_and_each_once(jobs: Jobs) -> None:
    asked = [jobs.ask(order(f"m{i}")).id for i in range(5)]
    claimed = [jobs.claim("w", LEASE) for _ in range(6)]

    assert [job.id for job in claimed if job] == asked
    assert claimed[5] is None


def test_a_lease_that_ran_out_is_taken_over_and_its_worker_is_told(jobs: Jobs, clock: Clock) -> None:
    jobs.ask(order())
    first = jobs.claim("w1", LEASE)
    assert first is not None
    clock.now += LEASE
    assert jobs.claim("w2", LEASE) is None  # until then it is believed to live
    clock.now += 1
    second = jobs.claim("w2", LEASE)

    assert second is not None
    assert (second.id, second.worker, second.attempts) == (first.id, "w2", 2)
    assert "w1 was not heard of" in (second.error or "")
    assert jobs.renew(first, LEASE) == "lost"
    assert not jobs.end(first, "succeeded", {"version": 1})
    assert not jobs.put_back(first, "late")
    assert jobs.get(first.id) == second


def test_a_job_that_kills_its_workers_fails_and_blocks_nobody(jobs: Jobs, clock: Clock) -> None:
    poisoned, sound = jobs.ask(order("a", most_attempts=3)), jobs.ask(order("b"))
    for attempt in (1, 2, 3):
        job = jobs.claim(f"w{attempt}", LEASE)
        assert job is not None
        if attempt == 1:
            assert job.id == poisoned.id
        clock.now += LEASE + 1
        if job.id == sound.id:
            jobs.end(job, "succeeded")
    while (job := jobs.claim("last", LEASE)) is not None:
        if job.id == sound.id:
            assert jobs.end(job, "succeeded")
        clock.now += LEASE + 1

    failed = jobs.get(poisoned.id)
    assert (failed.state, failed.attempts) == ("failed", 3)
    assert "attempt 3, the last" in (failed.error or "")
    assert jobs.get(sound.id).state == "succeeded"


def test_what_may_pass_is_tried_again_after_growing_pauses(jobs: Jobs, clock: Clock) -> None:
    jobs.ask(order(most_attempts=3))
    pauses = []
    for _ in range(2):
        job = jobs.claim("w", LEASE)
        assert job is not None
        assert jobs.put_back(job, "no memory")
        assert jobs.claim("w", LEASE) is None
        pauses.append(jobs.get(job.id).not_before - clock.now)
        clock.now += pauses[-1]
    last = jobs.claim("w", LEASE)
    assert last is not None
    assert jobs.put_back(last, "no memory")

    assert pauses == [30.0, 60.0]
    assert (jobs.get(last.id).state, jobs.get(last.id).error) == ("failed", "no memory (attempt 3, the last)")


def test_a_worker_that_is_told_to_end_gives_its_job_back_as_it_was(jobs: Jobs) -> None:
    jobs.ask(order(most_attempts=1))
    for worker in ("w1", "w2", "w3"):
        job = jobs.claim(worker, LEASE)
        assert job is not None
        assert job.attempts == 1
        assert jobs.put_back(job, "the worker was stopped", at_once=True)


def test_cancelling_before_while_and_after(jobs: Jobs, clock: Clock) -> None:
    queued = jobs.ask(order("a"))
    assert jobs.cancel(queued.id).state == "cancelled"
    with pytest.raises(JobError, match="has ended: cancelled"):
        jobs.cancel(queued.id)

    running = jobs.ask(order("b"))
    job = jobs.claim("w", LEASE)
    assert job is not None
    assert jobs.cancel(running.id).state == "running"
    assert jobs.renew(job, LEASE) == "stop"
    assert jobs.end(job, "cancelled")

    silent = jobs.ask(order("c"))
    assert jobs.claim("w", LEASE) is not None
    jobs.cancel(silent.id)
    clock.now += LEASE + 1
    assert jobs.claim("w2", LEASE) is None
    assert jobs.get(silent.id).state == "cancelled"
    with pytest.raises(UnknownJob, match="no job 99"):
        jobs.cancel(99)


def test_once_more_is_a_new_job_of_the_same_order(jobs: Jobs) -> None:
    first = jobs.ask(order(overrides=("training.epochs=3",), cause="drift", asked_by="alertmanager"))
    with pytest.raises(JobError, match="has not ended"):
        jobs.retry(first.id, "bob")
    job = jobs.claim("w", LEASE)
    assert job is not None
    jobs.end(job, "failed", error="no data")
    again = jobs.retry(first.id, "bob")

    assert again.id != first.id
    assert (again.order.config, again.order.overrides) == (first.order.config, first.order.overrides)
    assert (again.order.cause, again.order.asked_by, again.order.why) == ("person", "bob", "job 1 once more")


def test_lists_by_model_and_state_the_newest_first(jobs: Jobs) -> None:
    for model in ("a", "b", "c"):
        jobs.ask(order(model))
    jobs.cancel(2)

    assert [job.order.model for job in jobs.newest()] == ["c", "b", "a"]
    assert [job.order.model for job in jobs.newest(state="queued")] == ["c", "a"]
    assert [job.id for job in jobs.newest(model="b")] == [2]
    assert len(jobs.newest(most=1)) == 1


def test_the_log_is_read_on_from_where_one_was_and_is_bounded(jobs: Jobs) -> None:
    number, other = jobs.ask(order("a")).id, jobs.ask(order("b")).id
    jobs.write(number, ["one", "two"])
    jobs.write(other, ["of another"])
    read = jobs.lines(number)
    jobs.write(number, ["three"])

    assert [line.text for line in read] == ["one", "two"]
    assert [line.text for line in jobs.lines(number, after=read[-1].number)] == ["three"]
    jobs.write(number, [str(i) for i in range(MOST_LINES)])
    assert [line.text for line in jobs.lines(number)] == [str(i) for i in range(MOST_LINES)]
    assert [line.text for line in jobs.lines(other)] == ["of another"]


def test_what_is_no_job_table_is_said(tmp_path: Path) -> None:
    text = tmp_path / "jobs.sqlite"
    text.write_text("no database\n" * 100)
    with pytest.raises(JobError, match="cannot be opened: file is not a database"):
        Jobs(text)
    with pytest.raises(JobError, match="cannot be opened"):
        Jobs(text / "below" / "jobs.sqlite")


def test_a_table_that_is_damaged_is_said_and_not_guessed_at(path: Path) -> None:
    table = Jobs(path)
    for i in range(50):
        table.ask(order(f"m{i}", config="x" * 2000))
    table.close()
    with path.open("r+b") as file:  # the first page says what is in the others
        size = file.seek(0, os.SEEK_END)
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    broken = Jobs(path)
    for call in (
        lambda: broken.get(1),
        lambda: broken.newest(),
        lambda: broken.lines(1),
        lambda: broken.claim("w", LEASE),
        lambda: broken.ask(order("new")),
    ):
        with pytest.raises(JobError, match=r"cannot be (read|written): database disk image is malformed"):
            call()
    broken.close()


def test_a_full_disk_changes_nothing_and_is_said(path: Path, clock: Clock) -> None:
    table = Jobs(path, clock, clock)
    first = table.ask(order("a"))
    table._file.execute(f"PRAGMA max_page_count = {table._file.execute('PRAGMA page_count').fetchone()[0]}")
    with pytest.raises(JobError, match="cannot be written: database or disk is full"):
        table.write(first.id, ["x" * 1900] * 400)

    assert table.lines(first.id) == []
    assert table.claim("w", LEASE) is not None
    table.close()


def test_no_jump_of_the_wall_clock_moves_a_lease_or_a_pause(path: Path) -> None:
    wall, machine = Clock(), Clock()
    table = Jobs(path, wall, machine)
    table.ask(order("held"))
    held = table.claim("w1", LEASE)
    assert held is not None
    wall.now += 3600  # set forward: its worker lives all the same
    assert table.claim("w2", LEASE) is None
    assert table.renew(held, LEASE) == "go on"
    wall.now -= 7200  # set back: when the worker dies, nobody waits for hours
    machine.now += LEASE + 1
    taken = table.claim("w2", LEASE)
    assert taken is not None
    assert taken.id == held.id

    assert table.put_back(taken, "no memory")  # a second attempt: 60 seconds
    wall.now -= 3600
    machine.now += 59
    assert table.claim("w2", LEASE) is None
    machine.now += 1
    assert table.claim("w2", LEASE) is not None
    asked = table.ask(order("new"))
    wall.now -= 3600
    again = table.claim("w2", LEASE)
    assert again is not None
    assert again.id == asked.id
    table.close()


def test_a_laptop_that_slept_goes_on_and_a_machine_that_was_started_anew_waits_for_no_lease(path: Path) -> None:
    wall, machine, boots = Clock(), Clock(), ["first"]
    table = Jobs(path, wall, machine, lambda: boots[-1])
    table.ask(order())
    job = table.claim("w1", LEASE)
    assert job is not None
    wall.now += 8 * 3600  # it slept: the machine's clock stood still
    assert table.claim("w2", LEASE) is None
    assert table.renew(job, LEASE) == "go on"

    boots.append("second")
    machine.now = 5.0
    again = table.claim("w2", LEASE)
    assert again is not None
    assert (again.id, again.attempts) == (job.id, 2)
    assert table.put_back(again, "no memory")
    boots.append("third")
    machine.now = 1e9  # of another boot: it says nothing about this pause
    assert table.claim("w3", LEASE) is None
    wall.now += 60
    assert table.claim("w3", LEASE) is not None
    table.close()


def test_a_job_can_be_asked_for_later(jobs: Jobs, clock: Clock) -> None:
    asked = jobs.ask(order(), not_before=clock.now + 100)
    assert asked.not_before == clock.now + 100
    clock.now += 99
    assert jobs.claim("w", LEASE) is None
    clock.now += 1
    assert jobs.claim("w", LEASE) is not None


def rewrite(path: Path, number: int, **columns: object) -> None:
    """As another Hornpipe would have it."""
    with closing(sqlite3.connect(path)) as file, file:
        for name, value in columns.items():
            file.execute(f"UPDATE job SET {name} = ? WHERE id = ?", (value, number))


@pytest.mark.parametrize(
    ("changes", "unread"),
    [
        ({"gpus": 8}, "gpus: Extra inputs are not permitted"),
        ({"cause": "comet"}, "cause: Input should be 'person', 'schedule', 'drift', 'labels' or 'quality'"),
        ({"config": None}, "config: Input should be a valid string"),
    ],
)
def test_an_order_of_another_hornpipe_is_shown_and_left_and_stops_nobody(
    jobs: Jobs, clock: Clock, path: Path, changes: dict[str, object], unread: str
) -> None:
    strange, sound = jobs.ask(order("strange", asked_by="zoe")), jobs.ask(order("sound"))
    rewrite(path, strange.id, wish=json.dumps(json.loads(order("strange", asked_by="zoe").model_dump_json()) | changes))

    shown = jobs.get(strange.id)
    assert (shown.unread, shown.order.model, shown.order.asked_by) == (unread, "strange", "zoe")
    assert [job.id for job in jobs.newest()] == [sound.id, strange.id]
    claimed = jobs.claim("w", LEASE)
    assert claimed is not None
    assert claimed.id == sound.id
    assert jobs.claim("w", LEASE) is None
    assert jobs.get(strange.id).state == "queued"
    clock.now += 3601
    assert jobs.claim("w2", 1e9) is not None  # the sound one, whose lease has run out
    failed = jobs.get(strange.id)
    assert failed.state == "failed"
    assert f"no worker understood it within 60 minutes: {unread}" in (failed.error or "")
    with pytest.raises(JobError, match="asked for by another Hornpipe"):
        jobs.retry(strange.id, "ann")


def test_whatever_stands_in_a_row_it_is_shown_and_can_be_cancelled(jobs: Jobs, path: Path) -> None:
    for model in ("a", "b", "c"):
        jobs.ask(order(model))
    rewrite(path, 1, wish="{", progress="[]", result="7")
    rewrite(path, 2, progress='{"stage": "fit", "gpus": 8}', result='{"version": 3, "cost": 5}')
    rewrite(path, 3, state="simmering")

    broken, newer, unknown = (jobs.get(number) for number in (1, 2, 3))
    assert broken.order.model == "a"
    assert broken.unread is not None
    assert (newer.unread, newer.progress, newer.result) == (None, Progress(), {"version": 3, "cost": 5})
    assert (unknown.state, unknown.unread) == ("failed", "state: 'simmering' is none that is known here")
    assert jobs.cancel(1).state == "cancelled"
    assert jobs.ask(order("a")).state == "queued"


def test_a_table_of_before_the_machines_clock_was_looked_at_is_gone_on_with(path: Path, clock: Clock) -> None:
    first = Jobs(path, clock, clock)
    first.ask(order("a"))
    first.ask(order("b"))
    assert first.claim("w", FOR_GOOD) is not None
    first.close()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("ALTER TABLE job DROP COLUMN boot")
        file.execute("ALTER TABLE job DROP COLUMN steady")
    table = Jobs(path, clock, clock)
    assert table.claim("w", LEASE) is not None
    assert table.claim("w", LEASE) is not None
    table.close()


def test_what_has_ended_long_ago_is_forgotten_and_nothing_that_is_open(jobs: Jobs) -> None:
    for i in range(6):
        jobs.write(jobs.ask(order(f"m{i}")).id, ["a line"])
    for number in (2, 3, 4, 5, 6):
        jobs.cancel(number)
    jobs.forget_old(ended=4, logs=2)

    assert [job.id for job in jobs.newest()] == [6, 5, 4, 3, 1]
    assert [job.id for job in jobs.newest() if jobs.lines(job.id)] == [6, 5, 1]


def test_a_row_that_somebody_deleted_is_no_longer_held(jobs: Jobs, path: Path) -> None:
    jobs.ask(order())
    job = jobs.claim("w", LEASE)
    assert job is not None
    assert jobs.holds(job)
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM job")

    assert not jobs.holds(job)
    assert jobs.renew(job, LEASE) == "lost"
    assert not jobs.end(job, "succeeded")
    with pytest.raises(JobError, match="cannot be written: FOREIGN KEY"):
        jobs.write(job.id, ["a line"])


WORKER = """
    import sys, time
    from pathlib import Path
    from contract.jobs import Jobs

    jobs, name, lease = Jobs(Path(sys.argv[1])), sys.argv[2], float(sys.argv[3])

    def wait_for_others(said):
        print(said, flush=True)
        sys.stdin.readline()

    wait_for_others("ready")
    first = sys.argv[4:] == ["hold"]  # the first job until all have theirs
    while jobs.newest(state="queued", most=1) or jobs.newest(state="running", most=1):
        job = jobs.claim(name, lease)
        if job is None:
            time.sleep(0.01)
            continue
        if first:
            wait_for_others("has one")
            first = False
        jobs.write(job.id, [name])
        jobs.renew(job, lease)
        jobs.end(job, "succeeded", {"by": name})
        time.sleep(0.005)  # what a job takes
"""


def start_worker(path: Path, name: str, lease: float, *hold: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", textwrap.dedent(WORKER), str(path), name, str(lease), *hold]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def let_go(*workers: subprocess.Popen[bytes], said: bytes = b"ready\n") -> None:
    """All of them, once all have said so."""
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == said
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(b"go\n")
        worker.stdin.flush()


def end(worker: subprocess.Popen[bytes]) -> int:
    worker.communicate(timeout=PATIENCE_SECONDS)
    return worker.returncode


def test_eight_processes_never_run_one_job_twice(path: Path) -> None:
    with_table = Jobs(path)
    asked = {with_table.ask(order(f"m{i}")).id for i in range(100)}
    workers = [start_worker(path, f"w{i}", FOR_GOOD, "hold") for i in range(8)]
    let_go(*workers)
    let_go(*workers, said=b"has one\n")
    assert [end(worker) for worker in workers] == [0] * 8

    done = with_table.newest(state="succeeded", most=1000)
    assert {job.id for job in done} == asked
    assert {job.attempts for job in done} == {1}
    for job in done:
        assert [line.text for line in with_table.lines(job.id)] == [(job.result or {})["by"]]
    assert len(Counter((job.result or {})["by"] for job in done)) == 8  # they did share the work
    with_table.close()


def test_workers_that_are_killed_at_any_moment_lose_no_job(path: Path) -> None:
    table, dice = Jobs(path), random.Random(5)
    asked = {table.ask(order(f"m{i}", most_attempts=100)).id for i in range(90)}
    for turn in range(6):
        worker = start_worker(path, f"killed{turn}", 1.0)
        let_go(worker)
        enough = 12 * turn + dice.randrange(1, 12)
        wait_until(lambda most=enough: len(table.newest(state="succeeded", most=1000)) >= most, "some are done")
        os.kill(worker.pid, signal.SIGKILL)
        end(worker)
    last = start_worker(path, "last", 1.0)
    let_go(last)
    wait_until(lambda: len(table.newest(state="succeeded", most=1000)) == len(asked), "all are done")
    assert end(last) == 0

    assert {job.id for job in table.newest(state="succeeded", most=1000)} == asked
    with closing(sqlite3.connect(path)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    table.close()


def test_many_may_be_the_first_to_open_a_table_of_before(path: Path) -> None:
    """As service and workers do that were all brought up to date. Of ten tables, for one alone may be lucky."""
    for number in range(10):
        assert opened_by_many(path.with_name(f"{number}.sqlite")) == []


def opened_by_many(path: Path) -> list[str]:
    """What went wrong."""
    Jobs(path).close()
    begin = threading.Barrier(9)
    wrong: list[str] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as file:
        for name in ("boot", "steady", "refusal"):
            file.execute(f"ALTER TABLE job DROP COLUMN {name}")

        def open_it() -> None:
            begin.wait()
            try:
                Jobs(path).close()
            except JobError as error:
                wrong.append(str(error))

        threads = [threading.Thread(target=open_it) for _ in range(8)]
        for thread in threads:
            thread.start()
        file.execute("BEGIN IMMEDIATE")  # so that they come to the door together
        begin.wait()
        file.execute("ROLLBACK")
        for thread in threads:
            thread.join()

    with closing(sqlite3.connect(path)) as file:
        assert {"boot", "steady", "refusal"} <= {row[1] for row in file.execute("PRAGMA table_info(job)")}
    return wrong
