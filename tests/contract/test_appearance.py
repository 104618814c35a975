"""What is measured of pictures, against SciPy, Python's own colours, and whole photographs."""

import colorsys

import numpy as np
import pytest
from scipy import ndimage
from sklearn.datasets import load_sample_image

from contract.appearance import Appearance
from contract.kinds import ImageFeature
from contract.watched import statistics

COLOURS = ImageFeature(name="photo", shape=(12, 9, 3))
GREY = ImageFeature(name="digit", shape=(9, 12, 1))
FLOATS = ImageFeature(name="scan", shape=(12, 12, 3), dtype="float32", minimum=-1, maximum=1)


def some(feature: ImageFeature, count: int = 5) -> np.ndarray:
    """Pictures with clipped pixels in them."""
    random = np.random.default_rng(0)
    values = random.normal(0.5, 0.4, (count, *feature.shape)).clip(0, 1)
    black, white = random.random((2, count, *feature.shape[:2])) < 0.1
    values[black], values[white] = 0, 1
    values = feature.minimum + values * (feature.maximum - feature.minimum)
    return np.rint(values).astype(np.uint8) if feature.dtype == "uint8" else values.astype(np.float32)


def measured(feature: ImageFeature, pictures: np.ndarray) -> dict[str, np.ndarray]:
    appearance = Appearance(feature)
    return dict(zip(appearance.names, appearance.measure(pictures).T, strict=True))


def expected(feature: ImageFeature, picture: np.ndarray) -> dict[str, float]:
    """Of one picture, every pixel, in float64."""
    wide = picture.astype(np.float64)
    luma = wide @ [0.299, 0.587, 0.114] if feature.shape[2] == 3 else wide[:, :, 0]
    of_sharpness = wide[:, :, 1] if feature.shape[2] == 3 else wide[:, :, 0]
    step = (feature.maximum - feature.minimum) / 255
    found = {
        "mean": luma.mean(),
        "contrast": luma.std(),
        "sharpness": ndimage.laplace(of_sharpness, mode="nearest").var(),
        "dark": (luma <= feature.minimum + step / 2).mean(),
        "bright": (luma >= feature.maximum - step / 2).mean(),
    }
    if feature.shape[2] == 3:
        found |= dict(zip(("red", "green", "blue"), wide.mean(axis=(0, 1)), strict=True))
        shares = (wide.reshape(-1, 3) - feature.minimum) / (feature.maximum - feature.minimum)
        found["saturation"] = np.mean([colorsys.rgb_to_hsv(*pixel)[1] for pixel in shares])
    return found


@pytest.mark.parametrize("feature", [COLOURS, GREY, FLOATS], ids=lambda feature: feature.name)
def test_small_pictures_are_measured_whole(feature: ImageFeature) -> None:
    pictures = some(feature)
    found = measured(feature, pictures)

    assert tuple(found) == tuple(each.name for each in statistics([feature]))
    for i, picture in enumerate(pictures):
        for name, value in expected(feature, picture).items():
            assert found[name][i] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    assert 0 < found["dark"].min() < found["dark"].max() < 0.5


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 1), (2, 2, 3)])
def test_a_picture_may_have_any_size(shape: tuple[int, int, int]) -> None:
    feature = ImageFeature(name="tiny", shape=shape)
    (picture,) = pictures = some(feature, 1)
    found = measured(feature, pictures)

    for name, value in expected(feature, picture).items():
        assert found[name][0] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("value", [0, 255])
def test_what_is_all_black_or_white_has_no_contrast(value: int) -> None:
    found = measured(COLOURS, np.full((2, *COLOURS.shape), value, np.uint8))

    assert found["mean"].tolist() == found["red"].tolist() == pytest.approx([value] * 2)
    assert found["contrast"] == pytest.approx([0, 0], abs=1e-4)
    assert found["sharpness"] == pytest.approx([0, 0], abs=1e-4)
    assert found["saturation"].tolist() == [0, 0]
    assert (found["dark"].tolist(), found["bright"].tolist()) == (([1, 1], [0, 0]) if value == 0 else ([0, 0], [1, 1]))


def test_many_pictures_are_measured_as_each_of_them() -> None:
    pictures = some(GREY, 150)
    appearance = Appearance(GREY)

    one_by_one = np.concatenate([appearance.measure(picture[None]) for picture in pictures])
    np.testing.assert_allclose(appearance.measure(pictures), one_by_one, rtol=1e-5, atol=1e-5)


def test_a_sample_of_a_photograph_is_like_the_whole() -> None:
    for name in ("china.jpg", "flower.jpg"):
        photo = load_sample_image(name)[:400, :400]
        feature = ImageFeature(name="photo", shape=photo.shape)
        found, whole = measured(feature, photo[None]), expected(feature, photo)
        for each in ("mean", "contrast", "red", "green", "blue"):
            assert found[each][0] == pytest.approx(whole[each], rel=0.1)
        assert found["saturation"][0] == pytest.approx(whole["saturation"], abs=0.05)


def test_what_goes_wrong_with_cameras_shows() -> None:
    photo = load_sample_image("china.jpg")
    feature = ImageFeature(name="photo", shape=(224, 224, 3))
    patches = np.stack([photo[y : y + 224, x : x + 224] for y in (0, 100, 200) for x in (0, 200, 400)])
    now = measured(feature, patches)
    blurred = measured(feature, ndimage.gaussian_filter(patches, (0, 2, 2, 0)))
    darker = measured(feature, patches // 3)
    swapped = measured(feature, patches[:, :, :, ::-1])
    faded = measured(feature, (patches * 0.3 + patches.mean(axis=3, keepdims=True) * 0.7).astype(np.uint8))

    assert (blurred["sharpness"] < now["sharpness"] / 5).all()
    np.testing.assert_allclose(blurred["mean"], now["mean"], rtol=0.05)
    assert (darker["mean"] < now["mean"] / 2.5).all()
    np.testing.assert_allclose(swapped["red"], now["blue"])
    np.testing.assert_allclose(swapped["saturation"], now["saturation"])
    assert (faded["saturation"] < now["saturation"] / 2).all()
