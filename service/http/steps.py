"""Coroutines without tasks: for the few microseconds that a task and its futures cost at every request.

A task is there to wait for anything. A request of the hot paths waits once, for its rows, and whoever runs them knows
when they are done; so its coroutine is driven by hand. `Pause` is what it waits for. When a coroutine waits for
something else, a future of asyncio's say, it goes on as a task from there.
"""

import asyncio
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from time import perf_counter
from typing import Any, TypeVar

T = TypeVar("T")

# How long coroutines begin before the event loop looks at its sockets again, and starts what is ready to run.
TURN_SECONDS = 0.005


class Pause:
    """Something that a driven coroutine waits for: `wake` is called when it may go on."""

    __slots__ = ("wake",)

    def __init__(self) -> None:
        self.wake: Callable[[], None] = _nobody


class Steps:
    """One coroutine and what to do with its result. It raises nothing: what it is made of sees to that."""

    __slots__ = ("_coroutine", "_done", "task")

    def __init__(self, coroutine: Coroutine[Any, Any, T], done: Callable[[T], None]) -> None:
        self._coroutine = coroutine
        self._done = done
        self.task: asyncio.Task[T] | None = None  # held here, because the loop itself does not hold on to tasks

    def go_on(self) -> None:
        """Run until it waits or ends."""
        try:
            waits_for = self._coroutine.send(None)
        except StopIteration as end:
            self._done(end.value)
            return
        if isinstance(waits_for, Pause):
            waits_for.wake = self.go_on
        else:
            self.task = asyncio.get_running_loop().create_task(_as_task(self._coroutine, waits_for))
            self.task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self.task = None
        if not task.cancelled():
            self._done(task.result())


class Crowd:
    """Coroutines that begin together, once everything that has arrived in this turn of the event loop is there.

    Code that runs right after a system call finds cold caches: reading all sockets first and working afterwards takes
    a quarter less time than taking turns (benchmarks/NOTES.md). But no longer than `TURN_SECONDS` at a time: behind a
    hundred bodies of megabytes, whose rows are ready to run would wait for the last of them to be read.
    """

    def __init__(self) -> None:
        self._waiting: deque[Steps] = deque()

    def add(self, steps: Steps) -> None:
        self._waiting.append(steps)
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        waiting, until = self._waiting, perf_counter() + TURN_SECONDS
        while waiting:
            waiting.popleft().go_on()
            if perf_counter() >= until:
                break
        if waiting:
            asyncio.get_running_loop().call_soon(self._begin)


@types.coroutine
def _as_task(coroutine: Coroutine[Any, Any, T], waits_for: object) -> Generator[Any, Any, T]:
    """Go on with a coroutine that has begun, and waits for this."""
    while True:
        try:
            try:
                value = yield waits_for
            except BaseException as error:  # cancelled: that is for the coroutine to know
                waits_for = coroutine.throw(error)
            else:
                waits_for = coroutine.send(value)
        except StopIteration as end:
            result: T = end.value
            return result


def _nobody() -> None:
    """Nobody waits yet."""
