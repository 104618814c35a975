"""Everything that is counted here, and a scrape of everything that is counted by all workers of the service.

What is counted at every request is only noted (counters.py, monitor.py), in blocks (ledger.py) of this process or of a
folder that all workers share (store.py, shared.py). A scrape adds up the blocks of all workers, also of dead ones.

Every series exists at 0 from the moment its model is loaded, those of a protocol's route once a request has come by it;
labels come from manifests or from fixed sets.
"""

import logging
from collections.abc import Callable, Iterable
from itertools import product
from typing import Protocol

import numpy as np

from contract.manifest import Manifest
from service.counting.counters import NANOSECONDS, Counters, Group, Layout, Totals
from service.counting.gpu import Gpus
from service.counting.instruments import (
    BATCH_ROWS,
    CANARY_DECIDED,
    CANARY_DECISIONS,
    DIFFERENCES,
    FEEDBACK,
    FEEDBACK_RESULTS,
    LAG_SECONDS,
    LOG_RESULTS,
    LOGGED,
    LOOP_LAG,
    NO_MODEL,
    OUTCOMES,
    REASONS,
    REFUSED,
    REJECTED,
    REQUEST_SECONDS,
    ROWS,
    SECONDS,
    SHADOW_DIFFERENCE,
    SHADOW_RESULTS,
    SHADOW_ROWS,
    SHADOW_SECONDS,
    STAGE_SECONDS,
    STAGES,
    SWAPS,
    TRACES,
    CanaryDecision,
    FeedbackResult,
    Instrument,
    LogResult,
    Outcome,
    Reason,
    ShadowResult,
)
from service.counting.ledger import KEPT, LOADED, PROCESS, QUEUED, STATE, VARIANT, Block, zeros
from service.counting.scrape import Fill, Scrape, model_total
from service.counting.store import Key, OwnMemory, Store
from service.counting.watch import Watch
from service.monitor import Monitor, Tally

log = logging.getLogger("hornpipe.metrics")

BILLIONTHS = 1e9  # whole amounts of what is a share


class ServedVersion(Protocol):
    """What is exported of a version that is loaded."""

    monitor: Monitor

    @property
    def rows_waiting(self) -> int: ...
    @property
    def manifest(self) -> Manifest: ...
    @property
    def variant(self) -> str: ...
    @property
    def sha256(self) -> str: ...
    @property
    def traces(self) -> int: ...
    @property
    def process(self) -> int | None: ...


class Series:
    """One series of a model, to observe values in."""

    __slots__ = ("_base", "_note", "_scale")

    def __init__(self, counters: Counters, scale: float, instrument: Instrument, *labels: str) -> None:
        self._note = counters.note
        self._base = counters.layout.base(instrument, *labels)
        self._scale = scale

    def observe(self, value: float) -> None:
        self._note(self._base, int(value * self._scale))


class Timings:
    """What is measured at the predictions of one model: seconds by stage, and rows."""

    def __init__(self, counters: Counters) -> None:
        self.decode, self.queue, self.run, self.encode = (
            Series(counters, NANOSECONDS, STAGE_SECONDS, stage) for stage in STAGES
        )
        self.rows = Series(counters, 1, BATCH_ROWS)
        self.shadow = Series(counters, NANOSECONDS, SHADOW_SECONDS)
        self.difference = Series(counters, BILLIONTHS, SHADOW_DIFFERENCE)
        self._counters = counters
        self._decode, self._queue, self._run = (
            counters.layout.base(STAGE_SECONDS, stage) for stage in ("decode", "queue", "run")
        )
        self._rows = counters.layout.base(BATCH_ROWS)

    def ran(self, rows: int, seconds: float, before: Iterable[tuple[float, float]]) -> None:
        """A batch: its rows, how long it ran, and what each of its requests took before, to decode and in the queue."""
        run = self._run + int(seconds * NANOSECONDS)
        words = [self._rows + rows]
        for decoded, queued in before:
            words += (self._decode + int(decoded * NANOSECONDS), self._queue + int(queued * NANOSECONDS), run)
        self._counters.note_all(words)


