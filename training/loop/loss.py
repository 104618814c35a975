"""What training makes small: cross-entropy, focal loss, squared error; smoothed and weighted as the config says."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.errors import ConfigError, did_you_mean
from training.rows import Prepared
from training.sections import TrainingSection
from training.task import Labels, TaskName

Tensor = Any  # tf.Tensor has no type information


@dataclass(frozen=True)
class Loss:
    """A function of labels and logits (training/task.py), in float32 whatever the precision of the network.

    `weights` are by class, empty for 1 everywhere. `deviation` is that of a regression's training labels: logits are in
    the label's unit, errors are divided by it, so that the loss of always answering the mean is 1 in every unit.
    """

    task: TaskName
    classes: int = 2
    label_smoothing: float = 0.0
    focal_gamma: float = 0.0
    weights: tuple[float, ...] = ()
    deviation: float = 1.0

    def __call__(self, labels: Tensor, logits: Tensor) -> Tensor:
        """The mean over the rows, a scalar."""
        return tf.reduce_mean(self.rows(labels, logits))

    def rows(self, labels: Tensor, logits: Tensor) -> Tensor:
        """The loss of each row, float32 [n]. Logits of several members, [n, members] or [n, members, classes], have the
        mean of their losses: each learns by itself, and not to lean on the others."""
        logits = tf.cast(logits, tf.float32)
        if logits.shape.rank > (2 if self.task == "multiclass" else 1):
            each = [self.rows(labels, member) for member in tf.unstack(logits, axis=1)]
            return tf.reduce_mean(tf.stack(each), axis=0)
        match self.task:
            case "binary":
                losses = self._binary(tf.cast(labels, tf.float32), logits)
            case "multiclass":
                losses = self._multiclass(labels, logits)
            case "regression":
                return tf.square((tf.cast(labels, tf.float32) - logits) / self.deviation)
        if not self.weights:
            return losses
        return losses * tf.gather(tf.constant(self.weights, tf.float32), tf.cast(labels, tf.int32))

    def base(self, labels: Labels) -> float:
        """The loss of the best constant answer: the weighted class shares, or the mean."""
        if self.task == "regression":
            logits = np.full(len(labels), labels.mean(dtype=np.float64), np.float32)
        else:
            shares = class_shares(labels, self.classes) * (self.weights or 1.0)
            shares = np.log(np.clip(shares / shares.sum(), 1e-7, 1))
            row = shares if self.task == "multiclass" else shares[1] - shares[0]
            logits = np.broadcast_to(np.float32(row), (len(labels), *np.shape(row)))
        return float(np.mean(self.rows(labels, logits), dtype=np.float64))

    def plain(self) -> "Loss":
        """The same without smoothing, weights and focus: 0 for a network that is sure and right."""
        return replace(self, label_smoothing=0.0, focal_gamma=0.0, weights=())

    def _binary(self, labels: Tensor, logits: Tensor) -> Tensor:
        labels = labels * (1 - self.label_smoothing) + self.label_smoothing / 2
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
        if not self.focal_gamma:
            return losses
        positive = tf.sigmoid(logits)
        return losses * self._focus(labels * positive + (1 - labels) * (1 - positive))

    def _multiclass(self, labels: Tensor, logits: Tensor) -> Tensor:
        hot = tf.one_hot(labels, self.classes) * (1 - self.label_smoothing) + self.label_smoothing / self.classes
        logs = tf.nn.log_softmax(logits)
        losses = -hot * logs
        return tf.reduce_sum(losses * self._focus(tf.exp(logs)) if self.focal_gamma else losses, axis=-1)

    def _focus(self, probability: Tensor) -> Tensor:
        """(1 - p)^gamma: what is easy weighs little (Lin et al.: Focal Loss for Dense Object Detection, ICCV 2017,
        equation 4)."""
        # Away from 0, where the power has no finite gradient for gamma below 1.
        return tf.pow(tf.maximum(1 - probability, 1e-7), self.focal_gamma)


def of(section: TrainingSection, prepared: Prepared) -> Loss:
    """The loss that a config asks for on these data. Raises ConfigError for weights of classes that are not there."""
    labels, classes = prepared.sample.labels, max(2, len(prepared.classes))
    if prepared.task.name == "regression":
        deviation = float(labels.std(dtype=np.float64))
        return Loss("regression", deviation=deviation if deviation > 0 else 1.0)
    return Loss(
        prepared.task.name,
        classes,
        section.label_smoothing,
        section.focal_gamma,
        _weights(section.class_weights, labels, prepared.classes),
    )


def class_shares(labels: Labels, classes: int) -> NDArray[np.float64]:
    """The share of each class among labels that are class indices, [classes]."""
    return np.bincount(labels.astype(np.int64), minlength=classes) / len(labels)


def _weights(wanted: str | Mapping[str, float], labels: Labels, classes: tuple[str, ...]) -> tuple[float, ...]:
    if wanted == "none":
        return ()
    if isinstance(wanted, Mapping):
        unknown = [
            f"class_weights.{name}: no such class; {did_you_mean(name, classes)}"
            for name in wanted
            if name not in classes
        ]
        if unknown:
            raise ConfigError("training", unknown)
        return tuple(wanted.get(name, 1.0) for name in classes)
    # As scikit-learn's "balanced" (King and Zeng 2001): every class weighs the same, a row 1 on average.
    counts = np.maximum(class_shares(labels, len(classes)) * len(labels), 1)
    return tuple(float(weight) for weight in len(labels) / (len(classes) * counts))
