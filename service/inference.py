"""The use case: rows or tensors to a model's outputs. Knows no HTTP; every protocol comes through here."""

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from contract.features import Encoded, Problem
from contract.runtimes import Outputs
from service.call import Call
from service.errors import TooManyRows, misfit
from service.loaded import LoadedModel
from service.metrics import Metrics
from service.registry import Registry
from service.scheduler import Scheduler
from service.work import Batch, Work


class Inference:
    """Picks models, runs what is asked on them, and sees to it that all of it is counted."""

    def __init__(self, registry: Registry, metrics: Metrics, threads: int, most_rows: int) -> None:
        self._registry = registry
        self._metrics = metrics
        self._most_rows = most_rows
        self._scheduler = Scheduler(threads, self._ran)

    def pick(
        self, call: Call, name: str | None = None, version: int | None = None, label: str | None = None
    ) -> LoadedModel:
        """The model that answers a call: by name where several serve, by version or label where one is pinned.

        Raises UnknownModel, UnknownVersion or NotReady.
        """
        model = self._registry.pick(name, version, label, call.key)
        call.model = model
        return model

    async def rows(
        self, model: LoadedModel, rows: Sequence[object], call: Call, problems: Sequence[Problem] = ()
    ) -> Outputs:
        """Outputs by name, for rows as parsed from JSON; `problems` are what was found wrong around them.

        Raises InvalidRequest with every problem of every row, Overloaded, DeadlineExceeded, or ClientGone.
        """
        self._check_count(model, len(rows))
        if problems:
            encoded = model.encoder.encode(list(rows))
            raise misfit(model.name, model.version, [*problems, *(encoded if isinstance(encoded, list) else ())])
        return await self._run(Work(model, call, len(rows), rows, None))

    async def tensors(self, model: LoadedModel, tensors: Mapping[str, NDArray[Any]], call: Call) -> Outputs:
        """Outputs by name, for arrays by the names of the model's signature, n rows each. Raises as `rows` does."""
        self._check_count(model, max((len(each) for each in tensors.values() if each.ndim), default=0))
        encoded = model.encoder.encode_tensors(tensors)
        if isinstance(encoded, list):
            raise misfit(model.name, model.version, encoded)
        return await self.encoded(model, encoded, call)

    async def encoded(self, model: LoadedModel, encoded: Encoded, call: Call) -> Outputs:
        """Outputs by name, for rows that are encoded already."""
        self._check_count(model, encoded.rows)
        return await self._run(Work(model, call, encoded.rows, None, encoded))

    def close(self) -> None:
        self._scheduler.close()

    async def _run(self, work: Work) -> Outputs:
        self._metrics.of(work.model.name).decode.observe(work.queued - work.call.decoding)
        return await self._scheduler.submit(work)

    def _check_count(self, model: LoadedModel, count: int) -> None:
        most = min(self._most_rows, model.most_rows)
        if count > most:
            raise TooManyRows(f"{count} instances in one request, the limit of {model.name} is {most}")

    def _ran(self, batch: Batch) -> None:
        """Count a batch, before anybody is answered."""
        model, rows = batch.works[0].model, batch.rows
        timings = self._metrics.of(model.name)
        timings.rows.observe(rows)
        seconds = batch.ended - batch.started
        for work in batch.works:
            timings.queue.observe(batch.started - work.queued)
            timings.run.observe(seconds)
        if batch.encoded is not None:
            model.monitor.observe(batch.encoded, batch.outputs, rows)
