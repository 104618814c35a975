"""The rows of one request on their way through a model, and what became of a batch of them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from contract.features import Encoded
from contract.runtimes import Outputs
from service.call import Call

if TYPE_CHECKING:
    from service.loaded import LoadedModel


class Work:
    """`count` rows: as parsed from JSON and to be encoded with those of others, or encoded already."""

    __slots__ = ("call", "count", "encoded", "future", "model", "queued", "rows")

    def __init__(
        self, model: "LoadedModel", call: Call, count: int, rows: Sequence[object] | None, encoded: Encoded | None
    ) -> None:
        self.model = model
        self.call = call
        self.count = count
        self.rows = rows
        self.encoded = encoded
        self.queued = perf_counter()
        self.future: asyncio.Future[Outputs] = asyncio.get_running_loop().create_future()

    def fail(self, error: Exception) -> None:
        """Tell who waits; nobody does any more when the service is stopping."""
        if not self.future.done():
            self.future.set_exception(error)

    def finish(self, outputs: Outputs) -> None:
        if not self.future.done():
            self.future.set_result(outputs)


@dataclass(slots=True)
class Batch:
    """Works that ran together: their rows and outputs stand in the order of the works. Seconds of perf_counter."""

    works: list[Work]
    failed: list[tuple[Work, Exception]]
    encoded: Encoded | None
    outputs: Outputs
    started: float
    ended: float

    @property
    def rows(self) -> int:
        return sum(work.count for work in self.works)
