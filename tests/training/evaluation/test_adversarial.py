"""FGSM and PGD against what can be computed by hand, and on digits."""

from typing import Any

import numpy as np
import pytest

from contract.features import Encoded, Encoder
from contract.manifest import CategoryFeature, ImageFeature, NumberFeature
from training.errors import ConfigError
from training.rows import Rows
from training.sections import AdversarialSection

RANDOM = np.random.default_rng(0)
NUMBERS = RANDOM.normal(size=(40, 3)).astype(np.float32) * np.float32([1, 10, 0]) + np.float32([0, 5, 2])
IMAGES = RANDOM.integers(0, 256, (40, 4, 4, 1)).astype(np.uint8)
LABELS = (RANDOM.random(40) < 0.5).astype(np.float32)
WEIGHTS = np.float32([0.7, -0.3, 2.0])


def tensors(**arrays: np.ndarray) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.constant(array) for name, array in arrays.items()}


def scales() -> Any:
    from training.evaluation.adversarial import Scales

    return Scales((0.0, 255.0), NUMBERS.std(axis=0))


def binary_loss(labels: Any, logits: Any) -> Any:
    import tensorflow as tf

    return tf.nn.sigmoid_cross_entropy_with_logits(labels, logits)


def linear(inputs: dict[str, Any]) -> Any:
    """A logistic regression on the numbers; the loss rises along -label * weights, wherever one is."""
    import tensorflow as tf

    known = tf.where(tf.math.is_nan(inputs["numbers"]), 0.0, inputs["numbers"])
    return tf.linalg.matvec(known, WEIGHTS)


def curved(inputs: dict[str, Any]) -> Any:
    import tensorflow as tf

    flat = tf.reshape(inputs["image"] / 255.0, (-1, 16))
    return tf.reduce_sum(tf.sin(3 * flat) * tf.cast(tf.range(16), tf.float32), axis=-1)


def perturbed(logits_of: Any, inputs: dict[str, np.ndarray], section: AdversarialSection, seed: int = 0) -> Any:
    from training.evaluation.adversarial import perturb

    moved = perturb(logits_of, binary_loss, tensors(**inputs), LABELS, section, scales(), np.int32([seed, 7]))
    return {name: tensor.numpy() for name, tensor in moved.items()}


