"""What a trained network is worth: what validation rows decide, and what test rows, which decide nothing, then show."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.evidence import Metric, Slice
from training.evaluation import calibration, classes, importance, slices, threshold
from training.evaluation.bootstrap import intervals, mean
from training.evaluation.importance import Predict
from training.exporting.results import Importance, Residuals, Results, ThresholdChoice
from training.rows import Prepared
from training.sections import TrainingConfig
from training.task import Labels, Scores, Task

_MOST_RESIDUALS = 1000

Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Decisions:
    """What was chosen on validation rows: by what the logits are divided, from which probability on the positive class
    is the label (binary), how far around the value the interval reaches (regression)."""

    temperature: float = 1.0
    threshold: ThresholdChoice | None = None
    half_width: float = 0.0

    @property
    def limit(self) -> float:
        """The threshold, for whatever takes one whether it needs it or not."""
        return threshold.DEFAULT if self.threshold is None else self.threshold.threshold

    def scores(self, task: Task, logits: Logits) -> Scores:
        """What the exported model answers where the network ends in these logits."""
        return task.scores(logits / np.float32(self.temperature))


def decide(prepared: Prepared, logits: Logits, config: TrainingConfig) -> Decisions:
    """From the network's logits of the validation rows, in their order."""
    task, labels = prepared.task, prepared.validation.labels
    if task.name == "regression":
        return Decisions(half_width=calibration.half_width(labels, logits, calibration.COVERAGE))
    divisor = (
        calibration.temperature(task, logits, labels, config.training.seed) if config.evaluation.calibrate else 1.0
    )
    calibrated = Decisions(temperature=divisor)
    if task.name == "multiclass":
        return calibrated
    choice = threshold.choose(config.serving.threshold, labels, calibrated.scores(task, logits))
    return Decisions(temperature=divisor, threshold=choice)


def evaluate(
    prepared: Prepared,
    logits: Logits,
    decisions: Decisions,
    config: TrainingConfig,
    predict: Predict | None = None,
) -> Results:
    """Everything that the logits of the test rows, in their order, say of the network; `predict`, from encoded rows to
    scores, is asked for the importance of the features. Raises ValueError for logits that are not finite."""
    task, labels = prepared.task, prepared.test.labels
    scores, section, seed = decisions.scores(task, logits), config.evaluation, config.training.seed
    measured = intervals(task, labels, scores, decisions.limit, resamples=section.resamples, seed=seed)
    results = Results(
        headline=task.headline,
        metrics=measured,
        threshold=decisions.threshold,
        slices=_slices(prepared, scores, measured[task.headline], config) if section.slices else (),
        importance=_importance(prepared, predict, config) if section.importance and predict is not None else (),
        warnings=prepared.warnings,
    )
    if task.name == "regression":
        return results.model_copy(update={"residuals": _residuals(labels, scores, decisions.half_width, config)})
    return _of_classes(results, prepared, logits, decisions, config)


def _of_classes(
    results: Results, prepared: Prepared, logits: Logits, decisions: Decisions, config: TrainingConfig
) -> Results:
    task, labels, names = prepared.task, prepared.test.labels, prepared.classes
    scores, seed = decisions.scores(task, logits), config.training.seed
    resamples = config.evaluation.resamples
    by_class = classes.by_class(names, labels, scores, decisions.limit, resamples=resamples, seed=seed)
    roc, precision_recall = classes.curves(names, labels, scores, by_class)
    found = {
        "by_class": by_class,
        "confusion": classes.confusion(names, labels, classes.decided(scores, decisions.limit)),
        "roc": roc,
        "precision_recall": precision_recall,
        "reliability": calibration.reliability(labels, task.scores(logits), scores, decisions.temperature),
    }
    if decisions.threshold is not None:
        warned = threshold.shortfall(config.serving.threshold, decisions.threshold, results.metrics)
        found["warnings"] = (*results.warnings, *warned)
    return results.model_copy(update=found)


def _slices(prepared: Prepared, scores: Scores, overall: Metric, config: TrainingConfig) -> tuple[Slice, ...]:
    return slices.worst(
        prepared.task,
        prepared.encoder,
        prepared.test,
        scores,
        overall,
        fewest=config.evaluation.slice_rows,
        resamples=config.evaluation.resamples,
        seed=config.training.seed,
    )


def _importance(prepared: Prepared, predict: Predict, config: TrainingConfig) -> tuple[Importance, ...]:
    return importance.importance(
        prepared.task,
        prepared.encoder,
        prepared.test,
        predict,
        resamples=config.evaluation.resamples,
        seed=config.training.seed,
    )


def _residuals(labels: Labels, values: Scores, half_width: float, config: TrainingConfig) -> Residuals:
    within = calibration.within(labels, values, half_width)
    rows = np.arange(len(labels))
    if len(rows) > _MOST_RESIDUALS:
        rows = np.random.default_rng(config.training.seed).choice(rows, _MOST_RESIDUALS, replace=False)
    residuals = labels[rows].astype(np.float64) - values[rows]
    return Residuals(
        points=tuple(zip(values[rows].tolist(), residuals.tolist(), strict=True)),
        wanted_coverage=calibration.COVERAGE,
        coverage=mean(within, resamples=config.evaluation.resamples, seed=config.training.seed),
    )
