"""What differs between classifying two classes, many classes, and estimating a number.

Labels: binary float32 [n] of 0 and 1 (1 is the positive class); multiclass int32 [n], an index into the classes;
regression float32 [n]. Logits are what the network ends in: [n], [n, classes], [n]. Scores are what the exported model
answers: probability [n], probabilities [n, classes], value [n].
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

TaskName = Literal["binary", "multiclass", "regression"]

Labels = NDArray[Any]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class Task:
    """One kind of question. `headline` is the metric that the gate, the variants and the first line of the report go
    by; `monitor` is the one that early stopping watches on validation."""

    name: TaskName
    output: Literal["probability", "probabilities", "value"]
    headline: str
    monitor: str

    def logits(self, classes: int) -> int:
        """How many logits a row has."""
        return classes if self.name == "multiclass" else 1

    def scores(self, logits: NDArray[np.float32]) -> Scores:
        """What the exported model answers where the network ends in these logits."""
        match self.name:
            case "binary":
                return (1 / (1 + np.exp(-logits.astype(np.float64)))).astype(np.float32)
            case "multiclass":
                exponentials = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
                shares: Scores = (exponentials / exponentials.sum(axis=-1, keepdims=True)).astype(np.float32)
                return shares
            case "regression":
                return logits

    def activation(self, logits: Any) -> Any:  # noqa: ANN401  # Keras tensors have no type information
        """The same in a Keras graph."""
        import keras

        match self.name:
            case "binary":
                return keras.ops.sigmoid(logits)
            case "multiclass":
                return keras.ops.softmax(logits, axis=-1)
            case "regression":
                return logits


TASKS: dict[TaskName, Task] = {
    "binary": Task("binary", "probability", headline="roc_auc", monitor="roc_auc"),
    "multiclass": Task("multiclass", "probabilities", headline="f1_macro", monitor="log_loss"),
    "regression": Task("regression", "value", headline="rmse", monitor="rmse"),
}
