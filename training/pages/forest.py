"""Values with their intervals, one a line, drawn by the page itself: a forest plot whose names wrap."""

from collections.abc import Iterable
from dataclasses import dataclass

from contract.evidence import Metric


@dataclass(frozen=True)
class Line:
    """One value. `start` and `width` of its interval and `at` of itself are percent of the plot's width."""

    name: str
    metric: Metric
    note: str
    own: bool
    start: float
    width: float
    at: float


@dataclass(frozen=True)
class Forest:
    """Lines on one scale; `mark`, in percent, is where a line goes down through all of them."""

    lines: tuple[Line, ...]
    mark: float | None


@dataclass(frozen=True)
class Entry:
    """What a line is made of."""

    name: str
    metric: Metric
    note: str = ""
    own: bool = False


def forest(entries: Iterable[Entry], mark: float | None = None) -> Forest | None:
    """The lines from the lowest to the highest end of an interval, and `mark`; None of nothing."""
    rows = list(entries)
    ends = [end for row in rows for end in (row.metric.low, row.metric.value, row.metric.high)]
    ends += [] if mark is None else [mark]
    if not rows:
        return None
    low, high = min(ends), max(ends)
    wide = (high - low) or 1.0

    def percent(value: float) -> float:
        return round(2 + 96 * (value - low) / wide, 2)

    lines = (
        Line(
            row.name,
            row.metric,
            row.note,
            row.own,
            start=percent(row.metric.low),
            width=round(percent(row.metric.high) - percent(row.metric.low), 2),
            at=percent(row.metric.value),
        )
        for row in rows
    )
    return Forest(tuple(lines), None if mark is None else percent(mark))
