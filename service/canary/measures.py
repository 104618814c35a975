"""Whether a canary is worse than production, beyond a margin and beyond chance: five measures of the same evidence."""

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from contract import drift
from contract.evidence import LOWER_IS_BETTER, Metric, improvement
from contract.histogram import ratios
from contract.promotion import Margins
from contract.quality_interval import NORMAL
from service.canary.evidence import Evidence, Moments, Pairs
from service.canary.sequential import psi_beyond, quantile, share_bounds

Name = Literal["errors", "latency", "distribution", "disagreement", "quality"]
NAMES: tuple[Name, ...] = ("errors", "latency", "distribution", "disagreement", "quality")

# Of a canary that is no worse, so many are rolled back, over all of its steps and measures, at most.
ALPHA = 0.01
# Means are not judged by fewer.
LEAST_RUNS = 50
LEAST_LABELLED = 100
# From so many pairs on, distributions are compared on rows that both have answered.
LEAST_PAIRS = 200
# A run that takes less longer than this harms nobody, whatever the ratio: a version that is asked seldom finds cold
# caches.
LEAST_SECONDS = 0.0002


class Measure(BaseModel):
    """`production` and `canary` are what was found of each, `rows` of how many of the canary's requests, runs, pairs or
    labels. `excess` is by how much the canary is worse, and `certain` by how much at least, by all that was seen; it is
    `worse` where that is more than `margin`."""

    name: Name
    production: float | None = None
    canary: float | None = None
    rows: int = 0
    excess: float | None = None
    certain: float | None = None
    margin: float
    worse: bool = False
    words: str = Field(description="The same in a sentence.")


def measures(evidence: Evidence, margins: Margins, steps: int, quality: "Labelled | None" = None) -> list[Measure]:
    """All five, for a canary of so many steps; without evidence they say so."""
    alpha = ALPHA / len(NAMES) / steps
    return [
        errors(evidence, margins.errors, alpha),
        latency(evidence, margins.latency, alpha),
        distribution(evidence, margins.distribution),
        disagreement(evidence.pairs, margins.disagreement, alpha),
        quality_of(quality, margins.quality, alpha),
    ]


def errors(evidence: Evidence, margin: float, alpha: float) -> Measure:
    """Where production answers nothing, all traffic being the canary's from its first step on, it is held to none."""
    ours, theirs = evidence.production, evidence.canary
    if not theirs.requests:
        return Measure(name="errors", margin=margin, words="no request has come to the canary")
    before, now = _share(ours.failed, ours.requests), theirs.failed / theirs.requests
    least = share_bounds(theirs.failed, theirs.requests, alpha)[0]
    most = share_bounds(ours.failed, ours.requests, alpha)[1] if ours.requests else 0.0
    certain = least - most
    words = (
        f"{theirs.failed} of {theirs.requests} requests failed ({now:.2%}), of production's {ours.failed} of "
        f"{ours.requests} ({before:.2%}): at least {max(0.0, certain):.2%} more, and {margin:.2%} more may be"
    )
    return _measured("errors", before, now, theirs.requests, now - before, certain, margin, words)


def latency(evidence: Evidence, margin: float, alpha: float) -> Measure:
    """Geometric means of what runs took, of the same numbers of rows: so it does not matter that who has more traffic
    has larger batches."""
    ours, theirs = evidence.production.seconds, evidence.canary.seconds
    both = {rows: (ours[rows], theirs[rows]) for rows in ours.keys() & theirs.keys() if ours[rows].count}
    runs, others = (sum(pair[i].count for pair in both.values()) for i in (1, 0))
    if min(runs, others) < LEAST_RUNS:
        few = f"{runs} runs of the canary can be compared with {others} of production, {LEAST_RUNS} of each are needed"
        return Measure(name="latency", margin=margin, rows=runs, words=few)
    weights = {rows: a.count * b.count / (a.count + b.count) for rows, (a, b) in both.items()}
    whole = sum(weights.values())
    before, now = (sum(w * both[rows][i].mean for rows, w in weights.items()) / whole for i in (0, 1))
    spread = [_variance(side.values()) for side in (ours, theirs)]
    error = math.sqrt(
        sum(
            (w / whole) ** 2 * sum(v / each.count for v, each in zip(spread, both[rows], strict=True))
            for rows, w in weights.items()
        )
    )
    certain = math.exp(now - before - quantile(whole, alpha) * error)
    allowed = max(margin, 1 + LEAST_SECONDS / math.exp(before))
    words = (
        f"a run took {_time(math.exp(now))}, production's of as many rows {_time(math.exp(before))}: at least "
        f"{max(0.0, certain):.2f} times as long over {runs} runs, and {allowed:.2f} times may be"
    )
    found = math.exp(now - before)
    return _measured("latency", math.exp(before), math.exp(now), runs, found, certain, allowed, words)


