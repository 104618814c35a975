"""The encoder, held against pydantic and against any JSON at all."""

import json
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contract.features import MISSING, MOST_PROBLEMS, UNSEEN, Encoded, Encoder
from contract.manifest import CategoryFeature, NumberFeature

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
