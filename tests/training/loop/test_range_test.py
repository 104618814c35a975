"""The range test on curves whose answer is known; with a network: tests/training/test_fit.py."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from training.loop import range_test


def sweep(loss_of: Callable[[int, float], float]) -> tuple[range_test.Curve, list[str]]:
    log: list[str] = []

    def loss_at(i: int, rate: float) -> float:
        log.append("step")
        return loss_of(i, rate)

    return range_test.sweep(loss_at, lambda: log.append("reset")), log


@pytest.mark.parametrize("middle", [1e-4, 1e-3, 1e-2])
@pytest.mark.parametrize("difficulty", [0.0, 0.5])
def test_the_steepest_point_is_found_under_the_noise_of_batches(middle: float, difficulty: float) -> None:
    noise = np.random.default_rng(0).normal(size=range_test.STEPS)
    curve, _ = sweep(lambda i, rate: 2 + difficulty * noise[i] - 1 / (1 + (middle / max(rate, 1e-30)) ** 2))

    # The average lags behind the loss by half a decade.
    assert middle / 2 < range_test.steepest(curve) < 5 * middle


def test_it_stops_where_the_loss_diverges_and_leaves_no_trace() -> None:
    curve, log = sweep(lambda i, rate: 1.0 if rate < 1e-2 else math.exp(100 * rate))

    assert 1e-2 < curve[-1][0] < 0.3
    assert log.count("reset") == 2
    assert log[-1] == "reset"
    assert log[: range_test.STEPS + 1] == ["step"] * range_test.STEPS + ["reset"]


def test_a_loss_that_is_not_finite_ends_it() -> None:
    curve, _ = sweep(lambda i, rate: 1.0 if rate < 1e-3 else math.nan)

    assert curve[-1][0] < 1e-3


def test_where_nothing_falls_nothing_is_found() -> None:
    assert range_test.steepest(sweep(lambda i, rate: 1.0 + rate)[0]) is None
    assert range_test.steepest(()) is None
