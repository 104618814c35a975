"""The networks that Hornpipe brings along: what their layers compute, and that they can be exported."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contract.features import Encoded
from contract.manifest import ImageFeature
from tests.training.preparing import CATEGORY, NUMBERS, TEXTS, arrays, encoded, picture, prepared
from training.errors import ConfigError
from training.sections import ApplicationModel, ImageModel, TabularModel, TextModel

IMAGE = ImageModel(preset="image", widths=[8, 16], blocks=1)
TEXT = TextModel(preset="text", vocabulary_size=50, words=6, width=8, hidden=8)


def build(*given: Any) -> Any:
    import keras

    from training import model

    keras.utils.set_random_seed(0)
    return model.build(*given)


def test_the_encoding_is_the_papers() -> None:
    """Against the formula of Gorishniy et al. 2022 for one number, bin by bin."""
    from training.presets.tabular import NumberEncoding

    values = np.sort(np.random.default_rng(0).normal(size=(1000, 1)).astype(np.float32), axis=0)
    layer = NumberEncoding.fitted(values, most_bins=4)
    edges = np.quantile(values, [0, 0.25, 0.5, 0.75, 1]).astype(np.float32)
    for x in (-9.0, float(edges[1]), 0.1, float(edges[4]), 9.0):
        encoding = np.asarray(layer(np.array([[x]], np.float32)))[0]
        expected = [np.clip((x - low) / (high - low), 0, 1) for low, high in pairwise(edges)]
        np.testing.assert_allclose(encoding[2:], expected, atol=1e-5)
        np.testing.assert_allclose(encoding[0], (x - values.mean()) / values.std(), rtol=1e-4, atol=1e-5)
        assert encoding[1] == 0
    missing = np.asarray(layer(np.array([[np.nan]], np.float32)))[0]
    median = np.asarray(layer(np.median(values, keepdims=True)))[0]
    assert missing[1] == 1
    np.testing.assert_allclose(np.delete(missing, 1), np.delete(median, 1), atol=1e-6)


@pytest.mark.parametrize("scale", [1e-44, 1e-25, 1.0, 1e25, 1e37])
def test_numbers_of_any_size_are_standardised(scale: float) -> None:
    """The mass of an electron in kilograms, and a mole's count; what is smaller than float32 can divide by stays."""
    from training.presets.tabular import NumberEncoding

    numbers = np.random.default_rng(0).normal(3, size=(500, 1))
    numbers[::7] = np.nan
    values = (numbers * scale).astype(np.float32)
    encoded = np.asarray(NumberEncoding.fitted(values, most_bins=8)(values))

    assert np.isfinite(encoded).all()
    if scale > 1e-38:
        known = values[:, 0].astype(np.float64)
        expected = (known - np.nanmean(known)) / np.nanstd(known)
        np.testing.assert_allclose(encoded[~np.isnan(known), 0], expected[~np.isnan(known)], rtol=1e-4, atol=1e-4)


def test_a_tabular_network_may_normalise_its_batches() -> None:
    import keras

    data = prepared([*NUMBERS, CATEGORY])
    network = build(data, TabularModel(members=1, hidden=[16, 8], batch_normalization=True))
    before = arrays(network, data.sample.encoded)

    trained, asked = (np.asarray(network(before, training=training)) for training in (True, False))

    assert sum(isinstance(layer, keras.layers.BatchNormalization) for layer in network.layers) == 2
    assert np.abs(trained - asked).max() > 1e-4
    assert network.get_layer("hidden_0_0").use_bias is False


