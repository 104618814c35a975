"""Arrays of a .npz file: vectors become numbers, pictures stay pictures."""

from pathlib import Path

import numpy as np
import pytest

from contract.manifest import CategoryFeature, ImageFeature, NumberFeature
from training import config, data
from training.errors import DataError

RNG = np.random.default_rng(5)
ARRAYS = {
    "x": RNG.normal(size=(60, 3)),
    "age": RNG.integers(18, 90, 60),
    "city": np.array(["Ulm", "Bonn", "Kiel"] * 20),
    "bytes": RNG.integers(0, 256, (60, 4, 5), dtype=np.uint8),
    "rays": RNG.uniform(-1, 3, (60, 4, 5, 3)),
    "digit": np.arange(60) % 11,
    "price": RNG.normal(size=60),
}


def prepare(folder: Path, arrays: dict[str, np.ndarray] | None = None, **sections: object) -> data.Prepared:
    path = folder / "data.npz"
    np.savez(path, **ARRAYS | (arrays or {}))
    raw = {
        "name": "arrays",
        "task": "multiclass",
        "data": {"path": str(path), "target": "digit", "category_min_count": 1},
        "split": {"by": "order", "validation": 0.1, "test": 0.2},
        "features": {"x": "number", "age": "number", "city": "category"},
        "model": {"builder": "any.where:build"},
    }
    return data.prepare(config.parse(raw | sections))


def problems(folder: Path, arrays: dict[str, np.ndarray] | None = None, **sections: object) -> str:
    with pytest.raises(DataError) as caught:
        prepare(folder, arrays, **sections)
    return "\n".join(caught.value.problems)


def test_a_matrix_is_a_number_for_each_column(tmp_path: Path) -> None:
    prepared = prepare(tmp_path)
    numbers = np.column_stack([ARRAYS["x"], ARRAYS["age"]]).astype(np.float32)

    assert [feature.name for feature in prepared.encoder.features] == ["x_0", "x_1", "x_2", "age", "city"]
    assert isinstance(prepared.encoder.features[0], NumberFeature)
    assert isinstance(prepared.encoder.features[4], CategoryFeature)
    np.testing.assert_array_equal(prepared.test.encoded.numbers, numbers[48:])


def test_classes_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    prepared = prepare(tmp_path)

    assert prepared.classes == tuple(map(str, range(11)))
    np.testing.assert_array_equal(prepared.sample.labels, ARRAYS["digit"][:42])


def test_regression_keeps_its_numbers(tmp_path: Path) -> None:
    path = str(tmp_path / "data.npz")
    prepared = prepare(tmp_path, task="regression", data={"path": path, "target": "price", "category_min_count": 1})

    np.testing.assert_array_equal(prepared.test.labels, ARRAYS["price"][48:].astype(np.float32))
    assert prepared.classes == ()


@pytest.mark.parametrize(
    ("array", "shape", "dtype"), [("bytes", (4, 5, 1), "uint8"), ("rays", (4, 5, 3), "float32")]
)  # fmt: skip
def test_pictures(tmp_path: Path, array: str, shape: tuple[int, ...], dtype: str) -> None:
    prepared = prepare(tmp_path, features={"picture": {"kind": "image", "column": array}, "age": "number"})
    picture = prepared.encoder.features[0]
    sent = prepared.raw_test(range(12))

    assert isinstance(picture, ImageFeature)
    assert (picture.shape, picture.dtype) == (shape, dtype)
    expected = ARRAYS[array].reshape(60, *shape).astype(dtype)
    np.testing.assert_array_equal(prepared.sample.encoded.image, expected[:42])
    np.testing.assert_array_equal(prepared.encoder.encode(sent).image, expected[48:])


def test_the_range_of_float_pictures_is_that_of_training_rows(tmp_path: Path) -> None:
    rays = ARRAYS["rays"].copy()
    rays[59] = 100
    picture = prepare(tmp_path, {"rays": rays}, features={"rays": "image"}).encoder.features[0]

    assert picture.minimum == np.float32(rays[:42].min())
    assert picture.maximum == np.float32(rays[:42].max())


@pytest.mark.parametrize("name", ["x", "age", "city", "bytes", "digit"])
def test_the_fingerprint_changes_with_one_value(tmp_path: Path, name: str) -> None:
    features = {"x": "number", "age": "number", "city": "category", "bytes": "image"}
    changed = ARRAYS[name].copy()
    changed.flat[7], changed.flat[8] = changed.flat[8], changed.flat[7]

    assert prepare(tmp_path, features=features).fingerprint == prepare(tmp_path, features=features).fingerprint
    assert prepare(tmp_path, {name: changed}, features=features).fingerprint != prepare(
        tmp_path, features=features
    ).fingerprint  # fmt: skip


@pytest.mark.parametrize(
    ("arrays", "features", "message"),
    [
        ({}, {"agee": "number"}, "features.agee: no column 'agee'; did you mean 'age'?"),
        ({"age": np.arange(59)}, {"age": "number"}, "one value for each row: age has 59, digit has 60"),
        ({}, {"rays": "number"}, "rays: [rows] or [rows, numbers] is expected, the array is float64 [60, 4, 5, 3]"),
        ({}, {"x": "category"}, "x: [rows] is expected, the array is float64 [60, 3]"),
        ({}, {"x": "image"}, "x: pictures [rows, height, width] or"),
        ({}, {"bytes": {"kind": "image", "size": [8, 8]}}, "bytes: [rows, 8, 8, 1] by the config is expected"),
        ({}, {"city": "number"}, "city: a number is expected, the column is string"),
        ({"age": np.full(60, np.nan)}, {"age": "number"}, "age: every value is missing"),
        ({"x": np.full((60, 2), np.inf)}, {"x": "number"}, "x_1: 60 values are infinite"),
        ({"rays": np.full((60, 4, 5), np.nan)}, {"rays": "image"}, "rays: 60 pictures hold values that are not finite"),
        ({"x_0": np.arange(60)}, {"x": "number", "x_0": "number"}, "is called x_0, as another is"),
    ],
)
def test_arrays_that_are_not_what_the_config_says(
    tmp_path: Path, arrays: dict[str, np.ndarray], features: dict[str, object], message: str
) -> None:
    assert message in problems(tmp_path, arrays, features=features)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    assert "cannot be read as a .npz file of plain arrays" in problems(tmp_path, {"age": np.array([{}] * 60)})


def test_a_file_that_is_no_archive(tmp_path: Path) -> None:
    prepare(tmp_path)
    whole = (tmp_path / "data.npz").read_bytes()
    broken = tmp_path / "broken.npz"
    broken.write_bytes(whole[:-100])
    with pytest.raises(DataError, match="cannot be read as a"):
        prepare(tmp_path, data={"path": str(broken), "target": "digit"})
