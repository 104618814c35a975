"""The learning rate of every step: warm-up, then a cosine, a constant or a plateau's staircase."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.sections import TrainingSection

PLATEAU_FACTOR = 0.5


def shares(section: TrainingSection, steps: int) -> NDArray[np.float64]:
    """By which share of the full learning rate each of `steps` steps goes, float64 [steps].

    The first `warmup` of them rise evenly from near 0. The cosine is that of Loshchilov and Hutter: SGDR, 2017,
    equation 5, without restarts, from the end of the warm-up to the last step.
    """
    # All at once: a part computed alone could differ from it in the last bit, and a resumed run from one never killed.
    rising = math.floor(section.warmup * steps)
    step = np.arange(steps, dtype=np.float64)
    share = np.ones(steps)
    if section.schedule == "cosine":
        share = 0.5 * (1 + np.cos(np.pi * (step - rising) / (steps - rising)))
    return np.where(step < rising, (step + 1) / (rising + 1), share)


def plateau(better: Sequence[bool], patience: int) -> float:
    """The factor after these evaluations, in order, of which some were the best so far: it halves at each `patience`
    evaluations without a better one (as Keras' ReduceLROnPlateau)."""
    factor, waited = 1.0, 0
    for each in better:
        waited = 0 if each else waited + 1
        if waited == patience:
            factor, waited = factor * PLATEAU_FACTOR, 0
    return factor
