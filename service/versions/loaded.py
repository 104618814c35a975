"""One version of a model, proven and warm: what a registry holds and requests run on.

It lives as long as somebody holds it: the registry, or a request that has picked it. So a version that was replaced
ends what it has begun, however long that takes, and its memory is given back after that.
"""

import hashlib
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import finalize

from contract import bundle, proof, runtimes
from contract.bundle import Bundle
from contract.errors import HornpipeError
from contract.features import Encoded, Encoder
from contract.litert import LiteRT
from contract.manifest import Manifest, Variant
from contract.routing import Role
from contract.runtimes import Outputs
from service.inference.answers import Write, writer
from service.inference.lane import Lanes, Pause, batch_sizes
from service.inference.queue import Queue
from service.inference.warned import RowWarnings
from service.monitor import Monitor
from service.settings import Settings

if TYPE_CHECKING:
    from service.canary.counting import Arm, Tries

# Rows that take about as long as a hop to a thread and back run on the event loop: on two cores with Python's lock in
# between, that is 200 to 400 µs of CPU time (benchmarks/NOTES.md). Pictures only where reading them is as short.
INLINE_MICROSECONDS = 250.0
INLINE_PICTURE_VALUES = 2**14

# Copies for a shadow: more waiting ones would only grow old.
MOST_COPIED_ROWS = 256

# A small file may hold a large picture: a request unpacks to a quarter of a gigabyte at most.
MOST_PICTURE_VALUES = 2**26


@dataclass(frozen=True)
class Choice:
    """Which variant of a version runs here, and why."""

    bundle: Bundle
    variant: Variant
    why: str


class LoadedModel:
    """`why` says in a sentence why this variant runs here; `write` words its predictions.

    The registry says in `roles` what the version is there for, and in `shadow` who gets a copy of what it answers. What
    looks after canaries says in `arm` where it is counted what a canary and production answer, and in `tries`, of a
    canary, what becomes of the copies that production gets.
    """

    def __init__(self, choice: Choice, lanes: Lanes, settings: Settings) -> None:
        loaded, variant = choice.bundle, choice.variant
        self.manifest: Manifest = loaded.manifest
        self.why = choice.why
        self.encoder = Encoder(loaded.manifest.features)
        self.monitor = Monitor(loaded.manifest, self.encoder)
        self.warnings = RowWarnings(self.monitor.watch, self.encoder)
        self.sha256 = hashlib.sha256((loaded.path / bundle.MANIFEST).read_bytes()).hexdigest()
        self.write: Write = writer(loaded.manifest.output)
        self.most_rows = min(settings.max_rows, _most_pictures(self.encoder))
        self.roles: tuple[Role, ...] = ()
        self.shadow: LoadedModel | None = None
        self.arm: Arm | None = None
        self.tries: Tries | None = None
        self.lanes = lanes
        self._variant = variant
        self._inline_rows = _inline_rows(variant, self.encoder)
        self._inline = self._queue(settings.max_queue_rows, lanes=1, inline=True)
        self._threaded = self._queue(settings.max_queue_rows, lanes=settings.threads, inline=False)
        self._inline_copies = self._queue(MOST_COPIED_ROWS, lanes=1, inline=True)
        self._threaded_copies = self._queue(MOST_COPIED_ROWS, lanes=1, inline=False, at_once=1)

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def version(self) -> int:
        return self.manifest.version

    @property
    def runtime(self) -> str:
        return self._variant.runtime

    @property
    def variant(self) -> str:
        return self._variant.name

    @property
    def rows_waiting(self) -> int:
        """Rows that wait or run."""
        return sum(queue.rows + queue.running for queue in (self._inline, self._threaded))

    @property
    def traces(self) -> int:
        """How often TensorFlow has traced a graph for this version."""
        return self.lanes.traces

    @property
    def process(self) -> int | None:
        """The id of the process that runs it, where it is another than this."""
        return self.lanes.process

    def queue_for(self, rows: int) -> Queue:
        """Where a request of so many rows waits: small ones run on the event loop."""
        return self._inline if rows <= self._inline_rows else self._threaded

    def queue_for_copies(self, rows: int) -> Queue:
        """Where what others answer waits to be tried here. One request at a time: a thread is never taken for long."""
        return self._inline_copies if rows <= self._inline_rows else self._threaded_copies

    def would_refuse(self, seconds: float) -> bool:
        """Whether a row that comes now, and may take so many seconds, would not be taken on."""
        return self.queue_for(1).would_refuse(seconds)

    def wait(self) -> float:
        """Seconds until a row that comes now would run, about."""
        return self.queue_for(1).wait()

    def run(self, encoded: Encoded) -> Outputs:
        """Run on the calling thread."""
        lane = self.lanes.borrow()
        try:
            return lane.run(encoded)
        finally:
            self.lanes.give_back(lane)

    def warm_up(self, row: Encoded, before: "LoadedModel | None", pause: Pause) -> None:
        """Make what the first requests need; as much as the version before it has come to use, where there is one.

        An interpreter of another size takes two milliseconds to make, and as much memory as its weights.
        """
        sizes = self.lanes.sizes
        if before is not None and len(before.lanes) and before.lanes.sizes == sizes:
            self.lanes.warm(row, len(before.lanes), before.lanes.used(), pause)
        else:
            self.lanes.warm(row, 1, sizes[:1], pause)

    def when_done(self, call: Callable[[Callable[[], None]], object]) -> None:
        """Once nobody holds this model any more, `call` is handed the function that gives its memory back."""
        finalize(self, call, self.lanes.close).atexit = False

    def _queue(self, most_rows: int, lanes: int, *, inline: bool, at_once: int | None = None) -> Queue:
        latency = self._variant.latency
        a_row = min(latency["1"].p50, latency["32"].p50 / 32) / 1e6
        return Queue(self.name, most_rows, inline, at_once or self.lanes.sizes[-1], a_row, lanes)


