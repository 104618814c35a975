"""`hornpipe worker`: takes jobs from the table, one at a time, and minds the process that trains each.

What may happen to a job is decided here: it ended, it cannot be done, it may be done later, somebody took it back. The
table is told while it runs; as long as it hears of us, nobody else takes the job.
"""

import os
import signal
import socket
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

from rich.console import Console

from contract.job import Job, Progress
from contract.jobs import MOST_LINES, JobError, Jobs, Told
from training.child import Child
from training.job import Event
from training.places import Places as Places  # whoever starts a worker has it from here

# A job is taken over when its worker has not been heard of for so long; it is heard of four times as often at least,
# and as often as people like to see how far it is, and a job that is taken back should end.
LEASE_SECONDS = 60.0
TELL_SECONDS = 5.0
POLL_SECONDS = 2.0


class Worker:
    """One worker. `run` comes back after `stop`, or a signal, once the job it had is saved and back in the queue."""

    def __init__(
        self, places: Places, console: Console, lease: float = LEASE_SECONDS, poll: float = POLL_SECONDS
    ) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._places, self._console = places, console
        self._lease, self._poll = lease, poll
        self._stopping = threading.Event()
        self._said = ""

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
                    self._survive(jobs, job)
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
            self._say_once(str(error))
            return None

    def _survive(self, jobs: Jobs, job: Job) -> None:
        """Whatever a job does to us, the next one is done."""
        try:
            self._mind(jobs, job)
            self._places.tidy(jobs)
            jobs.forget_old()
        except JobError as error:
            self._say(str(error))
        except Exception as error:  # no process can be started, or a mistake of ours: not the end of the others
            self._say(traceback.format_exc().rstrip())
            said = f"its worker stumbled: {type(error).__name__}: {error}"
            _try(lambda: jobs.put_back(job, said))

    def _mind(self, jobs: Jobs, job: Job) -> None:
        """From the claim of a job to what came of it."""
        self._say(f"job {job.id}: {job.order.model}, attempt {job.attempts}: {job.order.why}")
        with Child(job, self._places) as child:
            told = self._watch(jobs, job, child)
            if told != "lost":
                self._conclude(jobs, job, child, cancelled=told == "stop")
        self._say(f"job {job.id}: {'taken over by another worker' if told == 'lost' else _state(jobs, job)}")

    def _watch(self, jobs: Jobs, job: Job, child: Child) -> Told:
        """Pass on what the process says until it has ended, or is to."""
        told: Told = "go on"
        renewed = float("-inf")
        unwritten: list[str] = []
        while not child.ended(wait=min(self._lease / 8, 0.5)):
            if time.monotonic() - renewed >= min(
                self._lease / 4, TELL_SECONDS
            ):  # before the log: to be heard of is what matters
                renewed = time.monotonic()
                told = self._renew(jobs, job, child.progress) or told
            unwritten = _write(jobs, job, [*unwritten, *child.lines()])
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
            self._say_once(str(error))
            return None

    def _conclude(self, jobs: Jobs, job: Job, child: Child, *, cancelled: bool) -> None:
        """Write down what came of it, and try until that is possible: it must not be lost."""
        while not _try(lambda: _write_down(jobs, job, child.outcome(), cancelled=cancelled)):
            if self._stopping.wait(self._poll):
                return  # whoever takes the job over finds its run published, or goes on with it

    def _say(self, text: str) -> None:
        self._said = text
        self._console.print(text, highlight=False, markup=False)

    def _say_once(self, text: str) -> None:
        """What stays as it is need not be said every other second."""
        if text != self._said:
            self._say(text)


def _write(jobs: Jobs, job: Job, lines: list[str]) -> list[str]:
    """Add to the job's log; what could not be written comes back, the newest of it."""
    if not lines or _try(partial(jobs.write, job.id, lines)):
        return []
    return lines[-MOST_LINES:]


def _write_down(jobs: Jobs, job: Job, outcome: Event, *, cancelled: bool) -> None:
    match outcome.kind:
        case "made":
            result = outcome.result or {}
            passed = bool(result.get("passed"))
            jobs.end(job, "succeeded" if passed else "refused", result, refusal=None if passed else "gate")
        case _ if cancelled:
            jobs.end(job, "cancelled", error="cancelled while it ran")
        case "refused":
            jobs.end(job, "refused", error=outcome.text, refusal=outcome.refusal)
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
