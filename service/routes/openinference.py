"""The Open Inference Protocol, version 2, over REST: /v2, as Triton, MLServer and KServe have it.

With the extensions binary tensor data, classification and model repository. Messages are Triton's; so are the codes,
where it has one of its own.
"""

import re
from importlib.metadata import version
from typing import Any

import orjson

from contract.runtimes import Outputs
from service.errors import (
    INTERNAL,
    InvalidRequest,
    NotJSON,
    TooManyRows,
    UnknownModel,
    UnknownVersion,
    UnsupportedMedia,
    WrongMethod,
    answer_to,
)
from service.http.call import Call
from service.http.dispatch import Find
from service.http.endpoint import Endpoint, Front
from service.http.messages import JSON, Header, Response
from service.http.protocol import HotEndpoint
from service.inference.inference import Inference
from service.metrics import Metrics
from service.registry import Registry
from service.routes.tfserving import message
from service.versions.loaded import LoadedModel
from service.wire import oip_answer, oip_request, packed
from service.wire.oip_request import HEADER, Asked
from service.wire.oip_statistics import NOT_TOLD, Statistics, statistics
from service.wire.tensors import oip_metadata

ROOT = "/v2"
INFER = "/v2/models/{model}/infer"
MODELS = "/v2/models/{model}"
REPOSITORY = "/v2/repository"

EXTENSIONS = (
    "binary_tensor_data",
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
)
OCTETS = b"application/octet-stream"

_MODEL = re.compile(
    r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?:/(?P<what>infer|ready|generate|stats|config))?"
)
_REPOSITORY = re.compile(r"/v2/repository/(?:(?P<index>index)|models/(?P<name>[^/]+)/(?P<what>load|unload))")
_STATISTICS = re.compile(r"/v2/models/(?:(?P<name>[^/]+)/(?:versions/(?P<version>[^/]+)/)?)?stats")
_STATES = {"ready": "READY", "loading": "LOADING"}


def paths(protocol: "OpenInference", front: Front) -> list[tuple[bytes, Find]]:
    """For the dispatch table. What is not said here, health that is, is the application's."""
    infer = Endpoint(INFER, protocol.infer, refuse, front)
    model = Endpoint(MODELS, protocol.model, refuse, front, "GET")
    repository = Endpoint(REPOSITORY, protocol.repository, refuse, front)
    server = Endpoint(ROOT, protocol.server, refuse, front, "GET")

    def find(method: bytes, path: bytes) -> HotEndpoint | None:
        del method
        if path.startswith(b"/v2/models/"):
            return infer if path.endswith(b"/infer") else model
        if path.startswith(b"/v2/repository/"):
            return repository
        return server if path in (b"/v2", b"/v2/") else None

    return [(b"/v2", find)]


