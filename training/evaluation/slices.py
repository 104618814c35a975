"""Where the model is worst: every part of every feature, and pairs of them, by the headline metric.

Thousands of slices are looked at, and the worst of thousands looks bad by chance alone. So a slice counts as worse than
the whole only beyond the Bonferroni bound for as many comparisons, and a pair only if it is worse than each of its two
parts as well. The intervals are of each slice by itself.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import norm

from contract.evidence import Metric, Slice, improvement
from contract.features import Encoder
from training.evaluation.bootstrap import RESAMPLES, intervals
from training.evaluation.divisions import NOWHERE, Division, divisions, rows_where
from training.evaluation.grouped import Grouped, grouped
from training.rows import Rows
from training.task import Scores, Task

MOST = 20
_MOST_PAIRS = 200
_MOST_ROWS = 200_000
_MOST_CELLS = 5_000
_FEWEST_KNOWN_BY = 20  # with fewer, no normal approximation

Key = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Part:
    """A slice that was looked at. `z` is by how many standard errors it is worse than the whole, about."""

    of: tuple[Division, ...]
    codes: tuple[int, ...]
    rows: int
    value: float
    error: float
    z: float

    @property
    def where(self) -> dict[str, str]:
        return {each.feature: each.names[code] for each, code in zip(self.of, self.codes, strict=True)}


def worst(
    task: Task,
    encoder: Encoder,
    test: Rows,
    scores: Scores,
    overall: Metric,
    *,
    fewest: int,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Slice, ...]:
    """At most 20 slices of at least `fewest` rows by the headline metric, which is `overall` on all of them: those that
    are worse for sure, the worst first, then the least good others of single features."""
    rows = np.arange(len(test))
    if len(test) > _MOST_ROWS:
        rows = np.sort(np.random.default_rng(seed).choice(rows, _MOST_ROWS, replace=False))
    searched = test.take(rows)
    by_part = grouped(task, searched.labels, scores[rows])
    least = fewest * len(rows) // len(test)
    search = _Search(task.headline, by_part, overall.value, _unit(overall, by_part, len(rows), len(test)), least)
    chosen = search.worst(divisions(encoder, searched.encoded, least))
    masks = ((part.where, rows_where(part.where, encoder, test.encoded)) for part in chosen)
    only = [task.headline]
    return tuple(
        Slice(
            where=where,
            rows=int(mask.sum()),
            metric=intervals(task, test.labels[mask], scores[mask], only=only, resamples=resamples, seed=seed)[only[0]],
        )
        for where, mask in masks
    )


def _unit(overall: Metric, by_part: Grouped, rows: int, of: int) -> float:
    """A standard error times the square root of the rows it is known by, which is about the same for every slice."""
    error = max((overall.high - overall.low) / (2 * float(norm.isf(0.025))), 1e-12)
    return error * math.sqrt(of / rows * float(by_part(np.zeros(rows, np.int32), 1)[1][0]))


class _Search:
    def __init__(self, metric: str, by_part: Grouped, overall: float, unit: float, fewest: int) -> None:
        self._metric, self._by_part, self._overall, self._unit, self._fewest = metric, by_part, overall, unit, fewest

    def worst(self, found: Sequence[Division]) -> list[Part]:
        by_feature = [self._parts((division,)) for division in found]
        singles = [part for parts in by_feature for part in parts]
        pairs = [part for pair in _promising(found, by_feature) for part in self._parts(pair)]
        bound = float(norm.isf(0.025 / max(1, len(singles) + len(pairs))))
        single = {_key(part.of, part.codes): part for part in singles}
        sure = self._ordered(part for part in singles if part.z > bound)
        sure_pairs = self._ordered(
            part for part in pairs if part.z > bound and self._is_worse_than_its_parts(part, single, bound)
        )
        # Pairs are smaller, and so more extreme: half of the places are for single features that have a claim to them.
        of_pairs = sure_pairs[: MOST - min(len(sure), MOST // 2)]
        rest = sorted((part for part in singles if 0 < part.z <= bound), key=lambda part: -part.z)
        return [*self._ordered([*sure[: MOST - len(of_pairs)], *of_pairs]), *rest][:MOST]

    def _ordered(self, parts: Iterable[Part]) -> list[Part]:
        """The worst first."""
        return sorted(parts, key=lambda part: self._better(part.value, 0))

    def _better(self, value: float, other: float) -> float:
        return improvement(self._metric, value, other)

    def _is_worse_than_its_parts(self, pair: Part, single: dict[Key, Part], bound: float) -> bool:
        parents = (single.get(_key((of,), (code,))) for of, code in zip(pair.of, pair.codes, strict=True))
        return all(parent is None or self._better(parent.value, pair.value) > bound * pair.error for parent in parents)

    def _parts(self, of: tuple[Division, ...]) -> list[Part]:
        """Every part of a division, or of two crossed, that has enough rows."""
        sizes = tuple(len(division.names) for division in of)
        count = math.prod(sizes)
        nowhere = np.logical_or.reduce([division.codes == NOWHERE for division in of])
        codes = np.ravel_multi_index([np.maximum(division.codes, 0) for division in of], sizes).astype(np.int32)
        codes[nowhere] = NOWHERE
        rows = np.bincount(codes + 1, minlength=count + 1)[1:]
        values, known_by = self._by_part(codes, count)
        enough = np.flatnonzero((rows >= self._fewest) & (known_by >= _FEWEST_KNOWN_BY))
        return [self._part(of, sizes, int(i), int(rows[i]), float(values[i]), float(known_by[i])) for i in enough]

    def _part(
        self, of: tuple[Division, ...], sizes: tuple[int, ...], cell: int, rows: int, value: float, known_by: float
    ) -> Part:
        error = self._unit / math.sqrt(known_by)
        codes = tuple(int(code) for code in np.unravel_index(cell, sizes))
        return Part(of, codes, rows, value, error, self._better(self._overall, value) / error)


def _key(of: Sequence[Division], codes: Sequence[int]) -> Key:
    return tuple((division.feature, code) for division, code in zip(of, codes, strict=True))


def _promising(found: Sequence[Division], by_feature: Sequence[list[Part]]) -> list[tuple[Division, ...]]:
    """The pairs of features that are worth a look, if not all can be: those that are worst one by one."""
    promise = {
        division.feature: max((p.z for p in parts), default=0)
        for division, parts in zip(found, by_feature, strict=True)
    }
    pairs = [pair for pair in combinations(found, 2) if len(pair[0].names) * len(pair[1].names) <= _MOST_CELLS]
    pairs.sort(key=lambda pair: -sum(promise[division.feature] for division in pair))
    return list(pairs[:_MOST_PAIRS])
