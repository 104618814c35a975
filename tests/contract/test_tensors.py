"""The tensors of imported models, from JSON, from arrays and back, held against NumPy."""

import base64
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays, integer_dtypes, unsigned_integer_dtypes
from numpy.typing import NDArray

from contract import tensors
from contract.features import Encoded, Encoder
from contract.manifest import TensorFeature
from contract.problem import Problem
from contract.signature import Dtype, TensorSpec, is_number, numpy_dtype

VALUE = (
    st.sampled_from([None, True, 0, 1, 1.0, 1.5, -1, 255, 256, 2**31, 2**63, 2**64, 1e39, 65520, -0.0, "", "text"])
    | st.integers()
    | st.floats()
)
JSON = st.recursive(VALUE, lambda inner: st.lists(inner, max_size=3), max_leaves=8) | st.dictionaries(
    st.sampled_from(["b64", "shape", "x"]), VALUE | st.sampled_from(["AAAA", "AAA="]), max_size=2
)
DTYPES = st.sampled_from(get_args(Dtype))
SHAPES = st.sampled_from([(), (2,), (-1,), (2, 2), (-1, 2), (1,)])


def feature(dtype: Dtype = "float32", shape: tuple[int, ...] = (), name: str = "x") -> TensorFeature:
    return TensorFeature(name=name, dtype=dtype, shape=shape)


@given(st.lists(JSON | st.fixed_dictionaries({"x": JSON}), max_size=3), DTYPES, SHAPES)
def test_any_json_gives_a_tensor_or_problems(rows: list[Any], dtype: Dtype, shape: tuple[int, ...]) -> None:
    found = Encoder([feature(dtype, shape)]).encode(rows)

    if isinstance(found, Encoded):
        (tensor,) = found.named().values()
        assert tensor.dtype == numpy_dtype(dtype)
        assert len(tensor) == len(rows) == found.rows
        assert all(b in (a, -1) for a, b in zip(tensor.shape[1:], shape, strict=True))
    else:
        assert 1 <= len(found) <= 100
        assert all(p.path.startswith("instances") and p.problem and p.expected and p.received for p in found)


@given(DTYPES, st.sampled_from([float, np.int64, np.uint64, np.float32, bool, "U", object]), st.data())
def test_arrays_and_rows_have_one_verdict(dtype: Dtype, given_as: Any, data: st.DataObject) -> None:
    numbers = st.integers(0, 300) if given_as is np.uint64 else st.integers(-300, 300) | st.floats(-300, 300)
    one = {bool: st.booleans(), "U": st.text(max_size=3), object: st.binary(max_size=3) | st.just("é")}.get(
        given_as, numbers
    )
    array = np.array(data.draw(st.lists(one, min_size=1, max_size=4)), given_as)
    encoder = Encoder([feature(dtype)])
    expected = encoder.encode([{"x": as_json(value, dtype)} for value in array.tolist()])
    found = encoder.encode_tensors({"x": array})

    assert isinstance(found, Encoded) == isinstance(expected, Encoded)
    if isinstance(found, Encoded) and isinstance(expected, Encoded):
        np.testing.assert_array_equal(found.named()["x"], expected.named()["x"])
        assert found.named()["x"].dtype == expected.named()["x"].dtype


