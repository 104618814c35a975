"""The encoder, held against pydantic and against any JSON at all."""

import base64
import io
import json
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from contract.features import MISSING, MOST_PROBLEMS, UNSEEN, Encoded, Encoder
from contract.images import encode_png
from contract.manifest import CategoryFeature, ImageFeature, NumberFeature, TextFeature

FEATURES = (
    NumberFeature(name="distance", required=True, minimum=10, maximum=5000, example=700),
    NumberFeature(name="age", required=False, minimum=0, maximum=40, example=12),
    NumberFeature(name="month", required=True, minimum=1, maximum=8, example=4, on_out_of_range="reject"),
    CategoryFeature(name="carrier", required=True, vocabulary=("UA", "B6"), example="UA"),
    CategoryFeature(name="dest", required=False, vocabulary=("ORD",), example="ORD"),
    CategoryFeature(name="origin", required=True, vocabulary=("EWR", "JFK"), example="EWR", on_unseen="reject"),
)
ROW = {"distance": 719, "age": 12.5, "month": 4, "carrier": "UA", "dest": "ORD", "origin": "EWR"}


def within_float32(value: float) -> float:
    with np.errstate(over="ignore"):
        finite = np.isfinite(np.float32(value))
    if not finite:
        raise ValueError("not finite in float32")
    return value


Number = pydantic.StrictInt | pydantic.StrictFloat
Finite = pydantic.AfterValidator(within_float32)


