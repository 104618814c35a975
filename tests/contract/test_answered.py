"""Answers of two versions, counted by the bins and labels of one: against a count by hand, row by row."""

from itertools import pairwise

import numpy as np
import pytest
from pydantic import ValidationError

from contract.answered import MOST_LABELS, AnswerBins, difference
from contract.comparison import compare
from contract.evidence import Difference, Verdict
from contract.manifest import BinaryOutput, Manifest, MulticlassOutput, Output, RegressionOutput
from contract.runtimes import Outputs
from tests.service.untrained import BINARY, CLASSES, VALUE, some_rows, table

ROWS = 2000
MANY = MulticlassOutput(classes=tuple(map(str, range(MOST_LABELS + 1))))


def answers(output: Output, seed: int) -> Outputs:
    return {output.name: some_rows(ROWS, 1, output, seed)[1]}


def both(output: Output) -> tuple[Outputs, Outputs]:
    return answers(output, 1), answers(output, 2)


def bin_of(manifest: Manifest, score: float) -> int:
    """By the edges, one after the other; the last bin has its upper edge too."""
    edges = [float(np.float32(edge)) for edge in manifest.drift.outputs[manifest.score].edges]
    if score < edges[0]:
        return 0
    inner = next((i for i, (low, high) in enumerate(pairwise(edges)) if low <= score < high), None)
    if inner is None:
        return len(edges) - 1 if score == edges[-1] else len(edges)
    return inner + 1


def score_and_label(output: Output, answer: np.ndarray) -> tuple[float, int]:
    if isinstance(output, BinaryOutput):
        return float(answer), int(answer >= output.threshold)
    return (float(answer), 0) if isinstance(output, RegressionOutput) else (float(answer.max()), int(answer.argmax()))


@pytest.mark.parametrize("output", [BINARY, CLASSES, VALUE])
def test_rows_are_counted_by_what_both_answered(output: Output) -> None:
    manifest, (before, now) = table(output=output), both(output)
    found = difference(manifest, manifest, before, now)
    assert found is not None

    bins = np.zeros_like(np.array(found.bins))
    labels = np.zeros((3, 3), np.int64)
    for pair in zip(before[output.name], now[output.name], strict=True):
        (old, old_label), (new, new_label) = (score_and_label(output, each) for each in pair)
        bins[bin_of(manifest, old), bin_of(manifest, new)] += 1
        labels[old_label, new_label] += 1
    assert np.array_equal(found.bins, bins)
    if output is VALUE:
        assert found.labels == ()
    else:
        size = len(output.classes)
        assert np.array_equal(found.labels, labels[:size, :size])
    compared = compare(output, output, before, now)
    assert compared is not None
    assert (found.rows, sum(found.disagreed)) == (ROWS, compared.disagreed)


@pytest.mark.parametrize("output", [BINARY, CLASSES, VALUE])
def test_the_gate_counts_as_the_service_does(output: Output) -> None:
    """Sums over the table are what each side's answers come to when they are counted alone."""
    manifest, (before, now) = table(output=output), both(output)
    found = difference(manifest, manifest, before, now)
    assert found is not None

    counting = AnswerBins(manifest, manifest)
    for axis, outputs in ((1, before), (0, now)):
        noted = counting.note(outputs, np.arange(ROWS))
        assert noted is not None
        bins, labels = counting.count([noted[:7], noted[7:]])
        assert bins == tuple(np.sum(found.bins, axis=axis))
        assert not found.labels or labels == tuple(np.sum(found.labels, axis=axis))


def test_pairs_of_very_many_labels_are_left_out() -> None:
    found = difference(table(output=MANY), table(output=MANY), *both(MANY))

    assert found is not None
    assert found.labels == ()
    assert found.rows == ROWS


def test_what_means_something_else_is_not_compared() -> None:
    other = BINARY.model_copy(update={"positive": "no"})

    assert difference(table(), table(output=other), *both(BINARY)) is None
    assert AnswerBins(table(), table(output=other)).note(answers(BINARY, 1)) is None


def test_of_no_rows_there_is_no_difference() -> None:
    nothing = {BINARY.name: np.empty(0, np.float32)}

    assert difference(table(), table(), nothing, nothing) is None


def test_a_verdict_is_read_with_and_without_it() -> None:
    found = difference(table(), table(), *both(BINARY))
    verdict = Verdict(passed=True, against=3, reasons=(), difference=found)

    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict
    assert Verdict.model_validate_json('{"passed": true, "against": 3, "reasons": []}').difference is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"bins": ((1, 2),), "disagreed": (0,)},
        {"bins": ((1, 2), (3, 4)), "disagreed": (0,)},
        {"bins": ((1, 2), (3, 4)), "disagreed": (4, 0)},
        {"bins": ((1, -2), (3, 4)), "disagreed": (0, 0)},
        {"bins": ((1, 2), (3, 4)), "disagreed": (0, 0), "labels": ((1, 2), (3, 5))},
    ],
)
def test_counts_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Difference.model_validate(wrong)
