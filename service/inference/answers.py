"""What a model's outputs mean, as the JSON of the service's own answers.

NumPy's numbers are written by orjson, all of an array at once and with a float32's digits, and put between the words,
which are the same in every answer of a model and prepared when it is loaded.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from contract.errors import HornpipeError
from contract.manifest import BinaryOutput, MulticlassOutput, Output, RegressionOutput
from contract.runtimes import Outputs
from contract.tensors import plain

Write = Callable[[Outputs], list[bytes]]


class NonFiniteOutput(HornpipeError):
    """The model answered NaN or infinity: nothing may be made of that."""


def writer(output: Output) -> Write:
    """What makes outputs of n rows n predictions in JSON. The writer raises NonFiniteOutput."""
    match output:
        case BinaryOutput():
            return _Binary(output)
        case MulticlassOutput():
            return _Multiclass(output)
        case RegressionOutput():
            return _Regression(output)
    return tensors


class _Binary:
    """The output is of the positive class; `probability` is that of the label given, `probabilities` are of both."""

    def __init__(self, output: BinaryOutput) -> None:
        self._name, self._threshold = output.name, np.float32(output.float32_threshold)
        both = b'"probabilities":{%s:%%b,%s:%%b}' % (_quoted(output.negative), _quoted(output.positive))
        self._positive = b'{"label":%s,"probability":%%b,%s}' % (_quoted(output.positive), both)
        self._negative = b'{"label":%s,"probability":%%b,%s}' % (_quoted(output.negative), both)

    def __call__(self, outputs: Outputs) -> list[bytes]:
        answers = outputs[self._name]
        values, others = _numbers(answers), _numbers(1 - answers)
        return [
            self._positive % (p, q, p) if positive else self._negative % (q, q, p)
            for p, q, positive in zip(values, others, (answers >= self._threshold).tolist(), strict=True)
        ]


class _Multiclass:
    """The label is the class with the largest probability."""

    def __init__(self, output: MulticlassOutput) -> None:
        self._name, self._count = output.name, len(output.classes)
        pairs = b",".join(b"%s:%%b" % _quoted(name) for name in output.classes)
        self._labels = [b'{"label":%s,"probability":' % _quoted(name) for name in output.classes]
        self._rest = b'%%b,"probabilities":{%s}}' % pairs

    def __call__(self, outputs: Outputs) -> list[bytes]:
        answers = outputs[self._name]
        values, count = _numbers(answers.ravel()), self._count
        rows = []
        for i, largest in enumerate(answers.argmax(axis=1).tolist()):
            row = values[i * count : (i + 1) * count]
            rows.append((self._labels[largest] + self._rest) % (row[largest], *row))
        return rows


class _Regression:
    """`low` to `high` holds the truth as often as the manifest's `coverage` says."""

    def __init__(self, output: RegressionOutput) -> None:
        self._name, self._half = output.name, np.float32(output.half_width)

    def __call__(self, outputs: Outputs) -> list[bytes]:
        answers = outputs[self._name]
        columns = map(_numbers, (answers, answers - self._half, answers + self._half))
        return [b'{"value":%b,"low":%b,"high":%b}' % row for row in zip(*columns, strict=True)]


def predictions(output: Output, outputs: Outputs) -> list[dict[str, Any]]:
    """The same as objects, one a row. Raises NonFiniteOutput."""
    listed: list[dict[str, Any]] = orjson.loads(b"[%b]" % b",".join(writer(output)(outputs)))
    return listed


def tensors(outputs: Outputs) -> list[bytes]:
    """A row is what the only output says of it, or an object of all outputs; what is not finite is null."""
    columns = {name: _plain(values) for name, values in outputs.items()}
    if len(columns) == 1:
        return list(map(orjson.dumps, next(iter(columns.values()))))
    rows = zip(*columns.values(), strict=True)
    return [orjson.dumps(dict(zip(columns, row, strict=True))) for row in rows]


def _plain(values: NDArray[Any]) -> list[Any]:
    """Lists of what JSON has; bytes that are no text become {"b64": ...}."""
    if values.dtype.kind in "OSU":
        texts: list[Any] = plain(values, "string")
        return texts
    wide = values.astype(np.float32) if values.dtype.name == "bfloat16" else values
    listed: list[Any] = orjson.loads(orjson.dumps(np.ascontiguousarray(wide), option=orjson.OPT_SERIALIZE_NUMPY))
    return listed


def _numbers(values: NDArray[np.float32]) -> list[bytes]:
    """Each number of [n] in JSON. Raises NonFiniteOutput: JSON has no word for it, and orjson writes null."""
    text = orjson.dumps(np.ascontiguousarray(values), option=orjson.OPT_SERIALIZE_NUMPY)
    if b"n" in text:
        raise NonFiniteOutput("the model's output is not finite")
    return text[1:-1].split(b",")


def _quoted(text: str) -> bytes:
    return orjson.dumps(text).replace(b"%", b"%%")
