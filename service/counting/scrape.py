"""Adding up what all workers of the service have counted, whichever of them is asked."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from service.counting import process
from service.counting.counters import Layout
from service.counting.exposition import ModelText, Page, VersionText
from service.counting.gpu import Gpus
from service.counting.instruments import MODEL_INFO, NO_MODEL, QUEUE_ROWS, RESTARTS, RUNTIME_MEMORY, WORKERS
from service.counting.ledger import LOADED, PROCESS, QUEUED, STATE, VARIANT, Block, Counts, Ledger, Sums
from service.counting.store import Found, Key, Store
from service.counting.watch import Watch
from service.monitor import noted_in

log = logging.getLogger("hornpipe.metrics")

Fill = Callable[[Page], None]


class Scrape:
    """Reads the blocks of a store. `of_model` and `of_none` are the layouts of requests with and without a model."""

    def __init__(self, store: Store, of_model: Layout, of_none: Layout, gpus: Gpus | None = None) -> None:
        self._store = store
        self._gpus = gpus
        self._of_model = of_model, ModelText(of_model)
        self._of_none = of_none, ModelText(of_none)
        self._versions: dict[Key, VersionText] = {}

    async def text(self, watches: Mapping[Key, Watch], shown: Iterable[Fill] = ()) -> str:
        """All samples, and what is `shown` besides; of versions that are not among `watches` the manifests are read.

        The event loop may take other turns between models, so that nobody waits for all of them.
        """
        page, found, life = Page(), defaultdict(list), self._store.life()
        for each in self._store.found():
            found[each.key].append(each)
        self._versions = {key: text for key, text in self._versions.items() if key in found}
        for key in sorted(found):
            if key.kind == "model":
                self._add_model(page, key.model, found[key])
            else:
                self._add_version(page, key, found[key], watches.get(key))
            await asyncio.sleep(0)
        page.sample(WORKERS, (), life.workers)
        page.sample(RESTARTS, (), life.restarts)
        for reading in await self._gpus.readings() if self._gpus is not None else ():
            page.sample(*reading)
        for fill in shown:
            fill(page)
        return page.text() + process.text(life.processes, life.supervisor)

    def _add_model(self, page: Page, model: str, found: list[Found]) -> None:
        layout, text = self._of_none if model == NO_MODEL else self._of_model
        total = model_total(found, layout, shared=self._store.shared)
        if total is not None:
            text.fill(page, model, *total)
            if model != NO_MODEL:
                page.sample(QUEUE_ROWS, (model,), sum(int(each.state[QUEUED]) for each in found if each.alive))

    def _add_version(self, page: Page, key: Key, found: list[Found], watch: Watch | None) -> None:
        if not any(each.state[STATE] for each in found):
            return
        text = self._versions.get(key) or self._text_of(key, watch)
        if text is None:
            return
        self._versions[key] = text
        watch = text.watch
        total = version_total(found, watch, shared=self._store.shared)
        if total is not None:
            text.fill(page, *total)
        manifest = watch.manifest
        runtimes = [int(each.state[PROCESS]) for each in found if each.alive and each.state[PROCESS]]
        if runtimes:
            used = sum(each.resident for each in map(process.usage, runtimes) if each is not None)
            page.sample(RUNTIME_MEMORY, (manifest.name, str(manifest.version)), used)
        for number in sorted(
            {int(each.state[VARIANT]) for each in found if each.alive and each.state[STATE] == LOADED}
        ):
            variant = manifest.variants[number]
            labels = (manifest.name, str(manifest.version), variant.runtime, variant.name, key.sha256)
            page.sample(MODEL_INFO, labels, 1)

    def _text_of(self, key: Key, watch: Watch | None) -> VersionText | None:
        try:
            return VersionText(watch or Watch.of_text(self._store.text(key)))
        except (OSError, ValueError) as error:
            # It has been retired since it was found; or another release has written it, and its blocks fit as little.
            log.debug("the counts of %s are left out: %s", key, error)
            return None


def model_total(found: Iterable[Found], layout: Layout, *, shared: bool) -> tuple[Counts, Sums] | None:
    """What all workers have counted of a model's requests; None when it has not begun."""
    blocks = _blocks(found, layout.type, layout.digest)
    return _total(layout.read(Ledger(block, shared=shared)) for block in blocks) if blocks else None


def version_total(found: Iterable[Found], watch: Watch, *, shared: bool) -> tuple[Counts, Sums] | None:
    """What all workers have counted of a version; None when it has not begun."""
    ledgers = [(Ledger(each, shared=shared), noted_in(each)) for each in _blocks(found, watch.type, watch.digest)]
    return _total(watch.read(*each) for each in ledgers) if ledgers else None


def _blocks(found: Iterable[Found], layout: np.dtype[np.void], digest: int) -> list[Block]:
    return [block for each in found if (block := each.block(layout, digest)) is not None]


def _total(read: Iterable[tuple[Counts, Sums]]) -> tuple[Counts, Sums]:
    counts, sums = zip(*read, strict=True)
    total: Counts = np.sum(counts, axis=0)
    return total, np.sum(sums, axis=0)
