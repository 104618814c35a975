"""What hosts of containers ask for: SageMaker's and MLflow's /ping and /invocations, and Vertex AI's two routes.

All of them send JSON with `instances`; SageMaker's TensorFlow containers take `inputs` and `examples` as well, JSON
without any of these, JSON lines and CSV; MLflow's scoring server takes data frames. Answers are TensorFlow Serving's.
`inputs` are answered under both names that clients look for: `outputs` in SageMaker, `predictions` in MLflow.
"""

import re
from collections.abc import Callable
from typing import Any, NamedTuple

import orjson

from contract.kinds import TensorFeature
from service.errors import INTERNAL, InvalidRequest, UnsupportedMedia, WrongMethod, answer_to
from service.http.call import Call
from service.http.endpoint import Endpoint, Front
from service.http.messages import JSON, Header, Response
from service.http.protocol import HotEndpoint
from service.inference.inference import Inference
from service.routes import tfserving
from service.routes.tfserving import Target, TensorFlowServing
from service.settings import Settings
from service.versions.loaded import LoadedModel
from service.wire import bodies, dense, packed, tfs_answer, tfs_request

PING, INVOCATIONS = "/ping", "/invocations"
ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"
LINES = (*bodies.LINES, b"application/jsons")

_VERSION = re.compile(r"[0-9]{1,18}")
_FRAMES = frozenset({"dataframe_split", "dataframe_records"})


class Wanted(NamedTuple):
    """What SageMaker's custom attributes say."""

    target: Target | None = None
    method: str = "predict"
    signature: str = ""


def paths(containers: "Containers", settings: Settings, front: Front) -> dict[bytes, HotEndpoint]:
    """For the dispatch table. The routes that Vertex AI names count as those of SageMaker."""
    ping = Endpoint(PING, containers.ping, tfserving.refuse, front, "GET")
    invoke = Endpoint(INVOCATIONS, containers.invoke, refuse, front)
    exact: dict[bytes, HotEndpoint] = {PING.encode(): ping, INVOCATIONS.encode(): invoke}
    if settings.health_route:
        exact[settings.health_route.encode()] = ping
    if settings.predict_route:
        exact[settings.predict_route.encode()] = invoke
    return exact


class Containers:
    """`most` is how many bytes a body may have once it is unpacked, `most_rows` how many rows."""

    def __init__(
        self,
        serving: TensorFlowServing,
        inference: Inference,
        ready: Callable[[], bool],
        most: int,
        most_rows: int,
    ) -> None:
        self._serving = serving
        self._inference = inference
        self._ready = ready
        self._most = most
        self._most_rows = most_rows

    async def ping(self, call: Call) -> Response:
        """200 when requests can be answered, else 503."""
        return Response(200 if self._ready() else 503, b"", ((b"x-request-id", call.id.encode()),))

    async def invoke(self, call: Call) -> Response:
        """Raises UnsupportedMedia, NotJSON, InvalidRequest, UnknownModel and what `Inference` raises."""
        request = call.request
        if request.method != "POST":
            raise WrongMethod(f"{INVOCATIONS} takes POST, got {request.method}")
        await packed.unpack(request, self._most)
        wanted = attributes(request.headers.get(ATTRIBUTES, b""))
        media = request.media
        if media in (JSON, b""):
            content = await self._json(call, wanted)
        elif media in LINES:
            content = await self._rows(call, wanted, list(bodies.read_lines(request.body, self._most_rows)))
        elif media == bodies.CSV:
            content = await self._csv(call, wanted)
        else:
            received = request.headers[b"content-type"].decode("latin-1")[:100]
            raise UnsupportedMedia(f"Unsupported Media Type: {received}")
        return Response(200, content, ((b"x-request-id", call.id.encode()),))

    async def _json(self, call: Call, wanted: Wanted) -> bytes:
        body = call.request.body
        if wanted.method != "predict":
            return await self._serving.examples(call, wanted.target, wanted.method)
        document, plain = tfs_request.parse(body)
        if isinstance(document, dict) and not _FRAMES.isdisjoint(document):
            return await self._rows(call, wanted, rows_of_frame(orjson.loads(body) if plain else document))
        if not isinstance(document, dict) or document.keys().isdisjoint({"instances", "inputs"}):
            body = b'{"instances":%b}' % (body if _are_rows(document) else b"[%b]" % body)
            document, plain = tfs_request.parse(body)
        asked = tfs_request.of_document(document, plain, body)
        if wanted.signature:
            asked = asked._replace(signature=wanted.signature)
        model = self._serving.pick(call, wanted.target)
        tfs_request.check_signature(asked.signature, model)
        if asked.row:
            return tfs_answer.by_row(await self._serving.rows(model, asked, call))
        value = tfs_answer.column_value(await self._serving.columns(model, asked, call))
        return b'{"outputs": %b, "predictions": %b}' % (value, value)

    async def _csv(self, call: Call, wanted: Wanted) -> bytes:
        model = self._serving.pick(call, wanted.target)
        body, features = call.request.body, model.encoder.features
        if len(features) == 1 and isinstance(features[0], TensorFeature) and len(features[0].shape) == 1:
            rows: list[Any] = [list(map(bodies.number, line)) for line in bodies.cells(body)]
        else:
            rows = list(bodies.read_headless_csv(body, features, self._most_rows))
        return await self._predicted(call, model, rows)

    async def _rows(self, call: Call, wanted: Wanted, rows: list[Any]) -> bytes:
        model = self._serving.pick(call, wanted.target)
        return await self._predicted(call, model, tfs_request.rows(rows, model, plain=True))

    async def _predicted(self, call: Call, model: LoadedModel, rows: list[Any]) -> bytes:
        return tfs_answer.by_row(await self._inference.rows(model, rows, call))


