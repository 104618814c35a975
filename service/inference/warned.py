"""Predictions with warnings, for who asks for them: how strange a row is, and which of its fields training never saw.

A warning keeps no row from its prediction. It is worded as the details of an error are: where it is, what came, and
what training knows.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from contract.features import UNSEEN, Encoded, Encoder, Problem, describe, show
from contract.manifest import NumberBins
from contract.outputs import TensorsOutput
from service.counting.watch import Watch
from service.inference.answers import Write
from service.inference.work import Result

# So many are listed in an answer: each costs time in which nobody else is answered.
MOST_WARNINGS = 1000

OUTSIDE, UNKNOWN = "is outside the range seen in training", "was never seen in training"


class RowWarnings:
    """What there is to say of the rows of one version."""

    def __init__(self, watch: Watch, encoder: Encoder) -> None:
        self._watch = watch
        # Of an imported model nobody knows what it was trained on, and its predictions have no room for anything.
        self.possible = not isinstance(watch.manifest.output, TensorsOutput)
        self._numbers = [feature.name for feature in encoder.number_features]
        self._measured = watch.inputs.statistics.labels
        self._categories = [feature.name for feature in encoder.category_features]
        self._known = [describe(feature) for feature in encoder.category_features]
        self._ranges = np.array(self._seen(encoder), np.float32).reshape(-1, 2)

    def of(self, encoded: Encoded, rows: Sequence[object] | None) -> list[bytes]:
        """Of n rows what is added to the object of each prediction; `rows` are those that came, if they are known."""
        numbers, codes, measured = self._watch.inputs.columns(encoded)
        shares = self._watch.outlier_shares(numbers, codes, measured)
        listed = self._listed(np.concatenate([numbers, measured], axis=1), codes, rows)
        return [
            b',"outlier":%b,"warnings":%b' % pair
            for pair in zip(_written(shares, encoded.rows), map(orjson.dumps, listed), strict=True)
        ]

    def _listed(
        self, numbers: NDArray[np.float32], codes: NDArray[np.int32], rows: Sequence[object] | None
    ) -> list[list[Problem] | None]:
        """Those of each row; None of a row for which there is no room any more."""
        outside = (numbers < self._ranges[:, 0]) | (numbers > self._ranges[:, 1])
        unseen = codes == UNSEEN
        room = np.cumsum(outside.sum(axis=1) + unseen.sum(axis=1)) <= MOST_WARNINGS
        listed: list[list[Problem] | None] = [[] if there else None for there in room.tolist()]
        for row, column in np.argwhere(outside & room[:, None]).tolist():
            _append(listed, row, self._of_number(row, column, float(numbers[row, column]), rows))
        for row, column in np.argwhere(unseen & room[:, None]).tolist():
            name = self._categories[column]
            came = _came(rows, row, name, "another value")
            _append(listed, row, Problem(f"instances[{row}].{name}", UNKNOWN, self._known[column], came))
        return listed

    def _of_number(self, row: int, column: int, value: float, rows: Sequence[object] | None) -> Problem:
        low, high = self._ranges[column].tolist()
        if column < len(self._numbers):
            name = self._numbers[column]
            came = _came(rows, row, name, f"{value:g}")
        else:
            name, came = self._measured[column - len(self._numbers)], f"{value:g}"
        return Problem(f"instances[{row}].{name}", OUTSIDE, f"a number from {low:g} to {high:g}", came)

    def _seen(self, encoder: Encoder) -> list[tuple[float, float]]:
        """The ranges of numbers and of what is measured, whose baseline begins and ends with the least and the most."""
        bins = [
            each for name in self._measured if isinstance(each := self._watch.manifest.drift.inputs[name], NumberBins)
        ]
        return [
            *((feature.minimum, feature.maximum) for feature in encoder.number_features),
            *((each.edges[0], each.edges[-1]) for each in bins),
        ]


class Warned(Result):
    """A result that says of each row what there is to say; `asked` is whether its client wants to know."""

    __slots__ = ("_rows", "_warnings", "asked")

    def __init__(self, result: Result, warnings: RowWarnings, rows: Sequence[object] | None, *, asked: bool) -> None:
        super().__init__(result._batch, result._first, result._last)
        self.asked = asked
        self._warnings = warnings
        self._rows = rows

    def predictions(self) -> bytes:
        """A JSON list of predictions. Raises NonFiniteOutput."""
        return b"[%b]" % b",".join(self.lines(self._batch.write))

    def lines(self, write: Write) -> list[bytes]:
        """The JSON of each prediction. Raises NonFiniteOutput."""
        encoded = self.encoded
        plain = write(self.outputs)
        if encoded is None:
            return plain
        return [
            b"%b%b}" % (each[:-1], more)
            for each, more in zip(plain, self._warnings.of(encoded, self._rows), strict=True)
        ]


def _written(shares: NDArray[np.float64] | None, rows: int) -> list[bytes]:
    """Shares in JSON, rounded down: only what is stranger than all of training is 1."""
    if shares is None:
        return [b"null"] * rows
    return orjson.dumps(np.floor(shares * 1e4) / 1e4, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")


def _came(rows: Sequence[object] | None, row: int, name: str, otherwise: str) -> str:
    found: Any = rows[row] if rows is not None else None
    return show(found[name]) if isinstance(found, dict) and name in found else otherwise


def _append(listed: list[list[Problem] | None], row: int, problem: Problem) -> None:
    of_row = listed[row]
    if of_row is not None:
        of_row.append(problem)
