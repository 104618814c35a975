"""What is left of a model on changed rows: against models whose weakness is known by construction."""

from typing import Any

import numpy as np
import pytest

from contract.features import MISSING, UNSEEN, Encoded, Encoder
from contract.manifest import CategoryFeature, ImageFeature, NumberFeature, TextFeature
from training.evaluation.corruption import corruptions
from training.exporting.results import Robustness
from training.rows import InMemory, Prepared, Rows
from training.sections import TrainingConfig
from training.task import TASKS, TaskName

X = NumberFeature(name="x", required=False, minimum=-9, maximum=9, example=0)
SURE = NumberFeature(name="sure", required=True, minimum=-9, maximum=9, example=0)
C = CategoryFeature(name="c", required=True, vocabulary=("a", "b"), example="a")
CLASSES: dict[TaskName, tuple[str, ...]] = {"binary": ("no", "yes"), "multiclass": ("0", "1"), "regression": ()}


def data(features: list[Any], encoded: Encoded, labels: Any, task: TaskName = "binary") -> Prepared:
    rows = Rows(encoded, labels)
    encoder = Encoder(features)
    return Prepared(TASKS[task], encoder, CLASSES[task], InMemory(rows), rows, rows, rows, lambda _: [], "")


def config(features: list[Any], task: TaskName = "binary", epsilon: float = 0.1) -> TrainingConfig:
    sections = {feature.name: feature.kind for feature in features}
    return TrainingConfig.model_validate(
        {
            "name": "it",
            "task": task,
            "data": {"path": "x", "target": "t"} | ({"positive": "yes"} if task == "binary" else {}),
            "split": {"by": "random"},
            "features": sections,
            "model": {"builder": "a:b"},
            "evaluation": {"robustness_epsilon": epsilon},
        }
    )


def measured(model: Any, prepared: Prepared, section: TrainingConfig) -> dict[tuple[str, float], Robustness]:
    from training.evaluation.robustness import robustness

    return {(each.name, round(each.epsilon, 6)): each for each in robustness(model, prepared, section)}


def linear(rows: int = 1500) -> tuple[Any, Prepared]:
    """logit = 4 x + the category's own: right on every clean row, and of no use where both are lost."""
    import keras

    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 1)).astype(np.float32)
    codes = random.integers(2, 4, (rows, 1)).astype(np.int32)
    shapes = {"numbers": "float32", "categories": "int32"}
    inputs = {name: keras.Input((1,), dtype=dtype, name=name) for name, dtype in shapes.items()}
    known = keras.ops.where(keras.ops.isnan(inputs["numbers"]), 0.0, inputs["numbers"])
    table = keras.layers.Embedding(4, 1, embeddings_initializer="zeros")
    model = keras.Model(inputs, 4 * known[:, 0] + table(inputs["categories"])[:, 0, 0])
    table.set_weights([np.float32([[0], [0], [-2], [2]])])
    labels = (4 * x[:, 0] + np.float32([0, 0, -2, 2])[codes[:, 0]] > 0).astype(np.float32)
    return model, data([X, C], Encoded(x, codes), labels)


def test_attacks_on_a_linear_model_flip_exactly_the_rows_within_reach() -> None:
    """A row is lost when its margin is below 4 epsilon deviations: counted in NumPy, for every strength and attack."""
    model, prepared = linear()
    found = measured(model, prepared, config([X, C]))
    x, codes = prepared.test.encoded.numbers[:, 0], prepared.test.encoded.categories[:, 0]
    margin = np.abs(4 * x + np.float32([0, 0, -2, 2])[codes])

    assert found["clean", 0.0].accuracy == 1.0
    assert found["clean", 0.0].metric == 1.0
    for attack in ("fgsm", "pgd"):
        for epsilon in (0.05, 0.1, 0.2):
            kept = float((margin > 4 * epsilon * x.std()).mean())
            assert found[attack, epsilon].accuracy == pytest.approx(kept, abs=2e-3)
            assert kept < 0.99


def test_noise_missing_values_and_unseen_categories_cost_what_they_should() -> None:
    model, prepared = linear()
    found = measured(model, prepared, config([X, C]))

    assert {name for name, _ in found} == {"clean", "fgsm", "pgd", "noise", "missing", "unseen"}
    assert 1 > found["noise", 0.1].accuracy > found["noise", 0.5].accuracy > 0.7
    # Half the rows lose x, and with it the row's label in the share of rows where the category says otherwise.
    x, codes = prepared.test.encoded.numbers[:, 0], prepared.test.encoded.categories[:, 0]
    wrong = float(((codes == 3) != (prepared.test.labels == 1)).mean())
    assert found["missing", 0.5].accuracy == pytest.approx(1 - wrong / 2, abs=0.02)
    lost = float(((x > 0) != (prepared.test.labels == 1)).mean())
    assert found["unseen", 0.5].accuracy == pytest.approx(1 - lost / 2, abs=0.02)


