"""A small training loop that records what the real one records, for networks that are sick on purpose."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.diagnosis.probe import Prober
from training.diagnosis.signals import Evaluation, Facts, Probe, Record
from training.task import TASKS, TaskName

PROBES, WINDOWS = 24, 60
Build = Callable[[], keras.Model]


@dataclass(frozen=True)
class Data:
    """Rows to train on and to validate with; `inputs` is float32 [n, d] (or what the network takes)."""

    train: tuple[NDArray[Any], NDArray[Any]]
    validation: tuple[NDArray[Any], NDArray[Any]]

    @property
    def width(self) -> int:
        return int(self.train[0].shape[1])


@dataclass
class Run:
    """One training run; `record()` is what it has recorded, also in the middle of it."""

    build: Build
    data: Data
    task: TaskName = "binary"
    learning_rate: float = 2e-3
    optimizer: str = "adam"
    epochs: int = 10
    batch: int = 32
    clip_norm: float | None = None
    weight_decay: float = 0.0
    weigh_classes: bool = False
    patience: int = 1000
    evaluate_every: int = 1
    waits: float = 0.0
    seed: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    rollbacks: list[int] = field(default_factory=list)
    stopped: str = "running"
    facts: Facts | None = None

    def record(self) -> Record:
        return Record(
            facts=self.facts,
            losses=tuple(self.losses),
            probes=tuple(self.probes),
            evaluations=tuple(self.evaluations),
            rollbacks=tuple(self.rollbacks),
            stopped=self.stopped,
        )

    def train(self) -> Record:
        """Steps one by one, with a probe now and then; on NaN back to the last good weights with half the rate."""
        keras.utils.set_random_seed(self.seed)
        self.model = self.build()
        self._start()
        order = np.random.default_rng(self.seed)
        step, window = 0, []
        for epoch in range(1, self.epochs + 1):
            seen = []
            for rows in order.permutation(self.rows)[: self.steps * self.batch].reshape(self.steps, self.batch):
                step += 1
                probed = step <= 2 or step % self.probe_every == 0
                loss = self._step(rows, step, probed)
                if not np.isfinite(loss):
                    if not self._roll_back(step):
                        return self.record()
                    continue
                seen.append(loss)
                window.append(loss)
                if len(window) == self.window:
                    self.losses.append((step, float(np.mean(window))))
                    window = []
            if epoch % self.evaluate_every == 0 and self._evaluate(step, epoch, seen) > self.patience:
                self.stopped = "patience"
                return self.record()
        self.stopped = "finished"
        return self.record()

    def _start(self) -> None:
        self.loss = self._loss()
        self.inputs, self.labels = map(tf.constant, self.data.train)
        self.rows = len(self.data.train[1])
        self.batch = min(self.batch, self.rows)
        self.steps = self.rows // self.batch
        self.probe_every = max(1, self.steps * self.epochs // PROBES)
        self.window = max(1, self.steps * self.epochs // WINDOWS)
        self.prober = Prober(self.model, TASKS[self.task], self.loss)
        self.weights = [variable.value for variable in self.model.trainable_variables]
        self.moments = [(tf.Variable(tf.zeros_like(w)), tf.Variable(tf.zeros_like(w))) for w in self.weights]
        self.rate, self.done = tf.Variable(self.learning_rate), tf.Variable(0.0)
        self.compiled = tf.function(self._update, autograph=False)
        self.forward = tf.function(lambda inputs: self.model(inputs, training=False), autograph=False)
        self.good = self.model.get_weights()
        self.facts = self._facts()

    def _loss(self) -> Callable[[Any, Any], Any]:
        weights = tf.constant(1.0)
        if self.weigh_classes:
            shares = np.bincount(self.data.train[1].astype(int)) / len(self.data.train[1])
            weights = tf.constant(1 / shares / len(shares), tf.float32)

        def loss(labels: Any, logits: Any) -> Any:
            match self.task:
                case "binary":
                    rows = tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)
                case "multiclass":
                    rows = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
                case _:
                    rows = tf.square(labels - logits)
            return rows * tf.gather(weights, tf.cast(labels, tf.int32)) if self.weigh_classes else rows

        return loss

    def _facts(self) -> Facts:
        labels = self.data.train[1]
        shares = () if self.task == "regression" else np.bincount(labels.astype(int)) / len(labels)
        sample = self._sample()
        mean, deviation = self.prober.input_scales(sample[0])
        if self.task == "regression":
            base = float(np.var(labels))
        else:
            weighed = shares * 0 + 1 if self.weigh_classes else shares
            logits = np.log(weighed[1] / weighed[0]) if self.task == "binary" else np.log(weighed)
            base = float(np.mean(self.loss(sample[1], tf.broadcast_to(tf.constant(logits, tf.float32), self._shape()))))
        return Facts(
            task=self.task,
            metric=TASKS[self.task].monitor,
            train_rows=self.rows,
            class_shares=tuple(shares),
            class_weights=self.weigh_classes,
            initial_loss=float(np.mean(self.loss(sample[1], self.forward(sample[0])))),
            base_loss=base,
            input_mean=mean,
            input_deviation=deviation,
            steps=self.steps * self.epochs,
            steps_per_epoch=self.steps,
            preset="builder",
            split="random",
            clip_norm=self.clip_norm,
        )

    def _shape(self) -> list[int]:
        rows = len(self._sample()[1])
        return [rows, int(self.data.train[1].max()) + 1] if self.task == "multiclass" else [rows]

    def _sample(self) -> tuple[Any, Any]:
        count = min(self.rows, len(self.data.validation[1]))
        return self.inputs[:count], self.labels[:count]

    def _update(self, inputs: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self.loss(labels, self.model(inputs, training=True)))
        gradients = tape.gradient(loss, self.weights)
        if self.clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self.clip_norm)
        self.done.assign_add(1.0)
        for weight, gradient, moments in zip(self.weights, gradients, self.moments, strict=True):
            change = self._adam(gradient, *moments) if self.optimizer == "adam" else gradient
            weight.assign_sub(self.rate * (change + self.weight_decay * weight))
        return loss

    def _adam(self, gradient: Any, mean: Any, square: Any) -> Any:
        """Kingma and Ba, ICLR 2015, algorithm 1. (That of Keras takes half a second to trace, sixty times.)"""
        mean.assign(0.9 * mean + 0.1 * gradient)
        square.assign(0.999 * square + 0.001 * tf.square(gradient))
        return mean / (1 - 0.9**self.done) / (tf.sqrt(square / (1 - 0.999**self.done)) + 1e-7)

    def _step(self, rows: NDArray[np.int64], step: int, probed: bool) -> float:
        batch = tf.gather(self.inputs, rows), tf.gather(self.labels, rows)
        if probed:
            self.prober.before(*batch)
        loss = float(self.compiled(*batch))
        if probed:
            self.probes.append(self.prober.after(step, loss, float(self.rate), self.waits))
        return loss

    def _roll_back(self, step: int) -> bool:
        if len(self.rollbacks) == 3:
            self.stopped = "diverged"
            return False
        self.rollbacks.append(step)
        self.model.set_weights(self.good)
        for moment in (moment for both in self.moments for moment in both):
            moment.assign(tf.zeros_like(moment))
        self.done.assign(0.0)
        self.rate.assign(self.rate / 2)
        return True

    def _evaluate(self, step: int, epoch: int, seen: list[float]) -> int:
        inputs, labels = self.data.validation
        rows = np.asarray(self.loss(labels, self.forward(inputs)), np.float64)
        sample = self._sample()
        sample_loss = float(np.mean(self.loss(sample[1], self.forward(sample[0]))))
        best = not self.evaluations or rows.mean() < min(each.validation_loss for each in self.evaluations)
        if np.isfinite(rows.mean()):
            self.good = self.model.get_weights()
        self.evaluations.append(
            Evaluation(
                step=step,
                epoch=float(epoch),
                train_loss=float(np.mean(seen)) if seen else float("nan"),
                validation_loss=float(rows.mean()),
                validation_error=float(rows.std() / np.sqrt(len(rows))),
                sample_loss=sample_loss,
                monitor=float(rows.mean()),
                train_monitor=sample_loss,
                learning_rate=float(self.rate),
                best=bool(best),
                rare_recall=self._rare_recall(),
            )
        )
        losses = [each.validation_loss for each in self.evaluations]
        return len(losses) - 1 - int(np.argmin(losses))

    def _rare_recall(self) -> float | None:
        if self.task == "regression":
            return None
        rarest = int(np.argmin(self.facts.class_shares))
        inputs, labels = self.data.validation
        logits = self.forward(inputs).numpy()
        given = (logits > 0).astype(int) if self.task == "binary" else logits.argmax(axis=-1)
        return float((given[labels == rarest] == rarest).mean())
