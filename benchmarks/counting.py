"""What counting costs a request, and what a scrape costs.

    python -m benchmarks.counting

Counts 32 requests of one row that ran as one batch, as inference.py and endpoint.py do it: classifications of 10 and 64
numbers with everything that is watched of them and their outlier score, of pictures and of texts, in memory of the
process's own and, where that differs, in a folder that workers share; then scrapes ten models of 64 numbers. The same
with prometheus_client's own instruments stands beside both. Prints microseconds of CPU and ratios; the best of several
rounds, because other programs run here too.
"""

import asyncio
import tempfile
import time
import zlib
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import numpy as np
import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Histogram

from contract import histogram
from contract.encoded import Encoded
from contract.features import Encoder
from contract.histogram import bin_names
from contract.kinds import Feature, ImageFeature, NumberFeature, TextFeature
from contract.manifest import DriftBaseline, Manifest
from contract.outputs import BinaryOutput, MulticlassOutput, Output
from service.counting.instruments import INPUT_BIN, INPUT_RATIO, REQUEST_SECONDS, SECONDS, STAGE_SECONDS, STAGES
from service.counting.store import OwnMemory, Store
from service.metrics import Metrics
from service.monitor import Monitor
from service.processes.shared import SharedFolder
from training.exporting import outliers

ROUTE = "/predict"
BATCH = 32
REQUESTS = 3200
ROUNDS = 9
TRAINING = 2000
WORDS_A_TEXT = 150


class Served:
    """A version as the registry would hold it, and rows of it with answers."""

    def __init__(self, name: str, features: list[Feature], classes: int = 2, *, scored: bool = True) -> None:
        self.encoder = Encoder(features)
        self.rows = rows(self.encoder)
        self.output, self.answers = answers(self.rows.rows, classes)
        self.manifest = manifest(name, self, scored)
        self.monitor = Monitor(self.manifest, self.encoder)
        self.variant, self.sha256, self.rows_waiting, self.traces = "litert", f"{name:0>64}", 0, 0
        self.process = None


def numbers(count: int) -> list[Feature]:
    return [NumberFeature(name=f"feature_{i}", required=False, minimum=-4, maximum=4, example=0) for i in range(count)]


def pictures(side: int, channels: int) -> list[Feature]:
    return [ImageFeature(name="picture", shape=(side, side, channels))]


def texts() -> list[Feature]:
    return [TextFeature(name="body", required=True, example="words")]


def rows(encoder: Encoder) -> Encoded:
    """Normal numbers, noise, or words of a few thousand."""
    rng = np.random.default_rng(0)
    image, words = None, None
    count = TRAINING if encoder.image_feature is None else 2 * BATCH
    if encoder.image_feature is not None:
        image = rng.integers(0, 256, (count, *encoder.image_feature.shape), np.uint8)
    if encoder.text_features:
        of_words = rng.zipf(1.3, (count, WORDS_A_TEXT)) % 5000
        words = np.array([[" ".join(f"word{i}" for i in text)] for text in of_words], object)
    values = rng.standard_normal((count, len(encoder.number_features)), np.float32)
    return Encoded(values, np.empty((count, 0), np.int32), image, words)


def answers(count: int, classes: int) -> tuple[Output, np.ndarray]:
    rng = np.random.default_rng(1)
    if classes == 2:
        return BinaryOutput(classes=("no", "yes"), positive="yes", threshold=0.5), rng.random(count, np.float32)
    output = MulticlassOutput(classes=tuple(f"class {i}" for i in range(classes)))
    return output, rng.dirichlet(np.full(classes, 0.3), count).astype(np.float32)


def manifest(name: str, served: Served, scored: bool) -> Manifest:
    """Of a model that was never trained, with the baselines that training would fit."""
    encoder, encoded, output = served.encoder, served.rows, served.output
    words = histogram.fit_words(encoder, encoded)
    drift = DriftBaseline(
        rows=encoded.rows,
        inputs=histogram.fit_inputs(encoder, encoded) | histogram.fit_statistics(encoder, encoded, words),
        outputs=histogram.fit_outputs(output, served.answers),
        labels={},
        words=words,
    )
    latency = {rows: {"p50": 2, "p99": 4} for rows in ("1", "32")}
    variant = {"name": "litert", "runtime": "litert", "path": "a", "size": 1, "largest_difference": 0, "tolerance": 1}
    answer = served.answers[0].tolist()
    return Manifest.model_validate(
        {
            "name": name,
            "version": 1,
            "created": datetime.now(UTC),
            "code_revision": None,
            "task": "binary" if isinstance(output, BinaryOutput) else "multiclass",
            "config": {},
            "data": {"fingerprint": "", "source": "", "train_rows": 1, "validation_rows": 1, "test_rows": 1},
            "features": encoder.features,
            "output": output,
            "headline": "auc",
            "metrics": {"auc": {"value": 1, "low": 1, "high": 1}},
            "variants": [variant | {"metrics": {}, "latency": latency}],
            "chosen": {"variant": "litert", "why": "the only one"},
            "drift": drift,
            "outlier": outliers.of_rows(encoder, encoded, drift, seed=0) if scored else None,
            "golden": [{"row": {}, "outputs": {output.name: answer}}],
        }
    )


