"""How strange a row is: what training writes down about its rows, and the score that is made of it.

The score is, but for a constant, minus the logarithm of a density: a Gaussian copula with histograms for its margins,
the nonparanormal of Liu, Lafferty and Wasserman (The Nonparanormal, 2009, section 3), given the row's categories.

- Each number has a histogram of bins of equal width (HBOS: Goldstein and Dengel, Histogram-Based Outlier Score, 2012).
  A rare bin surprises; beyond training, the further the more.
- Through its histogram each number becomes normal. Of all together it is the Mahalanobis distance that surprises: a
  value that is usual may not be beside the others. Each category moves the means of the numbers by what it moved them
  in training: a distance that is usual may not be for this destination.
- Each category, and each missing value, surprises by minus the logarithm of its share.

What is added up so says little to people. Its place among training rows does: which share of them is less strange.
"""

from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import FailFast, Field, FiniteFloat, model_validator
from typing_extensions import TypeAliasType

from contract.part import Many, Part
from contract.signature import Float32
from contract.values import FIRST_KNOWN

MOST_BINS = 1000

# Upper bounds of the buckets that rows are counted in: by shares of training rows. What matters is the tail.
BOUNDS = (0.5, 0.9, 0.95, 0.99, 0.999, 1.0)

# How far beyond training a number is followed, in widths of its histogram: 30 standard deviations at most.
FAR = 4
# Up to so many deviations, what is strange about a number by itself is what its histogram says, and no more.
LIMIT = 3.0

# Multiplications from which on OpenBLAS takes several threads (its interface/gemm.c), which spin while they wait.
ONE_THREAD = 2**18

Ratios = Many[Annotated[float, Field(ge=0, le=1)]]
Matrix = TypeAliasType("Matrix", Many[tuple[FiniteFloat, ...]])
Numbers = NDArray[np.float32]
Codes = NDArray[np.int32]


class OutlierNumber(Part):
    """A number's histogram: bins of equal width from `low` to `high`. `shares` are of training rows: below, one a bin,
    above, missing."""

    low: Float32
    high: Float32
    shares: Annotated[Ratios, Field(min_length=4, max_length=MOST_BINS + 3)]

    @model_validator(mode="after")
    def _has_a_width(self) -> "OutlierNumber":
        if self.low >= self.high:
            raise ValueError("high must be above low")
        return self


class OutlierCategory(Part):
    """`shares` of training rows by code: unseen, missing, one a value of the vocabulary. `shifts`, [values][numbers],
    is by how much the most frequent values move the means of the normal numbers."""

    shares: Annotated[Ratios, Field(min_length=3)]
    shifts: Matrix = ()


class OutlierBaseline(Part):
    """What is needed to score rows as `OutlierScorer` does, from so many training rows.

    `numbers` are by the name of what is watched (contract.watched), all with as many bins; `means` are those of the
    normal numbers. `whitening` [numbers][numbers] makes their deviations independent and of variance 1; it is absent
    where there are too many of them. `scores` rise strictly; `shares` of training rows are less strange than each.
    """

    rows: int = Field(gt=0)
    numbers: dict[str, OutlierNumber]
    categories: dict[str, OutlierCategory]
    means: Many[FiniteFloat] = ()
    whitening: Matrix = ()
    scores: Annotated[tuple[FiniteFloat, ...], Field(min_length=2), FailFast()]
    shares: Ratios

    @model_validator(mode="after")
    def _fits(self) -> "OutlierBaseline":
        count = len(self.numbers)
        matrices = [self.whitening, *(each.shifts for each in self.categories.values())]
        if not self.numbers and not self.categories:
            raise ValueError("there is nothing to score")
        if self.numbers.keys() & self.categories.keys():
            raise ValueError("what is scored must be a number or a category, and not both")
        if len({len(each.shares) for each in self.numbers.values()}) > 1:
            raise ValueError("all numbers must have as many bins")
        if len(self.means) != (count if self.whitening else 0) or len(self.whitening) not in (0, count):
            raise ValueError("means and whitening must be of all numbers, or of none")
        if any(len(row) != count for matrix in matrices for row in matrix):
            raise ValueError("each row of whitening and shifts must have a value a number")
        if any(len(each.shifts) > len(each.shares) - FIRST_KNOWN for each in self.categories.values()):
            raise ValueError("a category must not have more shifts than values")
        if len(self.shares) != len(self.scores) or not _rise(self.scores) or not _rise(self.shares):
            raise ValueError("scores and their shares must be as many, and rise strictly")
        return self


