"""Looks at the clock, at labels and at quality, and asks for jobs; one process does so for all that share the table."""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from contract.errors import HornpipeError
from contract.jobs import Jobs
from contract.trigger import Evidence
from service.labels.labelled import Labelled, LabelsError
from service.processes.leader import Leader
from service.quality.rows import DAY_SECONDS
from service.registry import Registry
from service.retraining import evidence
from service.retraining.asking import Asking, Clock
from service.retraining.ticks import Ticks
from service.retraining.wish import NoWish, UnreadableWish, Wish, wish_of
from service.settings import Settings

log = logging.getLogger("hornpipe.retraining")

# To look takes this share of a processor's time at most, however many labels there are.
MOST_OF_THE_TIME = 0.02


class Retraining:
    """`labelled` is what is logged, if anything is; `jobs` is the job table, beside which the other files lie."""

    def __init__(
        self, registry: Registry, labelled: Labelled | None, settings: Settings, jobs: Path, clock: Clock = time.time
    ) -> None:
        self.asking = Asking(settings.models_dir, jobs, clock)
        self._registry = registry
        self._labelled = labelled
        self._pause = settings.retrain_seconds
        self._window = settings.quality_days * DAY_SECONDS
        self._ticks = jobs.with_name(f"{jobs.name}.schedules.json")
        self._leader = Leader(jobs.with_name(f"{jobs.name}.leader"))
        self._clock = clock
        self._troubles: dict[str, str] = {}

    async def run(self) -> None:
        """Look, unless another process does, until cancelled."""
        while True:
            seconds = await self._try_to_look()
            await asyncio.sleep(max(self._pause, seconds / MOST_OF_THE_TIME))

    def close(self) -> None:
        """Let another process look."""
        self._leader.step_down()

    def look(self, wishes: Sequence[Wish]) -> float:
        """On a thread. Whatever goes wrong with one model is logged, and tried again at the next look. How long it
        took, in seconds of CPU time."""
        began = time.thread_time()
        for wish in wishes:
            try:
                self._look(wish)
                self._troubles.pop(wish.manifest.name, None)
            except (HornpipeError, OSError) as error:
                self._tell(wish.manifest.name, str(error))
            except Exception as error:  # a defect of ours, which is none of the other models'
                log.error("%s: whether to train again is not known", wish.manifest.name, exc_info=error)
        return time.thread_time() - began

    async def _try_to_look(self) -> float:
        try:
            wishes = list(self._wishes())
            if not wishes or not await asyncio.to_thread(self._leader.leads):
                return 0.0
            return await asyncio.to_thread(self.look, wishes)
        except OSError as error:
            self._tell("", str(error))
        except Exception as error:  # a defect of ours; the next look may be luckier
            log.error("whether to train again is not known", exc_info=error)
        return 0.0

    def _wishes(self) -> Iterator[Wish]:
        """Of all models in service."""
        for slot in self._registry.slots():
            try:
                yield wish_of(slot)
            except UnreadableWish as error:
                self._tell(slot.name, str(error))
            except NoWish:
                continue

    def _look(self, wish: Wish) -> None:
        with self.asking.table() as table:
            if wish.retrain.schedule is not None:
                self._by_schedule(wish, table)
            for found in self._of_labels(wish, table):
                self.asking.ask(table, wish, found, found.cause)

    def _by_schedule(self, wish: Wish, table: Jobs) -> None:
        ticks = Ticks(self._ticks)
        found = evidence.by_schedule(wish, ticks, datetime.fromtimestamp(self._clock(), UTC))
        if found is not None and found.since is not None:
            # Asked before it is marked as seen: who dies in between finds the job that is there already.
            self.asking.ask(table, wish, found, found.cause)
            ticks.saw(wish.manifest.name, wish.retrain, found.since)

    def _of_labels(self, wish: Wish, table: Jobs) -> Iterator[Evidence]:
        if wish.retrain.on_labels is None and wish.retrain.on_quality is None:
            return
        if self._labelled is None:
            raise LabelsError("on_labels and on_quality need labels: HORNPIPE_PREDICTIONS_DIR is not set")
        jobs = table.newest(wish.manifest.name)
        found = (
            evidence.by_labels(wish, self._labelled, jobs),
            evidence.by_quality(wish, self._labelled, jobs, self._clock() - self._window),
        )
        yield from (each for each in found if each is not None)

    def _tell(self, model: str, trouble: str) -> None:
        """Once, until it is another one."""
        if self._troubles.get(model) != trouble:
            self._troubles[model] = trouble
            log.warning("%s: whether to train again is not known: %s", model or "all models", trouble)
