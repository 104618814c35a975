"""Quality as samples of /metrics, and where all workers find those that one of them has computed."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from contract.evidence import Metric
from contract.manifest import Manifest
from contract.quality_interval import MEASURED
from service.counting.exposition import Page
from service.counting.instruments import (
    INSTRUMENTS,
    QUALITY,
    QUALITY_BASELINE,
    QUALITY_BASELINE_HIGH,
    QUALITY_BASELINE_LOW,
    QUALITY_ESTIMATE,
    QUALITY_ESTIMATE_ERROR,
    QUALITY_ESTIMATE_ROWS,
    QUALITY_HIGH,
    QUALITY_LOW,
    QUALITY_ROWS,
    QUALITY_TIME,
    Instrument,
)

log = logging.getLogger("hornpipe.quality")

NAME = "quality.json"

_INSTRUMENTS = {instrument.name: instrument for instrument in INSTRUMENTS}
_NAMES = {name for names in MEASURED.values() for name in names}
_REALISED = {"value": QUALITY, "low": QUALITY_LOW, "high": QUALITY_HIGH}
_BASELINE = {"value": QUALITY_BASELINE, "low": QUALITY_BASELINE_LOW, "high": QUALITY_BASELINE_HIGH}


class Sample(NamedTuple):
    """One line."""

    instrument: str
    labels: tuple[str, ...]
    value: float


class Snapshot(NamedTuple):
    """What was computed, and when, in Unix seconds."""

    time: float
    samples: Sequence[Sample]


def realised(
    model: str, version: int, rows: int, found: Mapping[str, Metric], expected: Mapping[str, float]
) -> Iterator[Sample]:
    """Of labelled rows, and the error of what was expected of them without their labels."""
    of = model, str(version)
    yield Sample(QUALITY_ROWS.name, of, rows)
    yield from _ends(_REALISED, of, found)
    for name in found.keys() & expected.keys():
        yield Sample(QUALITY_ESTIMATE_ERROR.name, (*of, name), expected[name] - found[name].value)


def estimated(manifest: Manifest, rows: int, estimates: Mapping[str, float]) -> Iterator[Sample]:
    """Of answered rows."""
    of = manifest.name, str(manifest.version)
    yield Sample(QUALITY_ESTIMATE_ROWS.name, of, rows)
    for name, value in estimates.items():
        yield Sample(QUALITY_ESTIMATE.name, (*of, name), value)


def baseline(manifest: Manifest) -> Iterator[Sample]:
    """Of the test rows, what is realised and estimated as well."""
    metrics = {name: metric for name, metric in manifest.metrics.items() if name in _NAMES}
    yield from _ends(_BASELINE, (manifest.name, str(manifest.version)), metrics)


def _ends(instruments: Mapping[str, Instrument], of: tuple[str, ...], found: Mapping[str, Metric]) -> Iterator[Sample]:
    for name, metric in found.items():
        for end, value in metric:
            yield Sample(instruments[end].name, (*of, name), value)


class Board:
    """The last snapshot: in a file in `folder`, that all workers share, or where there is none in memory. To write is
    for the one that computes, to `fill` for all."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / NAME
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
        page.sample(QUALITY_TIME, (), snapshot.time)
        for sample in snapshot.samples:
            page.sample(_INSTRUMENTS[sample.instrument], sample.labels, sample.value)

    def _current(self) -> Snapshot:
        if self._path is not None:
            try:
                self._reread(self._path)
            except FileNotFoundError:
                log.debug("no worker has computed the quality yet")
        return self._snapshot

    def _reread(self, path: Path) -> None:
        facts = path.stat()
        if (facts.st_ino, facts.st_mtime_ns) != self._read:
            time, samples = orjson.loads(path.read_bytes())
            self._snapshot = Snapshot(time, [Sample(name, tuple(labels), value) for name, labels, value in samples])
            self._read = facts.st_ino, facts.st_mtime_ns
