"""The learning-rate range test: the learning rate rises from step to step, and the loss tells where it learns fastest.

Smith: Cyclical Learning Rates for Training Neural Networks, WACV 2017, section 3.3; the choice of the steepest point
and the end at four times the best loss are those of fastai's and Lightning's finders.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

LOWEST, HIGHEST, STEPS = 1e-6, 1.0, 120
SMOOTHING = 0.9
DIVERGED = 4.0
WINDOW = 5

Floats = NDArray[np.float64]
Curve = tuple[tuple[float, float], ...]


def rates() -> Floats:
    """Evenly spaced in their logarithm."""
    return np.geomspace(LOWEST, HIGHEST, STEPS)


def sweep(loss_at: Callable[[int, float], float], reset: Callable[[], None]) -> Curve:
    """(learning rate, smoothed loss) points, up to where the loss diverges.

    `loss_at(i, rate)` is the loss of batch i, before one step on it; `reset` brings the first weights back, which it
    has at the end too. Every batch is seen twice: once at rate 0, so that what is harder in one batch than in another
    can be taken off. A batch's own difficulty otherwise drowns what the network learns in so few steps.
    """
    first = np.array([loss_at(i, 0.0) for i in range(STEPS)])
    reset()
    gains: list[float] = []
    curve: list[tuple[float, float]] = []
    best = base = float(first.mean())
    for i, rate in enumerate(rates()):
        gains.append(loss_at(i, float(rate)) - first[i])
        loss = base + float(_smoothed(np.array(gains))[-1])
        if not np.isfinite(loss) or loss > DIVERGED * best:
            break
        best = min(best, loss)
        curve.append((float(rate), loss))
    reset()
    return tuple(curve)


def steepest(curve: Curve) -> float | None:
    """The learning rate where the loss falls fastest, to two digits; None where it never falls."""
    if len(curve) <= 2 * WINDOW:
        return None
    losses = np.array([loss for _, loss in curve])
    slopes = losses[2 * WINDOW :] - losses[: -2 * WINDOW]
    place = int(slopes.argmin())
    return float(f"{curve[place + WINDOW][0]:.2g}") if slopes[place] < 0 else None


def _smoothed(values: Floats) -> Floats:
    """An exponential moving average, with the correction of its start at 0 (as in Adam)."""
    smoothed = np.empty_like(values)
    average = 0.0
    for i, value in enumerate(values):
        average = SMOOTHING * average + (1 - SMOOTHING) * value
        smoothed[i] = average / (1 - SMOOTHING ** (i + 1))
    return smoothed
