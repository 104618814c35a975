"""The arithmetic of deploy/prometheus/rules on arrays: the counts of a feature by minute in, alarms out.

tests/deploy/test_drift_rules.py holds it equal to the rules themselves, evaluated by Prometheus on the same counts.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.drift import CRITICAL_Z, NOTICEABLE, SMOOTHING, chi_square

Counts = NDArray[np.int64]  # [moments, bins]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

HOUR = 60  # minutes
LEAST_ROWS = 200
CHUNK = 20_000  # moments at a time, for the memory's sake


@dataclass(frozen=True)
class Window:
    """A window of the alerts: its `hours`, and how many must be known; how large PSI must be, and for how many minutes.

    An hour's counts are looked at every minute; those of a day and a week when another hour has been added.
    """

    name: str
    hours: int
    known: int
    noticeable: float
    minutes: int

    @property
    def step(self) -> int:
        return 1 if self.hours == 1 else HOUR


WINDOWS = (Window("1h", 1, 0, 0.25, 30), Window("24h", 24, 22, NOTICEABLE, 90), Window("7d", 168, 160, NOTICEABLE, 90))


@dataclass(frozen=True)
class Baseline:
    """Smoothed ratios [bins] of so many rows."""

    ratios: Floats
    rows: int


@dataclass(frozen=True)
class Drift:
    """What the rules record of one window at each moment."""

    psi: Floats
    rows: NDArray[np.int64]
    baseline: Baseline

    def critical(self, z: float) -> Floats:
        with np.errstate(divide="ignore"):
            return (1 / self.rows + 1 / self.baseline.rows) * chi_square(len(self.baseline.ratios) - 1, z)

    def holds(self, noticeable: float, z: float = CRITICAL_Z, least_rows: int = LEAST_ROWS) -> Flags:
        """The alert's condition."""
        return (self.psi > np.maximum(self.critical(z), noticeable)) & (self.rows >= least_rows)


def sliding(counts: Counts, width: int) -> Counts:
    """Sums of the last `width` moments, or of all there are before that: what increase() and sum_over_time() give."""
    total = np.cumsum(counts, axis=0)
    total[width:] -= total[:-width].copy()
    return total


def psi(counts: Counts, baseline: Floats) -> Floats:
    """Of each moment's counts; 0 where there are none, of which Prometheus says nothing."""
    rows = counts.sum(axis=1, keepdims=True)
    smoothed = counts + np.minimum(np.maximum(rows, 1) * baseline, SMOOTHING)
    shares = smoothed / smoothed.sum(axis=1, keepdims=True)
    return ((shares - baseline) * np.log(shares / baseline)).sum(axis=1)


def drift(by_minute: Counts, baseline: Baseline, window: Window) -> Drift:
    """Of the windows that end at each of the window's moments."""
    counts = by_minute.reshape(-1, window.step, by_minute.shape[1]).sum(axis=1) if window.step > 1 else by_minute
    windowed = sliding(counts, window.hours * HOUR // window.step)
    parts = [psi(windowed[i : i + CHUNK], baseline.ratios) for i in range(0, len(windowed), CHUNK)]
    return Drift(np.concatenate(parts), windowed.sum(axis=1), baseline)


def runs(holds: Flags, moments: int) -> NDArray[np.int64]:
    """Where a condition begins that goes on to hold for so many moments more, which is what `for:` asks."""
    edges = np.flatnonzero(np.diff(np.r_[False, holds, False].astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    return starts[ends - starts > moments]


def alarms(found: Drift, window: Window, z: float = CRITICAL_Z, least_rows: int = LEAST_ROWS) -> Floats:
    """The hours at which the window's alert begins to ring."""
    holds = found.holds(window.noticeable, z, least_rows)
    holds[: max(0, window.known * HOUR // window.step - 1)] = False
    starts = runs(holds, window.minutes // window.step)
    return ((starts + 1) * window.step + window.minutes) / HOUR


def all_alarms(by_minute: Counts, baseline: Baseline) -> Iterator[tuple[Window, Floats]]:
    for window in WINDOWS:
        yield window, alarms(drift(by_minute, baseline, window), window)
