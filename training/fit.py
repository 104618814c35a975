"""The training loop: AdamW with cosine decay, early stopping on validation, checkpoints.

Many steps run inside one compiled function, over data that lies in TensorFlow's memory: no step returns to Python.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from contract.features import Encoded
from training.rows import Rows
from training.sections import TrainingSection

STEPS_A_CALL = 32
PREDICT_BATCH = 8192


@dataclass(frozen=True)
class Evaluation:
    """What was seen at one evaluation on validation; `epoch` is a fraction where there are several an epoch."""

    epoch: float
    train_loss: float
    validation_auc: float
    best: bool


@dataclass
class History:
    """Every evaluation of a run, in order."""

    evaluations: list[Evaluation] = field(default_factory=list)

    @property
    def best(self) -> Evaluation:
        return max(self.evaluations, key=lambda each: each.validation_auc)

    def since_best(self) -> int:
        return len(self.evaluations) - 1 - self.evaluations.index(self.best)


@dataclass(frozen=True)
class Progress:
    """Told after every call of the compiled function, and after every evaluation."""

    on_steps: Callable[[int, float], None]
    on_evaluation: Callable[[Evaluation], None]


def fit(
    model: keras.Model, train: Rows, validation: Rows, section: TrainingSection, workdir: Path, progress: Progress
) -> History:
    """Train `model` (inputs -> logits [n]) in place; afterwards it holds the weights of the best evaluation.

    `workdir/best.weights.h5` holds them too, replaced whole at every new best.
    """
    steps = steps_per_epoch(len(train), section)
    total = steps * section.epochs
    averages = Averages(model, section.averaging)
    run_steps = _compile(model, _optimizer(section, total), train, averages)
    shuffle = np.random.default_rng(section.seed)
    history = History()
    interval = math.ceil(steps / section.evaluations_per_epoch)
    for epoch in range(section.epochs):
        batches = _batches(shuffle.permutation(len(train)), section.batch_size)
        for start in range(0, steps, interval):
            chunk = batches[start : start + interval]
            loss = _run(run_steps, chunk, progress)
            at = epoch + min(start + interval, steps) / steps
            with averages.in_place():
                stale = _evaluate(model, validation, at, loss, history, workdir / "best.weights.h5", progress)
            if stale > section.patience:
                model.load_weights(workdir / "best.weights.h5")
                return history
    model.load_weights(workdir / "best.weights.h5")
    return history


class Averages:
    """A moving average of the trainable weights: less noise from the last steps than the weights themselves.

    The momentum rises from 0.1 to `momentum` as min(momentum, (1 + t) / (10 + t)), so that the first average is not the
    initial weights (the rule of tf.train.ExponentialMovingAverage with num_updates).
    """

    def __init__(self, model: keras.Model, momentum: float) -> None:
        self._momentum = momentum
        self._weights = [variable.value for variable in model.trainable_variables]
        self._averages = [tf.Variable(weight) for weight in self._weights]
        self._steps = tf.Variable(0.0)

    def update(self) -> None:
        """Take in the weights as they are now; part of the compiled step."""
        momentum = tf.minimum(self._momentum, (1 + self._steps) / (10 + self._steps))
        for average, weight in zip(self._averages, self._weights, strict=True):
            average.assign(momentum * average + (1 - momentum) * weight)
        self._steps.assign_add(1.0)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model holds the averages within, and its own weights again afterwards."""
        own = [tf.identity(weight) for weight in self._weights]
        for weight, average in zip(self._weights, self._averages, strict=True):
            weight.assign(average)
        yield
        for weight, value in zip(self._weights, own, strict=True):
            weight.assign(value)


def steps_per_epoch(rows: int, section: TrainingSection) -> int:
    """Whole batches only, at least one: a last short one would be a second shape to compile, and noisier."""
    return max(1, rows // section.batch_size)


def predict(model: keras.Model, encoded: Encoded) -> NDArray[np.float32]:
    """The output of a model with one output, float32 [n]."""
    arrays = {name: getattr(encoded, name) for name in model.input}
    outputs: NDArray[np.float32] = model.predict(arrays, batch_size=PREDICT_BATCH, verbose=0)
    return outputs


def inputs(model: keras.Model, encoded: Encoded) -> dict[str, Any]:
    """The arrays that the model has inputs for, as tensors."""
    return {name: tf.constant(getattr(encoded, name)) for name in model.input}


def _optimizer(section: TrainingSection, steps: int) -> keras.optimizers.Optimizer:
    schedule = keras.optimizers.schedules.CosineDecay(float(section.learning_rate), steps)
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=section.weight_decay)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


def _compile(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, train: Rows, averages: Averages
) -> Callable[[Any], Any]:
    """A function that trains on batches of row numbers, int32 [steps, batch], and returns the mean loss."""
    data, labels = inputs(model, train.encoded), tf.constant(train.labels)
    optimizer.build(model.trainable_variables)

    def step(rows: Any) -> Any:  # noqa: ANN401  # tensors have no type information
        batch = {name: tf.gather(tensor, rows) for name, tensor in data.items()}
        with tf.GradientTape() as tape:
            logits = model(batch, training=True)
            loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(tf.gather(labels, rows), logits))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        averages.update()
        return loss

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def run_steps(batches: Any) -> Any:  # noqa: ANN401  # tensors have no type information
        total = tf.constant(0.0)
        for i in tf.range(tf.shape(batches)[0]):
            total += step(batches[i])
        return total

    compiled: Callable[[Any], Any] = run_steps
    return compiled


def _batches(order: NDArray[np.int64], batch_size: int) -> NDArray[np.int32]:
    size = min(batch_size, len(order))
    whole = len(order) // size * size
    return order[:whole].reshape(-1, size).astype(np.int32)


def _run(run_steps: Callable[[Any], Any], batches: NDArray[np.int32], progress: Progress) -> float:
    total = 0.0
    for start in range(0, len(batches), STEPS_A_CALL):
        part = batches[start : start + STEPS_A_CALL]
        loss = float(run_steps(tf.constant(part)))
        progress.on_steps(len(part), loss / len(part))
        total += loss
    return total / len(batches)


def _evaluate(
    model: keras.Model, validation: Rows, at: float, loss: float, history: History, best: Path, progress: Progress
) -> int:
    """Evaluate, remember, keep the weights if they are the best so far; how many evaluations ago the best was."""
    auc = float(roc_auc_score(validation.labels, predict(model, validation.encoded)))
    is_best = not history.evaluations or auc > history.best.validation_auc
    evaluation = Evaluation(at, loss, auc, is_best)
    history.evaluations.append(evaluation)
    if is_best:
        beside = best.with_name("beside.weights.h5")
        model.save_weights(beside)
        beside.replace(best)
    progress.on_evaluation(evaluation)
    return history.since_best()
