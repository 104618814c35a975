"""What Hornpipe says of the replayed hours: windows, alarms, and quality beside what was expected without labels."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import drift_rules
from benchmarks.drift_rules import HOUR, WINDOWS, Baseline
from benchmarks.drift_study_data import Stream
from benchmarks.drift_study_replay import Counts, Outcome, Replayed
from contract.bundle import Bundle
from contract.drift import drift
from contract.encoded import Encoded
from contract.estimate import calibrated, estimated
from contract.estimate_counts import counts_of, estimated_of_counts
from contract.evidence import Metric
from contract.features import Encoder
from contract.litert import LiteRT
from contract.manifest import BinaryOutput, Manifest
from contract.quality_interval import measured

Baselines = Mapping[str, Baseline]

DAY, WEEK = 24, 168
PERIODS = {"day": DAY, "week": WEEK}
# HornpipeQualityDown: of these, more is better and less is better; and it wants so many labelled rows.
BETTER_UP, BETTER_DOWN = ("roc_auc", "accuracy", "f1"), ("log_loss",)
LEAST_LABELLED = 100


class Verdict(NamedTuple):
    """One tool's of one feature (or of `DATASET`) in one window of a stream, the windows counted from 0. `limit` is
    what the value must pass."""

    stream: str
    period: str
    window: int
    feature: str
    value: float
    limit: float
    drifted: bool


class Ringing(NamedTuple):
    """An alert, from when to when, in hours; `ends` is None where it rings until the end."""

    stream: str
    series: str
    window: str
    begins: float
    ends: float | None


@dataclass(frozen=True)
class Quality:
    """Of rows of a period: realised ROC AUC with its interval, and what was expected: from counts, and by row."""

    window: int
    rows: int
    late: float
    auc: Metric
    of_counts: float
    of_rows: float
    expected_late: float


def verdicts(stream: Stream, replayed: Replayed, baselines: Baselines) -> Iterator[Verdict]:
    """Of whole days and weeks, as GET /models/{name}/drift judges them, and as the alerts do: on 200 rows or more."""
    for name, hourly in replayed.all.items():
        baseline = baselines[name]
        for period, hours in PERIODS.items():
            for i, counts in enumerate(periods(hourly, hours)):
                found = drift(counts, baseline.ratios.tolist(), baseline.rows)
                sure = found.drifted and found.rows >= drift_rules.LEAST_ROWS
                yield Verdict(stream.name, period, i, name, found.psi, found.threshold, sure)


def ringing(stream: Stream, replayed: Replayed, baselines: Baselines) -> Iterator[Ringing]:
    """When the drift alerts of deploy/prometheus/rules would ring."""
    for name, hourly in replayed.all.items():
        by_minute = np.zeros((len(hourly) * HOUR, hourly.shape[1]), np.int64)
        by_minute[::HOUR] = hourly
        for window in WINDOWS:
            found = drift_rules.drift(by_minute, baselines[name], window)
            quiet = ~found.holds(window.noticeable)
            for begins in drift_rules.alarms(found, window).tolist():
                moment = int(begins * HOUR) // window.step
                after = np.flatnonzero(quiet[moment:])
                ends = (moment + after[0] + 1) * window.step / HOUR if len(after) else None
                yield Ringing(stream.name, name, window.name, begins, ends)


def baselines_of(manifest: Manifest) -> Baselines:
    """Of every input and output that is counted, by name."""
    watched = (manifest.drift.inputs, manifest.drift.rows), (manifest.drift.outputs, manifest.data.validation_rows)
    return {name: Baseline(np.array(bins.ratios), rows) for kind, rows in watched for name, bins in kind.items()}


def differs(found: Outcome, baselines: Baselines) -> float:
    """By how much any PSI differs at most between the service's own and what comes of the counters that were scraped:
    the day of the service's clock has been the whole replay."""
    return max(
        abs(each["psi"] - drift(found.counted[each["name"]], baseline.ratios.tolist(), baseline.rows).psi)
        for each in (*found.endpoint["inputs"], *found.endpoint["outputs"])
        for baseline in (baselines[each["name"]],)
    )


