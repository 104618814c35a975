"""The Open Inference Protocol over gRPC, asked by Triton's own client; answers are those of REST, to the bit."""

import json
import queue
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import (
    InferenceServerException,
    deserialize_bytes_tensor,
    np_to_triton_dtype,
    serialize_byte_tensor,
    triton_to_np_dtype,
)

from contract.answered import AnswerBins
from service.canary.counting import Arm
from tests import kinds
from tests.service import grpc_models
from tests.service.grpc_models import MIXED, inputs_of_mixed
from tests.service.grpc_serving import Serving, serving
from tests.waiting import PATIENCE_SECONDS, wait_until

Tensors = dict[str, NDArray[Any]]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    models = tmp_path_factory.mktemp("grpc-oip")
    kinds.put(kinds.made(tmp_path_factory, "digits")["digits"], models)
    grpc_models.mixed(models)
    with serving(models, runtime="auto") as running:
        yield running


@pytest.fixture(scope="module")
def client(served: Serving) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(served.address) as asking:
        yield asking


@pytest.fixture(scope="module")
def stub(served: Serving) -> Iterator[service_pb2_grpc.GRPCInferenceServiceStub]:
    with served.channel() as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def inputs_of(tensors: Tensors) -> list[triton.InferInput]:
    inputs = []
    for name, tensor in tensors.items():
        inputs.append(triton.InferInput(name, list(tensor.shape), np_to_triton_dtype(tensor.dtype)))
        inputs[-1].set_data_from_numpy(tensor)
    return inputs


def pictures(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 8, 8, 1), dtype=np.uint8)


