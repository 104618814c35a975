"""One job, trained in a process of its own: `python -m training.job JOBS MODELS RUNS FD`, the claimed job on its stdin.

A process, because a network may take all memory or crash TensorFlow, and whoever minds the job must live on. What
people read goes to stdout; what the worker reads, a line of JSON each, to the file descriptor.

A job may have two processes, when its worker was thought dead and was not. One token of the table is the newest: only
who has it publishes, and one that finds that it has not ends itself.
"""

import ctypes
import json
import math
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Literal

from rich.console import Console

from contract.bundle import Bundle
from contract.introduction import Introduced
from contract.job import Job, Progress, Refusal
from contract.jobs import JobError, opened
from contract.part import Part
from contract.runtimes import tensorflow
from training import config, promoting
from training.diagnosis.signals import Evaluation
from training.errors import DataChanged, Interrupted, RunBusy
from training.failure import Failure, Superseded, failure_of
from training.listener import All, Listener, Silent
from training.loop.run import Run, made_by
from training.places import Places
from training.progress import TrainingProgress
from training.sections import TrainingConfig
from training.sources.labelled import Exporter
from training.task import TASKS

PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, see prctl(2)
WIDTH = 110
# Progress is told so often at most.
SECONDS = 1.0
# Of a resumed run the first call has the steps of its past, and the one after it took as long as tracing does.
CALLS_BEFORE = 1
# So often a process looks whether the job is still its own, and so long one waits for another to find that it is not.
LOOK_SECONDS = 5.0
PATIENCE_SECONDS = 60.0
# Where memory runs out, Linux kills the largest: this one rather than who minds it, or what serves beside it.
KILLED_FIRST = "500"

Kind = Literal["progress", "made", "refused", "failed", "may_pass", "interrupted"]


class Event(Part):
    """What a worker is told. `made` has the version and the verdict, `refused` are the data, so that there is none;
    `failed` will fail again, `may_pass` may not."""

    kind: Kind
    text: str = ""
    progress: Progress | None = None
    result: dict[str, Any] | None = None
    refusal: Refusal | None = None


