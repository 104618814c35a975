"""The preset `tabular`: numbers and categories, embedded, into a few small multilayer perceptrons that vote."""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from contract.features import FIRST_KNOWN
from training.presets.inputs import ModelInputs, Tensor
from training.sections import TabularModel
from training.task import TaskName

# A probability beyond which float32 cannot tell from 0 or 1 once it is a logit.
SMALLEST = 1e-6
# Below it the inverse of a float32 is infinite.
LEAST_WIDTH = float(np.finfo(np.float32).tiny)


@keras.saving.register_keras_serializable(package="hornpipe")
class NumberEncoding(keras.layers.Layer):  # type: ignore[misc]  # keras has no type information
    """float32 [n, F] with NaN for missing -> [n, 2 F + bins]: per number its standardised value and whether it is
    missing, then the piecewise-linear encodings of all of them, `bins` in all.

    The encoding of x in the bins b_0 < ... < b_T is clip((x - b_{t-1}) / (b_t - b_{t-1}), 0, 1) for t = 1 ... T, with
    training quantiles as bins (Gorishniy, Rubachev, Babenko: On Embeddings for Numerical Features in Tabular Deep
    Learning, NeurIPS 2022, section 3.2.1), clipped at both ends so that a number far outside cannot blow up. A number
    with few different values has few bins: columns that are always 0 would only make the first layer start too small.
    A missing number is imputed by the training median. Always in float32: float16 has no room for raw numbers.
    """

    def __init__(self, numbers: int, bins: int, **options: Any) -> None:  # noqa: ANN401  # Keras' own options
        super().__init__(**{"dtype": "float32"} | options)
        self.numbers = numbers
        self.bins = bins

        def fixed(name: str, size: int, dtype: str = "float32") -> Any:  # noqa: ANN401  # keras.Variable
            return self.add_weight(name=name, shape=(size,), initializer="zeros", trainable=False, dtype=dtype)

        self.median, self.mean, self.scale = fixed("median", numbers), fixed("mean", numbers), fixed("scale", numbers)
        self.low, self.inverse_width = fixed("low", bins), fixed("inverse_width", bins)
        self.number_of_bin = fixed("number_of_bin", bins, "int32")

    @classmethod
    def fitted(cls, values: NDArray[np.float32], most_bins: int, name: str | None = None) -> "NumberEncoding":
        """Medians, means, scales and quantiles of training rows, float32 [n, F]; at most `most_bins` a number."""
        edges = [quantiles(column, most_bins) for column in values.T]
        layer = cls(values.shape[1], sum(len(each) - 1 for each in edges), name=name)
        deviation = [_deviation(column) for column in values.T]
        layer.median.assign(np.nanmedian(values, axis=0))
        layer.mean.assign(np.nanmean(values, axis=0, dtype=np.float64))
        layer.scale.assign(1 / np.array(deviation))
        layer.low.assign(np.concatenate([each[:-1] for each in edges]))
        layer.inverse_width.assign(np.concatenate([1 / np.maximum(np.diff(each), LEAST_WIDTH) for each in edges]))
        layer.number_of_bin.assign(np.repeat(np.arange(len(edges), dtype=np.int32), [len(each) - 1 for each in edges]))
        return layer

    def call(self, numbers: Tensor) -> Tensor:
        missing = keras.ops.isnan(numbers)
        known = keras.ops.where(missing, self.median, numbers)
        standardised = (known - self.mean) * self.scale
        within = (keras.ops.take(known, self.number_of_bin, axis=1) - self.low) * self.inverse_width
        indicator = keras.ops.cast(missing, "float32")
        return keras.ops.concatenate([standardised, indicator, keras.ops.clip(within, 0.0, 1.0)], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "numbers": self.numbers, "bins": self.bins}


def _deviation(column: NDArray[np.float32]) -> float:
    """1 where there is none. In float64: NumPy's squares are of the array's type, whatever they are to be summed in."""
    found = float(np.nanstd(column.astype(np.float64)))
    return found if found > LEAST_WIDTH else 1.0


