"""Estimates of quality from counts by bin, which the service has of every row that it ever answered: no row is kept."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from contract.estimate import Expectation, of_decisions
from contract.histogram import Counts, NumberCounter
from contract.manifest import BinaryOutput, Manifest, NumberBins
from contract.quality import Decisions, Floats, Scores


def estimated_of_counts(manifest: Manifest, counts: Counts, labels: Mapping[str, int]) -> dict[str, float]:
    """Every metric that rows counted by the bins of the manifest's score, and by label, let expect; nothing of no rows,
    or where the manifest says nothing to go by. Rows whose output is not finite are left out.

    Exact where rows of one cell are to the model what the validation rows there were; how exact that is in practice
    says docs/monitoring.md.
    """
    expectation = manifest.expectation
    if expectation is None:
        return {}
    rows = rows_of_cells(manifest, expectation, counts, labels)
    if not rows.sum():
        return {}
    if isinstance(manifest.output, BinaryOutput):
        return _of_two(expectation, rows)
    means = {name: float(rows @ np.array(values) / rows.sum()) for name, values in expectation.means.items()}
    square = means.pop("square", None)
    return means if square is None else {"rmse": square**0.5, **means}


def rows_of_cells(manifest: Manifest, expectation: Expectation, counts: Counts, labels: Mapping[str, int]) -> Floats:
    """Rows by cell. How many of the bin with the threshold lie above it is known from the labels: all other cells above
    it are whole bins."""
    bins, positive = np.array(expectation.bins), np.array(expectation.positive)
    rows: Floats = counts[bins].astype(np.float64)
    split = np.flatnonzero(np.bincount(bins, minlength=len(counts)) > 1)
    if not isinstance(manifest.output, BinaryOutput) or not len(split):
        return rows
    inside = bins == split[0]
    above = labels[manifest.output.positive] - rows[positive & ~inside].sum()
    here = rows[inside][0]
    rows[inside] = np.where(positive[inside], np.clip(above, 0, here), here - np.clip(above, 0, here))
    return rows


def _of_two(expectation: Expectation, rows: Floats) -> dict[str, float]:
    """Cells are in the order of their scores."""
    means = {name: np.array(values) for name, values in expectation.means.items()}
    hits, misses = rows * means["probability"], rows * (1 - means["probability"])
    found = {name: float(rows @ means[name] / rows.sum()) for name in ("log_loss", "brier")}
    above = np.array(expectation.positive)
    truth = np.array([misses.sum(), hits.sum()])
    said = np.array([rows[~above].sum(), rows[above].sum()])
    right = np.array([misses[~above].sum(), hits[above].sum()])
    found |= of_decisions(Decisions(truth, said, right, np.empty(0, np.int64)))
    if truth.all():
        pairs = hits @ (np.cumsum(misses) - misses + misses * means["order"])
        found["roc_auc"] = float(pairs / truth.prod())
    return found


def counts_of(bins: NumberBins, scores: Scores) -> Counts:
    """How the service would have counted rows by what they are watched by, float32 [n]."""
    return NumberCounter([bins], nan_is_missing=False).count(scores[:, None])


def cell_edges(bins: NumberBins, threshold: float | None) -> tuple[NDArray[np.int64], NDArray[np.bool_], Floats]:
    """The cells of a score's bins, in the order of the scores: which bin each is, whether it lies above the threshold
    (None where there is none), and the lowest score in it."""
    edges = np.array(bins.edges, np.float32)
    last = np.nextafter(edges[-1], np.float32(np.inf))  # the last bin is closed
    starts = np.concatenate([[-np.inf], edges[:-1], [last]])
    numbers = np.arange(len(starts))
    if threshold is None:
        return numbers, np.zeros(len(starts), bool), starts
    limit = float(np.float32(threshold))
    place = int(np.searchsorted(starts, limit, "right")) - 1
    if starts[place] != limit:
        numbers, starts = np.insert(numbers, place + 1, place), np.insert(starts, place + 1, limit)
    return numbers, starts >= limit, starts