class Metrics:
    """All instruments of one service. All of it happens on the event loop, so there is nothing to lock."""

    def __init__(
        self,
        monitors: Callable[[], Iterable[Monitor]],
        serving: Callable[[], Iterable[ServedVersion]],
        store: Store | None = None,
        gpus: Gpus | None = None,
    ) -> None:
        self._gpus = gpus
        self._monitors = monitors
        self._serving = serving
        self._store = store or OwnMemory()
        self._routes: dict[str, bool] = {}
        self._layouts: dict[bool, Layout] = {}
        self._counters: dict[str, Counters] = {}
        self._timings: dict[str, Timings] = {}
        self._requests: dict[tuple[str, str, str], tuple[Counters, int]] = {}
        self._tallies: dict[Key, Tally] = {}
        self._traces: dict[Key, int] = {}
        self._sources: list[Callable[[], None]] = []
        self._shown: list[Fill] = []
        self._scrape: Scrape | None = None

    def declare(self, route: str, *, always: bool = False) -> None:
        """Let requests be counted by this route; its series are there from its first request on, or always.

        Raises RuntimeError once counting has begun: the series are laid out by then.
        """
        if self._layouts and route not in self._routes:
            raise RuntimeError(f"the route {route} must be declared before the first model is prepared")
        self._routes[route] = always or self._routes.get(route, False)

    def attach(self, source: Callable[[], None]) -> None:
        """Call it before whatever has been counted is looked at: it tells what became of predictions that are kept."""
        self._sources.append(source)

    def show(self, fill: Fill) -> None:
        """Let a scrape have samples of things that are not counted here."""
        self._shown.append(fill)

    def prepare(self, model: str) -> None:
        """Make every series of a model, at 0; `NO_MODEL` has those of requests that name none."""
        if model in self._counters:
            return
        layout = self._layout(of_model=model != NO_MODEL)
        block = self._open(Key("model", model), layout.type, layout.digest)
        counters = self._counters[model] = Counters(layout, block, shared=self._store.shared)
        for route, outcome in product(self._routes, OUTCOMES):
            self._requests[model, route, outcome] = counters, layout.base(REQUEST_SECONDS, route, outcome)
        if model != NO_MODEL:
            self._timings[model] = Timings(counters)

    def enrol(self, model: ServedVersion) -> None:
        """Count a version where a scrape finds it, from where it has been counted before; once, after `prepare`."""
        watch = model.monitor.watch
        key = Key("version", model.manifest.name, model.sha256)
        if key not in self._tallies:
            text = model.manifest.model_dump_json().encode() if self._store.shared else b""
            block = self._open(key, watch.type, watch.digest, text)
            self._tallies[key] = Tally(watch, block, shared=self._store.shared)
        model.monitor.move(self._tallies[key])

    def request(self, model: str, route: str, outcome: Outcome, seconds: float) -> None:
        if model not in self._counters:  # requests of no model, the first of which comes once all routes are known
            self.prepare(model)
        counters, base = self._requests[model, route, outcome]
        counters.note(base, int(seconds * NANOSECONDS))

    def of(self, model: str) -> Timings:
        """Where to note the stages of a prediction; the model has been prepared."""
        return self._timings[model]

    def rejected(self, model: str, reason: Reason) -> None:
        self._count(model, 1, REJECTED, reason)

    def swapped(self, model: str) -> None:
        self._count(model, 1, SWAPS)

    def refused(self, model: str) -> None:
        self._count(model, 1, REFUSED)

    def late(self, seconds: float) -> None:
        """How late the event loop came to one of the moments that lag.py looks at."""
        self._count(NO_MODEL, int(seconds * NANOSECONDS), LOOP_LAG)

    def shadowed(self, model: str, result: ShadowResult, rows: int) -> None:
        """Rows of a request that were copied to a shadow version, or would have been."""
        self._count(model, rows, SHADOW_ROWS, result)

    def canary_decided(self, model: str, result: CanaryDecision) -> None:
        self._count(model, 1, CANARY_DECIDED, result)

    def logged(self, model: str, result: LogResult, rows: int) -> None:
        """Rows that were to be in the prediction log."""
        self._count(model, rows, LOGGED, result)

    def fed_back(self, model: str, result: FeedbackResult, labels: int) -> None:
        """Labels that came; of no model where the prediction is not known."""
        self._count(model, labels, FEEDBACK, result)

    def publish(self) -> None:
        """Let scrapes of other workers see what is no count: what is loaded, and how many rows wait.

        Versions that have left the registry are let go of.
        """
        for source in self._sources:
            source()
        serving = list(self._serving())
        queued = dict.fromkeys(self._counters, 0)
        for each in serving:
            queued[each.manifest.name] += each.rows_waiting
            self._count_traces(each)
        for name, rows in queued.items():
            self._counters[name].ledger.state[QUEUED] = rows
        self._retire(self._monitors())
        loaded = {Key("version", each.manifest.name, each.sha256): each for each in serving}
        for key, tally in self._tallies.items():
            served = loaded.get(key)
            tally.ledger.state[STATE] = KEPT if served is None else LOADED
            tally.ledger.state[PROCESS] = (served and served.process) or 0
            if served is not None:
                tally.ledger.state[VARIANT] = [each.name for each in served.manifest.variants].index(served.variant)

    def watches(self) -> dict[Key, Watch]:
        """Of the versions that are counted here."""
        return {key: tally.watch for key, tally in self._tallies.items()}

    def totals(self, model: str) -> Totals:
        """What all workers have counted of a model, of all its versions together; empty where none has begun."""
        layout, key = self._layout(of_model=True), Key("model", model)
        found = [each for each in self._store.found() if each.key == key]
        total = model_total(found, layout, shared=self._store.shared)
        return layout.totals(*total) if total is not None else {}

    async def scrape(self) -> str:
        """All samples of all workers, in Prometheus' text format."""
        self.publish()
        if self._scrape is None:
            self._scrape = Scrape(self._store, self._layout(of_model=True), self._layout(of_model=False), self._gpus)
        return await self._scrape.text(self.watches(), self._shown)

    def settle(self) -> None:
        """Everything is loaded that will be: of what a dead worker has left here, only that is exported still."""
        for key in self._store.own():
            if key.kind == "version" and key not in self._tallies:
                self._store.retire(key)

    def _count(self, model: str, amount: int, instrument: Instrument, *labels: str) -> None:
        if model not in self._counters:
            self.prepare(model)
        counters = self._counters[model]
        counters.note(counters.layout.base(instrument, *labels), amount)

    def _count_traces(self, served: ServedVersion) -> None:
        """Runtimes that trace say how often they have; what they say starts anew with each that is loaded."""
        key = Key("version", served.manifest.name, served.sha256)
        now, before = served.traces, self._traces.get(key, 0)
        if now != before:
            self._count(served.manifest.name, now - before if now > before else now, TRACES)
            self._traces[key] = now

    def _retire(self, monitors: Iterable[Monitor]) -> None:
        kept = {id(monitor.tally) for monitor in monitors}
        for key, tally in list(self._tallies.items()):
            if id(tally) not in kept:
                del self._tallies[key]
                self._traces.pop(key, None)
                self._store.retire(key)

    def _open(self, key: Key, layout: np.dtype[np.void], digest: int, text: bytes = b"") -> Block:
        try:
            return self._store.open(key, layout, digest, text)
        except OSError as error:  # a full disk; better to serve and to count for oneself
            log.error("%s of %s is counted here, but in no scrape: %s", key.kind, key.model or "requests", error)
            return zeros(layout)

    def _layout(self, *, of_model: bool) -> Layout:
        if of_model not in self._layouts:
            groups = [_by_route(route, always) for route, always in self._routes.items()]
            groups.append(Group(REJECTED, tuple((reason,) for reason in REASONS)))
            groups += _of_kept(of_model=of_model, always=bool(self._sources))
            self._layouts[of_model] = Layout((*groups, *(_of_model() if of_model else _of_none())))
        return self._layouts[of_model]


