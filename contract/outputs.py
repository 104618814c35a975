"""What a model answers, and what that means, as its manifest says it."""

from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from pydantic import FailFast, Field, FiniteFloat, model_validator

from contract.part import Part
from contract.signature import MOST_TENSORS, TensorSpec

MOST_CLASSES = 100_000

# The one number of an output that its drift is watched by: the probability of the positive class, the largest
# probability, the value.
SCORES = {"probability": "probability", "probabilities": "confidence", "value": "value"}

# What a model was trained for, by the name of its output.
TASKS = {"probability": "binary", "probabilities": "multiclass", "value": "regression", "tensors": "tensors"}


class BinaryOutput(Part):
    """The model's output `probability`, float32 [n]: of `positive`, which is the label from `threshold` on."""

    name: Literal["probability"] = "probability"
    dtype: Literal["float32"] = "float32"
    classes: tuple[str, str]
    positive: str
    threshold: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _positive_is_a_class(self) -> "BinaryOutput":
        if self.positive not in self.classes or self.classes[0] == self.classes[1]:
            raise ValueError(f"positive must be one of two different classes, got {self.positive!r} of {self.classes}")
        return self

    @cached_property
    def float32_threshold(self) -> float:
        """The threshold as the output's own type has it: a score is compared with this, everywhere."""
        return float(np.float32(self.threshold))

    @cached_property
    def negative(self) -> str:
        return next(name for name in self.classes if name != self.positive)


class MulticlassOutput(Part):
    """The model's output `probabilities`, float32 [n, classes]; the label is the class with the largest."""

    name: Literal["probabilities"] = "probabilities"
    dtype: Literal["float32"] = "float32"
    classes: Annotated[tuple[str, ...], Field(min_length=2, max_length=MOST_CLASSES), FailFast()]

    @model_validator(mode="after")
    def _classes_differ(self) -> "MulticlassOutput":
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("class names must differ")
        return self


class RegressionOutput(Part):
    """The model's output `value`, float32 [n], in the target's unit.

    `half_width` makes value - half_width .. value + half_width an interval that held `coverage` of the validation rows
    (split conformal prediction: Lei et al., Distribution-Free Predictive Inference for Regression, 2018, section 2.2).
    """

    name: Literal["value"] = "value"
    dtype: Literal["float32"] = "float32"
    minimum: FiniteFloat
    maximum: FiniteFloat
    half_width: FiniteFloat = Field(ge=0)
    coverage: float = Field(default=0.9, gt=0, lt=1)


class TensorsOutput(Part):
    """What an imported model answers, as it is."""

    name: Literal["tensors"] = "tensors"
    tensors: Annotated[tuple[TensorSpec, ...], Field(min_length=1, max_length=MOST_TENSORS), FailFast()]

    @model_validator(mode="after")
    def _are_rows(self) -> "TensorsOutput":
        if len({spec.name for spec in self.tensors}) != len(self.tensors):
            raise ValueError("output names must differ")
        if unbatched := [spec.name for spec in self.tensors if not spec.batched]:
            raise ValueError(f"the first dimension of every output must be the rows, -1: {', '.join(unbatched)}")
        return self


Output = Annotated[BinaryOutput | MulticlassOutput | RegressionOutput | TensorsOutput, Field(discriminator="name")]
