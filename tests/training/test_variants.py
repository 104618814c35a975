"""Variants of a network made, measured and chosen for real: against Keras, scikit-learn and a bootstrap by hand."""

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from contract.features import Encoded, Encoder
from contract.manifest import Choice, GoldenExample, Latency, TextFeature, Variant
from contract.runtimes import LiteRT, SavedModel
from tests.training import preparing, small
from training import export, variants
from training.exporting import conversion
from training.exporting.conversion import FLOAT, NAMES, wanted
from training.exporting.footprint import footprint
from training.exporting.latency import latencies
from training.exporting.silence import quiet
from training.rows import Prepared, Rows
from training.sections import QuantizationSection, TrainingConfig
from training.signatures import with_scores
from training.task import TASKS
from training.variants import REFERENCE, choose

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

GOLDEN = [GoldenExample(row={"x": 0.5, "z": 1.0, "c": "a"}, outputs={"probability": 0.5})]


@dataclass(frozen=True)
class Made:
    staging: Path
    prepared: Prepared
    scores: Any
    measured: dict[str, Variant]
    failed: dict[str, str]
    broken: dict[str, str]


def make(folder: Path, prepared: Prepared, network: Any, config: TrainingConfig, golden: Any = GOLDEN) -> Made:
    scores = with_scores(network, prepared.task)
    (folder / "staging").mkdir()
    with quiet():
        export.save(scores, prepared.encoder, folder / "staging")
        failed = conversion.convert(scores, prepared, folder / "staging", folder / "scratch", config.quantization)
    measured, broken = variants.measure(folder / "staging", prepared, golden, 0.4, config)
    return Made(folder / "staging", prepared, scores, {each.name: each for each in measured}, failed, broken)


def agreeing(prepared: Prepared, network: Any) -> Prepared:
    """Labels that an untrained network is right about, mostly."""
    logits = np.asarray(network(preparing.arrays(network, prepared.test.encoded)))
    noise = np.random.default_rng(0).normal(size=logits.shape) * logits.std() / 2
    labels = (logits + noise > np.median(logits)).astype(np.float32)
    return replace(prepared, test=Rows(prepared.test.encoded, labels))


def settings(*names: str, **values: Any) -> TrainingConfig:
    return small.settings().model_copy(update={"quantization": QuantizationSection(variants=list(names), **values)})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """All four forms of a small network."""
    network = small.network(width=64)
    return make(tmp_path_factory.mktemp("made"), agreeing(small.prepared(), network), network, settings(*NAMES))


@pytest.mark.parametrize("middle", [0.0, 2013.0, 2_459_000.0, 1.7e9])
def test_two_roundings_to_float32_never_make_another_model(middle: float) -> None:
    """Of a mean and a deviation that are put together in two steps or, with a fused multiply-add, in one."""
    labels = np.random.default_rng(0).normal(middle, 5, 1000).astype(np.float32)
    data = small.prepared()
    data = replace(data, task=TASKS["regression"], sample=Rows(data.sample.encoded, labels))
    last_bit = np.nextafter(labels.max(), np.float32(np.inf)) - labels.max()

    assert 2 * last_bit <= variants.tolerance(data) <= max(1e-5 * np.ptp(labels), 1e-6 * middle)


def test_all_that_were_asked_for_are_there(made: Made) -> None:
    assert set(made.measured) == {REFERENCE, FLOAT, *NAMES.values()}
    assert (made.failed, made.broken) == ({}, {})
    kinds = {name: (each.runtime, each.path) for name, each in made.measured.items()}
    assert kinds["litert-int8"] == ("litert", "variants/litert-int8.tflite")
    assert kinds["savedmodel-int8"] == ("savedmodel", "variants/savedmodel-int8")
    assert kinds[REFERENCE] == ("savedmodel", ".")


