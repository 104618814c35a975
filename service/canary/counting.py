"""What this process sees of a canary and of production: noted at each request, added up once a second.

All of it happens on the event loop. Where there is no canary a request pays for one look at an attribute.
"""

import logging
import math
from time import monotonic
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from contract.answered import AnswerBins
from contract.comparison import Comparison
from contract.runtimes import Outputs
from service.canary.evidence import Evidence, Moments, Pairs, Side
from service.inference.work import Batch

if TYPE_CHECKING:
    from service.versions.loaded import LoadedModel

log = logging.getLogger("hornpipe.canary")

# Runs of more rows than that are told apart by the power of two, by their time a row.
MOST_TOLD_APART = 64
# More in a second would be more than is needed to be sure of anything, and cost as much again as the canary does.
MOST_TRIED_A_SECOND = 50


class Arm:
    """One side. It is held by the version that it is of, and by the calls that the split sent there."""

    def __init__(self, bins: AnswerBins) -> None:
        self._bins = bins
        self._clear()

    def answered(self, *, failed: bool) -> None:
        self._requests += 1
        self._failed += failed

    def ran(self, batch: Batch) -> None:
        """Of a request that names a version nothing is counted but that it ran: it did not come by chance."""
        self._runs.append((batch.rows, batch.ended - batch.started))
        first, chosen = 0, []
        for work in batch.works:
            if work.call.arm is self:
                chosen.append(first)
            first += work.count
        noted = self._bins.note(batch.outputs, np.array(chosen, np.int64)) if chosen else None
        if noted is not None:
            self._noted.append(noted)

    def take(self) -> Side:
        """What has come since this was last asked."""
        bins, labels = self._bins.count(self._noted)
        by_rows: dict[int, list[float]] = {}
        for rows, seconds in self._runs:
            if seconds > 0:
                kind, a_row = _kind(rows)
                by_rows.setdefault(kind, []).append(math.log(seconds / a_row))
        moments = {kind: Moments.of(each) for kind, each in by_rows.items()}
        side = Side(requests=self._requests, failed=self._failed, seconds=moments, bins=bins, labels=labels)
        self._clear()
        return side

    def _clear(self) -> None:
        self._requests = self._failed = 0
        self._runs: list[tuple[int, float]] = []
        self._noted: list[NDArray[np.float32]] = []


class Tries:
    """What the canary was asked and production was tried on, which the canary holds: some requests of each second."""

    def __init__(self, bins: AnswerBins) -> None:
        self._bins = bins
        self._since, self._tried = monotonic(), 0
        self._disagreed: float = 0.0
        self._largest: float = 0.0
        self._clear()

    def wanted(self) -> bool:
        """Whether one more may be tried now."""
        now = monotonic()
        if now - self._since >= 1:
            self._since, self._tried = now, 0
        self._tried += 1
        return self._tried <= MOST_TRIED_A_SECOND

    def shed(self) -> None:
        self._shed += 1

    def fail(self) -> None:
        self._failures += 1

    def compared(self, found: Comparison, canary: Outputs, production: Outputs) -> None:
        """Of the rows of one request; the first of them is counted."""
        self._requests += 1
        self._disagreed += found.disagreed / max(1, found.agreed + found.disagreed)
        self._largest = max(self._largest, found.largest)
        first = np.zeros(1, np.int64)
        for outputs, noted in ((canary, self._canary), (production, self._production)):
            row = self._bins.note(outputs, first)
            if row is not None:
                noted.append(row)

    def take(self) -> Pairs:
        """What has come since this was last asked."""
        sides = [Side(bins=bins, labels=labels) for bins, labels in map(self._bins.count, self._both())]
        pairs = Pairs(
            requests=self._requests,
            disagreed=self._disagreed,
            largest=self._largest,
            failed=self._failures,
            shed=self._shed,
            production=sides[0],
            canary=sides[1],
        )
        self._clear()
        return pairs

    def _both(self) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float32]]]:
        return self._production, self._canary

    def _clear(self) -> None:
        self._requests = self._failures = self._shed = 0
        self._disagreed, self._largest = 0.0, 0.0
        self._production: list[NDArray[np.float32]] = []
        self._canary: list[NDArray[np.float32]] = []


class Counting:
    """Both sides, and what they were both asked, from the moment that both are loaded."""

    def __init__(self, production: "LoadedModel", canary: "LoadedModel") -> None:
        bins = AnswerBins(production.manifest, canary.manifest)
        self._models = production, canary
        self._arms = Arm(bins), Arm(bins)
        self._tries = Tries(bins)
        production.arm, canary.arm = self._arms
        canary.tries = self._tries

    def is_of(self, production: "LoadedModel", canary: "LoadedModel") -> bool:
        return self._models == (production, canary)

    def take(self) -> Evidence:
        """What has come since this was last asked."""
        production, canary = self._arms
        return Evidence(production=production.take(), canary=canary.take(), pairs=self._tries.take())

    def stop(self) -> None:
        """Note no more of either."""
        for model, arm in zip(self._models, self._arms, strict=True):
            if model.arm is arm:
                model.arm = None
            if model.tries is self._tries:
                model.tries = None


def _kind(rows: int) -> tuple[int, int]:
    """With which runs one of so many rows is compared, and by how many rows its time is divided for that."""
    return (rows, 1) if rows <= MOST_TOLD_APART else (1 << (rows.bit_length() - 1), rows)
