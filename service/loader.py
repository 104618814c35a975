"""Loads versions in the background: one at a time, production first, of several the smallest.

All that is slow happens on one thread: reading, verifying, loading, proving, and giving the memory of what has left
back. What comes of it is handed to the slots on the event loop.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import monotonic

from contract.errors import HornpipeError
from service.folder import Stamp, stamp_of
from service.loaded import Candidate, LoadedModel, load_candidate, prepare
from service.refusal import refusal
from service.settings import Settings
from service.slot import Slot

log = logging.getLogger("hornpipe.registry")


@dataclass(frozen=True)
class Due:
    """A version to load; `stamp` is of its files before they were read."""

    slot: Slot
    version: int
    stamp: Stamp
    candidate: Candidate

    @property
    def order(self) -> tuple[bool, int, str, int]:
        return (self.version != self.slot.wanted, self.candidate.variant.size, self.slot.name, self.version)


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
        self._read: dict[tuple[str, int], Due] = {}

    def look(self) -> None:
        """Something may be due."""
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
        self._read.clear()
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
        """Read the manifests of what has become due, which say how large it is."""
        for (name, version), slot in self._wanted().items():
            if (name, version) not in self._read:
                await self._prepare(slot, version)
        wanted = self._wanted()
        self._read = {key: due for key, due in self._read.items() if wanted.get(key) is due.slot}
        return min(self._read.values(), key=lambda due: due.order, default=None)

    async def _prepare(self, slot: Slot, version: int) -> None:
        models, loop = self._settings.models_dir, asyncio.get_running_loop()
        stamp = await loop.run_in_executor(self._thread, stamp_of, models, slot.name, version)
        reading = loop.run_in_executor(self._thread, prepare, models, slot.name, version, self._settings)
        try:
            self._read[slot.name, version] = Due(slot, version, stamp, await reading)
        except Exception as error:  # whatever it is, it must not keep others from being loaded
            self._refuse(slot, version, stamp, error)

    async def _load(self, due: Due) -> None:
        del self._read[due.slot.name, due.version]
        loop = asyncio.get_running_loop()
        loading = loop.run_in_executor(self._thread, load_candidate, due.candidate, self._settings, due.slot.serving)
        try:
            model = await loading
        except Exception as error:  # whatever it is, it must not keep others from being loaded
            self._refuse(due.slot, due.version, due.stamp, error)
            return
        model.when_done(self._give_back)
        # Meanwhile it may have become unwanted, or its model have gone.
        if due.version in due.slot.missing() and self._slots.get(due.slot.name) is due.slot:
            log.info("%s/%d is loaded: %s, %s", model.name, model.version, model.variant, model.why)
            self._took(due.slot, model)

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

    def _give_back(self, close: Callable[[], None]) -> None:
        """On our thread, because it may take a while, and the last who lets go of a model may be anybody."""
        try:
            self._thread.submit(close)
        except RuntimeError:  # it has been shut down
            close()
