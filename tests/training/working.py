"""Real workers, in this process or in their own, and ways to end them and theirs."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
from rich.console import Console

from contract.job import Job
from contract.jobs import Jobs
from tests.waiting import wait_until
from training.worker import Places, Worker

SECONDS = 400
LEASE = 2.0


def undisturbed(patch: pytest.MonkeyPatch) -> None:
    """For workers in this process: what failed rests until somebody hurries it, however long the machine stands still,
    and nobody is taken for killed by the kernel since it has killed another process of the machine."""
    patch.setattr("contract.jobs.FIRST_PAUSE", 3600.0)
    patch.setattr("training.child._VMSTAT", Path("/nowhere"))


@contextmanager
def working(places: Places, lease: float = 60.0) -> Iterator[Worker]:
    """A worker on a thread."""
    worker = Worker(places, Console(quiet=True), lease=lease, poll=0.05)
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join()


def ended(jobs: Jobs, number: int, seconds: float = SECONDS) -> Job:
    wait_until(lambda: jobs.get(number).ended_at is not None, f"job {number} ends", seconds=seconds)
    return jobs.get(number)


def children(pid: int) -> list[int]:
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):  # it, or a thread of it, has just ended
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (task / "children").read_text().split()]
    return found


def trainers(pid: int) -> list[int]:
    """Those children that train. A test's process has others, of tests before; what has ended has no command."""
    return [child for child in children(pid) if b"hornpipe.job" in _command(child)]


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def descendants(pid: int) -> list[int]:
    return [each for child in children(pid) for each in (child, *descendants(child))]


def start_worker(places: Places, *before: str) -> "subprocess.Popen[bytes]":
    """`hornpipe worker` with a short lease; `before` is what runs it."""
    command = [*before, sys.executable, "-m", "hornpipe", "worker", "--lease", str(LEASE), "--jobs", str(places.jobs)]
    command += ["--models", str(places.models), "--runs", str(places.runs)]
    with (places.jobs.parent / "workers.log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def send(worker: int, number: signal.Signals) -> None:
    """A signal to all of its processes, to itself first: from then on it starts no others."""
    os.kill(worker, number)
    for pid in descendants(worker):
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def kill_workers_of(folder: Path) -> None:
    """Those that a test has left whose job table is in this folder. Other tests may have workers that are to live."""
    for pid in children(os.getpid()):
        command = _command(pid)
        if b"hornpipe\0worker" in command and os.fsencode(f"{folder}/") in command:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def cut_power(worker: "subprocess.Popen[bytes]") -> None:
    """All of its processes at once."""
    for pid in (worker.pid, *descendants(worker.pid)):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    worker.wait()


def stop(worker: "subprocess.Popen[bytes]") -> None:
    worker.terminate()
    worker.wait()


def hurry(places: Places) -> None:
    """Nobody rests after a failure."""
    with closing(sqlite3.connect(places.jobs, timeout=30)) as file, file:
        file.execute("UPDATE job SET not_before = 0 WHERE state = 'queued'")


def sound(places: Places) -> bool:
    with closing(sqlite3.connect(places.jobs, timeout=30)) as file:
        return bool(file.execute("PRAGMA integrity_check").fetchone() == ("ok",))


def kill_at_random(places: Places, jobs: Jobs, number: int, kills: int, dice: random.Random) -> None:
    """Kill the worker, or all at once, while it starts, trains and exports; then let one end the job."""
    worker = start_worker(places)
    for kill in range(kills):
        at = jobs.get(number)
        if kill % 3 != 2:  # one in three while it starts
            _until_it_got_on(jobs, at, dice)
        threading.Event().wait(dice.uniform(0.0, 1.5))  # a random moment is what is to be met
        if kill % 2:
            cut_power(worker)
        else:
            worker.kill()
            worker.wait()
        worker = start_worker(places)
    ended(jobs, number)
    stop(worker)


def _until_it_got_on(jobs: Jobs, before: Job, dice: random.Random) -> None:
    """A few epochs further than when it was last killed, or at what follows training."""
    goal = (before.progress.epoch or 0) + dice.randrange(1, 20)

    def there() -> bool:
        now = jobs.get(before.id)
        further = now.token > before.token and ((now.progress.epoch or 0) >= goal or "export" in now.progress.stage)
        return further or now.ended_at is not None

    wait_until(there, f"job {before.id} gets on", seconds=SECONDS)
