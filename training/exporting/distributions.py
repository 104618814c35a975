"""How each input is distributed on training rows and on test rows, in the bins of the drift baseline."""

import numpy as np
from numpy.typing import NDArray

from contract.histogram import Counts, InputCounter, bin_names
from contract.manifest import Bins, DriftBaseline
from training.exporting.results import FeatureSummary
from training.rows import Prepared


def distributions(prepared: Prepared, baseline: DriftBaseline) -> tuple[FeatureSummary, ...]:
    """One summary a number and category, and of what is measured of pictures and texts; bins that are empty on both
    sides are left out."""
    counter = InputCounter.of(prepared.encoder, baseline.inputs, baseline.words)
    train, test = (counter.split(counter.count(rows.encoded)) for rows in (prepared.sample, prepared.test))
    return tuple(_summary(name, bins, train[name], test[name]) for name, bins in baseline.inputs.items())


def _summary(name: str, bins: Bins, train: Counts, test: Counts) -> FeatureSummary:
    shown = (train + test) > 0
    return FeatureSummary(
        name=name,
        kind=bins.kind,
        bins=tuple(each for each, there in zip(bin_names(bins), shown, strict=True) if there),
        train=_shares(train[shown]),
        test=_shares(test[shown]),
    )


def _shares(counts: NDArray[np.int64]) -> tuple[float, ...]:
    return tuple(float(share) for share in counts / max(counts.sum(), 1))
