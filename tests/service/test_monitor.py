"""Counts of rows against counting one by one."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from scipy.stats import entropy

from contract.encoded import Encoded
from contract.features import Encoder
from contract.histogram import (
    FEW_CLASSES,
    bin_names,
    fit_input,
    fit_inputs,
    fit_numbers,
    fit_output,
    fit_outputs,
    fit_statistics,
    fit_words,
)
from contract.kinds import CategoryFeature, ImageFeature, NumberFeature, TensorFeature, TextFeature
from contract.manifest import CategoryBins, Manifest, NumberBins, Output
from contract.outputs import MulticlassOutput, TensorsOutput
from contract.signature import TensorSpec
from service.counting.ledger import zeros
from service.monitor import Monitor, Tally
from tests.service import untrained
from tests.service.untrained import BINARY, CLASSES, COLORS, VALUE, Served, some_rows

CODES = ("unseen", "missing", *COLORS)


def bin_of(value: float, bins: NumberBins, nan: str) -> str:
    """As the README says it."""
    if np.isnan(value):
        return nan
    if np.isinf(value):
        return "non_finite"
    names = bin_names(bins)
    if value < bins.edges[0]:
        return "below"
    for i, upper in enumerate(bins.edges[1:], start=1):
        if value < upper or (value == upper == bins.edges[-1]):
            return names[i]
    return "above"


def certainty(output: Output, answers: np.ndarray) -> dict[str, np.ndarray]:
    """What is watched of answers, as SciPy and a sort have it."""
    if output is VALUE:
        return {"value": answers}
    several = isinstance(output, MulticlassOutput)
    every = answers if several else np.stack([1 - answers, answers], axis=1)
    largest = np.sort(every, axis=1)[:, ::-1]
    found = {"confidence": largest[:, 0], "entropy": entropy(every, axis=1), "margin": largest[:, 0] - largest[:, 1]}
    return found if several else {"probability": answers, **found}


def expected(manifest: Manifest, rows: Encoded) -> dict[str, Counter]:
    inputs = {}
    for i, feature in enumerate(manifest.features):
        bins = manifest.drift.inputs[feature.name]
        if isinstance(bins, CategoryBins):
            named = [CODES[code] for code in rows.categories[:, 0]]
            inputs[feature.name] = Counter(name if name in ("unseen", "missing") else f"={name}" for name in named)
        else:
            inputs[feature.name] = Counter(bin_of(float(each), bins, "missing") for each in rows.numbers[:, i])
    return inputs


def named(counts: Any, bins: Any) -> Counter:
    return Counter({name: count for name, count in zip(bin_names(bins), counts.tolist(), strict=True) if count})


@pytest.mark.parametrize("sizes", [(1,) * 40, (32,) * 20, (5000,), (511, 1, 512, 513)], ids=str)
@pytest.mark.parametrize("output", [BINARY, CLASSES, VALUE], ids=lambda output: output.name)
def test_every_row_is_counted_once_in_every_bin(output: Output, sizes: tuple[int, ...]) -> None:
    manifest = untrained.table(output=output)
    monitor = Monitor(manifest, Encoder(manifest.features))
    parts = [some_rows(size, 3, output, seed) for seed, size in enumerate(sizes)]
    for rows, answers in parts:
        monitor.observe(rows, {output.name: answers}, rows.rows)
    rows, answers = Encoded.join([rows for rows, _ in parts]), np.concatenate([answers for _, answers in parts])
    watched, counted = certainty(output, answers), monitor.outputs()

    found = {name: named(counts, manifest.drift.inputs[name]) for name, counts in monitor.inputs().items()}
    assert found == expected(manifest, rows)
    assert list(counted) == list(watched)
    for name, values in watched.items():
        bins = manifest.drift.outputs[name]
        outputs = Counter(bin_of(float(each), bins, "non_finite") for each in values)
        # An entropy that is computed in another order may fall to the other side of an edge.
        assert sum((named(counted[name], bins) - outputs).values()) <= 2 * (name == "entropy")
    assert monitor.tally.read()[1] == pytest.approx([each.sum(dtype=np.float64) for each in watched.values()])
    labels = {
        "probability": lambda: ["yes" if each >= 0.5 else "no" for each in answers],
        "probabilities": lambda: [COLORS[each.argmax()] for each in answers],
        "value": lambda: [""] * len(answers),
    }[output.name]()
    assert Counter(monitor.labels()) == Counter(labels)


def test_the_numbers_of_an_imported_model_are_counted() -> None:
    rng = np.random.default_rng(0)
    columns = {"a": rng.standard_normal(300), "b": rng.integers(0, 9, 300)}
    features = [TensorFeature(name="a", dtype="float64", shape=()), TensorFeature(name="b", dtype="int64", shape=(1,))]
    features.append(TensorFeature(name="words", dtype="string", shape=(-1,)))
    answers = {"y": rng.standard_normal((300, 1)), "z": np.zeros((300, 4, 4), np.float32)}
    output = TensorsOutput(
        tensors=(
            TensorSpec(name="y", dtype="float64", shape=(-1, 1)),
            TensorSpec(name="z", dtype="float32", shape=(-1, 4, 4)),
        )
    )
    watched = fit_numbers({"y": answers["y"]}, 300, fit_output)
    drift = {"rows": 300, "inputs": fit_numbers(columns, 300, fit_input), "outputs": watched}
    manifest = untrained.manifest(features, output, drift, "imported", 1)
    monitor = Monitor(manifest, Encoder(manifest.features))
    rows = Encoded.of_tensors(columns | {"words": np.full((300, 2), b"x", object)})
    monitor.observe(rows, answers, 300)

    for name, values in (columns | {"y": answers["y"].ravel()}).items():
        bins = (manifest.drift.inputs | manifest.drift.outputs)[name]
        counted = (monitor.inputs() | monitor.outputs())[name]
        assert named(counted, bins) == Counter(bin_of(float(np.float32(each)), bins, "?") for each in values)
    assert monitor.labels() == {"": 300}


def test_a_version_without_a_baseline_counts_its_rows() -> None:
    output = TensorsOutput(tensors=(TensorSpec(name="z", dtype="string", shape=(-1, 4)),))
    features = [TensorFeature(name="words", dtype="string", shape=(-1,))]
    manifest = untrained.manifest(features, output, {"rows": 0, "inputs": {}, "outputs": {}}, "imported", 1)
    monitor = Monitor(manifest, Encoder(manifest.features))
    for size in (1, 700):
        words = np.full((size, 4), b"x", object)
        monitor.observe(Encoded.of_tensors({"words": words}), {"z": words}, size)

    assert (monitor.labels(), monitor.inputs(), monitor.outputs()) == ({"": 701}, {}, {})


def test_counts_move_with_their_monitor_and_outlive_it() -> None:
    served = Served(untrained.table())
    watch = served.monitor.watch
    served.answer(700)
    block = zeros(watch.type)
    for lives in range(1, 4):  # a process after another takes the block over; each has noted what it has not counted
        tally = Tally(watch, block, shared=True)
        served.monitor.move(tally)
        served.monitor.move(tally)
        served.answer(100)
        assert sum(served.monitor.labels().values()) == 700 + 100 * lives
        served = Served(served.manifest)

    assert sum(watch.split(Tally(watch, block, shared=True).read()[0])[2].values()) == 1000


@pytest.mark.parametrize("classes", [FEW_CLASSES, FEW_CLASSES + 1, 300])
def test_of_many_classes_as_much_is_counted_as_of_few(classes: int) -> None:
    output = MulticlassOutput(classes=tuple(f"class {i}" for i in range(classes)))
    answers = np.random.default_rng(0).dirichlet(np.full(classes, 0.1), 900).astype(np.float32)
    features = [CategoryFeature(name="color", required=False, vocabulary=COLORS, example="red")]
    rows = Encoded(np.empty((900, 0), np.float32), np.full((900, 1), 2, np.int32))
    inputs = fit_inputs(Encoder(features), rows)
    drift = {"rows": 900, "inputs": inputs, "outputs": fit_outputs(output, answers[:500])}
    monitor = Monitor(untrained.manifest(features, output, drift, "classes", 1), Encoder(features))
    for start in range(0, 900, 90):
        part = slice(start, start + 90)
        monitor.observe(rows.take(part), {"probabilities": answers[part]}, 90)

    for name, values in certainty(output, answers).items():
        bins = monitor.manifest.drift.outputs[name]
        expected = Counter(bin_of(float(each), bins, "non_finite") for each in values)
        assert sum((named(monitor.outputs()[name], bins) - expected).values()) <= 2 * (name == "entropy")
    assert list(monitor.labels().values()) == np.bincount(answers.argmax(axis=1), minlength=classes).tolist()
    assert monitor.watch.outputs.width <= FEW_CLASSES


@pytest.mark.parametrize("output", [BINARY, CLASSES], ids=lambda output: output.name)
def test_a_bundle_of_an_older_format_is_watched_by_what_its_baseline_has(output: Output) -> None:
    score = "probability" if output is BINARY else "confidence"
    whole = untrained.table(output=output)
    old = whole.drift.model_copy(update={"outputs": {score: whole.drift.outputs[score]}})
    others = ImageFeature(name="photo", shape=(4, 4, 3)), TextFeature(name="t", required=False, example="")
    features = [*whole.features, *others]
    manifest = untrained.manifest(features, output, old.model_dump(), "flights", 1)
    older, newer = Monitor(manifest, Encoder(manifest.features)), Monitor(whole, Encoder(whole.features))
    rows, answers = some_rows(700, 3, output, seed=0)
    pictures, texts = np.zeros((700, 4, 4, 3), np.uint8), np.full((700, 1), "a text", object)
    newer.observe(rows, {output.name: answers}, 700)
    older.observe(rows._replace(image=pictures, texts=texts), {output.name: answers}, 700)

    assert list(older.outputs()) == [score]
    assert older.outputs()[score].tolist() == newer.outputs()[score].tolist()
    assert {name: each.tolist() for name, each in older.inputs().items()} == {
        name: each.tolist() for name, each in newer.inputs().items()
    }
    assert older.labels() == newer.labels()


def test_pictures_and_texts_are_counted_beside_numbers_and_categories() -> None:
    random = np.random.default_rng(0)
    features = [
        ImageFeature(name="photo", shape=(4, 4, 1)),
        NumberFeature(name="n", required=True, minimum=0, maximum=1, example=0),
        TextFeature(name="t", required=False, example=""),
        CategoryFeature(name="color", required=False, vocabulary=COLORS, example="red"),
    ]
    texts = np.array([[random.choice(["", "a", "a b", "b a b"])] for _ in range(600)], object)
    rows = Encoded(
        random.random((600, 1), np.float32),
        random.integers(0, 5, (600, 1)).astype(np.int32),
        random.integers(0, 256, (600, 4, 4, 1), np.uint8),
        texts,
    )
    encoder, answers = Encoder(features), random.random(600, np.float32)
    words = fit_words(encoder, rows)
    inputs = fit_inputs(encoder, rows) | fit_statistics(encoder, rows, words)
    drift = {"rows": 600, "inputs": inputs, "outputs": fit_outputs(BINARY, answers), "words": words}
    monitor = Monitor(untrained.manifest(features, BINARY, drift, "all", 1), encoder)
    monitor.observe(rows, {"probability": answers}, 600)
    lengths = [len(each) or np.nan for each in texts[:, 0]]

    assert (
        set(monitor.inputs())
        == set(inputs)
        == {"n", "color", "t.length", "t.unknown"}
        | {f"photo.{each}" for each in ("mean", "contrast", "sharpness", "dark", "bright")}
    )
    assert {int(counts.sum()) for counts in monitor.inputs().values()} == {600}
    counted = {name: named(counts, inputs[name]) for name, counts in monitor.inputs().items()}
    assert counted["t.length"] == Counter(bin_of(each, inputs["t.length"], "missing") for each in lengths)
    means = rows.image.reshape(600, -1).mean(axis=1).astype(np.float32)
    assert counted["photo.mean"] == Counter(bin_of(float(each), inputs["photo.mean"], "missing") for each in means)
    assert counted["color"] == Counter(
        name if name in CODES[:2] else f"={name}" for name in np.array(CODES)[rows.categories[:, 0]].tolist()
    )
