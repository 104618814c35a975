"""The preset `tabular`, and the two signatures that every exported model has.

Everything that turns a raw value into what the network sees is in the graph: imputation with an indicator,
normalisation, piecewise-linear encoding, category lookup. A client cannot forget a step.
"""

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from contract.features import FIRST_KNOWN, Encoder
from contract.manifest import CategoryFeature, NumberFeature
from training.rows import Rows
from training.sections import TabularModel

Tensor = Any  # keras.KerasTensor while building, tf.Tensor while running: neither has type information

OUTPUT = "probability"


@keras.saving.register_keras_serializable(package="hornpipe")
class NumberEncoding(keras.layers.Layer):  # type: ignore[misc]  # keras has no type information
    """float32 [n, F] with NaN for missing -> [n, F * (bins + 2)]: per number its standardised value, whether it is
    missing, and its piecewise-linear encoding.

    The encoding of x in the bins b_0 < ... < b_T is clip((x - b_{t-1}) / (b_t - b_{t-1}), 0, 1) for t = 1 ... T, with
    training quantiles as bins (Gorishniy, Rubachev, Babenko: On Embeddings for Numerical Features in Tabular Deep
    Learning, NeurIPS 2022, section 3.2.1), clipped at both ends so that a number far outside cannot blow up.
    A missing number is imputed by the training median.
    """

    def __init__(self, numbers: int, bins: int, **options: Any) -> None:  # noqa: ANN401  # Keras' own options
        super().__init__(**options)
        self.numbers = numbers
        self.bins = bins

        def fixed(name: str, *shape: int) -> Any:  # noqa: ANN401  # keras.Variable
            return self.add_weight(name=name, shape=shape, initializer="zeros", trainable=False)

        self.median, self.mean, self.scale = fixed("median", numbers), fixed("mean", numbers), fixed("scale", numbers)
        self.low, self.inverse_width = fixed("low", numbers, bins), fixed("inverse_width", numbers, bins)

    def fit(self, values: NDArray[np.float32]) -> None:
        """Take medians, means, scales and quantiles from training rows, float32 [n, F]."""
        self.median.assign(np.nanmedian(values, axis=0))
        self.mean.assign(np.nanmean(values, axis=0, dtype=np.float64))
        deviation = np.nanstd(values, axis=0, dtype=np.float64)
        self.scale.assign(1 / np.where(deviation > 0, deviation, 1))
        low, inverse_width = np.zeros((2, self.numbers, self.bins), np.float32)
        for i, column in enumerate(values.T):
            edges = np.unique(np.nanquantile(column, np.linspace(0, 1, self.bins + 1)).astype(np.float32))
            # Fewer distinct quantiles than bins: the rest stays at zero width, and is always 0.
            low[i, : len(edges) - 1] = edges[:-1]
            inverse_width[i, : len(edges) - 1] = 1 / np.diff(edges)
        self.low.assign(low)
        self.inverse_width.assign(inverse_width)

    def call(self, numbers: Tensor) -> Tensor:
        missing = keras.ops.isnan(numbers)
        known = keras.ops.where(missing, self.median, numbers)
        standardised = (known - self.mean) * self.scale
        within = (keras.ops.expand_dims(known, -1) - self.low) * self.inverse_width
        encoding = keras.ops.reshape(keras.ops.clip(within, 0.0, 1.0), (-1, self.numbers * self.bins))
        return keras.ops.concatenate([standardised, keras.ops.cast(missing, "float32"), encoding], axis=-1)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "numbers": self.numbers, "bins": self.bins}


def tabular(encoder: Encoder, train: Rows, section: TabularModel) -> keras.Model:
    """Packed inputs -> logits [n]. The output bias starts at the log-odds of the training labels."""
    inputs, parts = {}, []
    if encoder.number_features:
        inputs["numbers"] = keras.Input((len(encoder.number_features),), name="numbers")
        encoding = NumberEncoding(len(encoder.number_features), section.number_bins, name="number_encoding")
        encoding.fit(train.encoded.numbers)
        parts.append(encoding(inputs["numbers"]))
    if encoder.category_features:
        inputs["categories"] = keras.Input((len(encoder.category_features),), dtype="int32", name="categories")
        parts += [
            keras.layers.Embedding(FIRST_KNOWN + len(feature.vocabulary), section.category_width, name=f"embed_{i}")(
                inputs["categories"][:, i]
            )
            for i, feature in enumerate(encoder.category_features)
        ]
    hidden = keras.layers.Concatenate(name="inputs")(parts) if len(parts) > 1 else parts[0]
    for i, width in enumerate(section.hidden):
        hidden = keras.layers.Dense(width, activation="relu", kernel_initializer="he_normal", name=f"hidden_{i}")(
            hidden
        )
        hidden = keras.layers.Dropout(section.dropout, name=f"dropout_{i}")(hidden)
    bias = keras.initializers.Constant(_log_odds(train.labels))
    logits = keras.layers.Dense(1, bias_initializer=bias, name="logits")(hidden)
    return keras.Model(inputs, keras.ops.squeeze(logits, -1), name="tabular")


def with_probability(logits: keras.Model) -> keras.Model:
    """The same network with the named output that clients see."""
    return keras.Model(logits.input, {OUTPUT: keras.ops.sigmoid(logits.output)}, name="encoded")


def with_raw_inputs(encoded: keras.Model, encoder: Encoder) -> keras.Model:
    """The same network on named raw features: float32 [n] with NaN, or string [n] with "" for missing."""
    inputs, packed = {}, {}
    numbers, codes = [], []
    for feature in encoder.features:
        dtype = "string" if isinstance(feature, CategoryFeature) else "float32"
        inputs[feature.name] = keras.Input((), dtype=dtype, name=feature.name)
        if isinstance(feature, NumberFeature):
            numbers.append(inputs[feature.name])
        else:
            codes.append(keras.ops.cast(_lookup(feature)(inputs[feature.name]), "int32"))
    if numbers:
        packed["numbers"] = keras.ops.stack(numbers, axis=-1)
    if codes:
        packed["categories"] = keras.ops.stack(codes, axis=-1)
    return keras.Model(inputs, encoded(packed), name="raw")


def _lookup(feature: CategoryFeature) -> keras.layers.StringLookup:
    """String -> code as in contract.features: 0 unseen, 1 for "" (missing), then the vocabulary."""
    vocabulary = ["", *feature.vocabulary]
    return keras.layers.StringLookup(
        vocabulary=vocabulary, num_oov_indices=1, mask_token=None, name=f"{feature.name}_code"
    )


def _log_odds(labels: NDArray[np.float32]) -> float:
    share = float(np.clip(labels.mean(), 1e-3, 1 - 1e-3))
    return float(np.log(share / (1 - share)))
