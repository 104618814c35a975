"""Rows as a table may come in production: measured badly, with values left out, with categories that are new."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.features import MISSING, UNSEEN, Encoded, Encoder
from contract.manifest import Feature, TextFeature

NOISES = (0.1, 0.5)
SHARES = (0.1, 0.5)


class Corruption(NamedTuple):
    """What was done to the rows, how strongly, in words, and the rows."""

    name: str
    strength: float
    detail: str
    encoded: Encoded


def corruptions(encoded: Encoded, encoder: Encoder, deviations: NDArray[np.float32], seed: int) -> Iterator[Corruption]:
    """Every way and strength that there are features for; the same rows for the same seed.

    `deviations` are the standard deviations of the numbers, float32 [F]. Only optional features go missing.
    """
    if encoded.numbers.shape[1]:
        for noise in NOISES:
            detail = f"normal noise of {noise:g} standard deviations on every number"
            yield Corruption("noise", noise, detail, _noisy(encoded, noise * deviations, seed))
    if not all(feature.required for feature in encoder.features):
        for share in SHARES:
            detail = f"{share:.0%} of the values of optional features missing"
            yield Corruption("missing", share, detail, _with_missing(encoded, encoder, share, seed))
    if encoded.categories.shape[1]:
        for share in SHARES:
            detail = f"{share:.0%} of the categories never seen in training"
            drawn = np.random.default_rng(seed).random(encoded.categories.shape) < share
            codes = np.where(drawn, np.int32(UNSEEN), encoded.categories)
            yield Corruption("unseen", share, detail, encoded._replace(categories=codes))


def _noisy(encoded: Encoded, scale: NDArray[np.float32], seed: int) -> Encoded:
    noise = np.random.default_rng(seed).normal(size=encoded.numbers.shape) * scale
    return encoded._replace(numbers=encoded.numbers + noise.astype(np.float32))


def _with_missing(encoded: Encoded, encoder: Encoder, share: float, seed: int) -> Encoded:
    random = np.random.default_rng(seed)

    def without(values: NDArray[Any], features: Sequence[Feature], missing: Any) -> NDArray[Any]:  # noqa: ANN401
        optional = np.array([not feature.required for feature in features], bool)
        return np.where((random.random(values.shape) < share) & optional, missing, values)

    texts = [feature for feature in encoder.features if isinstance(feature, TextFeature)]
    return encoded._replace(
        numbers=without(encoded.numbers, encoder.number_features, np.float32(np.nan)),
        categories=without(encoded.categories, encoder.category_features, np.int32(MISSING)),
        texts=None if encoded.texts is None else without(encoded.texts, texts, ""),
    )