def quantiles(column: NDArray[np.float32], most_bins: int) -> NDArray[np.float32]:
    """The different ones of most_bins + 1 evenly spaced quantiles, ascending; one alone for a constant."""
    edges: NDArray[np.float32] = np.nanquantile(column, np.linspace(0, 1, most_bins + 1)).astype(np.float32)
    return np.unique(edges)


@keras.saving.register_keras_serializable(package="hornpipe")
class Together(keras.layers.Layer):  # type: ignore[misc]  # keras has no type information
    """Logits of several members, [n, members] or [n, members, classes] -> those of the mean of their answers, [n] or
    [n, classes]. In training they are left apart, and each has its own loss: trained on their mean, members would learn
    to lean on one another (Lee et al.: Why M Heads are Better than One, 2015, section 4)."""

    def __init__(self, task: TaskName, **options: Any) -> None:  # noqa: ANN401  # Keras' own options
        super().__init__(**{"dtype": "float32"} | options)
        self.task = task

    def call(self, logits: Tensor, training: bool | None = None) -> Tensor:
        if training:
            return logits
        match self.task:
            case "binary":
                mean = keras.ops.mean(keras.ops.sigmoid(logits), axis=1)
                mean = keras.ops.clip(mean, SMALLEST, 1 - SMALLEST)
                return keras.ops.log(mean) - keras.ops.log1p(-mean)
            case "multiclass":
                mean = keras.ops.mean(keras.ops.softmax(logits, axis=-1), axis=1)
                return keras.ops.log(keras.ops.maximum(mean, SMALLEST))
            case _:
                return keras.ops.mean(logits, axis=1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "task": self.task}


def build(inputs: ModelInputs, section: TabularModel) -> keras.Model:
    """Packed numbers and categories -> logits."""
    packed = inputs.packed()
    encoded = _encoded(packed, inputs, section)
    ends = [_member(encoded, f"_{member}", inputs, section) for member in range(section.members)]
    logits = Together(inputs.task.name, name="together")(keras.ops.stack(ends, axis=1)) if len(ends) > 1 else ends[0]
    return keras.Model(packed, logits, name="tabular")


def _member(hidden: Tensor, suffix: str, inputs: ModelInputs, section: TabularModel) -> Tensor:
    """A multilayer perceptron of its own on the shared encoding -> logits."""
    for i, width in enumerate(section.hidden):
        hidden = _dense(hidden, f"{i}{suffix}", width, section)
        hidden = keras.layers.Dropout(section.dropout, name=f"dropout_{i}{suffix}")(hidden)
    return inputs.logits(hidden, suffix)


def _encoded(packed: dict[str, Tensor], inputs: ModelInputs, section: TabularModel) -> Tensor:
    """All encodings and embeddings side by side, float32 [n, width]."""
    parts = []
    if "numbers" in packed:
        numbers = inputs.sample.encoded.numbers
        encoding = NumberEncoding.fitted(numbers, section.number_bins, name="number_encoding")
        parts.append(encoding(packed["numbers"]))
    for i, feature in enumerate(inputs.encoder.category_features):
        codes = FIRST_KNOWN + len(feature.vocabulary)
        embedding = keras.layers.Embedding(codes, section.category_width, name=f"embed_{i}")
        parts.append(embedding(packed["categories"][:, i]))
    return keras.layers.Concatenate(name="inputs")(parts) if len(parts) > 1 else parts[0]


def _dense(hidden: Tensor, i: str, width: int, section: TabularModel) -> Tensor:
    dense = keras.layers.Dense(
        width,
        activation=None if section.batch_normalization else "silu",
        use_bias=not section.batch_normalization,
        kernel_initializer="he_normal",
        name=f"hidden_{i}",
    )
    if not section.batch_normalization:
        return dense(hidden)
    normalised = keras.layers.BatchNormalization(name=f"normalisation_{i}")(dense(hidden))
    return keras.layers.Activation("silu", name=f"silu_{i}")(normalised)
