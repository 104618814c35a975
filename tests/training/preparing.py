"""Prepared rows made from arrays, for tests of what is built on them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from contract.features import Encoded, Encoder
from contract.manifest import CategoryFeature, Feature, ImageFeature, NumberFeature, TextFeature
from training.rows import InMemory, Prepared, Rows
from training.task import TASKS, TaskName

NUMBERS = (
    NumberFeature(name="x", required=False, minimum=-3, maximum=3, example=0),
    NumberFeature(name="y", required=True, minimum=0, maximum=1, example=0.5),
)
CATEGORY = CategoryFeature(name="c", required=False, vocabulary=("a", "b", "d"), example="a")
TEXTS = (
    TextFeature(name="title", required=True, example="a red fish"),
    TextFeature(name="body", required=False, example=""),
)
WORDS = ("red", "blue", "fish", "dog", "runs", "sleeps", "very", "one", "two")
CLASSES: dict[TaskName, tuple[str, ...]] = {"binary": ("no", "yes"), "multiclass": ("a", "b", "c"), "regression": ()}


def picture(height: int = 8, width: int = 8, channels: int = 1, dtype: str = "uint8") -> ImageFeature:
    return ImageFeature(name="picture", dtype=dtype, shape=(height, width, channels))


def encoded(features: Sequence[Feature], rows: int, seed: int = 0) -> Encoded:
    """Random rows of all kinds, with missing numbers, unseen and missing categories, empty texts."""
    random = np.random.default_rng(seed)
    kinds = [feature.kind for feature in features]
    numbers = random.normal(size=(rows, kinds.count("number"))).astype(np.float32)
    numbers[random.random(numbers.shape) < 0.1] = np.nan
    categories = random.integers(0, 5, (rows, kinds.count("category"))).astype(np.int32)
    image = next((feature for feature in features if isinstance(feature, ImageFeature)), None)
    pixels = None if image is None else random.integers(0, 256, (rows, *image.shape)).astype(image.dtype)
    texts = [
        [" ".join(random.choice(WORDS, random.integers(0, 6))) for kind in kinds if kind == "text"] for _ in range(rows)
    ]
    return Encoded(numbers, categories, pixels, np.array(texts, object) if "text" in kinds else None)


def labels(task: TaskName, rows: int, seed: int = 0) -> Any:
    random = np.random.default_rng(seed)
    match task:
        case "binary":
            return (random.random(rows) < 0.2).astype(np.float32)
        case "multiclass":
            return random.choice(3, rows, p=[0.6, 0.3, 0.1]).astype(np.int32)
        case "regression":
            return (5000 + 300 * random.normal(size=rows)).astype(np.float32)


def prepared(features: Sequence[Feature], task: TaskName = "binary", rows: int = 200) -> Prepared:
    """The same random rows for training, validation and test."""
    all_rows = Rows(encoded(features, rows), labels(task, rows))
    return Prepared(
        task=TASKS[task],
        encoder=Encoder(features),
        classes=CLASSES[task],
        train=InMemory(all_rows),
        sample=all_rows,
        validation=all_rows,
        test=all_rows,
        raw_test=lambda _: [],
        fingerprint="",
    )


def arrays(model: Any, given: Encoded) -> dict[str, Any]:
    """The tensors that a model has inputs for."""
    import tensorflow as tf

    return {name: tf.constant(getattr(given, name)) for name in model.input}
