"""Every kind of `[model]`: what comes out, where it starts, and what is said where it does not fit."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.preparing import CATEGORY, NUMBERS, TEXTS, arrays, picture, prepared
from training.errors import ConfigError
from training.rows import Prepared
from training.sections import BuilderModel, ImageModel, SavedKerasModel, TabularModel, TextModel

PRESETS: dict[str, tuple[Any, Any]] = {
    "tabular": ([*NUMBERS, CATEGORY], TabularModel(members=3, hidden=[16], dropout=0.0)),
    "image": ([picture()], ImageModel(preset="image", widths=[8], dropout=0.0)),
    "text": (TEXTS, TextModel(preset="text", vocabulary_size=50, words=6, width=8, hidden=8)),
}


def build(data: Prepared, section: Any, seed: int = 0) -> Any:
    import keras

    from training import model

    keras.utils.set_random_seed(seed)
    return model.build(data, section)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_an_untrained_network_answers_what_the_labels_say(preset: str, task: Any) -> None:
    """Log-odds, class shares (one row more each), or the mean; in float32, of the right shape."""
    features, section = PRESETS[preset]
    data = prepared(features, task, rows=400)
    network = build(data, section)
    logits = np.asarray(network(arrays(network, data.sample.encoded)))
    labels = data.sample.labels

    assert logits.dtype == np.float32
    assert logits.shape == ((400, 3) if task == "multiclass" else (400,))
    scores = data.task.scores(logits)
    if task == "regression":
        np.testing.assert_allclose(scores, labels.mean(), atol=labels.std())
        assert abs(scores.mean() - labels.mean()) < 0.5 * labels.std()
    elif task == "binary":
        assert scores.mean() == pytest.approx(labels.mean(), abs=0.05)
    else:
        np.testing.assert_allclose(scores.mean(0), (np.bincount(labels) + 1) / 403, atol=0.05)


def test_a_regression_of_any_unit_learns_alike() -> None:
    """Errors in units of the target's deviation, as the loop's loss has them: the unit then makes no difference."""
    import keras

    losses = {}
    for unit in (1e-3, 1e6):
        data = prepared(NUMBERS, "regression", rows=500)
        x = np.nan_to_num(data.sample.encoded.numbers[:, 0])
        targets = ((3 + 2 * x) * unit).astype(np.float32)
        data.sample.labels[:] = targets
        network = build(data, TabularModel(members=1, hidden=[16], dropout=0.0, number_bins=4))
        inputs, deviation = arrays(network, data.sample.encoded), targets.std()

        def loss(truth: Any, values: Any, deviation: Any = deviation) -> Any:
            return keras.ops.mean(keras.ops.square((truth - values) / deviation))

        network.compile(keras.optimizers.Adam(0.01), loss)
        losses[unit] = network.fit(inputs, targets, epochs=15, batch_size=50, verbose=0, shuffle=False).history["loss"]

    assert losses[1e6][-1] < 0.1 * losses[1e6][0]
    np.testing.assert_allclose(losses[1e-3], losses[1e6], rtol=0.02)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_same_seed_builds_and_draws_the_same(preset: str) -> None:
    features, section = PRESETS[preset]
    data = prepared(features)
    first, second, other = (build(data, section, seed) for seed in (1, 1, 2))
    for network in (first, second):
        network(arrays(network, data.sample.encoded), training=True)

    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(first.get_weights(), other.get_weights(), strict=True))


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Write a module of builders into the current directory; each under a new name, since Python keeps modules."""
    monkeypatch.chdir(tmp_path)
    written: list[str] = []

    def write(code: str) -> str:
        name = f"mine_{abs(hash(str(tmp_path)))}_{len(written)}"
        written.append(name)
        (tmp_path / f"{name}.py").write_text("import keras\n" + textwrap.dedent(code))
        return f"{name}:build"

    return write


FUNCTIONAL = """
    def build(inputs, width=4):
        packed = inputs.packed()
        hidden = keras.layers.Rescaling(1 / 255)(packed["image"])
        hidden = keras.layers.Dense(width, activation="relu", name="mine")(keras.layers.Flatten()(hidden))
        return keras.Model(packed, inputs.logits(hidden))
"""
SUBCLASSED = """
    class Network(keras.Model):
        def __init__(self, outputs):
            super().__init__()
            self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(outputs)

        def call(self, inputs):
            return self.dense(self.flatten(keras.ops.cast(inputs["image"], "float32")))

    def build(inputs):
        return Network(inputs.outputs)
"""
LISTED = """
    def build(inputs):
        packed = inputs.packed()
        return keras.Model([packed["numbers"]], keras.layers.Dense(1)(packed["numbers"])[:, 0])
"""


def test_a_functional_builder_is_taken_apart_into_its_layers(mine: Any) -> None:
    data = prepared([picture()], "multiclass")
    network = build(data, BuilderModel(builder=mine(FUNCTIONAL), options={"width": 5}))

    assert network.get_layer("mine").units == 5
    assert network(arrays(network, data.sample.encoded)).shape == (200, 3)


