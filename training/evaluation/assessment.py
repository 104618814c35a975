"""What is learned about a trained network before it is exported: all that the report shows but the variants, the input
distributions and the verdict."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import keras

from contract.evidence import Finding
from contract.features import Encoded
from contract.manifest import Baseline
from training import evaluate, fit
from training.evaluate import Decisions
from training.evaluation import baselines, robustness
from training.exporting.results import Results, Robustness
from training.fit import Outcome
from training.rows import Prepared
from training.sections import TrainingConfig
from training.task import Scores

Stage = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class Assessment:
    """`decisions` were made on validation rows; `scores_validation` are those of the exported network."""

    results: Results
    baselines: tuple[Baseline, ...]
    decisions: Decisions
    scores_validation: Scores


def assess(
    network: keras.Model,
    prepared: Prepared,
    config: TrainingConfig,
    outcome: Outcome,
    findings: tuple[Finding, ...],
    stage: Stage,
) -> Assessment:
    """Decide on validation rows, measure on test rows, and compare with simpler models there."""
    task = prepared.task
    with stage("choosing threshold and temperature on validation"):
        logits = fit.predict(network, prepared.validation.encoded)
        decisions = evaluate.decide(prepared, logits, config)

    def predict(encoded: Encoded) -> Scores:
        return decisions.scores(task, fit.predict(network, encoded))

    with stage("measuring on the test rows"):
        test = fit.predict(network, prepared.test.encoded)
        results = evaluate.evaluate(prepared, test, decisions, config, predict)
    perturbed: tuple[Robustness, ...] = ()
    if config.evaluation.robustness:
        with stage("perturbing the test rows"):
            perturbed = robustness.robustness(network, prepared, config, decisions.limit)
    with stage("fitting simpler models on the same rows"):
        fitted = baselines.fit(prepared, config)
        resamples, seed = config.evaluation.resamples, config.training.seed
        gains = baselines.gains(task, prepared.test, decisions.scores(task, test), fitted, resamples, seed)
    own = results.metrics[results.headline]
    results = results.model_copy(
        update={
            "simpler": baselines.verdict_line(results.headline, own, fitted, gains),
            "robustness": perturbed,
            "record": outcome.record,
            "findings": findings,
            "training_seconds": outcome.seconds,
        }
    )
    return Assessment(results, tuple(each.baseline for each in fitted), decisions, decisions.scores(task, logits))
