"""The use case: rows or tensors to a model's outputs. Knows no HTTP; every protocol comes through here."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from contract.features import Encoded, Problem
from contract.runtimes import Outputs
from service.errors import Overloaded, TooManyRows, misfit
from service.http.call import Call
from service.inference.scheduler import Scheduler
from service.inference.work import Batch, Make, Result, Work
from service.logs.tracing import Ran
from service.metrics import Metrics
from service.registry import Registry
from service.versions.loaded import LoadedModel
from service.versions.shadow import Copy, Shadows

if TYPE_CHECKING:
    from service.predictions.predictions import PredictionLog

# Tensors of so many values are read on the thread of their model: it takes longer than the event loop has time for.
LARGE = 20_000

# Whoever is refused is told to come again after so long at most.
MOST_RETRY_SECONDS = 30.0


class Inference:
    """Picks models, runs what is asked on them, and sees to it that all of it is counted."""

    def __init__(self, registry: Registry, metrics: Metrics, threads: int, most_rows: int) -> None:
        self._registry = registry
        self._metrics = metrics
        self._most_rows = most_rows
        self._scheduler = Scheduler(threads, self._ran)
        self._shadows = Shadows(self._scheduler, metrics)
        self.traces = False  # whether calls shall say when they ran
        self.log: PredictionLog | None = None  # where what was answered is kept

    def pick(
        self, call: Call, name: str | None = None, version: int | None = None, label: str | None = None
    ) -> LoadedModel:
        """The model that answers a call: by name where several serve, by version or label where one is pinned.

        Raises UnknownModel, UnknownVersion or NotReady.
        """
        model = self._registry.pick(name, version, label, call.key)
        call.model = model
        if model.arm is not None and version is None and label is None:
            call.arm = model.arm
        return model

    @property
    def busy(self) -> bool:
        """Whether rows wait or run."""
        return any(model.rows_waiting for model in self._registry.serving())

    def refusal(self, seconds: float) -> Overloaded | None:
        """Why a request that may take so many seconds need not even be read: no model could run it in time."""
        wait = math.inf
        for model in self._registry.serving():
            if not model.would_refuse(seconds):
                return None
            wait = min(wait, model.wait())
        if wait == math.inf:  # nothing serves
            return None
        again = max(1, math.ceil(min(wait, MOST_RETRY_SECONDS)))
        return Overloaded("every model is busy for longer than the request may take; try again shortly", again)

    async def predict(
        self, model: LoadedModel, rows: Sequence[object], call: Call, problems: Sequence[Problem] = ()
    ) -> Result:
        """What a model says of rows as parsed from JSON; `problems` are what was found wrong around them.

        Raises InvalidRequest with every problem of every row, Overloaded, DeadlineExceeded, or ClientGone.
        """
        self._check_count(model, len(rows))
        if problems:
            encoded = model.encoder.encode(list(rows))
            raise misfit(model.name, model.version, [*problems, *(encoded if isinstance(encoded, list) else ())])
        result = await self._submit(Work(model, call, len(rows), rows, None))
        if model.shadow is not None:
            self._shadows.rows(model, rows, result)
        if self.log is not None:
            self.log.note(model, call, result, rows)
        return result

    async def rows(self, model: LoadedModel, rows: Sequence[object], call: Call) -> Outputs:
        """Outputs by name, for rows as parsed from JSON. Raises as `predict` does."""
        return (await self.predict(model, rows, call)).outputs

    async def tensors(self, model: LoadedModel, tensors: Mapping[str, NDArray[Any]], call: Call) -> Outputs:
        """Outputs by name, for arrays by the names of the model's signature, n rows each. Raises as `predict` does."""
        rows = max((len(each) for each in tensors.values() if each.ndim), default=0)
        self._check_count(model, rows)
        if sum(each.size for each in tensors.values()) > LARGE:
            work = Work(model, call, rows, None, lambda: model.encoder.encode_tensors(tensors))
        else:
            encoded = model.encoder.encode_tensors(tensors)
            if isinstance(encoded, list):
                raise misfit(model.name, model.version, encoded)
            work = Work(model, call, encoded.rows, None, encoded)
        result = await self._submit(work)
        if model.shadow is not None:
            self._shadows.tensors(model, tensors, result)
        if self.log is not None:
            self.log.note(model, call, result, None, tensors)
        return result.outputs

    async def encoded(self, model: LoadedModel, encoded: Encoded, call: Call) -> Result:
        """What a model says of rows that are encoded already. Raises as `predict` does."""
        self._check_count(model, encoded.rows)
        return await self._copied(Work(model, call, encoded.rows, None, encoded))

    async def later(self, model: LoadedModel, count: int, make: Make, call: Call) -> Result:
        """What a model says of `count` rows that take long to decode: `make` does so on the model's thread, and gives
        as many. Raises as `predict` does."""
        self._check_count(model, count)
        return await self._copied(Work(model, call, count, None, make))

    def close(self) -> None:
        self._scheduler.close()

    async def _copied(self, work: Work) -> Result:
        """What is encoded when it comes here."""
        result = await self._submit(work)
        if work.model.shadow is not None:
            self._shadows.encoded(work.model, result)
        if self.log is not None:
            self.log.note(work.model, work.call, result)
        return result

    def _submit(self, work: Work) -> Work:
        self._scheduler.submit(work)
        return work

    def _check_count(self, model: LoadedModel, count: int) -> None:
        most = min(self._most_rows, model.most_rows)
        if count > most:
            raise TooManyRows(f"{count} instances in one request, the limit of {model.name} is {most}")

    def _ran(self, batch: Batch) -> None:
        """Count a batch, before anybody is answered."""
        if isinstance(batch.works[0], Copy):
            self._shadows.ran(batch)
            return
        model, rows = batch.works[0].model, batch.rows
        timings = self._metrics.of(model.name)
        before = [(work.queued - work.call.decoding, batch.started - work.queued) for work in batch.works]
        timings.ran(rows, batch.ended - batch.started, before)
        if self.traces:
            for work in batch.works:
                work.call.ran = Ran(work.queued, batch.started, batch.ended)
        if model.arm is not None:
            model.arm.ran(batch)
        if batch.encoded is not None:
            model.monitor.observe(batch.encoded, batch.outputs, rows)
