"""The compiled training step: many of them in one call, over data that lies in TensorFlow's memory.

No step returns to Python, and the data are arguments: every block goes through the one compiled function.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from training.evaluation.adversarial import Attackable, Scales, perturb
from training.loop.ahead import Batches, row_spec
from training.loop.averages import Averages
from training.loop.loss import Loss
from training.loop.optimizer import AdamW, LossScale
from training.sections import AdversarialSection

Tensor = Any  # tf.Tensor has no type information


@dataclass(frozen=True)
class Adversary:
    """What adversarial training needs; `seed` and the step's number make the random start of an attack."""

    section: AdversarialSection
    attackable: Attackable
    scales: Scales
    seed: int


class Steps:
    """Trains a model on batches of a block. On several devices each takes its part of every batch; the gradients are
    added up, so that the step is the one that a single device would make."""

    def __init__(
        self,
        model: keras.Model,
        loss: Loss,
        optimizer: AdamW,
        averages: Averages,
        adversary: Adversary | None = None,
    ) -> None:
        self._model, self._loss, self._optimizer, self._averages = model, loss, optimizer, averages
        self._adversary = adversary
        self._scale = LossScale(model)
        self._strategy = model.distribute_strategy
        self._devices = self._strategy.num_replicas_in_sync
        self._compiled: Callable[..., Any] | None = None

    @property
    def variables(self) -> list[Any]:
        """All that a step changes, but for the model's own."""
        return [*self._optimizer.variables, *self._averages.variables, *self._scale.variables]

    def trace(self, batches: Batches) -> None:
        """Build the graph for blocks such as this one. Seconds of Python that change nothing; the first run does it
        where this was not called."""
        if self._compiled is None:
            compiled = tf.function(self._run, input_signature=_signature(batches), autograph=False)
            compiled.get_concrete_function()
            self._compiled = compiled

    def run(self, batches: Batches, step: int, rates: NDArray[np.float32]) -> NDArray[np.float32]:
        """One step for each learning rate, from `step` on. The loss of each, float32 [steps]."""
        self.trace(batches)
        first = step - batches.start
        rows = batches.rows[first : first + len(rates)]
        numbers = np.arange(step, step + len(rates), dtype=np.int32)
        assert self._compiled is not None  # noqa: S101  # narrows the type
        losses: NDArray[np.float32] = self._compiled(batches.inputs, batches.labels, rows, rates, numbers).numpy()
        return losses

    def _run(self, inputs: dict[str, Tensor], labels: Tensor, rows: Tensor, rates: Tensor, numbers: Tensor) -> Tensor:
        steps = tf.shape(rates)[0]

        def step(i: Tensor, losses: Tensor) -> tuple[Tensor, Tensor]:
            shares = self._strategy.run(self._step, args=(inputs, labels, rows[i], rates[i], numbers[i]))
            return i + 1, losses.write(i, self._strategy.reduce("SUM", shares, axis=None))

        losses = tf.TensorArray(tf.float32, size=steps)
        _, losses = tf.while_loop(lambda i, _: i < steps, step, (0, losses), parallel_iterations=1)
        return losses.stack()

    def _step(self, inputs: dict[str, Tensor], labels: Tensor, rows: Tensor, rate: Tensor, number: Tensor) -> Tensor:
        """On one device; the device's share of the loss."""
        rows = self._own(rows)
        batch = {name: tf.gather(tensor, rows) for name, tensor in inputs.items()}
        with tf.GradientTape() as tape:
            loss = self._objective(batch, tf.gather(labels, rows), number) / self._devices
            scaled = self._scale.scale(loss)
        weights = [variable.value for variable in self._optimizer.trained]
        gradients = tape.gradient(scaled, weights, unconnected_gradients="zero")
        # Those of embeddings come sparse, with a row for each use; Keras' Adam, too, treats them as dense.
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        if self._devices > 1:
            gradients = tf.distribute.get_replica_context().all_reduce("SUM", gradients)
        self._scale.apply(self._optimizer, gradients, rate)
        self._averages.update()
        return loss

    def _own(self, rows: Tensor) -> Tensor:
        """This device's part of a batch."""
        if self._devices == 1:
            return rows
        each = rows.shape[0] // self._devices
        device = tf.distribute.get_replica_context().replica_id_in_sync_group
        part = tf.slice(rows, [device * each], [each])
        return tf.ensure_shape(part, [each])

    def _objective(self, batch: dict[str, Tensor], labels: Tensor, number: Tensor) -> Tensor:
        """The mean loss, with what the model's own layers add to it (weight regularisers)."""
        clean = self._adversary is None
        loss = self._clean(batch, labels) if clean else self._adversarial(batch, labels, number)
        return tf.add_n([loss, *(tf.cast(own, tf.float32) for own in self._model.losses)])

    def _clean(self, batch: dict[str, Tensor], labels: Tensor) -> Tensor:
        return self._loss(labels, self._model(batch, training=True))

    def _adversarial(self, batch: dict[str, Tensor], labels: Tensor, number: Tensor) -> Tensor:
        """The loss of a batch and of its perturbation, in shares (Goodfellow et al. 2015, section 6)."""
        adversary = self._adversary
        assert adversary is not None  # noqa: S101  # narrows the type
        section, network = adversary.section, adversary.attackable.network
        seen = adversary.attackable.prepare(batch, True)
        seed = tf.stack([tf.constant(adversary.seed, tf.int32), number])
        attacked = perturb(
            lambda inputs: network(inputs, training=False), self._loss, seen, labels, section, adversary.scales, seed
        )
        attacked = {name: tf.stop_gradient(tensor) for name, tensor in attacked.items()}
        perturbed = self._loss(labels, network(attacked, training=True))
        if section.share == 1:
            return perturbed
        return section.share * perturbed + (1 - section.share) * self._loss(labels, network(seen, training=True))


def _signature(batches: Batches) -> list[Any]:
    """Blocks of any number of rows, any number of batches of one size."""
    return [
        {name: row_spec(tensor) for name, tensor in batches.inputs.items()},
        row_spec(batches.labels),
        tf.TensorSpec([None, batches.rows.shape[1]], tf.int64),
        tf.TensorSpec([None], tf.float32),
        tf.TensorSpec([None], tf.int32),
    ]