class Teller:
    """Writes events. A worker that has gone is none to talk to, and takes this process along."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __call__(self, event: Event) -> None:
        self._file.write(event.model_dump_json(exclude_none=True) + "\n")
        self._file.flush()


class JobProgress(TrainingProgress):
    """Prints plain lines, and tells a worker the stage, the epoch, the loss, the time left and the best so far."""

    def __init__(self, console: Console, tell: Teller, asked: TrainingConfig) -> None:
        super().__init__(console)
        self._told = _Told(tell, asked.training.epochs, TASKS[asked.task].monitor)

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        self._told.stage(title)
        with super().stage(title):
            yield

    def attending(self, run: Run) -> Listener:
        """What an earlier attempt has reached is known from the beginning."""
        for evaluation in Run.read(run.path).record.evaluations:
            self._told.on_evaluation(evaluation)
        return super().attending(run)

    @contextmanager
    def training(self, steps: int) -> Iterator[Listener]:
        with super().training(steps) as bar:
            self._told.begin(steps)
            yield All(bar, self._told)


class _Told(Silent):
    """Epoch and time left are by steps: early stopping may end it sooner."""

    def __init__(self, tell: Teller, epochs: int, metric: str) -> None:
        self._tell = tell
        self._so_far = Progress(epochs=epochs, metric=metric)
        self.begin(1)

    def begin(self, steps: int) -> None:
        self._steps = max(1, steps)
        self._done = self._calls = 0
        self._begun: tuple[float, int] | None = None  # when, and how far it was then
        self._last = float("-inf")

    def stage(self, title: str) -> None:
        self._say({"stage": title, "loss": None, "eta": None})

    def on_steps(self, count: int, loss: float) -> None:
        self._done += count
        self._calls += 1
        now = time.monotonic()
        if self._begun is None and self._calls > CALLS_BEFORE:
            self._begun = now, self._done
        if now - self._last >= SECONDS:
            self._last = now
            known = loss if math.isfinite(loss) else None
            self._say({"stage": "training", "epoch": self._epoch(), "loss": known, "eta": self._eta(now)})

    def on_evaluation(self, evaluation: Evaluation) -> None:
        if evaluation.best and math.isfinite(evaluation.monitor):
            self._so_far = self._so_far.model_copy(update={"best": evaluation.monitor})

    def _epoch(self) -> int:
        epochs = self._so_far.epochs or 1
        return min(epochs, 1 + self._done * epochs // self._steps)

    def _eta(self, now: float) -> float | None:
        began, first = self._begun or (now, self._done)
        done = self._done - first
        return (now - began) / done * (self._steps - self._done) if done > 0 else None

    def _say(self, update: dict[str, Any]) -> None:
        self._so_far = self._so_far.model_copy(update={**update, "at": time.time()})
        self._tell(Event(kind="progress", progress=self._so_far))


def main(arguments: Sequence[str], logged: Exporter | None = None) -> int:
    """Exit code 0 where the last event says what came of the job, whatever that is. `logged` writes the service's rows
    that `data.labelled` asks for."""
    places, descriptor = Places(*map(Path, arguments[:3])), int(arguments[3])
    _die_with(os.getppid())
    _die_first()
    job = Job.model_validate_json(sys.stdin.buffer.read())
    threading.Thread(target=_end_when_lost, args=(job, places), daemon=True).start()
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        tell = Teller(file)
        tell(_outcome(job, places, tell, logged))
    return 0


def _outcome(job: Job, places: Places, tell: Teller, logged: Exporter | None) -> Event:
    """Train, and say what came of it, in words for the person who asked."""
    try:
        places.make_ready(job)
        made = train(job, places, tell, logged)
        introduced = promoting.introduce(places.models, made, f"job {job.id}")
    except Interrupted as error:
        return Event(kind="interrupted", text=str(error))
    except Exception as error:
        failure = failure_of(error)
        if failure.unforeseen:
            traceback.print_exc(file=sys.stdout)
        return _event(failure)
    if introduced is not None:
        print(f"{made.path}: {introduced.did}: {introduced.why}", flush=True)  # noqa: T201  # into the job's log
    return Event(kind="made", result=_result(made, introduced))


def _event(failure: Failure) -> Event:
    if failure.refusal is not None:
        return Event(kind="refused", text=failure.text, refusal=failure.refusal)
    return Event(kind="may_pass" if failure.may_pass else "failed", text=failure.text)


def train(job: Job, places: Places, tell: Teller, logged: Exporter | None = None) -> Bundle:
    """Go on where an earlier attempt was; from the beginning where the data have changed since."""
    order = job.order
    asked = config.read(order.config, f"the config of {order.model}", order.overrides, order.model)
    console = Console(file=sys.stdout, width=WIDTH, force_terminal=False)
    progress = JobProgress(console, tell, asked)
    with progress.stage("starting TensorFlow"):
        tensorflow()
    return _once_free(lambda: _run(job, places, asked, progress, logged), progress)


def _run(job: Job, places: Places, asked: TrainingConfig, progress: JobProgress, logged: Exporter | None) -> Bundle:
    """A version that an earlier attempt published, and could not say so any more, is what came of the job."""
    from training import pipeline

    folder, models = places.folder(job.id), places.models

    def made() -> Bundle | None:
        return made_by(folder / asked.name, models, asked.name)

    def fence() -> None:
        if not _is_ours(job, places) or made() is not None:
            raise Superseded("another process has taken this job over; nothing was published here")

    if (found := made()) is not None:
        pipeline.note_verdict(models, found.manifest)
        progress.console.print(f"{found.path} was published by an earlier attempt", highlight=False)
        return found
    try:
        return pipeline.run(asked, models, folder, progress, fence=fence, logged=logged)
    except DataChanged as error:
        progress.console.print(f"{error}; this job begins anew", highlight=False)
        return pipeline.run(asked, models, folder, progress, fresh=True, fence=fence, logged=logged)


def _once_free(run: Callable[[], Bundle], progress: JobProgress) -> Bundle:
    """An earlier process of the job may still be at it, until it looks again. Raises RunBusy when it does not go."""
    ends = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return run()
        except RunBusy:
            if time.monotonic() > ends:
                raise
        with progress.stage("waiting for an earlier process of this job to end"):
            time.sleep(SECONDS)


def _is_ours(job: Job, places: Places) -> bool:
    with opened(places.jobs) as jobs:
        return jobs.holds(job)


def _end_when_lost(job: Job, places: Places) -> None:
    """The worker kills a process whose job was taken over; one that stands still itself cannot."""
    while True:
        time.sleep(LOOK_SECONDS)
        with suppress(JobError):  # the table cannot be read now: then nobody else has been given the job
            if not _is_ours(job, places):
                os.kill(os.getpid(), signal.SIGKILL)


def _result(made: Bundle, introduced: Introduced | None) -> dict[str, Any]:
    manifest, verdict = made.manifest, made.manifest.verdict
    headline = manifest.metrics[manifest.headline]
    return {
        "version": manifest.version,
        "passed": verdict is None or verdict.passed,
        "headline": {"metric": manifest.headline, **json.loads(headline.model_dump_json())},
        "reasons": [] if verdict is None else [reason.model_dump(mode="json") for reason in verdict.reasons],
        "promotion": None if introduced is None else {"did": introduced.did, "why": introduced.why},
    }


def _die_first() -> None:
    with suppress(OSError):  # no Linux, or none that lets us
        Path("/proc/self/oom_score_adj").write_text(KILLED_FIRST)


def _die_with(parent: int) -> None:
    """Nobody minds a job whose worker was killed: the one that takes it over begins where the checkpoint is."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
