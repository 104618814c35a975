"""What `GET /models/{name}/drift` answers: every distribution of a window beside its baseline."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime

from pydantic import BaseModel, Field

from contract import drift
from contract.histogram import Counts, bin_names
from contract.manifest import Bins
from service.counting.exposition import output_rows
from service.counting.watch import Watch
from service.drift.history import Rows, Window
from service.drift.verdict import Change, Moved, verdict


class Bin(BaseModel):
    """One bin: its rows, their share of the window, and its share in training, which is smoothed by half a row."""

    bin: str
    rows: int
    share: float | None
    baseline: float


class Distribution(BaseModel):
    """An input or output. `drifted` where `psi` is more than `threshold`: more than chance explains, which is up to
    `critical`, and more than 0.1. What needs rows is null without them."""

    name: str
    drifted: bool
    psi: float
    threshold: float | None
    critical: float | None
    js: float = Field(description="Jensen-Shannon distance, base 2: 0 to 1.")
    linf: float = Field(description="The largest change of a bin's share.")
    rows: int
    baseline_rows: int
    bins: list[Bin]


class Label(BaseModel):
    """How often a label was answered, and on the validation rows."""

    label: str
    rows: int
    share: float | None
    baseline: float | None


class DriftReport(BaseModel):
    """What has come to a version in a window, and what it answered; by all workers of this service together."""

    model: str
    version: int
    window: Window
    since: datetime
    until: datetime
    rows: int
    drifted: list[str] = Field(description="Inputs and outputs that have drifted, the furthest first.")
    verdict: str
    inputs: list[Distribution]
    outputs: list[Distribution]
    labels: list[Label]


def report(watch: Watch, window: Window, rows: Rows) -> DriftReport:
    """Of a version's rows in a window."""
    manifest = watch.manifest
    inputs, outputs, labels = watch.split(rows.counts)
    baseline = manifest.drift
    of_inputs = _distributions(inputs, baseline.inputs, baseline.rows)
    of_outputs = _distributions(outputs, baseline.outputs, output_rows(manifest))
    drifted = sorted((each for each in (*of_inputs, *of_outputs) if each.drifted), key=lambda each: -each.psi)
    total = sum(labels.values())
    return DriftReport(
        model=manifest.name,
        version=manifest.version,
        window=window,
        since=datetime.fromtimestamp(rows.since, UTC),
        until=datetime.fromtimestamp(rows.until, UTC),
        rows=total,
        drifted=[each.name for each in drifted],
        verdict=verdict(
            total,
            len(of_inputs) + len(of_outputs),
            [_moved(each) for each in drifted],
            max((each.threshold or 0 for each in (*of_inputs, *of_outputs)), default=0.0),
        ),
        inputs=of_inputs,
        outputs=of_outputs,
        labels=[
            Label(label=label, rows=count, share=_share(count, total), baseline=baseline.labels.get(label))
            for label, count in labels.items()
            if label
        ],
    )


def _distributions(
    counts: Mapping[str, Counts], baselines: Mapping[str, Bins], baseline_rows: int
) -> list[Distribution]:
    return [_distribution(name, each, baselines[name], baseline_rows) for name, each in counts.items()]


def _distribution(name: str, counts: Counts, baseline: Bins, baseline_rows: int) -> Distribution:
    found = drift.drift(counts, baseline.ratios, baseline_rows)
    bins = zip(bin_names(baseline), counts.tolist(), baseline.ratios, strict=True)
    return Distribution(
        name=name,
        drifted=found.drifted,
        psi=found.psi,
        threshold=_finite(found.threshold),
        critical=_finite(found.critical),
        js=found.js,
        linf=found.linf,
        rows=found.rows,
        baseline_rows=baseline_rows,
        bins=[Bin(bin=each, rows=n, share=_share(n, found.rows), baseline=ratio) for each, n, ratio in bins],
    )


def _moved(found: Distribution) -> Moved:
    """By the bin that adds most to the PSI."""
    most = max(found.bins, key=lambda each: drift.part(each.rows, found.rows, each.baseline))
    return Moved(found.name, found.psi, found.threshold or 0.0, Change(most.bin, most.share or 0.0, most.baseline))


def _share(rows: int, total: int) -> float | None:
    return rows / total if total else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