@pytest.mark.parametrize("name", [REFERENCE, FLOAT, *NAMES.values()])
def test_each_is_measured_against_keras_and_scikit_learn(made: Made, name: str) -> None:
    """By runtimes of our own, on the test rows, with the labels that they have."""
    found, test = made.measured[name], made.prepared.test
    runtime = (
        SavedModel(made.staging / found.path, "cpu")
        if found.runtime == "savedmodel"
        else LiteRT(made.staging / found.path)
    )
    answers = runtime.run(test.encoded)["probability"]
    keras_says = np.asarray(made.scores(preparing.arrays(made.scores, test.encoded))["probability"])

    difference = float(np.abs(answers - keras_says).max())
    assert found.largest_difference == pytest.approx(difference, abs=2e-6)
    assert (difference > 1e-5) == (name not in (REFERENCE, FLOAT))
    assert found.tolerance >= max(1e-5, 2 * found.largest_difference)
    assert difference < {REFERENCE: 1e-6, FLOAT: 1e-6, "litert-float16": 1e-3}.get(name, 0.05)
    assert found.metrics["roc_auc"] == pytest.approx(roc_auc_score(test.labels, answers))
    assert found.metrics["log_loss"] == pytest.approx(log_loss(test.labels, answers.astype(float)))
    assert found.metrics["accuracy"] == np.mean((answers >= np.float32(0.4)) == test.labels)
    assert found.intervals.keys() == found.metrics.keys()
    assert all(each.low <= found.metrics[metric] <= each.high for metric, each in found.intervals.items())
    assert found.headline == found.intervals["roc_auc"]


def test_size_memory_and_latency_are_those_of_this_machine(made: Made) -> None:
    sizes = {name: each.size for name, each in made.measured.items()}
    assert sizes["litert-int8"] == os.path.getsize(made.staging / "variants" / "litert-int8.tflite")  # noqa: PTH202
    assert sizes["litert-int8"] < sizes["litert-float16"] < sizes[FLOAT] < sizes[REFERENCE]
    for each in made.measured.values():
        assert set(each.latency) == {"1", "32"}
        assert all(0 < timed.p50 <= timed.p99 for timed in each.latency.values())
        assert each.memory is not None
        assert 0 < each.memory < 200e6
    assert made.measured[FLOAT].latency["1"].p50 < made.measured[REFERENCE].latency["1"].p50


def test_a_variant_is_refused_by_the_lower_end_of_a_paired_bootstrap(made: Made, unweighed: None) -> None:
    test, found = made.prepared.test, made.measured["litert-int8"]
    answers = LiteRT(made.staging / found.path).run(test.encoded)["probability"]
    reference = SavedModel(made.staging, "cpu").run(test.encoded)["probability"]
    random, gains = np.random.default_rng(0), []
    for _ in range(300):
        i = random.integers(0, len(test), len(test))
        gains.append(roc_auc_score(test.labels[i], answers[i]) - roc_auc_score(test.labels[i], reference[i]))
    low = float(np.percentile(gains, 2.5))
    assert low < 0

    def refusal(drop: float) -> str | None:
        config = settings(max_metric_drop=drop)
        again, _ = variants.measure(made.staging, made.prepared, GOLDEN, 0.4, config)
        return {each.name: each for each in again}["litert-int8"].refused

    assert refusal(-1.5 * low) is None
    assert (refusal(-0.5 * low) or "").startswith("roc_auc ")


