"""The use case: encode rows, run the model, count, and say what it means. Knows no HTTP.

The service and `hornpipe predict` both go through here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import HornpipeError
from contract.features import Encoded, Problem
from contract.manifest import BinaryOutput, MulticlassOutput, Output, RegressionOutput
from service.errors import InvalidRequest, Overloaded
from service.metrics import Metrics
from service.registry import LoadedModel

Prediction = dict[str, Any]


class NonFiniteOutput(HornpipeError):
    """The model answered NaN or infinity: nothing may be made of that."""


@dataclass
class Admission:
    """Rows that wait or run, of all models, never more than `limit` at once."""

    limit: int
    rows: int = 0

    def enter(self, rows: int) -> None:
        """Raises Overloaded when there is no room; then nothing was taken."""
        if self.rows + rows > self.limit:
            raise Overloaded(
                f"{self.rows} rows are running and {rows} more would exceed {self.limit}; try again shortly"
            )
        self.rows += rows

    def leave(self, rows: int) -> None:
        self.rows -= rows


class Predictor:
    """Runs requests on loaded models, counts and times them."""

    def __init__(self, metrics: Metrics, admission: Admission) -> None:
        self._metrics = metrics
        self._admission = admission

    async def predict(
        self, model: LoadedModel, instances: object, started: float, problems: Sequence[Problem] = ()
    ) -> list[Prediction]:
        """Predictions, one a row. `started` is when decoding began, in perf_counter's seconds; `problems` are what
        has been found wrong around the instances.

        Raises InvalidRequest with every problem of every row, Overloaded, or NonFiniteOutput.
        """
        if model.encodes_inline:
            encoded = encode(model, instances, problems)
        else:
            encoded = await model.on_thread(encode, model, instances, problems)
        rows, decoded = encoded.rows, perf_counter()
        answers, running = await self._run(model, encoded, rows)
        ended = perf_counter()
        timings = self._metrics.of(model.name)
        timings.decode.observe(decoded - started)
        timings.queue.observe(running - decoded)
        timings.run.observe(ended - running)
        timings.rows.observe(rows)
        model.monitor.observe(encoded, answers, rows)
        return predictions(model.manifest.output, answers)

    async def _run(self, model: LoadedModel, encoded: Encoded, rows: int) -> tuple[NDArray[np.float32], float]:
        """The output, float32 [n] or [n, classes], and when the run began."""
        self._admission.enter(rows)
        model.rows_running += rows
        try:
            if model.runs_inline(rows):
                outputs, running = model.run(encoded)
            else:
                outputs, running = await model.run_on_thread(encoded)
        finally:
            model.rows_running -= rows
            self._admission.leave(rows)
        return outputs[model.manifest.output.name], running


def encode(model: LoadedModel, instances: object, others: Sequence[Problem] = ()) -> Encoded:
    """Raises InvalidRequest with every problem (the first 100); `others` are those found before."""
    encoded = model.encoder.encode(instances)
    problems = [*others, *encoded] if isinstance(encoded, list) else list(others)
    if problems or isinstance(encoded, list):
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        raise InvalidRequest(f"the request does not fit {model.name}/{model.version}: {count}", problems)
    return encoded


def predictions(output: Output, answers: NDArray[np.float32]) -> list[Prediction]:
    """What a model's outputs, float32 [n] or [n, classes], mean. Raises NonFiniteOutput."""
    match output:
        case BinaryOutput():
            return _two_classes(output, answers)
        case MulticlassOutput():
            return _many_classes(output, answers)
        case RegressionOutput():
            return _values(output, answers)


# In all of these, NumPy's own scalars, because they are written with a float32's digits and not a float64's.


def _two_classes(output: BinaryOutput, answers: NDArray[np.float32]) -> list[Prediction]:
    """`answers` is of the positive class; `probability` is that of the label given, `probabilities` are of both."""
    values = _finite(answers.tolist())
    positive, negative, threshold = output.positive, output.negative, output.float32_threshold
    return [
        {
            "label": positive if value >= threshold else negative,
            "probability": p if value >= threshold else q,
            "probabilities": {negative: q, positive: p},
        }
        for value, p, q in zip(values, answers, 1 - answers, strict=True)
    ]


def _many_classes(output: MulticlassOutput, answers: NDArray[np.float32]) -> list[Prediction]:
    _finite(answers.ravel().tolist())
    classes, largest = output.classes, answers.argmax(axis=1).tolist()
    return [
        {"label": classes[i], "probability": row[i], "probabilities": dict(zip(classes, row, strict=True))}
        for i, row in zip(largest, answers, strict=True)
    ]


def _values(output: RegressionOutput, answers: NDArray[np.float32]) -> list[Prediction]:
    """`low` to `high` holds the truth as often as the manifest's `coverage` says."""
    _finite(answers.tolist())
    half = np.float32(output.half_width)
    return [
        {"value": value, "low": low, "high": high}
        for value, low, high in zip(answers, answers - half, answers + half, strict=True)
    ]


def _finite(values: list[float]) -> list[float]:
    if not isfinite(sum(values)):
        raise NonFiniteOutput("the model's output is not finite")
    return values
