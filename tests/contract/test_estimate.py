"""Estimates without labels against what labels drawn from the very probabilities come to, and against brute force."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.special import expit, softmax

from contract import histogram
from contract.estimate import Expectation, calibrated, estimated, expected_area
from contract.estimate_counts import cell_edges, counts_of, estimated_of_counts
from contract.manifest import BinaryOutput, Manifest, MulticlassOutput, NumberBins, RegressionOutput
from contract.quality import values
from tests.contract.test_manifest import TRAINED
from training.evaluation.estimation import expectation

THRESHOLD = 0.35
BINARY = BinaryOutput(classes=("no", "yes"), positive="yes", threshold=THRESHOLD)
MULTICLASS = MulticlassOutput(classes=("a", "b", "c", "d"))
REGRESSION = RegressionOutput(minimum=-9, maximum=9, half_width=1)


def scores_of(kind, random, rows, shift=0.0):
    """Scores of a calibrated model; the shift makes it meet other rows."""
    if kind == "binary":
        return expit(1.5 * random.normal(size=rows) - 1 + shift).astype(np.float32)
    return softmax((1.5 + shift) * random.normal(size=(rows, 4)), axis=1).astype(np.float32)


def drawn(scores, random):
    """Labels as a calibrated model has them."""
    if scores.ndim == 1:
        return (random.random(len(scores)) < scores).astype(np.int64)
    return (random.random((len(scores), 1)) > scores.cumsum(axis=1, dtype=float)[:, :-1]).sum(axis=1)


def manifest_of(output, labels, scores):
    """Of a manifest what estimates from counts go by."""
    edges = np.unique(np.quantile(histogram.scores(output, scores), np.linspace(0, 1, 11)).astype(np.float32))
    bins = NumberBins(edges=tuple(edges.tolist()), ratios=(0.0,) * (len(edges) + 3))
    return SimpleNamespace(output=output, bins=bins, expectation=expectation(output, bins, labels, scores, 0))


def counted(manifest, scores):
    counts = counts_of(manifest.bins, histogram.scores(manifest.output, scores))
    above = int((scores >= np.float32(THRESHOLD)).sum())
    return estimated_of_counts(manifest, counts, {"yes": above, "no": len(scores) - above})


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_estimates_are_what_labels_of_a_calibrated_model_come_to(kind, shift):
    random = np.random.default_rng(0)
    scores = scores_of(kind, random, 20_000, shift)
    runs = [values(kind, drawn(scores, random), scores, THRESHOLD) for _ in range(20)]

    found = estimated(calibrated(None, scores), scores, THRESHOLD)

    assert found.keys() == runs[0].keys() - {"calibration_error", "average_precision"}
    for name, value in found.items():
        realised = [run[name] for run in runs]
        assert value == pytest.approx(np.mean(realised), abs=4 * np.std(realised) / np.sqrt(20) + 1e-5), name


def test_the_expected_area_is_that_of_all_pairs_of_different_rows():
    random = np.random.default_rng(1)
    scores, positive = np.round(random.random(60), 1), random.random(60)
    right = (scores[:, None] > scores) + 0.5 * (scores[:, None] == scores)
    weight = positive[:, None] * (1 - positive)
    np.fill_diagonal(weight, 0)

    assert expected_area(positive, scores) == pytest.approx((right * weight).sum() / weight.sum())
    assert expected_area(np.ones(3), np.arange(3.0)) is None


def test_nothing_is_divided_by_nothing():
    low = np.full(10, 0.1, np.float32)

    assert estimated(calibrated(None, low), low, 0.5).keys() == {
        "log_loss",
        "brier",
        "accuracy",
        "recall",
        "f1",
        "roc_auc",
    }


@pytest.mark.parametrize("output", [BINARY, MULTICLASS], ids=["binary", "multiclass"])
def test_the_counts_of_the_validation_rows_estimate_what_the_rows_do(output):
    random = np.random.default_rng(2)
    scores = scores_of("binary" if output is BINARY else "multiclass", random, 5000)
    manifest = manifest_of(output, drawn(scores, random), scores)
    expected = estimated(calibrated(manifest.expectation, scores), scores, THRESHOLD)

    found = counted(manifest, scores)

    assert found == pytest.approx({name: expected[name] for name in found}, abs=2e-4)
    assert {"accuracy", "log_loss", "brier"} <= found.keys()
    assert (found.keys() == expected.keys()) == (output is BINARY)


@pytest.mark.parametrize("shift", [-1.0, 0.5, 1.0])
def test_the_counts_of_shifted_rows_estimate_about_what_the_rows_do(shift):
    random = np.random.default_rng(3)
    scores = scores_of("binary", random, 20_000)
    manifest = manifest_of(BINARY, drawn(scores, random), scores)
    met = scores_of("binary", random, 20_000, shift)
    expected, before = (estimated(calibrated(manifest.expectation, each), each, THRESHOLD) for each in (met, scores))

    found = counted(manifest, met)

    assert found == pytest.approx(expected, abs=0.02)
    assert abs(expected["f1"] - before["f1"]) > 0.04  # which is more than that


def test_a_number_is_estimated_by_what_such_answers_were_off_by():
    random = np.random.default_rng(4)
    answers = random.normal(size=40_000).astype(np.float32)
    errors = np.exp(answers / 2) * random.normal(size=40_000)  # the larger the answer, the harder
    known, met = slice(20_000), np.flatnonzero(answers[20_000:] > 0) + 20_000
    manifest = manifest_of(REGRESSION, (answers - errors)[known], answers[known])

    found = estimated_of_counts(manifest, counts_of(manifest.bins, answers[met]), {"": len(met)})

    assert found["mae"] == pytest.approx(np.abs(errors[met]).mean(), rel=0.03)
    assert found["rmse"] == pytest.approx(np.sqrt((errors[met] ** 2).mean()), rel=0.05)
    assert found["mae"] > 1.2 * np.abs(errors[known]).mean()


def test_no_rows_and_no_knowledge_estimate_nothing():
    manifest = manifest_of(BINARY, np.array([0, 1]), np.array([0.2, 0.8], np.float32))

    assert counted(manifest, np.empty(0, np.float32)) == {}
    assert counted(manifest, np.array([np.nan], np.float32)) == {}
    manifest.expectation = None
    assert counted(manifest, np.array([0.5], np.float32)) == {}


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.1, 0.15, 0.3, 0.9, None])
def test_cells_part_at_every_edge_and_at_the_threshold(threshold):
    bins = NumberBins(edges=(0.1, 0.2, 0.3), ratios=(0.2,) * 6)
    scores = np.array([0.0, 0.04, 0.07, 0.1, 0.12, 0.17, 0.2, 0.3, 0.31, 0.95], np.float32)
    numbers, positive, starts = cell_edges(bins, threshold)
    cells = np.searchsorted(starts, scores, "right") - 1

    expected = [int(np.flatnonzero(counts_of(bins, score[None]))[0]) for score in scores]

    assert numbers[cells].tolist() == expected
    if threshold is not None:
        assert positive[cells].tolist() == (scores >= np.float32(threshold)).tolist()


def test_the_curve_is_used_where_a_model_is_too_sure():
    random = np.random.default_rng(5)
    honest = scores_of("multiclass", random, 20_000)
    labels = drawn(honest, random)
    sure = honest**2 / (honest**2).sum(axis=1, keepdims=True)
    manifest = manifest_of(MULTICLASS, labels[:10_000], sure[:10_000])
    met, truth = sure[10_000:], values("multiclass", labels[10_000:], sure[10_000:])

    better = estimated(calibrated(manifest.expectation, met), met)
    worse = estimated(calibrated(None, met), met)

    assert better["accuracy"] == pytest.approx(truth["accuracy"], abs=0.015)
    assert worse["accuracy"] > truth["accuracy"] + 0.05
    assert calibrated(manifest.expectation, met).sum(axis=1) == pytest.approx(1)


EXPECTATION = {
    "bins": [0, 1, 2],
    "positive": [False] * 3,
    "means": {name: [0.5] * 3 for name in ("accuracy", "log_loss", "brier")},
}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"scores": [0.1, 0.1], "probabilities": [0, 1]}, "rising scores"),
        ({"scores": [0.1], "probabilities": []}, "rising scores"),
        ({"positive": []}, "one mean of each kind a cell"),
        ({"bins": [0, 1, 5]}, "bins that the drift baseline lacks"),
        ({"bins": [0, 1, -1]}, "bins that the drift baseline lacks"),
        ({"means": {"mae": [1, 1, 1], "square": [1, 1, 1]}}, "the means that the task"),
    ],
)
def test_an_expectation_that_fits_nothing_is_refused(change, complaint):
    manifest = TRAINED | {"format_version": 4, "expectation": EXPECTATION}
    assert Manifest.model_validate(manifest).expectation.bins == (0, 1, 2)

    with pytest.raises(ValidationError, match=complaint):
        Manifest.model_validate(manifest | {"expectation": EXPECTATION | change})


def test_what_a_trained_version_says_of_itself(trained):
    manifest = trained.bundle.manifest
    written = json.loads((Path(trained.bundle.path) / "manifest.json").read_text())["expectation"]
    scores = trained.assessment.scores_validation
    counts = counts_of(manifest.drift.outputs["probability"], scores)
    above = int((scores >= np.float32(manifest.output.threshold)).sum())

    found = estimated_of_counts(manifest, counts, {"late": above, "on_time": len(scores) - above})
    expected = estimated(calibrated(manifest.expectation, scores), scores, manifest.output.threshold)

    assert Expectation.model_validate(written) == manifest.expectation
    assert found == pytest.approx(expected, abs=5e-3)
