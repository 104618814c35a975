"""The architecture on one page: what there is, in which order it is put together, and what answers which path."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from contract.errors import HornpipeError
from contract.features import Problem, show
from service import openapi
from service.cors import Cors, WithoutPreflights
from service.dispatch import Table
from service.endpoint import Endpoint, Front, Handle, Refuse
from service.errors import INTERNAL, NOT_FOUND, Answer, InvalidRequest, RequestIds, answer_to, body, body_of
from service.guard import Guard
from service.inference import Inference
from service.instruments import NO_MODEL
from service.journal import Journal
from service.logs import AccessLog
from service.metrics import Metrics
from service.protocol import HotEndpoint
from service.registry import Registry
from service.routes import containers, docs, health, models, openinference, predict, tfserving
from service.routes.containers import Containers
from service.routes.openinference import OpenInference
from service.routes.predict import Predict
from service.routes.tfserving import TensorFlowServing
from service.server import limits
from service.settings import Settings
from service.state import ServiceState, state_of
from service.store import Store

log = logging.getLogger("hornpipe")


def create_app(settings: Settings, journal: Journal | None = None, store: Store | None = None) -> FastAPI:
    """Every part is made here and handed to those that need it. Nothing is loaded before the lifespan begins.

    The hot paths are not the app's: server.py hands their table to the protocol below it, and puts the gate before the
    app. Without a journal nothing is written down. Raises KeysError.
    """
    registry = Registry(settings)
    metrics = Metrics(registry.monitors, registry.loaded, store)
    metrics.declare(predict.PATH, always=True)
    registry.attach(metrics)
    ids = RequestIds()
    inference = Inference(registry, metrics, settings.threads, settings.max_rows)
    journal = journal or Journal(AccessLog(None, 0.0))
    inference.traces = journal.traces
    guard = Guard(settings)
    cors = Cors(settings.cors_origins) if settings.cors_origins else None
    front = Front(metrics, ids, settings.timeout_ms / 1000, guard, cors, journal)

    app = FastAPI(
        title="Hornpipe",
        summary="Predictions from proven Keras models.",
        version=version("hornpipe"),
        lifespan=_lifespan,
        docs_url=None,  # FastAPI's own page has its scripts from somewhere else
        redoc_url=None,
        exception_handlers={
            HornpipeError: _on_own_error,
            RequestValidationError: _on_invalid_request,
            HTTPException: _on_http_error,
            Exception: _on_defect,
        },
    )
    table = hot_paths(inference, registry, settings, front)
    dispatch = WithoutPreflights(table) if cors is not None else table
    app.state.service = ServiceState(settings, registry, inference, metrics, front, dispatch, limits(settings))
    app.include_router(docs.router)
    app.include_router(health.router)
    app.include_router(models.router)
    app.openapi = lambda: openapi.describe(app, registry)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def hot_paths(inference: Inference, registry: Registry, settings: Settings, front: Front) -> Table:
    """What is answered below ASGI: every protocol's inference."""
    own = Predict(inference, front.metrics, settings.max_rows, settings.max_body_bytes)

    def endpoint(route: str, handle: Handle, refuse: Refuse) -> Endpoint:
        return Endpoint(route, handle, refuse, front)

    exact: dict[bytes, HotEndpoint] = {predict.PATH.encode(): endpoint(predict.PATH, own.handle, predict.refuse)}
    tensorflow = TensorFlowServing(inference, registry, settings.max_body_bytes)
    open_inference = OpenInference(inference, registry, settings.max_body_bytes)
    containing = Containers(tensorflow, inference, registry.ready, settings.max_body_bytes, settings.max_rows)
    exact |= containers.paths(containing, settings, front)
    return Table(exact, [*tfserving.paths(tensorflow, front), *openinference.paths(open_inference, front)])


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load in the background, so that /healthz answers at once. By now every route is declared."""
    state_of(app).metrics.prepare(NO_MODEL)
    registry, inference = state_of(app).registry, state_of(app).inference
    watching = asyncio.create_task(registry.watch())
    watching.add_done_callback(_log_death)
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        registry.close()
        inference.close()
        await asyncio.to_thread(state_of(app).front.journal.close)


def _log_death(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and task.exception() is not None:
        log.critical("watching the models folder has died; restart the service", exc_info=task.exception())


async def _on_own_error(request: Request, error: Exception) -> Response:
    request_id: str = request.state.request_id
    if answer_to(error) is INTERNAL:
        log.error("request %s failed", request_id, exc_info=error)
    return _respond(*body_of(error, request_id), request_id)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    """A path or query parameter of the wrong type, found by FastAPI."""
    assert isinstance(error, RequestValidationError)  # noqa: S101  # for the type checker; Starlette dispatches by class
    problems = [
        Problem(".".join(map(str, each["loc"])), "does not fit", each["msg"], show(each["input"]))
        for each in error.errors()
    ]
    request_id: str = request.state.request_id
    return _respond(*body_of(InvalidRequest("the request does not fit", problems), request_id), request_id)


async def _on_http_error(request: Request, error: Exception) -> Response:
    """A path or method that Starlette does not know."""
    assert isinstance(error, HTTPException)  # noqa: S101  # for the type checker; Starlette dispatches by class
    request_id: str = request.state.request_id
    phrase = HTTPStatus(error.status_code).phrase.lower()
    answer = Answer(error.status_code, phrase.replace(" ", "_")) if error.status_code != 404 else NOT_FOUND
    text = f"{request.method} {request.url.path[:200]}: {phrase}; see /docs"
    response = _respond(answer.status, body(answer, text, request_id), request_id)
    response.headers.update(error.headers or {})
    return response


async def _on_defect(request: Request, error: Exception) -> Response:
    """What nobody foresaw. Starlette raises it again after the answer, and uvicorn logs it with its traceback."""
    request_id: str = request.state.request_id
    log.error("request %s failed: %s", request_id, type(error).__name__)
    return _respond(*body_of(error, request_id), request_id)


def _respond(status: int, content: bytes, request_id: str) -> Response:
    return Response(content, status, {"x-request-id": request_id}, media_type="application/json")
