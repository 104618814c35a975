"""What the drift of a trained model is watched by, fitted to its own data."""

import numpy as np

from contract import histogram
from contract.manifest import BinaryOutput, DriftBaseline, MulticlassOutput, Output, RegressionOutput, TensorsOutput
from training.rows import Prepared
from training.task import Scores


def baseline(prepared: Prepared, output: Output, answers: Scores) -> DriftBaseline:
    """Inputs on training rows; outputs by the `answers` to validation rows, which the weights are not fitted to."""
    encoder, rows = prepared.encoder, prepared.sample.encoded
    words = histogram.fit_words(encoder, rows)
    return DriftBaseline(
        rows=len(prepared.sample),
        inputs=histogram.fit_inputs(encoder, rows) | histogram.fit_statistics(encoder, rows, words),
        outputs=histogram.fit_outputs(output, answers),
        labels=_label_shares(output, answers),
        words=words,
    )


def _label_shares(output: Output, answers: Scores) -> dict[str, float]:
    match output:
        case BinaryOutput():
            positive = float((answers >= output.float32_threshold).mean())
            return {output.negative: 1 - positive, output.positive: positive}
        case MulticlassOutput():
            counts = np.bincount(answers.argmax(axis=1), minlength=len(output.classes))
            return {name: float(count / len(answers)) for name, count in zip(output.classes, counts, strict=True)}
        case RegressionOutput() | TensorsOutput():
            return {}
