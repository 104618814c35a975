"""Whether test rows are like training rows: a model that tries to tell them apart, and each feature by itself."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from contract.evidence import DataWarning
from contract.histogram import NUMBER_BINS, quantile_edges, ratios
from training.checking.quick import Grade, Matrix, boosted, evenly, grade
from training.rows import Indices

MOST_ROWS = 4_000  # of each part
FEWEST_ROWS = 100
TOLD_APART = 0.6  # ROC AUC, lower end of the interval
DRIFTED = 0.1  # PSI
FAR_DRIFTED = 0.25
FALSE_ALARMS = 0.01  # in how many data sets without a shift a feature may be named
MOST_CATEGORIES = 20
MOST_NAMED = 5
ADVICE = (
    "the future may differ from training as the test rows do: trust the test figures, not those of validation; a"
    " feature that only tells when a row came about (a month, a running number) may be better left out"
)


def warnings(x: Matrix, train: Indices, test: Indices) -> Iterator[DataWarning]:
    """`train` and `test` are row numbers of `x`, which may hold the target as a column too."""
    if min(len(train), len(test)) < FEWEST_ROWS or not x.names:
        return
    drifted = shifted(x, train, test)
    named = ", ".join(f"{name} {psi:.2f}" for name, psi in list(drifted.items())[:MOST_NAMED])
    more = f" and {len(drifted) - MOST_NAMED} more" if len(drifted) > MOST_NAMED else ""
    told = told_apart(x, train, test)
    if told.low > TOLD_APART:
        by = f"PSI by feature: {named}{more}" if drifted else "no feature shows it alone, only several together"
        seen = f"a model tells test rows from training rows with ROC AUC {told.value:.2f} ({told.low:.2f} to"
        yield DataWarning(check="shift", seen=f"{seen} {told.high:.2f}; 0.5 is alike); {by}", advice=ADVICE)
    elif drifted and max(drifted.values()) > FAR_DRIFTED:
        seen = f"test rows differ from training rows; PSI by feature: {named}{more}"
        yield DataWarning(check="shift", seen=seen, advice=ADVICE)


def told_apart(x: Matrix, train: Indices, test: Indices) -> Grade:
    """How well gradient boosting tells rows of the two parts apart that it was not fitted to: ROC AUC (adversarial
    validation; Lopez-Paz and Oquab, Revisiting Classifier Two-Sample Tests, 2017)."""
    a, b = evenly(train, MOST_ROWS), evenly(test, MOST_ROWS)
    rows = np.concatenate([a, b])
    part = np.concatenate([np.zeros(len(a)), np.ones(len(b))])
    order = np.random.default_rng(0).permutation(len(rows))
    learnt, held = order[::2], order[1::2]
    given = boosted(x.take(rows[learnt]), part[learnt], "binary", x.take(rows[held]))
    return grade("binary", part[held], given)


def shifted(x: Matrix, train: Indices, test: Indices) -> dict[str, float]:
    """PSI of each feature that has moved beyond `DRIFTED` and beyond chance, the furthest first.

    Without drift PSI is near (1/n + 1/m) times a chi-square of (bins - 1) degrees of freedom (Yurdakul, Statistical
    Properties of Population Stability Index, 2018, section 3.2); the share of false alarms is divided by the features
    (Bonferroni).
    """
    found = {}
    for i, name in enumerate(x.names):
        count = _count_categories if x.categorical[i] else _count_numbers
        expected, actual = count(x.values[train, i], x.values[test, i])
        psi = population_stability(expected, actual)
        chance = chi2.ppf(1 - FALSE_ALARMS / len(x.names), max(1, len(expected) - 1))
        if psi > max(DRIFTED, chance * (1 / expected.sum() + 1 / actual.sum())):
            found[name] = psi
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def population_stability(expected: NDArray[np.int64], actual: NDArray[np.int64]) -> float:
    """PSI of two histograms on the same bins, each smoothed by half a row."""
    p, q = np.array(ratios(expected)), np.array(ratios(actual))
    return float(np.sum((q - p) * np.log(q / p)))


def _count_numbers(*parts: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """On deciles of the first part, below, above and missing; bins that hold nothing of either are none."""
    edges = np.array(quantile_edges(parts[0], NUMBER_BINS), np.float32)
    edges[-1] = np.nextafter(edges[-1], np.float32(np.inf))
    bins = [np.where(np.isnan(part), len(edges) + 1, np.searchsorted(edges, part, side="right")) for part in parts]
    return _occupied(bins, len(edges) + 2)


def _count_categories(*parts: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The most frequent values of all rows, the others, and missing."""
    bins = [np.where(np.isnan(part), MOST_CATEGORIES + 1, np.minimum(part, MOST_CATEGORIES)) for part in parts]
    return _occupied([each.astype(np.int64) for each in bins], MOST_CATEGORIES + 2)


def _occupied(bins: list[NDArray[np.int64]], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    expected, actual = (np.bincount(each, minlength=count) for each in bins)
    there = expected + actual > 0
    return expected[there], actual[there]
