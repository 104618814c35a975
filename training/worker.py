"""`hornpipe worker`: takes jobs from the table, one at a time, and minds the process that trains each.

What may happen to a job is decided here: it ended, it cannot be done, it may be done later, somebody took it back. The
table is told while it runs; as long as it hears of us, nobody else takes the job.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from types import FrameType
from typing import IO

from pydantic import ValidationError
from rich.console import Console

from contract.job import Job, Progress
from contract.jobs import MOST_LINES, JobError, Jobs, Told
from training.job import Event

# A job is taken over when its worker has not been heard of for so long; it is heard of four times as often.
LEASE_SECONDS = 60.0
POLL_SECONDS = 2.0
# After SIGTERM a run saves its checkpoint within two seconds; what has not ended by then is not saving.
PATIENCE_SECONDS = 60.0

_FOLDER = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Places:
    """The job table, and the folders that training reads and writes."""

    jobs: Path
    models: Path
    runs: Path


class Worker:
    """One worker. `run` comes back after `stop`, or a signal, once the job it had is saved and back in the queue."""

    def __init__(
        self, places: Places, console: Console, lease: float = LEASE_SECONDS, poll: float = POLL_SECONDS
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._places, self._console = places, console
        self._lease, self._poll = lease, poll
        self._stopping = threading.Event()

    def run(self) -> None:
        """Raises JobError when the table cannot be opened."""
        jobs = Jobs(self._places.jobs)
        self._say(f"worker {self.name} waits for jobs in {self._places.jobs}")
        try:
            while not self._stopping.is_set():
                job = self._claim(jobs)
                if job is None:
                    self._stopping.wait(self._poll)
                else:
                    self._mind(jobs, job)
        finally:
            jobs.close()

    def stop(self) -> None:
        """From any thread, or a signal handler."""
        self._stopping.set()

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """SIGTERM and Ctrl-C end it as `stop` does."""

        def on_signal(number: int, frame: FrameType | None) -> None:
            del number, frame
            self.stop()

        before = {each: signal.signal(each, on_signal) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def _claim(self, jobs: Jobs) -> Job | None:
        try:
            return jobs.claim(self.name, self._lease)
        except JobError as error:  # a full disk, say: it may have room again
            self._say(str(error))
            return None

    def _mind(self, jobs: Jobs, job: Job) -> None:
        """From the claim of a job to what came of it."""
        self._say(f"job {job.id}: {job.order.model}, attempt {job.attempts}: {job.order.why}")
        with _Child(job, self._places) as child:
            told = self._watch(jobs, job, child)
            if told != "lost":
                self._conclude(jobs, job, child, cancelled=told == "stop")
        self._say(f"job {job.id}: {'taken over by another worker' if told == 'lost' else _state(jobs, job)}")

    def _watch(self, jobs: Jobs, job: Job, child: "_Child") -> Told:
        """Pass on what the process says until it has ended, or is to."""
        told: Told = "go on"
        renewed = float("-inf")
        unwritten: list[str] = []
        while not child.ended(wait=min(self._lease / 8, 0.5)):
            unwritten = _write(jobs, job, [*unwritten, *child.lines()])
            if time.monotonic() - renewed >= self._lease / 4:
                renewed = time.monotonic()
                told = self._renew(jobs, job, child.progress) or told
            if told == "lost":
                child.kill()
            elif told == "stop" or self._stopping.is_set():
                child.terminate()
        _write(jobs, job, [*unwritten, *child.lines()])
        return told

    def _renew(self, jobs: Jobs, job: Job, progress: Progress | None) -> Told | None:
        try:
            return jobs.renew(job, self._lease, progress)
        except JobError as error:  # the lease may run out meanwhile; then the next renewal says that it is lost
            self._say(str(error))
            return None

    def _conclude(self, jobs: Jobs, job: Job, child: "_Child", *, cancelled: bool) -> None:
        """Write down what came of it, and try until that is possible: it must not be lost."""
        while not _try(lambda: _write_down(jobs, job, child.outcome(), cancelled=cancelled)):
            if self._stopping.wait(self._poll):
                return  # whoever takes the job over finds its run published, or goes on with it

    def _say(self, text: str) -> None:
        self._console.print(text, highlight=False)


class _Child:
    """The process that trains, and what it has said."""

    def __init__(self, job: Job, places: Places) -> None:
        reading, writing = os.pipe()
        command = [sys.executable, "-m", "training.job", str(job.id), str(places.models), str(places.runs)]
        self._process = subprocess.Popen(  # noqa: S603  # our own
            [*command, str(writing)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[writing],
            start_new_session=True,  # Ctrl-C is for us alone; we pass it on
            env={**os.environ, "PYTHONPATH": _path(), "PYTHONUNBUFFERED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        os.close(writing)
        self.progress: Progress | None = None
        self._last: Event | None = None
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._asked_at: float | None = None
        assert self._process.stdin is not None and self._process.stdout is not None  # noqa: S101, PT018  # pipes
        self._process.stdin.write(job.order.model_dump_json().encode())
        self._process.stdin.close()
        self._readers = [
            threading.Thread(target=self._read_lines, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_events, args=(os.fdopen(reading, "rb"),), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()

    def ended(self, wait: float) -> bool:
        """Whether it has ended, and everything that it has said is here."""
        try:
            self._process.wait(wait)
        except subprocess.TimeoutExpired:
            if self._asked_at is not None and time.monotonic() - self._asked_at > PATIENCE_SECONDS:
                self.kill()
            return False
        for reader in self._readers:
            reader.join()
        return True

    def lines(self) -> list[str]:
        """What it has printed since the last call."""
        found: list[str] = []
        while True:
            try:
                found.append(self._lines.get_nowait())
            except Empty:
                return found

    def terminate(self) -> None:
        """Ask it, once, to save and end."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self._process.terminate()

    def kill(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def outcome(self) -> Event:
        """What it said last, or what its end says."""
        code = self._process.returncode
        if self._last is not None and self._last.kind != "progress":
            return self._last
        if code == -signal.SIGKILL:
            return Event(kind="may_pass", text="the training process was killed; most likely there was no memory left")
        if code < 0:
            return Event(kind="may_pass", text=f"the training process crashed: {signal.Signals(-code).name}")
        return Event(kind="may_pass", text=f"the training process ended with exit code {code}; the log has the rest")

    def _read_lines(self, file: IO[bytes]) -> None:
        with file:
            for line in file:
                self._lines.put(line.decode(errors="replace").rstrip())

    def _read_events(self, file: IO[bytes]) -> None:
        with file:
            for line in file:
                try:
                    event = Event.model_validate_json(line)
                except ValidationError:  # cut short by its death
                    return
                self._last = event
                self.progress = event.progress or self.progress


def _write(jobs: Jobs, job: Job, lines: list[str]) -> list[str]:
    """Add to the job's log; what could not be written comes back, the newest of it."""
    if not lines or _try(partial(jobs.write, job.id, lines)):
        return []
    return lines[-MOST_LINES:]


def _write_down(jobs: Jobs, job: Job, outcome: Event, *, cancelled: bool) -> None:
    match outcome.kind:
        case "made":
            result = outcome.result or {}
            jobs.end(job, "succeeded" if result.get("passed") else "refused", result)
        case _ if cancelled:
            jobs.end(job, "cancelled", error="cancelled while it ran")
        case "failed":
            jobs.end(job, "failed", error=outcome.text)
        case "interrupted":
            jobs.put_back(job, "its worker was stopped; another goes on", at_once=True)
        case _:
            jobs.put_back(job, outcome.text)


def _state(jobs: Jobs, job: Job) -> str:
    now = jobs.get(job.id)
    return f"{now.state}{f': {now.error}' if now.error else ''}"


def _try(call: Callable[[], object]) -> bool:
    """Whether the table took it. What it does not take now, it may take later."""
    try:
        call()
    except JobError:
        return False
    return True


def _path() -> str:
    """Ours first, also where Hornpipe is no installed package."""
    return os.pathsep.join([str(_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])])