class OpenInference:
    """Its calls. `most` is how many bytes a body may have once it is unpacked."""

    def __init__(self, inference: Inference, registry: Registry, metrics: Metrics, most: int) -> None:
        self._inference = inference
        self._metrics = metrics
        self._registry = registry
        self._most = most

    async def infer(self, call: Call) -> Response:
        """Tensors in, tensors out. Raises RequestErrors with Triton's messages."""
        name, number = _named(call)
        _require("POST", call)
        await packed.unpack(call.request, self._most)
        model = self.pick(call, name, number)
        asked = oip_request.read(call.request.body, call.request.headers.get(HEADER), model.manifest)
        apply(asked, call)
        content, length = oip_answer.write(model.manifest, await self.run(model, asked, call), asked)
        headers: tuple[Header, ...] = ((b"x-request-id", call.id.encode()),)
        if length is None:
            return Response(200, content, headers)
        return Response(200, content, (*headers, (HEADER, b"%d" % length)), OCTETS)

    async def server(self, call: Call) -> Response:
        """GET /v2: what this is."""
        _require("GET", call)
        content = {"name": "hornpipe", "version": version("hornpipe"), "extensions": EXTENSIONS}
        return _respond(call, content)

    async def model(self, call: Call) -> Response:
        """A model's metadata, whether it is ready, or the statistics of one or all."""
        if (found := _STATISTICS.fullmatch(call.request.path.decode("latin-1"))) is not None:
            _require("GET", call)
            told = self.statistics(call, found["name"], found["version"])
            return _respond(call, {"model_stats": [each | NOT_TOLD for each in told]})
        name, number = _named(call)
        _require("GET", call)
        model = self.look(call, name, number)
        if call.request.path.endswith(b"/ready"):
            return _respond(call, {"name": name, "ready": True})
        signature = model.manifest.signature
        versions = [str(each.version) for each in self._registry.slot(name).versions() if each.state == "ready"]
        content = {
            "name": model.name,
            "versions": versions,
            "platform": oip_answer.PLATFORM,
            "inputs": oip_metadata(signature.inputs),
            "outputs": oip_metadata(signature.outputs),
        }
        return _respond(call, content)

    async def repository(self, call: Call) -> Response:
        """The list of what is there; loading and unloading."""
        found = _REPOSITORY.fullmatch(call.request.path.decode("latin-1"))
        if found is None:
            raise UnknownModel(f"unknown path {call.request.path.decode('latin-1')[:200]}")
        _require("POST", call)
        parameters = _object(call.request.body)
        if found["index"]:
            return _respond(call, self.index(parameters.get("ready") is True))
        if found["what"] == "unload":
            await self._registry.unload(found["name"])
        elif parameters.get("parameters"):
            raise InvalidRequest(f"failed to load '{found['name']}', parameters are not supported by this server")
        else:
            await self._registry.load(found["name"])
        return Response(200, b"", ((b"x-request-id", call.id.encode()),))

    async def run(self, model: LoadedModel, asked: Asked, call: Call) -> Outputs:
        """All outputs. Raises InvalidRequest in Triton's words, and what Inference raises."""
        try:
            return await self._inference.tensors(model, asked.tensors, call)
        except TooManyRows as error:
            raise TooManyRows(
                f"inference request batch-size must be within limits for '{model.name}': {error}"
            ) from error
        except InvalidRequest as error:
            said = oip_request.complaint(asked, model.manifest)
            raise InvalidRequest(said or message(error)) from error

    def pick(self, call: Call, name: str, number: str | None) -> LoadedModel:
        """The model that answers. Raises UnknownModel or UnknownVersion in Triton's words, or NotReady."""
        try:
            if number is not None and not (number.isascii() and number.isdigit() and len(number) < 20):
                raise UnknownVersion("no number")
            return self._inference.pick(call, name, int(number) if number else None)
        except (UnknownModel, UnknownVersion) as error:
            which = f"'{name[:200]}'" if number is None else f"'{name[:200]}' version {number[:20]}"
            raise type(error)(f"Request for unknown model: {which} is not found") from error

    def look(self, call: Call, name: str, number: str | None) -> LoadedModel:
        """As `pick`, for who wants to know something of it: that is no answer by which versions are compared."""
        model = self.pick(call, name, number)
        call.arm = None
        return model

    def statistics(self, call: Call, name: str | None, number: str | None) -> list[Statistics]:
        """Of one model, or of all that serve. Raises as `pick` does, and InvalidRequest for one version of several."""
        if not name:
            serving = sorted(self._registry.serving(), key=lambda model: model.name)
            return [statistics(each.name, each.version, self._metrics.totals(each.name)) for each in serving]
        model = self.look(call, name, number)
        model = model if number else self._registry.slot(name).serving or model
        if number and len(self._registry.slot(name).loaded) > 1:
            raise InvalidRequest(f"statistics are of all versions of '{name}' together: ask without a version")
        return [statistics(name, model.version, self._metrics.totals(name))]

    def index(self, ready: bool) -> list[dict[str, str]]:
        """The repository's list, of all versions or of those that are ready."""
        return [
            {
                "name": each.name,
                "version": "" if each.version is None else str(each.version),
                "state": _STATES.get(each.state, "UNAVAILABLE"),
                "reason": each.reason,
            }
            for each in self._registry.index()
            if each.state == "ready" or not ready
        ]


def refuse(error: Exception, call: Call, headers: tuple[Header, ...]) -> Response:
    """An error as the protocol's clients expect it."""
    del call
    if answer_to(error) is INTERNAL:
        return Response(500, oip_answer.error("internal error"), headers)
    return Response(_status_of(error), oip_answer.error(message(error)), headers)


def _status_of(error: Exception) -> int:
    """The protocol says 400 to whatever is wrong with a request."""
    if isinstance(error, InvalidRequest | NotJSON | UnsupportedMedia):
        return 400
    return answer_to(error).status


def _named(call: Call) -> tuple[str, str | None]:
    """The model and version that a path names. Raises UnknownModel for a path that is none of the protocol's."""
    found = _MODEL.fullmatch(call.request.path.decode("latin-1"))
    if found is None or found["what"] not in (None, "infer", "ready"):
        raise UnknownModel(f"unknown path {call.request.path.decode('latin-1')[:200]}")
    return found["name"], found["version"]


def _require(method: str, call: Call) -> None:
    if call.request.method != method and (method, call.request.method) != ("GET", "HEAD"):
        raise WrongMethod("Method Not Allowed")


def apply(asked: Asked, call: Call) -> None:
    """What a request says of itself: microseconds until nobody waits for it, and 1 for urgent, 2 and more for less."""
    if asked.timeout:
        call.deadline = min(call.deadline, call.request.received + asked.timeout / 1e6)
    if asked.priority:
        call.priority = "interactive" if asked.priority == 1 else "batch"


def _object(body: bytes) -> dict[str, Any]:
    if not body:
        return {}
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise NotJSON(f"failed to parse the request JSON buffer: {error}") from error
    if not isinstance(value, dict):
        raise InvalidRequest("expected a JSON object")
    return value


def _respond(call: Call, content: object) -> Response:
    return Response(200, orjson.dumps(content), ((b"x-request-id", call.id.encode()),), JSON)
