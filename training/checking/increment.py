"""Rows that came after those that the production version has seen: are there any, and can they be true?

What is measured of them is compared with the same of earlier rows, cut into slices half as long as the new rows last.
So what changes from week to week anyway, as the weather does, is no reason, and neither is a month that is another
number in each month. A reason is what has never been seen and can hardly come of itself: a column that stands still, a
unit that is another one, a class that has gone. Whether a model that learns from them is any good, the gate says.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError

from contract.manifest import Bins, CategoryFeature, Manifest, NumberBins
from training.checking.copies import Copies
from training.checking.quick import category_codes
from training.errors import DataRefused, NothingNew
from training.sections import TimeSplit, TrainingConfig
from training.sources.columns import as_float32, plain, value_counts
from training.sources.moments import Extent, moment, said

FEWEST_ROWS = 50  # of the new rows, and of a slice, for anything to be said of it
FEWEST_VALUES = 30
FEWEST_SLICES, MOST_SLICES = 4, 40
MISSING = 0.5  # by how much more of a column may be missing than ever
MOSTLY_MISSING = 0.9  # what was missing so often may well be missing altogether once
SCALE = 20.0  # by how many times typical values may be larger or smaller than ever
ODDS = 4.0  # by how many times the odds of a class may be higher or lower than ever
EXPECTED = 20.0  # rows of a class, by its lowest share ever, of which none came: a chance of e^-20
CHANCE = 4.0  # standard errors
UNHEARD_OF = 0.5  # of the rows may have a category that no earlier row has
COPIED, COPIED_SLICE = 0.1, 0.25  # of the rows may be copies, beyond what is usual
ACCEPT = 'if they are right as they are: data.increment = "accept", or --set data.increment=accept'
# What may be another one without there being anything else to learn.
_BESIDES = {"name", "retrain", "promotion", "gate", "checks"}

Mask = NDArray[np.bool_]
Times = NDArray[np.int64]


@dataclass(frozen=True)
class Known:
    """What is known of all rows of a run: how many there are, when they are, their digest; and for a part of them, in
    the order of their times, whether a row is a copy of another, and when it is."""

    rows: int
    extent: Extent
    fingerprint: str
    copied: Mask
    copied_at: Times

    @staticmethod
    def of(fingerprint: str, times: Times, copies: Copies) -> "Known":
        copied, copied_at = copies.repeated()
        return Known(len(times), Extent(int(times.min()), int(times.max())), fingerprint, copied, copied_at)


def is_watched(config: TrainingConfig) -> bool:
    """Whether a config is one for data that grow: with a window, a split by spans, or a time to be trained again."""
    by_spans = isinstance(config.split, TimeSplit) and config.split.test is not None
    grows = config.data.window is not None or by_spans or config.retrain is not None
    return isinstance(config.split, TimeSplit) and grows


def check(config: TrainingConfig, table: pa.Table, times: Times, known: Known, production: Manifest | None) -> None:
    """`table` is the rows or an even sample of them, with a column for each feature and the target, `times` when they
    are, int64 [n] microseconds. Raises DataRefused with everything that cannot be true of the new rows, NothingNew when
    there is none. Nothing is said where no version serves that knows how new its rows were."""
    asked = config.data.increment == "check" and is_watched(config)
    if not asked or production is None or production.data.newest is None or production.task != config.task:
        return
    seen_until = moment(production.data.newest)
    if problem := _nothing_new(config, known, seen_until, production):
        raise NothingNew(config.data.source, [problem])
    new = times > seen_until
    problems = [*_copies(known, seen_until)]
    if np.count_nonzero(new) >= FEWEST_ROWS:
        problems += _unlike_before(config, table, new, _slices(times, seen_until))
    problems += _unlike_learnt(config, table, production)
    if problems:
        told = f"the {np.count_nonzero(new):,} rows after {said(seen_until)}" if new.any() else "the rows"
        against = f"{production.name}/{production.version}"
        raise DataRefused(f"{told} cannot be true, by what {against} learnt from", [*problems, ACCEPT])


def _nothing_new(config: TrainingConfig, known: Known, seen_until: int, production: Manifest) -> str | None:
    """Rows that came late count as new, and so do labels that were mended; copies do not."""
    if known.extent.newest > seen_until or not _is_same(config, production):
        return None
    different = known.rows * (1 - float(known.copied.mean() if known.copied.size else 0.0))
    fewer = production.data.rows is not None and different < production.data.rows - 0.5
    if not fewer and known.fingerprint != production.data.fingerprint:
        return None
    serves = f"{production.name}/{production.version}"
    return (
        f"nothing new to learn: no row is newer than {said(seen_until)}, the newest that {serves} has seen, and the"
        f" config is the same (rows are of {known.extent})"
    )


def _is_same(config: TrainingConfig, production: Manifest) -> bool:
    try:
        before = TrainingConfig.model_validate_json(json.dumps(production.config))
    except ValidationError:  # of another Hornpipe
        return False
    return before.model_dump(exclude=_BESIDES) == config.model_dump(exclude=_BESIDES)


def _slices(times: Times, seen_until: int) -> list[Mask]:
    """The rows before, from the newest on, in parts half as long as the new ones last, and of rows enough."""
    old = times[times <= seen_until]
    if not old.size:
        return []
    lasted, before = int(times.max()) - seen_until, seen_until - int(old.min())
    length = max(1, min(lasted // 2, before // FEWEST_SLICES) if lasted > 0 else before // MOST_SLICES)
    number = np.where(times <= seen_until, (seen_until - times) // length, -1)
    found = [number == i for i in range(min(MOST_SLICES, int(number.max()) + 1))]
    return [each for each in found if np.count_nonzero(each) >= FEWEST_ROWS]


def _copies(known: Known, seen_until: int) -> Iterator[str]:
    new = known.copied_at > seen_until
    slices = _slices(known.copied_at, seen_until)
    shares = [float(known.copied[each].mean()) for each in slices]
    usual = float(np.median(shares)) if shares else 0.0
    if np.count_nonzero(new) >= FEWEST_ROWS and (share := float(known.copied[new].mean())) > usual + COPIED:
        yield f"{share:.0%} of them are copies of other rows, time and target included; before it was {usual:.1%}"
    worst = int(np.argmax(shares)) if shares else 0
    if shares and shares[worst] > usual + COPIED_SLICE:
        when = Extent(int(known.copied_at[slices[worst]].min()), int(known.copied_at[slices[worst]].max()))
        yield f"{shares[worst]:.0%} of the rows of {when} are copies of others; it is {usual:.1%} at other times"


def _unlike_before(config: TrainingConfig, table: pa.Table, new: Mask, slices: Sequence[Mask]) -> Iterator[str]:
    """What of the new rows no slice of the earlier ones has been anything like."""
    if not slices:
        return
    for name, section in config.features.items():
        if section.kind == "number":
            yield from _number(name, as_float32(table[name]).astype(np.float64), new, slices)
        elif section.kind == "category":
            yield from _category(name, category_codes(table[name]), new, slices)
    target = str(config.data.target)
    if config.task == "regression":
        yield from _number(target, as_float32(table[target]).astype(np.float64), new, slices)
    else:
        yield from _classes(target, table[target], new, slices)


def _number(name: str, values: NDArray[np.float64], new: Mask, slices: Sequence[Mask]) -> Iterator[str]:
    known = np.isfinite(values)
    yield from _missing(name, known, new, slices)
    yield from _still(name, values, known, new, slices)
    scale = _scale(values[new])
    usual = [each for each in (_scale(values[each]) for each in slices) if each is not None]
    if scale is None or len(usual) < FEWEST_SLICES:
        return
    if not min(usual) / SCALE <= scale <= max(usual) * SCALE:
        yield (
            f"{name}: half of the values are {scale:.4g} or more (without sign and zeros); in earlier rows of such a"
            f" time it was {min(usual):.4g} to {max(usual):.4g}: is it another unit?"
        )


def _category(name: str, codes: NDArray[np.int64], new: Mask, slices: Sequence[Mask]) -> Iterator[str]:
    known = codes >= 0
    yield from _missing(name, known, new, slices)
    yield from _still(name, codes, known, new, slices)
    earlier = ~new
    for each in slices[:FEWEST_SLICES]:  # so many strange ones a new slice has of itself
        earlier = earlier & ~each
    usual = max((_strange(codes, each, earlier) for each in slices[:FEWEST_SLICES]), default=0.0)
    share = _strange(codes, new, ~new)
    if share > usual + UNHEARD_OF:
        yield f"{name}: {share:.0%} of the rows have a value that no earlier row has; is it written in another way?"


def _strange(codes: NDArray[np.int64], rows: Mask, earlier: Mask) -> float:
    chosen = codes[rows & (codes >= 0)]
    return float(np.mean(~np.isin(chosen, np.unique(codes[earlier])))) if chosen.size else 0.0


def _missing(name: str, known: Mask, new: Mask, slices: Sequence[Mask]) -> Iterator[str]:
    share, usual = float(np.mean(~known[new])), [float(np.mean(~known[each])) for each in slices]
    if share > max(usual) + MISSING or (share == 1 and max(usual) < MOSTLY_MISSING and len(slices) >= FEWEST_SLICES):
        yield f"{name}: {share:.0%} of the values are missing; in earlier rows of such a time {max(usual):.0%} at most"


def _still(
    name: str, values: NDArray[np.float64] | NDArray[np.int64], known: Mask, new: Mask, slices: Sequence[Mask]
) -> Iterator[str]:
    """Every value is the same, which half as long a time has never brought about before."""
    there = values[new & known]
    if len(slices) < FEWEST_SLICES or there.size < FEWEST_ROWS or (there != there[0]).any():
        return
    before = [values[each & known] for each in slices]
    if all(each.size and (each != each[0]).any() for each in before):
        said_value = f" ({there[0]:g})" if there.dtype.kind == "f" else ""
        yield f"{name}: all of {there.size:,} values are the same{said_value}, which they never were in earlier rows"


def _scale(values: NDArray[np.float64]) -> float | None:
    """The median of what is not zero, without its sign."""
    sizes = np.abs(values[np.isfinite(values) & (values != 0)])
    return float(np.median(sizes)) if sizes.size >= FEWEST_VALUES else None


def _classes(target: str, column: pa.ChunkedArray, new: Mask, slices: Sequence[Mask]) -> Iterator[str]:
    """The odds of each class, beyond those of every slice, beyond chance (standard error of log odds: Agresti,
    Categorical Data Analysis, 2013, section 3.1.1)."""
    for name in sorted(value_counts(column)):
        is_it = np.asarray(pc.equal(plain(column), name))
        log_odds, error = _log_odds(is_it[new])
        before = [_log_odds(is_it[each]) for each in slices]
        low, high = min(before), max(before)
        lower, higher = low[0] - log_odds, log_odds - high[0]
        allowed = np.log(ODDS) + CHANCE * np.hypot(error, low[1] if lower > higher else high[1])
        shares = [float(is_it[each].mean()) for each in slices]
        gone = not is_it[new].any() and min(shares) * np.count_nonzero(new) >= EXPECTED
        if gone or max(lower, higher) > allowed:
            yield (
                f"{target}: {is_it[new].mean():.1%} are {name}; in earlier rows of such a time it was"
                f" {min(shares):.1%} to {max(shares):.1%}"
            )


def _log_odds(is_it: Mask) -> tuple[float, float]:
    """With half a row added to both sides."""
    yes, no = np.count_nonzero(is_it) + 0.5, np.count_nonzero(~is_it) + 0.5
    return float(np.log(yes / no)), float(np.sqrt(1 / yes + 1 / no))


def _unlike_learnt(config: TrainingConfig, table: pa.Table, production: Manifest) -> Iterator[str]:
    """All rows against production's baseline: earlier rows may have been written anew, too."""
    features = {feature.name: feature for feature in production.features}
    for name, section in config.features.items():
        bins, feature = production.drift.inputs.get(name), features.get(name)
        if section.kind == "number" and isinstance(bins, NumberBins):
            yield from _another_unit(name, as_float32(table[name]).astype(np.float64), bins)
        elif section.kind == "category" and isinstance(feature, CategoryFeature):
            yield from _other_words(name, table[name], feature, bins)