@pytest.mark.parametrize("task", ["binary", "multiclass", "regression"])
def test_members_answer_with_their_mean_and_train_apart(task: Any) -> None:
    """Of probabilities, not of logits; each member's logits are there in training."""
    data = prepared(NUMBERS, task)
    network = build(data, TabularModel(members=3, hidden=[8], dropout=0.0))
    given = arrays(network, data.sample.encoded)
    apart, together = (np.asarray(network(given, training=training)) for training in (True, False))
    scores = [data.task.scores(apart[:, member]) for member in range(3)]

    assert np.abs(apart[:, 0] - apart[:, 1]).max() > 1e-3
    np.testing.assert_allclose(data.task.scores(together), np.mean(scores, axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("side", "channels", "smallest"), [(8, 1, 4), (28, 3, 7), (96, 3, 12)])
def test_an_image_network_never_shrinks_a_picture_to_nothing(side: int, channels: int, smallest: int) -> None:
    data = prepared([picture(side, side, channels)], "multiclass", rows=4)
    network = build(data, ImageModel(preset="image", widths=[4, 8, 16]))

    assert network.get_layer("pool").input.shape == (None, smallest, smallest, 16)
    assert network(arrays(network, data.sample.encoded)).shape == (4, 3)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_an_image_network_sees_standardised_pictures(dtype: str) -> None:
    import keras

    data = prepared([picture(channels=3, dtype=dtype)])
    network = build(data, IMAGE)
    seen = keras.Model(network.input, network.get_layer("standardised").output)
    values = np.asarray(seen(arrays(network, data.sample.encoded)))

    np.testing.assert_allclose(values.mean((0, 1, 2)), 0, atol=1e-4)
    np.testing.assert_allclose(values.std((0, 1, 2)), 1, atol=1e-4)


def test_augmentation_acts_in_training_only_and_is_the_same_for_the_same_seed() -> None:
    data = prepared([picture()])
    first, second = (build(data, IMAGE) for _ in range(2))
    given = arrays(first, data.sample.encoded)
    layers = [network.get_layer("augmentation") for network in (first, second)]

    moved, again, later = (layers[i](given["image"], training=True) for i in (0, 1, 0))

    np.testing.assert_array_equal(moved, again)
    assert np.abs(moved - later).max() > 1
    np.testing.assert_array_equal(layers[0](given["image"]), data.sample.encoded.image)
    assert "augmentation" not in [
        layer.name for layer in build(data, IMAGE.model_copy(update={"augment": False})).layers
    ]


def augmented(pictures: np.ndarray, **options: Any) -> np.ndarray:
    from training.presets.augmentation import Augmentation

    return np.asarray(Augmentation(**options, seed=1)(pictures, training=True))


@pytest.mark.parametrize("side", [9, 40])
def test_no_movement_changes_nothing_and_a_flip_is_a_flip(side: int) -> None:
    """Small pictures are read through an enlargement, which must not be seen."""
    pictures = np.random.default_rng(0).random((50, side, side - 2, 3)).astype(np.float32)
    flipped = augmented(pictures, flip=True)
    kept, mirrored = (
        np.isclose(flipped, given, atol=1e-5).all((1, 2, 3)) for given in (pictures, pictures[:, :, ::-1])
    )

    np.testing.assert_allclose(augmented(pictures), pictures, atol=1e-5)
    assert (kept | mirrored).all()
    assert 10 < mirrored.sum() < 40


@pytest.mark.parametrize("side", [11, 40])
def test_a_shift_is_where_scipy_puts_it(side: int) -> None:
    from scipy.ndimage import shift

    slope = np.arange(side, dtype=np.float32)[None, :, None, None] * 10
    moved = augmented(np.broadcast_to(slope, (50, side, side, 1)), shift=0.2)
    middle = side // 2
    offsets = moved[:, middle, middle, 0] / 10 - middle  # read from the middle of the slope
    assert 0.15 * side < np.abs(offsets).max() <= 0.2 * side
    straight = slice(4, 7) if side < 32 else slice(None)  # a cubic curve is a line where it has four points of one
    for i in range(50):
        expected = shift(slope[0, :, 0, 0], -offsets[i], order=1, mode="nearest")
        np.testing.assert_allclose(moved[i, straight, 3, 0], expected[straight], atol=1e-2)


def test_noise_is_normal_and_of_a_tenth_of_the_range_in_the_preset() -> None:
    pictures = np.full((40, 40, 40, 1), 100.0, np.float32)
    noise = augmented(pictures, noise=3.0) - 100
    feature = ImageFeature(name="p", dtype="float32", shape=(8, 8, 1), minimum=-2, maximum=14)

    assert noise.std() == pytest.approx(3, rel=0.02)
    assert noise.mean() == pytest.approx(0, abs=0.05)
    assert (np.abs(noise) > 6).mean() == pytest.approx(0.0455, abs=0.005)
    assert build(prepared([feature], rows=4), IMAGE).get_layer("augmentation").noise == pytest.approx(1.6)


def test_a_shear_moves_each_row_by_its_distance_from_the_middle() -> None:
    slope = np.broadcast_to(np.arange(41, dtype=np.float32)[None, None, :, None], (30, 41, 41, 1))
    sheared = augmented(slope, shear=0.3)[:, :, 20, 0] - 20
    amounts = sheared[:, 40] / 20

    np.testing.assert_allclose(sheared, amounts[:, None] * (np.arange(41) - 20), atol=1e-2)
    assert 0.25 < np.abs(amounts).max() <= 0.3


def test_a_turn_is_about_the_middle_and_a_zoom_keeps_it() -> None:
    y, x = np.mgrid[-20:21, -20:21].astype(np.float32)
    rings = np.broadcast_to((x**2 + y**2)[None, :, :, None], (30, 41, 41, 1))
    inside = (x**2 + y**2) <= 19**2
    np.testing.assert_allclose(augmented(rings, rotate=0.5)[:, inside], rings[:, inside], atol=0.6)  # between squares

    zoomed = augmented(rings, zoom=0.3)
    np.testing.assert_allclose(zoomed[:, 20, 20], 0, atol=1e-3)
    across, down = 10 / np.sqrt(zoomed[:, 20, 30, 0]), 10 / np.sqrt(zoomed[:, 30, 20, 0])
    for factors in (across, down):
        assert 0.69 < factors.min() < 0.8
        assert 1.2 < factors.max() < 1.31
    assert np.abs(across - down).max() > 0.1  # each side by its own


def test_texts_are_told_apart_by_their_words_and_empty_ones_are_fine() -> None:
    data = prepared(TEXTS, "multiclass")
    network = build(data, TEXT)
    same = np.array([["Red FISH!", ""], ["red fish", ""], ["blue dog", ""], ["", ""], ["never seen", ""]], object)
    none = np.empty((5, 0))
    logits = np.asarray(network(arrays(network, Encoded(none, none, None, same))))

    np.testing.assert_allclose(logits[0], logits[1], rtol=1e-6)
    assert np.abs(logits[1] - logits[2]).max() > 1e-4
    assert np.isfinite(logits).all()


def test_padding_words_change_nothing() -> None:
    """The same text in a network that has room for more words."""
    from training.presets.text import PooledWords

    values = np.random.default_rng(0).random((3, 4, 5)).astype(np.float32)
    words = np.array([[2, 3, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]])
    pooled = np.asarray(PooledWords()(values, words))

    np.testing.assert_allclose(pooled[0], [*values[0, :2].max(0), *values[0, :2].mean(0)], rtol=1e-6)
    np.testing.assert_allclose(pooled[1], [*values[1, 0], *values[1, 0]], rtol=1e-6)
    np.testing.assert_array_equal(pooled[2], np.zeros(10))


def test_a_text_network_answers_the_same_as_a_saved_model(tmp_path: Path) -> None:
    import tensorflow as tf

    data = prepared(TEXTS)
    network = build(data, TEXT)
    network.export(str(tmp_path / "text"), verbose=False)
    served = tf.saved_model.load(str(tmp_path / "text"))
    given = arrays(network, data.sample.encoded)

    np.testing.assert_allclose(served.serve(given), network(given), atol=1e-6)


@pytest.mark.parametrize(("side", "channels"), [(32, 1), (48, 3)])
def test_an_application_sees_what_its_own_preprocessing_gives(side: int, channels: int) -> None:
    """By hand: bytes, three channels, Keras' preprocess_input, the same weights."""
    import keras

    feature = ImageFeature(name="p", dtype="float32", shape=(side, side, channels), minimum=-1, maximum=1)
    data = prepared([feature], rows=3)
    pixels = np.random.default_rng(0).uniform(-1, 1, (3, side, side, channels)).astype(np.float32)
    network = build(data, ApplicationModel(application="VGG16", augment=False))
    reference = keras.applications.VGG16(include_top=False, weights=None, input_shape=(side, side, 3))
    reference.set_weights(network.get_weights()[:-2])
    pictures = np.repeat((pixels + 1) * 127.5, 3 // channels, axis=-1)
    hidden = np.asarray(reference(keras.applications.vgg16.preprocess_input(pictures))).mean((1, 2))
    kernel, bias = network.get_layer("logits").get_weights()

    logits = np.asarray(network({"image": pixels}))

    np.testing.assert_allclose(logits, (hidden @ kernel + bias)[:, 0], rtol=1e-4, atol=1e-5)


def test_an_application_starts_from_a_local_file_and_may_be_frozen(tmp_path: Path) -> None:
    import keras

    data = prepared([picture(32, 32, 3)], rows=4)
    keras.utils.set_random_seed(5)
    known = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3))
    path = tmp_path / "known.weights.h5"
    known.save_weights(path)

    network = build(data, ApplicationModel(application="MobileNet", weights=str(path), frozen=True))

    for loaded, expected in zip(network.get_weights()[:-2], known.get_weights(), strict=True):
        np.testing.assert_array_equal(loaded, expected)
    assert [weight.path for weight in network.trainable_weights] == ["logits/kernel", "logits/bias"]
    given = arrays(network, data.sample.encoded)
    before = network.get_weights()
    network(given, training=True)
    for kept, expected in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(kept, expected)  # not even the moving averages of its normalisations


