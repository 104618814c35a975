"""TensorFlow Serving's REST API: /v1/models.

Routes, keys, codes and messages are those of its model_servers/http_rest_api_handler.cc and util/json_tensor.cc. Every
path below /v1 is answered here, so that a client finds its own kind of error wherever it goes. KServe's first protocol
shares these paths; GET /v1/models/NAME answers both, with the keys of both.
"""

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contract.features import Encoded, Problem
from contract.runtimes import Outputs
from service.errors import (
    INTERNAL,
    InvalidRequest,
    NotJSON,
    RequestError,
    TooManyRows,
    UnknownLabel,
    UnknownModel,
    UnknownVersion,
    UnsupportedMedia,
    answer_to,
)
from service.http.call import Call
from service.http.dispatch import Find
from service.http.endpoint import Endpoint, Front
from service.http.messages import Header, Response
from service.http.protocol import HotEndpoint
from service.inference.inference import Inference
from service.registry import Registry
from service.versions.loaded import LoadedModel
from service.versions.slot import VersionStatus
from service.wire import dense, packed, tfs_answer, tfs_faults, tfs_request
from service.wire.tfs_request import Asked

METHODS = ("predict", "classify", "regress")
BEGINNINGS = (b"/v1/", b"/V1/")
MODELS = "/v1/models"

_WHICH = r"(?:/versions/(?P<version>[0-9]{1,19})|/labels/(?P<label>[^/:]+))?"
_RUN = re.compile(rf"(?i)/v1/models(?:/(?P<name>[^/:]*))?{_WHICH}:(?P<method>predict|classify|regress)")
_LOOK = re.compile(rf"(?i)/v1/models(?:/(?P<name>[^/:]+){_WHICH}(?P<metadata>/metadata)?)?/?")


class Target(NamedTuple):
    """Which model a path names."""

    name: str
    version: int | None
    label: str | None

    def __str__(self) -> str:
        return f"Latest({self.name})" if self.version is None else f"Specific({self.name}, {self.version})"


def route(method: str) -> str:
    """The template of a method's path."""
    return f"{MODELS}/{{model}}:{method}"


def paths(serving: "TensorFlowServing", front: Front) -> list[tuple[bytes, Find]]:
    """For the dispatch table."""
    runs = {f":{method}".encode(): Endpoint(route(method), serving.run, refuse, front) for method in METHODS}
    look = Endpoint(MODELS, serving.look, refuse, front, "GET")

    def find(method: bytes, path: bytes) -> HotEndpoint:
        del method
        found = runs.get(path[path.rfind(b":") :].lower())
        return look if found is None else found

    return [(beginning, find) for beginning in BEGINNINGS]


