"""Histograms that training fits and the service counts into: the bins of the drift baseline.

Numbers fall into quantile bins of the training data, so that every bin holds about the same share when nothing has
drifted; below, above, missing and non-finite are bins of their own. Categories: the most frequent ones, other,
missing, unseen. Counting works on all features of all rows at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.features import FIRST_KNOWN, MISSING, UNSEEN, Encoded, Encoder
from contract.manifest import Bins, CategoryBins, CategoryFeature, MulticlassOutput, NumberBins, Output, TensorsOutput

NUMBER_BINS = 10
MOST_CATEGORIES = 20

Counts = NDArray[np.int64]


def quantile_edges(values: NDArray[np.float32], bins: int = NUMBER_BINS) -> tuple[float, ...]:
    """At most `bins` + 1 strictly rising float32 quantiles of the finite `values`; at least two, whatever comes."""
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return (0.0, 1.0)
    # Each edge is a value that occurs, so a number with few different values gets a bin for each of them.
    edges = np.unique(np.quantile(finite, np.linspace(0, 1, bins + 1), method="lower"))
    if edges.size == 1:
        edges = np.array([edges[0], np.nextafter(edges[0], np.float32(np.inf))])
    return tuple(float(edge) for edge in edges)


def most_frequent(codes: NDArray[np.int32], vocabulary: Sequence[str]) -> tuple[str, ...]:
    """The most frequent categories, the most frequent first; ties in the order of the vocabulary."""
    counts = np.bincount(codes, minlength=FIRST_KNOWN + len(vocabulary))[FIRST_KNOWN:]
    order = np.argsort(-counts, kind="stable")[:MOST_CATEGORIES]
    return tuple(vocabulary[i] for i in order)


def ratios(counts: Counts) -> tuple[float, ...]:
    """Proportions, smoothed by half a row a bin so that none is zero: PSI takes their logarithm."""
    smoothed = counts + 0.5
    return tuple(float(ratio) for ratio in smoothed / smoothed.sum())


def bin_names(bins: Bins) -> tuple[str, ...]:
    """The value of the label `bin` for each count, in the order of `ratios`."""
    if isinstance(bins, CategoryBins):
        return (*(f"={category}" for category in bins.categories), "other", "missing", "unseen")
    edges = [str(np.float32(edge)) for edge in bins.edges]
    inner = [f"{low}..{high}" for low, high in pairwise(edges)]
    return ("below", *inner, "above", "missing", "non_finite")


class NumberCounter:
    """Counts float32 [n, F] into the bins of F numbers; the counts of all of them in one flat array."""

    def __init__(self, bins: Sequence[NumberBins], nan_is_missing: bool) -> None:
        self.sizes = [len(each.ratios) for each in bins]
        self._starts = np.cumsum([0, *self.sizes], dtype=np.int64)[:-1]
        self._total = sum(self.sizes)
        # Rows of edges, padded with infinity: no finite number ever passes the padding.
        self._edges = np.full((len(bins), max((len(each.edges) for each in bins), default=0)), np.inf, np.float32)
        for row, each in zip(self._edges, bins, strict=True):
            row[: len(each.edges)] = each.edges
            row[len(each.edges) - 1] = np.nextafter(np.float32(each.edges[-1]), np.float32(np.inf))  # last bin: closed
        ends = self._starts + self.sizes
        self._non_finite = ends - 1
        self._of_nan = ends - 2 if nan_is_missing else ends - 1

    def count(self, numbers: NDArray[np.float32]) -> Counts:
        """Counts by flat bin, int64 [sum of sizes]."""
        passed = np.zeros(numbers.shape, np.uint16)
        for edges in self._edges.T:  # one pass over memory that is in order for each, and nothing larger is made
            passed += numbers >= edges
        bins = passed + self._starts
        if not np.isfinite(numbers).all():
            bins = np.where(np.isinf(numbers), self._non_finite, bins)
            bins = np.where(np.isnan(numbers), self._of_nan, bins)
        return np.bincount(bins.ravel(), minlength=self._total)


class CategoryCounter:
    """Counts codes int32 [n, C] into the bins of C categories; the counts of all of them in one flat array."""

    def __init__(self, bins: Sequence[CategoryBins], features: Sequence[CategoryFeature]) -> None:
        self.sizes = [len(each.ratios) for each in bins]
        self._total = sum(self.sizes)
        tables = [_bin_of_code(each, feature) for each, feature in zip(bins, features, strict=True)]
        starts = np.cumsum([0, *self.sizes])[:-1]
        self._bins = np.concatenate([t + s for t, s in zip(tables, starts, strict=True)] or [np.empty(0, np.int64)])
        self._starts = np.cumsum([0, *map(len, tables)], dtype=np.int64)[:-1]

    def count(self, categories: NDArray[np.int32]) -> Counts:
        """Counts by flat bin, int64 [sum of sizes]."""
        return np.bincount(self._bins[categories + self._starts].ravel(), minlength=self._total)


def _bin_of_code(bins: CategoryBins, feature: CategoryFeature) -> NDArray[np.int64]:
    known = len(bins.categories)
    table = np.full(FIRST_KNOWN + len(feature.vocabulary), known, np.int64)  # other
    table[MISSING], table[UNSEEN] = known + 1, known + 2
    place = {category: i for i, category in enumerate(bins.categories)}
    for i, value in enumerate(feature.vocabulary):
        table[FIRST_KNOWN + i] = place.get(value, known)
    return table


@dataclass(frozen=True)
class InputCounter:
    """Counts encoded rows into the bins of every number and category of one manifest."""

    numbers: NumberCounter
    categories: CategoryCounter
    names: tuple[str, ...]

    @classmethod
    def of(cls, encoder: Encoder, bins: Mapping[str, Bins]) -> "InputCounter":
        numbers = [feature.name for feature in encoder.number_features]
        numbers += [feature.name for feature in encoder.tensor_features if feature.name in bins]
        categories = [feature.name for feature in encoder.category_features]
        number_bins, category_bins = [bins[name] for name in numbers], [bins[name] for name in categories]
        return cls(
            NumberCounter([each for each in number_bins if isinstance(each, NumberBins)], nan_is_missing=True),
            CategoryCounter(
                [each for each in category_bins if isinstance(each, CategoryBins)], encoder.category_features
            ),
            (*numbers, *categories),
        )

    @property
    def sizes(self) -> list[int]:
        return [*self.numbers.sizes, *self.categories.sizes]

    def count(self, encoded: Encoded) -> Counts:
        """Flat counts: the bins of each feature in the order of `names`."""
        return self.count_columns(*self.columns(encoded))

    def columns(self, encoded: Encoded) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """What is counted: numbers float32 [n, F] and codes int32 [n, C]."""
        if encoded.tensors is not None:
            return float_columns(encoded.tensors, self.names, encoded.rows), encoded.categories
        return encoded.numbers, encoded.categories

    def count_columns(self, numbers: NDArray[np.float32], categories: NDArray[np.int32]) -> Counts:
        """Flat counts, of what `columns` has picked."""
        return np.concatenate([self.numbers.count(numbers), self.categories.count(categories)])

    def split(self, counts: Counts) -> dict[str, Counts]:
        """Flat counts by feature."""
        if not self.names:
            return {}
        parts = np.split(counts, np.cumsum(self.sizes)[:-1])
        return dict(zip(self.names, parts, strict=True))


def fit_inputs(encoder: Encoder, encoded: Encoded) -> dict[str, Bins]:
    """The baseline of every number and category on the rows given."""
    empty: dict[str, Bins] = {}
    for feature, values in zip(encoder.number_features, encoded.numbers.T, strict=True):
        edges = quantile_edges(values)
        empty[feature.name] = NumberBins(edges=edges, ratios=(0.0,) * (len(edges) + 3))
    for category, codes in zip(encoder.category_features, encoded.categories.T, strict=True):
        categories = most_frequent(codes, category.vocabulary)
        empty[category.name] = CategoryBins(categories=categories, ratios=(0.0,) * (len(categories) + 3))
    counter = InputCounter.of(encoder, empty)
    counts = counter.split(counter.count(encoded))
    return {name: bins.model_copy(update={"ratios": ratios(counts[name])}) for name, bins in empty.items()}


def float_columns(tensors: Mapping[str, NDArray[Any]], names: Sequence[str], rows: int) -> NDArray[np.float32]:
    """Tensors of one number a row, [n] or [n, 1], as columns, float32 [n, names]."""
    columns = np.empty((rows, len(names)), np.float32)
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and counted as such
        for i, name in enumerate(names):
            columns[:, i] = tensors[name].reshape(rows)
    return columns


def fit_numbers(columns: Mapping[str, NDArray[Any]], rows: int) -> dict[str, NumberBins]:
    """The baseline of tensors of one number a row."""
    values = float_columns(columns, tuple(columns), rows)
    return {name: fit_output(column) for name, column in zip(columns, values.T, strict=True)}


@dataclass(frozen=True)
class OutputCounter:
    """Counts a model's outputs, by name, into the bins of those that are watched."""

    names: tuple[str, ...]
    output: Output
    numbers: NumberCounter

    @classmethod
    def of(cls, output: Output, bins: Mapping[str, NumberBins]) -> "OutputCounter":
        return cls(tuple(bins), output, NumberCounter(list(bins.values()), nan_is_missing=False))

    @property
    def sizes(self) -> list[int]:
        return self.numbers.sizes

    def watched(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """What is counted, float32 [n, names]."""
        if isinstance(self.output, TensorsOutput):
            rows = len(next(iter(outputs.values())))
            return float_columns(outputs, self.names, rows)
        return scores(self.output, outputs[self.output.name])[:, None]

    def count(self, watched: NDArray[np.float32]) -> Counts:
        """Flat counts: the bins of each watched output in the order of `names`."""
        return self.numbers.count(watched)

    def split(self, counts: Counts) -> dict[str, Counts]:
        """Flat counts by output."""
        if not self.names:
            return {}
        return dict(zip(self.names, np.split(counts, np.cumsum(self.sizes)[:-1]), strict=True))


def scores(output: Output, answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """What an output's drift is watched by, float32 [n]: the largest probability where there is one a class (Hendrycks
    and Gimpel, A Baseline for Detecting Misclassified and Out-of-Distribution Examples, 2017), else itself."""
    confidence: NDArray[np.float32] = answers.max(axis=1) if isinstance(output, MulticlassOutput) else answers
    return confidence


def fit_output(values: NDArray[np.float32]) -> NumberBins:
    """The baseline of an output's `scores`, float32 [n]."""
    edges = quantile_edges(values)
    empty = NumberBins(edges=edges, ratios=(0.0,) * (len(edges) + 3))
    counts = NumberCounter([empty], nan_is_missing=False).count(values[:, None])
    return empty.model_copy(update={"ratios": ratios(counts)})
