"""Counts of one version's inputs and outputs, by the bins of its drift baseline.

A request only leaves its numbers here; they are counted together, many rows at a time, when enough have gathered or
somebody looks. All of it happens on the event loop, so there is nothing to lock.
"""

from contract.features import Encoded, Encoder
from contract.histogram import Counts
from contract.manifest import Manifest
from contract.runtimes import Outputs
from service.counting.ledger import Block, Ledger, Sums, zeros
from service.counting.watch import Rows, Watch


class Tally:
    """What is noted and counted of a version in one block, which may be a dead process's: it goes on from there."""

    def __init__(self, watch: Watch, block: Block, *, shared: bool) -> None:
        self.watch = watch
        self.ledger = Ledger(block, shared=shared)
        self.noted = noted_in(block)
        self._parts = [i for i, part in enumerate(self.noted) if part.shape[1]]
        self._flush(int(self.ledger.notes[self.ledger.side, 0]))

    def note(self, rows: Rows, count: int) -> None:
        """Take over n rows. Their number is set last: who is killed before that has not answered them either."""
        start = 0
        while start < count:
            taken = min(count - start, self.watch.rows - self._at)
            for i in self._parts:
                self.noted[i][self._at : self._at + taken] = rows[i][start : start + taken]
            start += taken
            self._at += taken
            self.ledger.fence()
            self._count[0] = self._at
            if self._at == self.watch.rows:
                self._flush(self._at)

    def add(self, counts: Counts, sums: Sums) -> None:
        """Count what has been counted elsewhere."""
        self._flush(self._at)
        self.ledger.add(counts, sums)
        self._flush(0)

    def read(self) -> tuple[Counts, Sums]:
        return self.watch.read(self.ledger, self.noted)

    def _flush(self, rows: int) -> None:
        if rows:
            self.ledger.add(*self.watch.count(self.noted.first(rows)))
        self._at = 0
        self._count = self.ledger.notes[self.ledger.side].data  # a memoryview takes a number in half the time


def noted_in(block: Block) -> Rows:
    """Where a block has its rows."""
    return Rows(*(block[name][0] for name in Rows._fields))


class Monitor:
    """Everything that has been counted of one version. It counts in memory of its own until it gets another tally."""

    def __init__(self, manifest: Manifest, encoder: Encoder) -> None:
        self.manifest = manifest
        self.watch = Watch(manifest, encoder)
        self.tally = Tally(self.watch, zeros(self.watch.type), shared=False)

    def move(self, tally: Tally) -> None:
        """Go on counting there, with what has been counted here."""
        if tally is not self.tally:
            tally.add(*self.tally.read())
            self.tally = tally

    def observe(self, encoded: Encoded, outputs: Outputs, rows: int) -> None:
        """Take note of n rows and their outputs by name; nothing of them is held on to."""
        self.tally.note(self.watch.note(encoded, outputs), rows)

    def inputs(self) -> dict[str, Counts]:
        """Counts by feature, in the order of its bins."""
        return self.watch.split(self.tally.read()[0])[0]

    def outputs(self) -> dict[str, Counts]:
        """Counts of what outputs are watched by, in the order of its bins."""
        return self.watch.split(self.tally.read()[0])[1]

    def labels(self) -> dict[str, int]:
        """Predictions by label, in the order of the classes; under an empty label where the output is no class."""
        return self.watch.split(self.tally.read()[0])[2]
