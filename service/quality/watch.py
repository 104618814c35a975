"""Computes the quality of every version now and then, off the answers' path; one worker does so for all."""

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from contract.estimate_counts import estimated_of_counts
from contract.manifest import Manifest
from service.counting.board import Board, Sample
from service.counting.instruments import QUALITY_TIME
from service.drift.windows import Windows
from service.labels.labelled import Labelled, LabelsError
from service.processes.leader import Leader
from service.quality import gauges as quality_gauges
from service.quality.quality import Manifests, expected, realised
from service.quality.rows import DAY_SECONDS, collected, known
from service.registry import Registry
from service.settings import Settings

log = logging.getLogger("hornpipe.quality")

LOCK, BOARD = "quality.lock", "quality.json"
LOOK_SECONDS = 0.5
# To compute takes this share of a processor's time at most, however many rows there are.
MOST_OF_THE_TIME = 0.02
# Rows that nothing happens to still grow too old.
AGE_SECONDS = 3600
# The file of labels is not there yet when the service is begun for the first time.
PATIENCE = 2


class Answered(NamedTuple):
    """What the answers of a version in the last day let expect, without labels."""

    manifest: Manifest
    rows: int
    estimates: dict[str, float]


class QualityWatch:
    """`labelled` is what is logged, if anything is; `folder` is where all workers have files, if there are several.
    Everything but the computing happens on the event loop."""

    def __init__(
        self, registry: Registry, windows: Windows, labelled: Labelled | None, settings: Settings, folder: Path | None
    ) -> None:
        self.board = Board(folder, BOARD, QUALITY_TIME)
        self._registry = registry
        self._windows = windows
        self._labelled = labelled
        self._seconds = settings.quality_days * DAY_SECONDS
        self._pause = settings.quality_seconds
        self._manifests = Manifests(settings.models_dir)
        self._leader = None if folder is None else Leader(folder / LOCK)
        self._realised: tuple[object, list[Sample]] = None, []
        self._failures = 0

    async def run(self) -> None:
        """Compute, unless another worker does, until cancelled."""
        while not self._registry.ready():
            await asyncio.sleep(LOOK_SECONDS)
        while True:
            seconds = await self._try_to_compute() if self._leader is None or self._leader.leads() else 0.0
            await asyncio.sleep(max(self._pause, seconds / MOST_OF_THE_TIME))

    def answered(self, model: str) -> list[Answered]:
        """Of each version of a model that is counted here. Raises UnknownModel."""
        found = []
        for monitor in self._registry.slot(model).monitors():
            manifest = monitor.manifest
            window = self._windows.rows(model, manifest.version, "24h")
            if window is not None and manifest.expectation is not None:
                _, outputs, labels = window[0].split(window[1].counts)
                estimates = estimated_of_counts(manifest, outputs[manifest.score], labels)
                found.append(Answered(manifest, sum(labels.values()), estimates))
        return found

    def close(self) -> None:
        """Let another worker compute."""
        if self._leader is not None:
            self._leader.step_down()

    async def _try_to_compute(self) -> float:
        """How long it took, in seconds of CPU time."""
        try:
            slots = self._registry.slots()
            samples = [sample for slot in slots for each in slot.monitors() for sample in _baseline(each.manifest)]
            for each in (each for slot in slots for each in self.answered(slot.name)):
                samples += quality_gauges.estimated(*each)
            return await asyncio.to_thread(self._compute, [slot.name for slot in slots], samples)
        except OSError as error:  # a full disk, or the folder of all workers while one of them comes or goes
            log.warning("the quality of predictions could not be shown: %s", error)
        except Exception as error:  # a defect of ours; what was computed before stays
            log.error("the quality of predictions could not be computed", exc_info=error)
        return 0.0

    def _compute(self, models: Sequence[str], samples: list[Sample]) -> float:
        """On a thread. The samples are those that need no labels. How long it took."""
        began, now = time.thread_time(), time.time()
        if self._labelled is not None:
            try:
                self._realise(self._labelled, models, now)
                self._failures = 0
            except LabelsError as error:
                self._failures += 1
                if self._failures == PATIENCE:
                    log.error("the quality of predictions stays as it was, until labels can be read: %s", error)
        self.board.write(now, [*samples, *self._realised[1]])
        return time.thread_time() - began

    def _realise(self, labelled: Labelled, models: Sequence[str], now: float) -> None:
        """Anew where a prediction or a label has come or gone, and when rows have grown older."""
        state = labelled.changes(), now // AGE_SECONDS, tuple(models)
        if self._realised[0] != state:
            self._realised = state, [each for model in models for each in self._of(labelled, model, now)]

    def _of(self, labelled: Labelled, model: str, now: float) -> list[Sample]:
        """What came true of a model's answers."""
        samples: list[Sample] = []
        chunks = labelled.joined(model, now - self._seconds, labelled=True)
        for version, (found, _) in collected(chunks).items():
            rows = found.take(known(found))
            guessed = expected(rows, self._manifests.of(model, version))
            samples += quality_gauges.realised(model, version, len(rows), realised(rows), guessed)
        return samples


def _baseline(manifest: Manifest) -> list[Sample]:
    return list(quality_gauges.baseline(manifest))