def as_json(value: object, dtype: Dtype) -> object:
    """Bytes are a string; as {"b64": ...} of a number they would be the number's own."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()} if dtype == "string" else "bytes"
    return value


@given(arrays(integer_dtypes() | unsigned_integer_dtypes(), array_shapes(max_dims=3, min_side=0, max_side=9)))
def test_whole_numbers_go_to_json_and_back_to_the_last_digit(array: NDArray[Any]) -> None:
    name = array.dtype.name
    there = tensors.plain(array.astype(name), name)  # the machine's byte order
    back = tensors.read("", feature(name, (-1,) * array.ndim), there)

    assert isinstance(back, np.ndarray)
    assert back.dtype == np.dtype(name)
    np.testing.assert_array_equal(back.reshape(-1), array.reshape(-1))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("values", [np.linspace(-1, 1, 7), np.array([0.1, np.nan, -np.inf]), np.arange(100.0) / 3])
def test_numbers_go_to_json_and_back_to_the_last_bit(dtype: Dtype, values: NDArray[np.float64]) -> None:
    array = values.astype(numpy_dtype(dtype))
    back = tensors.read("", feature(dtype, (-1,)), tensors.plain(array, dtype))

    assert isinstance(back, np.ndarray)
    assert back.tobytes() == array.tobytes()


def test_strings_go_to_json_and_back_whatever_their_bytes() -> None:
    array = np.array([[b"text", "Übung".encode()], [b"", b"\xff\0"]], object)
    there = tensors.plain(array, "string")
    back = tensors.read("", feature("string", (2, 2)), there)

    assert there == [["text", "Übung"], ["", {"b64": "/wA="}]]
    assert isinstance(back, np.ndarray)
    assert back.tolist() == array.tolist()


def test_small_tensors_are_written_for_people_and_large_ones_as_bytes() -> None:
    assert tensors.plain(np.float32([0.1, 2]), "float32") == [0.1, 2.0]
    assert tensors.plain(np.array(7, np.int64), "int64") == 7
    large = tensors.plain(np.zeros((10, 10), np.float32), "float32")
    assert large["shape"] == (10, 10)
    assert len(base64.b64decode(large["b64"])) == 400


@pytest.mark.parametrize(
    ("dtype", "value", "received"),
    [
        ("int32", 1.5, "1.5"),
        ("int32", 2**31, "2147483648"),
        ("uint8", -1, "-1"),
        ("uint8", 256, "256"),
        ("uint64", 2**64, "a huge integer"),
        ("int64", 1e300, "1e+300"),
        ("int64", float("nan"), "nan"),
        ("int8", True, "true"),
        ("float32", "1", '"1"'),
        ("float32", 1e39, "1e+39"),
        ("float32", 10**400, "a huge integer"),
        ("float16", 65520, "65520"),
        ("float32", False, "false"),
        ("bool", 1, "1"),
        ("string", 1, "1"),
        ("string", "\ud800", None),
        ("string", {"b64": "?"}, "an object of 1"),
    ],
)
def test_nothing_is_rounded_cut_or_guessed(dtype: Dtype, value: object, received: str | None) -> None:
    found = tensors.read("x", feature(dtype, (2,)), [good(dtype), value])

    assert isinstance(found, Problem)
    assert (found.path, found.problem) == ("x[1]", f"is no {dtype}")
    assert received in (None, found.received)


def good(dtype: Dtype) -> object:
    return {"bool": True, "string": "text"}.get(dtype, 1)


@pytest.mark.parametrize(
    ("shape", "value"),
    [
        ((2,), [1]),
        ((2,), [[1, 2]]),
        ((2, 2), [[1, 2], [3]]),
        ((), [1]),
        ((2,), 1),
        ((-1, 2), [[1], [2]]),
        ((2,), {"b64": "AAAA"}),
        ((-1, -1), {"b64": "AAAAAA=="}),
        ((-1,), {"b64": "AAAAAA==", "shape": [2]}),
        ((-1,), {"b64": "AAAAAA==", "shape": [-1]}),
        ((-1, 0), {"b64": "AAAAAA==", "shape": [2**62, 0]}),
        ((-1,), {"b64": "AAAAAA==", "shape": [1.0]}),
        ((-1,), {"b64": "AAAAAA==", "shape": "1"}),
    ],
)
def test_another_shape_is_named(shape: tuple[int, ...], value: object) -> None:
    found = tensors.read("x", feature("float32", shape), value)

    assert isinstance(found, Problem)
    assert found.problem == "has another shape"


def test_bytes_are_read_with_the_only_shape_they_can_have() -> None:
    values = np.arange(6, dtype="<i2")
    packed = base64.b64encode(values.tobytes()).decode()
    found = tensors.read("", feature("int16", (-1, 3)), {"b64": packed})
    stated = tensors.read("", feature("int16", (-1, -1)), {"b64": packed, "shape": [3, 2]})

    assert isinstance(found, np.ndarray)
    assert isinstance(stated, np.ndarray)
    assert found.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert stated.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_bytes_of_booleans_are_nothing_but_booleans() -> None:
    assert isinstance(tensors.read("", feature("bool", (2,)), {"b64": "AAE="}), np.ndarray)
    assert isinstance(tensors.read("", feature("bool", (2,)), {"b64": "AAI="}), Problem)


def test_the_first_wrong_value_of_many_is_found() -> None:
    values: list[Any] = [0.5] * 100_000
    values[77_777] = "x"
    found = tensors.read("x", feature("float32", (100, 1000)), np.array(values, object).reshape(100, 1000).tolist())

    assert isinstance(found, Problem)
    assert (found.path, found.received) == ("x[77][777]", '"x"')


SEVERAL = Encoder([feature("float32", (2,), "a"), feature("string", (), "b"), feature("int64", (-1,), "c")])


def test_a_row_has_all_inputs_and_no_others() -> None:
    good = {"a": [1, 2], "b": "x", "c": []}
    found = SEVERAL.encode([good, {"a": [1, "2"], "d": 1}, 7, good | {"c": [1]}])

    assert isinstance(found, list)
    assert {(p.path, p.problem) for p in found} == {
        ("instances[1].a[1]", "is no float32"),
        ("instances[1].b", "required feature is missing"),
        ("instances[1].c", "required feature is missing"),
        ("instances[1].d", "unknown feature"),
        ("instances[2]", "is not a row"),
        ("instances[3].c", "has another shape than the rows before it"),
    }


def test_the_only_input_may_stand_alone() -> None:
    bare = Encoder([feature("float32", (2,))])
    packed = {"b64": base64.b64encode(np.float32([5, 6]).tobytes()).decode()}
    found = bare.encode([[1, 2], {"x": [3, 4]}, packed, {"x": packed}])

    assert isinstance(found, Encoded)
    assert found.named()["x"].tolist() == [[1, 2], [3, 4], [5, 6], [5, 6]]
    assert isinstance(SEVERAL.encode([[1, 2]]), list)


def test_an_input_called_b64_is_an_input() -> None:
    found = Encoder([feature("string", (), "b64")]).encode([{"b64": "AA=="}, "bare", {"b64": {"b64": "AA=="}}])

    assert isinstance(found, Encoded)
    assert found.named()["b64"].tolist() == [b"AA==", b"bare", b"\0"]


def test_arrays_that_fit_are_not_copied_and_others_are_named() -> None:
    floats = np.ones((2, 2), np.float32)
    found = SEVERAL.encode_tensors({"a": floats, "b": np.array([b"x", b"y"], object), "c": np.zeros((2, 3), np.int8)})
    wrong = SEVERAL.encode_tensors({"a": np.array([[1, 2], [3, 1e39]]), "b": np.array([1, 2]), "e": floats})

    assert isinstance(found, Encoded)
    assert found.named()["a"] is floats
    assert found.named()["c"].dtype == np.int64
    assert isinstance(wrong, list)
    assert {(p.path, p.problem) for p in wrong} == {
        ("inputs.a[1][1]", "is no float32"),
        ("inputs.b", "wrong type"),
        ("inputs.c", "required input is missing"),
        ("inputs.e", "unknown input"),
    }


def test_limits_of_whole_numbers_are_exact_in_floats() -> None:
    encoder = Encoder([feature("int64")])

    assert isinstance(encoder.encode_tensors({"x": np.array([-(2.0**63), 2.0**62])}), Encoded)
    assert isinstance(encoder.encode_tensors({"x": np.array([2.0**63])}), list)
    assert isinstance(encoder.encode_tensors({"x": np.array([2**63], np.uint64)}), list)


def test_rows_are_taken_and_joined_by_name() -> None:
    encoded = Encoded.of_tensors({"a": np.arange(6).reshape(3, 2), "b": np.array([b"x", b"y", b"z"], object)})
    again = Encoded.join([encoded.take(slice(0, 1)), encoded.take(np.array([2, 1]))])

    assert again.rows == 3
    assert again.named()["a"].tolist() == [[0, 1], [4, 5], [2, 3]]
    assert again.named()["b"].tolist() == [b"x", b"z", b"y"]


@pytest.mark.parametrize(
    ("dtype", "row", "number"),
    [("float32", (), True), ("int8", (1,), True), ("bool", (), False), ("string", (), False), ("float32", (2,), False)],
)
def test_what_is_one_number_a_row(dtype: Dtype, row: tuple[int, ...], number: bool) -> None:
    spec = TensorSpec(name="x", dtype=dtype, shape=(-1, *row))

    assert is_number(spec.dtype, spec.row) is number
    assert spec.batched
