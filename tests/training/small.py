"""Small data, networks and configs for tests of the loop, and a listener that remembers."""

from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np

from contract.features import Encoded, Encoder
from contract.manifest import CategoryFeature, NumberFeature
from training import config
from training.diagnosis.signals import Evaluation, Probe
from training.rows import InMemory, Prepared, Rows
from training.sections import AdversarialSection, TrainingConfig
from training.task import TASKS, TaskName

ENCODER = Encoder(
    [
        NumberFeature(name="x", required=True, minimum=-3, maximum=3, example=0),
        NumberFeature(name="z", required=True, minimum=-3, maximum=3, example=0),
        CategoryFeature(name="c", required=True, vocabulary=("a", "b", "d"), example="a"),
    ]
)
CLASSES = {"binary": ("no", "yes"), "multiclass": ("low", "middle", "high"), "regression": ()}


def rows(count: int, seed: int, task: TaskName = "binary", noise: float = 0.3) -> Rows:
    """What x means depends on the category: no single feature says anything."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(count, 2)).astype(np.float32)
    codes = random.integers(2, 5, (count, 1)).astype(np.int32)
    value = np.where(codes[:, 0] == 2, 1, -1) * numbers[:, 0] + noise * random.normal(size=count)
    labels: Any = {
        "binary": (value > 0).astype(np.float32),
        "multiclass": np.digitize(value, [-0.5, 0.5]).astype(np.int32),
        "regression": (100 + 40 * value).astype(np.float32),
    }[task]
    return Rows(Encoded(numbers, codes), labels)


@dataclass(frozen=True)
class InBlocks:
    """The same rows in several blocks, in an order that differs from epoch to epoch."""

    all: Rows
    size: int

    @property
    def rows(self) -> int:
        return len(self.all)

    def order(self, seed: int, epoch: int) -> list[tuple[int, ...]]:
        starts = np.arange(0, len(self.all), self.size)
        return [(int(start),) for start in np.random.default_rng((seed, epoch)).permutation(starts)]

    def load(self, block: tuple[int, ...]) -> Rows:
        return self.all.take(slice(block[0], block[0] + self.size))

    def rows_in(self, block: tuple[int, ...]) -> int:
        return min(self.size, len(self.all) - block[0])


def prepared(task: TaskName = "binary", count: int = 2000, block: int | None = None, noise: float = 0.3) -> Prepared:
    train = rows(count, 1, task, noise)
    return Prepared(
        task=TASKS[task],
        encoder=ENCODER,
        classes=CLASSES[task],
        train=InMemory(train) if block is None else InBlocks(train, block),
        sample=train,
        validation=rows(500, 2, task, noise),
        test=rows(500, 3, task, noise),
        raw_test=lambda chosen: [],
        fingerprint="f" * 64,
    )


def settings(task: TaskName = "binary", **training: Any) -> TrainingConfig:
    """A config for these data."""
    defaults = {"epochs": 6, "batch_size": 64, "evaluations_per_epoch": 2, "patience": 100, "learning_rate": 1e-2}
    return config.parse(
        {
            "name": "small",
            "task": task,
            "data": {"path": "nowhere", "target": "y"} | ({"positive": "yes"} if task == "binary" else {}),
            "split": {"by": "random"},
            "features": {"x": "number", "z": "number", "c": "category"},
            "training": defaults | training,
        }
    )


def adversarial(**values: Any) -> AdversarialSection:
    return AdversarialSection(**values)


def network(
    task: TaskName = "binary", width: int = 32, dropout: float = 0.0, normalised: bool = False, seed: int = 0
) -> keras.Model:
    """Packed inputs -> logits."""
    keras.utils.set_random_seed(seed)
    numbers = keras.Input((2,), name="numbers")
    categories = keras.Input((1,), dtype="int32", name="categories")
    embedded = keras.layers.Flatten()(keras.layers.Embedding(5, 4)(categories))
    hidden = keras.layers.Concatenate()([numbers, embedded])
    for _ in range(2):
        hidden = keras.layers.Dense(width, activation="relu")(hidden)
        if normalised:
            hidden = keras.layers.BatchNormalization()(hidden)
        hidden = keras.layers.Dropout(dropout)(hidden)
    logits = keras.layers.Dense(3 if task == "multiclass" else 1, dtype="float32")(hidden)
    if task == "regression":
        logits = keras.layers.Rescaling(40.0, 100.0, dtype="float32")(logits)
    if task != "multiclass":
        logits = keras.ops.squeeze(logits, -1)
    return keras.Model({"numbers": numbers, "categories": categories}, logits)


@dataclass
class Heard:
    """Everything that a listener is told."""

    steps: list[int] = field(default_factory=list)
    evaluations: list[Evaluation] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def on_steps(self, count: int, loss: float) -> None:
        self.steps.append(count)

    def on_evaluation(self, evaluation: Evaluation) -> None:
        self.evaluations.append(evaluation)

    def on_probe(self, probe: Probe) -> None:
        self.probes.append(probe)

    def on_note(self, text: str) -> None:
        self.notes.append(text)
