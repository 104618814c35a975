"""Looks after canaries: every second at each model that has one. The process that holds the lock in the model's folder
acts; every other one counts, and can say how it stands.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from contract import pruning, routing
from contract.errors import HornpipeError
from contract.routing import Canary, Event
from service.canary.decision import GoBack, GoOn, Stay, Trial, trial
from service.canary.report import CanaryReport
from service.canary.watched import Watched
from service.counting.exposition import Page
from service.counting.instruments import (
    CANARY_CERTAIN,
    CANARY_MARGIN,
    CANARY_PERCENT,
    CANARY_REQUESTS,
    CanaryDecision,
)
from service.labels.labelled import Labelled as Log
from service.metrics import Metrics
from service.registry import Registry
from service.versions.slot import Slot

log = logging.getLogger("hornpipe.canary")

LOOK_SECONDS = 1.0
BY = "canary watch"


class CanaryWatch:
    """The canaries of all models of one process."""

    def __init__(
        self,
        registry: Registry,
        metrics: Metrics,
        models: Path,
        labels: Log | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry, self._metrics = registry, metrics
        self._models, self._labels, self._clock = models, labels, clock
        self._watched: dict[str, Watched] = {}
        self._histories: dict[str, tuple[tuple[int, int], list[Event]]] = {}
        self.reports: dict[str, CanaryReport] = {}

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """At every model once. Whatever goes wrong with one is logged, and tried again."""
        slots = {slot.name: slot for slot in self._registry.slots()}
        for name in self._watched.keys() - slots.keys():
            await self._end(name)
        for slot in slots.values():
            if slot.routing.canary is None and slot.name not in self._watched:
                continue
            try:
                await self._look(slot)
            except (HornpipeError, OSError, ValueError) as error:
                log.warning("the canary of %s could not be looked at: %s", slot.name, error)
            except Exception as error:  # a defect of ours; the version serves on with the share that it has
                log.error("the canary of %s could not be looked at", slot.name, exc_info=error)

    async def close(self) -> None:
        """Let another process act. What was counted is written down, but for what has come since the last look."""
        for name in list(self._watched):
            await self._end(name)

    def fill(self, page: Page) -> None:
        """Add how canaries stand to a scrape, as this process knows it."""
        for name, report in self.reports.items():
            page.sample(CANARY_PERCENT, (name, str(report.version)), report.percent)
            for side, requests, failed in (
                ("production", report.production_requests, report.production_failed),
                ("canary", report.requests, report.failed),
            ):
                page.sample(CANARY_REQUESTS, (name, side, "ok"), requests - failed)
                page.sample(CANARY_REQUESTS, (name, side, "failed"), failed)
            for measure in report.measures:
                page.sample(CANARY_MARGIN, (name, measure.name), measure.margin)
                if measure.certain is not None:
                    page.sample(CANARY_CERTAIN, (name, measure.name), measure.certain)

    async def _look(self, slot: Slot) -> None:
        watched = await self._begun(slot)
        if watched is None:
            return
        watched.count(slot)
        refusal = slot.refusals.get(watched.trial.canary.version)
        now = datetime.fromtimestamp(self._clock(), UTC)
        refused = refusal.why if refusal is not None else None
        decision, self.reports[slot.name] = await asyncio.to_thread(watched.examine, refused, now)
        if watched.acts and watched.trial.canary.watched and not isinstance(decision, Stay):
            await self._act(slot, watched, decision)

    async def _begun(self, slot: Slot) -> Watched | None:
        """The trial that the routing and the history say; what was before has ended."""
        wanted = await asyncio.to_thread(self._trial, slot)
        watched = self._watched.get(slot.name)
        if watched is not None and (wanted is None or wanted.key != watched.trial.key):
            await self._end(slot.name)
            watched = None
        if wanted is None:
            return None
        if watched is None:
            watched = await asyncio.to_thread(Watched, wanted, self._models, self._labels)
            self._watched[slot.name] = watched
        elif wanted != watched.trial:
            watched.count(slot)  # what has come belongs to the step before
            watched.trial = wanted
        return watched

    def _trial(self, slot: Slot) -> Trial | None:
        canary, production = slot.routing.canary, slot.routing.production
        if canary is None or production is None or slot.routing.unloaded:
            return None
        return trial(slot.name, production, canary, self._history(slot.name))

    def _history(self, name: str) -> list[Event]:
        facts = (self._models / name / routing.HISTORY).stat()
        stamp = facts.st_mtime_ns, facts.st_size
        if name not in self._histories or self._histories[name][0] != stamp:
            self._histories[name] = stamp, routing.history(self._models, name)
        return self._histories[name][1]

    async def _act(self, slot: Slot, watched: Watched, decision: GoOn | GoBack) -> None:
        done = await asyncio.to_thread(_act, self._models, slot.name, watched.trial.canary, decision)
        self._metrics.canary_decided(slot.name, done)
        log.info("%s/%d: %s: %s", slot.name, watched.trial.canary.version, done.replace("_", " "), decision.why)
        await self._registry.look()

    async def _end(self, name: str) -> None:
        watched = self._watched.pop(name)
        watched.stop()
        self.reports.pop(name, None)
        await asyncio.to_thread(watched.close)


def _act(models: Path, name: str, canary: Canary, decision: GoOn | GoBack) -> CanaryDecision:
    """Raises RoutingError where somebody was faster, BundleError, or OSError."""
    if isinstance(decision, GoBack):
        routing.give_up(models, name, canary, by=BY, why=decision.why)
        return "rolled_back"
    routing.go_on(models, name, canary, decision.percent, by=BY, why=decision.why)
    if decision.percent is not None:
        return "stepped_up"
    pruning.keep_by_policy(models, name, by=BY)
    return "promoted"
