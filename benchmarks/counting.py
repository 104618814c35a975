"""What counting costs a request, and what a scrape costs.

    python -m benchmarks.counting

Counts 32 requests of one row that ran as one batch, as inference.py and endpoint.py do it, on models of 10 and 64
numbers, in memory of the process's own and in a folder that workers share; then scrapes ten models of 64 numbers. The
same with prometheus_client's own instruments stands beside both. Prints microseconds and ratios; the best of several
rounds, because other programs run here too.
"""

import asyncio
import tempfile
import time
import zlib
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np
import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram

from contract.encoded import Encoded
from contract.features import Encoder
from contract.histogram import bin_names, quantile_edges
from contract.manifest import Manifest
from service.instruments import INPUT_BIN, INPUT_RATIO, REQUEST_SECONDS, SECONDS, STAGE_SECONDS, STAGES
from service.metrics import Metrics
from service.monitor import Monitor
from service.shared import SharedFolder
from service.store import OwnMemory, Store

ROUTE = "/predict"
BATCH = 32
REQUESTS = 3200
ROUNDS = 9


class Served:
    """A version as the registry would hold it."""

    def __init__(self, name: str, numbers: int) -> None:
        self.manifest = manifest(name, numbers)
        self.monitor = Monitor(self.manifest, Encoder(self.manifest.features))
        self.variant, self.sha256, self.rows_waiting, self.traces = "litert", f"{name:0>64}", 0, 0
        self.process = None


def manifest(name: str, numbers: int) -> Manifest:
    """Of a model with two classes and so many numbers."""
    rng = np.random.default_rng(numbers)
    edges = {f"feature_{i}": quantile_edges(rng.standard_normal(5000, dtype=np.float32)) for i in range(numbers)}
    bins = {
        name: {"kind": "number", "edges": each, "ratios": [1 / (len(each) + 3)] * (len(each) + 3)}
        for name, each in edges.items()
    }
    number = {"kind": "number", "required": False, "minimum": -4, "maximum": 4, "example": 0}
    latency = {rows: {"p50": 2, "p99": 4} for rows in ("1", "32")}
    variant = {"name": "litert", "runtime": "litert", "path": "a", "size": 1, "largest_difference": 0, "tolerance": 1}
    return Manifest.model_validate(
        {
            "name": name,
            "version": 1,
            "created": datetime.now(UTC),
            "code_revision": None,
            "task": "binary",
            "config": {},
            "data": {"fingerprint": "", "source": "", "train_rows": 1, "validation_rows": 1, "test_rows": 1},
            "features": [number | {"name": feature} for feature in edges],
            "output": {"name": "probability", "classes": ["no", "yes"], "positive": "yes", "threshold": 0.5},
            "headline": "auc",
            "metrics": {"auc": {"value": 1, "low": 1, "high": 1}},
            "variants": [variant | {"metrics": {}, "latency": latency}],
            "chosen": {"variant": "litert", "why": "the only one"},
            "drift": {"rows": 5000, "inputs": bins, "outputs": {"probability": bins["feature_0"]}, "labels": {}},
            "golden": [{"row": {}, "outputs": {"probability": 0.5}}],
        }
    )


def metrics_of(served: list[Served], store: Store) -> Metrics:
    metrics = Metrics(lambda: [each.monitor for each in served], lambda: served, store)
    metrics.declare(ROUTE, always=True)
    for each in served:
        metrics.prepare(each.manifest.name)
        metrics.enrol(each)
    return metrics


def ours(numbers: int, store: Store) -> float:
    """Microseconds a request."""
    served = Served("flights", numbers)
    metrics = metrics_of([served], store)
    rows = Encoded(
        np.random.default_rng(0).standard_normal((BATCH, numbers), np.float32), np.empty((BATCH, 0), np.int32)
    )
    outputs = {"probability": np.linspace(0, 1, BATCH, dtype=np.float32)}
    waits = [(0.00001, 0.00002)] * BATCH

    def batch() -> None:
        timings = metrics.of("flights")
        timings.ran(BATCH, 0.0001, waits)
        served.monitor.observe(rows, outputs, BATCH)
        for _ in range(BATCH):
            metrics.of("flights").encode.observe(0.00001)
            metrics.request("flights", ROUTE, "ok", 0.0003)

    return _best(batch)


