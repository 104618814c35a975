"""TensorFlow Serving over gRPC, asked by its own stubs; answers are those of REST, to the bit."""

import base64
import shutil
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from contract import routing
from contract.encoded import Encoded
from tests import kinds
from tests.conftest import NAME, Trained, add_version
from tests.kinds import Kind
from tests.service import grpc_models
from tests.service.grpc_models import MIXED, inputs_of_mixed
from tests.service.grpc_serving import Serving, serving
from tests.waiting import wait_until

Tensors = dict[str, NDArray[Any]]
Stub = prediction_service_pb2_grpc.PredictionServiceStub


@pytest.fixture(scope="module")
def several(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Flights in two versions, the second of which is the canary, to which nobody comes by chance; digits, diabetes,
    and every type."""
    models = tmp_path_factory.mktemp("grpc-tfs")
    shutil.copytree(trained.models / NAME, models / NAME)
    add_version(models)
    routing.promote(models, NAME, 1, by="test", why="fixture")
    routing.canary(models, NAME, 2, 1e-12, by="test", why="fixture")
    made = kinds.made(tmp_path_factory, "digits", "diabetes")
    for kind in made.values():
        kinds.put(kind, models)
    grpc_models.mixed(models)
    return {"models": models, **made}


@pytest.fixture(scope="module")
def served(several: dict[str, Any]) -> Iterator[Serving]:
    with serving(several["models"]) as running:
        versions = lambda: running.http.get(f"/v1/models/{NAME}").json()["model_version_status"]  # noqa: E731
        wait_until(lambda: [each["state"] for each in versions()] == ["AVAILABLE"] * 2, "both versions are loaded")
        yield running


@pytest.fixture(scope="module")
def digits(several: dict[str, Any]) -> Kind:
    return several["digits"]


@pytest.fixture(scope="module")
def diabetes(several: dict[str, Any]) -> Kind:
    return several["diabetes"]


@pytest.fixture(scope="module")
def stub(served: Serving) -> Iterator[Stub]:
    with served.channel() as channel:
        yield Stub(channel)


@pytest.fixture(scope="module")
def models_stub(served: Serving) -> Iterator[Any]:
    with served.channel() as channel:
        yield model_service_pb2_grpc.ModelServiceStub(channel)


def request(model: str, tensors: Tensors, **spec: Any) -> predict_pb2.PredictRequest:
    asked = predict_pb2.PredictRequest()
    asked.model_spec.name = model
    if (version := spec.pop("version", None)) is not None:
        asked.model_spec.version.value = version
    for key, value in spec.items():
        setattr(asked.model_spec, key, value)
    for name, tensor in tensors.items():
        asked.inputs[name].CopyFrom(tf.make_tensor_proto(tensor))
    return asked


def outputs(answer: predict_pb2.PredictResponse) -> Tensors:
    return {name: tf.make_ndarray(proto) for name, proto in answer.outputs.items()}


def code_of(ask: Any, *args: Any, **kwargs: Any) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as caught:
        ask(*args, **kwargs)
    return caught.value.code().name, caught.value.details()


def pictures(digits: Kind, count: int) -> NDArray[np.uint8]:
    encoded = encoder_of(digits).encode(digits.rows[:count])
    assert isinstance(encoded, Encoded)
    assert encoded.image is not None
    return np.asarray(encoded.image, np.uint8)


def encoder_of(kind: Kind) -> Any:
    from contract.features import Encoder

    return Encoder(kind.bundle.manifest.features)


def columns(rows: list[dict[str, Any]]) -> Tensors:
    """Rows as one tensor for each feature; what a row lacks is NaN or an empty string."""
    text = {name for row in rows for name, value in row.items() if isinstance(value, str)}
    return {
        name: np.array([(row.get(name) or "").encode() for row in rows], object)
        if name in text
        else np.array([np.nan if row.get(name) is None else row[name] for row in rows], np.float32)
        for name in {name: None for row in rows for name in row}
    }


def example(row: dict[str, Any]) -> tf.train.Example:
    made = tf.train.Example()
    for name, value in row.items():
        feature = made.features.feature[name]
        if isinstance(value, str | bytes):
            feature.bytes_list.value.append(value if isinstance(value, bytes) else value.encode())
        elif isinstance(value, int):
            feature.int64_list.value.append(value)
        elif value is not None:
            feature.float_list.value.append(value)
    return made


def by_rest(served: Serving, path: str, body: Any) -> Any:
    return served.http.post(f"/v1/models/{path}", json=body).raise_for_status().json()


def test_several_inputs_of_every_type_are_answered(served: Serving, stub: Stub) -> None:
    inputs = inputs_of_mixed(5)
    answer = stub.Predict(request(MIXED, inputs))
    got = outputs(answer)

    assert (answer.model_spec.name, answer.model_spec.version.value) == (MIXED, 1)
    assert answer.model_spec.signature_name == "serving_default"
    for name, wanted in grpc_models.answers_of_mixed(inputs).items():
        assert got[name].shape == wanted.shape
        if wanted.dtype.kind == "f":
            np.testing.assert_allclose(got[name], wanted, rtol=2e-3)
        else:
            assert got[name].tolist() == wanted.tolist()


def test_numbers_are_those_of_rest(served: Serving, stub: Stub, digits: Kind, trained: Trained) -> None:
    image = pictures(digits, 7)
    rest = by_rest(served, "digits:predict", {"instances": image.tolist()})["predictions"]
    got = outputs(stub.Predict(request("digits", {"picture": image})))["probabilities"]
    assert got.dtype == np.float32
    assert got.tobytes() == np.array(rest, np.float32).tobytes()

    rows = [dict(each.row) for each in trained.bundle.manifest.golden]
    rest = by_rest(served, f"{NAME}:predict", {"instances": rows})["predictions"]
    got = outputs(stub.Predict(request(NAME, columns(rows))))["probability"]
    assert got.tobytes() == np.array(rest, np.float32).tobytes()


def test_values_are_where_clients_look_for_them(stub: Stub, digits: Kind) -> None:
    """In the field of their type, as TensorFlow Serving has them by default."""
    (proto,) = stub.Predict(request("digits", {"picture": pictures(digits, 2)})).outputs.values()
    assert len(proto.float_val) == 20
    assert not proto.tensor_content


def test_outputs_may_be_filtered(stub: Stub) -> None:
    asked = request(MIXED, inputs_of_mixed(2))
    asked.output_filter.extend(["next", "upper"])
    assert set(stub.Predict(asked).outputs) == {"next", "upper"}
    asked.output_filter.append("absent")
    assert code_of(stub.Predict, asked) == (
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: absent",
    )


def test_versions_and_labels_are_pinned(stub: Stub, trained: Trained) -> None:
    tensors = columns([dict(trained.bundle.manifest.golden[0].row)])

    def version(**spec: Any) -> int:
        return int(stub.Predict(request(NAME, tensors, **spec)).model_spec.version.value)

    assert (
        version() == version(version=1) == version(version_label="production") == version(version_label="stable") == 1
    )
    assert version(version=2) == version(version_label="canary") == 2
    assert code_of(stub.Predict, request(NAME, tensors, version=7)) == (
        "NOT_FOUND",
        f"Servable not found for request: Specific({NAME}, 7)",
    )
    assert code_of(stub.Predict, request(NAME, tensors, version_label="nightly")) == (
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: nightly",
    )


@pytest.mark.parametrize(
    ("model", "tensors", "spec", "code", "text"),
    [
        ("absent", {"x": np.zeros(1)}, {}, "NOT_FOUND", "Servable not found for request: Latest(absent)"),
        ("", {"x": np.zeros(1)}, {}, "INVALID_ARGUMENT", "Missing ModelSpec"),
        ("digits", {}, {"signature_name": "other"}, "INVALID_ARGUMENT", 'Serving signature name: "other" not found'),
        ("digits", {}, {}, "INVALID_ARGUMENT", "picture"),
        ("digits", {"x": np.zeros(1)}, {}, "INVALID_ARGUMENT", "inputs.x: unknown input"),
        ("digits", {"picture": np.zeros((1, 9, 8, 1), np.uint8)}, {}, "INVALID_ARGUMENT", "has another shape"),
        ("digits", {"picture": np.zeros((0, 8, 8, 1), np.uint8)}, {}, "INVALID_ARGUMENT", "at least one row"),
        ("digits", {"picture": np.zeros((2000, 8, 8, 1), np.uint8)}, {}, "INVALID_ARGUMENT", "limit"),
        ("diabetes", {"bmi": np.array([b"x"])}, {}, "INVALID_ARGUMENT", "10 problems: inputs.age: required input"),
        (MIXED, {"n": np.zeros(2)}, {}, "INVALID_ARGUMENT", "4 problems: inputs.word: required input"),
    ],
)
def test_what_is_wrong_is_said(
    stub: Stub, model: str, tensors: Tensors, spec: dict[str, Any], code: str, text: str
) -> None:
    got, details = code_of(stub.Predict, request(model, tensors, **spec))
    assert (got, text in details) == (code, True), details


def classify(stub: Stub, model: str, rows: list[dict[str, Any]], context: dict[str, Any] | None = None) -> Any:
    asked = classification_pb2.ClassificationRequest()
    asked.model_spec.name = model
    if context is None:
        asked.input.example_list.examples.extend(map(example, rows))
    else:
        asked.input.example_list_with_context.examples.extend(map(example, rows))
        asked.input.example_list_with_context.context.CopyFrom(example(context))
    return stub.Classify(asked)


def pairs(answer: Any) -> list[list[list[Any]]]:
    return [[[each.label, each.score] for each in row.classes] for row in answer.result.classifications]


def test_examples_are_classified_as_over_rest(served: Serving, stub: Stub, digits: Kind, trained: Trained) -> None:
    rows = [dict(each.row) for each in trained.bundle.manifest.golden]
    rest = by_rest(served, f"{NAME}:classify", {"examples": rows})["results"]
    answer = classify(stub, NAME, rows)
    assert answer.model_spec.version.value == 1
    assert pairs(answer) == [[[label, np.float32(score)] for label, score in row] for row in rest]
    assert [label for label, _ in rest[0]] == list(trained.bundle.manifest.output.classes)

    shared = {name: value for name, value in rows[0].items() if isinstance(value, str)}
    own = [{name: value for name, value in row.items() if name not in shared} for row in rows]
    rest = by_rest(served, f"{NAME}:classify", {"examples": own, "context": shared})["results"]
    assert pairs(classify(stub, NAME, own, shared)) == [
        [[label, np.float32(score)] for label, score in row] for row in rest
    ]

    files = [base64.b64decode(row["picture"]["b64"]) for row in digits.rows[:3]]
    by_number = outputs(stub.Predict(request("digits", {"picture": pictures(digits, 3)})))["probabilities"]
    scores = pairs(classify(stub, "digits", [{"picture": file} for file in files]))
    assert [[score for _, score in row] for row in scores] == by_number.tolist()


def test_examples_are_regressed_as_over_rest(served: Serving, stub: Stub, diabetes: Kind) -> None:
    rows = diabetes.rows[:5]
    asked = regression_pb2.RegressionRequest()
    asked.model_spec.name = "diabetes"
    asked.input.example_list.examples.extend(map(example, rows))
    rest = by_rest(served, "diabetes:regress", {"examples": rows})["results"]

    got = [each.value for each in stub.Regress(asked).result.regressions]
    assert got == np.array(rest, np.float32).tolist()

    asked.model_spec.name = NAME
    code, text = code_of(stub.Regress, asked)
    assert (code, "Expected regression signature" in text) == ("INVALID_ARGUMENT", True)
    asked.ClearField("input")
    asked.model_spec.name = "diabetes"
    assert code_of(stub.Regress, asked)[0] == "INVALID_ARGUMENT"


def test_wrong_examples_are_all_named(stub: Stub, trained: Trained) -> None:
    row = dict(trained.bundle.manifest.golden[0].row)
    wrong = [row, row | {"distance": "far"}, row | {"carrier": 7}]
    code, text = code_of(classify, stub, NAME, wrong)

    assert code == "INVALID_ARGUMENT"
    assert "instances[1].distance" in text
    assert "instances[2].carrier" in text


def test_metadata_are_those_of_rest(served: Serving, stub: Stub) -> None:
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    asked.model_spec.name = MIXED
    answer = stub.GetModelMetadata(asked)
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert answer.metadata["signature_def"].Unpack(signatures)
    definition = signatures.signature_def["serving_default"]
    rest = served.http.get(f"/v1/models/{MIXED}/metadata").json()
    wanted = rest["metadata"]["signature_def"]["signature_def"]["serving_default"]

    assert (answer.model_spec.name, answer.model_spec.version.value) == (MIXED, 1)
    assert definition.method_name == wanted["method_name"]
    numbers = tf.make_tensor_proto(0).DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_name
    for got, expected in ((definition.inputs, wanted["inputs"]), (definition.outputs, wanted["outputs"])):
        assert got.keys() == expected.keys()
        for name, info in got.items():
            assert info.name == expected[name]["name"]
            assert info.dtype == numbers[expected[name]["dtype"]].number
            assert [str(dim.size) for dim in info.tensor_shape.dim] == [
                dim["size"] for dim in expected[name]["tensor_shape"]["dim"]
            ]
    asked.metadata_field.append("other")
    assert code_of(stub.GetModelMetadata, asked)[0] == "INVALID_ARGUMENT"


def test_the_status_is_that_of_rest(served: Serving, models_stub: Any) -> None:
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = NAME
    got = [
        (str(each.version), get_model_status_pb2.ModelVersionStatus.State.Name(each.state), each.HasField("status"))
        for each in models_stub.GetModelStatus(asked).model_version_status
    ]
    rest = served.http.get(f"/v1/models/{NAME}").json()["model_version_status"]
    assert got == [(each["version"], each["state"], True) for each in rest]

    asked.model_spec.version.value = 2
    (one,) = models_stub.GetModelStatus(asked).model_version_status
    assert (one.version, one.status.error_code) == (2, 0)
    asked.model_spec.version.value = 9
    assert code_of(models_stub.GetModelStatus, asked) == (
        "NOT_FOUND",
        f"Could not find version 9 of model {NAME}",
    )
    asked.model_spec.name = "absent"
    assert code_of(models_stub.GetModelStatus, asked) == (
        "NOT_FOUND",
        "Could not find any versions of model absent",
    )
