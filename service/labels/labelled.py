"""Predictions and what turned out to be true, joined: what quality is measured on, and what trains again."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from contract.errors import HornpipeError
from contract.manifest import Output

# Rows of a chunk at most.
CHUNK_ROWS = 10_000


class LabelsError(HornpipeError):
    """The file with predictions and labels cannot be read or written. Says which and why."""


@dataclass(frozen=True)
class Joined:
    """n rows that one version predicted, the oldest first, and their labels where they have come.

    `scores` are float32, as the model answered: [n] of the positive class where there are two, [n, classes] where there
    are several, [n] the value in a regression. `labels` are int64 numbers of `output.classes`, or -1 while nobody has
    said; in a regression float64 values, or NaN. `predicted_at` and `received_at` are float64 seconds since the Unix
    epoch; the second is when the label came, as last corrected, or NaN. `roles` says for each row what the version was
    there for: production, canary, shadow or pinned.

    `output` is that of the version's manifest: classes, which of two is positive, the threshold. A row is in here once:
    of a request id that came twice, the later prediction counts.
    """

    model: str
    version: int
    output: Output
    predicted_at: NDArray[np.float64]  # [n]
    received_at: NDArray[np.float64]  # [n]
    roles: NDArray[np.object_]  # [n] of str
    scores: NDArray[np.float32]  # [n] or [n, classes]
    labels: NDArray[Any]  # [n] int64 or float64

    def __len__(self) -> int:
        return len(self.predicted_at)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which rows have a label, [n]."""
        return np.isfinite(self.received_at)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64] | slice) -> "Joined":
        """Some of the rows."""
        return Joined(
            self.model,
            self.version,
            self.output,
            self.predicted_at[rows],
            self.received_at[rows],
            self.roles[rows],
            self.scores[rows],
            self.labels[rows],
        )


class Labelled(Protocol):
    """What is known of logged predictions. `ServiceState.kept.labelled` is one; `kept` is None where nothing is logged.

    The prediction log is a sample of requests (HORNPIPE_PREDICTIONS_SHARE), the same for all versions. Any thread may
    ask, none should be the event loop's: it reads a file. What is answered is of one moment.
    """

    def joined(
        self,
        model: str,
        since: float,
        until: float = np.inf,
        version: int | None = None,
        *,
        labelled: bool = False,
    ) -> Iterator[Joined]:
        """Rows predicted from `since` to before `until`, Unix seconds, in chunks of CHUNK_ROWS at most, each of one
        version, the oldest first within a version. With `labelled`, those alone whose label is known.

        Of an imported model, whose output means nothing here, there are none. Raises LabelsError where the file cannot
        be read.
        """

    def counts(self, model: str, since: float, until: float = np.inf) -> dict[int, tuple[int, int]]:
        """By version: rows predicted in that time, and how many of them have a label."""

    def received(self, model: str, since: float, most: int) -> int:
        """How many rows, of whatever version, have got a label after `since`, Unix seconds, or a correction; counted up
        to `most`."""

    def changes(self) -> int:
        """A number that is another one once a prediction or a label has come, gone or been corrected, by whichever
        process: while it is the same, so is every answer above for times that are over."""