@pytest.fixture
def unweighed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is measured in a process of its own, with TensorFlow: too dear where it is not the question."""
    monkeypatch.setattr(variants, "footprint", lambda path, encoded: None)


def test_a_variant_that_answers_no_numbers_is_listed_as_refused(tmp_path: Path, unweighed: None) -> None:
    """Weights that are 0 in float16, so that 0 is divided by 0."""
    numbers, categories = keras.Input((2,), name="numbers"), keras.Input((1,), dtype="int32", name="categories")
    tiny = [keras.layers.Dense(1, kernel_initializer=keras.initializers.Constant(1e-9)) for _ in range(2)]
    ratio = (tiny[0](numbers) / tiny[1](keras.ops.abs(numbers)))[:, 0]
    network = keras.Model({"numbers": numbers, "categories": categories}, ratio)
    found = make(tmp_path, agreeing(small.prepared(), network), network, settings("float16"))
    half = found.measured["litert-float16"]

    assert half.refused == "501 of 501 answers are not finite"
    assert (half.metrics, half.headline) == ({}, None)
    assert Variant.model_validate_json(half.model_dump_json()) == half
    assert choose(TASKS["binary"], list(found.measured.values()), {}).variant != half.name
    assert found.measured[FLOAT].refused is None


def test_a_variant_that_does_not_run_is_taken_out_and_told(made: Made, tmp_path: Path, unweighed: None) -> None:
    staging = tmp_path / "staging"
    shutil.copytree(made.staging, staging)
    for path in (staging / "variants").iterdir():
        if path.is_dir():
            shutil.rmtree(path)
    (staging / "variants" / "litert-int8.tflite").write_bytes(b"no model")
    measured, broken = variants.measure(staging, made.prepared, GOLDEN, 0.4, settings())

    assert "litert-int8" not in {each.name for each in measured}
    assert list(broken) == ["litert-int8"]
    assert not (staging / "variants" / "litert-int8.tflite").exists()
    assert f"; no litert-int8: {broken['litert-int8']}" in choose(TASKS["binary"], measured, broken).why


def variant(name: str, microseconds: float, refused: str | None = None, rmse: float = 2.0) -> Variant:
    latency = {rows: Latency(p50=microseconds, p99=microseconds) for rows in ("1", "32")}
    facts = {"runtime": "litert", "path": name, "size": 1, "largest_difference": 0, "tolerance": 1}
    return Variant(name=name, latency=latency, metrics={"rmse": rmse}, refused=refused, **facts)


def test_the_fastest_that_is_not_refused_is_chosen() -> None:
    slow, fast, fastest = variant(REFERENCE, 300), variant("a", 20, rmse=2.5), variant("b", 10, "rmse -0.5")
    failed = {"c": "it cannot be made"}

    assert choose(TASKS["regression"], [slow, fast, fastest], failed) == Choice(
        variant="a",
        why="15.0 times as fast as savedmodel-float32 at one row, rmse worse by 0.50000; refused: b; "
        "no c: it cannot be made",
    )
    assert choose(TASKS["regression"], [variant(REFERENCE, 5), fast], {}) == Choice(
        variant=REFERENCE, why="nothing that keeps the rmse is faster"
    )


def test_auto_is_for_tables_pictures_and_texts_what_pays_there() -> None:
    auto, asked = QuantizationSection(), QuantizationSection(variants=["float16"])
    picture, text = Encoder([preparing.picture()]), Encoder(preparing.TEXTS)

    assert wanted(auto, small.ENCODER) == ("dynamic-int8",)
    assert wanted(auto, picture) == ("full-int8", "dynamic-int8")
    assert wanted(auto, text) == ()
    assert [list(wanted(asked, each)) for each in (small.ENCODER, picture, text)] == [["float16"]] * 3


def test_texts_have_no_litert_and_keep_their_words_in_int8(tmp_path: Path, unweighed: None) -> None:
    prepared = preparing.prepared((TextFeature(name="title", required=True, example="red fish"),))
    words = keras.layers.TextVectorization(30, output_sequence_length=6)
    texts = prepared.sample.encoded.texts
    assert texts is not None
    words.adapt([str(each) for each in texts[:, 0]])
    entry = keras.Input((1,), dtype="string", name="texts")
    keras.utils.set_random_seed(0)
    hidden = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(30, 16)(words(entry[:, 0])))
    network = keras.Model({"texts": entry}, keras.layers.Dense(1)(hidden)[:, 0])
    golden = [GoldenExample(row={"title": "one red fish"}, outputs={"probability": 0.5})]
    found = make(tmp_path, agreeing(prepared, network), network, settings("dynamic-int8", "weight-int8"), golden)

    assert found.failed == dict.fromkeys((FLOAT, "litert-dynamic-int8"), "LiteRT has no operations on strings")
    assert (set(found.measured), found.broken) == ({REFERENCE, "savedmodel-int8"}, {})
    spread = np.ptp(np.asarray(found.scores({"texts": texts})["probability"]))
    assert found.measured["savedmodel-int8"].largest_difference < 0.05 * spread
    why = choose(TASKS["binary"], list(found.measured.values()), found.failed).why
    assert "no litert-float32: LiteRT has no operations on strings" in why


def test_what_keras_cannot_copy_it_says(tmp_path: Path) -> None:
    class Times(keras.layers.Layer):
        """The user's own, and Keras is not told how to make another."""

        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def call(self, values: Any) -> Any:
            return self.factor * values

    prepared, entry = preparing.prepared(preparing.NUMBERS), keras.Input((2,), name="numbers")
    network = keras.Model({"numbers": entry}, keras.layers.Dense(1)(Times(0.5)(entry))[:, 0])
    staging = tmp_path / "staging"
    staging.mkdir()
    with quiet():
        section = QuantizationSection(variants=["weight-int8", "float16"])
        scores = with_scores(network, prepared.task)
        failed = conversion.convert(scores, prepared, staging, tmp_path / "scratch", section)

    assert list(failed) == ["savedmodel-int8"]
    assert "Times" in failed["savedmodel-int8"]
    assert {path.name for path in (staging / "variants").iterdir()} == {f"{FLOAT}.tflite", "litert-float16.tflite"}


