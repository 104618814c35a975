"""Whether a canary is worse than production, beyond a margin and beyond chance: five measures of the same evidence."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from contract import drift
from contract.evidence import LOWER_IS_BETTER, Difference, Metric, improvement
from contract.promotion import Margins
from contract.quality_interval import NORMAL
from service.canary import expected, failures
from service.canary.evidence import Evidence, Moments, Pairs, Side, total
from service.canary.expected import Expected
from service.canary.failures import Counted
from service.canary.sequential import psi_beyond, quantile, share_bounds

Name = Literal["errors", "latency", "distribution", "disagreement", "quality"]
Counts = tuple[int, ...]
Table = Sequence[Sequence[int]]
NAMES: tuple[Name, ...] = ("errors", "latency", "distribution", "disagreement", "quality")

# Of a canary that is no worse, so many are rolled back, over all of its steps and measures, at most.
ALPHA = 0.01
# Means are not judged by fewer.
LEAST_RUNS = 50
LEAST_LABELLED = 100
# Of a margin, where production is of other hours: five minutes in which one request in twenty fails, or a machine that
# others use, are then the canary's alone.
ALONE_ERRORS, ALONE_LATENCY = 5.0, 2.0
# Fewer failures may be one client's, who asks for the same again and again.
LEAST_FAILED = 5
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


def measures(
    evidence: Evidence,
    margins: Margins,
    steps: int,
    quality: "Labelled | None" = None,
    seen: Difference | None = None,
    before: Sequence[Evidence] = (),
) -> list[Measure]:
    """All five, for a canary of so many steps; without evidence they say so. `seen` is how else than this production
    the gate has seen it answer, and found it good; `before` is of the steps before."""
    alpha = ALPHA / len(NAMES) / steps
    return [
        errors(evidence, before, margins.errors, ALPHA / len(NAMES), steps),
        latency(evidence, margins.latency, alpha),
        distribution(evidence, margins.distribution, seen),
        disagreement(evidence.pairs, margins.disagreement, alpha, seen),
        quality_of(quality, margins.quality, alpha),
    ]


def errors(evidence: Evidence, before: Sequence[Evidence], margin: float, alpha: float, steps: int) -> Measure:
    """Of all steps together in which both were asked. Once all traffic is the canary's, what comes is compared with
    production in the steps before, by a margin several times as wide, and nothing is pooled with it."""
    if not evidence.canary.requests:
        return Measure(name="errors", margin=margin, words="no request has come to the canary")
    last = alpha / max(2, steps)
    if not evidence.beside:
        certain = _failures_alone(evidence, last)
        return _errors(evidence.production, evidence.canary, certain, ALONE_ERRORS * margin)
    pooled = [*before, evidence]
    ours, theirs = total(pooled).production, total(pooled).canary
    counted = [Counted(*_asked(each.production), *_asked(each.canary)) for each in pooled]
    enough = theirs.failed >= LEAST_FAILED
    return _errors(ours, theirs, failures.excess(counted, alpha - last) if enough else 0.0, margin)


def _errors(ours: Side, theirs: Side, certain: float, margin: float) -> Measure:
    before, now = _share(ours.failed, ours.requests), theirs.failed / theirs.requests
    words = (
        f"{theirs.failed} of {theirs.requests} requests failed ({now:.2%}), of production's {ours.failed} of "
        f"{ours.requests} ({before:.2%}): at least {max(0.0, certain):.2%} more, and {margin:.2%} more may be"
    )
    return _measured("errors", before, now, theirs.requests, now - before, certain, margin, words)


def _failures_alone(evidence: Evidence, alpha: float) -> float:
    """Where production answers nothing, all traffic being the canary's from its first step on, it is held to none."""
    ours, theirs = evidence.production, evidence.canary
    most = share_bounds(ours.failed, ours.requests, alpha)[1] if ours.requests else 0.0
    return share_bounds(theirs.failed, theirs.requests, alpha)[0] - most


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
    allowed = max(margin if evidence.beside else margin**ALONE_LATENCY, 1 + LEAST_SECONDS / math.exp(before))
    words = (
        f"a run took {_time(math.exp(now))}, production's of as many rows {_time(math.exp(before))}: at least "
        f"{max(0.0, certain):.2f} times as long over {runs} runs, and {allowed:.2f} times may be"
    )
    found = math.exp(now - before)
    return _measured("latency", math.exp(before), math.exp(now), runs, found, certain, allowed, words)


