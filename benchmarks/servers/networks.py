"""The network itself, as a rival's user calls it: TensorFlow's SavedModel, or a LiteRT interpreter.

Both take tensors by input name, as benchmarks.servers.payload makes them, and give float32 [rows, outputs].
"""

import os
import queue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.servers.payload import Tensors

Scores = NDArray[np.float32]


class SavedModel:
    """The signature of a SavedModel, called directly; `serving_default` for rows, whose strings it looks up itself."""

    def __init__(self, description: dict[str, Any]) -> None:
        import tensorflow as tf

        self._constant = tf.constant
        self._model = tf.saved_model.load(description["folder"])  # held, or its variables are freed
        self._signature = self._model.signatures[description["signature"]]

    def __call__(self, tensors: Tensors) -> Scores:
        outputs = self._signature(**{name: self._constant(values) for name, values in tensors.items()})
        scores = next(iter(outputs.values())).numpy()
        return scores.reshape(len(scores), -1)


class LiteRT:
    """Interpreters of one thread each, as many as there are cores: one is for one request at a time."""

    def __init__(self, description: dict[str, Any]) -> None:
        self._features = description["features"] if description["kind"] == "rows" else []
        self._codes = [
            {value: 2 + i for i, value in enumerate(each["vocabulary"])} | {"": 1} if each["kind"] == "category" else {}
            for each in self._features
        ]
        self._free: queue.SimpleQueue[Interpreter] = queue.SimpleQueue()
        for _ in range(os.cpu_count() or 1):
            self._free.put(Interpreter(description["lite"]))

    def __call__(self, tensors: Tensors) -> Scores:
        packed = self._packed(tensors) if self._features else tensors
        interpreter = self._free.get()
        try:
            return interpreter(packed)
        finally:
            self._free.put(interpreter)

    def _packed(self, columns: Tensors) -> Tensors:
        """Columns side by side, categories as their codes: 0 unseen, 1 missing, then the vocabulary."""
        numbers = [columns[each["name"]] for each in self._features if each["kind"] == "number"]
        codes = [
            np.array([table.get(value, 0) for value in columns[each["name"]]], np.int32)
            for each, table in zip(self._features, self._codes, strict=True)
            if each["kind"] == "category"
        ]
        packed = {"numbers": np.stack(numbers, axis=1)}
        return packed | ({"categories": np.stack(codes, axis=1)} if codes else {})


class Interpreter:
    """One interpreter of the signature `encoded`, resized when the number of rows is another."""

    def __init__(self, path: str) -> None:
        from ai_edge_litert import interpreter

        self._interpreter = interpreter.Interpreter(model_path=path, num_threads=1)
        runner = self._interpreter.get_signature_runner("encoded")
        self._inputs = {name: each["index"] for name, each in runner.get_input_details().items()}
        self._output = next(iter(runner.get_output_details().values()))["index"]
        self._rows = 0

    def __call__(self, tensors: Tensors) -> Scores:
        rows = len(next(iter(tensors.values())))
        if rows != self._rows:
            for name, index in self._inputs.items():
                self._interpreter.resize_tensor_input(index, [rows, *tensors[name].shape[1:]])
            self._interpreter.allocate_tensors()
            self._rows = rows
        for name, index in self._inputs.items():
            self._interpreter.set_tensor(index, tensors[name])
        self._interpreter.invoke()
        scores: Scores = self._interpreter.get_tensor(self._output)
        return scores.reshape(rows, -1)


def load(description: dict[str, Any]) -> SavedModel | LiteRT:
    """By BENCH_RUNTIME: savedmodel (the default) or litert."""
    return LiteRT(description) if os.environ.get("BENCH_RUNTIME") == "litert" else SavedModel(description)
