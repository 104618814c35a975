"""Which versions are in service: watches routing, loads and proves beside the old one, swaps in one assignment.

Everything slow happens on one loader thread; what requests read changes only on the event loop.
"""

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from contract import bundle, routing
from contract.errors import HornpipeError
from service.errors import NotReady, UnknownModel, UnknownVersion
from service.loaded import LoadedModel, load
from service.metrics import Metrics
from service.monitor import Monitor
from service.settings import Settings

log = logging.getLogger("hornpipe.registry")

State = Literal["loading", "ready", "refused", "idle"]


@dataclass
class Slot:
    """The place of one model: what is wished for, what serves, and why the two differ if they do."""

    name: str
    wanted: int | None = None
    serving: LoadedModel | None = None
    previous_monitor: Monitor | None = None
    refused: str | None = None
    refused_state: object = None

    @property
    def state(self) -> State:
        if self.serving is not None:
            return "ready"
        if self.refused is not None:
            return "refused"
        return "loading" if self.wanted is not None else "idle"


class Registry:
    """Every model of the models folder that has a production version."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models = settings.models_dir
        self._slots: dict[str, Slot] = {}
        self._loader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="loader")
        self._metrics: Metrics | None = None

    def attach(self, metrics: Metrics, route: str) -> None:
        """Where to count swaps and refusals. Metrics read this registry in turn, so one of them comes second."""
        self._metrics, self._route = metrics, route

    def slots(self) -> list[Slot]:
        return [self._slots[name] for name in sorted(self._slots)]

    def serving(self) -> Iterator[LoadedModel]:
        return (slot.serving for slot in self.slots() if slot.serving is not None)

    def monitors(self) -> Iterator[Monitor]:
        """Of what serves, and of what served before it: its last counts must reach a scrape."""
        for slot in self.slots():
            if slot.previous_monitor is not None:
                yield slot.previous_monitor
            if slot.serving is not None:
                yield slot.serving.monitor

    def ready(self) -> bool:
        """Something serves, and nothing that could still come is missing."""
        states = {slot.state for slot in self._slots.values()}
        return "ready" in states and "loading" not in states

    def pick(self, name: str | None, version: int | None, label: str | None, key: bytes) -> LoadedModel:
        """What answers: the model of that name, or the only one; the version or label asked for, or production.

        `key` decides where traffic is split: the same key always comes to the same version. Raises UnknownModel,
        UnknownVersion or NotReady.
        """
        model = self._of_name(name).serving
        if model is None:
            raise NotReady("no model is ready to serve yet; see /readyz")
        if version is not None and version != model.version:
            raise UnknownVersion(f"{model.name}/{version} does not serve; serving: {model.version}")
        return model

    def _of_name(self, name: str | None) -> Slot:
        if name is not None:
            slot = self._slots.get(name)
            if slot is None or slot.wanted is None:
                raise UnknownModel(f"no model {name[:64]!r} serves here; models: {self._names()}")
            return slot
        serving = [slot for slot in self._slots.values() if slot.serving is not None]
        if len(serving) > 1:
            raise UnknownModel(f'several models serve here: say which with "model"; models: {self._names()}')
        if not serving:
            raise NotReady("no model is ready to serve yet; see /readyz")
        return serving[0]

    def _names(self) -> str:
        return ", ".join(slot.name for slot in self.slots() if slot.wanted is not None) or "none"

    async def watch(self) -> None:
        """Look for changes until cancelled. Whatever goes wrong is logged, and looked at again."""
        while True:
            try:
                await self.refresh()
            except OSError as error:
                log.warning("the models folder cannot be read: %s; what serves serves on", error)
            await asyncio.sleep(self._settings.poll_seconds)

    async def refresh(self) -> None:
        """Bring what serves in line with the routing of every model."""
        loop = asyncio.get_running_loop()
        for name, wanted in (await loop.run_in_executor(self._loader, self._wanted)).items():
            slot = self._slots.setdefault(name, Slot(name))
            slot.wanted = wanted
            if wanted is None:
                self._swap(slot, None)
            elif slot.serving is None or slot.serving.manifest.version != wanted:
                await self._try(slot, wanted)
            else:
                slot.refused = slot.refused_state = None  # rolled back to what serves

    def close(self) -> None:
        """Stop loading; let what runs end."""
        self._loader.shutdown(wait=False, cancel_futures=True)

    def _wanted(self) -> dict[str, int | None]:
        """Production by model. A model whose routing cannot be read, or whose folder is gone, is left as it is."""
        wanted = {}
        for name in bundle.names(self._models):
            try:
                wanted[name] = routing.read(self._models, name).production
            except HornpipeError as error:
                log.warning("%s", error)
        return wanted

    async def _try(self, slot: Slot, version: int) -> None:
        """Load a version and swap it in. A refused one is tried again only when its files have changed."""
        loop = asyncio.get_running_loop()
        state = await loop.run_in_executor(self._loader, _state_of, self._models / slot.name / str(version))
        if slot.refused is not None and slot.refused_state == (version, state):
            return
        try:
            model = await loop.run_in_executor(self._loader, load, self._models, slot.name, version, self._settings)
        except (HornpipeError, OSError, ValueError, RuntimeError) as error:
            # The last two are what LiteRT and TensorFlow raise for a file that they cannot read.
            self._refuse(slot, version, state, error)
        else:
            self._swap(slot, model)

    def _refuse(self, slot: Slot, version: int, state: object, error: Exception) -> None:
        serving = f"version {slot.serving.manifest.version} serves on" if slot.serving else "nothing serves"
        log.error("%s/%d is refused: %s; %s", slot.name, version, error, serving)
        slot.refused, slot.refused_state = str(error), (version, state)
        if self._metrics is not None:
            self._metrics.prepare(slot.name, self._route)
            self._metrics.refused(slot.name)

    def _swap(self, slot: Slot, model: LoadedModel | None) -> None:
        old = slot.serving
        slot.refused = slot.refused_state = None
        if model is not None:
            # Counters of a version that comes back go on where they stopped.
            if slot.previous_monitor is not None and slot.previous_monitor.manifest == model.manifest:
                model.monitor = slot.previous_monitor
            if self._metrics is not None:
                self._metrics.prepare(slot.name, self._route)
                self._metrics.swapped(slot.name)
            log.info("%s/%d serves: %s, %s", model.name, model.manifest.version, model.variant, model.why)
            model.warm_up()
        slot.serving = model  # the swap: requests from here on get the new version
        if old is not None:
            slot.previous_monitor = old.monitor


def _state_of(folder: Path) -> object:
    """Changes whenever a file of the folder does."""
    entries = sorted(folder.rglob("*")) if folder.is_dir() else []
    stats = [(entry, entry.lstat()) for entry in entries]
    return [(str(entry), stat.st_mtime_ns, stat.st_size) for entry, stat in stats]