def test_wrong_applications_and_weights_are_explained(tmp_path: Path) -> None:
    data, small = prepared([picture(32, 32, 3)], rows=2), prepared([picture(8, 8, 3)], rows=2)
    wrong = tmp_path / "wrong.weights.h5"
    build(data, IMAGE).save_weights(wrong)
    for given, options, expected in [
        (data, {"application": "MobileNetv2"}, "did you mean 'MobileNetV2'"),
        (small, {"application": "VGG16"}, "VGG16: cannot take pictures of 8 x 8: Input size must be at least 32"),
        (data, {"application": "MobileNet", "weights": "nowhere.h5"}, "nowhere.h5: no such file"),
        (data, {"application": "MobileNet", "weights": str(wrong)}, "expected weights of MobileNet without its top"),
    ]:
        with pytest.raises(ConfigError, match=expected):
            build(given, ApplicationModel(**options))


@pytest.mark.parametrize("preset", ["tabular", "image", "text"])
def test_a_network_of_ours_can_be_saved_and_loaded_without_our_code_running(preset: str, tmp_path: Path) -> None:
    """safe_mode: no pickled code is in the file; the registered layers are all that is needed."""
    import keras

    features, section = {
        "tabular": ([*NUMBERS, CATEGORY], TabularModel(hidden=[8])),
        "image": ([picture()], IMAGE),
        "text": (TEXTS, TEXT),
    }[preset]
    data = prepared(features)
    network = build(data, section)
    network.save(tmp_path / "it.keras")
    loaded = keras.saving.load_model(tmp_path / "it.keras", safe_mode=True)
    given = arrays(network, encoded(features, 20, seed=9))

    np.testing.assert_allclose(loaded(given), network(given), rtol=1e-6)
