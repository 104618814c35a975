"""A version as its clients see it: raw rows in, scores out, through the encoder and runtime that serve."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract import runtimes
from contract.bundle import Bundle
from contract.features import Encoder, Problem
from contract.manifest import Variant
from training.errors import DataError
from training.rows import RawRow

BATCH = 4096

Scores = NDArray[np.float32]


class Answers:
    """One variant of one bundle, on the CPU."""

    def __init__(self, bundle: Bundle, variant: Variant | None = None) -> None:
        self.bundle = bundle
        self.manifest = bundle.manifest
        self.variant = variant or self.manifest.variant(self.manifest.chosen.variant)
        self.encoder = Encoder(self.manifest.features)
        self._runtime = runtimes.load(bundle, self.variant, "cpu")

    @property
    def label(self) -> str:
        return f"{self.manifest.name}/{self.manifest.version}"

    def refusals(self, rows: Sequence[RawRow]) -> list[Problem]:
        """What the service would answer with an error, each problem once; empty where it takes every row."""
        encoded = self.encoder.encode(list(rows))
        return encoded if isinstance(encoded, list) else []

    def scores(self, rows: Sequence[RawRow]) -> Scores:
        """What the model answers, float32 [n] or [n, classes]. Raises DataError where it refuses a row."""
        parts = (list(rows[start : start + BATCH]) for start in range(0, len(rows), BATCH))
        return np.concatenate([self._run(part) for part in parts])

    def _run(self, rows: list[RawRow]) -> Scores:
        encoded = self.encoder.encode(rows)
        if isinstance(encoded, list):
            raise DataError(self.label, [f"{p.path}: {p.problem}, expected {p.expected}" for p in encoded])
        answers: Scores = self._runtime.run(encoded)[self.manifest.output.name]
        return answers