def distribution(evidence: Evidence, margin: float, seen: Difference | None = None) -> Measure:
    """PSI of what is answered, or of its labels, whichever is further, from what the gate makes expect, or else from
    what production answers: of rows that both have answered, where there are enough, else of those that each has."""
    pairs = evidence.pairs
    paired = pairs.requests >= LEAST_PAIRS
    ours, theirs = (pairs.production, pairs.canary) if paired else (evidence.production, evidence.canary)
    tables = (seen.bins, seen.labels) if seen is not None else ((), ())
    both = zip(((ours.bins, theirs.bins), (ours.labels, theirs.labels)), tables, strict=True)
    known = [found for counts, table in both if (found := _psi(*counts, table, margin)) is not None]
    if not known:
        return Measure(name="distribution", margin=margin, words="no outputs can be compared yet")
    found = max(known, key=lambda each: each.beyond)
    whose = "rows that both answered" if paired else "rows of its own"
    words = (
        f"PSI {found.psi:.3f} {found.between}, over {found.rows} {whose}; by chance, beyond the {margin:g} that may "
        f"be, up to {found.critical:.3f}"
    )
    certain = found.beyond + margin
    return _measured("distribution", None, None, found.rows, found.psi, certain, margin, words)


def disagreement(pairs: Pairs, margin: float, alpha: float, seen: Difference | None = None) -> Measure:
    """Beyond what the gate makes expect."""
    if not pairs.requests:
        return Measure(name="disagreement", margin=margin, words="no request has been answered by both yet")
    share = pairs.disagreed / pairs.requests
    least = share_bounds(pairs.disagreed, pairs.requests, alpha)[0]
    known = expected.disagreement(pairs.production.bins, seen) if seen is not None else None
    usual = float(known.shares[0]) if known is not None else 0.0
    most = share_bounds(usual * known.rows, known.rows, alpha)[1] if known is not None else 0.0
    beyond = f" more than the {usual:.1%} that the gate makes expect" if known is not None else ""
    words = (
        f"the two disagree on {share:.1%} of the rows of {pairs.requests} requests: on at least "
        f"{max(0.0, least - most):.1%}{beyond}, and {margin:.1%} may be"
    )
    return _measured("disagreement", None, None, pairs.requests, share - usual, least - most, margin, words)


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


class _Psi(NamedTuple):
    """Between what and what, over so many of the canary's rows; `critical` is what chance may make of the margin."""

    psi: float
    critical: float
    rows: int
    between: str

    @property
    def beyond(self) -> float:
        return self.psi - self.critical


def _psi(ours: Counts, theirs: Counts, table: Table, margin: float) -> _Psi | None:
    """None where nothing is counted."""
    if len(ours) != len(theirs) or len(ours) < 2 or not sum(ours) or not sum(theirs):
        return None
    now, rows = np.array(theirs), sum(theirs)
    plain, seen = expected.as_production(ours), expected.as_seen(ours, table)
    apart, known = _apart(now, plain), seen or plain
    between = "between the two" if seen is None else f"from what the gate makes expect ({apart:.3f} between the two)"
    critical = psi_beyond(margin, len(ours), rows, known.rows)
    return _Psi(_apart(now, known), critical, rows, between)


def _apart(now: NDArray[np.int64], known: Expected) -> float:
    return drift.psi(drift.shares(now, known.shares), known.shares)


def _variance(moments: Iterable[Moments]) -> float:
    """Of single values about the mean of their number of rows."""
    known = [each for each in moments if each.count > 1]
    freedom = sum(each.count - 1 for each in known)
    return sum(each.squares for each in known) / freedom if freedom else math.inf


def _asked(side: Side) -> tuple[int, int]:
    return side.requests, side.failed


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms"