class OutlierScorer:
    """Scores rows of a version. `numbers` and `categories` are the names of the columns that it will be given; those
    that the baseline does not know are left out."""

    def __init__(self, baseline: OutlierBaseline, numbers: Sequence[str], categories: Sequence[str]) -> None:
        self._columns = _indices(list(baseline.numbers), numbers)
        self._codes = _indices(list(baseline.categories), categories)
        parts = list(baseline.numbers.values())
        self._bins = len(parts[0].shares) - 3 if parts else 1
        low = np.array([each.low for each in parts], np.float32)
        width = (np.array([each.high for each in parts], np.float32) - low) / np.float32(self._bins)
        self._low, self._a_bin = low, 1 / np.maximum(width, np.finfo(np.float32).tiny)
        self._starts = np.arange(len(parts), dtype=np.int32) * (self._bins + 3) + 1
        self._ones = np.ones(len(parts), np.float32)  # a product adds up rows quicker than a sum does
        tables = [_tables(each, baseline.rows, normal=bool(baseline.whitening)) for each in parts]
        self._surprise, self._slopes, self._intercepts = (_joined([each[i] for each in tables]) for i in range(3))
        self._whitening = np.array(baseline.whitening, np.float32)
        self._means = np.array(baseline.means, np.float32)
        self._categories = _Categories(baseline)
        self._scores, self._shares = np.array(baseline.scores), np.array(baseline.shares)

    def shares(self, numbers: Numbers, codes: Codes) -> NDArray[np.float64]:
        """Which share of training rows is less strange than each row, [n], 0 to 1; float32 [n, F] and int32 [n, C]."""
        shares: NDArray[np.float64] = np.interp(self.scores(numbers, codes), self._scores, self._shares)
        return shares

    def scores(self, numbers: Numbers, codes: Codes) -> Numbers:
        """How strange each row is, [n]: the larger, the stranger. NaN is a missing number."""
        codes = codes[:, self._codes]
        places, bins = self._places(numbers)
        scores: Numbers = self._surprise.take(bins) @ self._ones + self._categories.surprise(codes)
        if len(self._whitening):
            rest = self._line(places, bins) - self._means
            rest -= self._categories.shift(codes)
            rest[np.isnan(rest)] = 0.0  # what is missing is as it would be expected to be
            independent = _product(rest, self._whitening)
            scores += np.einsum("ij,ij->i", independent, independent) / 2
        return scores

    def normal(self, numbers: Numbers) -> Numbers:
        """The numbers as they become normal, one by one: [n, F] to [n, those that are known], NaN where missing."""
        return self._line(*self._places(numbers))

    def _places(self, numbers: Numbers) -> tuple[Numbers, Codes]:
        """Where numbers lie, in bins from the first one's start, NaN where missing; and which entry of the tables that
        is: of each number below, its bins, above, missing."""
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and as far away as anything can be
            places = (numbers[:, self._columns] - self._low) * self._a_bin
        np.clip(places, -FAR * self._bins, (1 + FAR) * self._bins, out=places)
        bins = np.clip(np.floor(places), -1, self._bins)
        entries = np.fmin(bins, self._bins + 1, out=bins).astype(np.int32)  # which takes the number instead of NaN
        entries += self._starts
        return places, entries

    def _line(self, places: Numbers, bins: Codes) -> Numbers:
        line: Numbers = self._slopes.take(bins) * places + self._intercepts.take(bins)
        return line


