"""Which rows train, which validate and which test; nothing is ever fitted to the last two.

In memory a split is exact. Where rows stream by, `assign` tells the part of each from its own values and place alone,
so that no pass over all of them is needed: shares then hold as a coin's do.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from training.rows import Indices
from training.sections import GroupSplit, OrderSplit, RandomSplit, Shares, Split, TimeSplit
from training.sources.columns import plain
from training.sources.moments import Extent, length, moment, moments, said

TRAIN, VALIDATION, TEST = 0, 1, 2
NAMES = ("train", "validation", "test")

Parts = tuple[Indices, Indices, Indices]
Assignment = NDArray[np.int8]


def gaps(rule: Split, missing: int) -> list[str]:
    """`missing` is how many rows lack what the split goes by."""
    if missing and isinstance(rule, TimeSplit | GroupSplit):
        return [f"{rule.column}: {missing:,} values are missing, and the split goes by it"]
    return []


def empty_parts(counts: Sequence[int], rule: Split | None = None, extent: Extent | None = None) -> list[str]:
    """`extent` is that of the rows, for a split by time."""
    about = ""
    if isinstance(rule, TimeSplit) and extent is not None:
        validation, test = first_moments(rule, extent.newest)
        # A span has all that is newer than the moment where it begins.
        word, before = ("from", 0) if rule.test is None else ("after", 1)
        about = f": they are of {extent}, those {word} {said(validation - before)} validate, those {word}"
        about += f" {said(test - before)} test"
    return [f"split: no rows to {name}{about}" for name, count in zip(NAMES, counts, strict=True) if count == 0]


def parts(rule: Split, seed: int, rows: int, column: pa.ChunkedArray | None, strata: NDArray[np.int32] | None) -> Parts:
    """Row numbers of train, validation and test, each ascending.

    `column` is what a time or group split goes by, `strata` the class of each row (None for regression).
    """
    match rule:
        case RandomSplit():
            assigned = _stratified(rows, rule, seed, strata)
        case GroupSplit():
            assigned = _whole_groups(column, rule, seed)
        case _:
            assigned = assign(rule, seed, 0, rows, rows, column)
    return tuple(np.flatnonzero(assigned == part) for part in (TRAIN, VALIDATION, TEST))  # type: ignore[return-value]


def assign(
    rule: Split,
    seed: int,
    first: int,
    count: int,
    rows: int,
    column: pa.ChunkedArray | None,
    newest: int | None = None,
) -> Assignment:
    """The part of each of `count` rows from row number `first` on, of `rows` in all, int8 [count]. `newest` is when the
    newest of all rows is, in microseconds since 1970, where that is not in `column`."""
    match rule:
        case TimeSplit():
            return _by_time(moments(plain(column)), rule, newest)
        case OrderSplit():
            return _by_place(np.arange(first, first + count), rows, rule)
        case GroupSplit():
            return _by_share(_hash_values(column, seed) / 2.0**64, rule)
        case RandomSplit():
            return _by_share(hash_places(first, count, seed) / 2.0**64, rule)


def first_moments(rule: TimeSplit, newest: int) -> tuple[int, int]:
    """From when on rows validate, and from when on they test. A date begins at midnight in UTC, whatever zone times are
    shown in. A test of 28d has the newest row's day and the 27 before it where times are days."""
    if rule.validation_from is not None and rule.test_from is not None:
        return moment(rule.validation_from), moment(rule.test_from)
    test = newest - length(str(rule.test)) + 1
    return test - length(str(rule.validation)), test


def _by_time(times: NDArray[np.int64], rule: TimeSplit, newest: int | None) -> Assignment:
    newest = newest if newest is not None else int(times.max(initial=0))
    return np.searchsorted(first_moments(rule, newest), times, side="right").astype(np.int8)


def _by_place(places: Indices, rows: int, rule: Shares) -> Assignment:
    test = round(rows * rule.test)
    ends = [rows - test - round(rows * rule.validation), rows - test]
    return np.searchsorted(ends, places, side="right").astype(np.int8)


def _by_share(uniform: NDArray[np.float64], rule: Shares) -> Assignment:
    """`uniform` are evenly spread from 0 to 1."""
    in_test, in_validation = uniform < rule.test, uniform < rule.test + rule.validation
    return np.select([in_test, in_validation], [TEST, VALIDATION], TRAIN).astype(np.int8)


def _stratified(rows: int, rule: Shares, seed: int, strata: NDArray[np.int32] | None) -> Assignment:
    """The rows in random order, then sorted by class, and of these every so many: each class has its share in each
    part to within a row, and the parts as a whole to within a row too (systematic sampling from an ordered list:
    Cochran, Sampling Techniques, 1977, section 8.3)."""
    order = np.random.default_rng(seed).permutation(rows)
    if strata is not None:
        order = order[np.argsort(strata[order], kind="stable")]
    assigned = np.zeros(rows, np.int8)
    in_test = _every(rows, rule.test)
    assigned[order[in_test]] = TEST
    rest = order[~in_test]
    assigned[rest[_every(len(rest), rule.validation / (1 - rule.test))]] = VALIDATION
    return assigned


def _every(rows: int, share: float) -> NDArray[np.bool_]:
    """`share` of the rows, evenly spread."""
    passed = np.floor(np.arange(rows + 1) * share + 0.5)
    taken: NDArray[np.bool_] = np.diff(passed) > 0
    return taken


def _whole_groups(column: pa.ChunkedArray | None, rule: Shares, seed: int) -> Assignment:
    """Groups in random order: to test until it has its share of the rows, then to validation, the rest to train."""
    coded = plain(column).dictionary_encode().combine_chunks()
    group = coded.indices.to_numpy()
    sizes = np.bincount(group, minlength=len(coded.dictionary))
    order = np.random.default_rng(seed).permutation(len(sizes))
    before = np.empty(len(sizes))
    before[order] = np.cumsum(sizes[order]) - sizes[order]
    assigned: Assignment = _by_share(before / len(group), rule)[group]
    return assigned


def hash_places(first: int, count: int, seed: int) -> NDArray[np.uint64]:
    """A random-looking number for each row number, evenly spread over 64 bits (splitmix64: Steele et al., Fast
    Splittable Pseudorandom Number Generators, 2014, figure 17)."""
    step = np.uint64(0x9E3779B97F4A7C15)
    with np.errstate(over="ignore"):
        mixed = (np.arange(first, first + count, dtype=np.uint64) + np.uint64(1)) * step + _mix(np.uint64(seed) * step)
        return _mix(mixed)


def _mix(value: NDArray[np.uint64] | np.uint64) -> NDArray[np.uint64]:
    mixed = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def _hash_values(column: pa.ChunkedArray | None, seed: int) -> NDArray[np.uint64]:
    """The same number for the same value, in whatever batch it comes."""
    parts = []
    for chunk in plain(column).cast(pa.string()).chunks:
        coded = chunk.dictionary_encode()
        hashes = [_hash(value, seed) for value in coded.dictionary.to_pylist()]
        parts.append(np.array(hashes, np.uint64)[coded.indices.to_numpy()])
    return np.concatenate(parts) if parts else np.empty(0, np.uint64)


def _hash(value: str, seed: int) -> int:
    digest = hashlib.blake2b(value.encode(), digest_size=8, key=seed.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little")
