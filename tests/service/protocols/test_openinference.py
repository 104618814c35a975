"""The Open Inference Protocol over REST, in JSON and in binary tensors, with NumPy and Keras for the answers."""

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from ml_dtypes import bfloat16

from contract.signature import DTYPES
from service.wire.tensors import OF_OIP, OIP_NAMES, dtype_of, from_raw, to_raw
from tests.kinds import Kind
from tests.service.protocols.conftest import serving

HEADER = "Inference-Header-Content-Length"
X = np.array([[1, 2, 5], [0.5, -1, 1e-3]], np.float32)


def tensor(name: str, value: Any, datatype: str = "FP32", **more: Any) -> dict[str, Any]:
    array = np.array(value)
    return {"name": name, "shape": list(array.shape), "datatype": datatype, "data": array.tolist(), **more}


def binary(name: str, array: np.ndarray, datatype: str) -> tuple[dict[str, Any], bytes]:
    raw = to_raw(array)
    described = {"name": name, "shape": list(array.shape), "datatype": datatype}
    return described | {"parameters": {"binary_data_size": len(raw)}}, raw


def infer(client: httpx.Client, model: str, body: Any, raw: bytes = b"", **headers: str) -> httpx.Response:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    if raw:
        headers[HEADER] = str(len(text))
    return client.post(f"/v2/models/{model}/infer", content=text + raw, headers=headers)