def by_rest(served: Serving, model: str, tensors: Tensors) -> Tensors:
    """The same request over REST, with binary tensors both ways."""
    parts = [
        serialize_byte_tensor(each).item() if each.dtype == object else each.tobytes() for each in tensors.values()
    ]
    inputs = [
        {
            "name": name,
            "shape": tensor.shape,
            "datatype": np_to_triton_dtype(tensor.dtype),
            "parameters": {"binary_data_size": len(part)},
        }
        for (name, tensor), part in zip(tensors.items(), parts, strict=True)
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    headers = {"inference-header-content-length": str(len(head))}
    answer = served.http.post(f"/v2/models/{model}/infer", content=b"".join([head, *parts]), headers=headers)
    length = int(answer.raise_for_status().headers["inference-header-content-length"])
    found, rest = {}, answer.content[length:]
    for each in json.loads(answer.content[:length])["outputs"]:
        size = each["parameters"]["binary_data_size"]
        dtype = triton_to_np_dtype(each["datatype"])
        flat = deserialize_bytes_tensor(rest[:size]) if dtype is np.object_ else np.frombuffer(rest[:size], dtype)
        found[each["name"]], rest = flat.reshape(each["shape"]), rest[size:]
    assert not rest
    return found


def test_the_server_and_its_models_say_what_they_are(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata().name == "hornpipe"
    assert client.is_model_ready(MIXED)
    assert client.is_model_ready(MIXED, "1")
    assert not client.is_model_ready(MIXED, "2")
    assert not client.is_model_ready("absent")
    index = client.get_model_repository_index().models
    assert {(each.name, each.version, each.state) for each in index} == {
        (name, "1", "READY") for name in ("digits", MIXED)
    }


@pytest.mark.parametrize("model", ["digits", MIXED])
def test_metadata_are_those_of_rest(served: Serving, client: triton.InferenceServerClient, model: str) -> None:
    rest = served.http.get(f"/v2/models/{model}").json()
    answer = client.get_model_metadata(model, as_json=True)

    def shaped(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [each | {"shape": list(map(int, each["shape"]))} for each in listed]

    assert answer | {key: shaped(answer[key]) for key in ("inputs", "outputs")} == rest


@pytest.mark.parametrize("count", [1, 3, 40])
def test_every_type_goes_in_and_comes_out_as_over_rest(
    served: Serving, client: triton.InferenceServerClient, count: int
) -> None:
    tensors = inputs_of_mixed(count)
    result = client.infer(MIXED, inputs_of(tensors), request_id="mine")
    rest = by_rest(served, MIXED, tensors)

    assert result.get_response().id == "mine"
    assert [each.name for each in result.get_response().outputs] == list(rest)
    for name, wanted in grpc_models.answers_of_mixed(tensors).items():
        got = result.as_numpy(name)
        assert got.dtype == wanted.dtype
        assert got.shape == wanted.shape
        assert got.tobytes() == rest[name].tobytes() if got.dtype != object else got.tolist() == rest[name].tolist()
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(got, wanted, rtol=2e-3)
        else:
            assert got.tolist() == wanted.tolist()


def test_pictures_are_answered_as_over_rest(served: Serving, client: triton.InferenceServerClient) -> None:
    tensors = {"picture": pictures(20)}
    got = client.infer("digits", inputs_of(tensors)).as_numpy("probabilities")

    assert got.tobytes() == by_rest(served, "digits", tensors)["probabilities"].tobytes()
    assert got.shape == (20, 10)


def message(model: str, tensors: Tensors) -> service_pb2.ModelInferRequest:
    """With typed values instead of raw bytes."""
    fields = {
        "BYTES": "bytes_contents",
        "FP32": "fp32_contents",
        "INT64": "int64_contents",
        "BOOL": "bool_contents",
        "UINT8": "uint_contents",
    }
    request = service_pb2.ModelInferRequest(model_name=model, id="typed")
    for name, tensor in tensors.items():
        datatype = np_to_triton_dtype(tensor.dtype)
        sent = request.inputs.add(name=name, datatype=datatype, shape=tensor.shape)
        getattr(sent.contents, fields[datatype]).extend(tensor.ravel().tolist())
    return request


def test_typed_values_are_answered_with_typed_values(
    served: Serving, stub: service_pb2_grpc.GRPCInferenceServiceStub
) -> None:
    tensors = {"picture": pictures(3)}
    answer = stub.ModelInfer(message("digits", tensors))
    wanted = by_rest(served, "digits", tensors)["probabilities"]

    assert answer.id == "typed"
    assert (answer.model_name, answer.model_version) == ("digits", "1")
    assert not answer.raw_output_contents
    (output,) = answer.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("probabilities", "FP32", [3, 10])
    assert np.array(output.contents.fp32_contents, np.float32).tobytes() == wanted.tobytes()


def test_typed_values_of_every_type_are_read(
    stub: service_pb2_grpc.GRPCInferenceServiceStub, client: triton.InferenceServerClient
) -> None:
    """Float16 has no typed values, so its answer is raw, and then all are."""
    tensors = inputs_of_mixed(2)
    del tensors["h"]
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message(MIXED, tensors))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "missing required input(s) ['h']" in caught.value.details()

    request = message(MIXED, tensors)
    request.inputs.add(name="h", datatype="FP16", shape=[2, 2]).contents.fp32_contents.extend([1, 2, 3, 4])
    with pytest.raises(grpc.RpcError, match="FP16 comes in raw_input_contents only"):
        stub.ModelInfer(request)

    request = message(MIXED, {})
    request.inputs.add(name="word", datatype="BYTES", shape=[2]).contents.bytes_contents.extend([b"AA"])
    with pytest.raises(grpc.RpcError, match="expected 2 values in bytes_contents, got 1"):
        stub.ModelInfer(request)


def test_outputs_may_be_chosen_and_classified(client: triton.InferenceServerClient) -> None:
    tensors = inputs_of_mixed(2)
    result = client.infer(
        MIXED, inputs_of(tensors), outputs=[triton.InferRequestedOutput("next"), triton.InferRequestedOutput("upper")]
    )
    assert [each.name for each in result.get_response().outputs] == ["next", "upper"]

    image = {"picture": pictures(2)}
    every = client.infer("digits", inputs_of(image)).as_numpy("probabilities")
    best = client.infer(
        "digits", inputs_of(image), outputs=[triton.InferRequestedOutput("probabilities", class_count=2)]
    ).as_numpy("probabilities")
    for row, named in zip(every, best, strict=True):
        first, second = np.argsort(-row)[:2]
        assert [each.decode().split(":")[1:] for each in named] == [[str(first)] * 2, [str(second)] * 2]


@pytest.mark.parametrize(
    ("model", "tensors", "code", "text"),
    [
        ("absent", {"x": np.zeros(1)}, "NOT_FOUND", "Request for unknown model: 'absent' is not found"),
        ("", {"x": np.zeros(1)}, "NOT_FOUND", "unknown model"),
        ("digits", {"image": pictures(1)}, "INVALID_ARGUMENT", "unexpected inference input 'image'"),
        ("digits", {"picture": pictures(1)[:, :7]}, "INVALID_ARGUMENT", "Expected [-1,8,8,1], got [1,7,8,1]"),
        ("digits", {"picture": np.zeros((2, 8, 8, 1), object)}, "INVALID_ARGUMENT", "data-type is 'BYTES'"),
        ("digits", {"picture": pictures(1)[:0]}, "INVALID_ARGUMENT", "at least one row"),
        ("digits", {"picture": pictures(1025)}, "INVALID_ARGUMENT", "limit"),
    ],
)
def test_what_is_wrong_is_said_in_a_code_and_in_words(
    client: triton.InferenceServerClient, model: str, tensors: Tensors, code: str, text: str
) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, inputs_of({k: v.astype(bytes) if v.dtype == object else v for k, v in tensors.items()}))
    assert caught.value.status() == f"StatusCode.{code}"
    assert text in caught.value.message()


def test_versions_that_do_not_serve_are_not_found(client: triton.InferenceServerClient) -> None:
    for version in ("2", "latest", "9" * 30):
        with pytest.raises(InferenceServerException, match="is not found") as caught:
            client.infer("digits", inputs_of({"picture": pictures(1)}), model_version=version)
        assert caught.value.status() == "StatusCode.NOT_FOUND"
    assert client.infer("digits", inputs_of({"picture": pictures(1)}), model_version="1")


def test_raw_bytes_that_do_not_fit_are_refused(stub: service_pb2_grpc.GRPCInferenceServiceStub) -> None:
    request = service_pb2.ModelInferRequest(model_name="digits")
    request.inputs.add(name="picture", datatype="UINT8", shape=[1, 8, 8, 1])
    cases: list[tuple[list[bytes], str]] = [
        ([b"x" * 63], "63 bytes, expected 64"),
        ([b"x" * 64, b""], "expected as many raw_input_contents as inputs"),
        ([], "expected 64 values in uint_contents, got 0"),
    ]
    for raw, text in cases:
        del request.raw_input_contents[:]
        request.raw_input_contents.extend(raw)
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert text in caught.value.details()
    for shape in ([-1, -64, 1, 1], [2**31, 1, 1, 1], [0, 2**31 - 1, 2**31 - 1, 2**31 - 1], [1] * 40):
        request.inputs[0].shape[:] = shape
        request.raw_input_contents[:] = [b"x" * 64]
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def test_shared_memory_is_said_to_be_missing(client: triton.InferenceServerClient) -> None:
    shared = triton.InferInput("picture", [1, 8, 8, 1], "UINT8")
    shared.set_shared_memory("region", 64)
    with pytest.raises(InferenceServerException, match="shared memory is not supported"):
        client.infer("digits", [shared])


def test_many_calls_at_once_are_each_answered_with_their_own(
    served: Serving, client: triton.InferenceServerClient
) -> None:
    images = [pictures(1 + i % 5) + np.uint8(i) for i in range(120)]
    alone = [client.infer("digits", inputs_of({"picture": each})).as_numpy("probabilities") for each in images[:10]]

    with ThreadPoolExecutor(16) as pool:
        asked = [pool.submit(client.infer, "digits", inputs_of({"picture": each})) for each in images]
        answers = [each.result().as_numpy("probabilities") for each in asked]

    assert [len(each) for each in answers] == [len(each) for each in images]
    for wanted, got in zip(alone, answers, strict=False):
        np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_the_callbacks_of_the_client_work(client: triton.InferenceServerClient) -> None:
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()
    client.async_infer("digits", inputs_of({"picture": pictures(2)}), lambda result, error: done.put((result, error)))
    result, error = done.get(timeout=PATIENCE_SECONDS)

    assert error is None
    assert result.as_numpy("probabilities").shape == (2, 10)
    assert result.as_numpy("probabilities").dtype == triton_to_np_dtype("FP32")


def test_a_stream_is_answered_in_order_and_goes_on_after_what_is_wrong(client: triton.InferenceServerClient) -> None:
    images = [pictures(1 + i % 3) + np.uint8(i) for i in range(60)]
    alone = [client.infer("digits", inputs_of({"picture": each})).as_numpy("probabilities") for each in images]
    came: queue.SimpleQueue[Any] = queue.SimpleQueue()

    client.start_stream(lambda result, error: came.put((result, error)))
    for i, each in enumerate(images):
        name = "image" if i == 30 else "picture"
        client.async_stream_infer("digits", inputs_of({name: each}), request_id=str(i))
    answers = [came.get(timeout=PATIENCE_SECONDS) for _ in images]
    client.stop_stream()

    (refused,) = [error for _, error in answers if error is not None]
    assert "unexpected inference input 'image'" in str(refused)
    for i, (result, error) in enumerate(answers):
        assert (error is not None) == (i == 30)
        if error is None:
            response = result.get_response()
            assert response.id == str(i)
            assert response.parameters["triton_final_response"].bool_param
            np.testing.assert_allclose(result.as_numpy("probabilities"), alone[i], atol=1e-5)


def test_who_leaves_a_stream_leaves_nothing_waiting(served: Serving, client: triton.InferenceServerClient) -> None:
    for _ in range(5):
        with triton.InferenceServerClient(served.address) as leaving:
            leaving.start_stream(lambda result, error: None)
            for _ in range(20):
                leaving.async_stream_infer("digits", inputs_of({"picture": pictures(4)}))
            leaving.stop_stream(cancel_requests=True)

    wait_until(lambda: served.metric("hornpipe_queue_rows", model="digits") == 0, "nothing waits")
    assert client.infer("digits", inputs_of({"picture": pictures(1)})).as_numpy("probabilities").shape == (1, 10)


def test_statistics_count_rows_runs_and_failures(served: Serving, client: triton.InferenceServerClient) -> None:
    """Of the model that no stream asks: what a client asked that has left may be counted at any time after."""

    def now() -> Any:
        (found,) = client.get_inference_statistics(MIXED).model_stats
        return found

    before = now()
    for rows in (1, 3):
        client.infer(MIXED, inputs_of(inputs_of_mixed(rows)))
    with pytest.raises(InferenceServerException):
        client.infer(MIXED, inputs_of({"image": pictures(3)}))
    after = now()

    def more(of: str) -> int:
        return getattr(after.inference_stats, of).count - getattr(before.inference_stats, of).count

    assert (after.name, after.version) == (MIXED, "1")
    assert after.inference_count - before.inference_count == 4
    assert after.execution_count - before.execution_count == 2
    assert (more("success"), more("fail"), more("queue"), more("compute_infer")) == (2, 1, 2, 2)
    stats = after.inference_stats
    assert 0 < stats.compute_infer.ns < stats.success.ns
    rest = served.http.get(f"/v2/models/{MIXED}/stats").json()["model_stats"]
    assert rest[0]["inference_count"] == after.inference_count
    assert rest[0]["inference_stats"]["compute_infer"] == {
        "count": stats.compute_infer.count,
        "ns": stats.compute_infer.ns,
    }
    assert {each.name for each in client.get_inference_statistics().model_stats} == {"digits", MIXED}
    assert len(served.http.get("/v2/models/stats").json()["model_stats"]) == 2
    assert served.http.get("/v2/models/absent/stats").status_code == 404
    with pytest.raises(InferenceServerException):
        client.get_inference_statistics("digits", "2")


def test_who_only_looks_at_a_model_is_no_answer_that_a_canary_is_compared_by(
    served: Serving, client: triton.InferenceServerClient
) -> None:
    """Probes that ask every second whether it is ready would hide how often it fails."""
    (model,) = (each for each in served.server.state.registry.serving() if each.name == "digits")
    arm = model.arm = Arm(AnswerBins(model.manifest, model.manifest))
    try:
        assert client.is_model_ready("digits")
        client.get_model_metadata("digits")
        client.get_inference_statistics("digits")
        for path in ("/v2/models/digits", "/v2/models/digits/ready", "/v1/models/digits/metadata"):
            assert served.http.get(path).status_code == 200
        assert arm.take().requests == 0

        client.infer("digits", inputs_of({"picture": pictures(1)}))
        wait_until(lambda: arm.take().requests == 1, "the answer is counted")
    finally:
        model.arm = None


def test_models_can_be_unloaded_and_loaded(served: Serving, client: triton.InferenceServerClient) -> None:
    client.unload_model("digits")
    assert not client.is_model_ready("digits")
    with pytest.raises(InferenceServerException):
        client.infer("digits", inputs_of({"picture": pictures(1)}))
    client.load_model("digits")
    assert client.is_model_ready("digits")
    with pytest.raises(InferenceServerException, match="parameters are not supported"):
        client.load_model("digits", config="{}")
    with pytest.raises(InferenceServerException) as caught:
        client.load_model("absent")
    assert caught.value.status() == "StatusCode.NOT_FOUND"


def test_what_is_not_offered_is_unimplemented(client: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException) as caught:
        client.get_model_config("digits")
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_calls_are_counted_by_method(served: Serving, client: triton.InferenceServerClient) -> None:
    def count(outcome: str) -> float:
        return served.metric(
            "hornpipe_request_duration_seconds_count", model="digits", route="grpc/ModelInfer", outcome=outcome
        )

    before = count("ok"), count("invalid")
    client.infer("digits", inputs_of({"picture": pictures(3)}))
    with pytest.raises(InferenceServerException):
        client.infer("digits", inputs_of({"image": pictures(3)}))

    assert (count("ok"), count("invalid")) == (before[0] + 1, before[1] + 1)
