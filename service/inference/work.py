"""The rows of one request on their way through a model, and what became of a batch of them."""

import asyncio
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any

from contract.features import Encoded, Problem
from contract.runtimes import Outputs
from service.http.call import Call
from service.http.steps import Pause

if TYPE_CHECKING:
    from service.inference.answers import Write
    from service.inference.queue import Queue
    from service.versions.loaded import LoadedModel


# Encodes what takes long to decode, on the thread of its model; as the encoder does, it gives all that is wrong.
Make = Callable[[], Encoded | list[Problem]]


class Result:
    """The outputs of one request: rows `first` to `last` of a batch that ran together."""

    __slots__ = ("_batch", "_first", "_last")

    def __init__(self, batch: "Batch", first: int, last: int) -> None:
        self._batch = batch
        self._first = first
        self._last = last

    @property
    def count(self) -> int:
        return self._last - self._first

    @property
    def encoded(self) -> Encoded | None:
        """The rows as they ran."""
        whole = self._batch.encoded
        return whole.take(slice(self._first, self._last)) if whole is not None else None

    @property
    def outputs(self) -> Outputs:
        """By name; the first dimension is rows."""
        return {name: output[self._first : self._last] for name, output in self._batch.outputs.items()}

    def predictions(self) -> bytes:
        """A JSON list of predictions. Raises NonFiniteOutput."""
        written = self._batch.written
        if written is None:  # somebody's are not finite: ours may be
            return b"[%b]" % b",".join(self._batch.write(self.outputs))
        return b"[%b]" % b",".join(written[self._first : self._last])

    def lines(self, write: "Write") -> list[bytes]:
        """The JSON of each prediction. Raises NonFiniteOutput."""
        return write(self.outputs)


class Work(Pause):
    """`count` rows: as parsed from JSON and to be encoded with those of others, or encoded already, or to be made.

    It is waited for once: by a coroutine that is driven by hand, or by a task.
    """

    __slots__ = ("_future", "call", "count", "encoded", "error", "model", "queued", "result", "rows")

    def __init__(
        self,
        model: "LoadedModel",
        call: Call,
        count: int,
        rows: Sequence[object] | None,
        encoded: Encoded | Make | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.call = call
        self.count = count
        self.rows = rows
        self.encoded = encoded
        self.queued = perf_counter()
        self.result: Result | None = None
        self.error: BaseException | None = None
        self._future: asyncio.Future[None] | None = None

    @property
    def queue(self) -> "Queue":
        """Where it waits."""
        return self.model.queue_for(self.count)

    def __await__(self) -> Generator[Any, Any, Result]:
        if self.result is None and self.error is None:
            if asyncio.current_task() is None:
                yield self
            else:
                yield from self._as_future()
        if self.error is not None:
            raise self.error
        assert self.result is not None  # noqa: S101  # for the type checker: one of the two is there when it goes on
        return self.result

    def fail(self, error: BaseException) -> None:
        """Tell who waits."""
        self.error = error
        self.wake()

    def finish(self, result: Result) -> None:
        self.result = result
        self.wake()

    def _as_future(self) -> Generator[Any, Any, None]:
        future = self._future = asyncio.get_running_loop().create_future()
        self.wake = lambda: None if future.done() else future.set_result(None)
        try:
            yield from future
        except asyncio.CancelledError:
            self.call.request.gone = True  # a caller that gave up waits for nothing any more
            raise


@dataclass
class Batch:
    """Works that ran together: their rows and outputs stand in the order of the works.

    In seconds of perf_counter, `began` is when their rows began to be encoded, `started` when they began to run.
    """

    works: list[Work]
    failed: list[tuple[Work, Exception]]
    encoded: Encoded | None
    outputs: Outputs
    began: float
    started: float
    ended: float

    def __post_init__(self) -> None:
        if self.works:
            self.write = self.works[0].model.write

    @property
    def rows(self) -> int:
        return sum(work.count for work in self.works)

    def release(self) -> list[Work]:
        """The works, which it forgets: they hold on to it, and a ring is freed only when the collector comes by."""
        works, self.works = self.works, []
        return works

    @cached_property
    def written(self) -> list[bytes] | None:
        """The prediction of each row in JSON; None where one of them is not finite."""
        from service.inference.answers import NonFiniteOutput

        try:
            return self.write(self.outputs)
        except NonFiniteOutput:
            return None