def rows_of_frame(document: dict[str, Any]) -> list[Any]:
    """The rows of a data frame, as MLflow's clients send it. Raises InvalidRequest."""
    if "dataframe_records" in document:
        records = document["dataframe_records"]
        if not isinstance(records, list) or not records:
            raise InvalidRequest("dataframe_records: expected a list of at least one object")
        return records
    frame = document["dataframe_split"]
    names, data = (frame.get("columns"), frame.get("data")) if isinstance(frame, dict) else (None, None)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidRequest("dataframe_split: expected columns, a list of names")
    if not isinstance(data, list) or not data:
        raise InvalidRequest("dataframe_split: expected data, a list of at least one row")
    for i, row in enumerate(data):
        if not isinstance(row, list) or len(row) != len(names):
            raise InvalidRequest(f"dataframe_split: row {i}: expected a list of {len(names)} values")
    return [dict(zip(names, row, strict=True)) for row in data]


def attributes(header: bytes) -> Wanted:
    """SageMaker's custom attributes; those that are not TensorFlow Serving's are ignored. Raises InvalidRequest."""
    given = {}
    for each in header.decode("latin-1").split(","):
        name, _, value = each.partition("=")
        given[name.strip()] = value.strip()
    method = given.get("tfs-method", "predict")
    if method not in tfserving.METHODS:
        raise InvalidRequest(f"tfs-method: expected one of {', '.join(tfserving.METHODS)}, got {method[:60]}")
    model, version = given.get("tfs-model-name"), given.get("tfs-model-version")
    if version is not None and (model is None or not _VERSION.fullmatch(version)):
        raise InvalidRequest("tfs-model-version: expected a number, and tfs-model-name beside it")
    target = Target(model, int(version) if version else None, None) if model is not None else None
    return Wanted(target, method, given.get("tfs-signature-name", ""))


def _are_rows(document: object) -> bool:
    """Whether JSON without any key that says so is a list of rows; else it is a row."""
    if isinstance(document, dense.Numbers):
        return document.text[1:].lstrip().startswith(b"[")
    return isinstance(document, list) and any(isinstance(each, list | dict) for each in document)


def refuse(error: Exception, call: Call, headers: tuple[Header, ...]) -> Response:
    """An error under the keys of all of them."""
    del call
    answer = answer_to(error)
    said = "internal error" if answer is INTERNAL else tfserving.message(error)
    status = 415 if isinstance(error, UnsupportedMedia) else tfserving.status_of(error)
    code = "INTERNAL_ERROR" if answer is INTERNAL else answer.code.upper() if status != 400 else "BAD_REQUEST"
    return Response(status, orjson.dumps({"error": said, "error_code": code, "message": said}), headers)