def theirs() -> float:
    """The same seconds by stage and by request, and nothing of the rows, with prometheus_client."""
    registry = CollectorRegistry()
    seconds = Histogram(REQUEST_SECONDS.name, "x", REQUEST_SECONDS.labels, buckets=SECONDS, registry=registry)
    stages = Histogram(STAGE_SECONDS.name, "x", STAGE_SECONDS.labels, buckets=SECONDS, registry=registry)
    request = seconds.labels("flights", ROUTE, "ok")
    each = [stages.labels("flights", stage) for stage in STAGES]

    def batch() -> None:
        for _ in range(BATCH):
            for stage in each:
                stage.observe(0.0001)
            request.observe(0.0003)

    return _best(batch)


def _best(batch) -> float:
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(REQUESTS // BATCH):
            batch()
        rounds.append((time.process_time() - began) / REQUESTS * 1e6)
    return min(rounds)


def scrape(models: int, numbers: int, store: Store) -> tuple[float, float, bytes]:
    """Milliseconds of the first scrape, of a later one, and what it says."""
    served = [Served(f"model-{i}", numbers) for i in range(models)]
    metrics = metrics_of(served, store)
    rows = Encoded(np.random.default_rng(0).standard_normal((200, numbers), np.float32), np.empty((200, 0), np.int32))
    for each in served:
        each.monitor.observe(rows, {"probability": np.linspace(0, 1, 200, dtype=np.float32)}, 200)
    spent = []
    for _ in range(1 + ROUNDS):
        began = time.process_time()
        text = asyncio.run(metrics.scrape()).encode()
        spent.append((time.process_time() - began) * 1000)
    return spent[0], min(spent[1:]), text


def their_scrape(models: int, numbers: int) -> float:
    """Milliseconds, of as many series of the inputs alone."""
    registry = CollectorRegistry()
    counts = Counter(INPUT_BIN.name, "x", INPUT_BIN.labels, registry=registry)
    ratios = prometheus_client.Gauge(INPUT_RATIO.name, "x", INPUT_RATIO.labels, registry=registry)
    for i in range(models):
        drift = manifest(f"model-{i}", numbers).drift
        for feature, bins in drift.inputs.items():
            for name, ratio in zip(bin_names(bins), bins.ratios, strict=True):
                counts.labels(f"model-{i}", "1", feature, name).inc()
                ratios.labels(f"model-{i}", "1", feature, name).set(ratio)
    spent = []
    for _ in range(3):
        began = time.process_time()
        prometheus_client.generate_latest(registry)
        spent.append((time.process_time() - began) * 1000)
    return min(spent)


def main() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        places = count()

        def shared() -> SharedFolder:
            place = Path(folder) / str(next(places))
            place.mkdir()
            return SharedFolder(place, 0)

        rival = theirs()
        print(f"{'a request in a batch of 32':<44}{'µs':>8}{'ratio':>8}")
        print(f"{'prometheus_client, seconds alone':<44}{rival:8.2f}{1:8.2f}")
        for numbers in (10, 64):
            for where, store in (("own memory", OwnMemory()), ("shared folder", shared())):
                mine = ours(numbers, store)
                print(f"{f'seconds and {numbers} numbers a row, {where}':<44}{mine:8.2f}{mine / rival:8.2f}")
        rival = their_scrape(10, 64)
        print(f"\n{'a scrape of 10 models of 64 numbers':<44}{'ms':>8}{'ratio':>8}")
        print(f"{'prometheus_client, bins of inputs alone':<44}{rival:8.1f}{1:8.2f}")
        for where, store in (("own memory", OwnMemory()), ("shared folder", shared())):
            first, later, text = scrape(10, 64, store)
            print(f"{f'all of it, {where}':<44}{later:8.1f}{later / rival:8.2f}   the first {first:.0f} ms")
        squeezed = len(zlib.compress(text, 1))
        print(f"{len(text) / 1e6:.2f} MB, {len(text.splitlines())} lines; {squeezed / 1e6:.2f} MB with gzip")


if __name__ == "__main__":
    main()
