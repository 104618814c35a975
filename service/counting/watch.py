"""What of a version's rows is counted, as its manifest says it: the same for every process that serves it."""

import hashlib
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.features import Encoded, Encoder
from contract.histogram import InputCounter, OutputCounter
from contract.manifest import BinaryOutput, Manifest, MulticlassOutput, Output
from contract.outlier import BOUNDS, OutlierScorer, buckets
from contract.runtimes import Outputs
from service.counting.counters import digest
from service.counting.ledger import Counts, Ledger, Sums, block_type

# Rows that are noted before they are counted: as many as are worth counting together, or as this many bytes hold.
MOST_ROWS = 512
MOST_BYTES = 65536


class Rows(NamedTuple):
    """What is noted of n rows: numbers, categories, what is measured of pictures and texts, and what was answered."""

    numbers: NDArray[np.float32]  # [n, F]
    categories: NDArray[np.int32]  # [n, C]
    measured: NDArray[np.float32]  # [n, S]
    answers: NDArray[np.float32]  # [n, what contract.histogram's OutputCounter notes]

    def first(self, count: int) -> "Rows":
        return Rows(self.numbers[:count], self.categories[:count], self.measured[:count], self.answers[:count])

    def copy(self) -> "Rows":
        return Rows(self.numbers.copy(), self.categories.copy(), self.measured.copy(), self.answers.copy())


class Watch:
    """How rows of one version are noted and counted. `text` is its manifest, by whose digest its blocks are named."""

    def __init__(self, manifest: Manifest, encoder: Encoder) -> None:
        self.manifest = manifest
        self.inputs = InputCounter.of(encoder, manifest.drift.inputs, manifest.drift.words)
        self.outputs = OutputCounter.of(manifest.output, manifest.drift.outputs)
        self.labels = labels_of(manifest.output)
        self.outliers = self._scorer()
        self.text = manifest.model_dump_json().encode()
        self.sha256 = hashlib.sha256(self.text).hexdigest()
        self.rows = self._rows_noted()
        self.type = block_type(
            sum(self.inputs.sizes) + sum(self.outputs.sizes) + len(self.labels) + self._buckets,
            len(self.outputs.names) + (self.outliers is not None),
            (1,),
            [
                (name, part.dtype, (self.rows, part.shape[1]))
                for name, part in zip(Rows._fields, self._empty(), strict=True)
            ],
        )
        self.digest = digest(f"{self.sha256} {self.type}")

    @classmethod
    def of_text(cls, text: bytes) -> "Watch":
        """Of a version that another process serves."""
        manifest = Manifest.model_validate_json(text)
        return cls(manifest, Encoder(manifest.features))

    def note(self, encoded: Encoded, outputs: Outputs) -> Rows:
        return Rows(*self.inputs.columns(encoded), self.outputs.note(outputs))

    def count(self, rows: Rows) -> tuple[Counts, Sums]:
        """Flat counts of inputs, outputs, labels and shares of outliers; the sums of outputs and of those shares."""
        watched, labels = self.outputs.watched(rows.answers)
        counts = [self.inputs.count_columns(rows.numbers, rows.categories, rows.measured), self.outputs.count(watched)]
        counts.append(np.bincount(labels, minlength=len(self.labels)))
        sums: Sums = np.nansum(watched, axis=0, dtype=np.float64)
        shares = self.outlier_shares(rows.numbers, rows.categories, rows.measured)
        if shares is not None:
            counts.append(buckets(shares))
            sums = np.append(sums, shares.sum())
        return np.concatenate(counts), sums

    def read(self, ledger: Ledger, noted: Rows) -> tuple[Counts, Sums]:
        """Totals of a block that any process may be writing, what is only noted included."""

        def copy(side: int) -> Rows:
            count = int(ledger.notes[side, 0])
            ledger.fence()
            return noted.first(count).copy()

        counts, sums, rows = ledger.read(copy)
        if not len(rows.answers):
            return counts, sums
        more, amounts = self.count(rows)
        return counts + more, sums + amounts

    def split(self, counts: Counts) -> tuple[dict[str, Counts], dict[str, Counts], dict[str, int]]:
        """Flat counts by feature, by output, and by label; in the order of their bins."""
        inputs, labels = sum(self.inputs.sizes), len(counts) - self._buckets
        outputs = labels - len(self.labels)
        return (
            self.inputs.split(counts[:inputs]),
            self.outputs.split(counts[inputs:outputs]),
            dict(zip(self.labels, counts[outputs:labels].tolist(), strict=True)),
        )

    def outlier_buckets(self, counts: Counts) -> Counts:
        """Of flat counts, rows by bucket of the outlier score; none where there is no score."""
        return counts[len(counts) - self._buckets :]

    def outlier_shares(
        self, numbers: NDArray[np.float32], categories: NDArray[np.int32], measured: NDArray[np.float32]
    ) -> NDArray[np.float64] | None:
        """Which share of training rows is less strange than each row, [n], of what `inputs` has picked; None where
        nothing is known of them."""
        if self.outliers is None:
            return None
        return self.outliers.shares(_beside(numbers, measured), categories)

    @property
    def _buckets(self) -> int:
        return 0 if self.outliers is None else len(BOUNDS)

    def _scorer(self) -> OutlierScorer | None:
        if self.manifest.outlier is None:
            return None
        inputs = self.inputs
        numbers, measured = len(inputs.numbers.sizes), len(inputs.measured.sizes)
        names, categories = inputs.names[:numbers], inputs.names[numbers : len(inputs.names) - measured]
        return OutlierScorer(self.manifest.outlier, (*names, *inputs.statistics.labels), categories)

    def _empty(self) -> Rows:
        return Rows(
            np.empty((0, len(self.inputs.numbers.sizes)), np.float32),
            np.empty((0, len(self.inputs.categories.sizes)), np.int32),
            np.empty((0, len(self.inputs.measured.sizes)), np.float32),
            np.empty((0, self.outputs.width), np.float32),
        )

    def _rows_noted(self) -> int:
        """An even number, so that blocks stay aligned."""
        width = 4 * sum(int(part.shape[1]) for part in self._empty())
        return max(2, min(MOST_ROWS, MOST_BYTES // max(1, width)) // 2 * 2)


def _beside(numbers: NDArray[np.float32], measured: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([numbers, measured], axis=1) if measured.shape[1] else numbers


def labels_of(output: Output) -> tuple[str, ...]:
    return output.classes if isinstance(output, BinaryOutput | MulticlassOutput) else ("",)
