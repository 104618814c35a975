"""What simpler models reach on the same split, what they cost, and whether the network is worth its trouble."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from contract.evidence import Metric
from contract.features import Encoded
from contract.manifest import Baseline
from training.evaluation import threshold
from training.evaluation.bootstrap import intervals, paired
from training.evaluation.metrics import metrics
from training.evaluation.simple import Simple, simple_models
from training.rows import Prepared, Rows
from training.sections import TrainingConfig
from training.task import Scores, Task

_TIMED_CALLS = 15


@dataclass(frozen=True)
class Fitted:
    """A baseline as the manifest has it, and its scores on the test rows."""

    baseline: Baseline
    scores: Scores


def fit(prepared: Prepared, config: TrainingConfig) -> list[Fitted]:
    """Majority (or mean), linear model and gradient boosting, from the simplest on, fitted to the training rows in
    memory. Each has the threshold that the config's rule chooses for it on validation."""
    models = simple_models(prepared.task, prepared.sample, len(prepared.classes), config.training.seed)
    return [_fitted(model, prepared, config) for model in models]


def _fitted(model: Simple, prepared: Prepared, config: TrainingConfig) -> Fitted:
    task, test, seed = prepared.task, prepared.test, config.training.seed
    train, name = _at_most(prepared.sample, model.fit_to, model.name, seed)
    started = time.perf_counter()
    predict = model.fit(task, train, len(prepared.classes))
    seconds = time.perf_counter() - started
    scores, limit = predict(test.encoded), 0.5
    if task.name == "binary":
        validation = prepared.validation
        rule = config.serving.threshold
        limit = threshold.choose(rule, validation.labels, predict(validation.encoded)).threshold
    resamples = config.evaluation.resamples
    headline = intervals(task, test.labels, scores, only=[task.headline], resamples=resamples, seed=seed)
    baseline = Baseline(
        name=name,
        metrics=metrics(task, test.labels, scores, limit),
        fit_seconds=round(seconds, 2),
        headline=headline[task.headline],
        predict_ms=round(_milliseconds(predict, test.encoded), 3),
    )
    return Fitted(baseline, scores)


def _at_most(rows: Rows, most: int, name: str, seed: int) -> tuple[Rows, str]:
    if len(rows) <= most:
        return rows, name
    chosen = np.random.default_rng(seed).choice(len(rows), most, replace=False)
    return rows.take(np.sort(chosen)), f"{name} on {most:,} rows"


def _milliseconds(predict: Callable[[Encoded], Scores], encoded: Encoded) -> float:
    """Of a call with one row, the median."""
    times = []
    with threadpool_limits(1):  # more threads only make one row slower
        for i in range(_TIMED_CALLS):
            row = encoded.take(slice(i % encoded.rows, i % encoded.rows + 1))
            started = time.perf_counter()
            predict(row)
            times.append(time.perf_counter() - started)
    return float(np.median(times)) * 1e3


def gains(task: Task, test: Rows, scores: Scores, fitted: Sequence[Fitted], resamples: int, seed: int) -> list[Metric]:
    """By how much the network is better than each baseline in the headline metric, on the same rows."""
    return [
        paired(task, task.headline, test.labels, scores, each.scores, resamples=resamples, seed=seed) for each in fitted
    ]


def verdict_line(headline: str, own: Metric, fitted: Sequence[Fitted], gained: Sequence[Metric]) -> str | None:
    """What a person should know first, where a simpler model will do: one that is better for sure, else the simplest of
    those that the network is not better than for sure. None where it is better than all of them."""
    better = [(each.baseline, gain) for each, gain in zip(fitted, gained, strict=True) if gain.high < 0]
    as_good = [(each.baseline, gain) for each, gain in zip(fitted, gained, strict=True) if gain.low <= 0]
    if not as_good:
        return None
    found, gain = min(better, key=lambda pair: pair[1].value) if better else as_good[0]
    by = f"better by {-gain.high:.4f} to {-gain.low:.4f}" if better else f"a gain of {gain.low:.4f} to {gain.high:.4f}"
    return (
        f"A simpler model is {'better' if better else 'as good'}: {found.name}, fitted in {found.fit_seconds:.1f} s, "
        f"has a {headline} of {found.metrics[headline]:.4f}, the network {own.value:.4f} ({by})."
    )
