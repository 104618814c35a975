"""What a network is built from: the packed inputs, the task, some training rows, and the last layer that suits them."""

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from contract.features import Encoder
from contract.manifest import Feature, ImageFeature, TextFeature
from training.rows import Rows
from training.task import Task

Tensor = Any  # keras.KerasTensor while building, tf.Tensor while running: neither has type information


@dataclass(frozen=True)
class ModelInputs:
    """What every preset and every builder is called with.

    `classes` are in the order of the labels, none for regression. `sample` are encoded training rows in memory, to fit
    scales and vocabularies to; validation and test rows are nowhere to be had.
    """

    task: Task
    classes: tuple[str, ...]
    encoder: Encoder
    sample: Rows

    @property
    def features(self) -> tuple[Feature, ...]:
        """What is known of each feature: kind, range or vocabulary, shape."""
        return self.encoder.features

    @property
    def image(self) -> ImageFeature | None:
        return next((feature for feature in self.features if isinstance(feature, ImageFeature)), None)

    @property
    def texts(self) -> tuple[TextFeature, ...]:
        return tuple(feature for feature in self.features if isinstance(feature, TextFeature))

    @property
    def outputs(self) -> int:
        """How many logits a row has: 1, or one a class."""
        return self.task.logits(len(self.classes))

    def packed(self) -> dict[str, Tensor]:
        """A new keras.Input for each kind of feature there is, by name.

        numbers float32 [n, F], NaN for missing; categories int32 [n, C], codes 0 unseen, 1 missing, 2 + i for
        vocabulary[i]; image [n, height, width, channels] of the feature's dtype, uint8 mostly, so let the first layer
        be one that takes integers, such as Rescaling; texts string [n, T], empty for missing.
        """
        shapes: dict[str, tuple[tuple[int, ...], str]] = {}
        if self.encoder.number_features:
            shapes["numbers"] = ((len(self.encoder.number_features),), "float32")
        if self.encoder.category_features:
            shapes["categories"] = ((len(self.encoder.category_features),), "int32")
        if self.image is not None:
            shapes["image"] = (self.image.shape, self.image.dtype)
        if self.texts:
            shapes["texts"] = ((len(self.texts),), "string")
        return {name: keras.Input(shape, dtype=dtype, name=name) for name, (shape, dtype) in shapes.items()}

    def logits(self, hidden: Tensor, suffix: str = "") -> Tensor:
        """float [n, width] -> logits float32 [n] or [n, classes]: the last layer, set to answer at first what the
        training labels say without looking at a row.

        Its bias starts at the log-odds, or at the logarithms of the class shares (Karpathy, A Recipe for Training
        Neural Networks, 2019: "init well"); a regression ends in mean + deviation * z, so that z is of the size of 1
        whatever the target's unit. Its weights start at a tenth of Glorot's, which keeps the first loss near that of
        the shares. `suffix` tells the layers of several such ends apart.
        """
        kernel = keras.initializers.VarianceScaling(scale=0.01, mode="fan_avg", distribution="uniform")
        bias = keras.initializers.Constant(self._bias().tolist())
        dense = keras.layers.Dense(
            self.outputs, kernel_initializer=kernel, bias_initializer=bias, dtype="float32", name=f"logits{suffix}"
        )(hidden)
        if self.task.name == "multiclass":
            return dense
        if self.task.name == "binary":
            return dense[:, 0]
        mean, deviation = target_scale(self.sample.labels)
        return keras.layers.Rescaling(deviation, mean, dtype="float32", name=f"unit{suffix}")(dense[:, 0])

    def _bias(self) -> NDArray[np.float64]:
        """Where the logits start, float64 [outputs]."""
        labels = self.sample.labels
        if self.task.name == "binary":
            share = float(np.clip(labels.mean(dtype=np.float64), 1e-3, 1 - 1e-3))
            return np.array([np.log(share / (1 - share))])
        if self.task.name == "multiclass":
            counts = np.bincount(labels, minlength=self.outputs) + 1.0  # a class may have no row in the sample
            logarithms: NDArray[np.float64] = np.log(counts / counts.sum())
            return logarithms
        return np.zeros(1)


def target_scale(labels: NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation of regression labels, the latter 1 where they are all the same."""
    deviation = float(labels.std(dtype=np.float64))
    return float(labels.mean(dtype=np.float64)), deviation if deviation > 0 else 1.0
