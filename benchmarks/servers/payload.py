"""What every rival's user writes: a body, as the framework parsed it, to the tensors of one row or several.

Which model it is about says a description (benchmarks/described.py), a JSON file that BENCH_MODEL names: `kind` is
rows, numbers or image, `features` are the columns of rows, `shape` is a picture's. Needs NumPy and Pillow alone.
"""

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Tensors = dict[str, NDArray[Any]]


class Payload:
    """Bodies to tensors by input name, the rows first."""

    def __init__(self, description: dict[str, Any]) -> None:
        self.kind: str = description["kind"]
        self.input: str = description["input"]
        self.shape: tuple[int, ...] = tuple(description["shape"])
        self.features: list[dict[str, Any]] = description["features"]

    def instances(self, instances: list[Any]) -> Tensors:
        """The value of "instances": objects of columns, lists of numbers, nested lists, or {"b64": a file}."""
        if self.kind == "rows":
            return self.columns(instances)
        if isinstance(instances[0], dict):
            return {self.input: np.stack([self.picture(base64.b64decode(each["b64"])) for each in instances])}
        return {self.input: np.asarray(instances, np.float32).reshape(-1, *self.shape)}

    def columns(self, rows: list[dict[str, Any]]) -> Tensors:
        """An array for each feature, with NaN for a number that is not there and "" for such a category."""
        missing = float("nan")
        found: Tensors = {}
        for feature in self.features:
            values = [row.get(feature["name"]) for row in rows]
            if feature["kind"] == "number":
                found[feature["name"]] = np.array([missing if v is None else v for v in values], np.float32)
            else:
                found[feature["name"]] = np.array([v or "" for v in values], object)
        return found

    def picture(self, file: bytes) -> NDArray[np.float32]:
        """A PNG or JPEG file as one row."""
        height, width, channels = self.shape
        image = Image.open(io.BytesIO(file)).convert("L" if channels == 1 else "RGB")
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
        return (np.asarray(image, np.float32) / np.float32(255)).reshape(self.shape)

    def pictures(self, files: list[bytes]) -> Tensors:
        return {self.input: np.stack([self.picture(file) for file in files])}

    def tensor(self, content: bytes) -> Tensors:
        """Raw little-endian float32 values, row after row."""
        return {self.input: np.frombuffer(content, "<f4").reshape(-1, *self.shape)}


def description() -> dict[str, Any]:
    """The model that this server is to serve."""
    read: dict[str, Any] = json.loads(Path(os.environ["BENCH_MODEL"]).read_text())
    return read


def joined(rows: list[Tensors]) -> Tensors:
    """Several requests' tensors as one batch."""
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}
