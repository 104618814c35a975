"""Looks at the clock, at labels and at quality, and asks for jobs; of the processes that share a table, one does so for
a model."""

import asyncio
import logging
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from contract.errors import HornpipeError
from contract.job import Job
from contract.jobs import Jobs
from contract.trigger import Evidence, learned
from service.labels.labelled import Labelled, LabelsError
from service.processes.leader import Leader
from service.quality.rows import DAY_SECONDS
from service.quality.watch import AGE_SECONDS
from service.registry import Registry
from service.retraining import evidence, ticks
from service.retraining.asking import Asking, Clock
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
        self._folder = jobs.with_name(f"{jobs.name}.triggers")
        self._leaders: dict[str, Leader] = {}
        self._judged: dict[str, tuple[object, list[Evidence]]] = {}
        self._clock = clock
        self._troubles: dict[str, str] = {}

    async def run(self) -> None:
        """Look, unless another process does, until cancelled."""
        while True:
            seconds = await self._try_to_look()
            await asyncio.sleep(max(self._pause, seconds / MOST_OF_THE_TIME))

    def close(self) -> None:
        """Let another process look."""
        self.lead(())

    def lead(self, wishes: Sequence[Wish]) -> list[Wish]:
        """Those that no other process looks after: services of other models share the table too. Raises OSError."""
        wanted = {wish.manifest.name: wish for wish in wishes}
        for name in self._leaders.keys() - wanted.keys():
            self._leaders.pop(name).step_down()
        for name in wanted.keys() - self._leaders.keys():
            self._leaders[name] = Leader(self._folder / f"{name}.lock")
        return [wish for name, wish in wanted.items() if self._leaders[name].leads()]

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
            mine = await asyncio.to_thread(self.lead, wishes)
            return await asyncio.to_thread(self.look, mine) if mine else 0.0
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
        path, now = self._folder / f"{wish.manifest.name}.json", datetime.fromtimestamp(self._clock(), UTC)
        self._folder.mkdir(mode=0o700, exist_ok=True)
        found = evidence.by_schedule(wish, ticks.until(path, wish.retrain, now), now)
        if found is not None:
            # Asked before it is marked as seen: who dies in between finds the job that is there already.
            self.asking.ask(table, wish, found, found.cause)
            ticks.saw(path, wish.retrain, now)

    def _of_labels(self, wish: Wish, table: Jobs) -> list[Evidence]:
        """Found anew where a label or a job has come, and when predictions have grown older. Raises LabelsError."""
        if wish.retrain.on_labels is None and wish.retrain.on_quality is None:
            return []
        if self._labelled is None:
            raise LabelsError("on_labels and on_quality need labels: HORNPIPE_PREDICTIONS_DIR is not set")
        name, jobs, now = wish.manifest.name, table.newest(wish.manifest.name), self._clock()
        state = wish.manifest.version, wish.retrain, learned(jobs), self._labelled.changes(), now // AGE_SECONDS
        if self._judged.get(name, (None,))[0] != state:
            self._judged[name] = state, self._found(wish, self._labelled, jobs, now)
        return self._judged[name][1]

    def _found(self, wish: Wish, labelled: Labelled, jobs: Sequence[Job], now: float) -> list[Evidence]:
        found = (
            evidence.by_labels(wish, labelled, jobs),
            evidence.by_quality(wish, labelled, jobs, now - self._window),
        )
        return [each for each in found if each is not None]

    def _tell(self, model: str, trouble: str) -> None:
        """Once, until it is another one."""
        if self._troubles.get(model) != trouble:
            self._troubles[model] = trouble
            log.warning("%s: whether to train again is not known: %s", model or "all models", trouble)
