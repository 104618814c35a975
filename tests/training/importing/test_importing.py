"""Importing what people have: Keras networks, modules with tables of strings, models of TensorFlow 1 and of Keras 2."""

import io
import json
import shutil
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console

from contract import bundle, proof, routing, runtimes
from contract.bundle import Bundle
from contract.features import Encoded, Encoder
from contract.histogram import bin_names
from contract.manifest import NumberBins
from contract.runtimes import Outputs
from hornpipe import main
from tests.training import exported
from training.errors import ConfigError, DataError
from training.exporting import latency
from training.importing import importing
from training.importing import source as importing_source
from training.importing import variants as importing_variants
from training.importing.manifest import Import
from training.progress import TrainingProgress

REFERENCE = "savedmodel-original"
MEASURED_AT_LENGTH = ("test_a_keras_application_as_a_file", "test_from_the_command_line_to_a_prediction")


def imported(source: Path, models: Path, **wishes: Any) -> Bundle:
    asked = Import(source, wishes.pop("name", "model"), **wishes)
    return importing.run(asked, models, TrainingProgress(Console(file=io.StringIO())))


def refused(source: Path, models: Path, **wishes: Any) -> str:
    """What is said; nothing is left of the attempt."""
    with pytest.raises((DataError, ConfigError)) as caught:
        imported(source, models, **wishes)
    assert bundle.versions(models, "model") == []
    assert not list(models.glob("*/.staging-*"))
    return str(caught.value)


def answer(made: Bundle, rows: list[Any], variant: str | None = None) -> Outputs:
    """As the service answers: encoded by the bundle's own features, run by the variant that is chosen."""
    chosen = made.manifest.variant(variant or made.manifest.chosen.variant)
    encoded = Encoder(made.manifest.features).encode(rows)
    assert isinstance(encoded, Encoded), encoded
    return runtimes.load(made, chosen, "cpu").run(encoded)


def names(made: Bundle) -> list[str]:
    return [variant.name for variant in made.manifest.variants]


def fastest(made: Bundle) -> str:
    """Of the forms that answer as the original does, by what was measured of them here."""
    sound = [variant for variant in made.manifest.variants if variant.refused is None]
    return min(sound, key=lambda variant: variant.latency["1"].p50).name


