"""Rows a second of the training loop beside Keras' `fit` on arrays and on tf.data, and one compiled step on one batch.

    python -m examples.flights.prepare build/flights    # once
    python -m benchmarks.training                       # about five minutes; writes benchmarks/TRAINING.md

All sides train the same network on the same rows with the same optimizer, averaging and batch, in one process. They
take turns, an epoch each, so that a busy neighbour slows all of them; medians are compared. The loop is that of
`hornpipe train` with all it records and writes; nobody evaluates (the loop: on 64 rows, once an epoch).
"""

import os

os.environ |= {"CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}

import argparse
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from training import config, data, fit, model
from training.listener import Silent
from training.loop import devices, loss
from training.loop.ahead import Batches, label_tensor, tensors
from training.loop.averages import Averages
from training.loop.course import Course
from training.loop.monitor import some
from training.loop.optimizer import AdamW
from training.loop.run import Run
from training.loop.step import Steps
from training.rows import Prepared
from training.sections import TrainingConfig

OUT = Path(__file__).with_name("TRAINING.md")
OURS, RESIDENT = "hornpipe", "the same step on one resident batch"
GOALS = {"Keras fit on arrays": 1.3, "Keras fit on tf.data": 1.1, RESIDENT: 0.9}
NETWORKS = {
    "The preset: 4 members of 128, 128, 128": {},
    "One member of 256, 256, 256": {"members": 1, "hidden": [256, 256, 256]},
    "Small: one member of 32": {"members": 1, "hidden": [32]},
}
BATCH = 1024
SHUFFLED, STEPS_AN_EXECUTION = 10_000, 32

Train = Callable[[], Any]


class Side:
    """One way to train: `epoch` makes all steps of one and comes back when they are done."""

    def __init__(self, name: str, epoch: Train) -> None:
        self.name, self._epoch = name, epoch
        self.wall: list[float] = []
        self.processor: list[float] = []
        epoch()  # compiles

    def round(self, rows: int) -> None:
        clock = Clock()
        self._epoch()
        self.taken(rows, clock)

    def taken(self, rows: int, clock: "Clock") -> None:
        """Rows a second of the wall clock, and of the processor."""
        wall, processor = clock.read()
        self.wall.append(rows / wall)
        self.processor.append(rows / processor)


class Clock:
    """Seconds since it was made, of the wall and of the processor."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        return time.perf_counter() - self._wall, time.process_time() - self._processor


class Turns(Silent):
    """Listens to the loop, and after each of its epochs lets the others have theirs."""

    def __init__(self, others: list[Side], steps: int, batch: int) -> None:
        self.ours = Side(OURS, lambda: None)
        self._others, self._steps, self._batch = others, steps, batch
        self._done, self._first = 0, True
        self._clock = Clock()

    def on_steps(self, count: int, loss: float) -> None:
        del loss
        self._done += count
        if self._done < self._steps:
            return
        if not self._first:  # that one compiled
            self.ours.taken(self._done * self._batch, self._clock)
            for side in self._others:
                side.round(self._steps * self._batch)
        self._done, self._first, self._clock = 0, False, Clock()


def build(prepared: Prepared, settings: TrainingConfig) -> keras.Model:
    with devices.building(settings.training):
        return model.build(prepared, settings.model)


def compiled(prepared: Prepared, settings: TrainingConfig, steps_per_execution: int = 1) -> keras.Model:
    """For `fit`: with an average of the weights, as the loop has one."""
    network, section = build(prepared, settings), settings.training
    optimizer = keras.optimizers.AdamW(
        section.learning_rate, weight_decay=section.weight_decay, use_ema=True, ema_momentum=section.averaging
    )
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    ours = loss.of(section, prepared)

    def rows(labels: Any, logits: Any) -> Any:
        return ours.rows(tf.reshape(labels, [-1]), logits)

    network.compile(optimizer, rows, steps_per_execution=steps_per_execution)
    return network


def fit_on_arrays(prepared: Prepared, settings: TrainingConfig, rows: int) -> Train:
    network = compiled(prepared, settings)
    arrays = {name: getattr(prepared.sample.encoded, name)[:rows] for name in network.input}
    labels = prepared.sample.labels[:rows]
    return lambda: network.fit(arrays, labels, batch_size=settings.training.batch_size, shuffle=True, verbose=0)


def fit_on_tf_data(prepared: Prepared, settings: TrainingConfig, rows: int, steps_per_execution: int = 1) -> Train:
    network = compiled(prepared, settings, steps_per_execution)
    arrays = {name: getattr(prepared.sample.encoded, name)[:rows] for name in network.input}
    source = tf.data.Dataset.from_tensor_slices((arrays, prepared.sample.labels[:rows]))
    batches = source.shuffle(SHUFFLED).batch(settings.training.batch_size, drop_remainder=True)
    return lambda: network.fit(batches.prefetch(tf.data.AUTOTUNE), shuffle=False, verbose=0)


def resident_batch(prepared: Prepared, settings: TrainingConfig, steps: int) -> Train:
    """What the loop could reach if reading, recording and returning to Python cost nothing."""
    section = settings.training
    network = build(prepared, settings)
    optimizer = AdamW(network, section.weight_decay, section.clip_norm)
    compiled_steps = Steps(network, loss.of(section, prepared), optimizer, Averages(network, section.averaging))
    rows = prepared.sample.take(slice(0, section.batch_size))
    every = np.tile(np.arange(section.batch_size), (steps, 1))
    batches = Batches((), tensors(list(network.input), rows.encoded), label_tensor(rows.labels), every, 0)
    rates = np.full(steps, section.learning_rate, np.float32)
    return lambda: compiled_steps.run(batches, 0, rates)


def measure(prepared: Prepared, settings: TrainingConfig, folder: Path) -> list[Side]:
    """All sides, with a value for each epoch but the first."""
    course = Course(prepared.train, settings.training)
    steps, rows = course.steps_per_epoch, course.steps_per_epoch * course.batch
    others = [
        Side("Keras fit on arrays", fit_on_arrays(prepared, settings, rows)),
        Side("Keras fit on tf.data", fit_on_tf_data(prepared, settings, rows)),
        Side(
            f"the same, {STEPS_AN_EXECUTION} steps an execution",
            fit_on_tf_data(prepared, settings, rows, STEPS_AN_EXECUTION),
        ),
        Side(RESIDENT, resident_batch(prepared, settings, steps)),
    ]
    turns = Turns(others, steps, course.batch)
    with Run.open(folder, settings) as run:
        fit.fit(build(prepared, settings), prepared, settings, run, turns)
    return [turns.ours, *others]


def table(title: str, sides: list[Side]) -> list[str]:
    ours = sides[0]
    lines = [
        f"## {title}",
        "",
        "| | rows/s | rows/CPU s | Hornpipe by rows/s | by CPU | wanted |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for side in sides:
        ratio = median(a / b for a, b in zip(ours.wall, side.wall, strict=True))
        by_processor = median(a / b for a, b in zip(ours.processor, side.processor, strict=True))
        goal = f"{GOALS[side.name]:.1f}" if side.name in GOALS else ""
        lines.append(
            f"| {side.name} | {median(side.wall):,.0f} | {median(side.processor):,.0f} | {ratio:.2f} | "
            f"{by_processor:.2f} | {goal} |"
        )
    return [*lines, ""]


def head(rounds: int, settings: TrainingConfig) -> list[str]:
    load = os.getloadavg()[0]
    return [
        "# Training speed",
        "",
        f"`python -m benchmarks.training`, {platform.machine()}, {os.cpu_count()} cores, load {load:.1f} at the start; "
        f"TensorFlow {tf.__version__}, Keras {keras.__version__}. Flights, batch "
        f"{settings.training.batch_size}; medians over {rounds} rounds of one epoch, ratios round by round."
        + (" Other programs shared the processor: read the columns by CPU." if load > (os.cpu_count() or 1) else ""),
        "",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Rows a second of the training loop and of Keras fit.")
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    overrides = {"epochs": rounds + 1, "batch_size": BATCH, "patience": 1000, "evaluations_per_epoch": 1}
    settings = config.load(Path("examples/flights/train.toml"), [f"training.{k}={v}" for k, v in overrides.items()])
    prepared = data.prepare(settings)
    few = replace(prepared, validation=some(prepared.validation, 64, prepared.task))
    lines = head(rounds, settings)
    for title, changes in NETWORKS.items():
        with TemporaryDirectory() as folder:
            network = settings.model.model_copy(update=changes)
            lines += table(title, measure(few, settings.model_copy(update={"model": network}), Path(folder)))
            print("\n".join(lines[-8:]))
    OUT.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
