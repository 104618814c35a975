"""All variables of a run as arrays, and back: for checkpoints, and to try something and undo it."""

from collections.abc import Sequence
from typing import Any

import keras

from training.errors import TrainingError
from training.loop.checkpoint import Arrays


class State:
    """Every variable that a step changes or that its result depends on: weights, moving statistics, random generators
    of layers, the optimizer's moments."""

    def __init__(self, model: keras.Model, others: Sequence[Any]) -> None:
        own = [variable.value for variable in model.variables]  # with the layers' random generators
        self._variables = [*own, *others]
        self._models = len(own)

    def arrays(self) -> Arrays:
        return [variable.numpy() for variable in self._variables]

    def model_arrays(self) -> Arrays:
        """Those of the model alone."""
        return [variable.numpy() for variable in self._variables[: self._models]]

    def restore(self, arrays: Arrays) -> None:
        """All of them, or the model's alone. Raises TrainingError where they are of another network."""
        variables = self._variables[: len(arrays)]
        if len(arrays) not in (len(self._variables), self._models) or any(
            tuple(variable.shape) != array.shape for variable, array in zip(variables, arrays, strict=True)
        ):
            raise TrainingError("the checkpoint is of another network than the config makes now: start with --fresh")
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
