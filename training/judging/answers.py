"""A version as its clients see it: raw rows in, scores out, through the encoder and runtime that serve."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from contract import runtimes
from contract.bundle import Bundle
from contract.features import Encoder, Problem
from contract.manifest import BinaryOutput, ImageFeature, MulticlassOutput, RegressionOutput, TensorsOutput
from training.rows import RawRow
from training.task import Scores

MOST_ROWS, MOST_VALUES = 4096, 2**24

Taken = NDArray[np.bool_]


def finite(scores: Scores) -> Taken:
    """Which rows have an answer that is a number, or numbers; [n]."""
    return np.asarray(np.isfinite(scores).reshape(len(scores), -1).all(axis=1), np.bool_)


class Answers:
    """The chosen variant of one bundle, on the CPU."""

    def __init__(self, bundle: Bundle) -> None:
        self.manifest = bundle.manifest
        self.encoder = Encoder(self.manifest.features)
        self._runtime = runtimes.load(bundle, self.manifest.variant(self.manifest.chosen.variant), "cpu")

    @property
    def label(self) -> str:
        return f"{self.manifest.name}/{self.manifest.version}"

    @property
    def classes(self) -> tuple[str, ...]:
        """In the order of the labels: (negative, positive), all classes, or none for a regression."""
        match self.manifest.output:
            case BinaryOutput() as output:
                return (output.negative, output.positive)
            case MulticlassOutput() as output:
                return output.classes
            case RegressionOutput() | TensorsOutput():
                return ()

    def known(self, rows: Sequence[RawRow]) -> list[RawRow]:
        """The rows with no more features than this version has: another may have been trained on more."""
        names = [feature.name for feature in self.manifest.features]
        return [{name: row[name] for name in names if name in row} for row in rows]

    def problem(self, rows: Sequence[RawRow]) -> Problem | None:
        """The first thing that the service would find wrong with the rows; None where it takes them all."""
        for batch in self._batches(rows):
            encoded = self.encoder.encode(batch)
            if isinstance(encoded, list):
                return encoded[0]
        return None

    def served(self, rows: Sequence[RawRow]) -> tuple[Taken, Scores]:
        """Which rows the service would answer with numbers, [n], and those answers."""
        taken, scores = self.answer(rows)
        numbers = finite(scores)
        answered = taken.copy()
        answered[taken] = numbers
        return answered, scores[numbers]

    def answer(self, rows: Sequence[RawRow]) -> tuple[Taken, Scores]:
        """Which rows the encoder takes, [n], and the model's answers to those, float32 [taken] or [taken, classes]."""
        parts = [self._answer(batch) for batch in self._batches(rows)]
        scores = [part[1] for part in parts if part[1] is not None]
        empty = np.zeros((0, len(self.classes)) if len(self.classes) > 2 else 0, np.float32)
        return np.concatenate([part[0] for part in parts]), np.concatenate(scores) if scores else empty

    def _answer(self, batch: list[RawRow]) -> tuple[Taken, Scores | None]:
        taken = np.ones(len(batch), bool)
        encoded = self.encoder.encode(batch)
        if isinstance(encoded, list):
            taken = np.array([self.encoder.accepts(row) for row in batch])
            encoded = self.encoder.encode([row for row, fits in zip(batch, taken, strict=True) if fits])
        if isinstance(encoded, list):  # there was no row left
            return taken, None
        return taken, self._runtime.run(encoded)[self.manifest.output.name]

    def _batches(self, rows: Sequence[RawRow]) -> Iterator[list[RawRow]]:
        """Pictures are large once they are decoded."""
        values = [int(np.prod(each.shape)) for each in self.manifest.features if isinstance(each, ImageFeature)]
        size = min(MOST_ROWS, max(1, MOST_VALUES // max(values, default=1)))
        return (list(rows[start : start + size]) for start in range(0, len(rows), size))
