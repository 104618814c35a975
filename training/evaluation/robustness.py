"""How much of a model's quality is left when its test rows are not as clean as those it learned from.

On a sample of the test rows: this is a look, not the gate.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from contract.features import Encoded
from training.evaluation.adversarial import Scales, attackable, perturb
from training.evaluation.corruption import corruptions
from training.evaluation.metrics import metrics
from training.exporting.results import Robustness
from training.loop import loss
from training.rows import Prepared, Rows
from training.sections import AdversarialSection, TrainingConfig

# An attack costs as much as `STEPS` epochs of training on its rows, and pictures cost the most.
ROWS, PICTURES = 2_000, 500
BATCH = 250
STEPS = 10
STRENGTHS = (0.5, 1.0, 2.0)  # times evaluation.robustness_epsilon

Attack = Literal["fgsm", "pgd"]
ATTACKS: tuple[Attack, ...] = ("fgsm", "pgd")


def robustness(
    model: keras.Model, prepared: Prepared, config: TrainingConfig, threshold: float = 0.5
) -> tuple[Robustness, ...]:
    """The headline metric, and accuracy where the task has one, of `model` (packed inputs -> logits) on changed rows.

    First the same rows unchanged ("clean"). FGSM and PGD (adversarial.py) with half, one and two times the config's
    robustness_epsilon, where there is an image or a number; then noise, missing values and unseen categories
    (corruption.py). `threshold` is the probability from which the label is the positive one.
    """
    trial = _Trial(model, prepared, config, threshold)
    return (
        trial.judged("clean", 0.0, "the test rows as they are", trial.rows.encoded),
        *trial.attacked(),
        *(trial.judged(*each) for each in trial.corrupted()),
    )


class _Trial:
    """The rows and the network, and what both have to do with each other."""

    def __init__(self, model: keras.Model, prepared: Prepared, config: TrainingConfig, threshold: float) -> None:
        self._prepared, self._threshold, self._seed = prepared, threshold, config.training.seed
        self._epsilon = config.evaluation.robustness_epsilon
        self._split = attackable(model)
        self._scales = Scales.of(prepared.encoder, prepared.sample)
        self._loss = loss.of(config.training, prepared).plain()
        self._compiled = tf.function(self._logits, autograph=False, reduce_retracing=True)
        self.rows = _sample(prepared.test, self._seed)

    def judged(self, name: str, strength: float, detail: str, encoded: Encoded) -> Robustness:
        logits = [self._compiled(inputs).numpy() for inputs in self._inputs(encoded)]
        return self._result(name, strength, detail, np.concatenate(logits))

    def attacked(self) -> Iterator[Robustness]:
        if not self._scales.attackable:
            return
        what = "each pixel by up to {:g} of its range" if self._scales.image else "each number by up to {:g} deviations"
        for attack in ATTACKS:
            logits_under = self._compiled_attack(attack)
            steps = f"{STEPS} steps" if attack == "pgd" else "one step"
            for strength in STRENGTHS:
                epsilon = strength * self._epsilon
                detail = f"{what.format(epsilon)} against the model, in {steps}"
                yield self._result(attack, epsilon, detail, self._under(logits_under, epsilon))

    def corrupted(self) -> Iterator[tuple[str, float, str, Encoded]]:
        yield from corruptions(self.rows.encoded, self._prepared.encoder, self._scales.deviations, self._seed)

    def _under(self, logits_under: Callable[..., Any], epsilon: float) -> NDArray[np.float32]:
        labels = [self.rows.labels[start : start + BATCH] for start in range(0, len(self.rows), BATCH)]
        pairs = zip(self._inputs(self.rows.encoded), labels, strict=True)
        return np.concatenate([logits_under(*pair, tf.constant(epsilon)).numpy() for pair in pairs])

    def _result(self, name: str, strength: float, detail: str, logits: NDArray[np.float32]) -> Robustness:
        task = self._prepared.task
        values = metrics(task, self.rows.labels, task.scores(logits), self._threshold)
        return Robustness(
            name=name,
            epsilon=strength,
            metric=values[task.headline],
            accuracy=values.get("accuracy"),
            detail=detail,
        )

    def _inputs(self, encoded: Encoded) -> Iterator[dict[str, Any]]:
        for start in range(0, len(self.rows), BATCH):
            part = encoded.take(slice(start, start + BATCH))
            tensors = {name: tf.constant(getattr(part, name)) for name in self._split.network.input}
            yield self._split.prepare(tensors, False)

    def _logits(self, inputs: dict[str, Any]) -> Any:  # noqa: ANN401  # tensors have no type information
        return self._split.network(inputs, training=False)

    def _compiled_attack(self, attack: Attack) -> Callable[..., Any]:
        """(inputs, labels, epsilon) -> the logits of the perturbed inputs: one graph for all strengths."""
        section = AdversarialSection(attack=attack, steps=STEPS)
        seed = tf.constant([self._seed, 0])

        def run(inputs: dict[str, Any], labels: Any, epsilon: Any) -> Any:  # noqa: ANN401
            return self._logits(
                perturb(self._logits, self._loss.rows, inputs, labels, section, self._scales, seed, epsilon)
            )

        compiled: Callable[..., Any] = tf.function(run, autograph=False, reduce_retracing=True)
        return compiled


def _sample(test: Rows, seed: int) -> Rows:
    """At most ROWS test rows, or PICTURES, drawn at random."""
    most = ROWS if test.encoded.image is None else PICTURES
    if len(test) <= most:
        return test
    return test.take(np.sort(np.random.default_rng(seed).choice(len(test), most, replace=False)))
