"""Copies of requests for a version on trial that answers nobody: run while there is time, compared, and counted.

A copy begins when its request has been answered. It is a batch job with a deadline of its own, waits in a line of its
own, and is shed before anybody else has to wait: when somebody does already, and when the event loop has little time.

What a canary answers is tried on production the same way, some of it, and told to what looks after canaries.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter, thread_time
from typing import Any
from weakref import WeakSet

from numpy.typing import NDArray

from contract.comparison import Comparison, compare
from contract.features import Encoded
from contract.kinds import CategoryFeature, Feature, ImageFeature
from service.counting.instruments import ShadowResult
from service.errors import DeadlineExceeded, Overloaded
from service.http.call import Call
from service.http.messages import Request
from service.inference.queue import Queue
from service.inference.scheduler import Scheduler
from service.inference.work import Batch, Make, Result, Work
from service.metrics import Metrics
from service.versions.loaded import LoadedModel

log = logging.getLogger("hornpipe.shadow")

# A copy that has not begun to run by then is shed.
DEADLINE_SECONDS = 0.25
# The event loop's own work, as a share of its time, above which copies are shed.
MOST_BUSY = 0.6
WINDOW_SECONDS = 0.05


class Shadows:
    """Sends copies to the shadows of those versions that have one."""

    def __init__(self, scheduler: Scheduler, metrics: Metrics) -> None:
        self._scheduler = scheduler
        self._metrics = metrics
        self._load = Load()
        self._complained: WeakSet[LoadedModel] = WeakSet()

    def rows(self, model: LoadedModel, rows: Sequence[object], result: Result) -> None:
        """Copy rows as parsed from JSON, which the shadow encodes itself."""
        self._send(model, len(rows), rows, None, result)

    def tensors(self, model: LoadedModel, tensors: Mapping[str, NDArray[Any]], result: Result) -> None:
        """Copy tensors by the names of the signature, which the shadow encodes itself."""
        shadow = model.shadow
        if shadow is not None:
            self._send(model, result.count, None, lambda: shadow.encoder.encode_tensors(tensors), result)

    def encoded(self, model: LoadedModel, result: Result) -> None:
        """Copy what production has encoded, where the shadow's inputs are the same."""
        shadow, encoded = model.shadow, result.encoded
        if shadow is None:
            return
        if encoded is None or _inputs(shadow.manifest.features) != _inputs(model.manifest.features):
            self._count(model, "failed", result.count)
        else:
            self._send(model, result.count, None, encoded, result)

    def ran(self, batch: Batch) -> None:
        """Count a batch of copies. Production, that was tried on what the canary answers, has answered nobody."""
        first = batch.works[0]
        model = first.model
        if isinstance(first, Copy) and first.of.tries is not None:
            return
        self._metrics.of(model.name).shadow.observe(batch.ended - batch.started)
        if batch.encoded is not None:
            model.monitor.observe(batch.encoded, batch.outputs, batch.rows)

    def _send(
        self,
        model: LoadedModel,
        count: int,
        rows: Sequence[object] | None,
        encoded: Encoded | Make | None,
        result: Result,
    ) -> None:
        shadow = model.shadow
        if shadow is None or (model.tries is not None and not model.tries.wanted()):
            return
        if self._load.share() > MOST_BUSY or not self._scheduler.has_time():
            self._count(model, "shed", count)
            return
        call = Call(Request("", b"", []), "shadow", perf_counter() + DEADLINE_SECONDS, "batch", b"")
        copy = Copy(shadow, call, count, rows, encoded)
        copy.of = model
        copy.told = lambda: self._compare(model, copy, result)
        try:
            self._scheduler.submit(copy)
        except Overloaded:
            self._count(model, "shed", count)

    def _compare(self, model: LoadedModel, copy: "Copy", result: Result) -> None:
        if isinstance(copy.error, DeadlineExceeded):
            self._count(model, "shed", copy.count)
            return
        try:
            compared = self._comparison(model, copy, result)
        except Exception as error:  # whatever a version on trial answers must harm nobody
            copy.error, compared = error, None
        if compared is None:
            self._failed(model, copy)
            return
        if model.tries is not None and copy.result is not None:
            model.tries.compared(compared, result.outputs, copy.result.outputs)
            return
        self._metrics.shadowed(model.name, "agreed", compared.agreed)
        self._metrics.shadowed(model.name, "disagreed", compared.disagreed)
        self._metrics.of(model.name).difference.observe(compared.largest)

    def _comparison(self, model: LoadedModel, copy: "Copy", result: Result) -> Comparison | None:
        if copy.result is None:
            return None
        both = (model.manifest.output, result.outputs), (copy.model.manifest.output, copy.result.outputs)
        (first, ours), (second, theirs) = both if model.tries is None else reversed(both)  # production comes first
        return compare(first, second, ours, theirs)

    def _count(self, model: LoadedModel, result: ShadowResult, rows: int) -> None:
        """Rows that were not compared."""
        if model.tries is None:
            self._metrics.shadowed(model.name, result, rows)
        elif result == "shed":
            model.tries.shed()
        else:
            model.tries.fail()

    def _failed(self, of: LoadedModel, copy: "Copy") -> None:
        model = copy.model
        self._count(of, "failed", copy.count)
        if of.tries is None and model not in self._complained:
            self._complained.add(model)
            why = copy.error or "its answers cannot be compared with production's"
            log.warning("the shadow %s/%d fails what production answers: %s", model.name, model.version, why)


class Copy(Work):
    """A work that nobody waits for, of what a model has answered; `told` is called when it is done."""

    __slots__ = ("of", "told")

    of: LoadedModel
    told: Callable[[], None]

    @property
    def queue(self) -> Queue:
        return self.model.queue_for_copies(self.count)

    def fail(self, error: BaseException) -> None:
        self.error = error
        self.told()

    def finish(self, result: Result) -> None:
        self.result = result
        self.told()


class Load:
    """How much of its time the calling thread works, as of a moment ago."""

    def __init__(self) -> None:
        self._share = 0.0
        self._since, self._worked = perf_counter(), thread_time()

    def share(self) -> float:
        """0 for a thread that sleeps, 1 for one that never does."""
        now = perf_counter()
        if now - self._since >= WINDOW_SECONDS:
            worked = thread_time()
            self._share = (worked - self._worked) / (now - self._since)
            self._since, self._worked = now, worked
        return self._share


def _inputs(features: Sequence[Feature]) -> list[tuple[object, ...]]:
    """What makes encoded rows mean the same to two versions."""
    return [(each.name, each.kind, each.dtype, each.shape, *_meaning(each)) for each in features]


def _meaning(feature: Feature) -> tuple[object, ...]:
    if isinstance(feature, CategoryFeature):
        return feature.vocabulary
    return (feature.minimum, feature.maximum) if isinstance(feature, ImageFeature) else ()