@pytest.mark.parametrize("attack", ["fgsm", "pgd"])
def test_on_a_linear_model_the_attack_is_the_corner_of_the_ball(attack: str) -> None:
    """There the sign of the gradient is the same everywhere: the worst point is known without looking for it."""
    moved = perturbed(linear, {"numbers": NUMBERS}, AdversarialSection(attack=attack, epsilon=0.2))["numbers"]

    away = np.where(LABELS[:, None] == 1, -1, 1) * np.sign(WEIGHTS)
    np.testing.assert_allclose(moved, NUMBERS + away * 0.2 * NUMBERS.std(axis=0), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(moved[:, 2], NUMBERS[:, 2])  # a constant has no unit to be moved in


def test_fgsm_goes_along_the_sign_of_finite_differences() -> None:
    image = IMAGES.astype(np.float32)
    moved = perturbed(curved, {"image": image}, AdversarialSection(attack="fgsm", epsilon=0.01))["image"]

    step = 0.05
    interior = (image > 3) & (image < 252)  # where the range does not clip
    for pixel in range(16):
        nudge = np.zeros((4, 4, 1), np.float32)
        nudge.reshape(-1)[pixel] = step
        up, down = (np.asarray(binary_loss(LABELS, curved(tensors(image=image + sign * nudge)))) for sign in (1, -1))
        change = (moved - image).reshape(40, 16)[:, pixel]
        clear = interior.reshape(40, 16)[:, pixel] & (np.abs(up - down) > 1e-4)
        np.testing.assert_allclose(change[clear], 2.55 * np.sign(up - down)[clear], rtol=1e-4)
        assert clear.sum() > 5 or pixel == 0  # its weight is 0


@pytest.mark.parametrize("epsilon", [0.01, 0.1, 0.9])
def test_pgd_never_leaves_the_ball_nor_the_range(epsilon: float) -> None:
    inputs = {"image": IMAGES.astype(np.float32), "numbers": NUMBERS}
    section = AdversarialSection(attack="pgd", epsilon=epsilon, steps=7)
    moved = perturbed(lambda given: curved(given) + linear(given), inputs, section)

    assert np.abs(moved["image"] - IMAGES).max() <= epsilon * 255 * (1 + 1e-5)
    assert moved["image"].min() >= 0
    assert moved["image"].max() <= 255
    assert (np.abs(moved["numbers"] - NUMBERS) <= epsilon * NUMBERS.std(axis=0) * (1 + 1e-5) + 1e-6).all()
    assert np.abs(moved["image"] - IMAGES).mean() > 0.3 * min(epsilon, 0.5) * 255


def test_pgd_finds_more_than_fgsm_where_the_loss_is_curved() -> None:
    image = IMAGES.astype(np.float32)
    losses = {
        attack: float(np.mean(binary_loss(LABELS, curved(tensors(image=given)))))
        for attack, given in {
            "clean": image,
            "fgsm": perturbed(curved, {"image": image}, AdversarialSection(attack="fgsm", epsilon=0.5))["image"],
            "pgd": perturbed(curved, {"image": image}, AdversarialSection(epsilon=0.5, steps=20))["image"],
        }.items()
    }

    assert losses["pgd"] > losses["fgsm"] + 1
    assert losses["fgsm"] > losses["clean"]


def test_what_is_missing_stays_missing_and_codes_and_texts_stay() -> None:
    numbers = NUMBERS.copy()
    numbers[::3, 0] = np.nan
    codes, texts = np.arange(80, dtype=np.int32).reshape(40, 2) % 4, np.array([["a b"]] * 40)
    for attack in ("fgsm", "pgd"):
        moved = perturbed(
            linear, {"numbers": numbers, "categories": codes, "texts": texts}, AdversarialSection(attack=attack)
        )

        np.testing.assert_array_equal(np.isnan(moved["numbers"]), np.isnan(numbers))
        np.testing.assert_array_equal(moved["categories"], codes)
        np.testing.assert_array_equal(moved["texts"], texts.astype("S"))
        assert (moved["numbers"][1::3, :2] != numbers[1::3, :2]).all()


def test_the_same_seed_starts_at_the_same_place() -> None:
    section, inputs = AdversarialSection(epsilon=0.3, steps=1), {"image": IMAGES.astype(np.float32)}
    first, again, other = (perturbed(curved, inputs, section, seed)["image"] for seed in (1, 1, 2))

    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_an_image_that_becomes_an_integer_on_the_way_is_an_error() -> None:
    import tensorflow as tf

    def rounding(inputs: dict[str, Any]) -> Any:
        return tf.reduce_sum(tf.cast(tf.cast(inputs["image"], tf.int32), tf.float32), axis=(1, 2, 3))

    with pytest.raises(ConfigError, match="no gradient comes through to image"):
        perturbed(rounding, {"image": IMAGES.astype(np.float32)}, AdversarialSection())


def test_scales_are_the_range_of_the_image_and_the_deviations_of_the_numbers() -> None:
    from training.evaluation.adversarial import Scales

    features = [
        NumberFeature(name="x", required=False, minimum=0, maximum=1, example=0),
        ImageFeature(name="picture", shape=(4, 4, 1), dtype="float32", minimum=-1, maximum=1),
    ]
    values = np.float32([[1], [3], [np.nan]])
    rows = Rows(Encoded(values, np.empty((3, 0), np.int32), np.zeros((3, 4, 4, 1), np.float32)), np.zeros(3))
    found = Scales.of(Encoder(features), rows)

    assert found.image == (-1, 1)
    np.testing.assert_allclose(found.deviations, [1.0])
    assert found.attackable
    assert not Scales.of(
        Encoder([CategoryFeature(name="c", required=True, vocabulary=("a",), example="a")]),
        Rows(Encoded(np.empty((3, 0), np.float32), np.zeros((3, 1), np.int32)), np.zeros(3)),
    ).attackable
