"""Samples of /metrics that one worker computes now and then, and where all workers find them."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from service.counting.exposition import Page
from service.counting.instruments import INSTRUMENTS, Instrument

log = logging.getLogger("hornpipe.metrics")

_INSTRUMENTS = {instrument.name: instrument for instrument in INSTRUMENTS}


class Sample(NamedTuple):
    """One line."""

    instrument: str
    labels: tuple[str, ...]
    value: float


class Snapshot(NamedTuple):
    """What was computed, and when, in Unix seconds."""

    time: float
    samples: Sequence[Sample]


class Board:
    """The last snapshot: in a file in `folder`, that all workers share, or where there is none in memory. To write is
    for the one that computes, to `fill` for all; `time` is the instrument that says when it was computed."""

    def __init__(self, folder: Path | None, name: str, time: Instrument) -> None:
        self._path = None if folder is None else folder / name
        self._time = time
        self._snapshot = Snapshot(0.0, ())
        self._read: tuple[int, int] | None = None

    def write(self, time: float, samples: Iterable[Sample]) -> None:
        """Whole or not at all. Raises OSError."""
        snapshot = Snapshot(time, list(samples))
        if self._path is None:
            self._snapshot = snapshot
        else:
            beside = self._path.with_suffix(".new")
            beside.write_bytes(orjson.dumps([time, list(map(list, snapshot.samples))]))
            beside.replace(self._path)

    def fill(self, page: Page) -> None:
        """Add the last snapshot to a scrape."""
        snapshot = self._current()
        page.sample(self._time, (), snapshot.time)
        for sample in snapshot.samples:
            page.sample(_INSTRUMENTS[sample.instrument], sample.labels, sample.value)

    def _current(self) -> Snapshot:
        if self._path is not None:
            try:
                self._reread(self._path)
            except FileNotFoundError:
                log.debug("no worker has computed %s yet", self._path.name)
        return self._snapshot

    def _reread(self, path: Path) -> None:
        facts = path.stat()
        if (facts.st_ino, facts.st_mtime_ns) != self._read:
            time, samples = orjson.loads(path.read_bytes())
            self._snapshot = Snapshot(time, [Sample(name, tuple(labels), value) for name, labels, value in samples])
            self._read = facts.st_ino, facts.st_mtime_ns
