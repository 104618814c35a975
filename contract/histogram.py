"""Histograms that training fits and the service counts into: the bins of the drift baseline.

Numbers fall into quantile bins of the training data, so that every bin holds about the same share when nothing has
drifted; of inputs, a value that is more frequent than that is alone in its bin. Below, above, missing and non-finite
are bins of their own. Categories: the most frequent ones, other, missing, unseen. Counting works on all features of all
rows at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract import certainty, watched, wording
from contract.edges import INPUT_BINS, Edges, coarse, range_names, spike_edges
from contract.edges import NUMBER_BINS as NUMBER_BINS  # whoever makes histograms has them from here
from contract.edges import quantile_edges as quantile_edges
from contract.features import FIRST_KNOWN, MISSING, UNSEEN, Encoded, Encoder
from contract.manifest import (
    BinaryOutput,
    Bins,
    CategoryBins,
    CategoryFeature,
    MulticlassOutput,
    NumberBins,
    Output,
    TensorsOutput,
)
from contract.statistics import Statistics

MOST_CATEGORIES = 20
# Texts from which words are learnt: as many, evenly drawn, have all that are frequent.
MOST_TEXTS = 50_000
# Probabilities are noted, and what tells certainty is computed of many rows together, where there are no more classes.
FEW_CLASSES = 32

Counts = NDArray[np.int64]


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
    return ("below", *range_names(bins.edges), "above", "missing", "non_finite")


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
            with np.errstate(over="ignore"):  # nothing finite lies above the largest float32
                row[len(each.edges) - 1] = np.nextafter(row[len(each.edges) - 1], np.float32(np.inf))  # closed
        ends = self._starts + self.sizes
        self._non_finite = ends - 1
        self._of_nan = ends - 2 if nan_is_missing else ends - 1

    def count(self, numbers: NDArray[np.float32]) -> Counts:
        """Counts by flat bin, int64 [sum of sizes]."""
        return np.bincount(self.flat_bins(numbers).ravel(), minlength=self._total)

    def flat_bins(self, numbers: NDArray[np.float32]) -> Counts:
        """The flat bin of each number, int64 [n, F]."""
        passed = np.zeros(numbers.shape, np.uint16)
        for edges in self._edges.T:  # one pass over memory that is in order for each, and nothing larger is made
            passed += numbers >= edges
        bins = passed + self._starts
        if not np.isfinite(numbers).all():
            bins = np.where(np.isinf(numbers), self._non_finite, bins)
            bins = np.where(np.isnan(numbers), self._of_nan, bins)
        return bins


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
    """Counts encoded rows into the bins of all that is watched of the inputs of one manifest: its numbers, its
    categories, and what is measured of its pictures and texts."""

    numbers: NumberCounter
    categories: CategoryCounter
    statistics: Statistics
    measured: NumberCounter
    names: tuple[str, ...]

    @classmethod
    def of(
        cls, encoder: Encoder, bins: Mapping[str, Bins], words: Mapping[str, Sequence[str]] | None = None
    ) -> "InputCounter":
        """By the bins of a baseline, and the words that it knows."""
        numbers = [feature.name for feature in encoder.number_features]
        numbers += [feature.name for feature in encoder.tensor_features if feature.name in bins]
        categories = [feature.name for feature in encoder.category_features]
        statistics = Statistics(encoder, bins.keys(), words or {})
        category_bins = [each for name in categories if isinstance(each := bins[name], CategoryBins)]
        return cls(
            NumberCounter(_of_numbers(bins, numbers), nan_is_missing=True),
            CategoryCounter(category_bins, encoder.category_features),
            statistics,
            NumberCounter(_of_numbers(bins, statistics.labels), nan_is_missing=True),
            (*numbers, *categories, *statistics.labels),
        )

    @property
    def sizes(self) -> list[int]:
        return [*self.numbers.sizes, *self.categories.sizes, *self.measured.sizes]

    def count(self, encoded: Encoded) -> Counts:
        """Flat counts: the bins of each feature in the order of `names`."""
        return self.count_columns(*self.columns(encoded))

    def columns(self, encoded: Encoded) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32]]:
        """What is counted: numbers float32 [n, F], codes int32 [n, C], and what is measured, float32 [n, S]. No picture
        and no text is among it, nor anything from which one could be made again."""
        numbers = encoded.numbers
        if encoded.tensors is not None:
            numbers = float_columns(encoded.tensors, self.names, encoded.rows)
        return numbers, encoded.categories, self.statistics.take(encoded)

    def count_columns(
        self, numbers: NDArray[np.float32], categories: NDArray[np.int32], measured: NDArray[np.float32]
    ) -> Counts:
        """Flat counts, of what `columns` has picked."""
        return np.concatenate(
            [self.numbers.count(numbers), self.categories.count(categories), self.measured.count(measured)]
        )

    def split(self, counts: Counts) -> dict[str, Counts]:
        """Flat counts by feature."""
        if not self.names:
            return {}
        parts = np.split(counts, np.cumsum(self.sizes)[:-1])
        return dict(zip(self.names, parts, strict=True))


def _of_numbers(bins: Mapping[str, Bins], names: Sequence[str]) -> list[NumberBins]:
    return [each for name in names if isinstance(each := bins[name], NumberBins)]


def fit_inputs(encoder: Encoder, encoded: Encoded) -> dict[str, Bins]:
    """The baseline of every number and category on the rows given."""
    fitted: dict[str, Bins] = {
        feature.name: fit_input(values)
        for feature, values in zip(encoder.number_features, encoded.numbers.T, strict=True)
    }
    for feature, codes in zip(encoder.category_features, encoded.categories.T, strict=True):
        categories = most_frequent(codes, feature.vocabulary)
        empty = CategoryBins(categories=categories, ratios=(0.0,) * (len(categories) + 3))
        counts = CategoryCounter([empty], [feature]).count(codes[:, None])
        fitted[feature.name] = empty.model_copy(update={"ratios": ratios(counts)})
    return fitted


def fit_words(encoder: Encoder, encoded: Encoded) -> dict[str, tuple[str, ...]]:
    """The words that training knows, by text feature; nothing of one whose texts have none in common."""
    known = {name: wording.known_words(texts) for name, texts in _some_texts(encoder, encoded).items()}
    return {name: words for name, words in known.items() if words}


def fit_statistics(encoder: Encoder, encoded: Encoded, words: Mapping[str, Sequence[str]]) -> dict[str, NumberBins]:
    """The baseline of what is measured of pictures and texts, on the rows that the `words` are of."""
    possible = watched.statistics(encoder.features)
    statistics = Statistics(encoder, {each.label for each in possible if each.name != watched.UNKNOWN_WORDS}, {})
    columns = dict(zip(statistics.labels, statistics.take(encoded).T, strict=True))
    for name, texts in _some_texts(encoder, encoded).items():
        if name in words:
            columns[watched.Statistic(name, watched.UNKNOWN_WORDS).label] = wording.unknown_shares_in_training(texts)
    return {each.label: fit_input(columns[each.label]) for each in possible if each.label in columns}


def _some_texts(encoder: Encoder, encoded: Encoded) -> dict[str, list[str]]:
    if encoded.texts is None:
        return {}
    drawn = encoded.texts[:: -(-encoded.rows // MOST_TEXTS) or 1]
    return {feature.name: drawn[:, i].tolist() for i, feature in enumerate(encoder.text_features)}


def float_columns(tensors: Mapping[str, NDArray[Any]], names: Sequence[str], rows: int) -> NDArray[np.float32]:
    """Tensors of one number a row, [n] or [n, 1], as columns, float32 [n, names]."""
    columns = np.empty((rows, len(names)), np.float32)
    with np.errstate(over="ignore"):  # beyond float32 is infinite, and counted as such
        for i, name in enumerate(names):
            columns[:, i] = tensors[name].reshape(rows)
    return columns


def fit_numbers(
    columns: Mapping[str, NDArray[Any]], rows: int, fit: Callable[[NDArray[np.float32]], NumberBins]
) -> dict[str, NumberBins]:
    """The baseline of tensors of one number a row, each fitted as an input or as an output."""
    values = float_columns(columns, tuple(columns), rows)
    return {name: fit(column) for name, column in zip(columns, values.T, strict=True)}


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

    @property
    def width(self) -> int:
        """How many numbers are noted of a row."""
        if isinstance(self.output, TensorsOutput):
            return len(self.names)
        if isinstance(self.output, MulticlassOutput):
            return len(self.output.classes) if self._few_classes else certainty.OF_MANY
        return 1

    def note(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """What must be known of each row to count it later, float32 [n, width]."""
        if isinstance(self.output, TensorsOutput):
            rows = len(next(iter(outputs.values())))
            return float_columns(outputs, self.names, rows)
        answers = outputs[self.output.name]
        if not isinstance(self.output, MulticlassOutput):
            return answers[:, None]
        return answers if self._few_classes else certainty.of_many(answers)

    def watched(self, noted: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """What is counted of what was noted, float32 [n, names]; and which class each row gets, [n], 0 without any."""
        labels = np.zeros(len(noted), np.intp)
        if isinstance(self.output, MulticlassOutput):
            found = certainty.of_many(noted) if self._few_classes else noted
            return found[:, self._places], found[:, -1].astype(np.intp)
        if isinstance(self.output, BinaryOutput):
            positive = self.output.classes.index(self.output.positive)
            labels = np.where(noted[:, 0] >= self.output.float32_threshold, positive, 1 - positive)
            if len(self.names) > 1:
                return np.concatenate([noted, certainty.of_two(noted[:, 0])], axis=1)[:, self._places], labels
        return noted, labels

    def count(self, watched: NDArray[np.float32]) -> Counts:
        """Flat counts: the bins of each watched output in the order of `names`."""
        return self.numbers.count(watched)

    def split(self, counts: Counts) -> dict[str, Counts]:
        """Flat counts by output."""
        if not self.names:
            return {}
        return dict(zip(self.names, np.split(counts, np.cumsum(self.sizes)[:-1]), strict=True))

    @property
    def _few_classes(self) -> bool:
        return isinstance(self.output, MulticlassOutput) and len(self.output.classes) <= FEW_CLASSES

    @property
    def _places(self) -> list[int]:
        """Where `names` are among all that could be watched."""
        return [watched.OUTPUTS[self.output.name].index(name) for name in self.names]


def scores(output: Output, answers: NDArray[np.float32]) -> NDArray[np.float32]:
    """The one number of each row that says most, float32 [n]: its largest probability where there is one a class, else
    the answer itself."""
    confidence: NDArray[np.float32] = answers.max(axis=1) if isinstance(output, MulticlassOutput) else answers
    return confidence


def fit_outputs(output: Output, answers: NDArray[np.float32]) -> dict[str, NumberBins]:
    """The baseline of what is watched of a trained model's answers: [n], or [n, classes]."""
    names = watched.outputs(output)
    counter = OutputCounter(names, output, NumberCounter([], nan_is_missing=False))
    values, _ = counter.watched(counter.note({output.name: answers}))
    return {
        name: _fit(column, coarse(quantile_edges(column)), nan_is_missing=False)
        if name in certainty.NAMES
        else fit_output(column)
        for name, column in zip(names, values.T, strict=True)
    }


def fit_input(values: NDArray[np.float32]) -> NumberBins:
    """The baseline of a number that comes in, float32 [n]; NaN is missing."""
    return _fit(values, spike_edges(values, INPUT_BINS), nan_is_missing=True)


def fit_output(values: NDArray[np.float32]) -> NumberBins:
    """The baseline of a number that goes out, float32 [n]; NaN is not finite."""
    return _fit(values, quantile_edges(values, NUMBER_BINS), nan_is_missing=False)


def fit_whole_output(values: NDArray[np.float32]) -> NumberBins:
    """Of one that is a whole number, such as the place of a class. What does not come out of rounding may have a bin of
    its own; of others, a variant's answers would lie beside it."""
    return _fit(values, spike_edges(values, NUMBER_BINS), nan_is_missing=False)


def _fit(values: NDArray[np.float32], edges: Edges, *, nan_is_missing: bool) -> NumberBins:
    empty = NumberBins(edges=edges, ratios=(0.0,) * (len(edges) + 3))
    counts = NumberCounter([empty], nan_is_missing).count(values[:, None])
    return empty.model_copy(update={"ratios": ratios(counts)})
