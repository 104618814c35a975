"""Which versions are in service: watches routing, loads and proves beside the old one, swaps in one assignment.

Everything slow happens on one loader thread; what requests read changes only on the event loop.
"""

import asyncio
import hashlib
import logging
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Literal, TypeVar, TypeVarTuple

from contract import bundle, proof, routing, runtimes
from contract.bundle import Bundle
from contract.errors import HornpipeError
from contract.features import Encoded, Encoder
from contract.manifest import Manifest, Variant
from contract.runtimes import Outputs, Runtime
from service.errors import UnknownModel
from service.metrics import Metrics
from service.monitor import Monitor
from service.settings import Settings

log = logging.getLogger("hornpipe.registry")

INLINE_MICROSECONDS = 50.0

# A small file may hold a large picture: a request unpacks to a quarter of a gigabyte at most.
MOST_PICTURE_VALUES = 2**26

# Outputs, and when the run began in perf_counter's seconds.
Run = tuple[Outputs, float]

Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")

State = Literal["loading", "ready", "refused", "idle"]


class LoadedModel:
    """One version, proven and warm."""

    def __init__(self, loaded: Bundle, variant: Variant, why: str, runtime: Runtime, settings: Settings) -> None:
        self.bundle = loaded
        self.manifest: Manifest = loaded.manifest
        self.why = why
        self.encoder = Encoder(loaded.manifest.features)
        self.monitor = Monitor(loaded.manifest, self.encoder)
        self.sha256 = hashlib.sha256((loaded.path / bundle.MANIFEST).read_bytes()).hexdigest()
        self.rows_running = 0
        self._variant = variant
        self._runtime = runtime
        self._device = settings.device
        self._inline_rows = _inline_rows(variant)
        # Reading pictures takes milliseconds each; other rows take microseconds.
        self.encodes_inline = self.encoder.image_feature is None
        self.most_rows = min(settings.max_rows, _most_pictures(self.encoder))
        self._threads = ThreadPoolExecutor(max_workers=os.cpu_count() or 1, thread_name_prefix=f"run-{variant.name}")
        self._of_thread = threading.local()

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> int:
        return self.manifest.version

    @property
    def runtime(self) -> str:
        return self._variant.runtime

    @property
    def variant(self) -> str:
        return self._variant.name

    def runs_inline(self, rows: int) -> bool:
        """Whether so many rows take less time than a hop to a thread and back."""
        return rows <= self._inline_rows

    def run(self, encoded: Encoded) -> Run:
        """Run on the event loop's own interpreter."""
        running = perf_counter()
        return self._runtime.run(encoded), running

    def run_on_thread(self, encoded: Encoded) -> "asyncio.Future[Run]":
        """Run on a runtime thread; the event loop goes on meanwhile."""
        return self.on_thread(self._run_here, encoded)

    def on_thread(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> "asyncio.Future[T]":
        """Call on a thread of this model's; the event loop goes on meanwhile."""
        return asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def retire(self) -> None:
        """Let what is running end; the rest is freed with the last reference."""
        self._threads.shutdown(wait=False)

    def _run_here(self, encoded: Encoded) -> Run:
        running = perf_counter()
        return self._runtime_of_thread().run(encoded), running

    def _runtime_of_thread(self) -> Runtime:
        if self._runtime.thread_safe:
            return self._runtime
        if not hasattr(self._of_thread, "runtime"):
            self._of_thread.runtime = runtimes.load(self.bundle, self._variant, self._device)
        runtime: Runtime = self._of_thread.runtime
        return runtime


def _most_pictures(encoder: Encoder) -> int:
    """How many rows may be in one request."""
    if encoder.image_feature is None:
        return sys.maxsize
    return max(1, MOST_PICTURE_VALUES // math.prod(encoder.image_feature.shape))


def _inline_rows(variant: Variant) -> int:
    """How many rows run within `INLINE_MICROSECONDS`, by the latencies measured at 1 and 32 rows."""
    one, many = variant.latency["1"].p50, variant.latency["32"].p50
    if one > INLINE_MICROSECONDS:
        return 0
    return 1 + int((INLINE_MICROSECONDS - one) / max((many - one) / 31, 1e-3))


def load(path: Path, name: str, version: int, settings: Settings) -> LoadedModel:
    """Read, verify, choose, load and prove one version. Raises BundleError or RuntimeUnavailable."""
    loaded = bundle.read_version(path, name, version)
    bundle.verify(loaded)
    variant, why = runtimes.choose(loaded.manifest, settings.runtime, settings.device)
    runtime = runtimes.load(loaded, variant, settings.device)
    proof.prove(loaded, variant, runtime)
    return LoadedModel(loaded, variant, why, runtime, settings)


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

    def get(self, name: str | None) -> LoadedModel | None:
        """The model of that name, or the only one; None while nothing serves. Raises UnknownModel."""
        if name is not None:
            slot = self._slots.get(name)
            if slot is None or slot.wanted is None:
                raise UnknownModel(f"no model {name[:64]!r} serves here; models: {self._names()}")
            return slot.serving
        serving = [slot.serving for slot in self._slots.values() if slot.serving is not None]
        if len(serving) > 1:
            raise UnknownModel(f'several models serve here: say which with "model"; models: {self._names()}')
        return serving[0] if serving else None

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
        for model in self.serving():
            model.retire()

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
        slot.serving = model  # the swap: requests from here on get the new version
        if old is not None:
            slot.previous_monitor = old.monitor
            old.retire()


def _state_of(folder: Path) -> object:
    """Changes whenever a file of the folder does."""
    entries = sorted(folder.rglob("*")) if folder.is_dir() else []
    stats = [(entry, entry.lstat()) for entry in entries]
    return [(str(entry), stat.st_mtime_ns, stat.st_size) for entry, stat in stats]
