"""Columns of a client's tensors, held against the same rows in JSON."""

import base64
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from contract.features import MISSING, UNSEEN, Encoded, Encoder
from contract.images import encode_png
from contract.manifest import CategoryFeature, ImageFeature, NumberFeature, TextFeature

FEATURES = (
    NumberFeature(name="distance", required=True, minimum=10, maximum=5000, example=700),
    NumberFeature(name="age", required=False, minimum=0, maximum=40, example=12),
    NumberFeature(name="month", required=True, minimum=1, maximum=8, example=4, on_out_of_range="reject"),
    CategoryFeature(name="carrier", required=True, vocabulary=("UA", "B6"), example="UA"),
    CategoryFeature(name="dest", required=False, vocabulary=("ORD",), example="ORD"),
    CategoryFeature(name="origin", required=True, vocabulary=("EWR", "JFK"), example="EWR", on_unseen="reject"),
    TextFeature(name="note", required=False, example="calm", most_characters=6),
)
ENCODER = Encoder(FEATURES)
NUMBERS = ("distance", "age", "month")

NUMBER = st.sampled_from([None, 0.5, 1, 3, 8, 8.5, -1, 1e39, -1e300, 40000]) | st.floats(1, 8) | st.integers(1, 8)
STRING = st.sampled_from([None, "", "UA", "B6", "ORD", "EWR", "JFK", "XX", "Übung", "seven letters"])
ROW = st.fixed_dictionaries({f.name: NUMBER if f.name in NUMBERS else STRING for f in FEATURES})
GOOD_ROW = st.fixed_dictionaries(
    {
        "distance": st.floats(-1e6, 1e6) | st.integers(-(2**53), 2**53),
        "age": st.none() | st.floats(-1e6, 1e6),
        "month": st.integers(1, 8),
        "carrier": st.sampled_from(["UA", "B6", "never seen"]),
        "dest": st.sampled_from([None, "", "ORD", "elsewhere"]),
        "origin": st.sampled_from(["EWR", "JFK"]),
        "note": st.sampled_from([None, "", "calm", "stormy"]),
    }
)
SHAPES = st.sampled_from([(-1,), (-1, 1)])
STRINGS = st.sampled_from([object, "S", "U", "bytes"])


def column(name: str, values: list[Any], shape: tuple[int, ...], kind: object) -> NDArray[Any]:
    """Values as a client's array has them."""
    if name in NUMBERS:
        array = np.array([np.nan if value is None else value for value in values], np.float64)
    elif kind == "bytes":
        array = np.array([(value or "").encode() for value in values], object)
    elif kind == "S":
        array = np.array([(value or "").encode() for value in values], "S")
    else:
        array = np.array([value if kind is object else value or "" for value in values], kind)
    return array.reshape(shape)


@given(st.lists(ROW, min_size=1, max_size=5) | st.lists(GOOD_ROW, min_size=1, max_size=5), SHAPES, STRINGS)
def test_columns_and_rows_have_one_verdict_and_one_encoding(
    rows: list[dict[str, Any]], shape: tuple[int, ...], kind: object
) -> None:
    columns = {f.name: column(f.name, [row[f.name] for row in rows], shape, kind) for f in FEATURES}
    expected = ENCODER.encode(rows)
    found = ENCODER.encode_tensors(columns)

    assert isinstance(found, Encoded) == isinstance(expected, Encoded)
    if isinstance(expected, Encoded) and isinstance(found, Encoded):
        for ours, theirs in zip(found[:4], expected[:4], strict=True):
            np.testing.assert_array_equal(ours, theirs)
    elif isinstance(expected, list) and isinstance(found, list):
        wrong_rows = {(p.path.split("]")[0].split("[")[1], p.path.rsplit(".", 1)[1], p.problem) for p in expected}
        wrong_columns = {(p.path.split("[")[1][:-1], p.path.split(".")[1].split("[")[0], p.problem) for p in found}
        assert wrong_columns == wrong_rows


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int32, np.int64, np.uint64, np.float16, np.float32])
def test_a_number_comes_in_any_dtype(dtype: type) -> None:
    encoder = Encoder(FEATURES[:1])
    found = encoder.encode_tensors({"distance": np.array([[7], [12]], dtype)})

    assert isinstance(found, Encoded)
    assert found.numbers.dtype == np.float32
    assert found.numbers.tolist() == [[7.0], [12.0]]


def test_absent_optional_inputs_are_missing_in_every_row() -> None:
    found = ENCODER.encode_tensors(
        {
            "distance": np.array([100.0, 200.0]),
            "month": np.array([1, 2]),
            "carrier": np.array(["UA", "ZZ"]),
            "origin": np.array([b"EWR", b"JFK"]),
        }
    )

    assert isinstance(found, Encoded)
    np.testing.assert_array_equal(found.numbers, np.array([[100, np.nan, 1], [200, np.nan, 2]], np.float32))
    assert found.categories.tolist() == [[2, MISSING, 2], [UNSEEN, MISSING, 3]]
    assert found.texts is not None
    assert found.texts.tolist() == [[""], [""]]


