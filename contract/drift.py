"""How far the rows of a window are from the baseline of training, and how far chance alone would take them.

Prometheus does the same arithmetic (deploy/prometheus/rules): everything here is made of sums, logarithms and the
number of bins.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.histogram import Counts

Shares = NDArray[np.float64]

# PSI takes logarithms, and an empty bin has none. So half a row is added to each bin of a window, as in the baseline,
# but no more than is expected there. Else bins that never have rows (missing, say) would look as if some had come:
# against a baseline of 200,000 rows, windows of 100 without drift would pass a critical value of 1 in 100,000 thirty
# times too often. PromQL: clamp_max(rows * ratio, 0.5).
SMOOTHING = 0.5

# Training smooths its ratios, so none is 0; a manifest from elsewhere may have one.
LEAST_RATIO = 1e-9

# Below this PSI nobody would act, however sure the difference is: the usual rule of credit scoring (Siddiqi, Credit
# Risk Scorecards, 2006). Above about 500 rows of ten bins this decides, below it what follows.
NOTICEABLE = 0.1

CRITICAL_Z = 4.7
"""How unlikely a PSI must be without drift, as a standard normal quantile; its upper tail is 1.3e-6.

The budget is one false alarm a month for a model with 20 features. With five outputs that is 25 series, looked at over
an hour, a day and a week, which is 720 + 30 + 4 windows a month: 18,850 windows. They are evaluated every minute, not
once each, so a window that slides has more chances. A count over a sliding window is correlated as 1 - |t|/T, like an
Ornstein-Uhlenbeck process at short times, and PSI is a sum of squares of those; so it crosses a high level b about
2 (b - k) f(b) times a window, f being the density of chi-square with k degrees of freedom (Aldous, Probability
Approximations via the Poisson Clumping Heuristic, 1989, D). For 6 to 23 bins that comes to 0.35 to 0.65 crossings a
month, before a rule waits for them to last or asks for more than `NOTICEABLE`.
"""


class Drift(NamedTuple):
    """Of one feature or output. `critical` is the PSI that chance alone does not reach, infinite without rows."""

    psi: float
    js: float
    linf: float
    rows: int
    critical: float

    @property
    def threshold(self) -> float:
        return max(NOTICEABLE, self.critical)

    @property
    def drifted(self) -> bool:
        return self.psi > self.threshold


def drift(counts: Counts, baseline: Sequence[float], baseline_rows: int) -> Drift:
    """Of a window's counts by bin, from a baseline of smoothed ratios that so many rows have made."""
    then, rows = np.maximum(baseline, LEAST_RATIO), int(counts.sum())
    now = shares(counts, then)
    return Drift(
        psi(now, then),
        jensen_shannon(now, then),
        largest_difference(now, then),
        rows,
        critical(len(then), rows, baseline_rows),
    )


def shares(counts: Counts, baseline: Shares) -> Shares:
    """Proportions of a window's rows, smoothed by `SMOOTHING`; without rows, those of the baseline."""
    rows = counts.sum()
    if not rows:
        return baseline
    smoothed: Shares = counts + np.minimum(SMOOTHING, rows * baseline)
    proportions: Shares = smoothed / smoothed.sum()
    return proportions


def psi(now: Shares, baseline: Shares) -> float:
    """The population stability index, sum of (p - q) ln(p / q): symmetric, 0 for equal shares, without an upper end."""
    return float(np.sum((now - baseline) * np.log(now / baseline)))


def part(count: int, rows: int, ratio: float) -> float:
    """What one bin adds to the PSI, about: for telling which adds most."""
    share = (count + min(SMOOTHING, rows * ratio)) / max(1, rows)
    return (share - ratio) * math.log(share / ratio) if share > 0 < ratio else 0.0


def jensen_shannon(now: Shares, baseline: Shares) -> float:
    """The distance, base 2: the root of the divergence, from 0 for equal shares to 1 where no bin is shared (Endres and
    Schindelin, A New Metric for Probability Distributions, 2003)."""
    middle = (now + baseline) / 2
    divergence = np.sum(now * np.log2(now / middle) + baseline * np.log2(baseline / middle)) / 2
    return math.sqrt(max(0.0, float(divergence)))


def largest_difference(now: Shares, baseline: Shares) -> float:
    """L-infinity: by how much the share of a single bin has changed, at most; 0 to 1."""
    return float(np.max(np.abs(now - baseline)))


def critical(bins: int, rows: int, baseline_rows: int, z: float = CRITICAL_Z) -> float:
    """The PSI that is passed by chance as rarely as `z` says, with nothing drifted.

    PSI is then about (1/n + 1/m) times a chi-square of (bins - 1) degrees of freedom (Yurdakul, Statistical Properties
    of Population Stability Index, 2018, section 3.2). Bins that never have rows count too, to the safe side.
    """
    if not rows or not baseline_rows:
        return math.inf
    return (1 / rows + 1 / baseline_rows) * chi_square(bins - 1, z)


def chi_square(freedom: float, z: float) -> float:
    """The quantile of a chi-square at the standard normal quantile `z` (Wilson and Hilferty, The Distribution of
    Chi-Square, 1931): PromQL can do that. At z = 4.7 it is too large by 9% for 2 degrees of freedom, 2.5% for 9 and
    1% for 22, so alarms are a little rarer than they might be.
    """
    spread = 2 / (9 * freedom)
    return freedom * (1 - spread + z * math.sqrt(spread)) ** 3
