"""One version of a model, proven and warm: what a registry holds and requests run on."""

import hashlib
import math
import sys
import threading
from pathlib import Path

import numpy as np

from contract import bundle, proof, runtimes
from contract.bundle import Bundle
from contract.features import Encoded, Encoder
from contract.manifest import Manifest, Variant
from contract.runtimes import Outputs, Runtime
from service.answers import Write, writer
from service.lane import Lane, batch_sizes
from service.monitor import Monitor
from service.queue import Queue
from service.settings import Settings

# Rows that take less than a hop to a thread and back run on the event loop.
INLINE_MICROSECONDS = 50.0

# A small file may hold a large picture: a request unpacks to a quarter of a gigabyte at most.
MOST_PICTURE_VALUES = 2**26


class LoadedModel:
    """`why` says in a sentence why this variant runs here; `write` words its predictions."""

    def __init__(self, loaded: Bundle, variant: Variant, why: str, runtime: Runtime, settings: Settings) -> None:
        self.bundle = loaded
        self.manifest: Manifest = loaded.manifest
        self.why = why
        self.encoder = Encoder(loaded.manifest.features)
        self.monitor = Monitor(loaded.manifest, self.encoder)
        self.sha256 = hashlib.sha256((loaded.path / bundle.MANIFEST).read_bytes()).hexdigest()
        self.write: Write = writer(loaded.manifest.output)
        self.most_rows = min(settings.max_rows, _most_pictures(self.encoder))
        self._variant = variant
        self._runtime = runtime
        self._device = settings.device
        self._sizes = batch_sizes(variant)
        self._inline_rows = _inline_rows(variant, self.encoder)
        self._lanes = threading.local()
        self._inline = self._queue(settings, inline=True)
        self._threaded = self._queue(settings, inline=False)

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

    def queue_for(self, rows: int) -> Queue:
        """Where a request of so many rows waits: small ones run on the event loop."""
        return self._inline if rows <= self._inline_rows else self._threaded

    def lane(self) -> Lane:
        """The runtimes of the calling thread, which has to go on using them alone."""
        lane: Lane | None = getattr(self._lanes, "lane", None)
        if lane is None:
            lane = self._lanes.lane = Lane(self._load, self._sizes)
        return lane

    def run(self, encoded: Encoded) -> Outputs:
        """Run on the calling thread."""
        return self.lane().run(encoded)

    def warm_up(self) -> None:
        """Make what the calling thread needs before the first request comes; the event loop calls it before a swap."""
        lane = self._lanes.lane = Lane(self._load, self._sizes, self._runtime)
        if self._inline_rows:
            lane.warm(proof.encode_golden(self.bundle).take(np.zeros(1, np.int64)))

    def _load(self) -> Runtime:
        return self._runtime if self._runtime.thread_safe else runtimes.load(self.bundle, self._variant, self._device)

    def _queue(self, settings: Settings, inline: bool) -> Queue:
        latency = self._variant.latency
        a_row = min(latency["1"].p50, latency["32"].p50 / 32) / 1e6
        lanes = 1 if inline else settings.threads
        return Queue(self.name, settings.max_queue_rows, inline, self._sizes[-1], a_row, lanes)


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
    if one > INLINE_MICROSECONDS or encoder.image_feature is not None:
        return 0
    return 1 + int((INLINE_MICROSECONDS - one) / max((many - one) / 31, 1e-3))


def load(path: Path, name: str, version: int, settings: Settings) -> LoadedModel:
    """Read, verify, choose, load and prove one version. Raises BundleError or RuntimeUnavailable."""
    loaded = bundle.read_version(path, name, version)
    bundle.verify(loaded)
    variant, why = runtimes.choose(loaded.manifest, settings.runtime, settings.device)
    runtime = runtimes.load(loaded, variant, settings.device)
    proof.prove(loaded, variant, runtime)
    return LoadedModel(loaded, variant, why, runtime, settings)