def distribution(evidence: Evidence, margin: float) -> Measure:
    """PSI of what is answered, or of its labels, whichever is further: of rows that both have answered, where there are
    enough, else of those that each has."""
    pairs = evidence.pairs
    paired = pairs.requests >= LEAST_PAIRS
    ours, theirs = (pairs.production, pairs.canary) if paired else (evidence.production, evidence.canary)
    found = [_psi(*each, margin) for each in ((ours.bins, theirs.bins), (ours.labels, theirs.labels))]
    known = [each for each in found if each is not None]
    if not known:
        return Measure(name="distribution", margin=margin, words="no outputs can be compared yet")
    psi, critical, rows = max(known, key=lambda each: each[0] - each[1])
    whose = "rows that both answered" if paired else "rows of its own"
    words = (
        f"PSI {psi:.3f} between the two, over {rows} {whose}; by chance, beyond the {margin:g} that may be, "
        f"up to {critical:.3f}"
    )
    return _measured("distribution", None, None, rows, psi, psi - critical + margin, margin, words)


def disagreement(pairs: Pairs, margin: float, alpha: float) -> Measure:
    if not pairs.requests:
        return Measure(name="disagreement", margin=margin, words="no request has been answered by both yet")
    share = pairs.disagreed / pairs.requests
    certain = share_bounds(pairs.disagreed, pairs.requests, alpha)[0]
    words = (
        f"the two disagree on {share:.1%} of the rows of {pairs.requests} requests: on at least {certain:.1%}, "
        f"and {margin:.1%} may be"
    )
    return _measured("disagreement", None, None, pairs.requests, share, certain, margin, words)


class Labelled(BaseModel):
    """The headline metric of both by the labels that have come."""

    metric: str
    production: Metric
    canary: Metric
    production_rows: int
    canary_rows: int


def quality_of(found: Labelled | None, margin: float, alpha: float) -> Measure:
    """An error such as RMSE is judged as a share of production's."""
    if found is None or min(found.canary_rows, found.production_rows) < LEAST_LABELLED:
        rows = found.canary_rows if found is not None else 0
        few = f"{rows} rows of the canary have a label, {LEAST_LABELLED} of each are needed"
        return Measure(name="quality", margin=margin, rows=rows, words=few)
    before, now = found.production, found.canary
    allowed = margin * before.value if found.metric in LOWER_IS_BETTER else margin
    worse = improvement(found.metric, before.value, now.value)
    error = math.hypot(*((each.high - each.low) / (2 * NORMAL) for each in (before, now)))
    effective = found.canary_rows * found.production_rows / (found.canary_rows + found.production_rows)
    certain = worse - quantile(effective, alpha) * error
    words = (
        f"{found.metric} is {now.value:.4g} over {found.canary_rows} labelled rows, production's {before.value:.4g} "
        f"over {found.production_rows}: worse by at least {max(0.0, certain):.3g}, and {allowed:.3g} may be"
    )
    return _measured("quality", before.value, now.value, found.canary_rows, worse, certain, allowed, words)


def _measured(
    name: Name,
    production: float | None,
    canary: float | None,
    rows: int,
    excess: float,
    certain: float,
    margin: float,
    words: str,
) -> Measure:
    return Measure(
        name=name,
        production=production,
        canary=canary,
        rows=rows,
        excess=excess,
        certain=certain,
        margin=margin,
        worse=certain > margin,
        words=words,
    )


def _psi(ours: tuple[int, ...], theirs: tuple[int, ...], margin: float) -> tuple[float, float, int] | None:
    """PSI, what chance may make of the margin, and the canary's rows; None where nothing is counted."""
    if len(ours) != len(theirs) or len(ours) < 2 or not sum(ours) or not sum(theirs):
        return None
    before, now = np.array(ours), np.array(theirs)
    found = drift.drift(now, ratios(before), sum(ours))
    return found.psi, psi_beyond(margin, len(ours), sum(theirs), sum(ours)), sum(theirs)


def _variance(moments: Iterable[Moments]) -> float:
    """Of single values about the mean of their number of rows."""
    known = [each for each in moments if each.count > 1]
    freedom = sum(each.count - 1 for each in known)
    return sum(each.squares for each in known) / freedom if freedom else math.inf


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
