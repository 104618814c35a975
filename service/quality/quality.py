"""What the answers of a version were worth, and what they can be expected to be worth while nobody knows."""

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, Field

from contract import bundle
from contract.errors import BundleError
from contract.estimate import Expectation, calibrated, estimated
from contract.estimate_counts import counts_of, estimated_of_counts
from contract.evidence import Metric
from contract.manifest import Manifest, RegressionOutput
from contract.outputs import TASKS, BinaryOutput
from contract.quality_interval import measured
from service.labels.labelled import Joined
from service.quality.rows import known, truth

log = logging.getLogger("hornpipe.quality")

# What a version is judged by first, by its output, as in training.
HEADLINES = {"probability": "roc_auc", "probabilities": "f1_macro", "value": "rmse"}


class Figure(BaseModel):
    """One metric. `value` is realised, on labelled rows, `low` to `high` its 95% interval; `baseline` is of training's
    test rows, likewise. `estimate` is of all rows and needs no label. `error` is an estimate less the realised value,
    both of the labelled rows."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    baseline: float | None = None
    baseline_low: float | None = None
    baseline_high: float | None = None
    estimate: float | None = None
    error: float | None = None


class Quality(BaseModel):
    """What a number of logged rows was worth; `label_delay_seconds` is the median of how late labels came."""

    rows: int
    labelled: int
    labelled_share: float | None
    label_delay_seconds: float | None
    metrics: dict[str, Figure] = Field(description="By name, the headline first.")


class Known(NamedTuple):
    """What a version's manifest says about its quality; nothing where there is no manifest any more."""

    manifest: Manifest | None = None

    @property
    def metrics(self) -> dict[str, Metric]:
        return self.manifest.metrics if self.manifest else {}

    @property
    def expectation(self) -> Expectation | None:
        return self.manifest.expectation if self.manifest else None


class Manifests:
    """Those of published versions, which never change, without their golden rows, which may be large. For one thread
    at a time."""

    def __init__(self, models: Path) -> None:
        self._models = models
        self._known: dict[tuple[str, int], Known] = {}

    def of(self, model: str, version: int) -> Known:
        """Nothing known of what cannot be read: its rows are still worth something."""
        if (model, version) not in self._known:
            try:
                manifest = bundle.read_version(self._models, model, version).manifest
            except BundleError as error:
                log.debug("no baseline for %s/%d: %s", model, version, error)
                return Known()
            small = manifest.golden[0].model_copy(update={"row": {}})
            self._known[model, version] = Known(manifest.model_copy(update={"golden": (small,)}))
        return self._known[model, version]


def quality(rows: Joined, of: Known) -> Quality:
    """Of rows of one version, as `quality_rows.collected` has them."""
    there = known(rows)
    labelled = rows.take(there)
    late = labelled.received_at - labelled.predicted_at
    return Quality(
        rows=len(rows),
        labelled=len(labelled),
        labelled_share=len(labelled) / len(rows) if len(rows) else None,
        label_delay_seconds=float(np.median(late)) if len(late) else None,
        metrics=figures(of, rows.output.name, realised(labelled), expected(rows, of), expected(labelled, of)),
    )


def realised(labelled: Joined) -> dict[str, Metric]:
    """Every metric that labelled rows define."""
    kind, threshold = TASKS[labelled.output.name], _threshold(labelled)
    return measured(kind, truth(labelled), labelled.scores, threshold)  # type: ignore[arg-type]  # no tensors are joined


def expected(rows: Joined, of: Known) -> dict[str, float]:
    """Every metric that can be expected of rows, labelled or not."""
    if not len(rows):
        return {}
    if not isinstance(rows.output, RegressionOutput):
        return estimated(calibrated(of.expectation, rows.scores), rows.scores, _threshold(rows))
    if of.manifest is None or of.expectation is None:
        return {}
    bins = of.manifest.drift.outputs[of.manifest.score]
    return estimated_of_counts(of.manifest, counts_of(bins, rows.scores), {})


def figures(
    of: Known,
    output: str,
    real: dict[str, Metric],
    estimates: dict[str, float],
    beside: dict[str, float],
) -> dict[str, Figure]:
    """Side by side; `beside` are the estimates of the rows that `real` is of."""
    first = HEADLINES[output]
    names = dict.fromkeys([first, *real, *estimates])
    found = {}
    for name in names:
        value, baseline, estimate = real.get(name), of.metrics.get(name), estimates.get(name)
        if value is None and estimate is None:
            continue
        found[name] = Figure(
            **({} if value is None else value.model_dump()),
            **({} if baseline is None else {f"baseline{end}": each for end, each in _ends(baseline)}),
            estimate=estimate,
            error=beside[name] - value.value if value is not None and name in beside else None,
        )
    return found


def _ends(metric: Metric) -> list[tuple[str, float]]:
    return [("", metric.value), ("_low", metric.low), ("_high", metric.high)]


def _threshold(rows: Joined) -> float:
    return rows.output.threshold if isinstance(rows.output, BinaryOutput) else 0.5
