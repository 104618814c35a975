"""Who runs when: small works together on the event loop, larger ones on threads, fair between models.

Nothing ever waits for a batch to fill. What has arrived within one turn of the event loop runs together; what arrives
while a model runs is its next batch. So the window is nothing when idle, and grows with the load by itself.
"""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from service.inference.batch import execute
from service.inference.queue import Queue
from service.inference.threads import Threads
from service.inference.work import Batch, Result, Work

# How much of a model runs on the event loop at once, before it looks at its sockets again: rows, or seconds of them.
INLINE_ROWS = 32
INLINE_SECONDS = 0.002
# How often works behind a long run are looked at for deadlines.
EXPIRE_SECONDS = 0.01
# Jobs that lie ready for whichever thread is free first, so that none waits for the event loop to come by.
AHEAD = 1

Ran = Callable[[Batch], None]


class Job(NamedTuple):
    """Works that run together on a thread."""

    queue: Queue
    works: list[Work]
    for_later: bool  # batch jobs alone


class Scheduler:
    """All of it happens on the event loop but `execute`, so there is nothing to lock."""

    def __init__(self, threads: int, ran: Ran) -> None:
        self._threads: Threads[Job, Batch] = Threads(threads, _run_job, self._done)
        self._most_batch_jobs = max(1, threads - 1)  # one thread is left to those who wait
        self._batch_jobs = 0
        self._ran = ran
        self._inline: dict[Queue, None] = {}
        self._waiting: dict[Queue, None] = {}
        self._turn_is_due = self._pump_is_due = self._expiry_is_due = False
        self._served = 0.0

    def submit(self, work: Work) -> None:
        """Queue a work, which is told what becomes of it. Raises Overloaded."""
        queue = work.queue
        queue.add(work)
        if queue.inline:
            self._inline[queue] = None
            self._due_turn()
        else:
            if queue not in self._waiting:
                queue.served = max(queue.served, self._served)  # who has been away has saved up nothing
                self._waiting[queue] = None
            self._due_pump()

    def has_time(self) -> bool:
        """Whether a thread is free, and nobody waits for one but batch jobs."""
        return self._threads.free > 0 and not any(queue.urgent for queue in self._waiting)

    def close(self) -> None:
        """Take no more; let what runs end."""
        self._threads.close()

    # On the event loop

    def _due_turn(self) -> None:
        if not self._turn_is_due:
            self._turn_is_due = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_is_due = False
        for queue in list(self._inline):
            if works := queue.take(queue.rows_in(INLINE_SECONDS, INLINE_ROWS)):
                self._end(queue, _run_here(works))
            if not len(queue):
                del self._inline[queue]
        if self._inline:
            self._due_turn()

    # On threads

    def _due_pump(self) -> None:
        if not self._pump_is_due:
            self._pump_is_due = True
            asyncio.get_running_loop().call_soon(self._pump)

    def _pump(self) -> None:
        self._pump_is_due = False
        while (queue := self._next()) is not None:
            works = queue.take(queue.at_once)
            if not len(queue):
                del self._waiting[queue]
            if works:
                self._start(queue, works)
        if self._waiting and not self._expiry_is_due:
            self._expiry_is_due = True
            asyncio.get_running_loop().call_later(EXPIRE_SECONDS, self._expire)

    def _next(self) -> Queue | None:
        """The model that has run least, of those with somebody waiting; batch jobs have what is left."""
        free = self._threads.free
        if free <= -AHEAD:
            return None
        allowed = [queue for queue in self._waiting if queue.urgent and (free > 0 or queue.is_steady)]
        if free > 0 and not allowed and self._batch_jobs < self._most_batch_jobs:
            allowed = list(self._waiting)
        return min(allowed, key=lambda queue: queue.served, default=None)

    def _start(self, queue: Queue, works: list[Work]) -> None:
        self._served = queue.served
        job = Job(queue, works, all(work.call.priority == "batch" for work in works))
        self._batch_jobs += job.for_later
        self._threads.start(job)

    def _done(self, job: Job, batch: Batch | BaseException) -> None:
        self._batch_jobs -= job.for_later
        if isinstance(batch, BaseException):
            job.queue.ran(sum(work.count for work in job.works), 0.0)
            for work in job.works:
                work.fail(batch)
        else:
            self._end(job.queue, batch)
        self._pump()

    def _expire(self) -> None:
        self._expiry_is_due = False
        for queue in list(self._waiting):
            queue.expire()
            if not len(queue):
                del self._waiting[queue]
        self._due_pump()

    def _end(self, queue: Queue, batch: Batch) -> None:
        queue.ran(batch.rows + sum(work.count for work, _ in batch.failed), batch.ended - batch.began)
        for work, error in batch.failed:
            work.fail(error)
        if batch.works:
            self._ran(batch)
        first = 0
        for work in batch.release():
            work.finish(Result(batch, first, first + work.count))
            first += work.count


def _run_job(job: Job) -> Batch:
    return _run_here(job.works)


def _run_here(works: list[Work]) -> Batch:
    """On the calling thread, in a lane that nobody else runs in meanwhile."""
    lanes = works[0].model.lanes
    lane = lanes.borrow()
    try:
        return execute(works, lane)
    finally:
        lanes.give_back(lane)
