"""Every Prometheus instrument. The registry is an argument; nothing is global.

What is observed at every request is only appended to a list, and counted together at a scrape or when the list grows
long: prometheus_client's own `observe` costs microseconds each, and its counters export a second series each. Every
series exists at 0 from the moment its model is loaded, and labels come from manifests or from fixed sets.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from contract.histogram import bin_names
from contract.manifest import Manifest
from service.monitor import Monitor

SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0)
MOST_FEATURES = 64
MOST_PENDING = 4096

Outcome = Literal["ok", "invalid", "rejected", "gone", "error"]
OUTCOMES: tuple[Outcome, ...] = ("ok", "invalid", "rejected", "gone", "error")
Reason = Literal["overloaded", "deadline", "body_too_large", "too_many_rows", "not_ready"]
REASONS: tuple[Reason, ...] = ("overloaded", "deadline", "body_too_large", "too_many_rows", "not_ready")
NO_MODEL = ""


@dataclass(frozen=True)
class Instrument:
    """A row of the table of metrics in the README."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str


INSTRUMENTS = (
    Instrument(
        "hornpipe_request_duration_seconds",
        "histogram",
        ("model", "route", "outcome"),
        "Seconds from the request's head until the answer is handed to the socket; failures included.",
    ),
    Instrument(
        "hornpipe_stage_duration_seconds",
        "histogram",
        ("model", "stage"),
        "Seconds in each stage of a prediction: decode, queue, run, encode.",
    ),
    Instrument("hornpipe_batch_rows", "histogram", ("model",), "Rows in one run of the model."),
    Instrument("hornpipe_queue_rows", "gauge", ("model",), "Rows that are waiting or running."),
    Instrument("hornpipe_rejected_total", "counter", ("model", "reason"), "Requests turned away for a limit."),
    Instrument(
        "hornpipe_predictions_total",
        "counter",
        ("model", "version", "label"),
        "Rows predicted, by label, which is empty for a value.",
    ),
    Instrument(
        "hornpipe_prediction_score",
        "histogram",
        ("model", "version"),
        "The output's probability, largest probability or value, on the bin edges of the baseline.",
    ),
    Instrument(
        "hornpipe_output_bin_total", "counter", ("model", "version", "output", "bin"), "Rows by bin of each output."
    ),
    Instrument(
        "hornpipe_output_baseline_ratio",
        "gauge",
        ("model", "version", "output", "bin"),
        "Share of validation rows in each bin, smoothed by half a row.",
    ),
    Instrument(
        "hornpipe_input_bin_total", "counter", ("model", "version", "feature", "bin"), "Rows by bin of each feature."
    ),
    Instrument(
        "hornpipe_input_baseline_ratio",
        "gauge",
        ("model", "version", "feature", "bin"),
        "Share of training rows in each bin, smoothed by half a row.",
    ),
    Instrument("hornpipe_baseline_rows", "gauge", ("model", "version"), "Rows that the input baseline was taken from."),
    Instrument(
        "hornpipe_model_info",
        "gauge",
        ("model", "version", "runtime", "variant", "sha256"),
        "1 for the version that serves; sha256 is of its manifest.",
    ),
    Instrument("hornpipe_swaps_total", "counter", ("model",), "Versions put in service."),
    Instrument(
        "hornpipe_refused_bundles_total", "counter", ("model",), "Versions that would not load or prove themselves."
    ),
)
_BY_NAME = {instrument.name: instrument for instrument in INSTRUMENTS}


class Distribution:
    """A cumulative histogram that is appended to and counted later."""

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = np.array(bounds)
        self._labels = [*(str(bound) for bound in bounds), "+Inf"]
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0
        self._pending: list[float] = []

    def observe(self, value: float) -> None:
        self._pending.append(value)
        if len(self._pending) >= MOST_PENDING:
            self._flush()

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """Cumulative counts by upper bound, and the sum."""
        self._flush()
        return list(zip(self._labels, np.cumsum(self._counts).tolist(), strict=True)), self._sum

    def _flush(self) -> None:
        values = np.array(self._pending)
        self._pending = []
        self._counts += np.bincount(np.searchsorted(self._bounds, values), minlength=self._counts.size)
        self._sum += float(values.sum())


class Timings:
    """What is measured at each prediction of one model: seconds by stage, and rows."""

    def __init__(self) -> None:
        self.decode, self.queue, self.run, self.encode = (Distribution(SECONDS) for _ in range(4))
        self.rows = Distribution(ROWS)

    def stages(self) -> dict[str, Distribution]:
        return {"decode": self.decode, "queue": self.queue, "run": self.run, "encode": self.encode}


class ServedVersion(Protocol):
    """What is exported of the version in service."""

    @property
    def rows_waiting(self) -> int: ...
    @property
    def manifest(self) -> Manifest: ...
    @property
    def runtime(self) -> str: ...
    @property
    def variant(self) -> str: ...
    @property
    def sha256(self) -> str: ...


