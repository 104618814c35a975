"""What early stopping watches: the network on the validation rows, and on as many training rows."""

from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score, root_mean_squared_error

from training.loop.ahead import Tensors, row_spec, tensors
from training.loop.loss import Loss, class_shares
from training.rows import Indices, Rows
from training.task import Labels, Scores, Task

LARGEST_CHUNK = 8192


@dataclass(frozen=True)
class Seen:
    """One look at the network (training/diagnosis/signals.py, Evaluation, says what each is)."""

    monitor: float
    train_monitor: float
    validation_loss: float
    validation_error: float
    sample_loss: float
    rare_recall: float | None


class Monitor:
    """Evaluates a model, chunk by chunk, always in chunks of one size: other sizes could round differently."""

    def __init__(self, model: keras.Model, task: Task, loss: Loss, validation: Rows, sample: Rows, chunk: int) -> None:
        self._task, self._loss = task, loss
        self._validation, self._train = validation, some(sample, len(validation), task)
        self._chunk = min(LARGEST_CHUNK, chunk)
        self._names = list(model.input)
        rows = {name: row_spec(tensor) for name, tensor in self.inputs(validation.take(slice(0, 1))).items()}
        self._logits = tf.function(
            lambda inputs: tf.cast(model(inputs, training=False), tf.float32), input_signature=[rows], autograph=False
        )
        self._rarest = None if task.name == "regression" else int(np.argmin(class_shares(sample.labels, loss.classes)))

    def look(self, between: Callable[[], None]) -> Seen | None:
        """The network as it is; None where an output or a loss is not finite. `between` is called after each chunk."""
        logits, train_logits = self.logits(self._validation, between), self.logits(self._train, between)
        if not (np.isfinite(logits).all() and np.isfinite(train_logits).all()):
            return None
        losses = self.losses(self._validation.labels, logits)
        if not np.isfinite(losses).all():
            return None
        scores = self._task.scores(logits)
        return Seen(
            monitor=monitored(self._task, self._validation.labels, scores),
            train_monitor=monitored(self._task, self._train.labels, self._task.scores(train_logits)),
            validation_loss=float(losses.mean()),
            validation_error=float(losses.std() / np.sqrt(len(losses))),
            sample_loss=float(self.losses(self._train.labels, train_logits).mean()),
            rare_recall=self._rare_recall(scores),
        )

    def train_loss(self, between: Callable[[], None]) -> float:
        """The loss on the training rows that are looked at."""
        return float(self.losses(self._train.labels, self.logits(self._train, between)).mean())

    def logits(self, rows: Rows, between: Callable[[], None]) -> NDArray[np.float32]:
        """float32 [n] or [n, classes]."""
        parts = []
        for start in range(0, len(rows), self._chunk):
            part = rows.take(slice(start, start + self._chunk))
            parts.append(self._logits(self.inputs(part)).numpy())
            between()
        return np.concatenate(parts)

    def inputs(self, rows: Rows) -> Tensors:
        """What the model takes of these rows."""
        return tensors(self._names, rows.encoded)

    def losses(self, labels: Labels, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """The loss of each row."""
        values: NDArray[np.float64] = self._loss.rows(labels, logits).numpy().astype(np.float64)
        return values

    def _rare_recall(self, scores: Scores) -> float | None:
        if self._rarest is None:
            return None
        chosen = scores >= 0.5 if self._task.name == "binary" else scores.argmax(axis=-1)
        of_it = self._validation.labels.astype(np.int64) == self._rarest
        return float((chosen[of_it] == self._rarest).mean()) if of_it.any() else None


def monitored(task: Task, labels: Labels, scores: Scores) -> float:
    """`task.monitor` on these rows; a ranking of one class alone is worth 0.5, chance."""
    match task.monitor:
        case "roc_auc":
            return float(roc_auc_score(labels, scores)) if len(np.unique(labels)) == 2 else 0.5
        case "log_loss":
            wide = scores.astype(np.float64)
            wide /= wide.sum(axis=1, keepdims=True)
            return float(log_loss(labels, wide, labels=np.arange(scores.shape[1])))
        case _:
            # Squares of float32 are infinite from 1.8e19 on, and nothing below 3e-23.
            return float(root_mean_squared_error(labels.astype(np.float64), scores.astype(np.float64)))


def some(rows: Rows, count: int, task: Task) -> Rows:
    """At most `count` rows, and one more of each class that would be left out."""
    return rows if count >= len(rows) else rows.take(evenly(rows.labels, count, task))


def evenly(labels: Labels, count: int, task: Task) -> Indices:
    """Rows evenly from all labels, ascending; at least one of every class."""
    order = np.argsort(labels, kind="stable")
    chosen = order[np.linspace(0, len(labels) - 1, min(count, len(labels))).astype(np.int64)]
    firsts = np.empty(0, np.int64) if task.name == "regression" else np.unique(labels, return_index=True)[1]
    return np.union1d(chosen, firsts).astype(np.int64)