class TensorFlowServing:
    """Its five calls. `most` is how many bytes a body may have once it is unpacked."""

    def __init__(self, inference: Inference, registry: Registry, most: int) -> None:
        self._inference = inference
        self._registry = registry
        self._most = most

    async def run(self, call: Call) -> Response:
        """Predict, classify or regress. Raises RequestErrors with TensorFlow Serving's messages."""
        path = call.request.path.decode("latin-1")
        found = _RUN.fullmatch(path)
        if found is None or call.request.method != "POST":
            raise malformed(call)
        if not found["name"]:
            raise InvalidRequest("Missing model name in request.")
        await packed.unpack(call.request, self._most)
        target = _target(found)
        method = found["method"].lower()
        if method == "predict":
            content = await self.predict(call, target, tfs_request.read(call.request.body))
        else:
            content = await self.examples(call, target, method)
        return Response(200, content, ((b"x-request-id", call.id.encode()),))

    async def look(self, call: Call) -> Response:
        """Models, the status of one, or its metadata."""
        found = _LOOK.fullmatch(call.request.path.decode("latin-1"))
        if found is None or call.request.method not in ("GET", "HEAD"):
            raise malformed(call)
        if found["name"] is None:
            content = tfs_answer.pretty({"models": [slot.name for slot in self._registry.slots()]})
        elif found["metadata"]:
            content = tfs_answer.metadata(self.pick(call, _target(found)).manifest)
            call.arm = None  # to look is no answer by which versions are compared
        else:
            content = self._status(_target(found))
        return Response(200, content, ((b"x-request-id", call.id.encode()),))

    async def predict(self, call: Call, target: Target | None, asked: Asked) -> bytes:
        """The body of an answer to a predict request; without a target, by the only model there is."""
        model = self.pick(call, target)
        tfs_request.check_signature(asked.signature, model)
        if asked.row:
            return tfs_answer.by_row(await self.rows(model, asked, call))
        return tfs_answer.by_column(await self.columns(model, asked, call))

    def pick(self, call: Call, target: Target | None) -> LoadedModel:
        """The model that answers. Raises UnknownModel, UnknownVersion or UnknownLabel in TensorFlow Serving's words."""
        if target is None:
            return self._inference.pick(call)
        try:
            return self._inference.pick(call, *target)
        except UnknownLabel as error:
            raise InvalidRequest(f"Unrecognized servable version label: {target.label}") from error
        except (UnknownModel, UnknownVersion) as error:
            raise type(error)(f"Servable not found for request: {target}") from error

    async def rows(self, model: LoadedModel, asked: Asked, call: Call) -> Outputs:
        """The outputs of `instances`."""
        instances = asked.value
        if asked.has_numbers:
            tensors = dense.rows(instances, model.encoder)
            if tensors is not None:
                return await self._dense(model, tensors, asked, call)
            instances = asked.careful()
        features = model.manifest.features
        rows = tfs_request.rows(instances, model, asked.plain)
        try:
            return await self._inference.rows(model, rows, call)
        except TooManyRows:
            raise
        except InvalidRequest as error:
            raise _worded(tfs_faults.of_instances(instances, features), error) from error

    async def _dense(
        self, model: LoadedModel, tensors: dict[str, NDArray[np.generic]], asked: Asked, call: Call
    ) -> Outputs:
        """Dense instances. What does not fit is read once more, with care, to say why."""

        def encode() -> Encoded | list[Problem]:
            encoded = model.encoder.encode_tensors(tensors)
            return encoded if isinstance(encoded, Encoded) else model.encoder.encode(careful())

        def careful() -> list[object]:
            return tfs_request.rows(asked.careful(), model, asked.plain)

        count = len(next(iter(tensors.values())))
        try:
            return (await self._inference.later(model, count, encode, call)).outputs
        except TooManyRows:
            raise
        except InvalidRequest as error:
            raise _worded(tfs_faults.of_instances(asked.careful(), model.manifest.features), error) from error

    async def columns(self, model: LoadedModel, asked: Asked, call: Call) -> Outputs:
        """The outputs of `inputs`."""
        features = model.manifest.features
        tensors = tfs_request.columns(asked.value, model)
        if tensors is None:
            said = tfs_faults.of_inputs(asked.careful(), features)
            raise InvalidRequest(said or "the inputs do not fit the signature")
        try:
            return await self._inference.tensors(model, tensors, call)
        except TooManyRows:
            raise
        except InvalidRequest as error:
            raise _worded(tfs_faults.of_inputs(asked.careful(), features), error) from error

    async def examples(self, call: Call, target: Target | None, method: str) -> bytes:
        """The body of an answer to a classify or regress request."""
        signature, rows = tfs_request.read_examples(call.request.body, method)
        model = self.pick(call, target)
        tfs_request.check_signature(signature, model)
        tfs_answer.require_method(method, model.manifest)
        outputs = await self._inference.rows(model, rows, call)
        return tfs_answer.results(method, model.manifest, outputs)

    def versions(self, target: Target) -> list[VersionStatus]:
        """Those of a model, or the one that is asked for. Raises UnknownModel, UnknownVersion or InvalidRequest."""
        try:
            slot = self._registry.slot(target.name)
        except UnknownModel as error:
            raise UnknownModel(f"Could not find any versions of model {target.name}") from error
        found = slot.versions()
        wanted = target.version
        if target.label is not None:
            wanted = slot.labels().get(target.label)
            if wanted is None:
                raise InvalidRequest(f"Unrecognized servable version label: {target.label}")
        if wanted is not None:
            found = [each for each in found if each.version == wanted]
        if not found:
            which = "any versions" if wanted is None else f"version {wanted}"
            raise UnknownVersion(f"Could not find {which} of model {target.name}")
        return found

    def _status(self, target: Target) -> bytes:
        """TensorFlow Serving's list of versions, and KServe's `name` and `ready`."""
        versions = self.versions(target)
        one = target.version is not None or target.label is not None
        ready = versions[0].state == "ready" if one else self._registry.slot(target.name).serving is not None
        status = tfs_answer.status(versions)
        return tfs_answer.pretty({"model_version_status": status, "name": target.name, "ready": ready})


def malformed(call: Call) -> InvalidRequest:
    """What is said of any path or method that is not known."""
    path = call.request.path.decode("latin-1")[:256]
    return InvalidRequest(f"Malformed request: {call.request.method} {path}")


def refuse(error: Exception, call: Call, headers: tuple[Header, ...]) -> Response:
    """An error as TensorFlow Serving's clients expect it."""
    del call
    if answer_to(error) is INTERNAL:
        return Response(500, tfs_answer.error("internal error"), headers)
    return Response(status_of(error), tfs_answer.error(message(error)), headers)


def status_of(error: Exception) -> int:
    """TensorFlow Serving says 400 to whatever is wrong with a request."""
    if isinstance(error, InvalidRequest | NotJSON | UnsupportedMedia):
        return 400
    return answer_to(error).status


def message(error: Exception) -> str:
    """What is wrong, with the first problems in one text."""
    problems = error.problems if isinstance(error, RequestError) else ()
    if not problems:
        return str(error)
    told = "; ".join(
        f"{each.path}: {each.problem}, expected {each.expected}, got {each.received}" for each in problems[:5]
    )
    more = f"; and {len(problems) - 5} more" if len(problems) > 5 else ""
    return f"{error}: {told}{more}"


def _target(found: re.Match[str]) -> Target:
    version = found["version"]
    return Target(found["name"], int(version) if version else None, found["label"])


def _worded(said: str | None, error: InvalidRequest) -> InvalidRequest:
    """TensorFlow Serving's complaint; ours where it would have none."""
    return InvalidRequest(said) if said else InvalidRequest(message(error))
