"""Scores and signatures: the same answers from raw rows, packed rows and a SavedModel that is loaded without Keras."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.features import MISSING, UNSEEN, Encoded
from contract.manifest import CategoryFeature
from tests.training.preparing import CATEGORY, NUMBERS, TEXTS, arrays, picture, prepared
from training.task import TASKS

ALL_KINDS = [NUMBERS[0], TEXTS[0], CATEGORY, picture(4, 4, 3), NUMBERS[1], TEXTS[1]]


def network(data: Any) -> Any:
    """A small one with inputs of every kind."""
    import keras

    from training.presets.inputs import ModelInputs

    keras.utils.set_random_seed(0)
    inputs = ModelInputs(data.task, data.classes, data.encoder, data.sample)
    packed = inputs.packed()
    words = keras.layers.TextVectorization(vocabulary=["red", "fish"], output_mode="count")
    parts = [
        keras.ops.where(keras.ops.isnan(packed["numbers"]), 9.0, packed["numbers"]),
        keras.layers.Flatten()(keras.layers.Embedding(5, 2)(packed["categories"])),
        keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(packed["image"])),
        *(keras.ops.cast(words(packed["texts"][:, i]), "float32") for i in range(2)),
    ]
    logits = keras.layers.Dense(inputs.outputs, kernel_initializer="glorot_uniform")(keras.layers.Concatenate()(parts))
    return keras.Model(packed, logits if inputs.outputs > 1 else logits[:, 0])


def raw(given: Encoded) -> dict[str, Any]:
    """The packed rows as named raw features, decoded by hand."""
    import tensorflow as tf

    words = {UNSEEN: "never seen", MISSING: ""} | {2 + i: name for i, name in enumerate(CATEGORY.vocabulary)}
    return {
        "x": tf.constant(given.numbers[:, 0]),
        "y": tf.constant(given.numbers[:, 1]),
        "c": tf.constant([words[int(code)] for code in given.categories[:, 0]]),
        "picture": tf.constant(given.image),
        "title": tf.constant(given.texts[:, 0]),
        "body": tf.constant(given.texts[:, 1]),
    }


def by_position(model: Any, names: list[str]) -> Any:
    """What an archive calls: it hands over tensors in the order of the signature."""
    return lambda *tensors: model(dict(zip(names, tensors, strict=True)))


@pytest.mark.parametrize(
    ("task", "temperature"),
    [("binary", 1.0), ("binary", 2.5), ("multiclass", 1.0), ("multiclass", 2.5), ("regression", 1.0)],
)
def test_scores_are_what_numpy_makes_of_the_logits(task: Any, temperature: float) -> None:
    from training.signatures import with_scores

    data = prepared(ALL_KINDS, task)
    logits = network(data)
    scores = with_scores(logits, TASKS[task], temperature)
    given = arrays(logits, data.sample.encoded)
    outputs = scores(given)

    assert list(outputs) == [TASKS[task].output]
    expected = TASKS[task].scores(np.asarray(logits(given)) / np.float32(temperature))
    assert np.ptp(expected) > 0.01
    np.testing.assert_allclose(outputs[TASKS[task].output], expected, atol=1e-6)


def test_a_regression_has_no_temperature() -> None:
    from training.signatures import with_scores

    data = prepared(NUMBERS, "regression", rows=10)
    with pytest.raises(ValueError, match=r"no temperature, got 1\.5"):
        with_scores(network(prepared(ALL_KINDS, "regression", rows=10)), data.task, 1.5)


def test_raw_and_packed_rows_get_the_same_answer_in_keras_and_in_a_saved_model(tmp_path: Path) -> None:
    import keras
    import tensorflow as tf

    from training.signatures import packed_signature, raw_signature, with_raw_inputs, with_scores

    data = prepared(ALL_KINDS, "multiclass")
    scores = with_scores(network(data), data.task, 1.5)
    named = with_raw_inputs(scores, data.encoder)
    given = data.sample.encoded
    expected = np.asarray(scores(arrays(scores, given))["probabilities"])
    archive = keras.export.ExportArchive()
    archive.track(named)
    for name, model, specs in [
        ("serving_default", named, raw_signature(data.encoder)),
        ("encoded", scores, packed_signature(data.encoder)),
    ]:
        archive.add_endpoint(name, by_position(model, [spec.name for spec in specs]), input_signature=specs)
    archive.write_out(str(tmp_path / "saved"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "saved")).signatures

    np.testing.assert_allclose(named(raw(given))["probabilities"], expected, atol=1e-6)
    np.testing.assert_allclose(served["serving_default"](**raw(given))["probabilities"], expected, atol=1e-6)
    np.testing.assert_allclose(served["encoded"](**arrays(scores, given))["probabilities"], expected, atol=1e-6)


def test_signatures_name_every_input_with_its_shape_and_type() -> None:
    from training.signatures import packed_signature, raw_signature

    encoder = prepared(ALL_KINDS, rows=2).encoder
    packed = {spec.name: (spec.shape.as_list(), spec.dtype.name) for spec in packed_signature(encoder)}
    named = {spec.name: (spec.shape.as_list(), spec.dtype.name) for spec in raw_signature(encoder)}

    assert packed == {
        "numbers": ([None, 2], "float32"),
        "categories": ([None, 1], "int32"),
        "image": ([None, 4, 4, 3], "uint8"),
        "texts": ([None, 2], "string"),
    }
    assert list(named) == ["x", "title", "c", "picture", "y", "body"]
    assert named["picture"] == ([None, 4, 4, 3], "uint8")
    assert named["title"] == named["c"] == ([None], "string")
    assert named["x"] == ([None], "float32")


def test_categories_keep_their_columns_whatever_their_order_among_the_features() -> None:
    import tensorflow as tf

    from training.presets.inputs import ModelInputs
    from training.signatures import with_raw_inputs

    features = [CATEGORY, NUMBERS[0], CategoryFeature(name="d", required=True, vocabulary=("p", "q"), example="p")]
    data = prepared(features, rows=3)
    packed = ModelInputs(data.task, data.classes, data.encoder, data.sample).packed()
    import keras

    codes = keras.Model(packed, {"codes": packed["categories"] + 0})
    named = with_raw_inputs(codes, data.encoder)
    rows = {"c": tf.constant(["b", "", "?"]), "d": tf.constant(["q", "p", "?"]), "x": tf.constant([1.0, 2.0, 3.0])}

    np.testing.assert_array_equal(named(rows)["codes"], [[3, 3], [MISSING, 2], [UNSEEN, UNSEEN]])
