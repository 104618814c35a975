"""What a canary and production have done side by side: numbers that add up, over processes and over restarts."""

import math
from collections.abc import Iterable, Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field


class _Sum(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Moments(_Sum):
    """Of values: how many, their mean, and the sum of squares about it."""

    count: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: Sequence[float]) -> "Moments":
        mean = math.fsum(values) / len(values)
        return cls(count=len(values), mean=mean, squares=math.fsum((value - mean) ** 2 for value in values))

    def plus(self, other: "Moments") -> "Moments":
        """Chan, Golub and LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, 1979."""
        count = self.count + other.count
        if not count:
            return self
        apart = other.mean - self.mean
        return Moments(
            count=count,
            mean=self.mean + apart * other.count / count,
            squares=self.squares + other.squares + apart**2 * self.count * other.count / count,
        )


class Side(_Sum):
    """One of the two: requests that came to it by the split, and how many of them failed; the logarithms of the seconds
    that runs took, by how many rows ran; and, one row of each request, its outputs by the bins of production and its
    labels."""

    requests: int = 0
    failed: int = 0
    seconds: dict[int, Moments] = Field(default={})
    bins: tuple[int, ...] = ()
    labels: tuple[int, ...] = ()

    def plus(self, other: "Side") -> "Side":
        return Side(
            requests=self.requests + other.requests,
            failed=self.failed + other.failed,
            seconds=_merged(self.seconds, other.seconds),
            bins=added(self.bins, other.bins),
            labels=added(self.labels, other.labels),
        )


class Pairs(_Sum):
    """Requests that both have answered. `disagreed` adds up the share of each one's rows on which they did; `largest`
    the largest difference of each. `failed` are those that production could not answer or nobody can compare, `shed`
    those that were not tried for want of time. Bins and labels are as of a side, of the same rows."""

    requests: int = 0
    disagreed: float = 0.0
    largest: float = 0.0
    failed: int = 0
    shed: int = 0
    production: Side = Side()
    canary: Side = Side()

    def plus(self, other: "Pairs") -> "Pairs":
        return Pairs(
            requests=self.requests + other.requests,
            disagreed=self.disagreed + other.disagreed,
            largest=self.largest + other.largest,
            failed=self.failed + other.failed,
            shed=self.shed + other.shed,
            production=self.production.plus(other.production),
            canary=self.canary.plus(other.canary),
        )


class Evidence(_Sum):
    """Of one step of one canary. `beside` is whether production was asked at the same time."""

    production: Side = Side()
    canary: Side = Side()
    pairs: Pairs = Pairs()
    beside: bool = True

    def plus(self, other: "Evidence") -> "Evidence":
        return Evidence(
            production=self.production.plus(other.production),
            canary=self.canary.plus(other.canary),
            pairs=self.pairs.plus(other.pairs),
        )


def total(parts: Iterable[Evidence]) -> Evidence:
    found = Evidence()
    for part in parts:
        found = found.plus(part)
    return found


def added(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    """Counts by bin; of nothing, and of bins that are others, what there is more of."""
    if len(first) != len(second):
        return max(first, second, key=len)
    return tuple(a + b for a, b in zip(first, second, strict=True))


def _merged(first: Mapping[int, Moments], second: Mapping[int, Moments]) -> dict[int, Moments]:
    nothing = Moments()
    return {rows: first.get(rows, nothing).plus(second.get(rows, nothing)) for rows in first.keys() | second.keys()}
