"""A prediction log as the service writes it, made by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from contract.manifest import BinaryOutput, MulticlassOutput, Output, RegressionOutput
from service.labels.joining import JoinedLabels
from service.labels.labelled import LabelsError
from service.predictions.segments import Line, Segments

BINARY = BinaryOutput(classes=("on_time", "late"), positive="late", threshold=0.3)
DIGITS = MulticlassOutput(classes=("0", "1", "2"))
VALUE = RegressionOutput(minimum=0.0, maximum=9.0, half_width=1.0)


def indexed(folder: Path, model: str) -> int:
    """How many rows of a model have come to where labels are joined; none while there is no file yet."""
    try:
        return sum(rows for rows, _ in JoinedLabels(folder).counts(model, 0).values())
    except LabelsError:
        return 0


class Logger:
    """Writes requests of one model to a folder."""

    def __init__(self, folder: Path, output: Output = BINARY, model: str = "flights") -> None:
        self.segments = Segments(folder, 2**20, 90 * 86_400.0, 1)
        self._output, self._model = output, model

    def log(
        self,
        request_id: str,
        scores: Sequence[Any],
        time: float = 1000.0,
        version: int = 1,
        role: str = "production",
        rows: Sequence[Any] | None = None,
    ) -> None:
        about = {"model": self._model, "version": version, "sha256": f"{self._model} {version}"}
        line = {
            "id": request_id,
            "time": time,
            "model": self._model,
            "version": version,
            "role": role,
            "rows": rows if rows is not None else [{"distance": i} for i in range(len(scores))],
            "outputs": {self._output.name: scores},
        }
        told = orjson.dumps({"about": {**about, "output": self._output.model_dump(mode="json")}}) + b"\n"
        assert self.segments.append([Line(told, orjson.dumps(line) + b"\n")]) == 1
