"""Loads versions in the background: one at a time, production first, of several the smallest.

All that is slow happens on one thread: reading, verifying, loading, proving, and giving the memory of what has left
back. What comes of it is handed to the slots on the event loop.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from time import monotonic
from typing import NamedTuple, TypeVar

from contract import memory
from contract.errors import HornpipeError
from service.settings import Settings
from service.versions.folder import Stamp, stamp_of
from service.versions.loaded import LoadedModel, load, size_of
from service.versions.refusal import refusal
from service.versions.slot import Slot

log = logging.getLogger("hornpipe.registry")

# Between the steps of a load while others serve: long enough for what has come in meanwhile to be answered.
PAUSE_SECONDS = 0.005

T = TypeVar("T")


class Due(NamedTuple):
    """A version to load; the first in order is loaded first."""

    beside_production: bool
    size: int
    name: str
    version: int


class Loader:
    """Brings into the slots what their routing asks for.

    `took` is told of every slot into which a version has come, `refused` of every one of which a version has not; they
    run on the event loop.
    """

    def __init__(
        self,
        settings: Settings,
        slots: Mapping[str, Slot],
        took: Callable[[Slot, LoadedModel], None],
        refused: Callable[[Slot], None],
    ) -> None:
        self._settings = settings
        self._slots = slots
        self._took = took
        self._refused = refused
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._something = asyncio.Event()
        self._done_with: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._closed = False
        self._sizes: dict[tuple[str, int], int] = {}

    def look(self) -> None:
        """Something may be due."""
        self._give_back()
        if self._wanted():
            self._something.set()

    async def run(self) -> None:
        """Load what is due, until cancelled."""
        while True:
            await self._something.wait()
            self._something.clear()
            while (due := await self._next()) is not None:
                await self._load(due)

    def close(self) -> None:
        """Begin no more; what waits to be given back is."""
        self._give_back()
        self._closed = True
        self._thread.shutdown(wait=False)

    def _wanted(self) -> dict[tuple[str, int], Slot]:
        """What is to be loaded and may be tried now."""
        now = monotonic()
        return {
            (slot.name, version): slot
            for slot in self._slots.values()
            for version in slot.missing()
            if version not in slot.refusals or slot.refusals[version].may_be_tried(now)
        }

    async def _next(self) -> Due | None:
        """Of several, how large they are decides, which their manifests say."""
        wanted = self._wanted()
        if len(wanted) > 1:
            for name, version in wanted.keys() - self._sizes.keys():
                self._sizes[name, version] = await self._on_thread(size_of, name, version)
            wanted = self._wanted()
        self._sizes = {key: size for key, size in self._sizes.items() if key in wanted}
        due = (Due(key[1] != slot.wanted, self._sizes.get(key, 0), *key) for key, slot in wanted.items())
        return min(due, default=None)

    async def _load(self, due: Due) -> None:
        name, version = due.name, due.version
        slot = self._slots[name]
        stamp = await self._on_thread(_stamp, name, version)
        before = slot.serving
        try:
            pause = _let_others if any(each.loaded for each in self._slots.values()) else _go_on
            model = await self._on_thread(partial(load, before=before, pause=pause), name, version)
        except Exception as error:  # whatever it is, it must not keep others from being loaded
            self._refuse(slot, version, stamp, error)
            return
        model.when_done(self._is_done)
        # Meanwhile it may have become unwanted, or its model have gone.
        if version in slot.missing() and self._slots.get(name) is slot:
            log.info("%s/%d is loaded: %s, %s", name, version, model.variant, model.why)
            self._took(slot, model)
        if before is None:  # else that is done when the one before it leaves
            # To read its manifest and its golden examples took several times the memory that is kept of them.
            self._thread.submit(memory.give_back)

    async def _on_thread(self, function: Callable[[Path, str, int, Settings], T], name: str, version: int) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(
            self._thread, function, self._settings.models_dir, name, version, self._settings
        )

    def _refuse(self, slot: Slot, version: int, stamp: Stamp, error: Exception) -> None:
        refused = refusal(error, stamp, slot.refusals.get(version), monotonic())
        serving = f"version {slot.serving.version} serves on" if slot.serving else "nothing serves"
        again = f"; it is tried again in {refused.pause:g} s" if refused.pause else ""
        # The last two are what LiteRT and TensorFlow raise for a file that they cannot read.
        foreseen = isinstance(error, HornpipeError | OSError | ValueError | RuntimeError)
        trace = None if foreseen else error
        log.error("%s/%d is refused: %s; %s%s", slot.name, version, refused.why, serving, again, exc_info=trace)
        if version in slot.missing():
            slot.refusals[version] = refused
            self._refused(slot)

    def _is_done(self, close: Callable[[], None]) -> None:
        """Nobody holds a model any more: its memory is to be given back.

        This runs wherever the last reference happens to go, perhaps in the middle of anything that takes locks. To put
        something into a SimpleQueue is one of the few things that may be done there.
        """
        if self._closed:
            close()
        else:
            self._done_with.put(close)

    def _give_back(self) -> None:
        """On our thread, because it may take a while."""
        while not self._done_with.empty():
            self._thread.submit(self._done_with.get())


def _let_others() -> None:
    time.sleep(PAUSE_SECONDS)


def _go_on() -> None:
    """Nobody waits."""


def _stamp(models: Path, name: str, version: int, settings: Settings) -> Stamp:
    del settings
    return stamp_of(models, name, version)
