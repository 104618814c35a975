"""The use case: encode rows, run the model, count, and say what it means. Knows no HTTP.

The service and `hornpipe predict` both go through here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import HornpipeError
from contract.features import Encoded, Problem
from contract.manifest import BinaryOutput
from service.errors import InvalidRequest, Overloaded
from service.metrics import Metrics
from service.registry import LoadedModel

Prediction = dict[str, Any]


class NonFiniteOutput(HornpipeError):
    """The model answered NaN or infinity: no label may be made of that."""


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
        encoded = encode(model, instances, problems)
        decoded = perf_counter()
        scores, running = await self._run(model, encoded)
        ended = perf_counter()
        name, metrics = model.name, self._metrics
        metrics.stage(name, "decode", decoded - started)
        metrics.stage(name, "queue", running - decoded)
        metrics.stage(name, "run", ended - running)
        metrics.batch(name, encoded.rows)
        model.monitor.observe(encoded, scores)
        return predictions(model.manifest.output, scores)

    async def _run(self, model: LoadedModel, encoded: Encoded) -> tuple[NDArray[np.float32], float]:
        """The deciding output, float32 [n], and when the run began."""
        rows = encoded.rows
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


def predictions(output: BinaryOutput, scores: NDArray[np.float32]) -> list[Prediction]:
    """What the probabilities of the positive class, float32 [n], mean.

    `probability` is that of the label given; `probabilities` are of every class. Raises NonFiniteOutput.
    """
    if not np.isfinite(scores).all():
        raise NonFiniteOutput("the model's output is not finite")
    positive, others = output.positive, 1 - scores
    negative = next(name for name in output.classes if name != positive)
    is_positive = (scores >= np.float32(output.threshold)).tolist()
    # NumPy's own scalars, because they are written with a float32's digits and not a float64's.
    return [
        {
            "label": positive if yes else negative,
            "probability": p if yes else q,
            "probabilities": {negative: q, positive: p},
        }
        for yes, p, q in zip(is_positive, scores, others, strict=True)
    ]
