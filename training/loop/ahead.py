"""The training data as tensors, block by block; the next one loads on a thread while this one trains."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from contract.features import Encoded
from training.loop.course import Course, Stretch
from training.loop.interruption import Interruption
from training.rows import Blocks, Indices
from training.task import Labels

CHECK_SECONDS = 0.1

Tensors = dict[str, Any]


@dataclass(frozen=True)
class Batches:
    """A block in TensorFlow's memory, and the rows of each batch, int64 [steps, batch]; `start` is the first step."""

    block: tuple[int, ...]
    inputs: Tensors
    labels: Any
    rows: Indices
    start: int


class Ahead:
    """`at` gives the batches of a stretch; going from one to the next it waits for nothing that loads fast enough."""

    def __init__(self, names: Sequence[str], blocks: Blocks, course: Course, interruption: Interruption) -> None:
        self._names, self._blocks, self._course, self._interruption = tuple(names), blocks, course, interruption
        self._current: tuple[int, Batches] | None = None
        self._next: tuple[int, Future[Batches]] | None = None
        self.waited = 0.0

    def at(self, place: int) -> Batches:
        """The batches of `course.stretches[place]`. Raises Stop, or what loading it raised."""
        if self._current is None or self._current[0] != place:
            self._current = place, self._take(place)
            if place + 1 < len(self._course.stretches):
                self._next = place + 1, self._load(place + 1, self._current[1])
        return self._current[1]

    def _take(self, place: int) -> Batches:
        loading = self._next[1] if self._next and self._next[0] == place else self._load(place, None)
        self._next = None
        started = time.perf_counter()
        while wait([loading], timeout=CHECK_SECONDS).not_done:
            self._interruption.check()
        self.waited += time.perf_counter() - started
        return loading.result()

    def _load(self, place: int, current: Batches | None) -> "Future[Batches]":
        future: Future[Batches] = Future()
        stretch = self._course.stretches[place]

        def work() -> None:
            try:
                future.set_result(self._batches(stretch, current))
            except BaseException as error:  # goes on to the thread that waits
                future.set_exception(error)

        # A daemon, so that a block that takes long to load cannot hold up the end of the process.
        threading.Thread(target=work, daemon=True, name="next-block").start()
        return future

    def _batches(self, stretch: Stretch, current: Batches | None) -> Batches:
        if current is not None and current.block == stretch.block:
            inputs, labels = current.inputs, current.labels
        else:
            rows = self._blocks.load(stretch.block)
            inputs, labels = tensors(self._names, rows.encoded), label_tensor(rows.labels)
        return Batches(stretch.block, inputs, labels, self._course.batches(stretch), stretch.start)


def tensors(names: Sequence[str], encoded: Encoded) -> Tensors:
    """The arrays that a model has inputs for, in TensorFlow's memory."""
    return {name: tf.constant(getattr(encoded, name)) for name in names}


def row_spec(tensor: Any) -> Any:  # noqa: ANN401  # tf.Tensor -> tf.TensorSpec
    """Any number of rows like these."""
    return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)


def label_tensor(labels: Labels) -> Any:  # noqa: ANN401  # tf.Tensor has no type information
    return tf.constant(labels)
