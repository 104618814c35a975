"""What happens to one model, by series: a note is one number in a word of memory, counted a thousand at once.

A word has the number of its series in its upper bits and the amount, nanoseconds or rows, in the lower ones. So the
bounds of all histograms, written as words, are one sorted table, and looking the notes up in it sorts each into its
bucket. Writing a word cannot be done by half, and zero is none: what a killed process has noted is noted.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.counting.instruments import Instrument
from service.counting.ledger import Block, Counts, Ledger, Sums, block_type

MOST_NOTES = 1024

_SHIFT = 48
LARGEST = 2**_SHIFT - 1  # 78 hours in nanoseconds
NANOSECONDS = 1e9


@dataclass(frozen=True)
class Group:
    """The series of one instrument: label values but for the model's, bounds of a histogram, or none of a counter.

    `scale` makes whole amounts of what is observed; a counter's value is the sum of its amounts. One that is not there
    `always` is exported once there is something in it.
    """

    instrument: Instrument
    labels: tuple[tuple[str, ...], ...]
    bounds: tuple[float, ...] = ()
    scale: float = 1.0
    always: bool = True


class Total(NamedTuple):
    """So many amounts, which come to so much: nanoseconds, rows or billionths."""

    times: int
    amount: int


# By the instrument's name, and the labels but for the model's.
Totals = Mapping[tuple[str, tuple[str, ...]], Total]


class Layout:
    """All series that a model has, the same for every model."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups = tuple(groups)
        self._bases: dict[tuple[str, tuple[str, ...]], int] = {}
        self._widths: list[int] = []
        words: list[int] = []
        for group in groups:
            for labels in group.labels:
                base = (len(self._bases) + 1) << _SHIFT
                self._bases[group.instrument.name, labels] = base
                words += [base + round(bound * group.scale) for bound in group.bounds]
                words.append(base + LARGEST)
                self._widths.append(len(group.bounds) + 1)
        self._words = np.array(words, np.uint64)
        self.type = block_type(len(words), len(self._bases), (MOST_NOTES,), [])
        self.digest = digest(repr((self.groups, MOST_NOTES)))

    def base(self, instrument: Instrument, *labels: str) -> int:
        """What is added to an amount to note it in a series; raises KeyError for one that there is not."""
        return self._bases[instrument.name, labels]

    def count(self, notes: NDArray[np.uint64]) -> tuple[Counts, Sums]:
        """By bucket and by series, of words that are notes or zero."""
        notes = notes[notes > 0]
        counts: Counts = np.bincount(np.searchsorted(self._words, notes), minlength=self._words.size)
        series = (notes >> np.uint64(_SHIFT)).astype(np.int64) - 1
        amounts = (notes & np.uint64(LARGEST)).astype(np.float64)
        sums: Sums = np.bincount(series, amounts, len(self._bases)).astype(np.float64)  # of nothing it is of integers
        return counts, sums

    def totals(self, counts: Counts, sums: Sums) -> Totals:
        """How many amounts have been noted in each series, and what they come to."""
        found: dict[tuple[str, tuple[str, ...]], Total] = {}
        bucket = 0
        for (name, labels), width in zip(self._bases, self._widths, strict=True):
            amount = int(sums[len(found)])
            found[name, labels] = Total(int(counts[bucket : bucket + width].sum()), amount)
            bucket += width
        return found

    def read(self, ledger: Ledger) -> tuple[Counts, Sums]:
        """Totals of a block that any process may be writing, what is only noted included."""
        counts, sums, notes = ledger.read(lambda side: ledger.notes[side].copy())
        more, amounts = self.count(notes)
        return counts + more, sums + amounts


class Counters:
    """One model's, in a block that may be a dead process's: it goes on from there."""

    def __init__(self, layout: Layout, block: Block, *, shared: bool) -> None:
        self.layout = layout
        self.ledger = Ledger(block, shared=shared)
        self._at, self._last = 0, MOST_NOTES - 1
        self._words = self._flush()

    def note(self, base: int, amount: int) -> None:
        """An amount, in a series of the layout."""
        if not 0 <= amount <= LARGEST:
            amount = 0 if amount < 0 else LARGEST
        at = self._at
        self._words[at] = base + amount
        self._at = at + 1
        if at == self._last:
            self._words = self._flush()

    def note_all(self, words: Iterable[int]) -> None:
        """Words made of base and amount, where the amounts are known to be none too small or large."""
        for word in words:
            self._words[self._at] = word
            self._at += 1
            if self._at > self._last:
                self._words = self._flush()

    def _flush(self) -> memoryview:
        """Count what is noted, and return where to note from now on."""
        self.ledger.add(*self.layout.count(self.ledger.notes[self.ledger.side]))
        self._at = 0
        words: memoryview = self.ledger.notes[self.ledger.side].data  # takes a number in half the time of an array
        return words


def digest(text: str) -> int:
    """64 bits by which the layouts of blocks are told apart; never 0."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") | 1
