"""The course of a run: which rows every step trains on, where it is evaluated and probed.

A function of the data and the config alone, so that a resumed run goes on exactly where it was.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from training.rows import Blocks, Indices
from training.sections import TrainingSection

LOSS_POINTS = 200
FIRST_PROBES = (1, 3, 10, 20, 35, 50, 75, 100)
STEPS_A_PROBE = 100


@dataclass(frozen=True)
class Stretch:
    """The steps from `start` up to `stop`, which go through one block; `index` is its place in the epoch."""

    epoch: int
    index: int
    block: tuple[int, ...]
    rows: int
    start: int
    stop: int


class Course:
    """All steps of a run. Whole batches only: a last short one of a block would be a second shape, and noisier; which
    rows it leaves out differs from epoch to epoch. A block of less than a batch is left out."""

    def __init__(self, blocks: Blocks, section: TrainingSection) -> None:
        self.section = section
        self._blocks = blocks
        # Where no block of some epoch holds a batch, its largest one is the batch.
        self.batch = min(section.batch_size, *(self._largest(epoch) for epoch in range(section.epochs)))
        self.stretches = tuple(self._stretches())
        self._starts = [stretch.start for stretch in self.stretches]
        self._epochs = [0, *{stretch.epoch: stretch.stop for stretch in self.stretches}.values()]  # the last of each
        self.evaluations = tuple(self._evaluations())
        self._evaluated = frozenset(self.evaluations)
        self.probes = frozenset(self._probes())
        self.loss_interval = max(1, self.steps // LOSS_POINTS)

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return self.stretches[-1].stop

    @property
    def steps_per_epoch(self) -> int:
        return self._epochs[1]

    def at(self, step: int) -> int:
        """The place in `stretches` of the one that holds this step."""
        return bisect_right(self._starts, step) - 1

    def epoch(self, step: int) -> float:
        """How many epochs are done after so many steps."""
        epoch = min(bisect_right(self._epochs, step) - 1, self.section.epochs - 1)
        first, last = self._epochs[epoch : epoch + 2]
        return epoch + (step - first) / (last - first)

    def is_evaluated(self, step: int) -> bool:
        """Whether an evaluation is due after so many steps."""
        return step in self._evaluated

    def next_stop(self, step: int) -> int:
        """The first step after `step` before which the loop has something else to do than training: the end of the
        block or an evaluation is due, or the step after it is probed, alone."""
        if step in self.probes:
            return step + 1
        probe = min((each for each in self.probes if each > step), default=self.steps)
        evaluation = self.evaluations[bisect_right(self.evaluations, step)]
        return min(self.stretches[self.at(step)].stop, evaluation, probe)

    def batches(self, stretch: Stretch) -> Indices:
        """Row numbers within the block, int64 [steps, batch]."""
        random = np.random.default_rng((self.section.seed, stretch.epoch, stretch.index))
        count = stretch.stop - stretch.start
        return random.permutation(stretch.rows)[: count * self.batch].reshape(count, self.batch)

    def _largest(self, epoch: int) -> int:
        return max(self._blocks.rows_in(block) for block in self._blocks.order(self.section.seed, epoch))

    def _stretches(self) -> Iterator[Stretch]:
        step = 0
        for epoch in range(self.section.epochs):
            for index, block in enumerate(self._blocks.order(self.section.seed, epoch)):
                rows = self._blocks.rows_in(block)
                if count := rows // self.batch:
                    yield Stretch(epoch, index, block, rows, step, step + count)
                step += count

    def _evaluations(self) -> Iterator[int]:
        for first, last in zip(self._epochs[:-1], self._epochs[1:], strict=True):
            interval = math.ceil((last - first) / self.section.evaluations_per_epoch)
            yield from range(first + interval, last, interval)
            yield last

    def _probes(self) -> Iterator[int]:
        """Often in the first steps, where networks break; then evenly, so seldom that it costs little of the time."""
        yield from (step for step in FIRST_PROBES if step < self.steps)
        yield from range(2 * STEPS_A_PROBE, self.steps, max(STEPS_A_PROBE, self.steps // 80))