def problems(tensors: dict[str, NDArray[Any]], encoder: Encoder = ENCODER) -> dict[str, str]:
    found = encoder.encode_tensors(tensors)
    assert isinstance(found, list)
    assert all(each.expected and each.received for each in found)
    return {each.path: each.problem for each in found}


GOOD = {
    "distance": np.array([100.0, 200.0]),
    "month": np.array([1, 2]),
    "carrier": np.array(["UA", "B6"]),
    "origin": np.array(["EWR", "JFK"]),
}


def test_every_problem_of_every_input_is_named() -> None:
    wrong = {
        "distanse": np.array([1.0, 2.0]),
        "month": np.array([1, 9]),
        "carrier": np.array(["UA", ""]),
        "origin": np.array([b"EWR", b"\xff"], object),
        "age": np.array([True, False]),
        "dest": np.array([1, 2]),
    }

    assert problems(wrong) == {
        "inputs.distanse": "unknown input",
        "inputs.distance": "required input is missing",
        "inputs.month[1]": "is outside the range seen in training",
        "inputs.carrier[1]": "required feature is missing",
        "inputs.origin[1]": "is not UTF-8",
        "inputs.age": "wrong type",
        "inputs.dest": "wrong type",
    }


@pytest.mark.parametrize(
    ("name", "array", "problem"),
    [
        ("distance", np.array([1.0, np.inf]), "is not finite in float32"),
        ("distance", np.array([1.0, np.nan]), "required feature is missing"),
        ("distance", np.array([1.0, 2.0], np.complex128), "wrong type"),
        ("distance", np.array(["1", "2"]), "wrong type"),
        ("distance", np.array([[1.0, 2.0], [3.0, 4.0]]), "has another shape"),
        ("distance", np.array([1.0, 2.0, 3.0]), "has another number of rows"),
        ("carrier", np.array(["UA", ["B6"]], object), "wrong type"),
        ("carrier", np.array([b"UA", 7], object), "wrong type"),
        ("carrier", np.array(5), "has another number of rows"),
    ],
)
def test_one_wrong_input(name: str, array: NDArray[Any], problem: str) -> None:
    assert problem in problems(GOOD | {name: array}).values()


def test_no_rows_and_no_inputs() -> None:
    assert problems({name: array[:0] for name, array in GOOD.items()}) == {"inputs": "have no rows"}
    assert set(problems({}).values()) == {"required input is missing"}


def test_problems_end_at_a_hundred() -> None:
    rows = 5000
    found = ENCODER.encode_tensors(
        {
            "distance": np.full(rows, np.inf),
            "month": np.full(rows, 99),
            "carrier": np.full(rows, ""),
            "origin": np.full(rows, "?"),
        }
    )

    assert isinstance(found, list)
    assert len(found) == 100


PICTURE = ImageFeature(name="image", shape=(2, 3, 1), dtype="uint8")
FLOATS = ImageFeature(name="image", shape=(2, 3, 1), dtype="float32", minimum=0, maximum=1)


@pytest.mark.parametrize("shape", [(4, 2, 3, 1), (4, 2, 3)])
@pytest.mark.parametrize("feature", [PICTURE, FLOATS])
def test_pictures_come_as_arrays(feature: ImageFeature, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 2, 24).reshape(shape)
    encoder = Encoder([feature])
    expected = encoder.encode([{"image": picture.tolist()} for picture in values])
    found = encoder.encode_tensors({"image": values})

    assert isinstance(found, Encoded)
    assert isinstance(expected, Encoded)
    assert found.image is not None
    assert expected.image is not None
    assert found.image.dtype == expected.image.dtype
    np.testing.assert_array_equal(found.image, expected.image)


def test_pictures_come_as_files_too() -> None:
    pixels = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    file = base64.b64decode(encode_png(pixels))
    found = Encoder([PICTURE]).encode_tensors({"image": np.array([file, file], object)})

    assert isinstance(found, Encoded)
    assert found.image is not None
    np.testing.assert_array_equal(found.image, np.stack([pixels, pixels]))
    assert problems({"image": np.array([file, b"no picture"], object)}, Encoder([PICTURE])) == {
        "inputs.image[1]": "is not a picture that can be read"
    }


@pytest.mark.parametrize(
    ("array", "path"),
    [
        (np.full((1, 2, 3, 1), 256), "inputs.image[0][0][0][0]"),
        (np.full((1, 2, 3), 0.5), "inputs.image[0][0][0]"),
        (np.full((1, 2, 3, 1), np.nan), "inputs.image[0][0][0][0]"),
        (np.zeros((1, 3, 2, 1), np.uint8), "inputs.image"),
        (np.zeros((1, 2, 3, 1), bool), "inputs.image"),
    ],
)
def test_pictures_that_are_none(array: NDArray[Any], path: str) -> None:
    assert path in problems({"image": array}, Encoder([PICTURE]))
