"""TensorFlow Serving's REST API, asked as its clients ask, with NumPy and Keras for the answers."""

import base64
import gzip
import json
import math
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.wire import lenient
from tests.kinds import Kind

VECTOR, PLUS, TWICE, TYPES = "vector", "plus", "twice", "types"
ROW = {"x": [1, 2], "n": 7, "flag": True, "name": "Ada", "half": [0.5, 1], "wide": 1.5}


def ask(client: httpx.Client, model: str, body: Any, method: str = "predict", **more: Any) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return client.post(f"/v1/models/{model}:{method}", content=content, **more)


def answer(client: httpx.Client, model: str, body: Any, method: str = "predict", **more: Any) -> Any:
    """The only value of the answer."""
    response = ask(client, model, body, method, **more)
    assert response.status_code == 200, response.text
    ((key, value),) = response.json().items()
    assert key == {"instances": "predictions", "inputs": "outputs"}.get(next(iter(_keys(body))), "results")
    return value


def _keys(body: Any) -> set[str]:
    return {"instances", "inputs", "examples"} & (json.loads(body) if isinstance(body, bytes) else body).keys()


def told(response: httpx.Response, status: int = 400) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    ((key, text),) = response.json().items()
    assert key == "error"
    return text


def test_rows_of_the_only_input_bare_and_named(client: httpx.Client) -> None:
    assert answer(client, VECTOR, {"instances": [[1, 2, 5], [0.5, -1, 1e-3]]}) == [[2, 4, 10], [1, -2, 0.002]]
    assert answer(client, VECTOR, {"instances": [{"x": [1, 2, 5]}]}) == [[2, 4, 10]]


def test_rows_and_columns_of_several_inputs(client: httpx.Client) -> None:
    rows = answer(client, PLUS, {"instances": [{"x": [1, 2, 3], "y": 1}, {"y": 0, "x": [4, 5, 6]}]})
    columns = answer(client, PLUS, {"inputs": {"x": [[1, 2, 3], [4, 5, 6]], "y": [1, 0], "z": "ignored"}})

    assert rows == [{"sum": [2, 3, 4], "first": 1}, {"sum": [4, 5, 6], "first": 4}]
    assert columns == {"sum": [[2, 3, 4], [4, 5, 6]], "first": [1, 4]}


def test_columns_of_the_only_input(client: httpx.Client) -> None:
    assert answer(client, VECTOR, {"inputs": [[1, 2, 5]]}) == [[2, 4, 10]]
    assert answer(client, VECTOR, {"inputs": {"x": [[1, 2, 5]]}}) == [[2, 4, 10]]


def test_every_type(client: httpx.Client) -> None:
    """Half has no JSON in TensorFlow Serving, so the whole answer has none; the inputs are read before."""
    text = told(ask(client, TYPES, {"instances": [ROW]}))
    assert text in [f"Failed to write JSON value for tensor type: {each}" for each in ("half", "bfloat16")]


def test_images_as_lists_and_files(client: httpx.Client, every_kind: dict[str, Kind]) -> None:
    digits = every_kind["digits"]
    files = [row["picture"] for row in digits.rows[:3]]
    pixels = [decoded(row["picture"]["b64"]).tolist() for row in digits.rows[:3]]
    for body in (
        {"instances": files},
        {"instances": [{"picture": file} for file in files]},
        {"instances": pixels},
        {"instances": [{"picture": each} for each in pixels]},
        {"inputs": pixels},
        {"inputs": {"picture": files}},
    ):
        np.testing.assert_allclose(answer(client, "digits", body), digits.answers[:3], atol=1e-4)


def decoded(b64: str) -> np.ndarray:
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(b64))))[..., np.newaxis]