class RowOracle(pydantic.BaseModel):
    """The rules of FEATURES in pydantic's words, written by hand."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True)

    distance: Annotated[Number, Finite]
    age: Annotated[Number, Finite] | None = None
    month: Annotated[Number, pydantic.Field(ge=1, le=8)]
    carrier: Annotated[str, pydantic.Field(min_length=1)]
    dest: str | None = None
    origin: Literal["EWR", "JFK"]


ORACLE = pydantic.TypeAdapter(Annotated[list[RowOracle], pydantic.Field(min_length=1)])

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
VALUE = (
    st.sampled_from([None, "", "UA", "ORD", "EWR", "XX", 0, 1, 8, 8.5, -1, True, 1e39, -1e300, 10**400, 2**63, [], {}])
    | st.integers(1, 8)
    | st.floats(1, 8)
)
NEAR_ROW = st.fixed_dictionaries(
    {},
    optional={feature.name: VALUE for feature in FEATURES} | {"extra": st.just(1)},
)
GOOD_ROW = st.fixed_dictionaries(
    {
        "distance": st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6),
        "month": st.integers(1, 8) | st.floats(1, 8, width=32),
        "carrier": st.sampled_from(["UA", "B6", "never seen"]),
        "origin": st.sampled_from(["EWR", "JFK"]),
    },
    optional={
        "age": st.none() | st.floats(-1e6, 1e6, width=32),
        "dest": st.sampled_from([None, "", "ORD", "elsewhere"]),
    },
)


def accepted_by_pydantic(rows: object) -> bool:
    try:
        ORACLE.validate_python(rows)
    except (pydantic.ValidationError, OverflowError):
        return False
    return True


@given(JSON | st.lists(JSON | NEAR_ROW, max_size=4) | st.lists(NEAR_ROW | GOOD_ROW, min_size=1, max_size=4))
def test_any_json_gives_arrays_or_problems_and_pydantic_agrees(rows: object) -> None:
    result = Encoder(FEATURES).encode(rows)

    assert isinstance(result, Encoded) == accepted_by_pydantic(rows)
    if isinstance(result, list):
        assert 1 <= len(result) <= MOST_PROBLEMS
        assert all(p.path.startswith("instances") and p.problem and p.expected and p.received for p in result)
        json.dumps([p.path + p.problem + p.expected + p.received for p in result])


@given(st.lists(GOOD_ROW, min_size=1, max_size=5))
def test_what_pydantic_accepts_is_encoded_value_by_value(rows: list[dict[str, Any]]) -> None:
    encoded = Encoder(FEATURES).encode(rows)

    assert isinstance(encoded, Encoded)
    assert encoded.numbers.dtype == np.float32
    assert encoded.categories.dtype == np.int32
    for i, row in enumerate(rows):
        expected = [np.nan if row.get(name) is None else row[name] for name in ("distance", "age", "month")]
        np.testing.assert_array_equal(encoded.numbers[i], np.array(expected, np.float32))
        codes = (
            {"UA": 2, "B6": 3}.get(row["carrier"], UNSEEN),
            {"ORD": 2, None: MISSING, "": MISSING}.get(row.get("dest"), UNSEEN),
        )
        assert tuple(encoded.categories[i][:2]) == codes


@given(st.lists(GOOD_ROW, min_size=1, max_size=5))
def test_columns_are_encoded_as_rows_are(rows: list[dict[str, Any]]) -> None:
    encoder = Encoder(FEATURES)
    columns = {
        f.name: np.array([row.get(f.name) for row in rows], float if isinstance(f, NumberFeature) else object)
        for f in FEATURES
    }
    by_columns, by_rows = encoder.encode_columns(columns), encoder.encode(rows)

    assert isinstance(by_rows, Encoded)
    np.testing.assert_array_equal(by_columns.numbers, by_rows.numbers)
    np.testing.assert_array_equal(by_columns.categories, by_rows.categories)


@pytest.mark.parametrize(
    ("change", "path", "problem", "expected", "received"),
    [
        ({"distance": "far"}, "distance", "wrong type", "a number", '"far"'),
        ({"distance": True}, "distance", "wrong type", "a number", "true"),
        ({"distance": None}, "distance", "required feature is missing", "a number", "nothing"),
        ({"distance": 1e39}, "distance", "is not finite in float32", "a number", "1e+39"),
        ({"age": [1]}, "age", "wrong type", "a number, or null", "a list of 1"),
        ({"month": 9}, "month", "is outside the range seen in training", "a number from 1 to 8", "9"),
        ({"carrier": 7}, "carrier", "wrong type", "a string such as UA, B6", "7"),
        ({"carrier": ""}, "carrier", "required feature is missing", "a string such as UA, B6", '""'),
        ({"origin": "EWW"}, "origin", "was never seen in training", "perhaps EWR", '"EWW"'),
        ({"carier": "UA"}, "carier", "unknown feature", "perhaps carrier", '"UA"'),
    ],
)
def test_a_problem_says_where_what_expected_and_received(
    change: dict[str, object], path: str, problem: str, expected: str, received: str
) -> None:
    problems = Encoder(FEATURES).encode([ROW, ROW | change])

    assert isinstance(problems, list)
    assert [(p.path, p.problem, p.expected, p.received) for p in problems] == [
        (f"instances[1].{path}", problem, expected, received)
    ]


def test_all_problems_come_at_once_up_to_a_hundred() -> None:
    problems = Encoder(FEATURES).encode([{"x": 1}] * 60)

    assert isinstance(problems, list)
    assert len(problems) == MOST_PROBLEMS
    assert len({p.path for p in problems}) == MOST_PROBLEMS


@pytest.mark.parametrize("kept", [NumberFeature, CategoryFeature])
def test_features_of_one_kind_alone(kept: type) -> None:
    features = [feature for feature in FEATURES if isinstance(feature, kept)]
    encoded = Encoder(features).encode([{feature.name: ROW[feature.name] for feature in features}] * 2)

    assert isinstance(encoded, Encoded)
    assert encoded.numbers.shape == (2, 3 if kept is NumberFeature else 0)
    assert encoded.categories.shape == (2, 3 if kept is CategoryFeature else 0)


WHOLE = ImageFeature(name="picture", shape=(2, 3, 1))
FLOATS = ImageFeature(name="picture", shape=(1, 2, 3), dtype="float32", minimum=-0.1, maximum=0.1)
TITLE = TextFeature(name="title", required=False, example="news", most_characters=8)
BODY = TextFeature(name="body", required=True, example="what happened", most_characters=4)
PNG = encode_png(np.full((5, 5, 3), 200, np.uint8))


def _is_file(text: str) -> bool:
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
        Image.open(io.BytesIO(data)).load()
    except (ValueError, OSError):
        return False
    return True


def is_picture(value: object, feature: ImageFeature) -> bool:
    """The rules for a picture, one value at a time."""
    if isinstance(value, dict):
        return list(value) == ["b64"] and isinstance(value["b64"], str) and _is_file(value["b64"])
    height, width, channels = feature.shape
    if not isinstance(value, list) or len(value) != height:
        return False
    if any(not isinstance(line, list) or len(line) != width for line in value):
        return False
    cells = [cell for line in value for cell in line]
    if not (channels == 1 and not any(isinstance(cell, list) for cell in cells)):
        if any(not isinstance(cell, list) or len(cell) != channels for cell in cells):
            return False
        cells = [each for cell in cells for each in cell]
    if any(isinstance(each, bool) or not isinstance(each, int | float) for each in cells):
        return False
    if feature.dtype == "uint8":
        return all(0 <= each <= 255 and each == int(each) for each in cells)
    return all(-0.3000001 < each < 0.3000001 for each in cells)  # the range of training, and its width around it


def is_text(value: object, feature: TextFeature) -> bool:
    if value is None or value == "":
        return not feature.required
    return isinstance(value, str) and len(value) <= feature.most_characters


def lists_of(feature: ImageFeature, cell: st.SearchStrategy[Any], shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    for size in reversed(shape):
        cell = st.lists(cell, min_size=size, max_size=size)
    return cell


def picture_of(feature: ImageFeature) -> st.SearchStrategy[Any]:
    good = st.integers(0, 255) if feature.dtype == "uint8" else st.floats(-0.3, 0.3)
    odd = st.sampled_from([-1, 256, 0.5, True, None, "1", 1e39, 10**400, -0.0, 255.0, [], [1], {}, -0.3, 0.3, 0.31])
    shape = feature.shape
    others = [shape, shape[:2], (*shape, 1), shape[1:], (shape[0], shape[1] + 1, shape[2])]
    lists = [lists_of(feature, cell, each) for each in others for cell in (good, good | odd)]
    files = st.sampled_from([PNG, PNG[:40], PNG[:-3], "", "\u00e9", "AAAA", 7, None, PNG + "\n"])
    keys = st.dictionaries(st.sampled_from(["b64", "url"]), files, max_size=2)
    return st.one_of(*lists, st.fixed_dictionaries({"b64": files}), keys, JSON)


@pytest.mark.parametrize("image", [WHOLE, FLOATS], ids=["uint8", "float32"])
@given(st.data())
def test_pictures_and_texts_give_arrays_or_problems_as_the_slow_rules_say(
    image: ImageFeature, data: st.DataObject
) -> None:
    text = st.none() | st.text(max_size=9) | st.sampled_from([0, False, [], "12345678", "1234"])
    near = st.fixed_dictionaries({"picture": picture_of(image), "body": st.just("text")}, optional={"title": text})
    row = near | st.fixed_dictionaries({}, optional={"picture": picture_of(image), "title": text, "body": text})
    rows = data.draw(st.lists(row, min_size=1, max_size=3))
    expected = all(
        is_picture(row.get("picture"), image) and is_text(row.get("title"), TITLE) and is_text(row.get("body"), BODY)
        for row in rows
    )
    result = Encoder([TITLE, image, BODY]).encode(rows)

    assert isinstance(result, Encoded) == expected
    if isinstance(result, list):
        assert all(p.path.startswith("instances[") and p.problem and p.expected and p.received for p in result)
        json.dumps([p.path + p.problem + p.expected + p.received for p in result])


@pytest.mark.parametrize("image", [WHOLE, FLOATS], ids=["uint8", "float32"])
@given(st.data())
def test_good_pictures_and_texts_are_encoded_value_by_value(image: ImageFeature, data: st.DataObject) -> None:
    cell = st.integers(0, 255) | st.just(7.0) if image.dtype == "uint8" else st.floats(-0.3, 0.3) | st.just(0)
    flat = data.draw(st.booleans()) and image.shape[2] == 1
    picture = lists_of(image, cell, image.shape[:2] if flat else image.shape)
    row = st.fixed_dictionaries({"picture": picture, "body": st.text(min_size=1, max_size=4)})
    rows = data.draw(st.lists(row, min_size=1, max_size=3))
    encoded = Encoder([TITLE, image, BODY]).encode(rows)

    assert isinstance(encoded, Encoded)
    assert encoded.image.dtype == image.dtype
    assert (encoded.numbers.shape, encoded.categories.shape) == ((len(rows), 0), (len(rows), 0))
    expected = np.array([row["picture"] for row in rows], image.dtype).reshape(-1, *image.shape)
    np.testing.assert_array_equal(encoded.image, expected)
    assert encoded.texts.tolist() == [["", row["body"]] for row in rows]
    columns = {"picture": expected, "title": np.array([None] * len(rows)), "body": np.array([r["body"] for r in rows])}
    by_columns = Encoder([TITLE, image, BODY]).encode_columns(columns)
    np.testing.assert_array_equal(by_columns.image, encoded.image)
    assert by_columns.texts.tolist() == encoded.texts.tolist()
    assert Encoded.join([encoded, encoded.take(slice(0, 1))]).texts.tolist() == [
        *encoded.texts.tolist(),
        ["", rows[0]["body"]],
    ]


GOOD = {"picture": [[1, 2, 3], [4, 5, 6]], "body": "text"}
A_FILE = "a PNG, JPEG or WebP file in base64"
A_PICTURE = f'{{"b64": {A_FILE}}}, or 2 x 3 x 1 as nested lists, each a whole number from 0 to 255'


@pytest.mark.parametrize(
    ("change", "path", "problem", "expected", "received"),
    [
        ({"picture": None}, "picture", "required feature is missing", A_PICTURE, "nothing"),
        ({"picture": 7}, "picture", "wrong type", A_PICTURE, "7"),
        ({"picture": {"url": "x"}}, "picture", "wrong type", A_PICTURE, "an object of 1"),
        ({"picture": [[1, 2], [3, 4]]}, "picture", "has another shape", A_PICTURE, "shape [2, 2]"),
        ({"picture": [[[1], [2]]]}, "picture", "has another shape", A_PICTURE, "shape [1, 2, 1]"),
        ({"picture": [[1, 2, 3], [4]]}, "picture", "has another shape", A_PICTURE, "lists of different lengths"),
        (
            {"picture": [[1, 2, 3], [4, 5, 256]]},
            "picture[1][2]",
            "is not the value of a pixel",
            "a whole number from 0 to 255",
            "256",
        ),
        (
            {"picture": [[[1], [2.5], [3]], [[4], [5], [6]]]},
            "picture[0][1][0]",
            "is not the value of a pixel",
            "a whole number from 0 to 255",
            "2.5",
        ),
        (
            {"picture": [[1, 2, 3], [4, 5, True]]},
            "picture[1][2]",
            "is not the value of a pixel",
            "a whole number from 0 to 255",
            "true",
        ),
        ({"picture": {"b64": 7}}, "picture.b64", "wrong type", A_FILE, "7"),
        ({"picture": {"b64": "*"}}, "picture.b64", "is not base64", A_FILE, '"*"'),
        (
            {"picture": {"b64": PNG[:60]}},
            "picture.b64",
            "is not a picture that can be read",
            A_FILE,
            "a damaged or truncated file of 45 bytes",
        ),
        ({"body": 7}, "body", "wrong type", "a text", "7"),
        ({"title": 7}, "title", "wrong type", "a text, or null", "7"),
        ({"body": ""}, "body", "required feature is missing", "a text", '""'),
        ({"body": "12345"}, "body", "is too long", "at most 4 characters", '"12345"'),
    ],
)
def test_a_problem_of_a_picture_or_text_says_where_what_expected_and_received(
    change: dict[str, object], path: str, problem: str, expected: str, received: str
) -> None:
    problems = Encoder([TITLE, WHOLE, BODY]).encode([GOOD, GOOD | change])

    assert isinstance(problems, list)
    assert [(p.path, p.problem, p.expected, p.received) for p in problems] == [
        (f"instances[1].{path}", problem, expected, received)
    ]


def test_floats_may_lie_outside_the_range_of_training_but_not_be_of_another_unit() -> None:
    """The limit itself may come with the digits of float32 or of float64."""
    unit = ImageFeature(name="picture", shape=(1, 2, 1), dtype="float32", minimum=0, maximum=float(np.float32(0.1)))
    for good in ([[-0.1, 0.2]], [[float(np.float32(-0.1)), float(np.float32(0.2))]], [[0, 0.05]]):
        assert isinstance(Encoder([unit]).encode([{"picture": good}]), Encoded)
    (problem,) = Encoder([unit]).encode([{"picture": [[0.0, 25.5]]}])

    assert problem.path == "instances[0].picture[0][1]"
    assert (problem.expected, problem.received) == ("a number from -0.1 to 0.2", "25.5")


def test_two_pictures_are_no_features_of_one_model() -> None:
    with pytest.raises(ValueError, match="one image feature at most, got picture, other"):
        Encoder([WHOLE, WHOLE.model_copy(update={"name": "other"})])
