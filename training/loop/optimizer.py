"""AdamW: Adam with decoupled weight decay, and the scaling of the loss that float16 needs.

Keras' optimizers take some twenty small operations a variable for what TensorFlow has as one fused kernel, and clip
before they add up the gradients of several devices; the formulas are the same (the tests compare them).
"""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

Tensor = Any  # tf.Tensor has no type information

MOMENTUM, SECOND_MOMENTUM, EPSILON = 0.9, 0.999, 1e-7
NOT_DECAYED = frozenset({"bias", "gamma", "beta"})


class AdamW:
    """Loshchilov and Hutter: Decoupled Weight Decay Regularization, 2019, algorithm 2, with the decay scaled by the
    learning rate. Biases and the weights of normalisations are not decayed. `clip_norm` bounds the global norm of the
    gradients (Pascanu, Mikolov, Bengio 2013, algorithm 1)."""

    def __init__(self, model: keras.Model, weight_decay: float, clip_norm: float | None) -> None:
        self.trained = model.trainable_variables
        self._decay, self._clip_norm = weight_decay, clip_norm
        with model.distribute_strategy.scope():
            self._moments = [_zeros_beside(variable) for variable in self.trained]
            self._second_moments = [_zeros_beside(variable) for variable in self.trained]
            self._steps = tf.Variable(0.0)

    @property
    def variables(self) -> list[Any]:
        """Everything that a checkpoint must hold."""
        return [*self._moments, *self._second_moments, self._steps]

    def apply(self, gradients: Sequence[Tensor], rate: Tensor) -> None:
        """One step along dense gradients, in the order of the model's trainable variables; `rate` is a scalar."""
        if self._clip_norm is not None:
            gradients, _ = tf.clip_by_global_norm(gradients, self._clip_norm)
        self._steps.assign_add(1.0)
        powers = tf.pow(MOMENTUM, self._steps), tf.pow(SECOND_MOMENTUM, self._steps)
        slots = zip(self.trained, self._moments, self._second_moments, gradients, strict=True)
        for variable, moment, second_moment, gradient in slots:
            weight = variable.value
            if self._decay and _is_decayed(variable):
                weight.assign_sub(weight * (rate * self._decay))
            tf.raw_ops.ResourceApplyAdam(
                var=weight.handle,
                m=moment.handle,
                v=second_moment.handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=rate,
                beta1=MOMENTUM,
                beta2=SECOND_MOMENTUM,
                epsilon=EPSILON,
                grad=gradient,
            )


class LossScale:
    """Multiplies the loss so that small gradients do not vanish in float16, and divides the gradients again; a step
    whose gradients overflow is left out and the scale halved, after 2000 sound ones it doubles (Micikevicius et al.:
    Mixed Precision Training, ICLR 2018, section 3.2; the numbers are those of Keras' LossScaleOptimizer)."""

    INITIAL, SOUND_STEPS = 2.0**15, 2000

    def __init__(self, model: keras.Model) -> None:
        self.needed = any(layer.compute_dtype == "float16" for layer in model._flatten_layers())
        with model.distribute_strategy.scope():
            self._scale = tf.Variable(self.INITIAL if self.needed else 1.0)
            self._sound = tf.Variable(0)

    @property
    def variables(self) -> list[Any]:
        """Everything that a checkpoint must hold."""
        return [self._scale, self._sound]

    def scale(self, loss: Tensor) -> Tensor:
        return loss * self._scale if self.needed else loss

    def apply(self, optimizer: AdamW, gradients: Sequence[Tensor], rate: Tensor) -> None:
        """Let the optimizer make a step along the gradients of the scaled loss, where they are finite."""
        if not self.needed:
            optimizer.apply(gradients, rate)
            return
        gradients = [gradient / self._scale for gradient in gradients]
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients])
        tf.cond(finite, lambda: self._step(optimizer, gradients, rate), self._back_off)

    def _step(self, optimizer: AdamW, gradients: Sequence[Tensor], rate: Tensor) -> Tensor:
        optimizer.apply(gradients, rate)
        grown = self._sound + 1 >= self.SOUND_STEPS
        self._scale.assign(tf.where(grown, self._scale * 2, self._scale))
        self._sound.assign(tf.where(grown, 0, self._sound + 1))
        return tf.constant(True)

    def _back_off(self) -> Tensor:
        self._scale.assign(tf.maximum(self._scale / 2, 1.0))
        self._sound.assign(0)
        return tf.constant(False)


def _zeros_beside(variable: keras.Variable) -> Any:  # noqa: ANN401  # tf.Variable has no type information
    return tf.Variable(tf.zeros(variable.shape, variable.dtype))


def _is_decayed(variable: keras.Variable) -> bool:
    return variable.name not in NOT_DECAYED and len(variable.shape) > 1
