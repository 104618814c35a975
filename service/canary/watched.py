"""One canary, as one process has it: what it has counted, what all have, and what follows."""

import logging
import time
from datetime import datetime
from pathlib import Path

from contract import bundle
from contract.errors import HornpipeError
from contract.evidence import Difference
from contract.promotion import Promotion, promotion_of
from service.canary import quality
from service.canary.counting import Counting
from service.canary.decision import Decision, GoBack, Stay, Trial, decide
from service.canary.evidence import Evidence, Side, total
from service.canary.files import Shelf
from service.canary.measures import Labelled, Measure, measures
from service.canary.report import CanaryReport
from service.labels.labelled import Labelled as Log
from service.labels.labelled import LabelsError
from service.versions.slot import Slot

log = logging.getLogger("hornpipe.canary")

# Labels are joined so often, if any have come.
LABELS_SECONDS = 5.0


class Watched:
    """One trial, as this process has it. `examine` and `close` are for a thread, everything else for the event loop."""

    def __init__(self, trial: Trial, models: Path, labels: Log | None) -> None:
        self.trial = trial
        self.policy, self._seen = _of_canary(models, trial)
        self.counting: Counting | None = None
        self.complaint: str | None = None
        self.acts = False
        self._models, self._labels = models, labels
        self._steps: dict[str, Evidence] = {}
        self._shelf: Shelf | None = None
        self._joined: tuple[int | None, float] = None, float("-inf")
        self._quality: Labelled | None = None

    def count(self, slot: Slot) -> None:
        """Take what has been counted, and see to it that both sides go on counting."""
        if self.counting is not None:
            before = self._steps.get(self.trial.step, Evidence())
            self._steps[self.trial.step] = before.plus(self.counting.take())
        ours, theirs = slot.serving, slot.loaded.get(self.trial.canary.version)
        if ours is None or theirs is None or ours.version != self.trial.production:
            self.stop()
        elif self.counting is None or not self.counting.is_of(ours, theirs):
            self.stop()
            self.counting = Counting(ours, theirs)

    def examine(self, refused: str | None, now: datetime) -> tuple[Decision, CanaryReport]:
        """Write down what was counted here, and make of what all have counted what follows."""
        steps, deaths = self._exchange()
        evidence, before = self._evidence(steps)
        margins, count = self.policy.margins, len(self.policy.steps)
        found = measures(evidence, margins, count, self._labelled(), self._seen, before)
        decision = decide(self.trial, self.policy, evidence, found, now, refused=refused, deaths=deaths)
        return decision, self._report(evidence, found, decision)

    def close(self) -> None:
        """Let others act; what was counted stays, for this process may have ended, and not the trial."""
        if self._shelf is not None:
            self._shelf.close()

    def stop(self) -> None:
        """Count no more."""
        if self.counting is not None:
            self.counting.stop()
            self.counting = None

    def _exchange(self) -> tuple[dict[str, Evidence], int]:
        """By step what all processes have counted, and how many have died; this one's own where it cannot write."""
        try:
            if self._shelf is None:
                self._shelf = Shelf(self._models / self.trial.name, self.trial.key)
            self._shelf.write(self._steps)
            acted, self.acts = self.acts, self._shelf.leads()
            if self.acts and not acted:
                self._shelf.sweep()
            self.complaint = None
            return self._shelf.read(), self._shelf.deaths()
        except OSError as error:
            if self.complaint is None:
                log.warning("the canary of %s is watched, but nobody here can act: %s", self.trial.name, error)
            self.complaint = f"the models folder cannot be written here: {error.strerror}"
            self.acts = False
            return dict(self._steps), 0

    def _evidence(self, steps: dict[str, Evidence]) -> tuple[Evidence, list[Evidence]]:
        """Of the present step, for with its share of the traffic a canary's share of each hour changes; and of each
        before. What both have answered is of all steps. When all traffic is the canary's, production's requests and
        runs are those of the steps before; its outputs are not, for other hours have other rows."""
        pairs = total(steps.values()).pairs
        before = [each for step, each in sorted(steps.items()) if step < self.trial.step]
        present = steps.get(self.trial.step, Evidence()).model_copy(update={"pairs": pairs})
        if self.trial.canary.percent < 100:
            return present, before
        ours = total(before).production
        kept = Side(requests=ours.requests, failed=ours.failed, seconds=ours.seconds)
        return present.model_copy(update={"production": kept, "beside": False}), before

    def _labelled(self) -> Labelled | None:
        """Whoever acts reads the labels; all others read what came of it."""
        if self._shelf is None:
            return None
        if not self.acts or self._labels is None:
            return self._shelf.read_quality()
        state, looked = self._joined
        try:
            if time.monotonic() - looked >= LABELS_SECONDS and (now := self._labels.changes()) != state:
                self._joined = now, time.monotonic()
                self._quality = quality.of_trial(self._labels, self.trial)
                self._shelf.write_quality(self._quality)
        except (LabelsError, OSError) as error:
            log.debug("the labels of %s cannot be read: %s", self.trial.name, error)
        return self._quality

    def _report(self, evidence: Evidence, found: list[Measure], decision: Decision) -> CanaryReport:
        canary = self.trial.canary
        return CanaryReport(
            version=canary.version,
            production=self.trial.production,
            percent=canary.percent,
            watched=canary.watched,
            since=self.trial.since,
            step_since=self.trial.step_since,
            next_percent=self.policy.after(canary.percent),
            requests=evidence.canary.requests,
            failed=evidence.canary.failed,
            production_requests=evidence.production.requests,
            production_failed=evidence.production.failed,
            shed=evidence.pairs.shed,
            measures=found,
            missing=list(decision.missing) if isinstance(decision, Stay) else [],
            verdict=_words(decision, watched=canary.watched),
            acts="nobody" if self.complaint else "here" if self.acts else "elsewhere",
            note=self.complaint,
        )


def _of_canary(models: Path, of: Trial) -> tuple[Promotion, Difference | None]:
    """The policy of the canary's config, and how else than this production the gate has seen it answer; the defaults of
    a version that cannot be read, which will be refused. What the gate saw of one that it refused is not how that one
    should answer."""
    try:
        manifest = bundle.read_version(models, of.name, of.canary.version).manifest
    except HornpipeError:
        return Promotion(), None
    verdict = manifest.verdict
    judged = verdict is not None and verdict.passed and verdict.against == of.production
    return promotion_of(manifest.config), verdict.difference if verdict is not None and judged else None


def _words(decision: Decision, *, watched: bool) -> str:
    match decision:
        case Stay():
            return f"it waits for {' and '.join(decision.missing)}"
        case GoBack():
            what = "it goes back" if watched else "it is worse, and stays, which is for the person who has set it up"
            return f"{what}: {decision.why}"
    what = "it goes on" if watched else "it could go on, which is for the person who has set it up"
    return f"{what}: {decision.why}"