def periods(hourly: Counts, hours: int) -> Counts:
    """Sums of whole periods, [periods, bins]; what is left at the end is left out."""
    whole = len(hourly) // hours
    return hourly[: whole * hours].reshape(whole, hours, -1).sum(axis=1)


def qualities(stream: Stream, scores: NDArray[np.float32], manifest: Manifest, hours: int) -> Iterator[Quality]:
    labels = stream.labels
    for i in range(stream.days * 24 // hours):
        within = stream.hours // hours == i
        yield _quality(i, labels[within], scores[within], manifest)


def _quality(window: int, labels: NDArray[np.int64], scores: NDArray[np.float32], manifest: Manifest) -> Quality:
    threshold = threshold_of(manifest)
    probable = calibrated(manifest.expectation, scores)
    return Quality(
        window=window,
        rows=len(labels),
        late=float(labels.mean()),
        auc=measured("binary", labels, scores, threshold)["roc_auc"],
        of_counts=_of_counts(manifest, scores)["roc_auc"],
        of_rows=estimated(probable, scores, threshold)["roc_auc"],
        expected_late=float(probable[:, 1].mean()),
    )


def _of_counts(manifest: Manifest, scores: NDArray[np.float32]) -> dict[str, float]:
    output = manifest.output
    assert isinstance(output, BinaryOutput)  # flights have two classes
    late = int((scores >= output.float32_threshold).sum())
    negative = next(each for each in output.classes if each != output.positive)
    labels = {output.positive: late, negative: len(scores) - late}
    return estimated_of_counts(manifest, counts_of(manifest.drift.outputs[manifest.score], scores), labels)


def threshold_of(manifest: Manifest) -> float:
    assert isinstance(manifest.output, BinaryOutput)  # flights have two classes
    return manifest.output.float32_threshold


def worse_days(stream: Stream, scores: NDArray[np.float32], manifest: Manifest) -> dict[str, list[int]]:
    """The days, counted from 0, at whose end HornpipeQualityDown's condition holds, by metric: had each label come by
    then, of the rows of seven days."""
    labels, found = stream.labels, dict[str, list[int]]()
    for day in range(stream.days):
        within = (stream.hours < (day + 1) * DAY) & (stream.hours >= (day - 6) * DAY)
        now = measured("binary", labels[within], scores[within], threshold_of(manifest))
        for metric in _worse(now, manifest.metrics) if within.sum() >= LEAST_LABELLED else ():
            found.setdefault(metric, []).append(day)
    return found


def _worse(now: Mapping[str, Metric], then: Mapping[str, Metric]) -> Iterator[str]:
    for name in now.keys() & then.keys():
        if name in BETTER_UP and now[name].high < then[name].low:
            yield name
        if name in BETTER_DOWN and now[name].low > then[name].high:
            yield name


def if_it_were(months: Iterable[int], stream: Stream, made: Bundle) -> dict[str, float]:
    """Which share of late flights the model expects of every eighth row, had the row been of another month; and of the
    row as it is, by the name of `as it is`."""
    rows = stream.features.take(np.arange(0, len(stream.rows), 8)).to_pylist()
    known = [{name: value for name, value in row.items() if value is not None} for row in rows]
    found = {"as it is": _expected_late(known, made)}
    return found | {str(month): _expected_late([row | {"month": month} for row in known], made) for month in months}


def _expected_late(rows: list[dict[str, Any]], made: Bundle) -> float:
    manifest = made.manifest
    encoded = Encoder(manifest.features).encode(rows)
    assert isinstance(encoded, Encoded)  # the service has taken them
    runtime = LiteRT(made.path / manifest.variant(manifest.chosen.variant).path)
    scores = runtime.run(encoded)[manifest.output.name]
    return float(calibrated(manifest.expectation, scores)[:, 1].mean())
