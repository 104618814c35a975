"""A moving average of the weights: less noise from the last steps than the weights themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import keras
import tensorflow as tf


class Averages:
    """Of the trainable weights. Momentum 0 is the weights themselves, at no cost.

    The momentum rises from 0.1 to `momentum` as min(momentum, (1 + t) / (10 + t)), so that the first average is not the
    initial weights (the rule of tf.train.ExponentialMovingAverage with num_updates).
    """

    def __init__(self, model: keras.Model, momentum: float) -> None:
        self._momentum = momentum
        self._weights = [variable.value for variable in model.trainable_variables] if momentum else []
        with model.distribute_strategy.scope():
            self._averages = [tf.Variable(weight) for weight in self._weights]
            self._steps = tf.Variable(0.0)

    @property
    def variables(self) -> list[Any]:
        """Everything that a checkpoint must hold."""
        return [*self._averages, self._steps]

    def update(self) -> None:
        """Take in the weights as they are now; part of the compiled step."""
        rest = 1 - tf.minimum(self._momentum, (1 + self._steps) / (10 + self._steps))
        for average, weight in zip(self._averages, self._weights, strict=True):
            average.assign_sub(rest * (average - weight))
        self._steps.assign_add(1.0)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model holds the averages within, and its own weights again afterwards."""
        own = [tf.identity(weight) for weight in self._weights]
        for weight, average in zip(self._weights, self._averages, strict=True):
            weight.assign(tf.identity(average))
        try:
            yield
        finally:
            for weight, value in zip(self._weights, own, strict=True):
                weight.assign(value)
