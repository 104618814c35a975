"""The threads on which larger models run. No executor: in what a future's locks cost, a small network has run."""

import asyncio
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

# What ran, and its result or what it raised.
Done = Callable[[T, R | BaseException], None]


class Threads(Generic[T, R]):
    """Calls `run` on a thread for each job, and `done` on the event loop with its result. Threads begin when needed."""

    def __init__(self, most: int, run: Callable[[T], R], done: Done[T, R]) -> None:
        self._most = most
        self._run = run
        self._done = done
        self._jobs: SimpleQueue[tuple[asyncio.AbstractEventLoop, T] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._busy = 0

    @property
    def free(self) -> int:
        """How many more jobs would begin at once; below zero, how many lie ready."""
        return self._most - self._busy

    def start(self, job: T) -> None:
        """Called on the event loop. More jobs than threads are free lie ready, and begin in order."""
        self._busy += 1
        if len(self._threads) < min(self._busy, self._most):
            thread = threading.Thread(target=self._work, name=f"run-{len(self._threads)}")
            self._threads.append(thread)
            thread.start()
        self._jobs.put((asyncio.get_running_loop(), job))

    def close(self) -> None:
        """What runs comes to its end; nobody is told."""
        for _ in self._threads:
            self._jobs.put(None)

    def _work(self) -> None:
        while (next_one := self._jobs.get()) is not None:
            loop, job = next_one
            result: R | BaseException
            try:
                result = self._run(job)
            except BaseException as error:  # it is for those who wait to know
                result = error
            try:
                loop.call_soon_threadsafe(self._finish, job, result)
            except RuntimeError:  # the loop is closed: nobody waits any more
                return
            del next_one, job, result  # a model's last rows must not be held on to while there is nothing to do

    def _finish(self, job: T, result: R | BaseException) -> None:
        self._busy -= 1
        self._done(job, result)
