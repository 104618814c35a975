"""Retraining jobs as samples of /metrics: computed from the job table, so that counters go on where they were."""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice, pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from cronsim import CronSim
from pydantic import ValidationError

from contract.job import OPEN, REFUSALS, STATES
from contract.job_totals import Outcome, Totals, read
from contract.jobs import JobError
from contract.retrain import Retrain
from service.counting.board import Board, Sample
from service.counting.instruments import (
    JOB_AGE,
    JOB_ATTEMPTS,
    JOB_IN_A_ROW,
    JOB_QUEUED,
    JOB_RUNNING,
    JOB_SCHEDULE,
    JOB_SECONDS,
    JOB_SUCCESS,
    JOBS,
    JOBS_ENDED,
    JOBS_TIME,
)
from service.processes.leader import Leader
from service.registry import Registry

log = logging.getLogger("hornpipe.jobs")

LOCK, BOARD = "jobs.lock", "jobs.json"
LOOK_SECONDS = 2.0
# Names come from whoever may ask for jobs. Of more models the ones that were busy last are shown.
MOST_MODELS = 64
ENDED = tuple(state for state in STATES if state not in OPEN)
# A schedule's longest pause is looked for among so many of its next times, and in as much time to come: of one for
# office hours that is a weekend, of one for nights of summer the winter.
MOST_TIMES = 2000
FAR_SECONDS = 400 * 86400.0

Config = Mapping[str, Any]


class JobWatch:
    """Reads the table now and then, on a thread; one worker does so for all. `folder` is where all have files, if there
    are several. While the table cannot be read, what it said last stays, with the time of it."""

    def __init__(self, path: Path, registry: Registry, folder: Path | None) -> None:
        self.board = Board(folder, BOARD, JOBS_TIME)
        self._path = path
        self._registry = registry
        self._leader = None if folder is None else Leader(folder / LOCK)
        self._pauses: dict[str, tuple[object, float | None]] = {}
        self._unreadable = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if self._leader is None or self._leader.leads():
                await self._try_to_read()
            await asyncio.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """Let another worker read."""
        if self._leader is not None:
            self._leader.step_down()

    async def _try_to_read(self) -> None:
        configs = {model.manifest.name: model.manifest.config for model in self._registry.serving()}
        try:
            await asyncio.to_thread(self._read, configs)
            self._unreadable = False
        except (JobError, OSError) as error:
            if not self._unreadable:
                log.warning("what /metrics says of jobs stays as it was: %s", error)
            self._unreadable = True
        except Exception as error:  # a defect of ours; what was read before stays
            log.error("jobs could not be counted", exc_info=error)

    def _read(self, configs: Mapping[str, Config]) -> None:
        """On a thread. Raises JobError, OSError. The time is of before: what is written from then on may be missing."""
        now, totals = time.time(), read(self._path)
        self.board.write(now, [*samples(totals, now), *self._schedules(configs, now)])

    def _schedules(self, configs: Mapping[str, Config], now: float) -> Iterator[Sample]:
        """Of what serves; each is worked out once."""
        for name in sorted(configs):
            section = configs[name].get("retrain")
            if self._pauses.get(name, (None, None))[0] != section:
                self._pauses[name] = section, longest_pause(section, now)
            pause = self._pauses.get(name, (None, None))[1]
            if pause is not None:
                yield Sample(JOB_SCHEDULE.name, (name,), pause)


def samples(totals: Totals, now: float) -> Iterator[Sample]:
    """Of the whole table, then by model; ages as of `now`, in seconds since 1970."""
    for state in OPEN:
        yield Sample(JOBS.name, (state,), sum(job.state == state for job in totals.open))
    waiting = [now - job.since for job in totals.open if job.state == "queued"]
    yield Sample(JOB_QUEUED.name, (), max(0.0, *waiting, 0.0))
    shown = busiest(totals)
    for job in totals.open:
        if job.state == "running" and job.model in shown:
            yield Sample(JOB_RUNNING.name, (job.model,), max(0.0, now - job.since))
            yield Sample(JOB_AGE.name, (job.model,), max(0.0, now - (job.progress_at or job.since)))
    ended = {(each.model, each.state): each for each in totals.ended}
    for model in shown:
        for state in ENDED:
            yield from _ended(ended.get((model, state)) or Outcome(model, state, 0, 0, 0.0, 0.0, 0))


def busiest(totals: Totals) -> Sequence[str]:
    """The models with an open job, then by when their last one ended; in the order of their names."""
    seen = {each.model: each.last for each in sorted(totals.ended, key=lambda each: each.last)}
    seen |= dict.fromkeys((job.model for job in totals.open), float("inf"))
    return sorted(sorted(seen, key=lambda model: (-seen[model], model))[:MOST_MODELS])


def longest_pause(section: object, now: float) -> float | None:
    """Seconds between two times of a `[retrain]` section's schedule, where they are farthest apart; None where nothing
    is scheduled."""
    try:
        retrain = Retrain.model_validate(section)
    except ValidationError:  # of no section, and of one of another Hornpipe
        return None
    if retrain.schedule is None:
        return None
    times: list[float] = []
    for each in islice(CronSim(retrain.schedule, datetime.fromtimestamp(now, ZoneInfo(retrain.timezone))), MOST_TIMES):
        times.append(each.timestamp())
        if len(times) > 1 and times[-1] > now + FAR_SECONDS:
            break
    return max((after - before for before, after in pairwise(times)), default=None)


def _ended(outcome: Outcome) -> Iterator[Sample]:
    of = outcome.model, outcome.state
    yield Sample(JOBS_ENDED.name, of, outcome.jobs)
    yield Sample(JOB_SECONDS.name, of, outcome.seconds)
    yield Sample(JOB_ATTEMPTS.name, of, outcome.attempts)
    if outcome.state != "cancelled":
        for refusal in REFUSALS if outcome.state == "refused" else (None,):
            yield Sample(JOB_IN_A_ROW.name, (*of, refusal or ""), outcome.in_a_row * (refusal == outcome.refusal))
    if outcome.state == "succeeded" and outcome.jobs:
        yield Sample(JOB_SUCCESS.name, (outcome.model,), outcome.last)
