"""What stands behind the hot paths: begins and ends the service, and has everything else answered by FastAPI."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from service.counting.instruments import NO_MODEL
from service.counting.lag import LoopLag
from service.state import ServiceState

if TYPE_CHECKING:
    from fastapi import FastAPI

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

# When there is no model to wait for, the framework is imported after so many seconds.
PATIENCE_SECONDS = 2.0
LOOK_SECONDS = 0.05

log = logging.getLogger("hornpipe")


class Application:
    """Plain ASGI. FastAPI comes once the models are ready, or with the first request for it: on a thread either way, so
    that predictions go on meanwhile."""

    def __init__(self, state: ServiceState) -> None:
        self.state = state
        self._api: FastAPI | None = None
        self._making = asyncio.Lock()

    def api(self) -> "FastAPI":
        """The framework's part, made if need be."""
        from service.api import create_api

        if self._api is None:
            self._api = create_api(self.state)
        return self._api

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if self._api is None:
            async with self._making:
                await asyncio.to_thread(self.api)
        await self.api()(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        """ASGI's lifespan protocol."""
        await receive()
        tasks = self._begin()
        lag = LoopLag(self.state.metrics.late)
        lag.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        lag.stop()
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self._close()
        await send({"type": "lifespan.shutdown.complete"})

    def _begin(self) -> "list[asyncio.Task[None]]":
        """By now every route is declared. Models load in the background: /healthz answers at once."""
        state = self.state
        state.metrics.prepare(NO_MODEL)
        state.windows.restore()
        if state.kept is not None:
            state.kept.start()
        optional = (state.jobs, state.retraining)
        running = [state.registry.watch(), self._prepare(), state.windows.run(), state.quality.run()]
        running += [state.canaries.run(), *(each.run() for each in optional if each is not None)]
        tasks = [asyncio.create_task(each) for each in running]
        for task in tasks:
            task.add_done_callback(_log_death)
        return tasks

    async def _close(self) -> None:
        """First who looks at what is counted, then what answers, then what is written of the answers."""
        state = self.state
        await state.windows.close()
        state.quality.close()
        await state.canaries.close()
        for each in (state.jobs, state.retraining):
            if each is not None:
                each.close()
        state.registry.close()
        state.inference.close()
        if state.kept is not None:
            await asyncio.to_thread(state.kept.close)
        await asyncio.to_thread(state.front.journal.close)

    async def _prepare(self) -> None:
        """Import what is not needed for predictions, once they can be had."""
        until = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while not self.state.readiness.ready() and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(LOOK_SECONDS)
        async with self._making:
            await asyncio.to_thread(self.api)


def _log_death(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        name = getattr(task.get_coro(), "__qualname__", "a task")
        log.critical("%s has died; restart the service", name, exc_info=task.exception())
