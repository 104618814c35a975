"""Drift in a sentence or two that a person understands."""

from collections.abc import Sequence
from typing import NamedTuple

# Where only a PSI above this would show, the sentence says so.
COARSE = 0.25
MOST_NAMED = 3

_WORDS = {
    "below": "lie below the training range",
    "above": "lie above the training range",
    "missing": "are missing",
    "unseen": "were never seen in training",
    "other": "are of rarer kinds",
    "non_finite": "are not finite",
}


class Change(NamedTuple):
    """The share of rows in a bin, now and in training."""

    bin: str
    now: float
    before: float


class Moved(NamedTuple):
    """An input or output that has drifted, and the bin by which it has most."""

    name: str
    psi: float
    threshold: float
    most: Change


def verdict(rows: int, watched: int, moved: Sequence[Moved], least: float) -> str:
    """Of so many rows and so many inputs and outputs, of which these have drifted, the furthest first. `least` is the
    PSI that the least certain of them would need."""
    if not watched:
        return "There is nothing to compare with: this version was imported without a sample of rows."
    if not rows:
        return "No rows have come in this time, so nothing can be said."
    if not moved:
        few = f" Rows are few: only a PSI above {least:.2g} would show." if least > COARSE else ""
        return f"No drift: {rows:,} rows are distributed as in training, in each of {watched} inputs and outputs.{few}"
    named = "; ".join(map(_told, moved[:MOST_NAMED]))
    more = f"; and {len(moved) - MOST_NAMED} more" if len(moved) > MOST_NAMED else ""
    return f"{len(moved)} of {watched} inputs and outputs have drifted from training. {named}{more}."


def _told(moved: Moved) -> str:
    change = moved.most
    shares = f"{_percent(change.now)} of rows {_words(change.bin)}, {_percent(change.before)} in training"
    return f"{moved.name} (PSI {moved.psi:.2f}, alarm above {moved.threshold:.2f}): {shares}"


def _words(name: str) -> str:
    """Of a bin's name, as `contract.histogram.bin_names` makes it."""
    if name.startswith("="):
        return f"are {name[1:]}"
    low, dots, high = name.partition("..")
    if not dots:
        return _WORDS[name]
    return f"are {low}" if low == high else f"are from {low} to {high}"


def _percent(share: float) -> str:
    if 0 < share < 0.001:
        return "under 0.1%"
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{100 * share:.2g}%"
