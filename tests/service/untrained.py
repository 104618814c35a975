"""Manifests of models that nobody has trained, and rows of them: for what only counts."""

from datetime import UTC, datetime
from typing import Any

import numpy as np

from contract.encoded import Encoded
from contract.features import Encoder
from contract.histogram import fit_inputs, fit_outputs
from contract.kinds import CategoryFeature, NumberFeature
from contract.manifest import BinaryOutput, Manifest, MulticlassOutput, Output, RegressionOutput
from contract.outputs import TASKS
from service.counting.gpu import Gpus
from service.counting.store import Store
from service.metrics import Metrics
from service.monitor import Monitor

COLORS = ("red", "green", "blue")
BINARY = BinaryOutput(classes=("no", "yes"), positive="yes", threshold=0.5)
CLASSES = MulticlassOutput(classes=COLORS)
VALUE = RegressionOutput(minimum=-10, maximum=10, half_width=1)
ROUTE = "/predict"


def table(
    name: str = "flights", version: int = 1, numbers: int = 3, output: Output = BINARY, colors: tuple[str, ...] = COLORS
) -> Manifest:
    """A model of numbers about 0 and a category."""
    features = [_number(f"number {i}") for i in range(numbers)]
    features.append(CategoryFeature(name="color", required=False, vocabulary=colors, example=colors[0]))
    rows, answers = some_rows(500, numbers, output, seed=numbers)
    drift = {"rows": 500, "inputs": fit_inputs(Encoder(features), rows), "outputs": fit_outputs(output, answers)}
    return manifest(features, output, drift, name, version)


def manifest(features: list[Any], output: Output, drift: dict[str, Any], name: str, version: int) -> Manifest:
    imported = output.name == "tensors"
    answer = (1.0,) * len(output.classes) if isinstance(output, MulticlassOutput) else 0.5
    golden = (
        {"tensors": {spec.name: [0] for spec in output.tensors}} if imported else {"outputs": {output.name: answer}}
    )
    variant = {"runtime": "litert", "path": "a", "size": 1, "largest_difference": 0, "tolerance": 1, "metrics": {}}
    variant["latency"] = {rows: {"p50": 2, "p99": 4} for rows in ("1", "32")}
    return Manifest(
        name=name,
        version=version,
        created=datetime(2026, 1, 1, tzinfo=UTC),
        code_revision=None,
        task=TASKS[output.name],
        config={},
        data={"fingerprint": "", "source": "", "train_rows": 1, "validation_rows": 1, "test_rows": 1},
        features=features,
        output=output,
        headline="" if imported else "score",
        metrics={} if imported else {"score": {"value": 1, "low": 1, "high": 1}},
        variants=[variant | {"name": each} for each in ("litert-float32", "litert-int8")],
        chosen={"variant": "litert-int8", "why": "faster"},
        drift=drift | {"labels": {}},
        golden=[{"row": {}, **golden}],
    )


def some_rows(count: int, numbers: int, output: Output, seed: int) -> tuple[Encoded, Any]:
    """Rows with some missing, infinite and unseen values, and answers to them."""
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((count, numbers), np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    values[rng.random(values.shape) < 0.05] = np.inf
    codes = rng.integers(0, 2 + len(COLORS), (count, 1)).astype(np.int32)
    if isinstance(output, MulticlassOutput):
        answers = rng.dirichlet(np.ones(len(output.classes)), count).astype(np.float32)
    else:
        answers = rng.random(count, np.float32)
    return Encoded(values, codes), answers


class Served:
    """A version as the registry would hold it."""

    def __init__(self, manifest: Manifest, variant: str = "litert-int8") -> None:
        self.manifest = manifest
        self.monitor = Monitor(manifest, Encoder(manifest.features))
        self.sha256 = f"{manifest.name}{manifest.version}".rjust(64, "0")
        self.variant, self.rows_waiting, self.traces, self.process = variant, 0, 0, None

    def answer(self, count: int, seed: int = 0) -> Any:
        """Predict so many rows; returns the answers."""
        output = self.manifest.output
        rows, answers = some_rows(count, len(self.manifest.features) - 1, output, seed)
        self.monitor.observe(rows, {output.name: answers}, count)
        return answers


class Process:
    """What one process of the service counts with: metrics, a store, and what is served, which may change."""

    def __init__(self, store: Store, *served: Served, gpus: Gpus | None = None) -> None:
        self.served: list[Served] = []
        self.retired: list[Served] = []
        self.metrics = Metrics(self._monitors, lambda: self.served, store, gpus)
        self.metrics.declare(ROUTE, always=True)
        self.metrics.declare("/other")
        self.metrics.prepare("")
        for each in served:
            self.load(each)

    def load(self, served: Served) -> None:
        self.metrics.prepare(served.manifest.name)
        self.metrics.enrol(served)
        self.served.append(served)
        self.metrics.publish()

    def _monitors(self) -> list[Monitor]:
        return [each.monitor for each in (*self.served, *self.retired)]


def _number(name: str) -> NumberFeature:
    return NumberFeature(name=name, required=False, minimum=-4, maximum=4, example=0)