def test_a_regression_has_no_accuracy_and_its_error_grows_by_the_slope() -> None:
    import keras

    x = np.random.default_rng(0).normal(size=(300, 1)).astype(np.float32)
    inputs = {"numbers": keras.Input((1,), name="numbers")}
    model = keras.Model(inputs, 5 * inputs["numbers"][:, 0] + 100)
    prepared = data([SURE], Encoded(x, np.empty((300, 0), np.int32)), 5 * x[:, 0] + 102, "regression")
    found = measured(model, prepared, config([SURE], "regression"))

    assert {name for name, _ in found} == {"clean", "fgsm", "pgd", "noise"}  # nothing is optional, nothing a category
    assert found["clean", 0.0].metric == pytest.approx(2, abs=1e-4)
    assert found["clean", 0.0].accuracy is None
    for attack in ("fgsm", "pgd"):
        assert found[attack, 0.2].metric == pytest.approx(2 + 5 * 0.2 * x.std(), rel=1e-3)


def test_images_of_bytes_are_attacked_through_the_models_own_scaling() -> None:
    """Class 1 is a bright picture: an attack of epsilon of the range is one of 255 epsilon in brightness."""
    import keras

    pixels = np.random.default_rng(0).integers(90, 166, (700, 4, 4, 1)).astype(np.uint8)
    inputs = {"image": keras.Input((4, 4, 1), dtype="uint8", name="image")}
    scaled = keras.layers.Rescaling(1 / 255)(inputs["image"])
    mean = keras.layers.GlobalAveragePooling2D()(scaled)
    model = keras.Model(inputs, keras.ops.concatenate([128 / 255 - mean, mean - 128 / 255], axis=-1) * 50)
    brightness = pixels.mean((1, 2, 3))
    none = np.empty((700, 0))
    encoded = Encoded(none.astype(np.float32), none.astype(np.int32), pixels)
    feature = ImageFeature(name="p", shape=(4, 4, 1))
    prepared = data([feature], encoded, (brightness > 128).astype(np.int32), "multiclass")
    found = measured(model, prepared, config([feature], "multiclass", epsilon=0.02))

    assert {name for name, _ in found} == {"clean", "fgsm", "pgd"}
    assert found["clean", 0.0].accuracy == 1.0
    kept = float((np.abs(brightness - 128) > 0.02 * 255).mean())
    for attack in ("fgsm", "pgd"):
        assert found[attack, 0.02].accuracy == pytest.approx(kept, abs=0.04)  # on 500 of the 700 pictures
    assert 0.2 < kept < 0.8


def test_only_optional_values_go_missing_in_their_share() -> None:
    features = [X, SURE, C, CategoryFeature(name="o", required=False, vocabulary=("a",), example="a")]
    features += [TextFeature(name="t", required=True, example="w"), TextFeature(name="u", required=False, example="")]
    rows = 4000
    random = np.random.default_rng(0)
    encoded = Encoded(
        random.normal(size=(rows, 2)).astype(np.float32),
        random.integers(2, 4, (rows, 2)).astype(np.int32),
        None,
        np.full((rows, 2), "word", object),
    )
    given = (encoded, Encoder(features), np.float32([1, 2]), 3)
    made = {(each.name, each.strength): each.encoded for each in corruptions(*given)}

    assert list(made) == [(name, s) for name in ("noise", "missing", "unseen") for s in (0.1, 0.5)]
    missing = made["missing", 0.1]
    for changed, share in [
        (np.isnan(missing.numbers), [0.1, 0]),
        (missing.categories == MISSING, [0, 0.1]),
        (missing.texts == "", [0, 0.1]),
        (made["unseen", 0.5].categories == UNSEEN, [0.5, 0.5]),
    ]:
        np.testing.assert_allclose(changed.mean(axis=0), share, atol=0.03)
    np.testing.assert_allclose((made["noise", 0.5].numbers - encoded.numbers).std(axis=0), [0.5, 1.0], rtol=0.05)
    first = next(corruptions(*given))
    np.testing.assert_array_equal(first.encoded.numbers, made["noise", 0.1].numbers)
