"""What the doctor's rules read off a record: points, ratios, trends."""

from collections.abc import Callable, Iterable
from statistics import median

import numpy as np

from training.diagnosis.signals import Facts, LayerSignal, Probe, Record

Points = tuple[tuple[float, float], ...]

LATEST = 3
QUARTER = 0.25


def points(pairs: Iterable[tuple[float, float | None]]) -> Points:
    """The pairs that a plot can show."""
    return tuple((float(x), float(y)) for x, y in pairs if y is not None and np.isfinite(y))


def train_losses(record: Record) -> Points:
    """(step, mean training loss since the evaluation before)."""
    return points((each.step, each.train_loss) for each in record.evaluations)


def sample_losses(record: Record) -> Points:
    """(step, loss on training rows, of fixed weights and without dropout)."""
    return points((each.step, each.sample_loss) for each in record.evaluations)


def validation_losses(record: Record) -> Points:
    """(step, loss on validation rows)."""
    return points((each.step, each.validation_loss) for each in record.evaluations)


def of_probes(record: Record, read: Callable[[Probe], float | None]) -> Points:
    """(step, what `read` finds in the probe)."""
    return points((probe.step, read(probe)) for probe in record.probes)


def of_layer(record: Record, layer: str, read: Callable[[LayerSignal], float | None]) -> Points:
    """(step, what `read` finds in the layer of that name)."""
    return points((probe.step, read(each)) for probe in record.probes for each in probe.layers if each.layer == layer)


def layers(record: Record) -> list[str]:
    """Their names, first to last."""
    return list(dict.fromkeys(each.layer for probe in record.probes for each in probe.layers))


def latest(series: Points) -> float | None:
    """The median of the last three values: one odd batch is no disease. None for fewer than three."""
    return median(value for _, value in series[-LATEST:]) if len(series) >= LATEST else None


def progress(record: Record, facts: Facts) -> float:
    """The share of the run that is done; 1 for one that has ended, be it early."""
    if record.stopped != "running":
        return 1.0
    return max((each.step for each in record.evaluations), default=0) / facts.steps


def peak_rate(record: Record) -> float:
    """The highest learning rate that was seen, which is the configured one where a schedule lowers it."""
    seen = [*(each.learning_rate for each in record.probes), *(each.learning_rate for each in record.evaluations)]
    return max(seen, default=0.0)


def update_ratios(probe: Probe) -> list[float]:
    """By layer, the norm of one step's update as a share of the norm of the weights."""
    pairs = [(each.update, each.weight) for each in probe.layers]
    ratios = [update / weight for update, weight in pairs if update is not None and weight]
    return [ratio for ratio in ratios if np.isfinite(ratio)]


def typical_update(probe: Probe) -> float | None:
    """The update ratio of the middle layer."""
    ratios = update_ratios(probe)
    return median(ratios) if ratios else None


def largest_update(probe: Probe) -> float | None:
    """The update ratio of the layer that moves most."""
    return max(update_ratios(probe), default=None)


def sane_rate(record: Record) -> float:
    """The learning rate at which the first steps would have changed the weights by a hundredth: ten times a good
    update (training/diagnosis/rules_loss.py), as healthy first steps do. 0 where the first step was not seen."""
    for probe in record.probes:
        ratio = typical_update(probe)
        if ratio and probe.learning_rate:
            return 0.01 * probe.learning_rate / ratio
    return 0.0


def at_speed(record: Record) -> list[Probe]:
    """Probes at no less than half of the highest learning rate: neither warm-up nor the end of a schedule."""
    half = peak_rate(record) / 2
    return [probe for probe in record.probes if probe.learning_rate >= half]


def rises(series: Points) -> float:
    """How far the values go up, all rises together."""
    return float(np.clip(np.diff([value for _, value in series]), 0, None).sum())
