"""Dense numbers in JSON: what is read straight into arrays is what the careful reading makes of it."""

import json
from typing import Any

import numpy as np
import orjson
import pytest
import simdjson
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from contract.features import Encoded, Encoder
from contract.kinds import ImageFeature, NumberFeature, TensorFeature
from service.wire import dense
from service.wire.dense import Numbers

NUMBER = st.integers(-(2**66), 2**66) | st.integers(-3, 300) | st.floats() | st.floats(0, 1, width=32)
LEAF = NUMBER | st.none() | st.booleans() | st.sampled_from(["", "1", "[1]"])
NESTED = st.recursive(LEAF, lambda inner: st.lists(inner, max_size=4), max_leaves=20)


@pytest.fixture(autouse=True)
def read_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small."""
    monkeypatch.setattr(dense, "LEAST_BYTES", 0)
    monkeypatch.setattr(dense, "LEAST_PIECE", 0)


def read(text: str | bytes, dtype: Any = "float64") -> np.ndarray | None:
    return Numbers(text.encode() if isinstance(text, str) else text).read(dtype, simdjson.Parser())


def regular(value: Any) -> tuple[int, ...] | None:
    """The shape of lists that NumPy would make an array of."""
    if not isinstance(value, list):
        return ()
    shapes = {regular(each) for each in value}
    if len(shapes) > 1 or None in shapes:
        return None
    return (len(value), *(shapes.pop() if shapes else ()))


@given(value=NESTED.filter(lambda value: isinstance(value, list)), indent=st.sampled_from([None, 1]))
def test_a_shape_is_what_it_is_or_nothing(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    array = read(text)
    if array is not None:
        assert array.shape == regular(value)
        np.testing.assert_array_equal(array, np.array(value, np.float64))


@given(
    value=arrays.arrays(
        np.float64,
        arrays.array_shapes(max_dims=4, max_side=4),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    )
)
def test_arrays_of_floats_are_read(value: np.ndarray) -> None:
    np.testing.assert_array_equal(read(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)), value)


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint64", "uint8"])
@given(data=st.data())
def test_whole_numbers_are_exact(dtype: str, data: st.DataObject) -> None:
    value = data.draw(arrays.arrays(dtype, arrays.array_shapes(max_dims=3, max_side=4)))
    np.testing.assert_array_equal(read(json.dumps(value.tolist()), dtype), value)


@pytest.mark.parametrize(
    "text",
    ["[[1,2],[3]]", "[1,[2]]", "[[1],2]", "[[],[1]]", "[1,]", "[,1]", "[1 2]", "[--1]", "[1", "[01]", "[1]]", "[1],[2]",
     "[1,null]", "[1,true]", '["1"]', "[1e999]", "[NaN]", "[.5]", "[1.]", "[+1]", "[1e]", "[[1,2],[3,4],[5]]",
     "[[[1]],[1]]", "[" * 17 + "1" + "]" * 17],
)  # fmt: skip
def test_what_is_not_read(text: str) -> None:
    assert read(text) is None


FEATURES = [
    ImageFeature(name="x", shape=(2, 2, 1)),
    ImageFeature(name="x", shape=(2, 1, 3), dtype="float32", minimum=0, maximum=1),
    TensorFeature(name="x", dtype="float32", shape=(2,)),
    TensorFeature(name="x", dtype="float16", shape=(-1,)),
    TensorFeature(name="x", dtype="int64", shape=(2, -1)),
    TensorFeature(name="x", dtype="uint8", shape=()),
    TensorFeature(name="x", dtype="uint64", shape=(2,)),
    TensorFeature(name="x", dtype="bool", shape=(2,)),
    TensorFeature(name="x", dtype="string", shape=(2,)),
    NumberFeature(name="x", required=True, minimum=0, maximum=1, example=0),
]
SMALL = st.integers(0, 3) | st.sampled_from([0.5, 1.0, 255, 256, -1, 2**63, -(2**63), 2**64 - 1, 1e39, 7e4])
ROWS = st.one_of(
    *(st.lists(arrays.arrays(object, shape, elements=SMALL).map(np.ndarray.tolist), min_size=1, max_size=3)
      for shape in [(2,), (2, 2), (2, 2, 1), (2, 1, 3), (1,), (3,)]),
    st.lists(NESTED, min_size=1, max_size=3),
)  # fmt: skip


@pytest.mark.parametrize("feature", FEATURES, ids=lambda f: f"{f.kind}-{f.dtype}-{len(f.shape)}")
@given(rows=ROWS, bare=st.booleans())
def test_both_readings_agree(feature: Any, rows: list[Any], bare: bool) -> None:
    """What is taken here is taken there, as the same arrays; so nothing is taken that there is refused."""
    instances = rows if bare else [{"x": row} for row in rows]
    body = json.dumps({"instances": instances})
    assume("NaN" not in body and "Infinity" not in body)
    document, encoder = dense.read(body.encode()), Encoder([feature])
    if document is None or (tensors := dense.rows(document["instances"], encoder)) is None:
        return
    quick = encoder.encode_tensors(tensors)
    try:
        parsed = orjson.loads(body)["instances"]
    except orjson.JSONDecodeError:
        pytest.fail("it was read though it is no JSON")
    if bare and isinstance(feature, ImageFeature):
        parsed = [{"x": row} for row in parsed]
    careful = encoder.encode(parsed)
    assert isinstance(quick, Encoded) == isinstance(careful, Encoded)
    if isinstance(quick, Encoded) and isinstance(careful, Encoded):
        for name, array in careful.named().items():
            np.testing.assert_array_equal(quick.named()[name], array)


@given(value=NESTED, extra=NESTED)
def test_what_is_left_is_what_it_was(value: Any, extra: Any) -> None:
    """With the pieces put back, a document is what another parser makes of it."""
    body = json.dumps({"a": [{"x": value, "y": extra}], "b": extra, "c": [1, 2]})
    assume("NaN" not in body and "Infinity" not in body)
    document = dense.read(body.encode())
    assume(document is not None)
    try:
        expected = orjson.loads(body)
    except orjson.JSONDecodeError:
        return
    assert _restored(document) == expected


def _restored(value: Any) -> Any:
    if isinstance(value, Numbers):
        return orjson.loads(value.text)
    if isinstance(value, dict):
        return {name: _restored(each) for name, each in value.items()}
    return [_restored(each) for each in value] if isinstance(value, list) else value


def test_a_mark_in_the_body_is_no_piece() -> None:
    assert dense.read(b'{"q": [1, 2], "w": -887766554433220000}') is None
    assert isinstance(dense.read(b'{"q": [1, 2]}')["q"], Numbers)


def test_keys_that_come_twice_and_strings_that_look_like_lists() -> None:
    assert dense.read(b'{"q": [1, 2], "q": [3, 4]}') is None
    assert dense.read(b'{"q": "[1, 2]", "w": [3, 4]}') is None


def test_hostile_bodies_take_no_time() -> None:
    """Each is a megabyte, on which anything worse than linear would take minutes."""
    for body in (b"[" * 10**6, b'["[1",' * 10**5, b'"' + b"[1" * 500_000, b"[1," * 333_000, b'{"a":[1]}' * 10**5,
                 b"[" + b"[1]," * 250_000 + b"[1,2]]", b"[[1,[" * 200_000):  # fmt: skip
        value = dense.read(body)
        assert value is None or not isinstance(value, Numbers) or value.read("float32", simdjson.Parser()) is None