def _another_unit(name: str, values: NDArray[np.float64], bins: NumberBins) -> Iterator[str]:
    """Typical values that are far beyond all that production has seen, or far nearer to zero."""
    edges, now = np.abs(np.array(bins.edges, np.float64)), _scale(values)
    low = float(edges.min()) if bins.edges[0] > 0 or bins.edges[-1] < 0 else 0.0
    high = max(float(edges.max()), float(np.finfo(np.float32).tiny))
    if now is not None and not low / SCALE <= now <= high * SCALE:
        yield (
            f"{name}: half of the values of all rows are {now:.4g} or more (without sign and zeros); production learnt"
            f" from {bins.edges[0]:.4g} to {bins.edges[-1]:.4g}: is it another unit?"
        )


def _other_words(name: str, column: pa.ChunkedArray, feature: CategoryFeature, bins: Bins | None) -> Iterator[str]:
    counts = value_counts(column)
    known = frozenset(feature.vocabulary)
    others = sum(count for value, count in counts.items() if value not in known)
    strange = others / max(1, sum(counts.values()))
    usual = bins.ratios[-1] if bins is not None else 0.0
    if strange > usual + UNHEARD_OF:
        seen = f"{strange:.0%} of all rows have a value that production does not know"
        yield f"{name}: {seen}; {usual:.0%} had when it learnt"
