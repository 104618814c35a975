"""inference.GRPCInferenceService: the Open Inference Protocol, as Triton, KServe and MLServer have it.

What it means is what it means over REST (service/routes/openinference.py); here are its messages.
"""

from collections.abc import Mapping
from importlib.metadata import version
from time import perf_counter
from typing import Any, Final

from numpy.typing import NDArray

from contract.signature import TensorSpec
from service.errors import InvalidRequest, NotReady, UnknownModel, UnknownVersion
from service.grpc import contents
from service.grpc.oip_pb2 import (
    InferParameter,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    ModelStatistics,
    ModelStatisticsRequest,
    ModelStatisticsResponse,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    RepositoryModelLoadRequest,
    RepositoryModelLoadResponse,
    RepositoryModelUnloadRequest,
    RepositoryModelUnloadResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from service.grpc.rpc import read, respond
from service.http.call import Call
from service.http.messages import Response
from service.metrics import Metrics
from service.registry import Registry
from service.routes.openinference import EXTENSIONS, OpenInference, apply
from service.versions.loaded import LoadedModel
from service.wire import oip_answer, tensors
from service.wire.oip_request import LARGEST_CLASSIFICATION, Asked, Wanted

SERVICE: Final = "inference.GRPCInferenceService"
STREAM: Final = f"/{SERVICE}/ModelStreamInfer"

Parameters = Mapping[str, InferParameter]


class OpenInferenceMessages:
    """Each method answers a call with the message of the same name."""

    def __init__(self, protocol: OpenInference, registry: Registry, metrics: Metrics) -> None:
        self._protocol = protocol
        self._registry = registry
        self._metrics = metrics

    async def server_live(self, call: Call) -> Response:
        return respond(ServerLiveResponse(live=True), call)

    async def server_ready(self, call: Call) -> Response:
        return respond(ServerReadyResponse(ready=self._registry.ready()), call)

    async def server_metadata(self, call: Call) -> Response:
        answer = ServerMetadataResponse(name="hornpipe", version=version("hornpipe"), extensions=EXTENSIONS)
        return respond(answer, call)

    async def model_ready(self, call: Call) -> Response:
        """False for what is not here, as well: whoever waits for a model asks until it is true."""
        request = read(ModelReadyRequest, call)
        try:
            self._protocol.look(call, request.name, request.version or None)
        except (NotReady, UnknownModel, UnknownVersion):
            return respond(ModelReadyResponse(ready=False), call)
        return respond(ModelReadyResponse(ready=True), call)

    async def model_metadata(self, call: Call) -> Response:
        request = read(ModelMetadataRequest, call)
        model = self._protocol.look(call, request.name, request.version or None)
        signature = model.manifest.signature
        ready = (each for each in self._registry.slot(model.name).versions() if each.state == "ready")
        answer = ModelMetadataResponse(
            name=model.name,
            versions=[str(each.version) for each in ready],
            platform=oip_answer.PLATFORM,
            inputs=map(_described, signature.inputs),
            outputs=map(_described, signature.outputs),
        )
        return respond(answer, call)

    async def model_infer(self, call: Call) -> Response:
        """Raises what the protocol raises over REST."""
        request = read(ModelInferRequest, call)
        model = self._protocol.pick(call, request.model_name, request.model_version or None)
        asked = _asked(request, model)
        apply(asked, call)
        outputs = oip_answer.chosen(model.manifest, await self._protocol.run(model, asked, call), asked)
        encoding = perf_counter()
        response = respond(_answer(model, outputs, asked), call)
        self._metrics.of(model.name).encode.observe(perf_counter() - encoding)
        return response

    async def model_statistics(self, call: Call) -> Response:
        """Of one model, or of all where none is named."""
        request = read(ModelStatisticsRequest, call)
        found = self._protocol.statistics(call, request.name or None, request.version or None)
        return respond(ModelStatisticsResponse(model_stats=[ModelStatistics(**each) for each in found]), call)

    async def repository_index(self, call: Call) -> Response:
        request = read(RepositoryIndexRequest, call)
        answer = RepositoryIndexResponse()
        for each in self._protocol.index(request.ready):
            answer.models.add(**each)
        return respond(answer, call)

    async def repository_model_load(self, call: Call) -> Response:
        """Raises LoadRefused."""
        request = read(RepositoryModelLoadRequest, call)
        if request.parameters:
            raise InvalidRequest(f"failed to load '{request.model_name}', parameters are not supported by this server")
        await self._registry.load(request.model_name)
        return respond(RepositoryModelLoadResponse(), call)

    async def repository_model_unload(self, call: Call) -> Response:
        """Raises LoadRefused."""
        await self._registry.unload(read(RepositoryModelUnloadRequest, call).model_name)
        return respond(RepositoryModelUnloadResponse(), call)


def _asked(request: ModelInferRequest, model: LoadedModel) -> Asked:
    """Raises InvalidRequest."""
    outputs = [_wanted(each, model) for each in request.outputs]
    return Asked(
        contents.read_inputs(request),
        outputs or None,
        binary=bool(request.raw_input_contents),
        id=request.id,
        priority=_number(request.parameters, "priority"),
        timeout=_number(request.parameters, "timeout"),
    )


def _wanted(output: ModelInferRequest.InferRequestedOutputTensor, model: LoadedModel) -> Wanted:
    if output.name not in {spec.name for spec in model.manifest.signature.outputs}:
        raise InvalidRequest(f"unexpected inference output '{output.name[:200]}' for model '{model.name}'")
    if "shared_memory_region" in output.parameters:
        raise InvalidRequest(f"output '{output.name}': shared memory is not supported by this server")
    classes = _number(output.parameters, "classification")
    if classes > LARGEST_CLASSIFICATION:
        raise InvalidRequest(f"output '{output.name}': classification of at most {LARGEST_CLASSIFICATION}")
    return Wanted(output.name, True, classes)


def _number(parameters: Parameters, key: str) -> int:
    """A whole number, 0 where there is none. Raises InvalidRequest."""
    if key not in parameters:
        return 0
    kind = parameters[key].WhichOneof("parameter_choice")
    value = getattr(parameters[key], kind) if kind in ("int64_param", "uint64_param") else -1
    if value < 0:
        raise InvalidRequest(f"Unable to parse '{key}': expected a whole number from 0 on")
    return int(value)


def _answer(model: LoadedModel, outputs: list[tuple[Wanted, NDArray[Any]]], asked: Asked) -> ModelInferResponse:
    """In the form that the request came in: whoever sends typed values reads those. Types that have no field for
    their values go as raw bytes, and then all outputs do."""
    answer = ModelInferResponse(model_name=model.name, model_version=str(model.version), id=asked.id or "")
    dtypes = [tensors.dtype_of(tensor) for _, tensor in outputs]
    raw = asked.binary or not contents.FIELDS.keys() >= set(dtypes)
    for (wanted, tensor), dtype in zip(outputs, dtypes, strict=True):
        output = answer.outputs.add(name=wanted.name, datatype=tensors.OIP_NAMES[dtype], shape=tensor.shape)
        if raw:
            answer.raw_output_contents.append(tensors.to_raw(tensor))
        else:
            output.contents.CopyFrom(contents.write(tensor, dtype))
    return answer


def _described(spec: TensorSpec) -> ModelMetadataResponse.TensorMetadata:
    return ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=tensors.OIP_NAMES[spec.dtype], shape=spec.shape
    )
