"""inference.GRPCInferenceService: the Open Inference Protocol, as Triton, KServe and MLServer have it."""

from importlib.metadata import version
from time import perf_counter
from typing import Final

from contract.runtimes import Outputs
from contract.signature import TensorSpec
from service import tensors
from service.call import Call
from service.errors import InvalidRequest, NotReady, UnknownModel, UnknownVersion
from service.grpc import contents
from service.grpc.oip_pb2 import (
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
    RepositoryIndexRequest,
    RepositoryIndexResponse,
    ServerLiveResponse,
    ServerMetadataResponse,
    ServerReadyResponse,
)
from service.grpc.rpc import read, respond
from service.http import Response
from service.inference import Inference
from service.loaded import LoadedModel
from service.metrics import Metrics
from service.registry import Registry

SERVICE: Final = "inference.GRPCInferenceService"

# What metadata say a model runs on: the protocol's own words for the two.
_PLATFORMS: Final = {"savedmodel": "tensorflow_savedmodel", "litert": "tensorflow_lite"}
_STATES: Final = {"ready": "READY", "loading": "LOADING", "refused": "UNAVAILABLE"}


class OpenInference:
    """Each method answers a call with the message of the same name."""

    def __init__(self, inference: Inference, registry: Registry, metrics: Metrics) -> None:
        self._inference = inference
        self._registry = registry
        self._metrics = metrics

    async def server_live(self, call: Call) -> Response:
        return respond(ServerLiveResponse(live=True), call)

    async def server_ready(self, call: Call) -> Response:
        return respond(ServerReadyResponse(ready=self._registry.ready()), call)

    async def model_ready(self, call: Call) -> Response:
        """False for what is not here, as well: whoever waits for a model asks until it is true."""
        request = read(ModelReadyRequest, call)
        try:
            self._pick(call, request.name, request.version)
        except (NotReady, UnknownModel, UnknownVersion):
            return respond(ModelReadyResponse(ready=False), call)
        return respond(ModelReadyResponse(ready=True), call)

    async def server_metadata(self, call: Call) -> Response:
        return respond(ServerMetadataResponse(name="hornpipe", version=version("hornpipe")), call)

    async def model_metadata(self, call: Call) -> Response:
        request = read(ModelMetadataRequest, call)
        model = self._pick(call, request.name, request.version)
        signature = model.manifest.signature
        answer = ModelMetadataResponse(
            name=model.name,
            versions=[str(model.version)],
            platform=_PLATFORMS[model.runtime],
            inputs=map(_described, signature.inputs),
            outputs=map(_described, signature.outputs),
        )
        return respond(answer, call)

    async def model_infer(self, call: Call) -> Response:
        """Raises InvalidRequest and what Inference raises."""
        request = read(ModelInferRequest, call)
        model = self._pick(call, request.model_name, request.model_version)
        wanted = _wanted(request, model)
        outputs = await self._inference.tensors(model, contents.read_inputs(request), call)
        encoding = perf_counter()
        response = respond(_answer(request, model, {name: outputs[name] for name in wanted}), call)
        self._metrics.of(model.name).encode.observe(perf_counter() - encoding)
        return response

    async def repository_index(self, call: Call) -> Response:
        """All versions that are loaded or are to be; only those that answer where that is asked for."""
        only_ready = read(RepositoryIndexRequest, call).ready
        answer = RepositoryIndexResponse()
        for slot in self._registry.slots():
            for status in slot.versions():
                if status.state == "ready" or not only_ready:
                    # Why one is refused names paths of this machine: it is in the log.
                    reason = "did not load or prove itself" if status.state == "refused" else ""
                    answer.models.add(
                        name=slot.name, version=str(status.version), state=_STATES[status.state], reason=reason
                    )
        return respond(answer, call)

    def _pick(self, call: Call, name: str, version: str) -> LoadedModel:
        """A version is a number, or a label where it is none; without one, production answers."""
        if not name:
            raise InvalidRequest("expected the name of a model, got none")
        if version.isascii() and version.isdigit() and len(version) <= 9:
            return self._inference.pick(call, name, int(version))
        return self._inference.pick(call, name, label=version or None)


def _wanted(request: ModelInferRequest, model: LoadedModel) -> list[str]:
    """The names of the outputs that are asked for, or of all. Raises InvalidRequest."""
    known = [spec.name for spec in model.manifest.signature.outputs]
    wanted = [each.name for each in request.outputs] or known
    if unknown := [name for name in wanted if name not in known]:
        raise InvalidRequest(f"unexpected inference output {unknown[0][:100]!r}; {model.name} has: {', '.join(known)}")
    return wanted


def _answer(request: ModelInferRequest, model: LoadedModel, outputs: Outputs) -> ModelInferResponse:
    """In the form that the request came in: whoever sends typed values reads those. Types that have no field for
    their values go as raw bytes, and then all outputs do."""
    answer = ModelInferResponse(model_name=model.name, model_version=str(model.version), id=request.id)
    dtypes = [tensors.dtype_of(tensor) for tensor in outputs.values()]
    raw = bool(request.raw_input_contents) or not contents.FIELDS.keys() >= set(dtypes)
    for (name, tensor), dtype in zip(outputs.items(), dtypes, strict=True):
        output = answer.outputs.add(name=name, datatype=tensors.OIP_NAMES[dtype], shape=tensor.shape)
        if raw:
            answer.raw_output_contents.append(tensors.to_raw(tensor))
        else:
            output.contents.CopyFrom(contents.write(tensor, dtype))
    return answer


def _described(spec: TensorSpec) -> ModelMetadataResponse.TensorMetadata:
    return ModelMetadataResponse.TensorMetadata(
        name=spec.name, datatype=tensors.OIP_NAMES[spec.dtype], shape=spec.shape
    )
