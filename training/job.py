"""One job, trained in a process of its own: `python -m training.job NUMBER MODELS RUNS FD`, the order on its stdin.

A process, because a network may take all memory or crash TensorFlow, and whoever minds the job must live on. What
people read goes to stdout; what the worker reads, a line of JSON each, to the file descriptor.
"""

import ctypes
import errno
import json
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal

from rich.console import Console

from contract.bundle import Bundle
from contract.errors import HornpipeError
from contract.job import Order, Progress
from contract.part import Part
from contract.runtimes import tensorflow
from training import config
from training.errors import DataChanged, Interrupted
from training.listener import All, Listener, Silent
from training.progress import TrainingProgress

PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, see prctl(2)
WIDTH = 110
# Progress is told so often at most.
SECONDS = 1.0
# Of an operating system that lacks something now, and may have it later.
_MAY_PASS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE})

Kind = Literal["progress", "made", "failed", "may_pass", "interrupted"]


class Event(Part):
    """What a worker is told. `failed` will fail again, `may_pass` may not; `made` has the version and the verdict."""

    kind: Kind
    text: str = ""
    progress: Progress | None = None
    result: dict[str, Any] | None = None


class Teller:
    """Writes events. A worker that has gone is none to talk to, and takes this process along."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def __call__(self, event: Event) -> None:
        self._file.write(event.model_dump_json(exclude_none=True) + "\n")
        self._file.flush()


class JobProgress(TrainingProgress):
    """Prints plain lines, and tells a worker the stage, the epoch, the loss and the time left."""

    def __init__(self, console: Console, tell: Teller, epochs: int) -> None:
        super().__init__(console)
        self._tell, self._epochs = tell, epochs

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        self._tell(Event(kind="progress", progress=Progress(stage=title)))
        with super().stage(title):
            yield

    @contextmanager
    def training(self, steps: int) -> Iterator[Listener]:
        with super().training(steps) as bar:
            yield All(bar, _Told(self._tell, steps, self._epochs))


class _Told(Silent):
    """Epoch and time left are by steps: early stopping may end it sooner."""

    def __init__(self, tell: Teller, steps: int, epochs: int) -> None:
        self._tell, self._steps, self._epochs = tell, max(1, steps), epochs
        self._done = 0
        self._begun: tuple[float, int] | None = None  # when, and how far a resumed run was
        self._last = float("-inf")

    def on_steps(self, count: int, loss: float) -> None:
        self._done += count
        now = time.monotonic()
        if self._begun is None:
            self._begun = now, self._done
        if now - self._last < SECONDS:
            return
        self._last = now
        self._tell(Event(kind="progress", progress=self._progress(now, loss)))

    def _progress(self, now: float, loss: float) -> Progress:
        began, first = self._begun or (now, self._done)
        done = self._done - first
        eta = (now - began) / done * (self._steps - self._done) if done > 0 else None
        epoch = min(self._epochs, 1 + self._done * self._epochs // self._steps)
        known = loss if math.isfinite(loss) else None
        return Progress(stage="training", epoch=epoch, epochs=self._epochs, loss=known, eta=eta)


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 where the last event says what came of the job, whatever that is."""
    number, models, runs, descriptor = int(arguments[0]), Path(arguments[1]), Path(arguments[2]), int(arguments[3])
    _die_with(os.getppid())
    order = Order.model_validate_json(sys.stdin.buffer.read())
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        tell = Teller(file)
        tell(_outcome(order, models, runs / "jobs" / str(number), tell))
    return 0


def _outcome(order: Order, models: Path, runs: Path, tell: Teller) -> Event:
    """Train, and say what came of it, in words for the person who asked."""
    try:
        made = train(order, models, runs, tell)
    except Interrupted as error:
        return Event(kind="interrupted", text=str(error))
    except HornpipeError as error:
        return Event(kind="failed", text=str(error))
    except MemoryError:
        return Event(kind="may_pass", text="there was not enough memory")
    except OSError as error:
        kind: Kind = "may_pass" if error.errno in _MAY_PASS else "failed"
        return Event(kind=kind, text=f"{error.strerror}: {error.filename}" if error.filename else str(error))
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        exhausted = type(error).__name__ == "ResourceExhaustedError"  # TensorFlow's, for memory
        said = "there was not enough memory" if exhausted else f"{type(error).__name__}; the log has the rest"
        return Event(kind="may_pass" if exhausted else "failed", text=said)
    return Event(kind="made", result=_result(made))


def train(order: Order, models: Path, runs: Path, tell: Teller) -> Bundle:
    """Go on where an earlier attempt was; from the beginning where the data have changed since."""
    asked = config.read(order.config, f"the config of {order.model}", order.overrides, order.model)
    console = Console(file=sys.stdout, width=WIDTH, force_terminal=False)
    progress = JobProgress(console, tell, asked.training.epochs)
    with progress.stage("starting TensorFlow"):
        tensorflow()
        from training import pipeline
    try:
        return pipeline.run(asked, models, runs, progress)
    except DataChanged as error:
        console.print(f"{error}; this job begins anew", highlight=False)
        return pipeline.run(asked, models, runs, progress, fresh=True)


def _result(made: Bundle) -> dict[str, Any]:
    manifest, verdict = made.manifest, made.manifest.verdict
    headline = manifest.metrics[manifest.headline]
    return {
        "version": manifest.version,
        "passed": verdict is None or verdict.passed,
        "headline": {"metric": manifest.headline, **json.loads(headline.model_dump_json())},
        "reasons": [] if verdict is None else [reason.model_dump(mode="json") for reason in verdict.reasons],
    }


def _die_with(parent: int) -> None:
    """Nobody minds a job whose worker was killed: the one that takes it over begins where the checkpoint is."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
