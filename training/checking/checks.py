"""What is wrong with data before anything is learnt from it: what was seen, and what to do.

Errors are what training would be wasted on; warnings go to the report. Costly looks are taken at a sample of the rows.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from contract.evidence import DataWarning
from training.checking import duplicates, leak, order, quick, shift
from training.checking.quick import Matrix
from training.checking.same import is_target
from training.errors import DataRefused
from training.init import column_names
from training.init.profile import Profile, profile
from training.rows import Indices
from training.sections import FeatureSection, GroupSplit, RandomSplit, TimeSplit, TrainingConfig
from training.sources.columns import as_float32, value_counts
from training.split import NAMES

MOST_LEARNT, MOST_HELD = 20_000, 10_000  # rows that costly checks look at
FEWEST_ROWS, FEW_ROWS = 2, 20  # of a class in a part
MOSTLY_MISSING = 0.9
MOSTLY_RARE = 0.5
MANY_DIFFERENT = 0.9
IMBALANCE = 10.0
MOST_ALIKE = 5
FAR_OUT = 1e6  # deviations
FEWEST_FOR_IDENTIFIERS = 30
# What old programs write where nothing was measured.
STAND_INS = frozenset(sign * int("9" * digits) for digits in range(3, 9) for sign in (1.0, -1.0))

Parts = tuple[Indices, Indices, Indices]


def warnings(
    config: TrainingConfig,
    table: pa.Table,
    parts: Parts,
    pixels: NDArray[Any] | None = None,
    *,
    whole: bool = True,
) -> tuple[DataWarning, ...]:
    """`table` has a column for each number, category and text by the feature's name, the target, and what the split
    goes by; it is a sample of the rows where not `whole`. `parts` are row numbers of it that train, validate and test,
    each ascending, `pixels` [n, ...] the pictures of its rows. A column that the config does not name is one of a
    matrix of numbers.

    Raises DataRefused: classes that cannot be learnt or measured, and features that are the target itself.
    """
    target = str(config.data.target)
    sections = _sections(config, table, target)
    lacking = _class_problems(config, table[target], parts) if whole else ()
    if problems := [*lacking, *_same_problems(config, table, sections, target)]:
        raise DataRefused(config.data.source, problems)
    learnt = table.take(pa.array(parts[0]))
    profiles = {name: profile(name, learnt[name]) for name in sections}
    columns = chain.from_iterable(
        _column_warnings(config, sections[name].kind, each, learnt[name]) for name, each in profiles.items()
    )
    found = chain(
        _grouped(columns),
        _imbalance(config, table[target], parts[0]),
        _few_rows(config, table[target], parts) if whole else (),
        _copies(table.select([*sections, target]), sections, parts, pixels),
        _grouped(_by_models(config, table, sections, parts)),
    )
    return tuple(found)


def _grouped(found: Iterable[DataWarning]) -> Iterator[DataWarning]:
    """One warning in place of many of the same kind, as pictures that lie in a matrix of numbers would raise."""
    by_check: dict[str, list[DataWarning]] = {}
    for each in found:
        by_check.setdefault(each.check, []).append(each)
    for check, alike in by_check.items():
        if len(alike) <= MOST_ALIKE:
            yield from alike
            continue
        names = ", ".join(str(each.column) for each in alike[:MOST_ALIKE])
        seen = f"{len(alike)} columns, {names} and {len(alike) - MOST_ALIKE} more; the first: {alike[0].seen}"
        yield DataWarning(check=check, seen=seen, advice=alike[0].advice)


def _sections(config: TrainingConfig, table: pa.Table, target: str) -> dict[str, FeatureSection]:
    by = config.split.column if isinstance(config.split, TimeSplit | GroupSplit) else None
    others = {target} | ({by} - config.features.keys() if by else set())
    number = FeatureSection(kind="number")
    return {name: config.features.get(name, number) for name in table.column_names if name not in others}


def _class_problems(config: TrainingConfig, target: pa.ChunkedArray, parts: Parts) -> Iterator[str]:
    """Classes that training has not, and those without which ROC AUC is no measure."""
    if config.task == "regression":
        return
    measured = parts if config.task == "binary" else parts[:1]
    counts = [_counts(target, rows) for rows in measured]
    for label in sorted(value_counts(target)):
        few = [f"{each.get(label, 0)} in {name}" for name, each in zip(NAMES, counts, strict=False)
               if each.get(label, 0) < FEWEST_ROWS]  # fmt: skip
        if few:
            yield (
                f"{config.data.target}: class {label} has {', '.join(few)}; at least {FEWEST_ROWS} rows are needed:"
                " find more of them, leave the class out, or split otherwise"
            )


def _same_problems(
    config: TrainingConfig, table: pa.Table, sections: Mapping[str, FeatureSection], target: str
) -> Iterator[str]:
    for name, section in sections.items():
        if section.kind != "text" and is_target(table[name], table[target], config.task):
            what = "in another unit" if config.task == "regression" else "under another name"
            yield f"{name}: is the target {target} {what} in each of {len(table):,} rows; leave it out of the features"


def _counts(target: pa.ChunkedArray, rows: Indices) -> dict[str, int]:
    return value_counts(target.take(pa.array(rows)))


def _column_warnings(
    config: TrainingConfig, kind: str, seen: Profile, column: pa.ChunkedArray
) -> Iterator[DataWarning]:
    """Of one feature among the training rows."""
    looks = [_missing(seen), _constant(seen)]
    if kind == "number":
        looks += [_row_number(seen), _codes(seen), _outliers(seen, column)]
    if kind == "category":
        looks += [_rare_values(config, seen, column)]
    yield from (warning for warning in looks if warning is not None)


def _missing(seen: Profile) -> DataWarning | None:
    if seen.missing_share < MOSTLY_MISSING:
        return None
    share = f"{seen.missing:,} of {seen.rows:,} training values ({seen.missing_share:.1%}) are missing"
    advice = "find out why; if requests will not have it either, leave it out"
    return DataWarning(check="missing", column=seen.name, seen=share, advice=advice)


def _constant(seen: Profile) -> DataWarning | None:
    if seen.distinct > 1 or seen.missing:
        return None
    text = f"every training row has {seen.frequent[:40]!r}"
    advice = "leave it out: nothing is learnt from it, and another value in a request is a guess"
    return DataWarning(check="constant", column=seen.name, seen=text, advice=advice)


def _row_number(seen: Profile) -> DataWarning | None:
    if seen.kind != "whole" or seen.known < FEWEST_FOR_IDENTIFIERS:
        return None
    counts_rows = seen.distinct == seen.known and seen.trend != 0
    named = column_names.is_identifier(seen.name) and seen.distinct_share > MANY_DIFFERENT
    if not counts_rows and not named:
        return None
    text = f"{seen.distinct:,} different whole numbers in {seen.known:,} training rows"
    text += ", in the order of the rows" if seen.trend else ""
    advice = "looks like an identifier, which says nothing of a new row: leave it out"
    return DataWarning(check="identifier", column=seen.name, seen=text, advice=advice)


def _codes(seen: Profile) -> DataWarning | None:
    is_code = column_names.is_code(seen.name) or column_names.is_identifier(seen.name)
    if seen.kind != "whole" or not is_code or not 2 < seen.distinct <= seen.known / 2:
        return None
    text = f"{seen.distinct:,} different whole numbers from {seen.lowest:.6g} to {seen.highest:.6g}, called a code"
    advice = f'if they are names and not amounts: {seen.name} = "category"'
    return DataWarning(check="codes", column=seen.name, seen=text, advice=advice)


def _outliers(seen: Profile, column: pa.ChunkedArray) -> DataWarning | None:
    values = as_float32(column).astype(np.float64)
    values = values[np.isfinite(values)]
    text = _far_out(values) or _stand_in(values, seen) if values.size else None
    if text is None:
        return None
    advice = "if it stands for a missing value or is a slip of the pen, leave it empty in the data"
    return DataWarning(check="outliers", column=seen.name, seen=text, advice=advice)


def _far_out(values: NDArray[np.float64]) -> str | None:
    """By the middle half of the values, which outliers do not stretch: its width is 1.349 deviations of a normal."""
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    if high == low:
        return None
    distances = np.abs(values - middle) / ((high - low) / 1.349)
    count = int(np.count_nonzero(distances > FAR_OUT))
    furthest = values[distances.argmax()]
    where = f"the middle half lies in {low:.6g} to {high:.6g}"
    return f"{count:,} values such as {furthest:.6g} are far out; {where}" if count else None


def _stand_in(values: NDArray[np.float64], seen: Profile) -> str | None:
    """An extreme value of nines, seen again and again, further from the others than these from one another."""
    for end in {seen.lowest, seen.highest} & STAND_INS:
        others, count = values[values != end], int(np.count_nonzero(values == end))
        if count < 2 or not others.size:
            continue
        low, high = float(others.min()), float(others.max())
        if min(abs(end - low), abs(end - high)) > high - low:
            return f"{end:.6g} is there {count:,} times, all others lie in {low:.6g} to {high:.6g}"
    return None


def _rare_values(config: TrainingConfig, seen: Profile, column: pa.ChunkedArray) -> DataWarning | None:
    enough = config.data.category_min_count
    counts = value_counts(column)
    rare = sum(count for count in counts.values() if count < enough)
    if rare < MOSTLY_RARE * max(1, seen.known):
        return None
    text = (
        f"{len(counts):,} different values; {rare:,} of {seen.known:,} training rows have one that fewer than {enough}"
    )
    advice = "looks like an identifier: leave it out, make groups of it, or lower data.category_min_count"
    return DataWarning(check="identifier", column=seen.name, seen=f"{text} rows have", advice=advice)


def _imbalance(config: TrainingConfig, target: pa.ChunkedArray, train: Indices) -> Iterator[DataWarning]:
    if config.task == "regression" or config.training.class_weights != "none" or config.training.focal_gamma > 0:
        return
    counts = _counts(target, train)
    rare, frequent = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    if counts[frequent] >= IMBALANCE * counts[rare]:
        text = f"{counts[frequent]:,} training rows of {frequent}, {counts[rare]:,} of {rare}"
        advice = (
            'training.class_weights = "balanced", if it matters as much to find the rare class; choose the threshold'
            " by a rule, and look at precision and recall, not at accuracy"
        )
        yield DataWarning(check="imbalance", column=config.data.target, seen=text, advice=advice)


def _few_rows(config: TrainingConfig, target: pa.ChunkedArray, parts: Parts) -> Iterator[DataWarning]:
    """For each part the classes that it has least of."""
    classes = {} if config.task == "regression" else value_counts(target)
    found = []
    for name, rows in zip(NAMES, parts, strict=True):
        counts = _counts(target, rows) if classes else {}
        few = sorted((counts.get(label, 0), label) for label in classes if counts.get(label, 0) < FEW_ROWS)
        if few or len(rows) < FEW_ROWS:
            listed = ", ".join(f"{count} of {label}" for count, label in few[:3]) or f"{len(rows)} in all"
            found.append(f"{name} {listed}" + (f" and few of {len(few) - 3} more classes" if len(few) > 3 else ""))
    if found:
        advice = "what is learnt or measured of so few is mostly chance: find more, or give that part a larger share"
        seen = f"few rows: {'; '.join(found)}"
        yield DataWarning(check="few-rows", column=config.data.target, seen=seen, advice=advice)


def _copies(
    table: pa.Table, sections: Mapping[str, FeatureSection], parts: Parts, pixels: NDArray[Any] | None
) -> Iterator[DataWarning]:
    if sections or pixels is not None:
        texts = {name for name, section in sections.items() if section.kind == "text"}
        yield from duplicates.warnings(table, texts, parts, pixels)


def _by_models(
    config: TrainingConfig, table: pa.Table, sections: Mapping[str, FeatureSection], parts: Parts
) -> Iterator[DataWarning]:
    """What quick models find out, on a sample of each part that is in the order of the rows."""
    train, held = _sampled(parts[0], MOST_LEARNT), [_sampled(rows, MOST_HELD) for rows in parts[1:]]
    rows = np.sort(np.concatenate([train, *held]))
    sample = table.take(pa.array(rows))
    x = quick.matrix(sample, sections)
    if not x.names:
        return
    target = str(config.data.target)
    y = quick.answers(sample[target], config.task)
    learnt, validation, test = (np.searchsorted(rows, each) for each in (train, *held))
    yield from leak.warnings(x, y, config.task, learnt, np.sort(np.concatenate([validation, test])))
    if isinstance(config.split, RandomSplit):
        yield from order.warnings(x, y, config.task, {name: profile(name, sample[name]) for name in x.names})
    yield from shift.warnings(_with_target(x, y, target, config), learnt, test)


def _sampled(rows: Indices, most: int) -> Indices:
    return quick.evenly(rows, most)


def _with_target(x: Matrix, y: NDArray[np.float64], target: str, config: TrainingConfig) -> Matrix:
    """So that a shift of the answers themselves is seen too."""
    values = np.column_stack([x.values, np.minimum(y, quick.MOST_VALUES) if config.task != "regression" else y])
    return Matrix((*x.names, target), values.astype(np.float32), np.append(x.categorical, config.task != "regression"))
