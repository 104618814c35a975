"""What tritonclient and kserve ask, run in an environment of theirs: python clients.py HOST:PORT."""

import asyncio
import sys

import numpy as np
import tritonclient.http as triton
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput
from ml_dtypes import bfloat16
from tritonclient.utils import InferenceServerException

X = np.array([[1, 2, 5], [0.5, -1, 1e-3]], np.float32)
TYPES = {
    "x": (np.array([[1, 2]], np.float32), "FP32"),
    "n": (np.array([2**53 + 1], np.int64), "INT64"),
    "flag": (np.array([True]), "BOOL"),
    "name": (np.array([b"\xffAda"], object), "BYTES"),
    "half": (np.array([[0.5, 1]], np.float16), "FP16"),
    "wide": (np.array([1.5], bfloat16), "BF16"),
}


def with_triton(address: str) -> None:
    client = triton.InferenceServerClient(address)
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("vector")
    assert client.is_model_ready("vector", "1")
    assert not client.is_model_ready("nobody")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("vector")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 3]}]
    assert {each["name"] for each in client.get_model_repository_index()} >= {"vector", "types"}
    for sent in (True, False):
        for received in (True, False):
            one(client, sent, received)
    one(client, True, True, request_compression_algorithm="gzip")
    one(client, True, True, request_compression_algorithm="deflate", response_compression_algorithm="gzip")
    every_type(client)
    asked(client)
    (statistics,) = client.get_inference_statistics("vector")["model_stats"]
    assert statistics["inference_count"] > statistics["execution_count"] > 0
    assert statistics["inference_stats"]["fail"]["count"] > 0
    assert statistics in client.get_inference_statistics()["model_stats"]
    client.unload_model("plus")
    assert not client.is_model_ready("plus")
    client.load_model("plus")
    assert client.is_model_ready("plus")


def tensor(name: str, value: np.ndarray, kind: str, binary: bool = True) -> triton.InferInput:
    made = triton.InferInput(name, list(value.shape), kind)
    made.set_data_from_numpy(value, binary_data=binary)
    return made


def one(client: triton.InferenceServerClient, sent: bool, received: bool, **more: str) -> None:
    wanted = [triton.InferRequestedOutput("twice", binary_data=received)]
    inputs = [tensor("x", X, "FP32", sent)]
    result = client.infer("vector", inputs, outputs=wanted, request_id="mine", **more)
    np.testing.assert_array_equal(result.as_numpy("twice"), X * 2)
    assert result.get_response()["id"] == "mine"
    raw = client.infer("vector", inputs, priority=1, timeout=30_000_000)
    np.testing.assert_array_equal(raw.as_numpy("twice"), X * 2)


def every_type(client: triton.InferenceServerClient) -> None:
    result = client.infer("types", [tensor(name, *each) for name, each in TYPES.items()])
    assert result.as_numpy("next").tolist() == [2**53 + 2]
    assert result.as_numpy("greeting").tolist() == [b"hi \xffAda"]
    assert result.as_numpy("opposite").tolist() == [False]
    np.testing.assert_array_equal(result.as_numpy("quarter"), np.float16([[0.25, 0.5]]))
    np.testing.assert_array_equal(result.as_numpy("wider"), [3])


def asked(client: triton.InferenceServerClient) -> None:
    body, length = client.generate_request_body([tensor("x", X, "FP32")])
    assert length
    assert body
    future = client.async_infer("vector", [tensor("x", X, "FP32")])
    np.testing.assert_array_equal(future.get_result().as_numpy("twice"), X * 2)
    best = client.infer(
        "digits",
        [tensor("picture", np.zeros((1, 8, 8, 1), np.uint8), "UINT8")],
        outputs=[triton.InferRequestedOutput("probabilities", class_count=3)],
    ).as_numpy("probabilities")
    assert best.shape == (1, 3)
    assert len(best[0, 0].decode().split(":")) == 3
    for name, inputs, said in (
        ("nobody", [tensor("x", X, "FP32")], "unknown model"),
        ("vector", [tensor("x", X[:, :2].copy(), "FP32")], "unexpected shape for input 'x'"),
        ("vector", [tensor("z", X, "FP32")], "unexpected inference input 'z'"),
    ):
        assert said in refusal(client, name, inputs)


def refusal(client: triton.InferenceServerClient, name: str, inputs: list[triton.InferInput]) -> str:
    try:
        client.infer(name, inputs)
    except InferenceServerException as error:
        return error.message()
    raise AssertionError(f"{name} answered")


async def with_kserve(url: str) -> None:
    second = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await second.is_server_live(url)
    assert await second.is_server_ready(url)
    assert await second.is_model_ready(url, "vector")
    for binary in (True, False):
        made = InferInput("x", list(X.shape), "FP32")
        made.set_data_from_numpy(X, binary_data=binary)
        wanted = [RequestedOutput("twice", parameters={"binary_data": binary})]
        request = InferRequest("vector", [made], request_outputs=wanted)
        response = await second.infer(url, request, model_name="vector")
        np.testing.assert_array_equal(np.float32(response.outputs[0].as_numpy()), X * 2)
    first = InferenceRESTClient(RESTConfig(protocol="v1"))
    assert await first.is_model_ready(url, "vector")
    answer = await first.infer(url, {"instances": X.tolist()}, model_name="vector")
    np.testing.assert_array_equal(np.float32(answer["predictions"]), X * 2)


if __name__ == "__main__":
    with_triton(sys.argv[1])
    asyncio.run(with_kserve(f"http://{sys.argv[1]}"))
    print("tritonclient and kserve are content")