def metrics_of(served: list[Served], store: Store) -> Metrics:
    metrics = Metrics(lambda: [each.monitor for each in served], lambda: served, store)
    metrics.declare(ROUTE, always=True)
    for each in served:
        metrics.prepare(each.manifest.name)
        metrics.enrol(each)
    return metrics


def ours(served: Served, store: Store) -> tuple[float, float]:
    """Microseconds a request: of its row alone, and with its seconds by stage and route."""
    metrics = metrics_of([served], store)
    rows, outputs = served.rows.take(slice(0, BATCH)), {served.output.name: served.answers[:BATCH]}
    waits = [(0.00001, 0.00002)] * BATCH
    model = served.manifest.name

    def counted() -> None:
        served.monitor.observe(rows, outputs, BATCH)

    def batch() -> None:
        metrics.of(model).ran(BATCH, 0.0001, waits)
        counted()
        for _ in range(BATCH):
            metrics.of(model).encode.observe(0.00001)
            metrics.request(model, ROUTE, "ok", 0.0003)

    return _best(counted), _best(batch)


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


def scrape(served: list[Served], store: Store) -> tuple[float, float, bytes]:
    """Milliseconds of the first scrape, of a later one, and what it says."""
    metrics = metrics_of(served, store)
    for each in served:
        each.monitor.observe(each.rows, {each.output.name: each.answers}, each.rows.rows)
    spent = []
    for _ in range(1 + ROUNDS):
        began = time.process_time()
        text = asyncio.run(metrics.scrape()).encode()
        spent.append((time.process_time() - began) * 1000)
    return spent[0], min(spent[1:]), text


def their_scrape(served: list[Served]) -> float:
    """Milliseconds, of as many series of the inputs alone."""
    registry = CollectorRegistry()
    counts = Counter(INPUT_BIN.name, "x", INPUT_BIN.labels, registry=registry)
    ratios = prometheus_client.Gauge(INPUT_RATIO.name, "x", INPUT_RATIO.labels, registry=registry)
    for each in served:
        for feature, bins in each.manifest.drift.inputs.items():
            for name, ratio in zip(bin_names(bins), bins.ratios, strict=True):
                counts.labels(each.manifest.name, "1", feature, name).inc()
                ratios.labels(each.manifest.name, "1", feature, name).set(ratio)
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
        head = f"{'its row':>9}{'how strange':>13}{'seconds':>9}{'all':>8}{'ratio':>8}"
        print(f"{'a request in a batch of 32, µs of CPU':<44}{head}")
        print(f"{'prometheus_client, seconds alone':<44}{'':>22}{rival:9.2f}{rival:8.2f}{1:8.2f}")

        def line(what: str, features: list[Feature], classes: int, store: Callable[[], Store]) -> None:
            row, _ = ours(Served("model", features, classes, scored=False), store())
            scored, every = ours(Served("model", features, classes), store())
            columns = f"{row:9.2f}{scored - row:13.2f}{every - scored:9.2f}{every:8.2f}{every / rival:8.2f}"
            print(f"{what:<44}{columns}")

        for what, features, classes in (
            ("10 numbers, 2 classes", numbers(10), 2),
            ("10 numbers, 10 classes", numbers(10), 10),
            ("64 numbers, 2 classes", numbers(64), 2),
            ("64 numbers, 1000 classes", numbers(64), 1000),
            ("a picture 28 x 28, 10 classes", pictures(28, 1), 10),
            ("a picture 224 x 224 x 3, 10 classes", pictures(224, 3), 10),
            ("a text of 150 words, 2 classes", texts(), 2),
        ):
            line(what, features, classes, OwnMemory)
        line("10 numbers, 2 classes, in a shared folder", numbers(10), 2, shared)

        served = [Served(f"model-{i}", numbers(64)) for i in range(10)]
        rival = their_scrape(served)
        print(f"\n{'a scrape of 10 models of 64 numbers':<44}{'ms':>8}{'ratio':>8}")
        print(f"{'prometheus_client, bins of inputs alone':<44}{rival:8.1f}{1:8.2f}")
        for where, store in (("own memory", OwnMemory()), ("shared folder", shared())):
            first, later, text = scrape(served, store)
            print(f"{f'all of it, {where}':<44}{later:8.1f}{later / rival:8.2f}   the first {first:.0f} ms")
        squeezed = len(zlib.compress(text, 1))
        print(f"{len(text) / 1e6:.2f} MB, {len(text.splitlines())} lines; {squeezed / 1e6:.2f} MB with gzip")


if __name__ == "__main__":
    main()
