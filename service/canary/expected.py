"""What a canary is expected to answer: what the gate has seen it answer where production answers so; without a gate,
what production answers.

Who has learnt from other rows answers otherwise, and should: that is why it was made. The gate has seen how, on rows
whose labels say that it is no worse. So a canary may be as far from production as it was there, and in the same
direction: to allow the same PSI would let through whatever is as far off elsewhere. The rows of now are not those of
the gate, and both versions answer other rows otherwise; so it is not the answers of the gate that are expected, but for
each bin of production's answers now those that the gate saw beside that bin.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.evidence import Difference
from contract.histogram import ratios

# Rows of each bin that are taken to be answered as production does, beside those that the gate saw: half a row, so
# where it saw none, nothing else is expected.
PRIOR = 0.5

Shares = NDArray[np.float64]


class Expected(NamedTuple):
    """Shares by bin, and of how many rows they are worth as much."""

    shares: Shares
    rows: float


def as_production(counts: Sequence[int]) -> Expected:
    """That the canary answers what production does; of at least one row."""
    return Expected(np.array(ratios(np.array(counts))), sum(counts))


def as_seen(counts: Sequence[int], table: Sequence[Sequence[int]]) -> Expected | None:
    """That it answers as the table says, by bin of what production does; None where the table is of other bins."""
    seen = np.array(table, np.float64)
    if seen.shape != (len(counts), len(counts)):
        return None
    known, rows = as_production(counts), seen.sum(axis=1) + PRIOR
    conditional = (seen + PRIOR * np.eye(len(seen))) / rows[:, None]
    effective = _effective(known.shares, rows)
    return Expected(known.shares @ conditional, 1 / (1 / effective + 1 / known.rows))  # production's answers are chance


def disagreement(counts: Sequence[int], seen: Difference) -> Expected | None:
    """The share of rows on which the two disagree, as a table of one number: of these very rows, so that only what the
    gate saw is chance."""
    rows = np.array(seen.bins, np.float64).sum(axis=1)
    if len(rows) != len(counts) or not sum(counts):
        return None
    shares = as_production(counts).shares
    usual = shares @ (np.array(seen.disagreed) / np.maximum(rows, 1))
    return Expected(np.array([usual]), _effective(shares, rows + PRIOR))


def _effective(shares: Shares, rows: Shares) -> float:
    """How many rows the gate's are worth, weighted so that their bins are as frequent as now (Kish, Survey Sampling,
    1965, section 11.7)."""
    return 1 / float((shares**2 / rows).sum())