def _most_pictures(encoder: Encoder) -> int:
    """How many rows may be in one request."""
    if encoder.image_feature is None:
        return sys.maxsize
    return max(1, MOST_PICTURE_VALUES // math.prod(encoder.image_feature.shape))


def _inline_rows(variant: Variant, encoder: Encoder) -> int:
    """Requests of how many rows run on the event loop, by the latencies measured at 1 and 32 rows.

    Of a request alone; those of one turn of the loop run together, and cost less than each by itself.
    """
    one, many = variant.latency["1"].p50, variant.latency["32"].p50
    if one > INLINE_MICROSECONDS or variant.runtime != "litert" or _reads_large_pictures(encoder):
        return 0
    return 1 + int((INLINE_MICROSECONDS - one) / max((many - one) / 31, 1e-3))


def _reads_large_pictures(encoder: Encoder) -> bool:
    return encoder.image_feature is not None and math.prod(encoder.image_feature.shape) > INLINE_PICTURE_VALUES


def size_of(models: Path, name: str, version: int, settings: Settings) -> int:
    """Bytes of what would be loaded; 0 where it cannot be told, because then it cannot be loaded either."""
    try:
        return _choose(bundle.read_version(models, name, version), settings).variant.size
    except (HornpipeError, OSError):
        return 0


def load(
    models: Path,
    name: str,
    version: int,
    settings: Settings,
    *,
    before: LoadedModel | None = None,
    pause: Pause = lambda: None,
) -> LoadedModel:
    """Read, verify, choose, load, prove and warm one version: as warm as the one before it.

    Some steps hold Python's lock for milliseconds: `pause` is called between them, so that others get their turn.
    Raises BundleError, RuntimeUnavailable, or what the runtime raises for a file that it cannot read.
    """
    read = bundle.read_version(models, name, version)
    pause()
    bundle.verify(read)
    choice = _choose(read, settings)
    make = partial(runtimes.load, choice.bundle, choice.variant, settings.device, isolated=settings.isolate)
    first = make()
    pause()
    lanes = Lanes(make, batch_sizes(choice.variant), first)
    try:
        proof.prove(read, choice.variant, first)
        pause()
        if isinstance(first, LiteRT):
            first.shrink()
        row = proof.encode_golden(read, 1)
        model = LoadedModel(choice, lanes, settings)
        pause()
        model.warm_up(row, before, pause)
    except BaseException:
        lanes.close()
        raise
    return model


def _choose(read: Bundle, settings: Settings) -> Choice:
    return Choice(_without_golden(read), *runtimes.choose(read.manifest, settings.runtime, settings.device))


def _without_golden(read: Bundle) -> Bundle:
    """Golden rows may be pictures, and take more memory than the model; once it is proven they are of no use."""
    first = read.manifest.golden[0].model_copy(update={"row": {}})
    return Bundle(read.path, read.manifest.model_copy(update={"golden": (first,)}))
