"""What the service needs to say how strange a row is, from training rows: contract/outlier.py has the formula."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from contract import watched, wording
from contract.encoded import Encoded
from contract.features import Encoder
from contract.histogram import InputCounter
from contract.manifest import DriftBaseline
from contract.outlier import Matrix, OutlierBaseline, OutlierCategory, OutlierNumber, OutlierScorer
from contract.values import FIRST_KNOWN

# As many rows say all that there is to say; of fewer than the least nothing can be said.
MOST_ROWS, LEAST_ROWS = 50_000, 20
# The square root of the rows, between these.
LEAST_BINS, MOST_BINS = 4, 64
# Of more numbers than that, each is looked at by itself: a matrix of all pairs would outgrow the model.
MOST_TOGETHER = 64
# Shifts travel in the manifest.
MOST_SHIFTS, MOST_VALUES = 20_000, 128

# Histograms leave so much out at either end: one wild value would make all others share a bin.
TAIL = 0.001
# A value of a category counts as if it had so many rows more, which move nothing.
SHRINKAGE = 5.0
SWEEPS = 10
# The least variance of a direction: numbers that are sums of others would make any rounding error infinitely strange.
LEAST_VARIANCE = 1e-6

# Up to where numbers are told apart, so that no width is beyond float32.
LARGEST = float(np.finfo(np.float32).max) / 8

FOLDS = 5
SHARES = (*np.arange(0.0, 0.95, 0.05).round(2), 0.95, 0.97, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 1.0)

Numbers = NDArray[np.float32]
Codes = NDArray[np.int32]
Floats = NDArray[np.float64]


class Columns(NamedTuple):
    """What is watched of rows: `numbers` float32 [n, F] and `codes` int32 [n, C], in the order of their names;
    `categories` have the number of their codes."""

    names: tuple[str, ...]
    numbers: Numbers
    categories: Mapping[str, int]
    codes: Codes

    def take(self, rows: NDArray[Any]) -> "Columns":
        return self._replace(numbers=self.numbers[rows], codes=self.codes[rows])


def of_rows(encoder: Encoder, encoded: Encoded, drift: DriftBaseline, seed: int) -> OutlierBaseline | None:
    """From training rows, of all that their drift baseline watches; None where that is nothing, or the rows are few."""
    drawn = encoded.take(slice(None, None, max(1, -(-encoded.rows // MOST_ROWS))))
    counter = InputCounter.of(encoder, drift.inputs, drift.words)
    numbers, codes, measured = counter.columns(drawn)
    for i, label in enumerate(counter.statistics.labels):
        text = next((each for each in watched.statistics(encoder.features) if each.label == label), None)
        if text is not None and text.name == watched.UNKNOWN_WORDS:
            measured[:, i] = wording.unknown_shares_in_training(_texts(encoder, drawn, text.feature))
    names = (*counter.names[: numbers.shape[1]], *counter.statistics.labels)
    sizes = {feature.name: FIRST_KNOWN + len(feature.vocabulary) for feature in encoder.category_features}
    return fit(Columns(names, np.concatenate([numbers, measured], axis=1), sizes, codes), seed)


def _texts(encoder: Encoder, encoded: Encoded, name: str) -> list[str]:
    names = [feature.name for feature in encoder.text_features]
    return [] if encoded.texts is None else encoded.texts[:, names.index(name)].tolist()


def fit(columns: Columns, seed: int) -> OutlierBaseline | None:
    """From training rows; None where there is nothing to go by.

    How strange training rows are is told by baselines that have not seen them, each fitted to the other folds: by its
    own a row is less strange than a new one like it, and of few rows many new ones would look strange.
    """
    rows = len(columns.numbers)
    if rows < LEAST_ROWS or not (columns.names or columns.categories):
        return None
    order = np.random.default_rng(seed).permutation(rows)[:MOST_ROWS]
    columns, folds = columns.take(order), np.arange(len(order)) % FOLDS
    # The same for all folds: the more bins, the less is in each, and the stranger everything is.
    bins = int(np.clip(np.sqrt(len(order)), LEAST_BINS, MOST_BINS))
    scores = np.empty(len(order))
    for fold in range(FOLDS):
        scorer = _scorer(_fit(columns.take(folds != fold), bins), columns)
        unseen = columns.take(folds == fold)
        scores[folds == fold] = scorer.scores(unseen.numbers, unseen.codes)
    return _fit(columns, bins).model_copy(update=_quantiles(scores))


def _fit(columns: Columns, bins: int) -> OutlierBaseline:
    """All but the scores of training rows, which stay what they never are."""
    rows = len(columns.numbers)
    margins = OutlierBaseline(
        rows=rows,
        numbers={name: _number(column, bins) for name, column in zip(columns.names, columns.numbers.T, strict=True)},
        categories={
            name: OutlierCategory(shares=_shares(np.bincount(codes, minlength=size)))
            for (name, size), codes in zip(columns.categories.items(), columns.codes.T, strict=True)
        },
        scores=(0.0, 1.0),
        shares=(0.0, 1.0),
    )
    return _together(margins, columns) if 0 < len(columns.names) <= MOST_TOGETHER else margins


def _number(column: Numbers, bins: int) -> OutlierNumber:
    low, high = (np.float32(each) for each in _range(column, bins))
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and above or below all the same
        places = np.floor((column[~np.isnan(column)] - low) / ((high - low) / np.float32(bins)))
    counts = np.bincount(np.clip(places, -1, bins).astype(np.int64) + 1, minlength=bins + 2)
    return OutlierNumber(low=float(low), high=float(high), shares=_shares(np.append(counts, np.isnan(column).sum())))


def _range(column: Numbers, bins: int) -> tuple[float, float]:
    """Where the bins lie; half a bin wider than the numbers, so that whole numbers lie in the middle of theirs."""
    finite = np.clip(column[np.isfinite(column)].astype(np.float64), -LARGEST, LARGEST)
    if not finite.size:
        return 0.0, 1.0
    low, high = np.quantile(finite, [TAIL, 1 - TAIL])
    if low == high:
        low, high = finite.min(), finite.max()
    half = (high - low) / (bins - 1) / 2 or max(abs(low), 1.0) / 2
    return float(low - half), float(high + half)


def _together(margins: OutlierBaseline, columns: Columns) -> OutlierBaseline:
    """With what the normal numbers have to do with the categories, and with each other."""
    normal = _scorer(margins, columns).normal(columns.numbers).astype(np.float64)
    there = ~np.isnan(normal)
    means = np.where(there, normal, 0.0).sum(axis=0) / np.maximum(there.sum(axis=0), 1)
    rest, shifts = _shifted(np.where(there, normal - means, 0.0), there, columns)
    categories = {
        name: each.model_copy(update={"shifts": _matrix(shift)})
        for (name, each), shift in zip(margins.categories.items(), shifts, strict=True)
    }
    whitening = _matrix(_whitening(rest, there))
    return margins.model_copy(
        update={"means": tuple(map(_short, means)), "whitening": whitening, "categories": categories}
    )


def _shifted(rest: Floats, there: NDArray[np.bool_], columns: Columns) -> tuple[Floats, list[Floats]]:
    """What categories leave of the numbers, and by how much each of their values moves them: additive effects by
    backfitting (Friedman and Stuetzle, Projection Pursuit Regression, 1981), shrunk as a ridge does it."""
    present = there.astype(np.float64)
    most = MOST_SHIFTS // max(1, rest.shape[1] * len(columns.categories))
    ones = [_one_hot(codes, min(most, MOST_VALUES)) for codes in columns.codes.T]
    shifts = [np.zeros((each.shape[1], rest.shape[1])) for each in ones]
    for _ in range(SWEEPS):
        for i, one in enumerate(ones):
            before = (rest + one @ shifts[i]) * present
            shifts[i] = (one.T @ before) / (one.T @ present + SHRINKAGE)
            rest = (before - one @ shifts[i]) * present
    return rest, shifts


def _one_hot(codes: Codes, most: int) -> Any:  # noqa: ANN401  # scipy has no type information
    """[n, values] of the values that come first, which are the most frequent; unseen and missing have none."""
    values = codes - FIRST_KNOWN
    known = np.flatnonzero((values >= 0) & (values < most))
    width = int(values[known].max()) + 1 if known.size else 0
    return sparse.csr_matrix((np.ones(known.size), (known, values[known])), shape=(len(codes), width))


def _whitening(rest: Floats, there: NDArray[np.bool_]) -> Floats:
    """[F, F] that makes what is left uncorrelated and of variance 1. Each covariance is of the rows that have both
    numbers; what then is no covariance matrix any more is made one by its eigenvalues."""
    present = there.astype(np.float64)
    covariance = (rest.T @ rest) / np.maximum(present.T @ present, 1.0)
    variances, directions = np.linalg.eigh(covariance)
    whitening: Floats = directions / np.sqrt(np.maximum(variances, LEAST_VARIANCE))
    return whitening


def _quantiles(scores: Floats) -> dict[str, tuple[float, ...]]:
    """Of the rows' scores; where several shares have one score, no more than the least of them is less strange."""
    values, first = np.unique(np.quantile(scores, SHARES), return_index=True)
    shares = np.array(SHARES)[first]
    if shares[-1] < 1.0:
        values, shares = np.append(values, values[-1] + 1e-3 * max(1.0, abs(values[-1]))), np.append(shares, 1.0)
    return {"scores": tuple(values.tolist()), "shares": tuple(shares.tolist())}


def _scorer(baseline: OutlierBaseline, columns: Columns) -> OutlierScorer:
    return OutlierScorer(baseline, columns.names, tuple(columns.categories))


def _shares(counts: NDArray[np.int64]) -> tuple[float, ...]:
    return tuple(_short(each) for each in counts / max(1, counts.sum()))


def _matrix(values: Floats) -> Matrix:
    return tuple(tuple(_short(each) for each in row) for row in values)


def _short(value: float) -> float:
    """Six digits: these travel in the manifest."""
    return float(f"{value:.6g}")