def assert_same(found: Any, wanted: Any) -> None:
    """Of sums of a few products of numbers below ten: terms that cancel leave the last bits of what they were."""
    np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-5)


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    """Of every network that a test makes, whichever tests were before it."""
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _measured_shortly(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each form's memory is measured in a process of its own, which imports TensorFlow: in two tests for real. Latency
    is measured in all, but once."""
    if request.node.name not in MEASURED_AT_LENGTH:
        monkeypatch.setattr(importing_variants, "footprint", lambda *_: None)
        monkeypatch.setattr(latency, "TURNS", 1)
        monkeypatch.setattr(latency, "WARM_UP_SECONDS", 0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def mobile(folder: Path) -> tuple[keras.Model, Path]:
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNetV2((96, 96, 3), alpha=0.35, weights=None, classes=10)
    model.save(folder / "mobile.keras")
    return model, folder / "mobile.keras"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_keras_application_as_a_file(mobile: tuple[keras.Model, Path], tmp_path: Path) -> None:
    model, path = mobile
    made = imported(path, tmp_path)
    pictures = np.random.default_rng(1).random((3, 96, 96, 3), np.float32)
    wanted = model(pictures, training=False).numpy()

    bundle.verify(made)
    (taken,), (given,) = made.manifest.signature.inputs, made.manifest.signature.outputs
    assert (taken.dtype, taken.shape) == ("float32", (-1, 96, 96, 3))
    assert (given.name, given.shape) == ("predictions", (-1, 10))
    assert names(made) == [REFERENCE, "litert-float32"]
    assert made.manifest.chosen.variant == "litert-float32"
    assert "64 random" in made.manifest.chosen.why
    assert "no --sample of 32 rows" in made.manifest.chosen.why
    for variant in made.manifest.variants:
        np.testing.assert_allclose(
            answer(made, list(pictures.tolist()), variant.name)["predictions"], wanted, atol=1e-6
        )
        assert variant.latency["32"].p50 > variant.latency["1"].p50
        assert variant.memory is not None
        assert variant.memory > 0
    assert len(made.manifest.golden) >= 2
    assert (made.path / bundle.MANIFEST).stat().st_size < 2**22


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_keras_application_as_a_folder(folder: Path, tmp_path: Path) -> None:
    model = keras.applications.MobileNetV3Small((64, 64, 3), alpha=0.75, weights=None, classes=7)
    model.export(folder / "v3", verbose=False)
    pictures = np.random.default_rng(1).random((2, 64, 64, 3), np.float32) * 255
    made = imported(folder / "v3", tmp_path)
    (found,) = answer(made, pictures.tolist()).values()

    np.testing.assert_allclose(found, model(pictures, training=False).numpy(), atol=1e-6)


def test_a_bundle_is_a_saved_model_for_everyone_else(folder: Path, tmp_path: Path) -> None:
    made = imported(exported.dictionaries(folder / "dictionaries"), tmp_path)
    signature = tf.saved_model.load(str(made.path)).signatures["serving_default"]

    assert set(signature.structured_input_signature[1]) == {"left", "right"}


def test_a_module_with_a_table_of_strings(folder: Path, tmp_path: Path) -> None:
    made = imported(exported.colours(folder / "colours"), tmp_path)
    found = answer(
        made,
        [{"colour": "green", "n": [1, 2], "x": [1, 0]}, {"colour": {"b64": "/w=="}, "n": [2**40, 1], "x": [0.5, 2]}],
    )

    assert names(made) == [REFERENCE]
    assert "LiteRT has no operations on strings" in made.manifest.chosen.why
    assert [(s.name, s.dtype, s.row) for s in made.manifest.signature.inputs] == [
        ("colour", "string", ()),
        ("n", "int64", (2,)),
        ("x", "float64", (2,)),
    ]
    assert found["code"].tolist() == [2, 0]
    assert found["name"].tolist() == [b"green!", b"\xff!"]
    assert found["total"].tolist() == [3, 2**40 + 1]
    np.testing.assert_array_equal(found["half"], np.float64([[0.5, 0], [0.25, 1]]))
    assert proof.prove(made, made.manifest.variants[0], runtimes.load(made, made.manifest.variants[0])) == 0


def test_several_inputs_and_outputs_of_many_types_on_both_runtimes(folder: Path, tmp_path: Path) -> None:
    made = imported(exported.types(folder / "types"), tmp_path)
    rows = [{"flag": True, "mask": [1, 0, 200], "n": -5, "x": [0.5, 1.5]}]

    assert names(made) == [REFERENCE, "litert-float32"]
    for variant in names(made):
        found = answer(made, rows, variant)
        assert found["sum"].tolist() == [201]
        assert found["next"].tolist() == [-4]
        assert found["opposite"].tolist() == [False]
        np.testing.assert_array_equal(found["square"], np.float32([[0.25, 2.25]]))


def test_what_litert_cannot_do_is_said_in_its_words(folder: Path, tmp_path: Path) -> None:
    made = imported(exported.doubles(folder / "doubles"), tmp_path)

    assert names(made) == [REFERENCE]
    assert "LiteRT cannot do what the model does: MatMul" in made.manifest.chosen.why


def test_dictionaries_and_lists_of_a_keras_file_keep_their_names(folder: Path, tmp_path: Path) -> None:
    a, b = keras.Input((3,), name="a"), keras.Input((1,), name="b", dtype="int64")
    score = keras.layers.Dense(2, name="score")(a)
    box = keras.layers.Dense(1, name="box")(keras.ops.cast(b, "float32"))
    keras.Model({"a": a, "b": b}, {"first": score, "second": box}).save(folder / "dictionary.keras")
    keras.Model([a, b], [score, box]).save(folder / "list.keras")
    first, second = (imported(folder / f"{kind}.keras", tmp_path) for kind in ("dictionary", "list"))

    assert [s.name for s in first.manifest.signature.inputs] == ["a", "b"]
    assert {s.name for s in first.manifest.signature.outputs} == {"first", "second"}
    assert [s.name for s in second.manifest.signature.inputs] == ["a", "b"]
    assert {s.name for s in second.manifest.signature.outputs} == {"score", "box"}
    assert (first.manifest.version, second.manifest.version) == (1, 2)


def test_a_legacy_h5_file(folder: Path, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="out")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this is a format of the past
        model.save(folder / "legacy.h5")
    (found,) = answer(imported(folder / "legacy.h5", tmp_path), [[1, 2, 3]]).values()

    assert_same(found, model(np.float32([[1, 2, 3]])).numpy())


def test_a_subclassed_model_that_was_saved_with_a_signature(folder: Path, tmp_path: Path) -> None:
    model, path = exported.subclassed(folder / "subclassed")
    made = imported(path, tmp_path)
    (found,) = answer(made, [[1, 2, 3, 4, 5, 6]]).values()

    assert_same(found, model(np.float32([[1, 2, 3, 4, 5, 6]])).numpy())


def test_a_model_of_tensorflow_1(folder: Path, tmp_path: Path) -> None:
    weights, path = exported.tensorflow_1(folder / "tf1")
    made = imported(path, tmp_path)
    found = answer(made, [[1, 2, 3]])

    assert [s.name for s in made.manifest.signature.inputs] == ["inputs"]
    assert_same(found["outputs"], np.float32([[1, 2, 3]]) @ weights)


def test_a_model_that_was_saved_with_its_optimizer_by_keras_2(folder: Path, tmp_path: Path) -> None:
    weights, path = exported.with_slots(folder / "keras2")
    with pytest.raises(AttributeError, match="add_slot"):
        tf.saved_model.load(str(path))
    made = imported(path, tmp_path)

    assert_same(answer(made, [[1, 2, 3]])["y"], np.float32([[1, 2, 3]]) @ weights)


def test_sizes_that_differ_from_request_to_request(folder: Path, tmp_path: Path) -> None:
    path = exported.any_length(folder / "lengths")
    sample = tmp_path / "sample.jsonl"
    sample.write_text("\n".join(json.dumps([1.0] * length) for length in (5, 3, 5, 5, 2)))
    made = imported(path, tmp_path / "models", sample=sample)

    assert made.manifest.signature.inputs[0].shape == (-1, -1)
    assert made.manifest.data.test_rows == 3
    for length in (1, 4, 9):
        assert answer(made, [list(range(length))])["mean"].tolist() == [(length - 1) / 2]


def test_an_index_into_a_vocabulary_is_found_by_trial(folder: Path, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,), dtype="int32"), keras.layers.Embedding(3, 2, name="all")])
    model.save(folder / "embedding.keras")
    made = imported(folder / "embedding.keras", tmp_path)

    assert answer(made, [[0, 1, 2, 0]])["all"].shape == (1, 4, 2)


@pytest.fixture(scope="module")
def scalars(folder: Path) -> Path:
    return exported.scalars(folder / "scalars")


ROWS = [{"a": i / 10, "b": [i % 7], "c": f"w{i}"} for i in range(500)]


def write_sample(path: Path) -> Path:
    """`ROWS` in one of the formats, most with something beside them that is no input."""
    match path.suffix:
        case ".jsonl":
            path.write_text("\n".join(map(json.dumps, ROWS)))
        case ".json":
            path.write_text(json.dumps({"instances": [row | {"unused": 1} for row in ROWS]}))
        case ".csv":
            lines = [f"{row['a']},{row['b'][0]},{row['c']},unused" for row in ROWS]
            path.write_text("\n".join(["a,b,c,d", *lines]))
        case ".npz":
            columns: dict[str, Any] = {name: np.array([row[name] for row in ROWS]) for name in ("a", "b", "c")}
            np.savez(path, **columns, unused=np.ones(3))
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".npz"])
def test_a_sample_gives_rows_to_compare_on_and_a_baseline(scalars: Path, suffix: str, tmp_path: Path) -> None:
    made = imported(scalars, tmp_path / "models", sample=write_sample(tmp_path / f"sample{suffix}"))
    drift = made.manifest.drift
    edges = drift.inputs["a"]

    assert made.manifest.data.test_rows == drift.rows == 500
    assert set(drift.inputs) == {"a", "b"}
    assert set(drift.outputs) == {"double"}
    assert isinstance(edges, NumberBins)
    assert (edges.edges[0], edges.edges[-1]) == (0.0, pytest.approx(49.9))
    assert drift.outputs["double"].edges[-1] == pytest.approx(99.8)
    assert made.manifest.golden[-1].row == {"a": 49.9, "b": [2], "c": "w499"}


def test_each_class_that_is_answered_by_its_place_is_watched(folder: Path, tmp_path: Path) -> None:
    sample = tmp_path / "sample.json"
    sample.write_text(json.dumps([{"x": 2.0 * (i % 4 == 0)} for i in range(200)]))
    made = imported(exported.chooser(folder / "chooser"), tmp_path / "models", sample=sample)
    bins = made.manifest.drift.outputs["place"]

    assert dict(zip(bin_names(bins), np.round(bins.ratios, 2).tolist(), strict=True)) == {
        "below": 0.0,
        "0..1": 0.74,
        "1..1": 0.25,
        "above": 0.0,
        "missing": 0.0,
        "non_finite": 0.0,
    }


def test_a_vector_comes_as_the_columns_of_a_table(folder: Path, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((3,), name="features"), keras.layers.Dense(1200), keras.layers.Dense(1)])
    model.save(folder / "vector.keras")
    (tmp_path / "sample.csv").write_text("x,y,z\n" + "1,2,3\n4,5,6\n7,8,9.5\n" * 11)
    made = imported(folder / "vector.keras", tmp_path / "models", sample=tmp_path / "sample.csv", tolerance=0.1)
    float16, int8 = (made.manifest.variant(f"litert-{name}") for name in ("float16", "dynamic-int8"))

    assert made.manifest.data.test_rows == 33
    assert set(made.manifest.drift.outputs) == {made.manifest.signature.outputs[0].name}
    assert 0 < float16.largest_difference < int8.largest_difference < 0.1
    assert int8.refused is None


def test_a_form_that_differs_too_much_does_not_serve(folder: Path, tmp_path: Path) -> None:
    layers = [keras.layers.Dense(256, activation="relu") for _ in range(3)]
    keras.Sequential([keras.Input((16,)), *layers, keras.layers.Dense(1)]).save(folder / "deep.keras")
    np.save(tmp_path / "sample.npy", np.random.default_rng(0).normal(size=(64, 16)))
    made = imported(folder / "deep.keras", tmp_path / "models", sample=tmp_path / "sample.npy", tolerance=1e-5)
    int8 = made.manifest.variant("litert-dynamic-int8")

    assert int8.largest_difference > 1e-5
    assert int8.refused is not None
    assert "differs by" in int8.refused
    assert made.manifest.chosen.variant == fastest(made) != int8.name
    assert "litert-dynamic-int8 refused" in made.manifest.chosen.why


WRONG: list[tuple[str, Callable[[Path], Path], str]] = [
    ("nowhere", lambda path: path / "nowhere", "there is no such file or folder"),
    ("empty", lambda path: path, "has no saved_model.pb"),
    ("text", lambda path: written(path / "model.py", b"print()"), "expected a SavedModel folder or a .keras"),
    ("no zip", lambda path: written(path / "model.keras", b"nothing"), "cannot be loaded by Keras"),
    ("no h5", lambda path: written(path / "model.h5", b"nothing"), "cannot be loaded by Keras"),
    ("damaged", lambda path: written(path / "saved_model.pb", b"nothing at all").parent, "is damaged, or none"),
    ("pbtxt", lambda path: written(path / "saved_model.pbtxt", b"").parent, "its SavedModel is text"),
    ("versions", lambda path: written(path / "3" / "saved_model.pb", b"").parent.parent, "/3"),
    ("unsigned", exported.unsigned, "has no signature"),
    ("fixed", exported.fixed, "has the fixed shape [1, 4]; export it with None"),
    ("complex", exported.complex_numbers, "is of complex64, which cannot be served"),
    ("mixing", exported.mixing, "does it look at the other rows of a request?"),
    ("random", exported.random, "is it random"),
    ("scalar", exported.scalar_answer, "has the shape [] for"),
    ("examples", exported.parses_examples, "give it real ones with --sample"),
    ("several", exported.several_signatures, "say which with --signature; there: one, two"),
    ("weights gone", exported.without_variables, "cannot be loaded by TensorFlow"),
]


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("make", "said"), [(make, said) for _, make, said in WRONG], ids=[name for name, *_ in WRONG])
def test_what_cannot_be_imported(make: Callable[[Path], Path], said: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()

    assert said in refused(make(tmp_path / "source"), tmp_path / "models")


def test_a_signature_is_asked_for_by_name(tmp_path: Path) -> None:
    path = exported.several_signatures(tmp_path / "several")
    made = imported(path, tmp_path / "models", signature="two")

    assert {variant.signature for variant in made.manifest.variants} == {"two"}
    assert answer(made, [[1, 2]])["y"].tolist() == [[2, 4]]
    assert "has no signature 'three'" in refused(path, tmp_path / "others", signature="three")


def test_code_in_a_file_does_not_run_unless_it_is_trusted(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x * 2, name="twice")])
    model.save(tmp_path / "lambda.keras")

    assert "--unsafe runs it" in refused(tmp_path / "lambda.keras", tmp_path / "models")
    found = answer(imported(tmp_path / "lambda.keras", tmp_path / "models", unsafe=True), [[1, 2]])
    assert found["twice"].tolist() == [[2, 4]]


def test_a_class_of_their_own_is_named_with_the_way_out(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", exported.CLASS_OF_ITS_OWN, str(tmp_path / "own.keras")],  # where the class is
        check=True,
        capture_output=True,
    )
    said = refused(tmp_path / "own.keras", tmp_path / "models")

    assert "Mine" in said
    assert "model.export(FOLDER)" in said


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("sample.txt", b"", "expected one of .jsonl"),
        ("sample.jsonl", b"{", "cannot be read"),
        ("sample.jsonl", b"", "is not a list of rows"),
        ("sample.json", b'{"instances": 3}', "is not a list of rows"),
        ("sample.csv", b"a,b,c\n1,2.5,x\n", "instances[0].b[0]: is no int64"),
        ("sample.csv", b"a,b\n1,2\n", "instances[0].c: required feature is missing"),
        ("sample.npz", b"nothing", "cannot be read"),
        ("sample.npy", b"\x93NUMPY\x01\x00", "cannot be read"),
    ],
)
def test_a_sample_that_does_not_fit(scalars: Path, name: str, content: bytes, said: str, tmp_path: Path) -> None:
    sample = written(tmp_path / name, content)

    assert said in refused(scalars, tmp_path / "models", sample=sample)


def test_a_sample_that_the_model_cannot_answer(folder: Path, tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((1,), dtype="int32"), keras.layers.Embedding(3, 2)])
    model.save(folder / "small.keras")
    (tmp_path / "sample.jsonl").write_text("[7]\n")

    assert "cannot answer these rows" in refused(
        folder / "small.keras", tmp_path / "models", sample=tmp_path / "sample.jsonl"
    )


@pytest.mark.parametrize(("wish", "value"), [("name", "../x"), ("tolerance", 0.0), ("tolerance", float("nan"))])
def test_wrong_wishes(scalars: Path, wish: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"--{wish}"):
        imported(scalars, tmp_path, **{wish: value})


def test_from_the_command_line_to_a_prediction(
    scalars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sample, models = write_sample(tmp_path / "sample.jsonl"), tmp_path / "models"
    arguments = ["import", str(scalars), "--name", "doubler", "--sample", str(sample), "--models", str(models)]

    assert main([*arguments, "--promote"]) == 0
    printed = capsys.readouterr().out
    assert "double" in printed
    assert "doubler/1 is production" in printed
    assert routing.read(models, "doubler").production == 1

    assert main(["models", "--models", str(models)]) == 0
    assert "doubler" in capsys.readouterr().out

    assert main(["verify", str(models / "doubler" / "1")]) == 0
    assert "golden examples within" in capsys.readouterr().out

    for suffix in (".csv", ".jsonl"):
        assert main(["predict", "doubler", str(write_sample(tmp_path / f"rows{suffix}")), "--models", str(models)]) == 0
        assert capsys.readouterr().out.splitlines()[:3] == ["double,greeting", "0.0,hi w0", "0.2,hi w1"]

    assert main(["import", str(tmp_path / "nowhere"), "--name", "x", "--models", str(models)]) == 1
    assert "there is no such file or folder" in capsys.readouterr().err


def test_training_commands_say_that_a_version_was_imported(
    scalars: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = tmp_path / "models"
    imported(scalars, models)

    assert main(["quantize", "model", "1", "--models", str(models)]) == 1
    assert "was imported" in capsys.readouterr().err
    assert main(["report", "model", "1", "--models", str(models)]) == 1
    assert "was imported" in capsys.readouterr().err


KILLED_WHILE_IT_MEASURES = """
import os, signal, sys
from training.importing import variants
variants.footprint = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
from hornpipe import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_kill_leaves_nothing_that_serves(mobile: tuple[keras.Model, Path], tmp_path: Path) -> None:
    """All forms are there, and nothing is published yet."""
    arguments = ["import", str(mobile[1]), "--name", "model", "--models", str(tmp_path)]
    killed = subprocess.run([sys.executable, "-c", KILLED_WHILE_IT_MEASURES, *arguments], capture_output=True)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(tmp_path.glob("model/.staging-*/variants/*.tflite"))
    assert bundle.versions(tmp_path, "model") == []
    assert bundle.names(tmp_path) == []


def test_what_was_imported_is_told_by_its_fingerprint(scalars: Path, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(scalars, tmp_path / "copy")
    first, second = (importing_source.fingerprint(path) for path in (scalars, tmp_path / "copy"))
    (tmp_path / "copy" / "variables" / "variables.index").write_bytes(b"another")

    assert first == second
    assert importing_source.fingerprint(tmp_path / "copy") != first
