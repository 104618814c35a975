"""Which models are in service: watches the models folder, and lets versions come and go as it says.

One thread looks at the folder, one loads (versions/loader.py); what requests read changes only on the event loop, in
one step (versions/slot.py).
"""

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from contract import bundle, routing
from contract.errors import HornpipeError
from contract.routing import Role, Routing
from service.errors import LoadRefused, NotReady, UnknownModel, UnknownVersion
from service.metrics import Metrics
from service.monitor import Monitor
from service.settings import Settings
from service.versions.folder import Folder, Look
from service.versions.loaded import LoadedModel
from service.versions.loader import Loader
from service.versions.slot import Slot, State

log = logging.getLogger("hornpipe.registry")

# A model whose folder is seen to be gone so often, while others are there, has been removed on purpose.
LOOKS_UNTIL_REMOVED = 20

# The full reason names paths of this machine: it is in the log.
REFUSED = "this version did not load or prove itself; see the service's log"


@dataclass(frozen=True)
class IndexEntry:
    """A line of a model repository's index. `version` is None for a model of which nothing is to be loaded; `reason`
    says why it is not ready, or nothing."""

    name: str
    version: int | None
    state: State
    reason: str
    roles: tuple[Role, ...] = ()


class Registry:
    """Every model of the models folder, or those that are listed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._models = settings.models_dir
        self._folder = Folder(settings.models_dir, settings.models or None)
        self._slots: dict[str, Slot] = {}
        self._gone: dict[str, int] = {}  # looks in which a model was not there
        self._away = False
        self._looker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="looker")
        self._loader = Loader(settings, self._slots, self._took, self._refused)
        self._changed = asyncio.Event()
        self._metrics: Metrics | None = None

    def attach(self, metrics: Metrics) -> None:
        """Where to count swaps and refusals. Metrics read this registry in turn, so one of them comes second."""
        self._metrics = metrics

    # Who serves

    def slots(self) -> list[Slot]:
        return [self._slots[name] for name in sorted(self._slots)]

    def slot(self, name: str) -> Slot:
        """Raises UnknownModel."""
        found = self._slots.get(name)
        if found is None:
            raise UnknownModel(f"no model {name[:64]!r} serves here; models: {self._names()}")
        return found

    def serving(self) -> Iterator[LoadedModel]:
        """The production version of each model, in no order."""
        return (slot.serving for slot in self._slots.values() if slot.serving is not None)

    def loaded(self) -> Iterator[LoadedModel]:
        """Every version that is loaded; its roles say what for."""
        return (model for slot in self.slots() for model in slot.loaded.values())

    def monitors(self) -> Iterator[Monitor]:
        """Of what is loaded, and of what has left: its last counts must reach a scrape."""
        return (monitor for slot in self.slots() for monitor in slot.monitors())

    def index(self) -> list[IndexEntry]:
        """Every version that is loaded or is to be, and models of which none is."""
        return [entry for slot in self.slots() for entry in _entries(slot)]

    def ready(self, name: str | None = None, version: int | None = None, label: str | None = None) -> bool:
        """Something serves, and nothing that could still come is missing; or, of one model, that it answers.

        Raises UnknownModel, UnknownVersion or UnknownLabel.
        """
        if name is None:
            states = {slot.state for slot in self._slots.values()}
            return "ready" in states and "loading" not in states
        try:
            self.pick(name, version, label, b"")
        except NotReady:
            return False
        return True

    def pick(self, name: str | None, version: int | None, label: str | None, key: bytes) -> LoadedModel:
        """What answers: the model of that name, or the only one; the version or label asked for, or production.

        `key` decides where traffic is split: the same key always comes to the same version. Raises UnknownModel,
        UnknownVersion, UnknownLabel or NotReady.
        """
        slot = self.slot(name) if name is not None else self._only()
        return slot.pick(version, label, key)

    def _only(self) -> Slot:
        serving = [slot for slot in self._slots.values() if slot.serving is not None]
        if len(serving) > 1:
            raise UnknownModel(f'several models serve here: say which with "model"; models: {self._names()}')
        if not serving:
            raise NotReady("no model is ready to serve yet; see /readyz")
        return serving[0]

    def _names(self) -> str:
        return ", ".join(slot.name for slot in self.slots() if slot.routing.roles()) or "none"

    # Asked for by an administrator

    async def load(self, name: str, version: int | None = None) -> LoadedModel:
        """Have a model loaded again that was unloaded, or a version of it beside production, as `hornpipe load` and
        `hornpipe pin` would; returns when it serves.

        Raises UnknownModel, UnknownVersion, or LoadRefused when it does not load or the folder cannot be written.
        """
        await self.look()
        slot = self.slot(name)
        if slot.routing.unloaded:
            await self._write(partial(routing.load, self._models, name))
        if version is not None and version not in slot.routing.roles():
            if version not in await asyncio.to_thread(bundle.versions, self._models, name):
                raise UnknownVersion(f"{name} has no version {version}")
            await self._write(partial(routing.pin, self._models, name, version))
        version = version if version is not None else slot.wanted
        if version is None:
            raise UnknownVersion(f"{name} has no production version; say which")
        slot.refusals.pop(version, None)
        self._loader.look()
        while version in slot.missing() and version not in slot.refusals:
            self._changed.clear()
            await self._changed.wait()
        if version not in slot.loaded:
            raise LoadRefused(f"{name}/{version}: {REFUSED}")
        return slot.loaded[version]

    async def unload(self, name: str) -> None:
        """Let nothing of a model serve, until it is loaded again: here and wherever this folder is served.

        Raises UnknownModel, or LoadRefused when the folder cannot be written.
        """
        self.slot(name)
        await self._write(partial(routing.unload, self._models, name))

    async def _write(self, change: Callable[..., Routing]) -> None:
        """Change the routing, and follow it."""
        try:
            await asyncio.to_thread(change, by="api", why="asked for over the network")
        except (HornpipeError, OSError) as error:
            log.error("the routing is not changed: %s", error)
            raise LoadRefused("the routing cannot be changed; see the service's log") from error
        await self.look()

    # Following the folder

    async def watch(self) -> None:
        """Look for changes and load what is due, until cancelled. Whatever goes wrong is logged, and tried again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._loader.run())
            while True:
                await self.look()
                await asyncio.sleep(self._settings.poll_seconds)

    async def look(self) -> None:
        """Take in what the folder says now; when it cannot be read, what serves serves on."""
        refused = [(slot.name, version) for slot in self._slots.values() for version in slot.refusals]
        try:
            seen = await asyncio.get_running_loop().run_in_executor(self._looker, self._folder.look, refused)
        except OSError as error:
            if not self._away:
                log.warning("the models folder cannot be read: %s; what serves serves on", error)
            self._away = True
            return
        self._away = False
        self._take_in(seen)
        self._loader.look()
        self._changed.set()

    def close(self) -> None:
        """Stop looking and loading; let what runs end, and give the memory of everything back."""
        self._looker.shutdown(wait=False, cancel_futures=True)
        for slot in self._slots.values():
            slot.clear()
        self._loader.close()

    def _take_in(self, seen: Look) -> None:
        for name, found in seen.routings.items():
            self._gone.pop(name, None)
            slot = self._slots.setdefault(name, Slot(name))
            if not isinstance(found, Routing):
                slot.unreadable = found
            elif slot.follow(found):
                self._swapped(slot)
        for (name, version), stamp in seen.stamps.items():
            if name in self._slots and version in self._slots[name].refusals:
                self._slots[name].refusals[version].look(stamp)
        for name in self._slots.keys() - seen.routings.keys():
            self._miss(name, others_are_there=bool(seen.routings))

    def _miss(self, name: str, *, others_are_there: bool) -> None:
        """A model's folder is not there. When no folder is, it is the storage that is away."""
        self._gone[name] = self._gone.get(name, 0) + others_are_there
        if self._gone[name] >= LOOKS_UNTIL_REMOVED or not self._slots[name].loaded:
            log.warning("%s is gone from the models folder, and serves no more", name)
            self._slots.pop(name).clear()
            del self._gone[name]

    def _took(self, slot: Slot, model: LoadedModel) -> None:
        """A version has loaded: it comes into service with this."""
        if self._metrics is not None:
            self._metrics.prepare(slot.name)
            self._metrics.enrol(model)
        if slot.put(model):
            self._swapped(slot)
        self._changed.set()

    def _swapped(self, slot: Slot) -> None:
        assert slot.serving is not None  # noqa: S101  # for the type checker: a swap is to something
        log.info("%s/%d serves", slot.name, slot.serving.version)
        if self._metrics is not None:
            self._metrics.swapped(slot.name)

    def _refused(self, slot: Slot) -> None:
        if self._metrics is not None:
            self._metrics.prepare(slot.name)
            self._metrics.refused(slot.name)
        self._changed.set()


def _entries(slot: Slot) -> list[IndexEntry]:
    versions = slot.versions()
    if not versions:
        return [IndexEntry(slot.name, None, slot.state, f"{slot.name} is {slot.state}")]
    reasons = {"ready": "", "loading": "it is being loaded", "refused": REFUSED}
    return [IndexEntry(slot.name, each.version, each.state, reasons[each.state], each.roles) for each in versions]