def test_classify_and_regress(client: httpx.Client, every_kind: dict[str, Kind]) -> None:
    digits, diabetes = every_kind["digits"], every_kind["diabetes"]
    results = answer(client, "digits", {"examples": digits.rows[:2]}, "classify")

    assert [label for label, _ in results[0]] == list("0123456789")
    np.testing.assert_allclose([[score for _, score in row] for row in results], digits.answers[:2], atol=1e-4)

    first, second = diabetes.rows[:2]
    context = {"context": {"age": first["age"]}, "examples": [{k: [v] for k, v in first.items() if k != "age"}, second]}
    values = answer(client, "diabetes", context, "regress")
    np.testing.assert_allclose(values, diabetes.answers[:2], rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "method", "expected"),
    [
        (
            "diabetes",
            "classify",
            "Expected classification signature method_name to be tensorflow/serving/classify."
            " Was: tensorflow/serving/regress",
        ),
        (
            "vector",
            "regress",
            "Expected regression signature method_name to be tensorflow/serving/regress."
            " Was: tensorflow/serving/predict",
        ),
    ],
)
def test_other_methods_than_the_model_has(client: httpx.Client, model: str, method: str, expected: str) -> None:
    assert told(ask(client, model, {"examples": [{"x": [1]}]}, method)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, "JSON Value: {} When method is classify, key 'examples' is expected and was not found"),
        ({"examples": 1}, "JSON Value: {\n    \"examples\": 1\n} Expecting 'examples' value to be an list/array"),
        ({"examples": []}, "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array"),
        ({"examples": [1]}, "Example must be JSON object but got JSON Number"),
        ([], "JSON Value: [] Is not object"),
    ],
)
def test_examples_of_another_form(client: httpx.Client, body: Any, expected: str) -> None:
    assert told(ask(client, "digits", body, "classify")) == expected


def test_versions_labels_and_signatures(client: httpx.Client) -> None:
    body = {"instances": [[1, 2, 5]]}
    for path in ("vector/versions/1", "vector/labels/production", "vector/labels/stable"):
        assert answer(client, path, body) == [[2, 4, 10]]
    assert answer(client, VECTOR, body | {"signature_name": "serving_default"}) == [[2, 4, 10]]
    assert told(ask(client, "nobody", body), 404) == "Servable not found for request: Latest(nobody)"
    assert told(ask(client, "vector/versions/50", body), 404) == "Servable not found for request: Specific(vector, 50)"
    assert told(ask(client, "vector/labels/newest", body)) == "Unrecognized servable version label: newest"
    wrong = told(ask(client, VECTOR, body | {"signature_name": "x"}))
    assert wrong == 'Serving signature name: "x" not found in signature def'


FAILED = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: {}"
FAILED_KEY = "Failed to process element: {} key: {} of 'instances' list. Error: INVALID_ARGUMENT: {}"