def _by_route(route: str, always: bool) -> Group:
    labels = tuple((route, outcome) for outcome in OUTCOMES)
    return Group(REQUEST_SECONDS, labels, SECONDS, NANOSECONDS, always)


def _of_kept(*, of_model: bool, always: bool) -> tuple[Group, ...]:
    """Of predictions that are kept: there at 0 where any shall be."""
    if not of_model:
        return (Group(FEEDBACK, (("unknown",),), always=always),)
    return (
        Group(LOGGED, tuple((result,) for result in LOG_RESULTS), always=always),
        Group(FEEDBACK, tuple((result,) for result in FEEDBACK_RESULTS if result != "unknown"), always=always),
    )


def _of_none() -> tuple[Group, ...]:
    return (Group(LOOP_LAG, ((),), LAG_SECONDS, NANOSECONDS),)


def _of_model() -> tuple[Group, ...]:
    return (
        Group(STAGE_SECONDS, tuple((stage,) for stage in STAGES), SECONDS, NANOSECONDS),
        Group(BATCH_ROWS, ((),), ROWS),
        Group(SWAPS, ((),)),
        Group(REFUSED, ((),)),
        Group(SHADOW_SECONDS, ((),), SECONDS, NANOSECONDS),
        Group(SHADOW_ROWS, tuple((result,) for result in SHADOW_RESULTS)),
        Group(SHADOW_DIFFERENCE, ((),), DIFFERENCES, BILLIONTHS),
        Group(CANARY_DECIDED, tuple((result,) for result in CANARY_DECISIONS)),
        Group(TRACES, ((),)),
    )
