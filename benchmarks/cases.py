"""What is asked: a model and a kind of body. To add a case is to add an entry here."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["rows", "numbers", "lists", "base64", "jpeg", "binary"]


@dataclass(frozen=True)
class Case:
    """`times` is how many times the best rival's requests/s are wanted, `int8` the same of the int8 variant."""

    name: str
    model: str
    kind: Kind
    times: float
    int8: float | None = None

    @property
    def heavy(self) -> bool:
        """Whether the network itself is what costs: such a case is held to the interpreter called in a loop."""
        return self.int8 is not None

    @property
    def light(self) -> bool:
        """Whether the network is next to nothing: such a case is held to the bare application."""
        return self.kind in ("rows", "numbers")


CASES = (
    Case("flights", "flights", "rows", times=10),
    Case("mlp", "cancer", "numbers", times=10),
    Case("cnn-json", "digits", "lists", times=8),
    Case("cnn-base64", "digits", "base64", times=8),
    Case("cnn-binary", "digits", "binary", times=8),
    Case("mobilenet-json", "mobilenet", "lists", times=2.5, int8=6),
    Case("mobilenet-jpeg", "mobilenet", "jpeg", times=2.5, int8=6),
    Case("mobilenet-binary", "mobilenet", "binary", times=2.5, int8=6),
)

WORDS = {
    "rows": "one row of 19 named columns, JSON",
    "numbers": "30 numbers, JSON",
    "lists": "a picture as nested lists of floats, JSON",
    "base64": "a picture as a PNG file in base64, JSON",
    "jpeg": "a picture as a JPEG file",
    "binary": "a picture as raw float32 values",
}