def test_memory_is_that_of_the_variant_and_not_of_its_library(made: Made, tmp_path: Path) -> None:
    """32 MB of weights more are 32 MB of memory more."""
    entry = keras.Input((2,), name="numbers")
    categories = keras.Input((1,), dtype="int32", name="categories")
    wide = keras.layers.Dense(2000)(keras.layers.Dense(4000)(keras.layers.Dense(4)(entry)))
    large = keras.Model(
        {"numbers": entry, "categories": categories}, wide[:, 0] + 0.0 * keras.ops.cast(categories, "float32")[:, 0]
    )
    scores = with_scores(large, TASKS["binary"])
    (tmp_path / "staging").mkdir()
    with quiet():
        section = QuantizationSection(variants=[])
        conversion.convert(scores, made.prepared, tmp_path / "staging", tmp_path / "scratch", section)
    rows = made.prepared.test.encoded.take(slice(0, 32))
    more = footprint(tmp_path / "staging" / "variants" / f"{FLOAT}.tflite", rows)
    less = made.measured[FLOAT].memory

    assert more is not None
    assert less is not None
    assert 25e6 < more - less < 120e6
    assert footprint(tmp_path / "nothing.tflite", rows) is None


class Slow:
    """A runtime that is as slow as it is told to be."""

    thread_safe = True

    def __init__(self, work: int) -> None:
        self._work = work
        self.rows: list[int] = []

    def run(self, encoded: Encoded) -> Any:
        self.rows.append(encoded.rows)
        np.sort(np.arange(self._work * encoded.rows)[::-1] % 977)
        return {}


def test_variants_are_timed_in_turns() -> None:
    runtimes = {"slow": Slow(40_000), "fast": Slow(400)}
    timed = latencies(runtimes, Encoded(np.zeros((5, 1), np.float32), np.zeros((5, 0), np.int32)))

    assert timed["slow"]["1"].p50 > 5 * timed["fast"]["1"].p50
    assert timed["slow"]["32"].p50 > 5 * timed["slow"]["1"].p50
    assert {rows for each in runtimes.values() for rows in each.rows} == {1, 32}
