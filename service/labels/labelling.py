"""The thread of this process that writes the file of labels: feedback as it comes, and once in a while the index.

Every process takes feedback; one of them, whichever holds a lock, reads what all have logged, and removes what is old.
"""

import logging
import sqlite3
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Thread
from time import monotonic

from service.counting.instruments import FeedbackResult
from service.errors import Overloaded
from service.labels.indexing import index
from service.labels.labelled import LabelsError
from service.labels.labels import Counts, Feedback, Labels
from service.processes.leader import Leader
from service.settings import Settings

log = logging.getLogger("hornpipe.predictions")

MOST_WAITING = 100
INDEX_SECONDS = 0.5
LIMIT_SECONDS = 60.0
LOCK = "index.lock"

_UNWRITABLE = (LabelsError, sqlite3.Error, OSError)

Job = tuple[Sequence[Feedback], "Future[Counts]"]


class Labelling:
    """`start` begins it; `counted` is for the event loop."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self._folder = folder
        self._most_bytes = settings.predictions_bytes
        self._most_seconds = settings.predictions_days * 86_400
        self._jobs: Queue[Job | None] = Queue(MOST_WAITING)
        self._counts: deque[tuple[str, FeedbackResult, int]] = deque()
        self._labels: Labels | None = None
        self._leader = Leader(folder / LOCK)
        self._failed = False
        self._limited = -LIMIT_SECONDS
        self._thread = Thread(target=self._run, name="labels", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def store(self, items: Sequence[Feedback]) -> "Future[Counts]":
        """Take feedback; done once it is on the disk, with what became of it by model and result.

        Raises Overloaded when too much waits; the future InvalidRequest, or Overloaded when it cannot be written now.
        """
        done: Future[Counts] = Future()
        try:
            self._jobs.put_nowait((items, done))
        except Full:
            raise Overloaded("more feedback waits than is taken; try again shortly") from None
        return done

    def counted(self) -> list[tuple[str, FeedbackResult, int]]:
        """Rows by model and result since this was last asked."""
        return [self._counts.popleft() for _ in range(len(self._counts))]

    def close(self) -> None:
        """Do what waits, index what was logged, and end."""
        self._jobs.put(None)
        self._thread.join()

    # On the thread

    def _run(self) -> None:
        due = monotonic()
        ends = False
        while not ends:
            try:
                job = self._jobs.get(timeout=max(0.0, due - monotonic()))
                ends = job is None
                if job is not None:
                    self._answer(*job)
            except Empty:
                pass
            if ends or monotonic() >= due:
                self._safely(self._look)
                due = monotonic() + INDEX_SECONDS
        if self._labels is not None:
            self._labels.close()
        self._leader.step_down()

    def _answer(self, items: Sequence[Feedback], done: "Future[Counts]") -> None:
        if not done.set_running_or_notify_cancel():
            return
        try:
            counts = self._open().store(items)
        except _UNWRITABLE as error:
            self._complain(error)
            done.set_exception(Overloaded("feedback cannot be written at the moment; try again later", 10))
        except Exception as error:  # what does not fit, or a defect; the one who waits is told, and the thread goes on
            done.set_exception(error)
        else:
            self._note(counts)
            done.set_result(counts)

    def _look(self) -> None:
        """Index what is new, and remove what is old, if no other process does."""
        if not self._leader.leads():
            return
        self._note(index(self._open(), self._folder))
        if monotonic() - self._limited >= LIMIT_SECONDS:
            self._open().limit(self._most_bytes, self._most_seconds)
            self._limited = monotonic()
        if self._failed:
            log.info("the file of labels is written again")
            self._failed = False

    def _open(self) -> Labels:
        if self._labels is None:
            self._labels = Labels(self._folder)
        return self._labels

    def _note(self, counts: Counts) -> None:
        self._counts.extend((model, result, count) for (model, result), count in counts.items())

    def _safely(self, do: Callable[[], None]) -> None:
        try:
            do()
        except _UNWRITABLE as error:
            self._complain(error)
        except Exception as error:  # a defect of ours must not end the thread
            log.error("the index of predictions has failed", exc_info=error)

    def _complain(self, error: Exception) -> None:
        """Once, until it works again; the file is opened anew then."""
        if self._labels is not None:
            self._labels.close()
            self._labels = None
        if not self._failed:
            log.error("predictions are not indexed, and feedback is refused, until it can be done again: %s", error)
        self._failed = True