@pytest.mark.parametrize(
    ("model", "body", "expected"),
    [
        (VECTOR, b"", "JSON Parse error: The document is empty"),
        (VECTOR, b"  ", "JSON Parse error: The document is empty. at offset: 2"),
        (VECTOR, b'{"instances": [x]}', "JSON Parse error: Invalid value. at offset: 15"),
        (VECTOR, b'{"instances" 1}', "JSON Parse error: Missing a colon after a name of object member. at offset: 13"),
        (VECTOR, b'{"a":[1 2]}', "JSON Parse error: Missing a comma or ] after an array element. at offset: 8"),
        (VECTOR, b'{"a":1 2}', "JSON Parse error: Missing a comma or } after an object member. at offset: 7"),
        (VECTOR, [1], "JSON Value: [\n    1\n] Is not object"),
        (VECTOR, {}, "Missing 'inputs' or 'instances' key"),
        (
            VECTOR,
            {"signature_name": 1},
            'JSON Value: {\n    "signature_name": 1\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        (
            VECTOR,
            {"instances": [], "inputs": 1},
            'JSON Value: {\n    "instances": [],\n    "inputs": 1\n} Not formatted correctly expecting only one of '
            "'inputs' or 'instances' keys to exist ",
        ),
        (VECTOR, {"instances": 1}, "JSON Value: {\n    \"instances\": 1\n} Expecting 'instances' to be an list/array"),
        (VECTOR, {"instances": []}, "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array"),
        (
            PLUS,
            {"instances": [1]},
            "instances is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (
            PLUS,
            {"inputs": [1]},
            "inputs is a plain value/list, but expecting an object as multiple input tensors required as per "
            "tensorinfo_map",
        ),
        (VECTOR, {"instances": [{"x": [1, 2, 3]}, 1]}, "Expecting object but got list at item 1 of input list"),
        (VECTOR, {"instances": [[1, 2, 3], {"x": 1}]}, "Expecting value/list but got object at item 1 of input list"),
        (
            PLUS,
            {"instances": [{"x": [1, 2, 3]}]},
            "Failed to process element: 0 of 'instances' list. JSON object: "
            '{\n    "x": [\n        1,\n        2,\n        3\n    ]\n} keys must be equal to: x,y',
        ),
        (
            VECTOR,
            {"instances": [{"z": 1}]},
            FAILED_KEY.format(0, "z", "JSON object: does not have named input: z"),
        ),
        (PLUS, {"inputs": {"x": [[1, 2, 3]]}}, "Missing named input: y in 'inputs' object."),
        (
            VECTOR,
            {"instances": [["a", 1, 2]]},
            FAILED.format(0, 'JSON Value: "a" Type: String is not of expected type: float'),
        ),
        (
            VECTOR,
            {"instances": [[1, 2, True]]},
            FAILED.format(0, "JSON Value: true Type: True is not of expected type: float"),
        ),
        (
            VECTOR,
            {"instances": [[[1], 2, 3]]},
            FAILED.format(0, "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2"),
        ),
        (
            VECTOR,
            {"instances": [[1, [2], 3]]},
            FAILED.format(0, "Encountered list at unexpected level: 1 expected < 1"),
        ),
        (
            TWICE,
            {"instances": [[[1, 2], [3]]]},
            FAILED.format(0, "Encountered list at unexpected size: 1 at level: 1 expected size: 2"),
        ),
        (VECTOR, {"instances": [[1, 2, 3], [1, 2]]}, FAILED.format(1, "Expecting tensor size: 3 but got: 2")),
        (
            VECTOR,
            {"instances": [[1, 2, 3], [[1, 2, 3]]]},
            FAILED.format(1, "Expecting shape [3] but got: [1,3]"),
        ),
        (
            VECTOR,
            {"instances": [[1e39, 1, 1]]},
            FAILED.format(0, "Cannot convert JSON value: 1e+39 to float without loss of precision."),
        ),
        (
            TYPES,
            {"instances": [ROW | {"n": 1.5}]},
            FAILED_KEY.format(0, "n", "JSON Value: 1.5 Type: Number is not of expected type: int64"),
        ),
        (
            TYPES,
            {"instances": [ROW | {"flag": 1}]},
            FAILED_KEY.format(0, "flag", "JSON Value: 1 Type: Number is not of expected type: bool"),
        ),
        (
            TYPES,
            {"instances": [ROW | {"name": {"b64": "?"}}]},
            FAILED_KEY.format(0, "name", "Unable to base64 decode"),
        ),
        (
            TYPES,
            {"instances": [ROW | {"name": {"b64": 1}}]},
            FAILED_KEY.format(0, "name", 'JSON Value: {\n    "b64": 1\n} not formatted correctly for base64 data'),
        ),
    ],
)
def test_what_is_wrong_is_said_in_its_words(client: httpx.Client, model: str, body: Any, expected: str) -> None:
    assert told(ask(client, model, body)) == expected


def test_what_it_would_have_taken_is_refused_in_our_words(client: httpx.Client) -> None:
    text = told(ask(client, VECTOR, {"instances": [[1, 2]]}))

    assert "instances[0].x: has another shape" in text
    assert "shape [2]" in text


def test_paths_that_are_none(client: httpx.Client) -> None:
    for method, path in [("GET", "/v1/models/vector:predict"), ("POST", "/v1/models/vector"), ("GET", "/v1/x")]:
        assert told(client.request(method, path)) == f"Malformed request: {method} {path}"
    assert told(client.post("/v1/models/:predict")) == "Missing model name in request."
    assert client.get("/V1/MODELS/vector").status_code == 200


def test_status_and_metadata(client: httpx.Client) -> None:
    status = client.get("/v1/models/vector").json()
    metadata = client.get("/v1/models/types/versions/1/metadata").json()
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]

    assert status["model_version_status"] == [
        {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
    assert (status["name"], status["ready"]) == ("vector", True)  # which KServe's clients look for
    assert client.get("/v1/models/vector/labels/production").json() == status
    assert told(client.get("/v1/models/nobody"), 404) == "Could not find any versions of model nobody"
    assert told(client.get("/v1/models/vector/versions/7"), 404) == "Could not find version 7 of model vector"
    assert told(client.get("/v1/models/nobody/metadata"), 404) == "Servable not found for request: Latest(nobody)"
    assert metadata["model_spec"] == {"name": "types", "signature_name": "", "version": "1"}
    assert signature["inputs"]["half"] == {
        "dtype": "DT_HALF",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "2", "name": ""}], "unknown_rank": False},
        "name": "serving_default_half:0",
    }
    assert {spec["dtype"] for spec in signature["outputs"].values()} == {
        "DT_FLOAT", "DT_INT64", "DT_BOOL", "DT_STRING", "DT_HALF", "DT_BFLOAT16",
    }  # fmt: skip
    assert client.get("/v1/models").json()["models"] == ["diabetes", "digits", "plus", "twice", "types", "vector"]