class Metrics(Collector):
    """All instruments of one service."""

    def __init__(
        self,
        registry: CollectorRegistry,
        monitors: Callable[[], Iterable[Monitor]],
        serving: Callable[[], Iterable[ServedVersion]],
    ) -> None:
        self.registry = registry
        self._monitors = monitors
        self._serving = serving
        self._requests: dict[tuple[str, str, str], Distribution] = {}
        self._timings: dict[str, Timings] = {}
        self._rejected: dict[tuple[str, ...], int] = {}
        self._swaps: dict[tuple[str, ...], int] = {}
        self._refused: dict[tuple[str, ...], int] = {}
        registry.register(self)
        ProcessCollector(registry=registry)

    def prepare(self, model: str, route: str) -> None:
        """Make every series of a model, at 0; `NO_MODEL` has those of requests that name none."""
        for outcome in OUTCOMES:
            self._request(model, route, outcome)
        for reason in REASONS:
            self._rejected.setdefault((model, reason), 0)
        if model == NO_MODEL:
            return
        self._timings.setdefault(model, Timings())
        self._swaps.setdefault((model,), 0)
        self._refused.setdefault((model,), 0)

    def request(self, model: str, route: str, outcome: Outcome, seconds: float) -> None:
        self._request(model, route, outcome).observe(seconds)

    def of(self, model: str) -> Timings:
        """Where to note the stages of a prediction; the model has been prepared."""
        return self._timings[model]

    def rejected(self, model: str, reason: Reason) -> None:
        self._rejected[model, reason] += 1

    def swapped(self, model: str) -> None:
        self._swaps[(model,)] += 1

    def refused(self, model: str) -> None:
        self._refused[(model,)] += 1

    def collect(self) -> Iterator[Metric]:
        """What is counted here and in the monitors; called at a scrape."""
        yield _histogram("hornpipe_request_duration_seconds", self._requests.items())
        stages = (((model, name), s) for model, each in self._timings.items() for name, s in each.stages().items())
        yield _histogram("hornpipe_stage_duration_seconds", stages)
        yield _histogram("hornpipe_batch_rows", (((model,), each.rows) for model, each in self._timings.items()))
        yield _counts("hornpipe_rejected_total", self._rejected)
        yield _counts("hornpipe_swaps_total", self._swaps)
        yield _counts("hornpipe_refused_bundles_total", self._refused)
        yield from _monitored(list(self._monitors()))
        yield from _served(list(self._serving()))

    def _request(self, model: str, route: str, outcome: str) -> Distribution:
        key = (model, route, outcome)
        found = self._requests.get(key)
        if found is None:
            found = self._requests[key] = Distribution(SECONDS)
        return found


def _histogram(name: str, distributions: Iterable[tuple[tuple[str, ...], Distribution]]) -> Metric:
    family = HistogramMetricFamily(name, _BY_NAME[name].help, labels=_BY_NAME[name].labels)
    for labels, distribution in distributions:
        buckets, total = distribution.buckets()
        family.add_metric(labels, buckets, total)
    return family


def _monitored(monitors: list[Monitor]) -> Iterator[Metric]:
    """The families that are counted by version."""
    predictions, score = _family("hornpipe_predictions_total"), _score(monitors)
    outputs, inputs = _family("hornpipe_output_bin_total"), _family("hornpipe_input_bin_total")
    output_ratios, input_ratios = _family("hornpipe_output_baseline_ratio"), _family("hornpipe_input_baseline_ratio")
    rows = _family("hornpipe_baseline_rows")
    for monitor in monitors:
        manifest = monitor.manifest
        version = (manifest.name, str(manifest.version))
        for label, count in monitor.labels().items():
            predictions.add_metric((*version, label), count)
        for output, counts in monitor.outputs().items():
            bins = manifest.drift.outputs[output]
            _add_bins(outputs, (*version, output), bin_names(bins), counts)
            _add_bins(output_ratios, (*version, output), bin_names(bins), bins.ratios)
        for feature, counts in list(monitor.inputs().items())[:MOST_FEATURES]:
            names = bin_names(manifest.drift.inputs[feature])
            _add_bins(inputs, (*version, feature), names, counts)
            _add_bins(input_ratios, (*version, feature), names, manifest.drift.inputs[feature].ratios)
        rows.add_metric(version, manifest.drift.rows)
    yield from (predictions, score, outputs, output_ratios, inputs, input_ratios, rows)


def _family(name: str) -> CounterMetricFamily | GaugeMetricFamily:
    instrument = _BY_NAME[name]
    kind = CounterMetricFamily if instrument.kind == "counter" else GaugeMetricFamily
    return kind(name, instrument.help, labels=instrument.labels)


def _add_bins(
    family: CounterMetricFamily | GaugeMetricFamily,
    labels: tuple[str, ...],
    names: Iterable[str],
    values: Iterable[float],
) -> None:
    for name, value in zip(names, values, strict=True):
        family.add_metric((*labels, name), value)


def _score(monitors: list[Monitor]) -> Metric:
    """The output's bins again, as a cumulative histogram: quantiles and means come for free in PromQL."""
    name = "hornpipe_prediction_score"
    family = HistogramMetricFamily(name, _BY_NAME[name].help, labels=_BY_NAME[name].labels)
    for monitor in monitors:
        manifest = monitor.manifest
        below, *inner, above, _, _ = monitor.outputs()[manifest.score].tolist()
        edges = manifest.drift.outputs[manifest.score].edges
        cumulative = np.cumsum([below, *inner]).tolist()
        bounds = [str(np.float32(edge)) for edge in edges]
        buckets = [*zip(bounds, cumulative, strict=True), ("+Inf", cumulative[-1] + above)]
        family.add_metric((manifest.name, str(manifest.version)), buckets, monitor.score_sum)
    return family


def _served(serving: list[ServedVersion]) -> Iterator[Metric]:
    info, queue = _family("hornpipe_model_info"), _family("hornpipe_queue_rows")
    for each in serving:
        manifest = each.manifest
        info.add_metric((manifest.name, str(manifest.version), each.runtime, each.variant, each.sha256), 1)
        queue.add_metric((manifest.name,), each.rows_waiting)
    yield from (info, queue)


def _counts(name: str, counts: dict[tuple[str, ...], int]) -> Metric:
    family = _family(name)
    for labels, count in counts.items():
        family.add_metric(labels, count)
    return family
