"""Asks for a job where that is decided, and writes every decision into the model's history."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from contract import bundle, routing
from contract.errors import RoutingError
from contract.job import Cause, Job
from contract.jobs import Jobs, OpenJob
from contract.trigger import Evidence, decide
from service.retraining.wish import Wish

log = logging.getLogger("hornpipe.retraining")

# More than are asked for in a day by anybody who means well.
MOST_JOBS = 500

Clock = Callable[[], float]
# Of a history: when it was changed and how long it is. None where that cannot be seen.
Stamp = tuple[int, int] | None


class Outcome(NamedTuple):
    """What was decided, in the words of the history; `job` is what was asked for."""

    why: str
    job: Job | None


class Asking:
    """For any thread, and in any process: the job table sees to it that a model has one open job."""

    def __init__(self, models: Path, jobs: Path, clock: Clock = time.time) -> None:
        self._models = models
        self._jobs = jobs
        self._clock = clock
        self._said: dict[tuple[str, Cause], tuple[Outcome, Stamp]] = {}
        self._unwritten: set[str] = set()

    @contextmanager
    def table(self) -> Iterator[Jobs]:
        """The job table, for one thread. Raises JobError."""
        with closing(Jobs(self._jobs, self._clock)) as table:
            yield table

    def ask(self, table: Jobs, wish: Wish, evidence: Evidence, asked_by: str) -> Outcome:
        """Decide, and do as was decided. Raises JobError, and then nothing was decided."""
        outcome = self._decided(table, wish, evidence, asked_by)
        name, cause = wish.manifest.name, evidence.cause
        if self._said.get((name, cause)) != (outcome, self._stamp(name)):
            self._note(name, cause, outcome)
            self._said[name, cause] = outcome, self._stamp(name)
        return outcome

    def _decided(self, table: Jobs, wish: Wish, evidence: Evidence, asked_by: str) -> Outcome:
        name, now = wish.manifest.name, datetime.fromtimestamp(self._clock(), UTC)
        decision = decide(wish.retrain, table.newest(name, most=MOST_JOBS), now, evidence)
        if not decision.asks:
            return Outcome(f"{decision.why}, though {evidence.what}", None)
        not_before = None if decision.not_before is None else decision.not_before.timestamp()
        try:
            job = table.ask(wish.order(evidence, asked_by), not_before)
        except OpenJob as error:  # somebody was faster
            return Outcome(f"job {error.job} is {table.get(error.job).state}, though {evidence.what}", None)
        return Outcome("; ".join(filter(None, (f"job {job.id}: {evidence.why}", decision.why))), job)

    def _note(self, name: str, cause: Cause, outcome: Outcome) -> None:
        """The job is queued already: a history that cannot be written holds up nothing."""
        asked = outcome.job is not None
        try:
            new = _write(self._models, name, "asked" if asked else "not_asked", cause, outcome.why)
        except (OSError, RoutingError) as error:
            new = self._said.get((name, cause), (None,))[0] != outcome
            if name not in self._unwritten:
                log.warning("what is decided about training %s again is not in its history: %s", name, error)
            self._unwritten.add(name)
        if new:
            log.info("%s: %s job is asked for (%s): %s", name, "a" if asked else "no", cause, outcome.why)

    def _stamp(self, name: str) -> Stamp:
        try:
            facts = (self._models / name / routing.HISTORY).stat()
        except OSError:
            return None
        return facts.st_mtime_ns, facts.st_size


def _write(models: Path, name: str, action: routing.Action, cause: Cause, why: str) -> bool:
    """A line in the history, unless it is what this cause has led to last: another process may have written it. Whether
    it was written."""
    with bundle.locked(models / name):
        events = reversed(routing.history(models, name))
        last = next((each for each in events if each.by == cause and each.action in routing.DECISIONS), None)
        if last is not None and (last.action, last.why) == (action, why):
            return False
        routing.note(models, name, action, None, cause, why)
        return True
