"""What early stopping goes by, against NumPy in float64."""

import numpy as np
import pytest

from training.judging import margin
from training.loop.monitor import monitored
from training.task import TASKS


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_errors_of_any_size_are_told_apart(scale: float) -> None:
    """In float32 their squares are nothing, or infinite; so would be the deviation that margins are shares of."""
    random = np.random.default_rng(0)
    labels = (random.normal(size=200) * scale).astype(np.float32)
    scores = (labels * 0.9).astype(np.float32)
    expected = np.sqrt(np.mean(np.square(scores.astype(np.float64) - labels)))

    assert monitored(TASKS["regression"], labels, scores) == pytest.approx(expected, rel=1e-9, abs=0)
    wide = labels.astype(np.float64)
    assert margin.unit(TASKS["regression"], labels) == pytest.approx(wide.std(), rel=1e-9, abs=0)
