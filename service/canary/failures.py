"""By how much more often a canary fails than production beside it: evidence of all steps together.

A step is a bet of its own on requests that one or the other of the two got by chance, at the same time: so it does not
matter that each hour has its own failures, nor that the canary's share of the hours changes from step to step. What the
bets have won multiplies. Each request multiplies the winnings by how much likelier its outcome is under an alternative
than under the nearest of all pairs of rates that are allowed; then nobody wins on average whatever is allowed happens,
also when rates change from request to request (Turner, Ly and Gruenwald, Generic E-variables for exact sequential
k-sample tests that allow for optional stopping, Journal of Statistical Planning and Inference, 2024, section 3), and
winnings of 1/alpha are seen at any look with probability alpha at most (Ville 1939). As it is not known which
alternative holds, the stake is laid on many of them alike.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# What production's rate may be, and by how much the canary's may be more than is allowed.
RATES = np.geomspace(1e-4, 0.3, 7)
GAINS = np.array([0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 0.9])
# Of rates; a bet on certainty loses everything at once.
MOST = 0.999
# Rates and differences are looked for between this and one, by halving their logarithms.
LEAST = 1e-4
_HALVINGS = 16
_LOOKS = 12


class Counted(NamedTuple):
    """Requests of one step, and how many of them failed."""

    production: int
    production_failed: int
    canary: int
    canary_failed: int


def excess(steps: Sequence[Counted], alpha: float) -> float:
    """The least by which the canary fails more often, 0 where that is not sure; ever wrong with probability `alpha`."""
    both = [step for step in steps if step.production and step.canary]
    if not any(step.canary_failed for step in both):
        return 0.0
    counts = np.array(both, np.float64)
    needed = float(np.log(1 / alpha))
    low, high = LEAST, 1.0
    if winnings(counts, low) < needed:
        return 0.0
    for _ in range(_LOOKS):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if winnings(counts, middle) >= needed else (low, middle)
    return low


def winnings(counts: Floats, allowed: float) -> float:
    """The logarithm of what is won where the canary may fail more often by so much; counts are [steps, 4]."""
    before, after = (each.ravel() for each in np.meshgrid(RATES, allowed + GAINS, indexing="ij"))
    after = np.minimum(before + after, MOST)
    production, broken, canary, failed = (counts[:, i, None] for i in range(4))
    nearest = _nearest(before, after, canary / (production + canary), allowed)
    beside = np.minimum(nearest + allowed, MOST)
    logs = (
        failed * np.log(after / beside)
        + (canary - failed) * np.log((1 - after) / (1 - beside))
        + broken * np.log(before / nearest)
        + (production - broken) * np.log((1 - before) / (1 - nearest))
    ).sum(axis=0)
    top = float(logs.max())
    return top + float(np.log(np.mean(np.exp(logs - top))))


def _nearest(before: Floats, after: Floats, share: Floats, allowed: float) -> Floats:
    """Production's rate in the pair (rate, rate + allowed) of the least Kullback-Leibler divergence from each
    alternative, where the canary gets this share of the requests; [steps, alternatives]."""
    low = np.broadcast_to(before, (len(share), len(before))).copy()
    high = np.maximum(np.broadcast_to(after - allowed, low.shape), low).copy()
    for _ in range(_HALVINGS):
        rate = np.sqrt(low * high)
        beside = np.minimum(rate + allowed, MOST)
        slope = share * (beside - after) / (beside * (1 - beside)) + (1 - share) * (rate - before) / (rate * (1 - rate))
        low, high = np.where(slope < 0, rate, low), np.where(slope < 0, high, rate)
    return low