def outputs(response: httpx.Response) -> dict[str, np.ndarray]:
    """The outputs by name, from wherever in the answer they are."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(HEADER, len(response.content)))
    at, found = length, {}
    for each in json.loads(response.content[:length])["outputs"]:
        size = each.get("parameters", {}).get("binary_data_size")
        if size is None:
            value = np.array(each["data"], object if each["datatype"] == "BYTES" else None).reshape(each["shape"])
        else:
            content = response.content[at : at + size]
            at += size
            value = from_raw("it", content, OF_OIP[each["datatype"]], each["shape"])
        found[each["name"]] = value
    assert at == len(response.content)
    return found


def told(response: httpx.Response, status: int = 400) -> str:
    assert response.status_code == status, response.text
    ((key, text),) = response.json().items()
    assert key == "error"
    return text


def test_json_nested_and_flat(client: httpx.Client) -> None:
    nested = infer(client, "vector", {"inputs": [tensor("x", X.tolist())]})
    flat = infer(client, "vector", {"inputs": [tensor("x", X.tolist()) | {"data": X.ravel().tolist()}]})

    assert nested.json() == flat.json()
    assert nested.json() == {
        "model_name": "vector",
        "model_version": "1",
        "outputs": [{"name": "twice", "datatype": "FP32", "shape": [2, 3], "data": [2, 4, 10, 1, -2, 0.002]}],
    }
    assert nested.headers["content-type"] == "application/json"


def test_an_id_is_echoed_if_there_is_one(client: httpx.Client) -> None:
    assert infer(client, "vector", {"id": "a-1", "inputs": [tensor("x", X)]}).json()["id"] == "a-1"
    assert "id" not in infer(client, "vector", {"inputs": [tensor("x", X)]}).json()


TYPES = {
    "x": (np.array([[1, 2]], np.float32), "FP32"),
    "n": (np.array([2**53 + 1], np.int64), "INT64"),
    "flag": (np.array([True]), "BOOL"),
    "name": (np.array([b"\xffAda\0"], object), "BYTES"),
    "half": (np.array([[0.5, 1]], np.float16), "FP16"),
    "wide": (np.array([1.5], bfloat16), "BF16"),
}


def test_every_type_in_binary(client: httpx.Client) -> None:
    described, raws = zip(*(binary(name, *each) for name, each in TYPES.items()), strict=True)
    body = {"inputs": described, "parameters": {"binary_data_output": True}}
    response = infer(client, "types", body, b"".join(raws))
    found = outputs(response)

    assert response.headers["content-type"] == "application/octet-stream"
    np.testing.assert_array_equal(found["doubled"], [[2, 4]])
    assert (found["doubled"].dtype, found["quarter"].dtype) == (np.float32, np.float16)
    assert found["next"].tolist() == [2**53 + 2]
    assert found["opposite"].tolist() == [False]
    assert found["greeting"].tolist() == [b"hi \xffAda\0"]
    assert found["quarter"].tolist() == [[0.25, 0.5]]
    assert found["wider"].tolist() == [3]


def test_every_type_in_json(client: httpx.Client) -> None:
    inputs = [
        tensor(name, value.astype(np.float32) if kind in ("FP16", "BF16") else value, kind)
        for name, (value, kind) in TYPES.items()
        if kind != "BYTES"
    ]
    found = outputs(infer(client, "types", {"inputs": [*inputs, tensor("name", ["Ada"], "BYTES")]}))

    assert found["next"].tolist() == [2**53 + 2]
    assert found["greeting"].tolist() == ["hi Ada"]
    assert (found["quarter"].tolist(), found["wider"].tolist()) == ([[0.25, 0.5]], [3.0])


def test_json_and_binary_mixed_and_outputs_chosen(client: httpx.Client) -> None:
    described, raw = binary("x", X, "FP32")
    body = {
        "inputs": [tensor("y", [1, 0]), described],
        "outputs": [{"name": "first", "parameters": {"binary_data": True}}, {"name": "sum"}],
    }
    response = infer(client, "plus", body, raw)
    found = outputs(response)

    assert list(found) == ["first", "sum"]
    np.testing.assert_array_equal(np.float32(found["sum"]), X + np.array([[1], [0]], np.float32))
    np.testing.assert_array_equal(found["first"], X[:, 0])
    only = outputs(infer(client, "plus", body | {"outputs": [{"name": "first"}]}, raw))
    assert list(only) == ["first"]
    all_but_one = body | {"parameters": {"binary_data_output": True}}
    all_but_one["outputs"] = [{"name": "first"}, {"name": "sum", "parameters": {"binary_data": False}}]
    assert b'"data":[2.0,3.0,6.0' in infer(client, "plus", all_but_one, raw).content


def test_a_raw_request(client: httpx.Client, every_kind: dict[str, Kind]) -> None:
    """Nothing but the tensor of one row; everything comes back in binary."""
    np.testing.assert_array_equal(outputs(infer(client, "vector", X[0].tobytes(), **{HEADER: "0"}))["twice"], X[:1] * 2)
    assert "Raw request must only have 1 input (found 2)" in told(infer(client, "plus", b"1234", **{HEADER: "0"}))
    assert "11 bytes, expected 12" in told(infer(client, "vector", b"x" * 11, **{HEADER: "0"}))


def test_trained_models(client: httpx.Client, every_kind: dict[str, Kind]) -> None:
    """Features are inputs: numbers, pictures as pixels, and pictures as files."""
    diabetes, digits = every_kind["diabetes"], every_kind["digits"]
    columns = [tensor(name, [row[name] for row in diabetes.rows[:4]]) for name in diabetes.rows[0]]
    found = outputs(infer(client, "diabetes", {"inputs": columns}))
    np.testing.assert_allclose(found["value"], diabetes.answers[:4], rtol=1e-4)

    import base64

    files = np.array([base64.b64decode(row["picture"]["b64"]) for row in digits.rows[:3]], object)
    described, raw = binary("picture", files, "BYTES")
    found = outputs(infer(client, "digits", {"inputs": [described]}, raw))
    np.testing.assert_allclose(found["probabilities"], digits.answers[:3], atol=1e-4)
    best = {"inputs": [described], "outputs": [{"name": "probabilities", "parameters": {"classification": 2}}]}
    named = outputs(infer(client, "digits", best, raw))["probabilities"]
    for row, answer in zip(named.tolist(), digits.answers, strict=False):
        first, second = np.argsort(-answer)[:2]
        assert [each.split(":")[1:] for each in row] == [[str(first), str(first)], [str(second), str(second)]]
        assert float(row[0].split(":")[0]) == pytest.approx(answer[first], abs=1e-4)


def test_large_bodies(client: httpx.Client) -> None:
    values = np.random.default_rng(0).normal(size=(20, 28, 28)).astype(np.float32)
    flat = tensor("x", values.tolist()) | {"data": values.ravel().tolist()}
    for body in ({"inputs": [tensor("x", values.tolist())]}, {"inputs": [flat]}):
        np.testing.assert_array_equal(np.float32(outputs(infer(client, "twice", body))["twice"]), values * 2)
    wrong = tensor("x", values.tolist())
    wrong["data"][3][2][1] = "x"
    assert told(infer(client, "twice", {"inputs": [wrong]})) == "input 'x': Unable to parse 'data': a value is no FP32"
    packed = gzip.compress(json.dumps({"inputs": [flat]}).encode())
    found = outputs(infer(client, "twice", packed, **{"content-encoding": "gzip"}))
    np.testing.assert_array_equal(np.float32(found["twice"]), values * 2)


def test_nan_and_infinity(client: httpx.Client) -> None:
    body = {"inputs": [tensor("x", [[float("nan"), float("inf"), -1e30]])]}
    response = infer(client, "vector", body)

    assert b'"data":[NaN,Infinity,-2e' in response.content
    np.testing.assert_array_equal(outputs(response)["twice"], [[np.nan, np.inf, -2e30]])


GOOD = tensor("x", X.tolist())


@pytest.mark.parametrize(
    ("model", "body", "expected"),
    [
        ("vector", b"", "failed to parse the request JSON buffer: The document is empty"),
        ("vector", b"{", "failed to parse the request JSON buffer: Missing a name for object member. at 1"),
        ("vector", [], "expected a JSON object with the key 'inputs'"),
        ("vector", {}, "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"),
        ("vector", {"inputs": 1}, "Unable to parse 'inputs': expected a list of objects"),
        ("vector", {"inputs": [{}]}, "Unable to parse 'inputs': expected every input to have a 'name', a string"),
        ("vector", {"inputs": [GOOD, GOOD]}, "input 'x' already exists in request"),
        (
            "vector",
            {"inputs": [GOOD | {"shape": [2, -3]}]},
            "input 'x': expected a shape of at most 16 sizes from 0 on",
        ),
        (
            "vector",
            {"inputs": [GOOD | {"shape": [2**31 - 1, 2**31 - 1, 2**31 - 1, 0], "data": []}]},
            "input 'x': expected sizes beside 0 that multiply to at most 1099511627776",
        ),
        (
            "vector",
            {"inputs": [GOOD | {"shape": [6]}]},
            "input 'x': expected data of shape [6], flat or nested, got [2,3]",
        ),
        (
            "vector",
            {"inputs": [GOOD | {"datatype": "FP8"}]},
            "input 'x': expected a 'datatype' such as FP32, got \"FP8\"",
        ),
        (
            "vector",
            {"inputs": [GOOD | {"data": [[1], 2]}]},
            "input 'x': expected data of shape [2,3], flat or nested, got [2]",
        ),
        (
            "vector",
            {"inputs": [GOOD | {"data": [[1, 2, 3], [1, 2]]}]},
            "input 'x': expected data of shape [2,3], flat or nested, got no list, or lists of different lengths",
        ),
        (
            "vector",
            {"inputs": [GOOD | {"datatype": "INT32"}]},
            "input 'x': Unable to parse 'data': a value is no INT32",
        ),
        ("vector", {"inputs": [tensor("z", X.tolist())]}, "unexpected inference input 'z' for model 'vector'"),
        (
            "vector",
            {"inputs": [tensor("x", [[1, 2, 3, 4]])]},
            "unexpected shape for input 'x' for model 'vector'. Expected [-1,3], got [1,4]",
        ),
        (
            "vector",
            {"inputs": [tensor("x", [["a", "b", "c"]], "BYTES")]},
            "inference input 'x' data-type is 'BYTES', but model 'vector' expects 'FP32'",
        ),
        (
            "plus",
            {"inputs": [GOOD]},
            "expected 2 inputs but got 1 inputs for model 'plus'. Got input(s) ['x'], but missing required input(s) "
            "['y']. Please provide all required input(s).",
        ),
        ("plus", {"inputs": [GOOD, tensor("y", [1])]}, "input 'x' batch size does not match other inputs for 'plus'"),
        (
            "vector",
            {"inputs": [GOOD], "outputs": [{"name": "q"}]},
            "unexpected inference output 'q' for model 'vector'",
        ),
        ("vector", {"inputs": [GOOD], "id": 1}, "Unable to parse 'id': expected a string"),
        (
            "vector",
            {"inputs": [GOOD], "parameters": {"timeout": -1}},
            "Unable to parse 'timeout': expected a whole number from 0 on",
        ),
        (
            "vector",
            {"inputs": [GOOD | {"parameters": {"shared_memory_region": "a"}}]},
            "input 'x': shared memory is not supported by this server",
        ),
        (
            "vector",
            {"inputs": [{k: v for k, v in GOOD.items() if k != "data"}]},
            "input 'x': must specify valid 'Infer-Header-Content-Length' in request header and 'binary_data_size' when "
            "passing inputs in binary data format, or else 'data'",
        ),
        (
            "vector",
            {"inputs": [GOOD | {"parameters": {"binary_data_size": 24}}]},
            "input 'x': expects 24 bytes of binary data, got 0",
        ),
    ],
)
def test_what_is_wrong(client: httpx.Client, model: str, body: Any, expected: str) -> None:
    assert told(infer(client, model, body)) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("x", "Unable to parse Inference-Header-Content-Length, got: x"),
        ("99", "inference header size should be in range (0, 2), got: 99"),
        ("-1", "inference header size should be in range (0, 2), got: -1"),
        ("9" * 30, "inference header size should be in range (0, 2), got: -1"),
    ],
)
def test_headers_that_lie(client: httpx.Client, header: str, expected: str) -> None:
    assert told(infer(client, "vector", b"{}", **{HEADER: header})) == expected


def test_binary_data_that_is_too_much_or_no_strings(client: httpx.Client) -> None:
    described, raw = binary("x", X, "FP32")
    assert "4 bytes behind the last" in told(infer(client, "vector", {"inputs": [described]}, raw + b"more"))
    small = described | {"shape": [2, 2]}
    assert "24 bytes, expected 16 for FP32 [2, 2]" in told(infer(client, "vector", {"inputs": [small]}, raw))
    huge = described | {"shape": [2**31 - 1, 2**31 - 1]}
    assert "24 bytes, expected" in told(infer(client, "vector", {"inputs": [huge]}, raw))
    text = described | {"datatype": "BYTES", "shape": [2]}
    assert "not 2 strings" in told(infer(client, "vector", {"inputs": [text]}, raw))


def test_models_versions_and_methods(client: httpx.Client) -> None:
    body = {"inputs": [GOOD]}
    versioned = client.post("/v2/models/vector/versions/1/infer", json=body)

    assert versioned.json() == infer(client, "vector", body).json()
    assert told(infer(client, "nobody", body), 404) == "Request for unknown model: 'nobody' is not found"
    wrong = client.post("/v2/models/vector/versions/9/infer", json=body)
    assert told(wrong, 404) == "Request for unknown model: 'vector' version 9 is not found"
    assert told(client.post("/v2/models/vector/versions/x/infer", json=body), 404).endswith("version x is not found")
    assert told(client.get("/v2/models/vector/infer"), 405) == "Method Not Allowed"
    assert told(client.post("/v2/models/vector"), 405) == "Method Not Allowed"
    assert told(client.get("/v2/models/vector/config"), 404) == "unknown path /v2/models/vector/config"
    rows = tensor("x", np.ones((51, 3)).tolist())
    assert "batch-size must be" in told(infer(client, "vector", {"inputs": [rows]}))


def test_metadata_and_health(client: httpx.Client) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert "binary_tensor_data" in client.get("/v2").json()["extensions"]
    assert client.get("/v2/models/plus/ready").json() == {"name": "plus", "ready": True}
    assert client.get("/v2/models/plus/versions/2/ready").status_code == 404
    assert client.get("/v2/models/plus").json() == {
        "name": "plus",
        "versions": ["1"],
        "platform": "tensorflow_savedmodel",
        "inputs": [
            {"name": "x", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "y", "datatype": "FP32", "shape": [-1]},
        ],
        "outputs": [
            {"name": "sum", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "first", "datatype": "FP32", "shape": [-1]},
        ],
    }


def test_a_timeout_is_a_deadline(client: httpx.Client) -> None:
    """One microsecond is over when the request has been read."""
    body = {"inputs": [GOOD], "parameters": {"timeout": 1}}
    response = infer(client, "vector", body)

    assert "error" in response.json()
    assert response.status_code == 504
    for priority in (1, 2):
        slow = body | {"parameters": {"timeout": 30_000_000, "priority": priority}}
        assert infer(client, "vector", slow).status_code == 200


@pytest.fixture
def alone(all_models: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    """A server whose models may be unloaded."""
    for name in ("vector", "plus"):
        shutil.copytree(all_models / name, tmp_path / name)
    with serving(tmp_path) as client:
        yield client


def test_the_repository(alone: httpx.Client) -> None:
    ready = {"name": "vector", "version": "1", "state": "READY", "reason": ""}
    assert ready in alone.post("/v2/repository/index").json()

    assert alone.post("/v2/repository/models/vector/unload", json={}).status_code == 200
    assert alone.get("/v2/models/vector/ready").status_code == 404
    index = {each["name"]: each["state"] for each in alone.post("/v2/repository/index", json={}).json()}
    assert index == {"plus": "READY", "vector": "UNAVAILABLE"}
    assert [each["name"] for each in alone.post("/v2/repository/index", json={"ready": True}).json()] == ["plus"]

    assert alone.post("/v2/repository/models/vector/load").status_code == 200
    np.testing.assert_array_equal(
        outputs(infer(alone, "vector", {"inputs": [GOOD]}))["twice"], np.float64(X * 2).round(6)
    )
    assert "nobody" in told(alone.post("/v2/repository/models/nobody/load"), 404)
    config = {"parameters": {"config": "{}"}}
    assert "not supported" in told(alone.post("/v2/repository/models/vector/load", json=config))
    assert told(alone.get("/v2/repository/index"), 405)


@pytest.mark.parametrize("dtype", DTYPES)
@given(data=st.data())
def test_raw_bytes_there_and_back(dtype: Any, data: st.DataObject) -> None:
    """Against the bytes that NumPy, ml_dtypes and a plain loop make."""
    shape = data.draw(arrays.array_shapes(max_dims=3, max_side=4, min_side=0))
    if dtype == "string":
        array = data.draw(arrays.arrays(object, shape, elements=st.binary(max_size=5)))
        expected = b"".join(len(each).to_bytes(4, "little") + each for each in array.ravel())
    elif dtype == "bfloat16":
        array = data.draw(arrays.arrays(np.float32, shape)).astype(bfloat16)
        expected = array.tobytes()
    else:
        array = data.draw(arrays.arrays(dtype, shape))
        expected = array.tobytes()

    assert to_raw(array) == expected
    assert OIP_NAMES[dtype_of(array)] == OIP_NAMES[dtype]
    back = from_raw("it", expected, dtype, shape)
    np.testing.assert_array_equal(back, array.astype(np.float32) if dtype == "bfloat16" else array)


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**40) | st.sampled_from(["x", "FP32", "BYTES", ""]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "binary_data_size", "classification"]),
            inner,
        )
    ),
    max_leaves=12,
)


@given(
    body=st.fixed_dictionaries({"inputs": ANY | st.lists(st.fixed_dictionaries(
        {"name": st.sampled_from(["x", "y"]), "datatype": st.sampled_from([*OF_OIP, "?"]), "shape": ANY, "data": ANY}
    ), max_size=2)}, optional={"outputs": ANY, "id": ANY, "parameters": ANY}),
    raw=st.binary(max_size=20),
)  # fmt: skip
def test_anything_is_answered_as_a_clients_fault_or_rightly(client: httpx.Client, body: Any, raw: bytes) -> None:
    for model in ("vector", "plus", "digits"):
        response = infer(client, model, body, raw)
        assert response.status_code in (200, 400, 504), response.text
        if response.status_code == 400:
            told(response)
