"""A gate before everything that models of this process run: while it is shut, what has begun stands still."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from contract.features import Encoded
from contract.runtimes import Outputs
from service.inference.lane import Lane
from tests.waiting import PATIENCE_SECONDS

# For requests that stand before it: their time shall not be over because the machine is slow.
HOUR_MS = 3_600_000


class Gate:
    """Everything that runs waits here while it is shut; `ran` are the rows of each run."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.ran: list[int] = []
        self.entered = threading.Semaphore(0)


@contextmanager
def gated() -> Iterator[Gate]:
    """Open at first, and in the end."""
    gate, run = Gate(), Lane.run

    def held(lane: Lane, encoded: Encoded) -> Outputs:
        gate.ran.append(encoded.rows)
        gate.entered.release()
        assert gate.open.wait(PATIENCE_SECONDS)
        return run(lane, encoded)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lane, "run", held)
        try:
            yield gate
        finally:
            gate.open.set()
