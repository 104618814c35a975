"""tensorflow.serving.PredictionService and ModelService, as TensorFlow Serving has them."""

from time import perf_counter
from typing import Final

import numpy as np
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.protobuf.wrappers_pb2 import Int64Value

from contract.manifest import BinaryOutput, MulticlassOutput
from contract.runtimes import Outputs
from contract.signature import TensorSpec
from service.errors import InvalidRequest
from service.grpc import examples, tensor_proto
from service.grpc.rpc import read, respond
from service.grpc.tfs_pb2 import (
    ClassificationRequest,
    ClassificationResponse,
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    GetModelStatusRequest,
    GetModelStatusResponse,
    Input,
    ModelSpec,
    PredictRequest,
    PredictResponse,
    RegressionRequest,
    RegressionResponse,
    SignatureDef,
    SignatureDefMap,
    TensorInfo,
)
from service.http.call import Call
from service.http.messages import Response
from service.inference.inference import Inference
from service.metrics import Metrics
from service.routes.tfserving import Target, TensorFlowServing
from service.versions.loaded import LoadedModel
from service.wire import tfs_answer, tfs_request
from service.wire.tfs_request import DEFAULT_SIGNATURE as SIGNATURE

PREDICTION: Final = "tensorflow.serving.PredictionService"
MODELS: Final = "tensorflow.serving.ModelService"

METADATA: Final = "signature_def"

# ModelVersionStatus.State, and the error code of one that is refused (tensorflow/core/protobuf/error_codes.proto).
_STATES: Final = {"loading": 20, "ready": 30, "refused": 50}
_UNKNOWN: Final = 2


class TensorFlowServingMessages:
    """Each method answers a call with the message of the same name. `most_bytes` is what a tensor may become of which
    only some values came."""

    def __init__(
        self, protocol: TensorFlowServing, inference: Inference, metrics: Metrics, most_bytes: int, most_rows: int
    ) -> None:
        self._protocol = protocol
        self._inference = inference
        self._metrics = metrics
        self._most_bytes = most_bytes
        self._most_rows = most_rows

    async def predict(self, call: Call) -> Response:
        """Raises InvalidRequest and what Inference raises."""
        request = read(PredictRequest, call)
        model = self._pick(call, request.model_spec)
        wanted = _wanted(list(request.output_filter), model)
        sent = {name: tensor_proto.read(name, each, self._most_bytes) for name, each in request.inputs.items()}
        outputs = await self._inference.tensors(model, sent, call)
        encoding = perf_counter()
        answer = PredictResponse(
            outputs={name: tensor_proto.write(outputs[name]) for name in wanted},
            model_spec=_spec(model),
        )
        return self._respond(answer, model, call, encoding)

    async def classify(self, call: Call) -> Response:
        """Raises InvalidRequest, for a model that has no classes too, and what Inference raises."""
        request = read(ClassificationRequest, call)
        model = self._pick(call, request.model_spec)
        outputs = await self._examples("classify", model, request.input, call)
        encoding = perf_counter()
        answer = ClassificationResponse(model_spec=_spec(model))
        classes, rows = _scores(model, outputs)
        for row in rows:
            result = answer.result.classifications.add()
            for label, score in zip(classes, row, strict=True):
                result.classes.add(label=label, score=score)
        return self._respond(answer, model, call, encoding)

    async def regress(self, call: Call) -> Response:
        """Raises InvalidRequest, for a model that answers no number too, and what Inference raises."""
        request = read(RegressionRequest, call)
        model = self._pick(call, request.model_spec)
        outputs = await self._examples("regress", model, request.input, call)
        encoding = perf_counter()
        answer = RegressionResponse(model_spec=_spec(model))
        for value in outputs[model.manifest.output.name].tolist():
            answer.result.regressions.add(value=value)
        return self._respond(answer, model, call, encoding)

    async def get_model_metadata(self, call: Call) -> Response:
        """The signature of a model, which is the only thing that there is to ask for."""
        request = read(GetModelMetadataRequest, call)
        if unknown := set(request.metadata_field) - {METADATA}:
            raise InvalidRequest(f"metadata_field: expected {METADATA}, got {sorted(unknown)[0][:100]!r}")
        model = self._pick(call, request.model_spec)
        call.arm = None  # to look is no answer by which versions are compared
        packed = AnyMessage(
            type_url="type.googleapis.com/tensorflow.serving.SignatureDefMap",
            value=_signatures(model).SerializeToString(),
        )
        spec = _spec(model)
        spec.signature_name = ""
        return respond(GetModelMetadataResponse(model_spec=spec, metadata={METADATA: packed}), call)

    async def get_model_status(self, call: Call) -> Response:
        """Of every version that is loaded or is to be, or of the one that is asked for."""
        spec = read(GetModelStatusRequest, call).model_spec
        answer = GetModelStatusResponse()
        for status in reversed(self._protocol.versions(_target(spec))):
            each = answer.model_version_status.add(version=status.version, state=_STATES[status.state])
            # Whole also where all is well, so that clients that read it find it.
            each.status.SetInParent()
            if status.refused:
                each.status.error_code = _UNKNOWN
                each.status.error_message = tfs_answer.REFUSED
        return respond(answer, call)

    def _pick(self, call: Call, spec: ModelSpec) -> LoadedModel:
        model = self._protocol.pick(call, _target(spec))
        tfs_request.check_signature(spec.signature_name, model)
        return model

    async def _examples(self, method: str, model: LoadedModel, sent: Input, call: Call) -> Outputs:
        tfs_answer.require_method(method, model.manifest)
        rows = tfs_request.rows(examples.read(sent, self._most_rows), model, plain=False)
        return await self._inference.rows(model, rows, call)

    def _respond(self, answer: Message, model: LoadedModel, call: Call, began: float) -> Response:
        response = respond(answer, call)
        self._metrics.of(model.name).encode.observe(perf_counter() - began)
        return response


