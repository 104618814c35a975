"""Baselines as training fits them: what is like them does not drift, what is not does."""

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_digits

from contract.drift import Drift
from contract.drift import drift as drift_of
from contract.features import Encoded, Encoder
from contract.histogram import InputCounter, OutputCounter
from contract.manifest import BinaryOutput, DriftBaseline, ImageFeature, MulticlassOutput, Output, TextFeature
from tests.training import small
from training.exporting import drift
from training.rows import Prepared, Rows
from training.task import Scores

TEN = MulticlassOutput(classes=tuple("0123456789"))
TWO = BinaryOutput(classes=("no", "yes"), positive="yes", threshold=0.5)


def encoded(count: int, **parts: Any) -> Encoded:
    return Encoded(np.empty((count, 0), np.float32), np.empty((count, 0), np.int32), **parts)


def fitted(encoder: Encoder, rows: Encoded, output: Output, answers: Scores) -> DriftBaseline:
    made = small.prepared(count=10)
    sample = Rows(rows, np.zeros(rows.rows, np.float32))
    return drift.baseline(Prepared(**{**made.__dict__, "encoder": encoder, "sample": sample}), output, answers)


def inputs(baseline: DriftBaseline, encoder: Encoder, rows: Encoded) -> dict[str, Drift]:
    counter = InputCounter.of(encoder, baseline.inputs, baseline.words)
    counts = counter.split(counter.count(rows))
    return {name: drift_of(counts[name], bins.ratios, baseline.rows) for name, bins in baseline.inputs.items()}


def outputs(baseline: DriftBaseline, output: Output, answers: Scores, rows: int) -> dict[str, Drift]:
    counter = OutputCounter.of(output, baseline.outputs)
    counts = counter.split(counter.count(counter.watched(counter.note({output.name: answers}))[0]))
    return {name: drift_of(counts[name], bins.ratios, rows) for name, bins in baseline.outputs.items()}


def drifted(found: dict[str, Drift]) -> set[str]:
    return {name for name, each in found.items() if each.drifted}


def test_pictures_like_those_of_training_do_not_drift_and_others_do() -> None:
    encoder = Encoder([ImageFeature(name="picture", shape=(8, 8, 1))])
    pictures = np.random.default_rng(0).permutation(load_digits().images.reshape(-1, 8, 8, 1) * 15.9).astype(np.uint8)
    baseline = fitted(encoder, encoded(900, image=pictures[:900]), TEN, np.full((9, 10), 0.1, np.float32))
    same, faint = encoded(897, image=pictures[900:]), encoded(897, image=pictures[900:] // 2)

    assert set(baseline.inputs) == {f"picture.{name}" for name in ("mean", "contrast", "sharpness", "dark", "bright")}
    assert drifted(inputs(baseline, encoder, same)) == set()
    assert drifted(inputs(baseline, encoder, faint)) == {
        f"picture.{name}" for name in ("mean", "contrast", "sharpness")
    }


def sentences(count: int, seed: int, rare: str = "w") -> np.ndarray:
    """As in real texts, a few words are frequent and most are rare, which begin with `rare`; some texts are missing."""
    random = np.random.default_rng(seed)
    made = [
        " ".join(f"{rare if i > 3 else 'w'}{i}" for i in random.zipf(1.5, random.integers(5, 15))) for _ in range(count)
    ]
    return np.array([["" if random.random() < 0.1 else each] for each in made], object)


def test_texts_like_those_of_training_do_not_drift_and_others_do() -> None:
    """Not even of few texts, whose own words are all known to training."""
    encoder = Encoder([TextFeature(name="body", required=False, example="w1")])
    for count in (300, 3000):
        baseline = fitted(encoder, encoded(count, texts=sentences(count, 0)), TWO, np.float32([0.1, 0.9]))
        same, other = encoded(2000, texts=sentences(2000, 1)), encoded(2000, texts=sentences(2000, 2, rare="v"))

        assert set(baseline.inputs) == {"body.length", "body.unknown"}
        assert baseline.inputs["body.length"].ratios[-2] == pytest.approx(0.1, abs=0.04)
        assert drifted(inputs(baseline, encoder, same)) == set()
        assert "body.unknown" in drifted(inputs(baseline, encoder, other))


def test_texts_without_words_in_common_have_lengths_alone() -> None:
    encoder = Encoder([TextFeature(name="body", required=True, example="w1")])
    texts = np.array([[f"only{i}"] for i in range(30)], object)
    baseline = fitted(encoder, encoded(30, texts=texts), TWO, np.float32([0.1, 0.9]))

    assert (set(baseline.inputs), baseline.words) == ({"body.length"}, {})


def test_answers_like_those_to_validation_rows_do_not_drift_and_less_certain_ones_do() -> None:
    random, encoder = np.random.default_rng(0), Encoder([TextFeature(name="body", required=True, example="w1")])
    texts = encoded(2, texts=np.array([["a"], ["b"]], object))

    def answers(sharp: float) -> Scores:
        logits = random.normal(size=(3000, 10)) * sharp
        return (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)

    validation = answers(4)
    baseline = fitted(encoder, texts, TEN, validation)
    positive = fitted(encoder, texts, TWO, validation[:, 1])

    assert set(baseline.outputs) == {"confidence", "entropy", "margin"}
    assert sum(baseline.labels.values()) == pytest.approx(1)
    assert drifted(outputs(baseline, TEN, answers(4), 3000)) == set()
    assert drifted(outputs(baseline, TEN, answers(3), 3000)) == {"confidence", "entropy", "margin"}
    assert drifted(outputs(positive, TWO, answers(4)[:, 1], 3000)) == set()
    assert drifted(outputs(positive, TWO, answers(1)[:, 1], 3000)) == {"probability", "confidence", "entropy", "margin"}


def test_what_arithmetic_alone_changes_does_not_drift() -> None:
    """A model that is certain of all, in float32, in float16, and in the 256 steps of int8."""
    random, encoder = np.random.default_rng(0), Encoder([TextFeature(name="body", required=True, example="w1")])
    texts = encoded(2, texts=np.array([["a"], ["b"]], object))
    logits = random.normal(size=(2000, 10)) * 3
    logits[np.arange(2000), random.integers(0, 10, 2000)] += 30
    answers = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).astype(np.float32)
    baseline = fitted(encoder, texts, TEN, answers)

    for other in (answers, answers.astype(np.float16).astype(np.float32), np.rint(answers * 256) / np.float32(256)):
        assert drifted(outputs(baseline, TEN, other, 2000)) == set()