def test_nan_and_infinity_and_whole_floats(client: httpx.Client) -> None:
    response = ask(client, VECTOR, b'{"instances": [[NaN, Infinity, -Infinity], [1, 0.1, 1e30]]} and more')

    assert response.status_code == 200
    assert "[[NaN,Infinity,-Infinity],[2.0,0.2,2e+30]]" in response.text.replace("2e30", "2e+30")
    first, second = json.loads(response.text)["predictions"]
    assert math.isnan(first[0])
    assert first[1:] == [math.inf, -math.inf]
    assert second == [2, 0.2, 2e30]


def test_a_missing_number_may_be_nan(client: httpx.Client, every_kind: dict[str, Kind]) -> None:
    """These are all required, so that NaN is one that is missing."""
    row = json.dumps(every_kind["diabetes"].rows[0] | {"age": math.nan})
    assert "required feature is missing" in told(ask(client, "diabetes", f'{{"instances": [{row}]}}'.encode()))


def test_packed_bodies(client: httpx.Client) -> None:
    body = gzip.compress(json.dumps({"instances": [[1, 2, 5]]}).encode())
    bomb = gzip.compress(b'{"instances": [' + b" " * 3_000_000 + b"[1,2,5]]}")
    headers = {"content-encoding": "gzip"}

    assert ask(client, VECTOR, body, headers=headers).json() == {"predictions": [[2, 4, 10]]}
    assert "more than 2000000 bytes when it is unpacked" in told(ask(client, VECTOR, bomb, headers=headers), 413)
    assert "not packed" in told(ask(client, VECTOR, b"{}", headers=headers))
    assert "cut short" in told(ask(client, VECTOR, body[:-9], headers=headers))


def test_large_bodies(client: httpx.Client) -> None:
    """Read by another parser, and refused with the same care."""
    values = np.random.default_rng(0).normal(size=(20, 28, 28)).astype(np.float32)
    rows = values.tolist()
    for body in ({"instances": rows}, {"instances": [{"x": row} for row in rows]}, {"inputs": rows}):
        np.testing.assert_array_equal(np.float32(answer(client, TWICE, body)), values * 2)
    rows[7][3][5] = "x"
    expected = FAILED.format(7, 'JSON Value: "x" Type: String is not of expected type: float')
    assert told(ask(client, TWICE, {"instances": rows})) == expected
    rows[7][3] = rows[7][3][:4]
    assert "Encountered list at unexpected size: 4 at level: 1 expected size: 28" in told(
        ask(client, TWICE, {"instances": rows})
    )
    assert "50" in told(ask(client, VECTOR, {"instances": [[1, 2, 3]] * 51}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["x", "y", "b64", "z"]), inner),
    max_leaves=12,
)


@given(body=st.dictionaries(st.sampled_from(["instances", "inputs", "signature_name", "q"]), JSON) | JSON)
def test_anything_is_answered_as_a_clients_fault_or_rightly(client: httpx.Client, body: Any) -> None:
    for model in (VECTOR, PLUS, TYPES, "digits"):
        response = ask(client, model, body)
        assert response.status_code in (200, 400), response.text
        if response.status_code == 400:
            told(response)


@given(text=st.text(alphabet='[]{}",:0123456789.-eEtrufalsnNIify \\', max_size=30))
def test_json_is_read_as_python_reads_it(text: str) -> None:
    """Python's parser takes NaN and infinity too; behind the first value, ours takes anything."""
    try:
        expected, _ = json.JSONDecoder().raw_decode(text.lstrip(" "))
    except ValueError:
        with pytest.raises(Exception, match="JSON Parse error"):
            lenient.loads(text.encode())
    else:
        np.testing.assert_equal(lenient.loads(text.encode()), expected)


@given(values=st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_numbers_come_back_as_they_went(values: list[float]) -> None:
    array = np.array(values, np.float32)
    text = lenient.numbers(array)

    np.testing.assert_array_equal(np.array(json.loads(text), np.float32), array)
    assert all(
        token in (b"NaN", b"Infinity", b"-Infinity") or b"." in token or b"e" in token
        for token in text[1:-1].split(b",")
    )