class _Categories:
    """What all categories of a row say, by their codes."""

    def __init__(self, baseline: OutlierBaseline) -> None:
        parts = list(baseline.categories.values())
        self._starts = np.cumsum([0, *(len(each.shares) for each in parts)], dtype=np.int32)[:-1]
        self._surprise = _joined([-np.log(_smoothed(each.shares, baseline.rows)) for each in parts])
        self._shifts = np.zeros((len(self._surprise), len(baseline.numbers)), np.float32)
        self._moved = any(each.shifts for each in parts)
        self._ones = np.ones(len(parts), np.float32)
        for start, each in zip(self._starts.tolist(), parts, strict=True):
            if each.shifts:
                self._shifts[start + FIRST_KNOWN : start + FIRST_KNOWN + len(each.shifts)] = each.shifts

    def surprise(self, codes: Codes) -> Numbers:
        """[n, C] -> [n]."""
        total: Numbers = self._surprise.take(codes + self._starts) @ self._ones
        return total

    def shift(self, codes: Codes) -> Numbers | float:
        """[n, C] -> [n, F]."""
        if not self._moved:
            return 0.0
        first, *others = (codes + self._starts).T
        shift: Numbers = self._shifts.take(first, axis=0)
        for each in others:
            shift += self._shifts.take(each, axis=0)
        return shift


def buckets(shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """Rows by bucket of `BOUNDS`, int64; a share belongs to the first bound that it does not exceed."""
    return np.bincount(np.searchsorted(BOUNDS, shares), minlength=len(BOUNDS)).astype(np.int64)


def _tables(number: OutlierNumber, rows: int, *, normal: bool) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """By bin, below to missing: its surprise, and slope and intercept of the line that makes a place in it normal."""
    shares = _smoothed(number.shares, rows)
    there = shares[:-1] / shares[:-1].sum()
    bins = len(there) - 2
    edges = np.array([NormalDist().inv_cdf(each) for each in np.cumsum(there)[:-1]])
    beyond = (edges[-1] - edges[0]) / bins
    slopes = np.array([beyond, *np.diff(edges), beyond, 0.0])
    intercepts = np.array([edges[0], *(edges[:-1] - slopes[1:-2] * np.arange(bins)), edges[-1] - beyond * bins, 0.0])
    surprise = -np.log(shares)
    usual = -(there @ np.log(there))
    if normal:
        # Half the square of what is normal is a part of the distance, which must not count what the bin has counted.
        squares = np.array([LIMIT, *(edges[:-1] + edges[1:]) / 2, LIMIT]).clip(-LIMIT, LIMIT) ** 2
        surprise[:-1] -= squares / 2
        usual += (1.0 - there @ squares) / 2
    # A missing number is as strange as it is rare, and beside that as any is: else the less were known of a row, the
    # less strange it would be.
    surprise[-1] += usual
    return surprise, slopes, intercepts


def _product(rows: Numbers, matrix: Numbers) -> Numbers:
    """In parts that are small enough for one thread: BLAS would wake others, which takes longer than the work."""
    part = max(1, ONE_THREAD // max(1, matrix.size))
    if len(rows) <= part:
        return rows @ matrix
    return np.concatenate([rows[start : start + part] @ matrix for start in range(0, len(rows), part)])


def _smoothed(shares: Sequence[float], rows: int) -> NDArray[np.float64]:
    """By half a row each, so that none is zero."""
    counts: NDArray[np.float64] = np.array(shares) * rows + 0.5
    return counts / np.sum(counts)


def _joined(parts: Sequence[NDArray[Any]]) -> Numbers:
    return np.concatenate([np.empty(0), *parts]).astype(np.float32)


def _indices(wanted: Sequence[str], given: Sequence[str]) -> slice | NDArray[np.intp]:
    """Where each wanted name is among those given; a slice where they are the same, which takes no time."""
    if list(wanted) == list(given):
        return slice(None)
    return np.array([list(given).index(name) for name in wanted], np.intp)


def _rise(values: Sequence[float]) -> bool:
    return all(a < b for a, b in pairwise(values))
