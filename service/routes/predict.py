"""POST /predict as a plain ASGI callable: the hot path, without a framework's routing, models and dependencies."""

import asyncio
import logging
import re
from time import perf_counter
from typing import Any

import orjson

from service import decode
from service.decode import ClientDisconnected, PredictRequest
from service.errors import (
    INTERNAL,
    BodyTooLarge,
    NotReady,
    Overloaded,
    RequestIds,
    TooManyRows,
    UnknownVersion,
    WrongMethod,
    answer_to,
    body_of,
)
from service.metrics import NO_MODEL, Metrics, Outcome, Reason
from service.predictor import Predictor
from service.registry import LoadedModel, Registry
from service.settings import Settings

PATH = "/predict"

log = logging.getLogger("hornpipe.predict")

_REASONS: dict[type[Exception], Reason] = {
    Overloaded: "overloaded",
    BodyTooLarge: "body_too_large",
    TooManyRows: "too_many_rows",
    NotReady: "not_ready",
}
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:-]{1,128}")


class PredictEndpoint:
    """Bytes in, bytes out; every failure is an answer."""

    def __init__(
        self, settings: Settings, registry: Registry, predictor: Predictor, metrics: Metrics, ids: RequestIds
    ) -> None:
        self._settings = settings
        self._registry = registry
        self._predictor = predictor
        self._metrics = metrics
        self._ids = ids

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI's own types
        started = perf_counter()
        headers: dict[bytes, bytes] = dict(scope["headers"])
        request_id = self._request_id(headers)
        model: LoadedModel | None = None
        outcome: Outcome = "ok"
        status, extra = 200, list[tuple[bytes, bytes]]()
        try:
            if scope["method"] != "POST":
                raise WrongMethod(f"{PATH} takes POST, got {scope['method']}")
            decode.check_media(headers)
            body = await decode.read_body(receive, headers, self._settings.max_body_bytes)
            decoding = perf_counter()
            request = decode.parse(body, self._settings.max_rows)
            model = self._model(request)
            predictions = await self._predictor.predict(model, request.instances, decoding, request.problems)
            encoding = perf_counter()
            content = _encode(predictions, model, request_id)
            self._metrics.of(model.name).encode.observe(perf_counter() - encoding)
        except ClientDisconnected:
            return
        except Exception as error:  # whatever it is, the client gets an answer and the log gets the rest
            status, outcome, extra = self._failed(error, model, request_id)
            content = body_of(error, request_id)
        # Compute for every request that has arrived before the first answer is written: code that runs right after a
        # system call finds cold caches. A quarter of the CPU time at 32 connections (benchmarks/NOTES.md).
        await asyncio.sleep(0)
        await _send(send, status, content, request_id, extra)
        self._metrics.request(model.name if model else NO_MODEL, PATH, outcome, perf_counter() - started)

    def _model(self, request: PredictRequest) -> LoadedModel:
        model = self._registry.get(request.model)
        if model is None:
            raise NotReady("no model is ready to serve yet; see /readyz")
        if request.version is not None and request.version != model.version:
            raise UnknownVersion(f"{model.name}/{request.version} does not serve; serving: {model.version}")
        if len(request.instances) > model.most_rows:
            count = len(request.instances)
            raise TooManyRows(f"{count} instances in one request, the limit of {model.name} is {model.most_rows}")
        return model

    def _request_id(self, headers: dict[bytes, bytes]) -> str:
        given = headers.get(b"x-request-id")
        return given.decode() if given and _REQUEST_ID.fullmatch(given) else self._ids.next()

    def _failed(
        self, error: Exception, model: LoadedModel | None, request_id: str
    ) -> tuple[int, Outcome, list[tuple[bytes, bytes]]]:
        """Log and count a failure; its status, outcome and additional headers."""
        answer = answer_to(error)
        if answer is INTERNAL:
            log.error("request %s failed", request_id, exc_info=error)
        reason = next((_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS), None)
        if reason is not None:
            self._metrics.rejected(model.name if model else NO_MODEL, reason)
        extra = []
        if isinstance(error, WrongMethod):
            extra.append((b"allow", b"POST"))
        if (seconds := getattr(error, "retry_after", None)) is not None:
            extra.append((b"retry-after", str(seconds).encode()))
        return answer.status, _outcome(answer.status), extra


def _outcome(status: int) -> Outcome:
    if status in (429, 503, 504):
        return "rejected"
    return "error" if status >= 500 else "invalid"


def _encode(predictions: list[dict[str, Any]], model: LoadedModel, request_id: str) -> bytes:
    answer = {"predictions": predictions, "model": model.name, "version": model.version, "request_id": request_id}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


async def _send(
    send: Any,  # noqa: ANN401  # ASGI's own type
    status: int,
    content: bytes,
    request_id: str,
    extra: list[tuple[bytes, bytes]],
) -> None:
    headers = [
        (b"content-type", decode.JSON_TYPE),
        (b"content-length", str(len(content)).encode()),
        (b"x-request-id", request_id.encode()),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
