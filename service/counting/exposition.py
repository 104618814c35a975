"""Prometheus' text format, version 0.0.4, written from arrays.

A model with many features has thousands of samples, of which only the values change. So the lines of a model are made
once, as one text with places for the values, and a scrape fills them in: a tenth of a microsecond a sample, where
prometheus_client takes five. https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from contract.histogram import bin_names
from contract.manifest import Bins, Manifest
from contract.outlier import BOUNDS
from service.counting.counters import Group, Layout
from service.counting.instruments import (
    BASELINE_ROWS,
    CREATED,
    INPUT_BIN,
    INPUT_RATIO,
    INSTRUMENTS,
    MOST_FEATURES,
    OUTLIER,
    OUTPUT_BIN,
    OUTPUT_RATIO,
    OUTPUT_ROWS,
    PREDICTIONS,
    SCORE,
    Instrument,
)
from service.counting.ledger import Counts, Sums
from service.counting.watch import Watch

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# Stands in a template for the model's name, which needs no escaping.
_NAME = "\0"
_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\"", "%": "%%"})


class Page:
    """The samples of a scrape, by instrument: all of one stand together, whichever model they are of."""

    def __init__(self) -> None:
        self._parts: dict[str, list[str]] = {instrument.name: [] for instrument in INSTRUMENTS}

    def add(self, instrument: Instrument, text: str) -> None:
        """Lines of samples."""
        self._parts[instrument.name].append(text)

    def sample(self, instrument: Instrument, labels: Sequence[str], value: float) -> None:
        self.add(instrument, _line(instrument, labels) % value)

    def text(self) -> str:
        families = ((head(each.name, each.kind, each.help), *self._parts[each.name]) for each in INSTRUMENTS)
        return "".join(chain.from_iterable(families))


class ModelText:
    """What has happened to a model, whichever it is."""

    def __init__(self, layout: Layout) -> None:
        self._groups: list[tuple[Group, str]] = []
        for group in layout.groups:
            names = [name for name in group.instrument.labels if name != "model"]
            model = f'model="{_NAME}"' if "model" in group.instrument.labels else ""
            labels = [",".join(filter(None, (model, _labels(names, each)))) for each in group.labels]
            self._groups.append((group, "".join(_series(group.instrument.name, each, group.bounds) for each in labels)))

    def fill(self, page: Page, model: str, counts: Counts, sums: Sums) -> None:
        bucket = series = 0
        for group, text in self._groups:
            rows, width = len(group.labels), len(group.bounds) + 1
            by_series = counts[bucket : bucket + rows * width].reshape(rows, width)
            values = _values(group.bounds, by_series, sums[series : series + rows] / group.scale)
            if group.always or by_series.any():
                page.add(group.instrument, text.replace(_NAME, model) % tuple(values))
            bucket, series = bucket + rows * width, series + rows


class VersionText:
    """The rows of one version, and its baseline beside them."""

    def __init__(self, watch: Watch) -> None:
        manifest = watch.manifest
        self.watch = watch
        self._version = (manifest.name, str(manifest.version))
        self._features = watch.inputs.names[:MOST_FEATURES]
        inputs = {name: manifest.drift.inputs[name] for name in self._features}
        self._texts = {
            PREDICTIONS: "".join(_line(PREDICTIONS, (*self._version, label)) for label in watch.labels),
            OUTPUT_BIN: self._bins(OUTPUT_BIN, manifest.drift.outputs),
            INPUT_BIN: self._bins(INPUT_BIN, inputs),
        }
        self._baseline = {
            OUTPUT_RATIO: self._bins(OUTPUT_RATIO, manifest.drift.outputs) % _ratios(manifest.drift.outputs),
            INPUT_RATIO: self._bins(INPUT_RATIO, inputs) % _ratios(inputs),
            BASELINE_ROWS: _line(BASELINE_ROWS, self._version) % manifest.drift.rows,
            OUTPUT_ROWS: _line(OUTPUT_ROWS, self._version) % output_rows(manifest),
            CREATED: _line(CREATED, self._version) % manifest.created.timestamp(),
        }
        scored = _labels(OUTLIER.labels, self._version)
        self._outlier = "" if watch.outliers is None else _series(OUTLIER.name, scored, BOUNDS)
        self._score, self._of_score = "", 0
        if manifest.task != "tensors":
            self._of_score = watch.outputs.names.index(manifest.score)
            edges = [str(np.float32(edge)) for edge in manifest.drift.outputs[manifest.score].edges]
            self._score = _series(SCORE.name, _labels(SCORE.labels, self._version), edges)

    def fill(self, page: Page, counts: Counts, sums: Sums) -> None:
        inputs, outputs, labels = self.watch.split(counts)
        page.add(PREDICTIONS, self._texts[PREDICTIONS] % tuple(labels.values()))
        page.add(OUTPUT_BIN, self._texts[OUTPUT_BIN] % _flat(outputs.values()))
        page.add(INPUT_BIN, self._texts[INPUT_BIN] % _flat(inputs[name] for name in self._features))
        for instrument, text in self._baseline.items():
            page.add(instrument, text)
        if self._outlier:
            cumulative = np.cumsum(self.watch.outlier_buckets(counts)).tolist()
            page.add(OUTLIER, self._outlier % (*cumulative, cumulative[-1], cumulative[-1], number(float(sums[-1]))))
        if self._score:
            # The output's bins again, as a cumulative histogram: quantiles and means come for free in PromQL.
            below, *inner, above, _, _ = outputs[self.watch.manifest.score].tolist()
            cumulative = np.cumsum([below, *inner, above]).tolist()
            page.add(SCORE, self._score % (*cumulative, cumulative[-1], number(float(sums[self._of_score]))))

    def _bins(self, instrument: Instrument, bins: Mapping[str, Bins]) -> str:
        return "".join(
            _line(instrument, (*self._version, name, each)) for name in bins for each in bin_names(bins[name])
        )


def output_rows(manifest: Manifest) -> int:
    """How many rows the outputs' baseline was taken from: validation rows, or those of an imported model's sample."""
    return manifest.drift.rows if manifest.task == "tensors" else manifest.data.validation_rows


def head(name: str, kind: str, text: str) -> str:
    """What stands before the samples of a family."""
    return f"# HELP {name} {text}\n# TYPE {name} {kind}\n"


def number(value: float) -> str:
    """As Prometheus writes what is not finite."""
    return repr(value).replace("nan", "NaN").replace("inf", "Inf")


def _line(instrument: Instrument, values: Sequence[str]) -> str:
    labels = f"{{{_labels(instrument.labels, values)}}}" if values else ""
    return f"{instrument.name}{labels} %s\n"


def _series(name: str, labels: str, bounds: Sequence[float | str]) -> str:
    """The lines of one series; of a histogram when it has bounds, in the order of `_values`."""
    if not bounds:
        return f"{name}{{{labels}}} %s\n"
    before = f"{labels}," if labels else ""
    buckets = "".join(f'{name}_bucket{{{before}le="{bound}"}} %s\n' for bound in (*bounds, "+Inf"))
    return f"{buckets}{name}_count{{{labels}}} %s\n{name}_sum{{{labels}}} %s\n"


def _values(bounds: Sequence[float], counts: Counts, sums: Sums) -> Iterator[object]:
    """Of series by rows; counts are by bucket."""
    if not bounds:
        yield from sums.astype(np.int64).tolist()
        return
    for cumulative, total in zip(np.cumsum(counts, axis=1).tolist(), sums.tolist(), strict=True):
        yield from (*cumulative, cumulative[-1], number(total))


def _labels(names: Iterable[str], values: Iterable[str]) -> str:
    """Escaped, also for what fills in a template."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in zip(names, values, strict=True))


def _flat(counts: Iterable[Counts]) -> tuple[int, ...]:
    return tuple(chain.from_iterable(each.tolist() for each in counts))


def _ratios(bins: Mapping[str, Bins]) -> tuple[str, ...]:
    return tuple(f"{ratio:.7g}" for each in bins.values() for ratio in each.ratios)