@pytest.mark.parametrize(("task", "shape"), [("binary", (200,)), ("multiclass", (200, 3)), ("regression", (200,))])
def test_a_subclassed_builder_becomes_functional(mine: Any, task: Any, shape: tuple[int, ...]) -> None:
    data = prepared([picture()], task)
    network = build(data, BuilderModel(builder=mine(SUBCLASSED)))
    logits = np.asarray(network(arrays(network, data.sample.encoded)))
    kernel, bias = network.get_weights()

    expected = data.sample.encoded.image.reshape(200, -1).astype(np.float32) @ kernel + bias
    np.testing.assert_allclose(logits, expected.reshape(shape), rtol=1e-4, atol=1e-3)
    assert list(network.input) == ["image"]


def test_a_builder_may_leave_inputs_out(mine: Any) -> None:
    data = prepared([*NUMBERS, CATEGORY])
    network = build(data, BuilderModel(builder=mine(LISTED)))

    assert sorted(network.input) == ["categories", "numbers"]
    assert network(arrays(network, data.sample.encoded)).shape == (200,)


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("def build(inputs): return 3", r"expected a keras.Model, got int"),
        ("def other(inputs): return 3", r"has no build; valid: other"),
        ("def build(inputs): return inputs.nothing", r"failed with AttributeError: .*nothing"),
        ("import nowhere", r"cannot be imported .*No module named 'nowhere'"),
        ("def build(inputs, width): pass", r"failed with TypeError: .*width"),
        (
            """
            def build(inputs):
                packed = inputs.packed()
                hidden = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(packed["image"]))
                return keras.Model(packed, keras.layers.Dense(10)(hidden))
            """,
            r"expected logits \(None, 3\) for a multiclass task, got \(None, 10\)",
        ),
        (
            """
            def build(inputs):
                packed = inputs.packed()
                hidden = keras.layers.Flatten()(keras.layers.Rescaling(1.0)(packed["image"]))
                return keras.Model(packed, keras.layers.Dense(3, activation="softmax")(hidden))
            """,
            r"ends in softmax; logits are expected",
        ),
        (
            """
            def build(inputs):
                picture = keras.Input((9, 9, 1), name="image")
                return keras.Model(picture, keras.layers.Dense(3)(keras.layers.Flatten()(picture)))
            """,
            r"the input 'image' is \(None, 9, 9, 1\), the data's is \(None, 8, 8, 1\)",
        ),
        (
            """
            class Network(keras.Model):
                def call(self, inputs):
                    return inputs["picture"]
            def build(inputs): return Network()
            """,
            r"fails on image uint8 \(None, 8, 8, 1\): ",
        ),
        (
            """
            class Network(keras.Model):
                def call(self, inputs):
                    return {"logits": inputs["image"]}
            def build(inputs): return Network()
            """,
            r"expected logits \(None, 3\) for a multiclass task, got a dict",
        ),
    ],
)
def test_what_is_wrong_with_a_builder_is_said(mine: Any, code: str, problem: str) -> None:
    builder = mine(textwrap.dedent(code))
    with pytest.raises(ConfigError, match=problem) as raised:
        build(prepared([picture()], "multiclass", rows=20), BuilderModel(builder=builder))
    assert builder in str(raised.value)
    assert str(raised.value).startswith("model.builder:")


def test_the_current_directory_is_looked_at_for_the_builder_alone(mine: Any) -> None:
    import sys

    before = list(sys.path)
    build(prepared([picture()]), BuilderModel(builder=mine(SUBCLASSED)))

    assert sys.path == before


def test_a_file_starts_where_it_ended(tmp_path: Path) -> None:
    features, section = PRESETS["image"]
    data = prepared(features)
    first = build(data, section, seed=1)
    first.save(tmp_path / "first.keras")
    second = build(data, SavedKerasModel(start=str(tmp_path / "first.keras")), seed=2)
    given = arrays(first, data.sample.encoded)

    np.testing.assert_allclose(second(given), first(given), rtol=1e-6)
    assert second.get_layer("pool") is not None


def test_a_file_of_somebody_elses_sequential_network_fits_too(tmp_path: Path) -> None:
    import keras

    data = prepared([picture()], "multiclass")
    theirs = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    theirs.save(tmp_path / "theirs.keras")
    network = build(data, SavedKerasModel(start=str(tmp_path / "theirs.keras")))
    given = data.sample.encoded.image

    np.testing.assert_allclose(network({"image": given}), theirs(given.astype(np.float32)), rtol=1e-5)


def test_files_that_cannot_start_anything_are_refused(tmp_path: Path) -> None:
    import keras

    data = prepared([picture()], "multiclass", rows=10)
    broken, code, inputs = tmp_path / "broken.keras", tmp_path / "code.keras", tmp_path / "inputs.keras"
    broken.write_bytes(b"PK nothing")
    code_inside = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Lambda(lambda x: x), keras.layers.Flatten()])
    code_inside.save(code)
    keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)]).save(inputs)
    for path, expected in [
        (tmp_path / "nowhere.keras", "no such file"),
        (broken, "broken.keras: "),
        (code, "holds a Lambda layer, which is code"),
        (inputs, r"the input 'image' is \(None, 5\), the data's is \(None, 8, 8, 1\)"),
    ]:
        with pytest.raises(ConfigError, match=expected):
            build(data, SavedKerasModel(start=str(path)))
