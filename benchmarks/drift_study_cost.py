"""What monitoring costs Hornpipe on the same rows and windows: CPU seconds, measured here, and bytes of state.

The service has encoded rows and answers at hand anyway. What it does for monitoring is timed as it does it: each
request's rows are noted, and counted when enough have gathered (service/monitor.py). Inputs, outputs, labels and
outlier scores are all in it.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from benchmarks.drift_study_data import Stream
from benchmarks.drift_study_replay import Counts, Replayed
from benchmarks.drift_study_verdicts import PERIODS, Baselines, baselines_of, periods
from contract.drift import drift
from contract.encoded import Encoded
from contract.features import Encoder
from contract.manifest import Manifest
from contract.runtimes import Outputs
from service.drift.history import SPANS
from service.monitor import Monitor

ROUNDS = 5
INT64_BYTES = 8


@dataclass(frozen=True)
class Cost:
    """CPU seconds of counting a stream, of all verdicts on its days and weeks; microseconds a row; bytes of the counts
    that a worker has, and of the windows of 1 h and 24 h that it keeps."""

    count_seconds: float
    judge_seconds: float
    row_microseconds: float
    windows: int
    series: int
    state_bytes: int
    history_bytes: int

    @property
    def seconds(self) -> float:
        return self.count_seconds + self.judge_seconds


def measure(stream: Stream, replayed: Replayed, manifest: Manifest) -> Cost:
    """The median of several rounds."""
    encoder, batches = Encoder(manifest.features), list(_batches(stream, replayed, manifest))
    count = _median(lambda: _count(Monitor(manifest, encoder), batches))
    baselines = baselines_of(manifest)
    judge = _median(lambda: _judge(replayed.all, baselines))
    watch = Monitor(manifest, encoder).watch
    bins = sum(watch.inputs.sizes) + sum(watch.outputs.sizes) + len(watch.labels)
    return Cost(
        count,
        judge,
        count / len(stream.rows) * 1e6,
        sum(stream.days * 24 // hours for hours in PERIODS.values()),
        len(replayed.all),
        watch.type.itemsize,
        sum(span.samples for span in SPANS.values()) * bins * INT64_BYTES,
    )


def _batches(stream: Stream, replayed: Replayed, manifest: Manifest) -> list[tuple[Encoded, Outputs]]:
    """An hour's rows at a time, as they were asked."""
    encoder, found = Encoder(manifest.features), []
    _, firsts, sizes = np.unique(stream.hours, return_index=True, return_counts=True)
    for first, size in zip(firsts.tolist(), sizes.tolist(), strict=True):
        rows = stream.features.slice(first, size).to_pylist()
        encoded = encoder.encode([{k: v for k, v in row.items() if v is not None} for row in rows])
        assert isinstance(encoded, Encoded)  # the service has taken them
        found.append((encoded, {manifest.output.name: replayed.scores[first : first + size]}))
    return found


def _count(monitor: Monitor, batches: list[tuple[Encoded, Outputs]]) -> None:
    for encoded, outputs in batches:
        monitor.observe(encoded, outputs, encoded.rows)
    monitor.tally.read()


def _judge(hourly: Mapping[str, Counts], baselines: Baselines) -> None:
    for name, each in hourly.items():
        baseline = baselines[name]
        ratios = baseline.ratios.tolist()
        for hours in PERIODS.values():
            for counts in periods(each, hours):
                drift(counts, ratios, baseline.rows)


def _median(work: Callable[[], None]) -> float:
    spent = []
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return median(spent)