def _target(spec: ModelSpec) -> Target:
    """Raises InvalidRequest for no model at all."""
    if not spec.name:
        raise InvalidRequest("Missing ModelSpec")
    version = spec.version.value if spec.WhichOneof("version_choice") == "version" else None
    return Target(spec.name, version, spec.version_label or None)


def _spec(model: LoadedModel) -> ModelSpec:
    return ModelSpec(name=model.name, version=Int64Value(value=model.version), signature_name=SIGNATURE)


def _wanted(names: list[str], model: LoadedModel) -> list[str]:
    known = [spec.name for spec in model.manifest.signature.outputs]
    if unknown := [name for name in names if name not in known]:
        raise InvalidRequest(f"output tensor alias not found in signature: {unknown[0][:100]}")
    return names or known


def _scores(model: LoadedModel, outputs: Outputs) -> tuple[tuple[str, ...], list[list[float]]]:
    """The classes of a model that classifies, and the score of each, by row."""
    output = model.manifest.output
    assert isinstance(output, BinaryOutput | MulticlassOutput)  # noqa: S101  # `require_method` sees to it
    scores = outputs[output.name]
    if isinstance(output, BinaryOutput):
        positive = output.classes.index(output.positive)
        scores = np.stack([scores, 1 - scores] if positive == 0 else [1 - scores, scores], axis=1)
    return output.classes, scores.tolist()


def _signatures(model: LoadedModel) -> SignatureDefMap:
    signature = model.manifest.signature
    described = SignatureDef(method_name=tfs_answer.PREDICT)
    for spec in signature.inputs:
        described.inputs[spec.name].CopyFrom(_info(spec, f"{SIGNATURE}_{spec.name}:0"))
    for i, spec in enumerate(signature.outputs):
        described.outputs[spec.name].CopyFrom(_info(spec, f"StatefulPartitionedCall:{i}"))
    return SignatureDefMap(signature_def={SIGNATURE: described})


def _info(spec: TensorSpec, name: str) -> TensorInfo:
    shape = tensor_proto.write_shape(spec.shape)
    return TensorInfo(name=name, dtype=tensor_proto.NUMBERS[spec.dtype], tensor_shape=shape)
